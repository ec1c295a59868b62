"""Messages that look alike: the same names of fields in the same order, whatever their values are.

A client sends the same fields with each request, an API with each answer. One regular expression made of their names reads
such a message at a tenth of what it takes to read any, and gives the values that count. It matches nothing that
`wire.request` and `wire.response` would not read as a good message with these very fields.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.wire.fields import HOP_BY_HOP

# More than anybody sends, and an expression of a size that is made in a millisecond.
MAX_FIELDS = 48

# As in wire.request and wire.fields. Only in origin form: what is read of another target is not what was sent.
_TARGET = rb"/[\x21\x22\x24-\x7e\x80-\xff]*+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
# As `wire.fields.block` writes a field: with one space, and none at the end.
_AS_WRITTEN = rb"(?![ \t])[\t\x20-\x7e\x80-\xff]*+(?<![ \t])"
_STAYS = rb"(?i:keep-alive)"

# Whose message needs a closer look: those that end at this hop (but for how it goes on), and those that we add to or read.
_NOT_SIMPLE_ANSWER = HOP_BY_HOP - {b"connection", b"keep-alive"}
_NOT_SIMPLE = _NOT_SIMPLE_ANSWER | {b"via", b"content-length", b"expect"}


def request_like(method: bytes, names: Sequence[bytes], counts: Callable[[bytes], bool]) -> re.Pattern[bytes]:
    """What matches whole heads of HTTP/1.1 (to be used with fullmatch) with these fields.

    Its groups are the target, and the values of the fields whose names `counts` accepts, with the white space behind them.
    """
    pieces = [rb"%b (%b) HTTP/1\.1\r\n" % (re.escape(method), _TARGET)]
    for name in names:
        value = b"(%b)" % _VALUE if counts(name) else _VALUE
        pieces.append(rb"%b:[ \t]*+%b\r\n" % (re.escape(name), value))
    return re.compile(b"".join(pieces) + rb"\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What matches a head of which all but some lines is passed on as it came."""

    pattern: re.Pattern[bytes]
    pieces: tuple[int, ...]
    """The groups that are passed on, one after the other: whole lines."""
    status: int = 0
    """Of an answer: the group that is its status."""
    length: int = 0
    """Of an answer: the group that is its Content-Length."""

    def kept(self, found: re.Match[bytes]) -> bytes:
        """What is passed on of a head that matches."""
        return found[1] if self.pieces == (1,) else b"".join(found.group(*self.pieces))


def passed_on(method: bytes, names: Sequence[bytes]) -> Kept | None:
    """For requests without a body, to be used with fullmatch. None if such a request is not passed on as simply."""
    lower = [name.lower() for name in names]
    if not _NOT_SIMPLE.isdisjoint(lower) or lower.count(b"host") != 1:
        return None
    return _kept(rb"%b %b HTTP/1\.1\r\n" % (re.escape(method), _TARGET), names)


def answer_like(names: Sequence[bytes]) -> Kept | None:
    """For answers of HTTP/1.1 with Date and Content-Length, to be used with match: a body follows. None for others."""
    lower = [name.lower() for name in names]
    if (
        not _NOT_SIMPLE_ANSWER.isdisjoint(lower)
        or b"date" not in lower
        or lower.count(b"content-length") != 1
    ):
        return None
    return _kept(rb"HTTP/1\.1 (?P<status>[2-5][0-9][0-9]) %b\r\n" % _VALUE, names)


def _kept(first: bytes, names: Sequence[bytes]) -> Kept:
    # Of those that end at this hop, which divide what is kept.
    pattern, number = b"(?P<kept0>" + first, 0
    for name in names:
        lower = name.lower()
        if lower in HOP_BY_HOP:
            number += 1
            value = _STAYS if lower == b"connection" else _VALUE
            pattern += rb")%b:[ \t]*+%b\r\n(?P<kept%d>" % (re.escape(name), value, number)
        elif lower == b"content-length":
            pattern += rb"%b: (?P<length>[0-9]{1,18})\r\n" % re.escape(name)
        else:
            pattern += rb"%b: %b\r\n" % (re.escape(name), _AS_WRITTEN)
    made = re.compile(pattern + rb")\r\n")
    groups = made.groupindex
    return Kept(
        pattern=made,
        pieces=tuple(at for group, at in groups.items() if group.startswith("kept")),
        status=groups.get("status", 0),
        length=groups.get("length", 0),
    )
