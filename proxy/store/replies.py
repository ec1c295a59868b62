"""Answers of Redis taken apart as their bytes come, within limits that hold before anything is kept or allocated.

hiredis believes what it is told: `*268435455` makes it ask for 2 GB and `$4294967295` makes it collect 4 GB. Here what is
announced is compared with what the command may answer, and a list grows as its members arrive. For values of a page's size
it is also faster, because they are copied once.

RESP2 and RESP3 give the same values: maps and sets are flat lists, doubles and big numbers the bytes of their text, booleans
0 and 1, every null is None. Pushes and attributes are passed over: nothing here asks for any.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from redis._parsers.base import BaseParser
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

Reply = Any
"""What an answer is here: bytes, int, None, lists of these, or the error that Redis answered."""
Answers = type | tuple[type, ...]
"""The types that a command is answered with."""
NOT_YET: Final = object()
"""More bytes are needed."""

_CRLF = b"\r\n"
# Errors are lines, and quote some of what was asked.
_MAX_LINE = 16 * 1024
# A type, a sign and 19 digits: the largest number of 64 bits. An announced length is no longer.
_MAX_NUMBER = 21
# Records of a stream are at depth 3, the modules that HELLO lists at 4, a script's answer may be deeper.
_MAX_DEPTH = 8
# Of pushes and attributes, in all the time that a connection lasts: nothing asked for them.
_MAX_PASSED = 1000
_CROWDED = b"ERR max number of clients"
_IN_SCRIPT = b"ERR Error running script"
_NUMBER = re.compile(rb"[+-]?[0-9]{1,19}\Z")
_DOLLAR, _COLON, _BANG, _EQUALS = b"$:!="


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that one answer may be."""

    value_bytes: int
    """Of a value that is not in a list."""
    list_bytes: int = 16 * 1024 * 1024
    """Of a list with everything in it. 16 MiB: twice a thousand purges by the longest URLs."""
    list_members: int = 64 * 1024
    """Of a list and of all the lists in it."""


class Map(list[Reply]):
    """RESP3's map: keys and values in turn."""


class _Passed(list[Reply]):
    """A push or an attribute: read, and nobody's."""


_LISTS: dict[int, type[list[Reply]]] = {
    ord("*"): list,
    ord("~"): list,
    ord("%"): Map,
    ord(">"): _Passed,
    ord("|"): _Passed,
}
_IN_PAIRS = b"%|"
_OPENED: Final = object()


@dataclass(slots=True)
class _Open:
    """A list that is under way."""

    members: list[Reply]
    left: int


class Replies:
    """Takes the answers on one connection apart: `feed` what comes, ask for the `next` until NOT_YET.

    Raises InvalidResponse, after which nothing on the connection can be trusted.
    """

    __slots__ = (
        "_at",
        "_data",
        "_held",
        "_limits",
        "_lists",
        "_members",
        "_needed",
        "_passed",
        "_pieces",
        "_size",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._data = b""
        self._at = 0
        # What came after `_data`, and how many bytes there must be from `_at` on to get any further: a value of
        # megabytes is put together once, when it is all there.
        self._pieces: list[bytes] = []
        self._held = 0
        self._needed = 0
        # Each in the one before it.
        self._lists: list[_Open] = []
        self._members = 0
        self._size = 0
        self._passed = 0

    @property
    def is_empty(self) -> bool:
        """Whether all that came was taken."""
        return self._at == len(self._data) and not self._pieces and not self._lists

    def feed(self, data: bytes) -> None:
        if self._at == len(self._data) and not self._pieces:
            self._data, self._at = data, 0
        else:
            self._pieces.append(data)
            self._held += len(data)

    def next(self, answers: Answers) -> Reply:
        """The next answer, or NOT_YET. A list is taken only where it is among `answers`; other types are not checked."""
        if self._pieces and not self._gathered():
            return NOT_YET
        data, at = self._data, self._at
        # Nearly every answer is a value that is there as a whole, or a number.
        end = data.find(_CRLF, at, at + _MAX_NUMBER + 2)
        if end > 0 and (digits := data[at + 1 : end]).isdigit() and not self._lists:
            if data[at] == _COLON:
                self._at = end + 2
                return int(digits)
            start = end + 2
            end = start + int(digits)
            if (
                data[at] == _DOLLAR
                and end - start <= self._limits.value_bytes
                and data[end : end + 2] == _CRLF
            ):
                self._at = end + 2
                return data[start:end]
        return self._next(answers)

    def _gathered(self) -> bool:
        if len(self._data) - self._at + self._held < self._needed:
            return False
        self._data = b"".join((self._data[self._at :], *self._pieces))
        self._at = self._held = self._needed = 0
        self._pieces.clear()
        return True

    def _next(self, answers: Answers) -> Reply:
        while (item := self._item(answers)) is not NOT_YET:
            if self._lists and self._size > self._limits.list_bytes:
                raise InvalidResponse("a list of too many bytes")
            reply = self._put(item)
            if not self._lists:
                self._members = self._size = 0
            if reply is not NOT_YET:
                return reply
        return NOT_YET

    def _put(self, item: Reply) -> Reply:
        """Puts an item where it belongs. Returns the answer if that makes it whole, else NOT_YET."""
        if item is _OPENED:
            if self._fill(self._lists[-1]):
                return NOT_YET
            item = self._lists.pop().members
        while not isinstance(item, _Passed):
            if not self._lists:
                return item
            innermost = self._lists[-1]
            innermost.members.append(item)
            innermost.left -= 1
            if self._fill(innermost):
                return NOT_YET
            item = self._lists.pop().members
        return NOT_YET

    def _fill(self, innermost: _Open) -> int:
        """Takes members that are values and whole, as nearly all are. Returns how many are still to come."""
        data, at = self._data, self._at
        while innermost.left:
            end = data.find(_CRLF, at, at + _MAX_NUMBER + 2)
            if end < 0 or data[at] != _DOLLAR or not (digits := data[at + 1 : end]).isdigit():
                break
            start = end + 2
            end = start + int(digits)
            if data[end : end + 2] != _CRLF:
                break
            innermost.members.append(data[start:end])
            innermost.left -= 1
            at = end + 2
        self._size += at - self._at
        self._at = at
        return innermost.left

    def _item(self, answers: Answers) -> Reply:
        """A value, _OPENED if a list begins, or NOT_YET."""
        data, at = self._data, self._at
        if at == len(data):
            # Not to hold on to what was taken.
            self._data, self._at, self._needed = b"", 0, 1
            return NOT_YET
        end = data.find(_CRLF, at, at + _MAX_LINE)
        if end < 0:
            if len(data) - at >= _MAX_LINE:
                raise InvalidResponse("a line without an end")
            self._needed = len(data) - at + 1
            return NOT_YET
        mark, line = data[at], data[at + 1 : end]
        if mark in (_DOLLAR, _EQUALS, _BANG):
            return self._bulk(mark, line, end + 2)
        if (kind := _LISTS.get(mark)) is not None:
            item = self._opened(kind, _length(line) * (2 if mark in _IN_PAIRS else 1), answers)
        elif (read := _LINES.get(mark)) is not None:
            item = read(line)
        else:
            raise InvalidResponse("an answer of no known type")
        self._at = end + 2
        self._size += end + 2 - at
        return item

    def _bulk(self, mark: int, line: bytes, start: int) -> Reply:
        length = _length(line)
        if length < 0:
            self._at = start
            return None
        if length > (self._limits.list_bytes - self._size if self._lists else self._limits.value_bytes):
            raise InvalidResponse(f"a value of {length} bytes")
        end = start + length
        if len(self._data) < end + 2:
            self._needed = end + 2 - self._at
            return NOT_YET
        if self._data[end : end + 2] != _CRLF:
            raise InvalidResponse("a value that does not end where it should")
        self._size += end + 2 - self._at
        self._at = end + 2
        value = self._data[start:end]
        if mark == _BANG:
            return _error(value)
        # txt: or mkd:
        return value[4:] if mark == _EQUALS else value

    def _opened(self, kind: type[list[Reply]], length: int, answers: Answers) -> Reply:
        if length < 0:
            return None
        self._members += length
        if kind is _Passed:
            self._passed += 1 + length
            if self._passed > _MAX_PASSED:
                raise InvalidResponse("more than was asked for")
        elif not (self._lists or issubclass(list, answers)):
            raise InvalidResponse("a list where there can be none")
        if self._members > self._limits.list_members or len(self._lists) >= _MAX_DEPTH:
            raise InvalidResponse(f"a list of {length} at depth {len(self._lists)}")
        self._lists.append(_Open(kind(), length))
        return _OPENED


class HandshakeParser(BaseParser):
    """Reads what redis-py asks for itself, on connecting and of sentinels, within the same limits."""

    # Of all slots of a cluster, each on its own and with three nodes. Nothing else comes near.
    LIMITS = Limits(value_bytes=64 * 1024, list_members=16384 * 16)

    def __init__(self, socket_read_size: int) -> None:
        self._read_size = socket_read_size
        self._replies = Replies(self.LIMITS)
        self._stream: Any = None

    def on_connect(self, connection: AbstractConnection) -> None:
        self._stream = connection._reader  # noqa: SLF001 - where redis-py's parsers get it
        self._replies = Replies(self.LIMITS)

    def on_disconnect(self) -> None:
        self._stream = None

    async def can_read(self) -> bool:
        """Whether there is anything that was not asked for, be it the end."""
        stream = self._stream
        return stream is None or stream.at_eof() or bool(stream._buffer) or not self._replies.is_empty  # noqa: SLF001

    async def read_response(self, disable_decoding: bool = False, push_request: bool = False) -> Reply:  # noqa: ARG002, FBT001, FBT002
        while (reply := self._replies.next(list)) is NOT_YET:
            data = await self._stream.read(self._read_size) if self._stream is not None else b""
            if not data:
                raise RedisConnectionError("closed by Redis")
            self._replies.feed(data)
        if isinstance(reply, RedisConnectionError):
            raise reply
        # What HELLO answers is looked up by name.
        return dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, Map) else reply


def _length(line: bytes) -> int:
    """-1 for none."""
    if line.isdigit() and len(line) < _MAX_NUMBER:
        return int(line)
    if line == b"-1":
        return -1
    raise InvalidResponse("a length that is none")


def _error(line: bytes) -> Exception:
    if line.startswith(_IN_SCRIPT):
        # Redis 6 goes on: "(call to f_..): @user_script:10: @user_script: 10: -OOM command not allowed ...".
        line = line.rpartition(b": -")[2].strip() or line
    if line.startswith(_CROWDED):
        # redis-py knows what a server says, not what a cluster's node does: "... + cluster connections reached".
        return RedisConnectionError(line.decode("utf-8", "replace"))
    try:
        return cast("Exception", BaseParser.parse_error(line.decode("utf-8", "replace")))  # type: ignore[no-untyped-call]
    except (ValueError, LookupError, TypeError) as error:
        # redis-py takes some errors apart, and a redirection to nowhere does not come apart.
        raise InvalidResponse("an error that makes no sense") from error


def _integer(line: bytes) -> int:
    if not _NUMBER.match(line):
        raise InvalidResponse("an integer that is none")
    return int(line)


def _boolean(line: bytes) -> int:
    if line not in (b"t", b"f"):
        raise InvalidResponse("a boolean that is none")
    return int(line == b"t")


def _null(line: bytes) -> None:
    if line:
        raise InvalidResponse("a null that is something")


_LINES: dict[int, Callable[[bytes], Reply]] = {
    ord("+"): bytes,
    ord("-"): _error,
    ord(":"): _integer,
    ord("_"): _null,
    ord("#"): _boolean,
    ord(","): bytes,
    ord("("): bytes,
}
