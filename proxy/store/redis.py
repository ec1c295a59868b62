"""The second tier: what one proxy stored, every proxy can serve. It may fail in any way and only ever costs a little time.

redis-py brings the connections; when to stop waiting, how much to ask at once and when not to ask at all is decided here:

- *Deadline*: a call returns within `timeout`, whatever it waits for. What it asked is not cancelled then, which would
  cost a reconnect for each: it ends by itself a little later, through redis-py's socket timeouts.
- *Bulkhead*: at most `max_connections` calls are in flight to each shard (lanes.py). Others wait, within their deadline, and
  a node that hangs takes no turn from the others.
- *Breaker*, one per shard: `breaker_failures` in a row, or one and a PING on a fresh connection that fails, too, and
  nothing is asked until a probe succeeds. Another one for writes, which may hang while reads are answered: a failover by
  hand holds them back, and so does a server that shuts down and waits for its replicas.

So a Redis that dies or hangs delays requests for about twice `timeout`, each by at most one, and nothing after that.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    SlotNotCoveredError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from proxy.logs import Logger
from proxy.policy.known_log import NO_RECORD
from proxy.settings import Redis as Settings
from proxy.store import commands
from proxy.store.addresses import link_to
from proxy.store.breaker import Breaker, Change
from proxy.store.commands import Absurd
from proxy.store.lanes import (
    ERRORS,
    KEY,
    AbsurdReplyError,
    Command,
    NotConnectedError,
    Reply,
    Request,
    prepared,
)
from proxy.store.links import Link
from proxy.store.shared import Claim, Put, RedisDown, Refused, Tail
from proxy.tasks import Tasks

_log = Logger(__name__)
T = TypeVar("T")

_WAIT_GRAIN_S = 0.15
# Permissions change while we run.
_NO_SCRIPTS_S = 60.0
# Characters of an error that are logged.
_MAX_SAID = 200


class Kind(StrEnum):
    """Failures as they are counted."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    MAXCLIENTS = "maxclients"
    AUTH = "auth"
    LOADING = "loading"
    """There, and not serving yet: loading its data, a replica without its master, busy with a script."""
    CLUSTERDOWN = "clusterdown"
    """No node serves the key's slot, or they send us in circles."""
    PROTOCOL = "protocol"
    """Not Redis, or out of step."""
    OOM = "oom"
    READONLY = "readonly"
    """Refuses writes: a replica, or a server that cannot persist or replicate."""
    WRONGTYPE = "wrongtype"
    DENIED = "denied"
    """The user may not use the command."""
    TOO_LARGE = "too_large"
    BUSY = "busy"
    """No turn among `max_connections` within the deadline, or our own event loop was late."""
    OTHER = "other"


# Redis is of no use while it fails so. The rest is about one command, one key or us: Redis is there, reads go on.
_AILING = frozenset(
    {
        Kind.TIMEOUT,
        Kind.CONNECTION,
        Kind.MAXCLIENTS,
        Kind.AUTH,
        Kind.LOADING,
        Kind.CLUSTERDOWN,
        Kind.PROTOCOL,
    }
)
# Resolve, connect, TLS, AUTH, SELECT, PING, and as many for sentinels: each is bounded by `timeout`.
_PROBE_STEPS = 8
# And reading the log on, so many.
_TAIL_STEPS = 4
# A busy process that wants Redis back gives it so much more time: 1.2 s by default.
_PATIENT_LOOK = 3
# A further connection is refused; those that there are may do well.
_NO_FURTHER = frozenset({Kind.MAXCLIENTS, Kind.AUTH})
# Of `timeout`: a timer that fires so much later than it should says that our own event loop stood still.
_LATE = 0.2
# And what times out so soon after that may be our own fault, too.
_LATELY = 4
# So long, at most, is an answer waited for that our own event loop keeps from arriving.
_PATIENCE_S = 2.0
_REFUSED = frozenset({Kind.OOM, Kind.READONLY, Kind.DENIED, Kind.OTHER})
# The first that fits; subclasses before their bases.
_KINDS: tuple[tuple[type[BaseException], Kind], ...] = (
    (BusyLoadingError, Kind.LOADING),
    (AuthenticationError, Kind.AUTH),
    (AuthorizationError, Kind.AUTH),
    (NoPermissionError, Kind.DENIED),
    (OutOfMemoryError, Kind.OOM),
    (ReadOnlyError, Kind.READONLY),
    (MasterDownError, Kind.LOADING),
    (ClusterError, Kind.CLUSTERDOWN),
    (SlotNotCoveredError, Kind.CLUSTERDOWN),
    (RedisClusterException, Kind.CONNECTION),
    (InvalidResponse, Kind.PROTOCOL),
    (AbsurdReplyError, Kind.PROTOCOL),
    (RedisTimeoutError, Kind.TIMEOUT),
    (TimeoutError, Kind.TIMEOUT),
    (OSError, Kind.CONNECTION),
)
_UNKNOWN = "unknown command"
# Errors that redis-py has no class for, by the first word of their text.
_WORDS = {
    "WRONGTYPE": Kind.WRONGTYPE,
    "MISCONF": Kind.READONLY,
    "NOREPLICAS": Kind.READONLY,
    "BUSY": Kind.LOADING,
    # Protected mode: a password is what it wants.
    "DENIED": Kind.AUTH,
}


def kind_of(error: BaseException) -> Kind:
    for type_, kind in _KINDS:
        if isinstance(error, type_):
            return kind
    if isinstance(error, NotConnectedError):
        kind = kind_of(error.__cause__) if error.__cause__ is not None else Kind.CONNECTION
        return kind if kind in _AILING else Kind.CONNECTION
    if isinstance(error, RedisConnectionError):
        return Kind.MAXCLIENTS if "max number of clients" in str(error) else Kind.CONNECTION
    if isinstance(error, ResponseError):
        return _WORDS.get(str(error).partition(" ")[0], Kind.OTHER)
    return Kind.PROTOCOL


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why something failed."""

    kind: Kind
    said: str = ""
    """In the words of Redis or redis-py."""


def _failure_of(error: BaseException) -> _Failure:
    # Some versions go on with what they were asked, which may be a password.
    said = str(error).partition(", with args")[0]
    return _Failure(kind_of(error), said[:_MAX_SAID])


class RedisObserver(Protocol):
    """Where the tier's figures go."""

    def done(self, op: str, seconds: float) -> None: ...

    def failed(self, kind: str) -> None: ...

    def up(self, is_up: bool) -> None: ...  # noqa: FBT001 - a gauge's value


class _Call(msgspec.Struct, gc=False):
    """One call: what it asked of which shard, and how it ended. Neither replies nor failure: it wasn't made."""

    op: str
    shard: str
    key: bytes
    is_write: bool = False
    """They have a breaker of their own: that they are not answered in time says little of the rest."""
    replies: list[Reply] | None = None
    failure: Kind | None = None
    started: float = 0.0
    """Monotonic seconds."""
    is_unsent: bool = False
    """Whether it ended before it was sent."""


class _Telling:
    """In the place of a future, for whoever awaits nothing: it's told as soon as the call has ended, and once."""

    __slots__ = ("_is_done", "_loop", "_tell", "is_sent")

    def __init__(self, tell: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self._tell = tell
        self._loop = loop
        self._is_done = False
        self.is_sent = False
        """Whether whoever asked has been told that it waits. Before that it's told nothing else."""

    def done(self) -> bool:
        return self._is_done

    def set_result(self, _nothing: None) -> None:
        self._is_done = True
        if not self.is_sent:
            self._loop.call_soon(self._tell)
            return
        try:
            self._tell()
        except Exception as error:  # noqa: BLE001 - of whoever is told: the answers behind this one are for others
            _log.error("defect while answering", exc_info=error)


_Waiter = asyncio.Future[None] | _Telling


@dataclass(slots=True)
class _Shard:
    """What is known of one shard."""

    breaker: Breaker
    writes: Breaker
    """Open while writes hang."""
    write_pause: float = 0.0
    """Seconds until the next one is let through."""
    write_at: float = 0.0
    """Monotonic seconds: when one is let through, to see whether they still do."""
    out_since: float = 0.0
    """Monotonic seconds, of the last time it was."""
    suspect: bytes = b""
    """The key whose command failed last."""
    refuses: set[Kind] = field(default_factory=set)
    """What it answers instead of doing what it is told; logged once."""


_PTTL = prepared("PTTL", KEY, answers=int)


_NO_ANSWER = _Failure(Kind.TIMEOUT)


class RedisTier:
    """Get, put and delete never raise and never take longer than `timeout`; the streams raise RedisDown.

    Keys come without the prefix. A miss, an error, a timeout and a value that is too large are all None.
    """

    def __init__(self, settings: Settings, observer: RedisObserver, tasks: Tasks) -> None:
        """Raises ValueError for settings that don't fit and EmbeddedError where the embedded Valkey is missing."""
        self._timeout = settings.timeout
        self._probe_every = settings.probe_every
        self._max_value = settings.max_value
        self._max_failures = settings.breaker_failures
        self._prefix = f"{settings.prefix}:"
        # GETRANGE, because GET would send us all of it, however large: one byte too many tells the same.
        self._get = prepared("GETRANGE", KEY, 0, settings.max_value)
        self._running: set[asyncio.Task[Any]] = set()
        self._observer = observer
        self._tasks = tasks
        self._link: Link = link_to(settings, self._spawn)
        # In the order of their deadlines, since all have as long. One timer is for them all.
        self._waiting: deque[tuple[float, _Call, _Waiter, Request]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._late_at = float("-inf")
        """When our event loop was late, by its clock."""
        self._shards: dict[str, _Shard] = {}
        self._any_out = asyncio.Event()
        self._prober: asyncio.Task[None] | None = None
        self._was_up: bool | None = None
        self._no_scripts_until = 0.0
        """Monotonic seconds; 0 where the user may run scripts."""

    @property
    def up(self) -> bool:
        """Whether Redis is in use, all of it."""
        return self._prober is not None and not any(shard.breaker.is_open for shard in self._shards.values())

    async def start(self) -> None:
        """Looks whether Redis is there, for at most eight times `timeout`. If not, it is used as soon as it is.

        Nobody is served yet, a process that starts is busy, and one without Redis fetches what is warm by itself.
        """
        if self._prober is not None:
            return
        try:
            await self._link.prepare()
        except ERRORS as error:
            _log.warning("redis cannot be started", error=str(error))
        first = self._spawn(self._first_look(), "redis first look")
        await asyncio.wait((first,), timeout=_PROBE_STEPS * self._timeout)
        if not first.done():
            change = self._shard("").breaker.looked(alive=False)
            self._changed(change, "", _NO_ANSWER)
        self._prober = self._tasks.spawn(self._probe_for_ever(), "redis prober")
        self._report()

    async def get(self, key: str) -> bytes | None:
        name = self._name(key)
        call = await self._call("get", name, self._get)
        return self._value(call)

    async def get_with_ttl(self, key: str) -> tuple[bytes, float] | None:
        """The value and the seconds that Redis will keep it: infinity, if it was stored without an end."""
        return self._value_with_ttl(await self._call("get", self._name(key), self._get, _PTTL))

    def look(self, key: str, told: Callable[[tuple[bytes, float] | None], None], *, with_ttl: bool) -> None:
        """As `get_with_ttl`, for whoever awaits nothing: it is `told`, always later than in this turn of the loop.

        Without `with_ttl` the seconds are 0, and Redis has half the work.
        """
        name = self._name(key)
        call = _Call("get", self._link.shard(name), name)
        if self._is_out(call.shard):
            self._tasks.loop.call_soon(told, None)
            return

        def ended() -> None:
            if with_ttl:
                told(self._value_with_ttl(call))
            else:
                value = self._value(call)
                told(None if value is None else (value, 0.0))

        telling = _Telling(ended, self._tasks.loop)
        self._begin(call, (self._get, _PTTL) if with_ttl else (self._get,), telling)
        telling.is_sent = True

    def _value_with_ttl(self, call: _Call) -> tuple[bytes, float] | None:
        value = self._value(call)
        if value is None or call.replies is None:
            return None
        left_ms = call.replies[1]
        if not isinstance(left_ms, int) or left_ms < -1:
            # It went between the two, or could not be told.
            return None
        return value, float("inf") if left_ms == -1 else left_ms / 1000

    async def put(self, key: str, value: bytes, ttl_s: float, *, asked: int = 0) -> Put:
        ttl_ms = int(ttl_s * 1000)
        if ttl_ms <= 0:
            return Put.FAILED
        if len(value) > self._max_value:
            self._observer.failed(Kind.TOO_LARGE)
            return Put.FAILED
        name = self._name(key)
        call = await self._scripted(
            "put",
            name,
            commands.put_newer(name, value, ttl_ms, asked),
            commands.put(name, value, ttl_ms),
        )
        if call.replies is None or call.failure is not None:
            return Put.FAILED
        return Put.NEWER if call.replies == [0] else Put.STORED

    async def claim(self, key: str, kind: str, token: bytes, ttl_s: float) -> Claim | None:
        """Whoever comes first has an entry's lease for so long; the others are told who does."""
        name, entry = self._lease(key, kind), self._name(key)
        call = await self._write("claim", name, *commands.claim(name, entry, token, int(ttl_s * 1000)))
        if call.replies is None or call.failure is not None:
            return None
        try:
            return commands.claimed(call.replies)
        except Absurd:
            self._observer.failed(Kind.PROTOCOL)
            return None

    async def swap(self, key: str, kind: str, token: bytes, value: bytes, ttl_s: float) -> bool | None:
        """Replace or drop a lease. A Redis without scripts does it unseen: ask only while the lease lasts."""
        name, ttl_ms = self._lease(key, kind), int(ttl_s * 1000)
        unseen = commands.put(name, value, ttl_ms) if value else Command(("UNLINK", name), int)
        call = await self._scripted("swap", name, commands.swap(name, token, value, ttl_ms), unseen)
        if call.replies is None or call.failure is not None:
            return None
        return call.replies in ([1], [b"OK"])

    def _lease(self, key: str, kind: str) -> bytes:
        return self._prefix.encode() + commands.lease(self._name(key), kind)

    async def _scripted(self, op: str, name: bytes, script: Command, plain: Command) -> _Call:
        """A script, or what comes near to it where the user may run none."""
        if not self._runs_scripts:
            return await self._write(op, name, plain)
        call = await self._write(op, name, script)
        if call.failure is Kind.DENIED or _is_unknown(call):
            call = await self._write(op, name, plain)
            # Where that is denied as well, it is the key, or everything.
            if call.failure is not Kind.DENIED:
                self._runs_no_scripts()
        elif call.failure is None and call.replies is not None:
            self._no_scripts_until = 0.0
        return call

    @property
    def _runs_scripts(self) -> bool:
        return time.monotonic() >= self._no_scripts_until

    def _runs_no_scripts(self) -> None:
        if not self._no_scripts_until:
            _log.warning("redis runs no scripts for us: replicas may store an older answer over a newer one")
        self._no_scripts_until = time.monotonic() + _NO_SCRIPTS_S

    async def delete(self, *keys: str) -> int:
        """How many there were."""
        deleted = 0
        for batch in self._link.batches([self._name(key) for key in keys]) if keys else ():
            call = await self._write("delete", batch[0], Command(("UNLINK", *batch), int))
            if call.replies is not None and call.failure is None:
                deleted += call.replies[0]
        return deleted

    async def stream_add(
        self, key: str, fields: dict[bytes, bytes], *, keep_after_ms: int, at: str = "*"
    ) -> str:
        """Appends a record and lets go of those from before `keep_after_ms` (Unix, about). Returns the record's id.

        Raises RedisDown, also where the record was appended and only the answer came too late.
        """
        name = self._name(key)
        pairs = [part for pair in fields.items() for part in pair]
        command = Command(("XADD", name, "MINID", "~", max(0, keep_after_ms), at, *pairs))
        return _read(commands.stream_id, _told(await self._write("stream_add", name, command)))

    async def stream_last_id(self, key: str) -> str:
        """NO_RECORD of an empty stream. Raises RedisDown."""
        name = self._name(key)
        command = Command(("XREVRANGE", name, "+", "-", "COUNT", 1), list)
        records = _read(commands.records, _told(await self._call("stream_last_id", name, command)))
        return records[0][0] if records else NO_RECORD

    async def stream_after(self, key: str, last_id: str, *, block_ms: int, count: int) -> Tail:
        """Records after `last_id`, at most `count`; waits for one up to `block_ms`. Raises RedisDown.

        It has a connection of its own: however long it waits, it takes no turn from get and put.
        """
        name = self._name(key)
        shard = self._link.shard(name)
        if self._is_out(shard):
            raise RedisDown("out")
        block = ("BLOCK", block_ms) if block_ms > 0 else ()
        asked = (
            Command(("XREAD", "COUNT", count, *block, "STREAMS", name, last_id), (list, type(None))),
            # Looked at last, so that what was read is known to have come after it.
            Command(("XRANGE", name, last_id, last_id), list),
        )
        call = _Call("stream_after", shard, name)
        try:
            # To connect, and to answer, in a busy process. Redis looks for waits that are over ten times a second only.
            wait_s = max(0, block_ms) / 1000 + (_WAIT_GRAIN_S if block else 0.0)
            async with asyncio.timeout(wait_s + _TAIL_STEPS * self._timeout):
                replies = await self._link.wait(name, *asked)
        except ERRORS as error:
            failure = _failure_of(error)
            self._failed(call, failure)
            raise RedisDown(failure.kind) from error
        self._answered(call, replies)
        read = _read(commands.records_of_one, _told(call))
        return Tail(records=read, intact=last_id == NO_RECORD or bool(replies[1]))

    def shards(self) -> list[str]:
        found = self._link.shards()
        return sorted(found - {""}) or [""]

    async def sweep(
        self, shard: str, cursor: int, is_gone: Callable[[str, bytes], bool]
    ) -> tuple[int | None, int]:
        """Of an entry, `is_gone` gets its key and its first 8 KiB."""
        prefix = self._name("e:")
        (reply,) = await self._aside(shard, commands.scan(cursor, prefix))
        following, names = _read(partial(commands.scanned, prefix=prefix), _granted(reply))
        begins = await self._aside(shard, *[commands.beginning(name) for name in names])
        gone: list[tuple[bytes, bytes]] = []
        for name, begin in zip(names, begins, strict=True):
            if isinstance(begin, bytes) and is_gone(self._key(name), begin):
                gone.append((name, begin))
            # Where there are a thousand patterns each takes a third of a millisecond.
            await asyncio.sleep(0)
        drops = [
            commands.drop(name, begin) if self._runs_scripts else Command(("UNLINK", name), int)
            for name, begin in gone
        ]
        replies = await self._aside(shard, *drops)
        for reply in replies:
            if isinstance(reply, ResponseError) and kind_of(reply) in {Kind.DENIED, Kind.OTHER}:
                raise Refused(str(reply))
        return following or None, sum(reply for reply in replies if isinstance(reply, int))

    async def _aside(self, shard: str, *asked: Command) -> list[Reply]:
        if not asked:
            return []
        if self._is_out(shard):
            raise RedisDown("out")
        try:
            async with asyncio.timeout(_PROBE_STEPS * self._timeout):
                return await self._link.aside(shard, *asked)
        except ERRORS as error:
            raise RedisDown(kind_of(error)) from error

    async def table_set(self, key: str, field: str, value: bytes) -> None:
        name = self._name(key)
        _told(await self._write("table_set", name, Command(("HSET", name, field, value), int)))

    async def table(self, key: str) -> dict[str, bytes]:
        name = self._name(key)
        command = Command(("HGETALL", name), (list, dict))
        return _read(commands.table, _told(await self._call("table", name, command)))

    async def table_drop(self, key: str, *fields: str) -> None:
        name = self._name(key)
        _told(await self._write("table_drop", name, Command(("HDEL", name, *fields), int)))

    async def close(self) -> None:
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait((self._prober,))
            self._prober = None
        # What was just stored should arrive; socket timeouts end the rest.
        with suppress(TimeoutError):
            async with asyncio.timeout(_PROBE_STEPS * self._timeout):
                while self._running:
                    await asyncio.wait(self._running)
        try:
            async with asyncio.timeout(_PROBE_STEPS * self._timeout):
                await self._link.close()
        except ERRORS as error:
            _log.info("redis connection did not close", error=str(error))
        self._report()

    def _name(self, key: str) -> bytes:
        # surrogatepass: any str is a key, and no two are the same one.
        return (self._prefix + key).encode("utf-8", "surrogatepass")

    def _key(self, name: bytes) -> str:
        return name[len(self._prefix) :].decode("utf-8", "surrogatepass")

    def _value(self, call: _Call) -> bytes | None:
        if call.replies is None or not isinstance(call.replies[0], bytes):
            return None
        # GETRANGE answers "" where there is nothing.
        value = call.replies[0]
        if len(value) > self._max_value:
            self._observer.failed(Kind.TOO_LARGE)
            return None
        return value or None

    async def _call(self, op: str, key: bytes, *commands: Command, is_write: bool = False) -> _Call:
        """Makes the call and waits for it until the deadline; either way it's counted."""
        call = _Call(op, self._link.shard(key), key, is_write)
        if not self._is_out(call.shard):
            waiter = self._tasks.loop.create_future()
            self._begin(call, commands, waiter)
            await waiter
        return call

    def _begin(self, call: _Call, commands: tuple[Command, ...], waiter: _Waiter) -> None:
        """Makes the call; the `waiter` is done when it has ended."""
        loop = self._tasks.loop
        call.started = time.monotonic()
        request = Request(call.key, commands, partial(self._ended, call, waiter))
        self._link.send(request)
        self._waiting.append((loop.time() + self._timeout, call, waiter, request))
        self._watch()

    async def _write(self, op: str, key: bytes, *commands: Command) -> _Call:
        """As _call. While writes hang it isn't made, but for one now and then: each would cost a lane."""
        name = self._link.shard(key)
        shard, now = self._shard(name), time.monotonic()
        is_trial = shard.writes.is_open
        if is_trial:
            if now < shard.write_at:
                return _Call(op, name, key)
            # Soon at first: most pauses are short.
            shard.write_pause = min(2 * shard.write_pause, self._probe_every)
            shard.write_at = now + shard.write_pause
        call = await self._call(op, key, *commands, is_write=True)
        if call.failure is Kind.TIMEOUT and not call.is_unsent:
            if shard.writes.failed(time.monotonic()) is Change.OPENED:
                shard.write_pause = self._timeout
                shard.write_at = time.monotonic() + shard.write_pause
                _log.warning("redis does not answer writes", shard=name)
        elif call.replies is not None:
            shard.writes.succeeded()
            if is_trial and shard.writes.probed(alive=True) is Change.CLOSED:
                _log.info("redis answers writes again", shard=name)
        return call

    def _watch(self) -> None:
        if self._timer is None and self._waiting:
            loop = self._tasks.loop
            # Two turns of the loop after the time: where it stood still, answers that have arrived go first, and uvloop
            # reads after the first turn.
            due = self._waiting[0][0]
            self._timer = loop.call_at(due, loop.call_soon, loop.call_soon, self._expire, due)

    def _is_out(self, shard: str) -> bool:
        return self._prober is None or self._shard(shard).breaker.is_open

    def _ended(self, call: _Call, waiter: _Waiter, outcome: list[Reply] | Exception) -> None:
        # Too late to be used is too late to be praised, and was blamed already.
        if call.failure is not None:
            return
        if isinstance(outcome, Exception):
            self._failed(call, _failure_of(outcome))
        else:
            self._observer.done(call.op, time.monotonic() - call.started)
            self._answered(call, outcome)
        # The caller may have been cancelled.
        if not waiter.done():
            waiter.set_result(None)
        waiting = self._waiting
        while waiting and waiting[0][2].done():
            waiting.popleft()

    def _expire(self, due: float) -> None:
        self._timer = None
        now, waiting = self._tasks.loop.time(), self._waiting
        is_late = self._is_late(due)
        while waiting and (waiting[0][2].done() or waiting[0][0] <= now):
            _, call, waiter, request = waiting.popleft()
            if waiter.done():
                continue
            if is_late and time.monotonic() - call.started < _PATIENCE_S:
                # It is this process that has its hands full, and whatever it did instead would take as long.
                waiting.append((now + self._timeout, call, waiter, request))
            else:
                request.is_dropped = True
                self._expired(call, request, is_late=is_late)
                waiter.set_result(None)
        self._watch()

    def _give_up(self, shard: str, kind: Kind) -> None:
        """Have nobody wait any more for a shard that is out."""
        # Whoever is told may ask for more at once.
        for _, call, waiter, request in tuple(self._waiting):
            # What opened the breaker has been counted, and is woken by whoever did.
            if call.shard == shard and not waiter.done() and call.failure is None:
                request.is_dropped = True
                self._count(call, kind)
                waiter.set_result(None)

    def _expired(self, call: _Call, request: Request, *, is_late: bool) -> None:
        """Counts a call that was not answered in time, which need not be the fault of Redis."""
        if request.sent_at and not is_late:
            self._failed(call, _NO_ANSWER)
            return
        call.is_unsent = not request.sent_at
        is_connected = self._link.is_connected(call.shard)
        # We were late, or so many others were under way. Without a connection, it is the making of one that takes so long.
        self._count(call, Kind.BUSY if is_late or is_connected else Kind.TIMEOUT)
        if is_late or not is_connected:
            # Redis may hang as well, or be far away and no more than that.
            self._blame(call, _NO_ANSWER, is_certain=False)

    def _answered(self, call: _Call, replies: list[Reply]) -> None:
        call.replies = replies
        shard = self._shard(call.shard)
        error = None
        for reply in replies:
            if isinstance(reply, ResponseError):
                error = reply
                break
        if error is not None:
            failure = _failure_of(error)
            self._failed(call, failure)
            if _ails(call.op, failure):
                return
        elif call.op == "put" and shard.refuses:
            _log.info("redis takes writes again", shard=call.shard, refused=sorted(shard.refuses))
            shard.refuses.clear()
        shard.breaker.succeeded()

    def _count(self, call: _Call, kind: Kind) -> None:
        call.failure = kind
        self._observer.failed(kind)

    def _failed(self, call: _Call, failure: _Failure) -> None:
        kind = failure.kind
        self._count(call, kind)
        shard = self._shard(call.shard)
        # Scripts that are denied are tried again every minute, and were logged.
        is_known = kind in shard.refuses or (kind is Kind.DENIED and self._no_scripts_until > 0)
        if kind in _REFUSED and not is_known:
            shard.refuses.add(kind)
            _log.warning("redis refuses", shard=call.shard, op=call.op, kind=kind, error=failure.said)
        if _ails(call.op, failure):
            # A read behind a write that hangs, in the same lane, is as late.
            by_writes = call.is_write or shard.writes.has_doubts
            may_be_well = kind is Kind.TIMEOUT and (self._was_late or by_writes)
            self._blame(call, failure, is_certain=not may_be_well)

    @property
    def _was_late(self) -> bool:
        """Whether our own event loop was, a moment ago."""
        return self._tasks.loop.time() - self._late_at < _LATELY * self._timeout

    def _blame(self, call: _Call, failure: _Failure, *, is_certain: bool) -> None:
        shard = self._shard(call.shard)
        shard.suspect = call.key
        breaker = shard.breaker
        change = breaker.failed(time.monotonic()) if is_certain else breaker.suspected()
        self._changed(change, call.shard, failure)

    def _changed(self, change: Change, name: str, failure: _Failure | None) -> None:
        shard, now = self._shard(name), time.monotonic()
        match change:
            case Change.LOOK:
                self._spawn(self._look(name), "redis look")
            case Change.OPENED:
                shard.out_since = now
                why = failure or _NO_ANSWER
                _log.warning("redis is out", shard=name, kind=why.kind, error=why.said)
                self._any_out.set()
                self._give_up(name, why.kind)
                self._spawn(self._mend(name), "redis mend")
                self._report()
            case Change.CLOSED:
                # It may be another one by now.
                self._no_scripts_until = 0.0
                shard.writes = Breaker(self._max_failures)
                _log.info("redis is back", shard=name, after_s=round(now - shard.out_since, 1))
                self._report()
            case Change.NONE:
                pass

    def _report(self) -> None:
        if self.up != self._was_up:
            self._was_up = self.up
            self._observer.up(self._was_up)

    def _shard(self, name: str) -> _Shard:
        shard = self._shards.get(name)
        if shard is None:
            shard = self._shards[name] = _Shard(Breaker(self._max_failures), Breaker(self._max_failures))
        return shard

    async def _look(self, name: str) -> None:
        until = time.monotonic() + _PROBE_STEPS * self._timeout
        while True:
            failure = await self._alive(name)
            may_be_well = failure is not None and failure.kind is Kind.TIMEOUT and self._was_late
            # While we are late, a look that fails says nothing. But not for ever.
            if not may_be_well or time.monotonic() >= until:
                break
        change = self._shard(name).breaker.looked(alive=failure is None)
        self._changed(change, name, failure)

    async def _first_look(self) -> None:
        failure = await self._alive("", patient=True)
        breaker = self._shard("").breaker
        # start() may have given up on it by now.
        for change in (breaker.looked(alive=failure is None), breaker.probed(alive=failure is None)):
            self._changed(change, "", failure)

    async def _alive(self, name: str, *, patient: bool = False) -> _Failure | None:
        """Why the shard is of no use; None if it is well.

        A dead or hung one shows within `timeout`: each step of connecting and the PING may take that long. One that is
        far away may use several steps' time, and so may one whose first sentinels hang.
        """
        failures: list[_Failure | None] = []
        self._mind_the_loop()
        task = self._spawn(self._probe(name, failures, patient=patient), "redis probe")
        limit_s = _PROBE_STEPS * self._timeout * (_PATIENT_LOOK if patient else 1)
        await asyncio.wait((task,), timeout=limit_s)
        return failures[0] if failures else _NO_ANSWER

    def _mind_the_loop(self) -> None:
        """Where no call is waited for, nothing else would tell that our event loop is late."""
        loop = self._tasks.loop
        due = loop.time() + self._timeout / 2
        loop.call_at(due, self._is_late, due)

    def _is_late(self, due: float) -> bool:
        """Whether our event loop is, by a timer that was due then; it's remembered."""
        is_late = time.monotonic() - due > _LATE * self._timeout
        if is_late:
            self._late_at = self._tasks.loop.time()
        return is_late

    async def _probe(self, name: str, failures: list[_Failure | None], *, patient: bool) -> None:
        try:
            await self._link.probe(name, self._shard(name).suspect, patient=patient)
        except ERRORS as error:
            failure = _failure_of(error)
            # It may not be allowed to be asked how it is, and yet be well.
            is_well = not _ails("get", failure)
            # Connecting knows nothing of an event loop that is late. Lanes do: answers that have arrived go first.
            may_be_well = failure.kind is Kind.TIMEOUT and self._was_late
            if failure.kind in _NO_FURTHER or may_be_well:
                is_well = await self._link.answers(name)
            failures.append(None if is_well else failure)
        else:
            failures.append(None)

    async def _probe_for_ever(self) -> None:
        while True:
            await self._any_out.wait()
            await asyncio.sleep(self._probe_every)
            try:
                await self._probe_those_out()
            except Exception as error:  # noqa: BLE001 - the outermost line of a loop that must go on
                _log.error("redis prober failed", exc_info=error)

    async def _probe_those_out(self) -> None:
        out = [name for name, shard in self._shards.items() if shard.breaker.is_open]
        # Nobody waits for it, and a busy process wants Redis back more than any other.
        failures = await asyncio.gather(*(self._alive(name, patient=True) for name in out))
        for name, failure in zip(out, failures, strict=True):
            change = self._shard(name).breaker.probed(alive=failure is None)
            self._changed(change, name, failure)
            if failure is not None:
                await self._mend(name)
        # Nodes that left the cluster, or lost all their slots to another.
        for name in self._shards.keys() - self._link.shards():
            if self._shards.pop(name).breaker.is_open:
                _log.info("redis shard is gone", shard=name)
        if not any(shard.breaker.is_open for shard in self._shards.values()):
            self._any_out.clear()
        self._report()

    async def _mend(self, name: str) -> None:
        try:
            await self._link.mend(name)
        except ERRORS as error:
            _log.debug("redis is not mended", shard=name, error=str(error))

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = self._tasks.spawn(work, name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


def _ails(op: str, failure: _Failure) -> bool:
    """Whether Redis is of no use while it fails so."""
    if failure.kind is Kind.OTHER:
        # A lookup has no odd errors. A proxy before Redis has, when it cannot reach it.
        return op == "get" and not failure.said.startswith(_UNKNOWN)
    return failure.kind in _AILING


def _is_unknown(call: _Call) -> bool:
    """Whether it was asked what it does not know: some services leave commands out."""
    return call.replies is not None and str(call.replies[0]).startswith(_UNKNOWN)


def _granted(reply: Reply) -> Any:
    """The answer. Raises Refused if it is that we may not ask, RedisDown for other errors."""
    if not isinstance(reply, ResponseError):
        return reply
    kind = kind_of(reply)
    if kind in _AILING:
        raise RedisDown(kind)
    raise Refused(str(reply))


def _told(call: _Call) -> Any:
    if call.failure is not None or call.replies is None:
        raise RedisDown(call.failure or "out")
    return call.replies[0]


def _read(meaning: Callable[[Any], T], reply: Any) -> T:
    try:
        return meaning(reply)
    except Absurd as error:
        raise RedisDown(Kind.PROTOCOL) from error
