"""Connections to one Redis server: requests ride in lanes.

A lane is a connection of redis-py's that takes along whatever waits, in one round trip. Against a connection per command
that costs half the CPU under load, and a burst opens four connections instead of sixty-four. redis-py's pools, retries
and command layer are left out: a call sends, reads the answers, and that is all.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

Reply = Any
"""What hiredis makes of an answer: bytes, int, None, lists of these, or the ResponseError that Redis answered."""
# At once: a burst must not spend its deadline on connecting, which costs 0.5 ms of CPU each.
_MAX_CONNECTING = 4
# Requests per round trip: most of what there is to save, and few enough to share a connection's bad luck.
_BATCH = 16
_BATCH_BYTES = 256 * 1024
# MemoryError: an answer that announces billions of members is refused by asking for their memory.
ERRORS = (RedisError, RedisClusterException, OSError, ValueError, LookupError, TypeError, MemoryError)
"""All that asking Redis may raise. The last three: redis-py parses the text of some errors without expecting garbage."""

Spawn = Callable[[Coroutine[Any, Any, Any], str], object]


@dataclass(frozen=True, slots=True)
class Command:
    """What is sent, and the types that its answer may have. Anything else means that the stream is out of step."""

    args: tuple[bytes | str | int, ...]
    answers: type | tuple[type, ...] = bytes


@dataclass(slots=True)
class Request:
    """Commands about one key, and who wants to know."""

    key: bytes
    commands: tuple[Command, ...]
    ended: Callable[[list[Reply] | Exception], None]
    """Gets the answers, in order, or one of ERRORS. An error that Redis answers is an answer."""
    size: int = 0
    """Bytes to send, about."""
    is_dropped: bool = False
    """Nobody waits any more: not worth sending."""
    redirects: int = 0


class AbsurdReplyError(RedisError):
    """An answer that the command does not have."""


async def exchange(connection: AbstractConnection, commands: Sequence[Command]) -> list[Reply]:
    """Sends the commands in one go and reads their answers, in order. An error that Redis answers is an answer."""
    packed = connection.pack_commands([command.args for command in commands])
    await connection.send_packed_command(packed, check_health=False)
    replies: list[Reply] = []
    for command in commands:
        try:
            reply = await connection.read_response()
        except ResponseError as error:
            replies.append(error)
            continue
        if not isinstance(reply, command.answers):
            await connection.disconnect(nowait=True)
            raise AbsurdReplyError(f"{command.args[0]!r} was answered with {type(reply).__name__}")
        replies.append(reply)
    return replies


async def look(kind: type[AbstractConnection], kwargs: dict[str, Any], command: Command) -> None:
    """Asks on a fresh connection, and for no longer than a caller would wait. Raises ERRORS, also those that are answers."""
    connection = kind(**{**kwargs, "socket_timeout": kwargs["socket_connect_timeout"]})
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        (reply,) = await exchange(connection, (command,))
    finally:
        await connection.disconnect(nowait=True)
    if isinstance(reply, ResponseError):
        raise reply


class Lanes:
    """Connections to one server. Each is a lane while there are requests, and idle between."""

    def __init__(self, connection: Callable[[], AbstractConnection], max_lanes: int, spawn: Spawn) -> None:
        self._new_connection = connection
        self._max_lanes = max_lanes
        self._spawn = spawn
        self._waiting: deque[Request] = deque()
        self._idle: list[AbstractConnection] = []
        self._lanes = 0
        # Lanes that have not taken their first requests yet, and those among them without a connection.
        self._starting = 0
        self._connecting = 0
        self._is_closed = False

    def send(self, request: Request) -> None:
        self._waiting.append(request)
        self._start_lanes()

    async def drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Those under way arrive; their lanes close behind them."""
        self._is_closed = True
        for request in self._waiting:
            request.ended(RedisConnectionError("closed"))
        self._waiting.clear()
        await self.drop_idle()

    def _start_lanes(self) -> None:
        # A lane that starts takes a batch of what waits: the tick's requests share it.
        while len(self._waiting) > self._starting * _BATCH and self._lanes < self._max_lanes:
            idle = self._idle.pop() if self._idle else None
            if idle is None:
                if self._connecting >= _MAX_CONNECTING:
                    return
                self._connecting += 1
            self._lanes += 1
            self._starting += 1
            self._spawn(self._lane(idle), "redis lane")

    async def _lane(self, idle: AbstractConnection | None) -> None:
        connection = idle or self._new_connection()
        try:
            try:
                await _make_ready(connection)
            finally:
                self._starting -= 1
                self._connecting -= idle is None
            batch = self._batch()
            # Others may connect now.
            self._start_lanes()
            while batch:
                await self._carry(connection, batch)
                batch = self._batch()
            if self._is_closed:
                await connection.disconnect(nowait=True)
            else:
                self._idle.append(connection)
        except ERRORS as error:
            await connection.disconnect(nowait=True)
            # Those that the lane was for; where it already failed its batch, the rest may have better luck in another.
            if not isinstance(error, _CarriedError):
                _end(self._batch(), error)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._lanes -= 1
            self._start_lanes()

    async def _carry(self, connection: AbstractConnection, batch: Sequence[Request]) -> None:
        commands = [command for request in batch for command in request.commands]
        try:
            replies = await exchange(connection, commands)
        except ERRORS as error:
            _end(batch, error)
            raise _CarriedError from error
        except BaseException:
            _end(batch, RedisConnectionError("closed"))
            raise
        start = 0
        for request in batch:
            end = start + len(request.commands)
            request.ended(replies[start:end])
            start = end

    def _batch(self) -> list[Request]:
        batch: list[Request] = []
        size = 0
        while self._waiting and len(batch) < _BATCH and size < _BATCH_BYTES:
            request = self._waiting.popleft()
            if request.is_dropped:
                request.ended(RedisTimeoutError("nobody waits for it"))
                continue
            size += request.size
            batch.append(request)
        return batch


class WaitingConnection:
    """The connection that blocking reads use: it is no lane, and kept while it is well and leads to the same node."""

    def __init__(self) -> None:
        self._idle: tuple[str, AbstractConnection] | None = None

    async def exchange(
        self, node: str, kind: type[AbstractConnection], kwargs: dict[str, Any], command: Command
    ) -> Reply:
        connection = await self._take(node) or kind(**{**kwargs, "socket_timeout": None})
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            (reply,) = await exchange(connection, (command,))
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if isinstance(reply, ResponseError) or self._idle is not None:
            # A master that was demoted unblocks its readers with an error: the next read looks for the new one.
            await connection.disconnect(nowait=True)
        else:
            self._idle = (node, connection)
        return reply

    async def close(self) -> None:
        await self._take("", closing=True)

    async def _take(self, node: str, *, closing: bool = False) -> AbstractConnection | None:
        if self._idle is None:
            return None
        (its_node, connection), self._idle = self._idle, None
        if its_node == node and not closing:
            return connection
        await connection.disconnect(nowait=True)
        return None


class _CarriedError(RedisError):
    """A batch failed, and its requests know."""


def _end(batch: Iterable[Request], error: Exception) -> None:
    for request in batch:
        request.ended(error)


async def _make_ready(connection: AbstractConnection) -> None:
    """Connects it, or makes sure that it was not closed and has nothing left to be read."""
    if connection.is_connected:
        try:
            is_clean = not await connection.can_read()
        except (RedisError, OSError):
            is_clean = False
        if is_clean:
            return
        await connection.disconnect(nowait=True)
    await connection.connect()  # type: ignore[no-untyped-call]
