"""Conditional requests, both ways: is a client's copy still good, and how do we ask the API about ours."""

import re
from enum import Enum

from proxy.policy.cache_control import http_date
from proxy.wire.fields import Fields, combined, values, without

CONDITIONS = frozenset(
    {b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"if-range"}
)

# Empty members are none (RFC 9110 section 5.6.1.2).
_ETAG = re.compile(rb'[\s,]*+(?:W/)?("[\x21\x23-\x7e\x80-\xff]*+")\s*+(?:,|\Z)')


class Condition(Enum):
    """What a client's conditions make of a stored 200."""

    NONE = "none"
    HOLDS = "holds"
    NOT_MODIFIED = "not modified"


def evaluate(request: Fields, *, etag: bytes, last_modified: bytes, now: float) -> Condition:
    """Whether the client's own copy is current, so that a 304 is enough.

    If-None-Match, compared weakly, goes before If-Modified-Since. `last_modified` is the answer's Date where it says
    nothing else. Source: RFC 9110 sections 13.1 and 13.2.2, RFC 9111 section 4.3.2.
    """
    tags = combined(request, b"if-none-match")
    if tags is not None:
        return Condition.NOT_MODIFIED if _none_match(tags, etag) else Condition.HOLDS
    since = values(request, b"if-modified-since")
    if not since:
        return Condition.NONE
    asked, modified = http_date(since[0], now=now), http_date(last_modified, now=now)
    if len(since) > 1 or asked is None or modified is None:
        return Condition.HOLDS
    return Condition.NOT_MODIFIED if modified <= asked else Condition.HOLDS


def _none_match(tags: bytes, etag: bytes) -> bool:
    if tags.strip() == b"*":
        return True
    ours = etag.removeprefix(b"W/")
    # Looked for before anything is read: a long list of others' tags costs nothing then.
    return bool(ours) and ours in tags and ours in entity_tags(tags)


def entity_tags(line: bytes) -> list[bytes]:
    """The opaque parts, quotes included, of a list of entity tags; what follows a malformed one is not read."""
    tags: list[bytes] = []
    position = 0
    while found := _ETAG.match(line, position):
        tags.append(found[1])
        position = found.end()
    return tags


def revalidation(etag: bytes, last_modified: bytes) -> Fields:
    """The conditions under which the API is asked about a stored answer (RFC 9111 section 4.3.1)."""
    conditions: list[tuple[bytes, bytes]] = []
    if etag:
        conditions.append((b"If-None-Match", etag))
    if last_modified:
        conditions.append((b"If-Modified-Since", last_modified))
    return tuple(conditions)


def selects(not_modified: Fields, *, etag: bytes, last_modified: bytes) -> bool:
    """Whether a 304 speaks of the stored answer: it names no validator, or the stored one's.

    A strong ETag must be the same, a weak one need only look the same. Source: RFC 9111 section 4.3.4.
    """
    tags = values(not_modified, b"etag")
    if not tags:
        return values(not_modified, b"last-modified") in ([], [last_modified])
    if tags[0].startswith(b"W/"):
        return tags[0].removeprefix(b"W/") == etag.removeprefix(b"W/")
    return tags[0] == etag


class Comparison(Enum):
    """What an answer to HEAD says of the stored answer to GET."""

    SAME = "same"
    OTHER = "other"
    UNKNOWN = "unknown"
    """Without a validator nothing is sure: two bodies may be equally long, and some servers say 0."""


def compared(head: Fields, stored: Fields, size: int) -> Comparison:
    """Whether an answer to HEAD speaks of the stored answer of `size` bytes. Source: RFC 9111 section 4.3.5."""
    named = [name for name in (b"etag", b"last-modified") if values(head, name)]
    if any(values(head, name) != values(stored, name) for name in named):
        return Comparison.OTHER
    lengths = values(head, b"content-length")
    if lengths and lengths[0] not in {b"0", b"%d" % size}:
        return Comparison.OTHER
    return Comparison.SAME if named else Comparison.UNKNOWN


# These describe the stored bytes and stay as they are (RFC 9111 section 3.2).
_KEPT = frozenset({b"content-length", b"content-encoding", b"content-range", b"transfer-encoding"})


def freshened(stored: Fields, update: Fields) -> Fields:
    """A stored answer's fields after a 304: named again, they are replaced; others stay; new ones are added."""
    news = tuple(field for field in update if field[0].lower() not in _KEPT)
    named = {name.lower() for name, _ in news}
    placed: set[bytes] = set()
    fields: list[tuple[bytes, bytes]] = []
    for name, value in stored:
        lower = name.lower()
        if lower not in named:
            fields.append((name, value))
        elif lower not in placed:
            placed.add(lower)
            fields.extend(field for field in news if field[0].lower() == lower)
    fields.extend(field for field in news if field[0].lower() not in placed)
    return tuple(fields)


# RFC 9110 section 15.4.5: a 304 has no body, so nothing in it may describe one.
_NOT_IN_304 = frozenset({b"content-length", b"content-type", b"content-encoding", b"content-range"})


def for_304(stored: Fields) -> Fields:
    """The fields of a 304 that is made from a stored answer."""
    return without(stored, _NOT_IN_304)
