"""The tags that an API gives its answers, by which they can be purged."""

import re

from proxy.wire.fields import Fields, values

# An answer may not make purging expensive: more tags than this, or longer ones, are left out.
_MAX_TAGS = 128
_MAX_TAG_BYTES = 256

# A member of a list of strings (RFC 9651), with parameters, if any; possessive, so that no line is slow to read.
_STRING = re.compile(rb'[ \t]*+"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*+)"[ \t]*+(?:;[^,"]*+)?(?:,|\Z)')


def response_tags(fields: Fields) -> tuple[str, ...]:
    """Tags in Surrogate-Key (separated by spaces), Cache-Tag (by commas) and Cache-Groups, without doubles."""
    pieces = [piece for line in values(fields, b"surrogate-key") for piece in line.split()]
    pieces += [piece for line in values(fields, b"cache-tag") for piece in line.split(b",")]
    pieces += [group for line in values(fields, b"cache-groups") for group in _strings(line)]
    tags = dict.fromkeys(piece.strip() for piece in pieces)
    short = [tag for tag in tags if 0 < len(tag) <= _MAX_TAG_BYTES]
    return tuple(tag.decode("utf-8", "replace") for tag in short[:_MAX_TAGS])


def _strings(line: bytes) -> list[bytes]:
    """The strings of a list; what follows a member that is none is not read. Source: RFC 9875 section 2."""
    strings: list[bytes] = []
    position = 0
    while found := _STRING.match(line, position):
        strings.append(re.sub(rb"\\(.)", rb"\1", found[1]))
        position = found.end()
    return strings
