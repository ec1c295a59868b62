"""Header fields as they came: raw names and values, in order; and which of them end at this hop."""

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

Fields = tuple[tuple[bytes, bytes], ...]
"""Name (case as sent) and value (without surrounding white space), in order, repeated ones apart."""

# RFC 9110 section 7.6.1. Proxy-Authenticate and Proxy-Authorization pass: a sidecar is not the proxy they speak to.
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"trailer"}
)

# Whatever Connection says: without them the next reader would see another end of the body, or another site.
_NEVER_NAMED = frozenset({b"content-length", b"host"})

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
"""A character of a token (RFC 9110 section 5.6.2), for regular expressions."""

# Bare CR and LF, NUL and other control characters, folded lines, space before the colon and empty names match nowhere.
_LINE = re.compile(rb"^(%b++):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)\r\n" % TOKEN, re.MULTILINE)


def from_lines(lines: bytes) -> Fields | None:
    """Lines as they were received, each with its CRLF, as fields. None where any of them is malformed.

    Source: RFC 9112 section 5.
    """
    found = _LINE.findall(lines)
    # Each match is one whole line: as many as there are ends of line leave nothing between them.
    if len(found) != lines.count(b"\n") or not (lines.endswith(b"\r\n") or not lines):
        return None
    if b" \r\n" in lines or b"\t\r\n" in lines:
        return tuple([(name, value.rstrip(b" \t")) for name, value in found])
    return tuple(found)


def keeps_alive(options: Collection[bytes], *, http_1_0: bool) -> bool:
    """Whether a connection goes on after a message with these members of Connection (RFC 9112 section 9.3)."""
    return b"close" not in options and (not http_1_0 or b"keep-alive" in options)


def values(fields: Fields, name: bytes) -> list[bytes]:
    """All values of a field; `name` in lower case."""
    size = len(name)
    return [value for key, value in fields if len(key) == size and key.lower() == name]


def first(fields: Fields, name: bytes) -> bytes:
    """The first value of a field (`name` in lower case), or nothing."""
    return next(iter(values(fields, name)), b"")


def names_of(fields: Fields) -> frozenset[bytes]:
    """The names that occur, in lower case."""
    return _lowered(tuple([name for name, _ in fields]))


# Clients of one kind send the same names in the same order. 128: even with the largest heads that is 8 MB.
@lru_cache(maxsize=128)
def _lowered(names: tuple[bytes, ...]) -> frozenset[bytes]:
    return frozenset(name.lower() for name in names)


def combined(fields: Fields, name: bytes) -> bytes | None:
    """The field's lines as one value, joined by commas (RFC 9110 section 5.3). None if there is none."""
    lines = values(fields, name)
    return b", ".join(lines) if lines else None


def members(fields: Fields, name: bytes) -> list[bytes]:
    """A list field's members, lower-cased, empty ones dropped. For fields whose members hold no quoted commas."""
    return [
        member
        for line in values(fields, name)
        for piece in line.split(b",")
        if (member := piece.strip().lower())
    ]


def without(fields: Fields, names: Iterable[bytes]) -> Fields:
    """The fields less those named (in lower case)."""
    dropped = frozenset(names)
    return tuple(field for field in fields if field[0].lower() not in dropped)


def end_to_end(fields: Fields) -> Fields:
    """The fields less those that end at this hop: RFC 9110's and those that Connection names."""
    return without(fields, HOP_BY_HOP.union(members(fields, b"connection")) - _NEVER_NAMED)


def block(fields: Fields) -> bytes:
    """The fields as lines, each with its CRLF."""
    return b"".join([b"%s: %s\r\n" % field for field in fields])


def from_block(lines: bytes) -> Fields:
    """What `block` wrote, as fields again."""
    return tuple(
        (name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n") if line)
    )
