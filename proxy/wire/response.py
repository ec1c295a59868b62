"""The head of an API's answer: bytes to a value, strictly, and how long its body is.

An answer that two readers could understand differently is refused whole: it would be stored and given to everybody.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from proxy.wire.fields import Fields, combined, members, values


class BadResponse(Exception):
    """The API's answer is no HTTP/1.x; the message says what is wrong, without its bytes."""


class Body(Enum):
    """How the end of a body is known (RFC 9112 section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """Status line and fields of an answer."""

    version: bytes
    status: int
    reason: bytes
    fields: Fields
    body: Body
    length: int
    """Bytes of the body where `body` is LENGTH, else 0."""
    keep_alive: bool


_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\Z")
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*+((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*\Z"
)
_DIGITS = re.compile(rb"[0-9]{1,18}\Z")


def parse_head(head: bytes, *, method: str) -> ResponseHead:
    """A head, without its closing empty line, as a value.

    `method` is the request's: an answer to HEAD has no body. Raises BadResponse.
    Source: RFC 9112 sections 4, 5 and 6.
    """
    first, *lines = head.split(b"\r\n")
    line = _STATUS_LINE.match(first)
    if line is None:
        raise BadResponse("malformed status line")
    fields = tuple(_field(text) for text in lines)
    version, status, reason = line[1], int(line[2]), line[3] or b""
    body, length = _framing(version, status, fields, method)
    return ResponseHead(
        version=version,
        status=status,
        reason=reason,
        fields=fields,
        body=body,
        length=length,
        keep_alive=body is not Body.CLOSE and _keeps_alive(version, fields),
    )


def _field(line: bytes) -> tuple[bytes, bytes]:
    # Bare CR, LF and NUL, folded lines and space before the colon match nowhere in this expression.
    found = _FIELD.match(line)
    if found is None:
        raise BadResponse("malformed header field")
    return found[1], found[2]


def _framing(version: bytes, status: int, fields: Fields, method: str) -> tuple[Body, int]:
    lengths = values(fields, b"content-length")
    codings = values(fields, b"transfer-encoding")
    if len(lengths) > 1 or (lengths and not _DIGITS.match(lengths[0])):
        raise BadResponse("malformed or repeated Content-Length")
    if codings and (lengths or version != b"HTTP/1.1"):
        raise BadResponse("Transfer-Encoding beside Content-Length or on HTTP/1.0")
    if codings and [coding.lower() for coding in codings] != [b"chunked"]:
        raise BadResponse("a Transfer-Encoding other than chunked")
    if method == "HEAD" or status < 200 or status in (204, 304):
        return Body.NONE, 0
    if codings:
        return Body.CHUNKED, 0
    if lengths:
        return Body.LENGTH, int(lengths[0])
    return Body.CLOSE, 0


def _keeps_alive(version: bytes, fields: Fields) -> bool:
    options = members(fields, b"connection")
    return b"close" not in options if version == b"HTTP/1.1" else b"keep-alive" in options


def is_event_stream(head: ResponseHead) -> bool:
    """Server-sent events: quiet for long by nature."""
    return (combined(head.fields, b"content-type") or b"").lower().startswith(b"text/event-stream")


_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\Z")
# 256: a chunk's line is a number; what is longer is an attack or garbage.
_MAX_CHUNK_LINE = 256
_MAX_TRAILERS = 8 * 1024


# A step: reads the data from a place on, adds to the pieces of the body, returns the place up to which it has read.
_Step = Callable[[bytes, int, list[bytes]], int]


class ChunkReader:
    """Takes the chunked coding off a body, piece by piece (RFC 9112 section 7.1). Trailers are dropped."""

    __slots__ = ("_left", "_line", "_step", "_trailers", "done")

    def __init__(self) -> None:
        self.done = False
        self._left = 0
        self._line = b""
        self._trailers = 0
        self._step: _Step = self._size

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Body pieces in `data`, and what comes after the body's end. Raises BadResponse."""
        pieces: list[bytes] = []
        place = 0
        while place < len(data) and not self.done:
            place = self._step(data, place, pieces)
        return pieces, data[place:]

    def _take_line(self, data: bytes, place: int, limit: int) -> tuple[bytes | None, int]:
        # No further than a line may go: what is left of the data may be long.
        end = data.find(b"\n", place, place + limit)
        if end < 0:
            self._line += data[place : place + limit]
            if len(self._line) >= limit:
                raise BadResponse("a line of the chunked coding is too long")
            return None, len(data)
        line, self._line = self._line + data[place : end + 1], b""
        if len(line) > limit or not line.endswith(b"\r\n"):
            raise BadResponse("malformed line in the chunked coding")
        return line[:-2], end + 1

    def _size(self, data: bytes, place: int, _pieces: list[bytes]) -> int:
        line, place = self._take_line(data, place, _MAX_CHUNK_LINE)
        if line is not None:
            found = _CHUNK_SIZE.match(line)
            if found is None:
                raise BadResponse("malformed chunk size")
            self._left = int(found[1], 16)
            self._step = self._body if self._left else self._trailer
        return place

    def _body(self, data: bytes, place: int, pieces: list[bytes]) -> int:
        piece = data[place : place + self._left]
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._step = self._end
        return place + len(piece)

    def _end(self, data: bytes, place: int, _pieces: list[bytes]) -> int:
        line, place = self._take_line(data, place, 2)
        if line is not None:
            self._step = self._size
        return place

    def _trailer(self, data: bytes, place: int, _pieces: list[bytes]) -> int:
        line, place = self._take_line(data, place, _MAX_TRAILERS)
        if line:
            _field(line)
            self._trailers += len(line)
            if self._trailers > _MAX_TRAILERS:
                raise BadResponse("trailers are too long")
        elif line is not None:
            self.done = True
        return place
