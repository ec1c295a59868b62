"""What Redis does: real servers that are killed, stopped, full, demoted, loading, closed to us."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import hiredis
from redis.crc import key_slot

from tests import servers
from tests.flow.faults.stage import Stage
from tests.flow.faults.trial import Fault, Inject
from tests.servers import Server, Session

# A server that is to show how it loads must do so slowly, and answer meanwhile. Without a dump there is nothing to load.
SLOW_LOADING = ("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
_LOADED_KEYS = 40_000
# Somebody else's values.
_FILL = "for i=1,tonumber(ARGV[1]) do redis.call('SET',KEYS[1]..i,string.rep('x',tonumber(ARGV[2])),'PX',ARGV[3]) end"
_EVERY_S = 0.05
_PURGES = b"crowdgate:purges"
_PATIENCE_S = 15.0


def on_each(begin: Callable[[Server], Any], end: Callable[[Server], Any]) -> Inject:
    """The same done to each server, and undone."""
    return on_some(slice(None), begin, end)


def on_some(which: slice, begin: Callable[[Server], Any], end: Callable[[Server], Any]) -> Inject:
    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        for server in stage.servers[which]:
            begin(server)
        try:
            yield
        finally:
            for server in stage.servers[which]:
                end(server)

    return inject


def commanded(begin: list[tuple[Any, ...]], end: list[tuple[Any, ...]]) -> Inject:
    """Commands to each server. They go over connections that were there before: a server may be about to take no more."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        with ExitStack() as stack:
            sessions = [stack.enter_context(server.session()) for server in stage.servers]
            _say(sessions, begin)
            try:
                yield
            finally:
                _say(sessions, end)

    return inject


def _say(sessions: list[Session], commands: list[tuple[Any, ...]]) -> None:
    for session in sessions:
        for command in commands:
            session.command(*command)


def again_and_again(work: Callable[[Server], Any], end: Callable[[Server], Any] = lambda _: None) -> Inject:
    """Done to each server all the time."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        async def go_on() -> None:
            while True:
                for server in stage.servers:
                    await asyncio.to_thread(work, server)
                await asyncio.sleep(_EVERY_S)

        going = asyncio.ensure_future(go_on())
        try:
            yield
        finally:
            going.cancel()
            await asyncio.wait((going,))
            for server in stage.servers:
                end(server)
        assert going.cancelled(), going.exception()

    return inject


def _limited(session: Session, *, policy: str, room: int) -> None:
    (used,) = (
        line
        for line in session.command("INFO", "memory").decode().splitlines()
        if line.startswith("used_memory:")
    )
    session.command(
        "CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", int(used.partition(":")[2]) + room
    )


def _flood(server: Server) -> None:
    """A megabyte of room, and half of it filled every time: whatever is stored is soon pushed out."""
    with server.session() as session:
        if session.command("ROLE")[0] != b"master":
            # It follows its primary.
            return
        _limited_once(session)
        # One that cannot evict as fast as it is filled says so.
        with suppress(hiredis.ReplyError):
            session.command("EVAL", _FILL, 1, f"{{{_tag_of(session)}}}other:", 100, 5000, 2000)


def _limited_once(session: Session) -> None:
    if session.command("CONFIG", "GET", "maxmemory")[1] == b"0":
        _limited(session, policy="allkeys-lru", room=2**20)


def _tag_of(session: Session) -> int:
    """A hash tag whose slot is this server's."""
    for tag in range(1000):
        try:
            session.command("EXISTS", f"{{{tag}}}")
        except hiredis.ReplyError:
            continue
        return tag
    raise AssertionError("a server without slots")


def _unlimited(server: Server) -> None:
    server.command("CONFIG", "SET", "maxmemory", 0)


def _flush(server: Server) -> None:
    with suppress(hiredis.ReplyError):
        server.command("FLUSHALL")


@asynccontextmanager
async def _demoted(stage: Stage) -> AsyncIterator[None]:
    """A failover of which nobody told us: our server is now a replica of the one that was its own."""
    (server,) = stage.servers
    server.command("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    with servers.redis("--replicaof", f"127.0.0.1 {server.port}") as other:
        await _until(lambda: other.info("replication")["master_link_status"] == "up")
        other.command("REPLICAOF", "NO", "ONE")
        server.command("REPLICAOF", "127.0.0.1", other.port)
        try:
            yield
        finally:
            server.command("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def _loading(stage: Stage) -> AsyncIterator[None]:
    """Killed, and back with what it had saved, which takes it seconds to read."""
    (server,) = stage.servers
    await asyncio.to_thread(server.command, "EVAL", _FILL, 1, "other:", _LOADED_KEYS, 20, 600_000)
    await asyncio.to_thread(server.command, "SAVE")
    server.restart()
    try:
        yield
    finally:
        server.command("CONFIG", "SET", "key-load-delay", 0)
        await _until(lambda: server.info("persistence")["loading"] == "0")
        server.command("CONFIG", "SET", "key-load-delay", SLOW_LOADING[1])
        (server.directory / "dump.rdb").unlink()


@asynccontextmanager
async def _failed_over(stage: Stage) -> AsyncIterator[None]:
    """A primary is killed. The cure is that its replica takes over."""
    pair = stage.servers[0], stage.servers[-1]
    primary, replica = pair if pair[0].command("ROLE")[0] == b"master" else pair[::-1]
    await _until(lambda: replica.command("ROLE")[3] == b"connected")
    primary.kill()
    try:
        yield
        await _until(lambda: replica.command("ROLE")[0] == b"master")
    finally:
        primary.start()


@asynccontextmanager
async def _migrating(stage: Stage) -> AsyncIterator[None]:
    """The slots of the purge log and of some answers move to another node, and then back."""
    primaries = stage.servers[:3]
    source = next(server for server in primaries if _is_owner(server, _PURGES))
    target = primaries[primaries.index(source) - 1]
    keys = [_PURGES, *source.command("KEYS", "crowdgate:e:*")[:8]]
    slots = sorted({key_slot(key) for key in keys})
    is_over = asyncio.Event()

    async def there_and_back() -> None:
        while not is_over.is_set():
            await _move(stage, slots, source, target)
            await _move(stage, slots, target, source)

    moving = asyncio.ensure_future(there_and_back())
    try:
        yield
    finally:
        is_over.set()
        await moving


async def _move(stage: Stage, slots: list[int], source: Server, target: Server) -> None:
    ids = {server: server.command("CLUSTER", "MYID") for server in (source, target)}
    for slot in slots:
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        # Asked for meanwhile: ASK for what has gone, the value for what has not.
        await asyncio.sleep(_EVERY_S)
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            await asyncio.to_thread(
                source.command, "MIGRATE", "127.0.0.1", target.port, "", 0, 1000, "KEYS", *keys
            )
        await asyncio.sleep(_EVERY_S)
        for server in (target, source, *stage.servers[:3]):
            server.command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


def _is_owner(server: Server, key: bytes) -> bool:
    try:
        server.command("EXISTS", key)
    except hiredis.ReplyError:
        return False
    return True


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            # One that does not answer yet.
            with suppress(OSError, hiredis.ReplyError, KeyError):
                if condition():
                    return
            await asyncio.sleep(0.01)


_KILL = ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
_FULL = [("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", 1)]
_NOT_FULL = [("CONFIG", "SET", "maxmemory", 0)]

KILLED = Fault(name="all killed (-9), restarted", inject=on_each(Server.kill, Server.start), opens=True)
STOPPED = Fault(name="all stopped, continued", inject=on_each(Server.pause, Server.resume), opens=True)
FULL = Fault(name="OOM", inject=commanded(_FULL, _NOT_FULL), is_told=False)
LOCKED = Fault(
    name="NOAUTH",
    inject=commanded(
        [("CONFIG", "SET", "requirepass", "secret"), _KILL], [("CONFIG", "SET", "requirepass", "")]
    ),
    opens=True,
)
CROWDED = Fault(
    name="MAXCLIENTS",
    inject=commanded([("CONFIG", "SET", "maxclients", 1), _KILL], [("CONFIG", "SET", "maxclients", 10_000)]),
    opens=True,
)
FLUSHED = Fault(name="FLUSHALL again and again", inject=again_and_again(_flush))
EVICTING = Fault(name="eviction storm", inject=again_and_again(_flood, _unlimited))
ABSENT = Fault(
    name="absent at start", inject=on_each(lambda _: None, Server.start), opens=True, is_begun=True
)

OF_A_SERVER = (
    KILLED,
    STOPPED,
    FULL,
    Fault(name="READONLY", inject=_demoted, is_told=False),
    Fault(name="LOADING", inject=_loading, opens=True),
    LOCKED,
    CROWDED,
    FLUSHED,
    EVICTING,
)
OF_A_CLUSTER = (
    Fault(
        name="a node killed (-9), restarted",
        inject=on_some(slice(2, 3), Server.kill, Server.start),
        opens=True,
    ),
    Fault(name="a node hung", inject=on_some(slice(1, 2), Server.pause, Server.resume), opens=True),
    Fault(name="slots migrating", inject=_migrating),
    KILLED,
    STOPPED,
    FULL,
    LOCKED,
    CROWDED,
    FLUSHED,
    EVICTING,
    # Last: its roles are others afterwards.
    Fault(name="failover", inject=_failed_over, opens=True, hold_s=0.5, lasts=False),
)
