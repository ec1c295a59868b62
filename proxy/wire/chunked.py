"""The chunked coding, taken off a body as it comes: the same for what clients send and for what the API answers."""

import re
from collections.abc import Callable

from proxy.wire.fields import from_lines

# 15 digits: more is no size that anybody can send, and some readers cut it off at 64 bits.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})([ \t]*+;[\t\x20-\x7e\x80-\xff]*+)?\Z")
# What most chunks are: an extension as short as this is free.
_PLAIN = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]{0,15}+)?\r\n")
# 256: a chunk's line is a number; what is longer is an attack or garbage.
_MAX_LINE = 256
# Extensions are for nobody but are read all the same: a chunk may have as many bytes of them as it has data, and 16 more.
# What goes beyond adds up over the body. As Go's net/http does it; signatures of each chunk's data stay well below.
_FREE_EXTENSION = 16
_MAX_EXTENSIONS = 16 * 1024
_MAX_TRAILERS = 8 * 1024
# What a line of one byte costs to be looked at.
_MIN_TRAILER = 128


class BadChunks(Exception):
    """A body is not in the chunked coding; the message says what is wrong, without its bytes."""


# A step: reads the data from a place on, adds to the pieces of the body, returns the place up to which it has read.
_Step = Callable[[bytes, int, list[bytes]], int]


class ChunkReader:
    """Takes the chunked coding off a body, piece by piece (RFC 9112 section 7.1). Extensions and trailers are dropped."""

    __slots__ = ("_extensions", "_left", "_line", "_step", "_trailers", "done")

    def __init__(self) -> None:
        self.done = False
        self._left = 0
        self._line = b""
        self._extensions = 0
        self._trailers = 0
        self._step: _Step = self._size

    def feed(self, data: bytes, place: int = 0) -> tuple[list[bytes], int]:
        """Body pieces in `data` from a place on, and the place up to which it was read. Raises BadChunks."""
        pieces: list[bytes] = []
        while place < len(data) and not self.done:
            place = self._step(data, place, pieces)
        return pieces, place

    def _take_line(self, data: bytes, place: int, limit: int) -> tuple[bytes | None, int]:
        # No further than a line may go: what is left of the data may be long.
        end = data.find(b"\n", place, place + limit)
        if end < 0:
            self._line += data[place : place + limit]
            if len(self._line) >= limit:
                raise BadChunks("a line of the chunked coding is too long")
            return None, len(data)
        line, self._line = self._line + data[place : end + 1], b""
        if len(line) > limit or not line.endswith(b"\r\n"):
            raise BadChunks("malformed line in the chunked coding")
        return line[:-2], end + 1

    def _size(self, data: bytes, place: int, pieces: list[bytes]) -> int:
        if not self._line:
            place = _whole_chunks(data, place, pieces)
        line, place = self._take_line(data, place, _MAX_LINE)
        if line is not None:
            found = _SIZE.match(line)
            if found is None:
                raise BadChunks("malformed chunk size")
            self._left = int(found[1], 16)
            if found[2]:
                self._count_extension(len(found[2]))
            self._step = self._body if self._left else self._trailer
        return place

    def _count_extension(self, size: int) -> None:
        self._extensions = max(0, self._extensions + size - _FREE_EXTENSION - self._left)
        if self._extensions > _MAX_EXTENSIONS:
            raise BadChunks("more chunk extensions than data")

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
            if from_lines(line + b"\r\n") is None:
                raise BadChunks("malformed trailer")
            self._trailers += max(len(line), _MIN_TRAILER)
            if self._trailers > _MAX_TRAILERS:
                raise BadChunks("trailers are too long")
        elif line is not None:
            self.done = True
        return place


def _whole_chunks(data: bytes, place: int, pieces: list[bytes]) -> int:
    """Reads on over plain chunks that are whole: a body of many tiny ones must not cost more than its share."""
    while (found := _PLAIN.match(data, place)) is not None:
        begin = found.end()
        end = begin + int(found[1], 16)
        if end == begin or data[end : end + 2] != b"\r\n":
            break
        pieces.append(data[begin:end])
        place = end + 2
    return place
