"""Connections to one Redis server: requests ride in lanes.

A lane is a connection that redis-py makes (TLS, AUTH, SELECT, asking sentinels) and that is ours from then on. What is asked in
one turn of the event loop goes out in one write, also while earlier requests are on their way, and who waits for an answer
gets it as its bytes come in: no task, no timer, no future for each.

- *Few*: Redis does one thing at a time, and every connection costs both sides system calls. Four carry all that is normal.
- *Shared fate*: what makes no sense, and an answer that is later than the connection's timeout, costs the connection and
  all that is under way in it, some 16 requests at most. A lane that is slow gets none while others are not.
- *Bulkhead*: at most so many requests are under way. Others wait, and are not sent any more once nobody waits for them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis
import msgspec
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from proxy.store.replies import NOT_YET, Answers, HandshakeParser, Limits, Map, Replies
from proxy.store.replies import Reply as Reply  # noqa: PLC0414 - what Request's `ended` gets

# Opened at once: a burst must not spend its deadline on connecting, which costs 0.5 ms of CPU each.
_MAX_CONNECTING = 4
_FEW = 4
# Under way in one lane: larger batches save nothing more, and share more bad luck. And until there are more lanes.
_LANE = 16
_FULL_LANE = 64
_LANE_BYTES = 256 * 1024
# Of the connection's timeout: a lane whose oldest request has waited for longer is slow. 10 ms by default.
_SLOW = 0.1
_CHUNK = 64 * 1024
# A server that refuses further connections is asked for one again so much later; and all are renewed so often at most.
_REST_S = 1.0
# Of the time that connecting may take where somebody waits for it: 0.4 s by default.
_PATIENT = 8
ERRORS = (RedisError, RedisClusterException, OSError, ValueError, LookupError, TypeError, MemoryError)
"""All that asking Redis may raise. The last four: redis-py takes answers apart without expecting garbage."""

Spawn = Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]]


@dataclass(frozen=True, slots=True)
class Command:
    """What is sent, and the types that its answer may have. Anything else means that the stream is out of step."""

    args: tuple[bytes | str | int, ...]
    answers: Answers = bytes
    frame: bytes = b""
    """What is sent but for the key, as `prepared` makes it."""


KEY: Final = b"{key}"
"""Stands for the key that a request is about."""


def prepared(*args: bytes | str | int, answers: Answers = bytes) -> Command:
    """A command that names KEY once, for any number of requests: each is packed in 0.2 µs instead of 0.9."""
    frame = [b"*%d\r\n" % len(args)]
    for arg in args:
        raw = arg if isinstance(arg, bytes) else str(arg).encode()
        packed = (b"$%d\r\n%b\r\n" % (len(raw), raw)).replace(b"%", b"%%")
        frame.append(b"$%d\r\n%b\r\n" if arg is KEY else packed)
    return Command(args, answers, b"".join(frame))


class Request(msgspec.Struct, gc=False):
    """Commands about one key, and who wants to know."""

    key: bytes
    commands: tuple[Command, ...]
    ended: Callable[[list[Reply] | Exception], None]
    """Gets the answers, in order, or one of ERRORS. An error that Redis answers is an answer."""
    is_dropped: bool = False
    """Nobody waits any more: not worth sending."""
    redirects: int = 0
    sent_at: float = 0.0
    """By the loop's clock. Zero: not sent yet."""

    def packed(self) -> bytes:
        """What is sent."""
        key = self.key
        return b"".join(
            [
                command.frame % (len(key), key) if command.frame else _packed(command)
                for command in self.commands
            ]
        )


_PING = Command(("PING",))


class AbsurdReplyError(RedisError):
    """An answer that the command does not have."""


class NotConnectedError(RedisConnectionError):
    """Connecting failed by an answer that is no connection error to redis-py; its cause is what redis-py raised."""


async def exchange(
    connection: AbstractConnection, commands: Sequence[Command], limits: Limits = HandshakeParser.LIMITS
) -> list[Reply]:
    """Sends the commands in one go and reads their answers, in order. An error that Redis answers is an answer."""
    try:
        async with asyncio.timeout(connection.socket_timeout):
            return await _exchange(connection, commands, Replies(limits))
    except TimeoutError as error:
        await connection.disconnect(nowait=True)
        raise RedisTimeoutError("no answer in time") from error
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


async def _exchange(
    connection: AbstractConnection, commands: Sequence[Command], replies: Replies
) -> list[Reply]:
    await connection.send_packed_command([_packed(command) for command in commands], check_health=False)
    stream = cast("asyncio.StreamReader", connection._reader)  # noqa: SLF001 - redis-py would read without limits
    got: list[Reply] = []
    for command in commands:
        while (reply := replies.next(command.answers)) is NOT_YET:
            if not (data := await stream.read(_CHUNK)):
                raise RedisConnectionError("closed by Redis")
            replies.feed(data)
        got.append(_checked(command, reply))
    if not replies.is_empty:
        raise AbsurdReplyError("more was answered than asked")
    return got


async def ask(
    kind: type[AbstractConnection], kwargs: dict[str, Any], command: Command, *, patient: bool = False
) -> Reply:
    """Asks on a fresh connection. Raises ERRORS, also those that are answers.

    For no longer than a caller would wait, or, where it is `patient`, than it takes in a busy process.
    """
    limit_s = kwargs["socket_connect_timeout"] * (_PATIENT if patient else 1)
    connection = kind(**{**kwargs, "socket_timeout": limit_s, "socket_connect_timeout": limit_s})
    try:
        await _connect(connection)
        (reply,) = await exchange(connection, (command,), HandshakeParser.LIMITS)
    finally:
        await connection.disconnect(nowait=True)
    if isinstance(reply, ResponseError):
        raise reply
    return reply


class _Lane(asyncio.Protocol):
    """A connection, and the requests that are on their way in it."""

    def __init__(self, lanes: "Lanes", connection: AbstractConnection) -> None:
        """Takes over a connection that is made and has nothing to be read."""
        self._lanes = lanes
        # Its writer closes the connection if nobody holds on to it.
        self._connection = connection
        self._transport = cast("asyncio.WriteTransport", connection._writer.transport)  # type: ignore[union-attr]  # noqa: SLF001
        self._transport.set_protocol(self)
        self._timeout = connection.socket_timeout or 1.0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._replies = Replies(lanes.limits)
        self._sent: deque[Request] = deque()
        # To the first of them.
        self._got: list[Reply] = []
        self._is_choked = False
        self._is_retiring = False
        self._is_over = False

    @property
    def load(self) -> int:
        """How many requests are under way."""
        return len(self._sent)

    @property
    def room(self) -> int:
        """How many more it takes at once."""
        if self._is_choked:
            return 0
        return (_LANE if len(self._sent) < _LANE else _FULL_LANE) - len(self._sent)

    def is_slow(self, now: float) -> bool:
        return bool(self._sent) and now - self._sent[0].sent_at > _SLOW * self._timeout

    def carry(self, batch: Sequence[tuple[Request, bytes]], now: float) -> None:
        for request, _ in batch:
            request.sent_at = now
            self._sent.append(request)
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._look)
        self._transport.write(b"".join([packed for _, packed in batch]))

    def retire(self) -> None:
        """Those under way arrive; it closes behind them."""
        self._is_retiring = True
        if not self._sent:
            self.close()

    def close(self, error: Exception | None = None) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        self._connection._close()  # type: ignore[no-untyped-call]  # noqa: SLF001 - disconnect() would need a task
        sent, self._sent = self._sent, deque()
        for request in sent:
            request.ended(error or RedisConnectionError("closed"))
        self._lanes.lost(self)

    # -- asyncio calls these --

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        try:
            self._take()
        except ERRORS as error:
            self.close(error)
            return
        if self._is_retiring and not self._sent:
            self.close()
        else:
            self._lanes.freed()

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(exc if isinstance(exc, OSError) else RedisConnectionError("closed by Redis"))

    def pause_writing(self) -> None:
        self._is_choked = True

    def resume_writing(self) -> None:
        self._is_choked = False
        self._lanes.freed()

    def _take(self) -> None:
        sent, got, following = self._sent, self._got, self._replies.next
        while sent:
            request = sent[0]
            for command in request.commands[len(got) :]:
                reply = following(command.answers)
                if reply is NOT_YET:
                    return
                got.append(reply if type(reply) is command.answers else self._odd(command, reply))
            sent.popleft()
            replies, got = got, []
            self._got = got
            self._lanes.ended(request, replies)
        if (reply := following(object)) is not NOT_YET or not self._replies.is_empty:
            raise (
                reply if isinstance(reply, RedisConnectionError) else AbsurdReplyError("an answer to nothing")
            )

    def _odd(self, command: Command, reply: Reply) -> Reply:
        reply = _checked(command, reply)
        if isinstance(reply, ReadOnlyError):
            # A master that was demoted: its name, or the sentinels, may lead to another by now.
            self._lanes.renew()
        return reply

    def _look(self) -> None:
        """Whether the oldest request has been under way for too long."""
        self._timer = None
        if not self._sent or self._is_over:
            return
        loop = self._loop
        left = self._sent[0].sent_at + self._timeout - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look)
        else:
            # Where the loop stood still, what has arrived goes first. Two turns: uvloop reads after the first.
            loop.call_soon(loop.call_soon, self._expire, self._sent[0])

    def _expire(self, request: Request) -> None:
        if self._sent and self._sent[0] is request:
            self.close(RedisTimeoutError("no answer in time"))
        elif self._timer is None:
            self._look()


class Lanes:
    """Connections to one server. They are opened when there is something to send, and kept."""

    def __init__(
        self,
        connection: Callable[[], AbstractConnection],
        max_requests: int,
        spawn: Spawn,
        *,
        limits: Limits,
        ended: Callable[[Request, list[Reply]], None] | None = None,
    ) -> None:
        """`max_requests` may be under way. `ended` gets the answers in place of those who wait for them."""
        self.limits = limits
        self.ended = ended or _end
        self._new_connection = connection
        self._running_in: asyncio.AbstractEventLoop | None = None
        self._max_requests = max_requests
        self._spawn = spawn
        self._waiting: deque[tuple[Request, bytes]] = deque()
        self._lanes: list[_Lane] = []
        # They take nothing more.
        self._retiring: set[_Lane] = set()
        self._connecting = 0
        self._is_due = False
        self._renewed_at = self._refused_at = float("-inf")
        self._is_closed = False
        self._changed = asyncio.Event()

    def send(self, request: Request) -> None:
        """Has it on its way in the next turn of the event loop, together with all that are sent in this one."""
        if self._is_closed:
            request.ended(RedisConnectionError("closed"))
            return
        self._waiting.append((request, request.packed()))
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._dispatch)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        # Asked for once: with Python 3.11 that is a system call.
        if self._running_in is None:
            self._running_in = asyncio.get_running_loop()
        return self._running_in

    def renew(self) -> None:
        """Others take the place of these connections, which may be dead, or lead where the master was."""
        now = asyncio.get_running_loop().time()
        if now - self._renewed_at >= _REST_S:
            self._renewed_at = now
            self._retire()

    @property
    def is_connected(self) -> bool:
        return bool(self._lanes)

    async def answers(self) -> bool:
        """Whether a connection that there is does. Opens none."""
        if not self._lanes:
            return False
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[list[Reply] | Exception] = loop.create_future()
        request = Request(b"", (_PING,), lambda got: None if outcome.done() else outcome.set_result(got))
        # At once, in the least loaded: one that waits might have another lane opened.
        min(self._lanes, key=lambda lane: lane.load).carry([(request, request.packed())], loop.time())
        return await outcome == [b"PONG"]

    async def close(self) -> None:
        """What was sent arrives, and the lanes close behind it."""
        self._is_closed = True
        self._dispatch()
        while True:
            if not self._waiting:
                self._retire()
            if not (self._lanes or self._retiring or self._connecting):
                break
            self._changed.clear()
            await self._changed.wait()
        self._end_waiting()

    # -- lanes call these --

    def freed(self) -> None:
        if self._waiting:
            self._dispatch()
        if self._is_closed:
            self._changed.set()

    def lost(self, lane: _Lane) -> None:
        if lane in self._lanes:
            self._lanes.remove(lane)
        self._retiring.discard(lane)
        self.freed()

    def _retire(self) -> None:
        retiring, self._lanes = self._lanes, []
        self._retiring.update(retiring)
        for lane in retiring:
            lane.retire()

    def _dispatch(self) -> None:
        self._is_due = False
        if not self._waiting:
            return
        now = self._loop.time()
        loads = [lane.load for lane in self._lanes]
        under_way = sum(loads)
        requests = min(self._max_requests, under_way + len(self._waiting))
        # Few of them: a crowd is carried by full ones.
        wanted = min(-(-requests // _LANE), max(_FEW, -(-requests // _FULL_LANE)))
        if 0 not in loads:
            wanted = max(wanted, min(_FEW, len(loads) + 1))
        while self._waiting and under_way < self._max_requests and (lane := self._freest(now)) is not None:
            if batch := self._batch(min(self._max_requests - under_way, lane.room)):
                lane.carry(batch, now)
                under_way += len(batch)
        self._open(wanted, now)

    def _freest(self, now: float) -> _Lane | None:
        # With few of them, it is worth opening another rather than to take a slow one.
        shuns_slow = len(self._lanes) < min(_FEW, self._max_requests)
        best, best_rank = None, (True, _FULL_LANE)
        for lane in self._lanes:
            rank = (lane.is_slow(now), lane.load)
            if rank < best_rank and lane.room > 0 and not (rank[0] and shuns_slow):
                best, best_rank = lane, rank
        return best

    def _batch(self, room: int) -> list[tuple[Request, bytes]]:
        batch: list[tuple[Request, bytes]] = []
        size = 0
        while self._waiting and len(batch) < room and size < _LANE_BYTES:
            request, packed = self._waiting.popleft()
            if request.is_dropped:
                request.ended(RedisTimeoutError("nobody waits for it"))
                continue
            size += len(packed)
            batch.append((request, packed))
        return batch

    def _open(self, wanted: int, now: float) -> None:
        """Sees to it that there are so many lanes that are not slow, or will be."""
        if self._lanes and now - self._refused_at < _REST_S:
            return
        slow = sum(lane.is_slow(now) for lane in self._lanes)
        # Where all are slow, it is the way that is long, and more do not help.
        most = min(self._max_requests, max(2 * _FEW, self._max_requests // _FULL_LANE))
        missing = min(wanted + slow, most) - len(self._lanes)
        for _ in range(min(missing, _MAX_CONNECTING) - self._connecting):
            self._connecting += 1
            # Not in the task itself: one that is cancelled before it has begun runs no `finally`.
            self._spawn(self._connect(), "redis lane").add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting -= 1
        if task.cancelled():
            # The process ends: another one would be cancelled as well.
            self._end_waiting()
        self.freed()

    def _end_waiting(self) -> None:
        while self._waiting:
            request, _ = self._waiting.popleft()
            request.ended(RedisConnectionError("closed"))

    async def _connect(self) -> None:
        connection = _patiently(self._new_connection())
        try:
            await _connect(connection)
            if self._lanes:
                # Nobody waits for this one, and a server that takes no more clients tells it only when asked.
                await exchange(connection, (_PING,))
            await _assert_unread(connection)
            self._lanes.append(_Lane(self, connection))
        except ERRORS as error:
            await connection.disconnect(nowait=True)
            self._not_connected(error)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    def _not_connected(self, error: Exception) -> None:
        if self._lanes:
            # Those that there are carry what another one would have.
            self._refused_at = asyncio.get_running_loop().time()
            return
        for request, _ in self._batch(_LANE):
            request.ended(error)


class Apart:
    """A connection that is no lane, for blocking reads, say. It is kept while it is well and leads to the same node."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._idle: tuple[str, AbstractConnection] | None = None

    async def exchange(
        self, node: str, kind: type[AbstractConnection], kwargs: dict[str, Any], commands: Sequence[Command]
    ) -> list[Reply]:
        connection = await self._take(node) or _patiently(kind(**{**kwargs, "socket_timeout": None}))
        try:
            await _connect(connection)
            replies = await exchange(connection, commands, self._limits)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if any(isinstance(reply, ResponseError) for reply in replies) or self._idle is not None:
            # A master that was demoted unblocks its readers with an error: the next read looks for the new one.
            await connection.disconnect(nowait=True)
        else:
            self._idle = (node, connection)
        return replies

    async def close(self) -> None:
        await self._take("", closing=True)

    async def _take(self, node: str, *, closing: bool = False) -> AbstractConnection | None:
        if self._idle is None:
            return None
        (its_node, connection), self._idle = self._idle, None
        if its_node == node and not closing and not await connection.can_read():
            return connection
        await connection.disconnect(nowait=True)
        return None


def _packed(command: Command) -> bytes:
    # Its stub knows tuples of one.
    packed: bytes = hiredis.pack_command(command.args)  # type: ignore[arg-type]
    return packed


def _patiently(connection: AbstractConnection) -> AbstractConnection:
    """Whoever waits for it leaves in time, and a busy process must get there in the end."""
    if connection.socket_connect_timeout is not None:
        connection.socket_connect_timeout *= _PATIENT
    return connection


async def _connect(connection: AbstractConnection) -> None:
    """Raises ERRORS, of which none is the answer to a command of ours."""
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except Exception as error:
        if isinstance(error, ERRORS) and not isinstance(error, ResponseError):
            raise
        # No such database, no RESP3, a sentinel that is none; or redis-py met with an answer that it did not expect.
        raise NotConnectedError(str(error) or repr(error)) from error


async def _assert_unread(connection: AbstractConnection) -> None:
    if await connection.can_read():
        raise AbsurdReplyError("an answer to nothing")


def _end(request: Request, replies: list[Reply]) -> None:
    request.ended(replies)


def _checked(command: Command, reply: Reply) -> Reply:
    """The answer as RESP2 has it. Raises what makes the connection useless, which may be the answer itself."""
    if isinstance(reply, Map) and command.args[0] == "XREAD":
        # The one command here whose answer RESP3 has in another shape.
        reply = [list(pair) for pair in zip(reply[::2], reply[1::2], strict=True)]
    if isinstance(reply, (command.answers, ResponseError)):
        return reply
    if isinstance(reply, RedisError):
        raise reply
    raise AbsurdReplyError(f"{command.args[0]!r} was answered with {type(reply).__name__}")
