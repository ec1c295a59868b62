"""A part of a stored answer (RFC 9110 section 14)."""

import re
from dataclasses import dataclass
from enum import Enum

from proxy.policy.cache_control import http_date
from proxy.wire.fields import Fields, first, values

_RANGE = re.compile(rb"bytes=[ \t]*+([0-9]{0,40})-([0-9]{0,40})[ \t]*+\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes `first` to `last`, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.last - self.first + 1


class Whole(Enum):
    """Why it is no part."""

    WHOLE = "whole"
    """None was asked for, or it is ignored, as any server may."""
    UNSATISFIABLE = "unsatisfiable"


def part_of(request: Fields, stored: Fields, size: int, *, now: float) -> Part | Whole:
    """Which part of a stored 200 with these fields and `size` bytes a GET asks for.

    Several parts at once are not for us: whoever asks for them gets the whole. Source: RFC 9110 sections 13.1.5, 14.1 and 14.2.
    """
    ranges = values(request, b"range")
    found = _RANGE.match(ranges[0]) if len(ranges) == 1 else None
    if found is None or not _unchanged(request, stored, now):
        return Whole.WHOLE
    first, last = found[1], found[2]
    if first:
        if last and int(last) < int(first):
            return Whole.WHOLE
        begin, end = int(first), min(int(last), size - 1) if last else size - 1
    elif last:
        begin, end = max(0, size - int(last)), size - 1
    else:
        return Whole.WHOLE
    if begin >= size or (not first and not int(last)):
        return Whole.UNSATISFIABLE
    return Part(first=begin, last=end)


def _unchanged(request: Fields, stored: Fields, now: float) -> bool:
    """Whether If-Range, if it is there, holds: only a strong validator can, and only if it is exactly the stored one."""
    conditions = values(request, b"if-range")
    if not conditions:
        return True
    if len(conditions) > 1:
        return False
    if conditions[0].startswith((b'"', b"W/")):
        etags = values(stored, b"etag")
        return etags[:1] == conditions and not conditions[0].startswith(b"W/")
    asked, modified, date = (
        http_date(value, now=now)
        for value in (conditions[0], first(stored, b"last-modified"), first(stored, b"date"))
    )
    # Within the second in which it was made it may have changed again (RFC 9110 section 8.8.2.2).
    return asked is not None and asked == modified and date is not None and date - modified >= 1


_CONTENT_RANGE = re.compile(rb"bytes[ \t]+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})\Z", re.IGNORECASE)


def said_part(answer: Fields) -> tuple[Part, int] | None:
    """Which part of how many bytes a 206 says that it is; None where that can't be relied upon."""
    said = values(answer, b"content-range")
    found = _CONTENT_RANGE.match(said[0]) if len(said) == 1 else None
    if found is None:
        return None
    first, last, whole = int(found[1]), int(found[2]), int(found[3])
    return (Part(first=first, last=last), whole) if first <= last < whole else None


def part_of_part(request: Fields, stored: Fields, *, now: float) -> tuple[Part, int] | None:
    """Which part of how many bytes a GET asks for, if a stored 206 holds all of it.

    Source: RFC 9111 section 3.3.
    """
    said = said_part(stored)
    if said is None:
        return None
    held, whole = said
    part = part_of(request, stored, whole, now=now)
    within = isinstance(part, Part) and held.first <= part.first and part.last <= held.last
    return (part, whole) if isinstance(part, Part) and within else None


def content_range(part: Part | None, size: int) -> bytes:
    """Content-Range of a part, or of none where it can't be had (RFC 9110 section 14.4)."""
    return b"bytes */%d" % size if part is None else b"bytes %d-%d/%d" % (part.first, part.last, size)
