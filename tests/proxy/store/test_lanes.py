import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import hiredis
import pytest
import uvloop

from proxy.settings import Redis
from proxy.store.lanes import Command, Lanes, Request
from proxy.store.redis import Kind, RedisTier
from proxy.store.replies import Limits
from proxy.store.shared import RedisDown
from proxy.tasks import Tasks
from tests import servers
from tests.faults import FaultProxy, fault_proxy
from tests.log_lines import capture_logs
from tests.redis_tiers import SLACK, TIMEOUT, Seen, back_within, needs_redis, seconds, tier_on, url_of

pytestmark = needs_redis

# Long enough for a busy machine: what is refused at once is, and does not wait for it.
LONG = 0.5
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """The URL of a server that talks so on every connection."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (me := asyncio.current_task()) is not None:
            tasks.add(me)
        try:
            await talk(reader, writer)
        except (OSError, asyncio.CancelledError):
            # Cancelled: the test is over, and nobody awaits us.
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def commands(reader: asyncio.StreamReader) -> AsyncIterator[list[Any]]:
    """What a client asks, until it leaves."""
    parser = hiredis.Reader()
    while data := await reader.read(65536):
        parser.feed(data)
        while (command := parser.gets()) is not False:
            yield command


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


# --- what rides together ---


async def test_a_burst_opens_few_connections_and_every_caller_gets_its_own_value(
    server: servers.Server,
) -> None:
    # 5 s: however slow the machine is, nobody may go without.
    async with tier_on(server.url, timeout=5) as (tier, seen):
        for number in range(200):
            await tier.put(f"k{number}", b"%d" % number, 60)
        values = await asyncio.gather(*(tier.get(f"k{number % 200}") for number in range(600)))

        assert values == [b"%d" % (number % 200) for number in range(600)]
        assert seen.failures == {}
        # Eight carry a crowd; and the one that asks here.
        assert int(server.info("clients")["connected_clients"]) <= 9


async def test_what_is_asked_in_one_turn_shares_a_round_trip(server: servers.Server) -> None:
    async with tier_on(server.url, timeout=5) as (tier, _):
        await tier.put("k", b"v", 60)

        async def reads_of(callers: int) -> int:
            with server.session() as session:
                before = reads(session)
                assert await asyncio.gather(*(tier.get("k") for _ in range(callers))) == [b"v"] * callers
                # One is the question itself.
                return reads(session) - before - 1

        # Sixteen ride together.
        assert await reads_of(16) == 1
        # More open more lanes, which show first that they are well.
        await reads_of(64)
        await asyncio.sleep(0.1)
        assert (await reads_of(64), int(server.info("clients")["connected_clients"])) == (4, 5)


def reads(session: servers.Session) -> int:
    (found,) = re.findall(rb"total_reads_processed:([0-9]+)", session.command("INFO", "stats"))
    return int(found)


async def test_a_request_does_not_wait_for_the_answers_to_those_before_it() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = []
        async for command in commands(reader):
            if command[0] == b"PING":
                writer.write(b"+PONG\r\n")
                continue
            asked.append(command[1])
            # The first is answered when the second is there, and not before.
            if len(asked) == 2:
                writer.write(b"".join(map(bulk, asked)))

    async with talking(talk) as url, tier_on(url, timeout=5) as (tier, seen):
        first = asyncio.ensure_future(tier.get("a"))
        await asyncio.sleep(0.05)
        assert not first.done()
        assert await tier.get("b") == b"crowdgate:b"
        assert (await first, seen.failures) == (b"crowdgate:a", {})


async def test_answers_cut_anywhere_are_each_callers_own(server: servers.Server) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = 0
        async for command in commands(reader):
            if command[0] == b"PING":
                answer = b"+PONG\r\n"
            elif command[0] == b"PTTL":
                answer = b":60000\r\n"
            else:
                answer = bulk(command[1] * 20)
            asked += 1
            for at in range(0, len(answer), asked % 97 + 1):
                writer.write(answer[at : at + asked % 97 + 1])
                await asyncio.sleep(0)

    async with talking(talk) as url, tier_on(url, timeout=5) as (tier, seen):
        keys = [f"k{number}" for number in range(300)]
        found = await asyncio.gather(*(tier.get_with_ttl(key) for key in keys))
        assert found == [(f"crowdgate:{key}".encode() * 20, 60.0) for key in keys]
        assert seen.failures == {}


async def test_connections_are_made_four_at_a_time_and_no_more_while_they_do(faulty: FaultProxy) -> None:
    faulty.set(delay_s=0.02)
    async with tier_on(url_of(faulty), timeout=5, max_connections=200) as (tier, seen):
        before = faulty.accepted
        await asyncio.gather(*(tier.get(f"k{number}") for number in range(64)))
        assert faulty.accepted - before == 4
        # One at a time, the next before the last is back: there is room for them.
        callers = []
        for number in range(12):
            callers.append(asyncio.ensure_future(tier.get(f"k{number}")))
            await asyncio.sleep(0.001)
        await asyncio.gather(*callers)
        assert faulty.accepted - before == 4
        assert seen.failures == {}


async def test_a_lane_that_is_slow_gets_no_more_while_there_are_others() -> None:
    accepted = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        # start() looks on the first one, and leaves; the second is the lane that hangs.
        hangs = accepted == 2
        async for command in commands(reader):
            if command[0] == b"PING":
                writer.write(b"+PONG\r\n")
            elif not hangs:
                writer.write(bulk(command[1]))

    async with talking(talk) as url, tier_on(url, timeout=1.0, breaker_failures=100) as (tier, seen):
        stuck = asyncio.ensure_future(tier.get("stuck"))
        # A lane is slow after a fifth of the timeout.
        await asyncio.sleep(0.25)
        for number in range(50):
            assert await tier.get(f"k{number}") == f"crowdgate:k{number}".encode()
        assert (await stuck, seen.failures) == (None, {Kind.TIMEOUT: 1})


async def test_at_most_so_many_are_under_way() -> None:
    under_way, most = 0, 0
    go_on = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        async for command in commands(reader):
            if command[0] == b"PING":
                writer.write(b"+PONG\r\n")
                continue
            under_way += 1
            most = max(most, under_way)
            await go_on.wait()
            under_way -= 1
            writer.write(bulk(command[1]))

    async with talking(talk) as url, tier_on(url, timeout=5, max_connections=3) as (tier, seen):
        callers = [asyncio.ensure_future(tier.get(f"k{number}")) for number in range(20)]
        await asyncio.sleep(0.1)
        go_on.set()
        assert None not in await asyncio.gather(*callers)
        assert (most <= 3, seen.failures) == (True, {})


# --- what goes wrong ---


async def test_a_caller_that_leaves_takes_nothing_with_it(faulty: FaultProxy) -> None:
    async with tier_on(url_of(faulty), max_connections=2, timeout=0.5) as (tier, seen):
        await tier.put("k", b"v", 60)
        accepted = faulty.accepted
        faulty.set(delay_s=0.02)
        for _ in range(5):
            callers = [asyncio.ensure_future(tier.get("k")) for _ in range(6)]
            await asyncio.sleep(0.005)
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
        faulty.set()
        await asyncio.sleep(0.1)

        assert [await tier.get("k") for _ in range(3)] == [b"v"] * 3
        assert seen.failures == {}
        assert faulty.accepted - accepted <= 1


async def test_a_restart_that_no_request_notices_costs_not_even_a_miss(server: servers.Server) -> None:
    async with tier_on(server.url, timeout=0.5) as (tier, seen):
        await tier.put("k", b"v", 60)
        assert await tier.stream_last_id("log") == "0-0"
        await tier.stream_after("log", "0-0", block_ms=1, count=1)
        server.restart()
        server.command("SET", "crowdgate:k", "w")
        await asyncio.sleep(0.05)

        assert await tier.get("k") == b"w"
        assert (await tier.stream_after("log", "0-0", block_ms=1, count=1)).records == []
        assert seen.failures == {}


async def test_an_answer_to_nothing_costs_the_connection_and_misleads_nobody() -> None:
    accepted = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        async for command in commands(reader):
            if command[0] == b"PING":
                writer.write(b"+PONG\r\n")
            elif command[1].endswith(b"more"):
                writer.write(bulk(command[1]) + bulk(b"somebody else's"))
            elif command[1].endswith(b"half"):
                writer.write(bulk(command[1]) + b"$5\r\nhal")
            else:
                writer.write(bulk(command[1]))

    async with talking(talk) as url, tier_on(url, timeout=5) as (tier, seen):
        await tier.get("first")
        for odd in ("more", "half"):
            before = accepted
            assert await tier.get(odd) == f"crowdgate:{odd}".encode()
            assert await tier.get("next") == b"crowdgate:next"
            assert (accepted, seen.failures) == (before + 1, {})


async def test_a_lane_that_never_answers_is_given_up(faulty: FaultProxy) -> None:
    async with tier_on(url_of(faulty), timeout=0.3, breaker_failures=1000) as (tier, seen):
        await tier.put("k", b"v", 60)
        faulty.set(stall=True)
        assert await tier.get("k") is None
        # It looks on another connection, which does not answer, either.
        assert seen.failures == {Kind.TIMEOUT: 1}
        async with asyncio.timeout(2):
            while faulty.open_connections:
                await asyncio.sleep(0.01)
        faulty.set()
        await back_within(tier, 5)


async def test_a_server_that_takes_no_more_clients_serves_those_it_has() -> None:
    accepted = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        if accepted > 2:
            writer.write(b"-ERR max number of clients reached\r\n")
            return
        async for command in commands(reader):
            writer.write(b"+PONG\r\n" if command[0] == b"PING" else bulk(command[1]))
            await asyncio.sleep(0.001)

    async with talking(talk) as url, tier_on(url, timeout=5) as (tier, seen):
        assert await tier.get("k") == b"crowdgate:k"
        for _ in range(3):
            assert None not in await asyncio.gather(*(tier.get(f"k{number}") for number in range(64)))
        assert seen.failures == {}
        # And it is not asked again and again.
        assert accepted <= 2 + 4


async def test_a_server_that_became_a_replica_is_looked_up_anew(
    faulty: FaultProxy, server: servers.Server
) -> None:
    async with tier_on(url_of(faulty), timeout=LONG) as (tier, seen):
        await tier.put("k", b"v", 60)
        server.command("REPLICAOF", "127.0.0.1", str(servers.free_port()))
        accepted = faulty.accepted
        for _ in range(20):
            assert not await tier.put("k", b"w", 60)
            assert await tier.get("k") == b"v"
        # Its name may lead to another one by now. But not for each.
        assert faulty.accepted - accepted == 1
        assert seen.failures == {Kind.READONLY: 20}


async def test_lanes_that_are_renewed_keep_nobody_waiting() -> None:
    go_on = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for command in commands(reader):
            if command[0] == b"PING":
                writer.write(b"+PONG\r\n")
                continue
            if command[1].endswith(b"stuck"):
                await go_on.wait()
            writer.write(bulk(command[1]))

    async with talking(talk) as url, tier_on(url, timeout=5) as (tier, seen):
        stuck = asyncio.ensure_future(tier.get("stuck"))
        await asyncio.sleep(0.05)
        await tier._link.mend("")
        assert await tier.get("k") == b"crowdgate:k"
        assert not stuck.done()
        go_on.set()
        # It arrives all the same.
        assert (await stuck, seen.failures) == (b"crowdgate:stuck", {})


async def test_outages_leave_no_tasks_and_no_connections(server: servers.Server) -> None:
    before = len(asyncio.all_tasks())
    async with tier_on(server.url, timeout=0.2, probe_every=0.05) as (tier, _):
        assert await tier.put("k", b"v", 60)
        for _ in range(3):
            server.pause()
            for _ in range(5):
                await asyncio.gather(*(tier.get("k") for _ in range(100)))
            server.resume()
            await back_within(tier, 5)
        await asyncio.sleep(0.5)
        # The prober stays.
        assert len(asyncio.all_tasks()) - before <= 1
        assert int(server.info("clients")["connected_clients"]) <= 20
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) == before
    assert int(server.info("clients")["connected_clients"]) == 1


# --- a connection that cannot be had ---


@pytest.mark.parametrize("is_well_at_first", [True, False], ids=["later", "from the start"])
@pytest.mark.parametrize("answer", [b"+OK\r\n", b"*2\r\n$5\r\nproto\r\n:2\r\n"], ids=["no map", "a list"])
async def test_a_greeting_that_redis_py_cannot_read_takes_redis_out_and_is_not_tried_again_and_again(
    answer: bytes, is_well_at_first: bool
) -> None:
    with servers.redis("--requirepass", "pw") as server:
        async with fault_proxy(server.port) as proxy:
            proxy.set(answer=None if is_well_at_first else answer)
            async with tier_on(f"redis://:pw@127.0.0.1:{proxy.port}?protocol=3") as (tier, seen):
                await tier.put("k", b"v", 60)
                proxy.set(answer=answer)
                proxy.reset_all()
                await asyncio.sleep(0.02)
                took, values = await seconds(asyncio.gather(*(tier.get("k") for _ in range(20))))
                await asyncio.sleep(0.1)
                assert (values, took < TIMEOUT, tier.up) == ([None] * 20, True, False)
                assert seen.failures.keys() <= {Kind.PROTOCOL, Kind.CONNECTION}
                accepted = proxy.accepted
                await asyncio.sleep(0.5)
                # A probe every 0.2 s.
                assert proxy.accepted - accepted <= 3

                proxy.set()
                async with asyncio.timeout(5):
                    while not await tier.put("k", b"v", 60):
                        await asyncio.sleep(0.02)


def no_database(server: servers.Server) -> str:
    return f"{server.url}/99"


def no_sentinel(server: servers.Server) -> str:
    return server.url


def may_not_select(server: servers.Server) -> str:
    server.command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-select")
    return f"redis://app:pw@127.0.0.1:{server.port}/1"


@pytest.mark.parametrize("url", [no_database, no_sentinel, may_not_select])
async def test_a_redis_that_refuses_every_connection_is_out_and_the_log_has_its_words(
    server: servers.Server, url: Callable[[servers.Server], str]
) -> None:
    mode = "sentinel" if url is no_sentinel else "standalone"
    with capture_logs() as logs:
        async with tier_on(url(server), mode=mode) as (tier, seen):
            assert [await tier.get("k") for _ in range(20)] == [None] * 20
            assert (tier.up, seen.failures) == (False, {})
    (out,) = [log for log in logs if log["event"] == "redis is out"]
    assert re.search("DB index|unknown command|no permissions", out["error"])


async def test_neither_is_a_password_in_the_log_where_redis_repeats_what_it_was_asked(
    faulty: FaultProxy,
) -> None:
    # As a Redis of before 6 does.
    faulty.set(answer=b"-ERR unknown command `AUTH`, with args beginning with: `secret`, \r\n")
    with capture_logs() as logs:
        async with tier_on(f"redis://:secret@127.0.0.1:{faulty.port}") as (tier, _):
            assert not tier.up
    (out,) = [log for log in logs if log["event"] == "redis is out"]
    assert out["error"] == "unknown command `AUTH`"


async def test_a_proxy_that_pings_though_its_redis_is_gone_is_out() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for command in commands(reader):
            writer.write(b"+PONG\r\n" if command[0] == b"PING" else b"-upstream failure\r\n")

    async with talking(talk) as url, tier_on(url, probe_every=0.05) as (tier, seen):
        assert (tier.up, await tier.get("k")) == (True, None)
        await asyncio.sleep(0.3)
        assert (tier.up, seen.ups, seen.failures) == (False, [True, False], {Kind.OTHER: 1})


# --- the end ---


def idle_lanes(max_requests: int) -> Lanes:
    """Lanes that never get a connection."""
    return Lanes(
        lambda: pytest.fail("connects"),
        max_requests,
        lambda _, name: pytest.fail(name),
        limits=Limits(value_bytes=1000),
    )


async def test_tasks_that_are_cancelled_while_lanes_are_opened_open_no_more_and_the_tier_closes(
    server: servers.Server,
) -> None:
    for turns in range(5):
        tasks, seen = Tasks(), Seen()
        tier = RedisTier(Redis(url=server.url, timeout=1.0), seen, tasks)
        await tier.start()
        before = int(server.info("stats")["total_connections_received"])
        asked = tasks.spawn(tier.get("k"), "get")
        waiting = asyncio.ensure_future(tier.get("k"))
        # From not yet begun to under way.
        for _ in range(turns):
            await asyncio.sleep(0)
        took, _ = await seconds(tasks.close(1.0))
        closing, _ = await seconds(tier.close())

        assert (asked.cancelled(), await waiting, took < 0.5, closing < 0.5) == (True, None, True, True)
        # One is the question itself.
        assert int(server.info("stats")["total_connections_received"]) - before <= 5


async def test_lanes_that_are_closed_end_those_that_wait_and_those_that_come() -> None:
    ended: list[object] = []
    lanes = idle_lanes(0)
    lanes.send(Request(b"k", (), ended.append))
    await lanes.close()
    lanes.send(Request(b"k", (), ended.append))
    assert [str(error) for error in ended] == ["closed", "closed"]


async def test_what_nobody_waits_for_any_more_is_not_sent() -> None:
    ended: list[object] = []
    lanes = idle_lanes(1)
    request = Request(b"k", (), ended.append)
    lanes.send(request)
    request.is_dropped = True
    assert (lanes._batch(1), [str(error) for error in ended]) == ([], ["nobody waits for it"])


async def test_what_was_sent_arrives_before_the_lanes_close(server: servers.Server) -> None:
    async with tier_on(server.url, timeout=5) as (tier, seen):
        puts = [asyncio.ensure_future(tier.put(f"k{number}", b"v" * 10_000, 60)) for number in range(60)]
        await asyncio.sleep(0)
        await tier.close()
        await asyncio.gather(*puts)
        assert seen.failures == {}
    assert server.command("DBSIZE") == 60


# --- the loop that the proxy runs on ---


@pytest.mark.parametrize("protocol", [2, 3])
def test_uvloop_carries_it_as_well(protocol: int) -> None:
    async def main(server: servers.Server) -> None:
        url = f"redis://:secret@127.0.0.1:{server.port}/2?protocol={protocol}"
        async with tier_on(url, timeout=5) as (tier, seen):
            large = os.urandom(1_000_000)
            assert await tier.put("large", large, 60)
            for number in range(100):
                await tier.put(f"k{number}", b"%d" % number, 60)
            values = await asyncio.gather(*(tier.get(f"k{number % 100}") for number in range(500)))
            assert values == [b"%d" % (number % 100) for number in range(500)]
            assert await asyncio.gather(*(tier.get("large") for _ in range(8))) == [large] * 8
            assert seen.failures == {}
            server.restart()
            await asyncio.sleep(0.05)
            assert (await tier.get("large"), seen.failures) == (None, {})

    with (
        servers.redis("--requirepass", "secret") as server,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(main(server))


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_loop_that_stood_still_costs_no_connection(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main(server: servers.Server) -> None:
        async with tier_on(server.url, timeout=0.3, breaker_failures=1000) as (tier, _):
            await tier.put("k", b"v", 60)
            with server.session() as session:

                def stand_still() -> None:
                    # Longer than an answer may take; meanwhile they arrive.
                    server.resume()
                    time.sleep(0.75)

                for stood in (in_a_task, while_it_reads):
                    before = connections(session)
                    server.pause()
                    callers = [asyncio.ensure_future(tier.get("k")) for _ in range(10)]
                    await asyncio.sleep(0.05)
                    await stood(stand_still)
                    await asyncio.gather(*callers)
                    assert await tier.get("k") == b"v"
                    # The breaker looks on one of its own.
                    assert connections(session) - before <= 1

    with servers.redis() as server, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main(server))


async def in_a_task(work: Callable[[], None]) -> None:
    work()


async def while_it_reads(work: Callable[[], None]) -> None:
    """In the middle of a turn: between what the loop has read and what it is about to read."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        loop.remove_reader(ours)
        work()
        woken.set_result(None)

    loop.add_reader(ours, read)
    theirs.send(b"x")
    await woken
    ours.close()
    theirs.close()


def connections(session: servers.Session) -> int:
    (found,) = re.findall(rb"total_connections_received:([0-9]+)", session.command("INFO", "stats"))
    return int(found)


# --- answers that announce what nobody could take ---


@contextmanager
def bounded(*, cpu_s: float, bytes_: int) -> Iterator[None]:
    """Fails if more CPU was used, or the process was larger for an instant."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    # The kernel's own high-water mark, from here on.
    clear.write_text("5")
    before = _peak(status)
    cpu = time.process_time()
    yield
    assert time.process_time() - cpu < cpu_s
    assert _peak(status) - before < bytes_


def _peak(status: Path) -> int:
    (found,) = re.findall(r"VmHWM:\s+([0-9]+) kB", status.read_text())
    return int(found) * 1024


MIB = 1024 * 1024
ABSURD = {
    "a list of all numbers": (b"*4294967295\r\n", Kind.PROTOCOL),
    "a list of 2 GB": (b"*268435455\r\n", Kind.PROTOCOL),
    "lists in a list, 2 GB each": (b"*1\r\n*1\r\n*268435455\r\n", Kind.PROTOCOL),
    "a map of 2 GB": (b"%134217727\r\n", Kind.PROTOCOL),
    "a push of 2 GB": (b">268435455\r\n", Kind.PROTOCOL),
    "a value of 4 GB": (b"$4294967295\r\n" + b"x" * MIB, Kind.PROTOCOL),
    "an error of 4 GB": (b"!4294967295\r\n", Kind.PROTOCOL),
    "a status without an end": (b"+" + b"x" * MIB, Kind.PROTOCOL),
    "an error without an end": (b"-" + b"x" * MIB, Kind.PROTOCOL),
    "deep nesting": (b"*1\r\n" * 100_000, Kind.PROTOCOL),
    "a value that never comes": (b"$2000000\r\nx", Kind.TIMEOUT),
}


ASKS: dict[str, Callable[[RedisTier], Awaitable[Any]]] = {
    "a value": lambda tier: tier.get("k"),
    "a value and its time": lambda tier: tier.get_with_ttl("k"),
    "a number": lambda tier: tier.delete("k"),
    "a list": lambda tier: tier.stream_last_id("log"),
    "a list that is waited for": lambda tier: tier.stream_after("log", "0-0", block_ms=1, count=1),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
@pytest.mark.parametrize(("answer", "kind"), ABSURD.values(), ids=ABSURD.keys())
async def test_what_an_answer_announces_is_not_believed(
    faulty: FaultProxy, answer: bytes, kind: Kind, ask: Callable[[RedisTier], Awaitable[Any]]
) -> None:
    async with tier_on(url_of(faulty), timeout=LONG, breaker_failures=1000) as (tier, seen):
        await tier.put("k", b"v", 60)
        faulty.set(answer=answer)
        with bounded(cpu_s=0.1, bytes_=8 * MIB), suppress(RedisDown):
            took, value = await seconds(ask(tier))
            assert (value in {None, 0}, took < LONG + SLACK) == (True, True)
        assert seen.failures == {kind: 1}

        faulty.set()
        await back_within(tier, 5)
        assert (await tier.stream_after("log", "0-0", block_ms=1, count=1)).records == []


@pytest.mark.parametrize("mode", ["standalone", "cluster", "sentinel"])
@pytest.mark.parametrize("answer", [answer for answer, _ in ABSURD.values()], ids=ABSURD.keys())
async def test_neither_while_connecting(faulty: FaultProxy, answer: bytes, mode: str) -> None:
    faulty.set(answer=answer)
    with bounded(cpu_s=0.2, bytes_=8 * MIB):
        started = time.monotonic()
        async with tier_on(f"redis://:password@127.0.0.1:{faulty.port}/1", mode=mode) as (tier, _):
            assert (await tier.get("k"), tier.up) == (None, False)
            assert time.monotonic() - started < TIMEOUT + LONG


FLOODS = {
    "a status": (b"+", b"x"),
    "a list of values": (b"*60000\r\n", b"$1000\r\n" + b"x" * 1000 + b"\r\n"),
    "a list of lists": (b"*60000\r\n", b"*1\r\n"),
    "answers to nothing": (b"", b"$1\r\nv\r\n"),
    "pushes": (b"", b">2\r\n+a\r\n+b\r\n"),
}


@pytest.mark.parametrize(("start", "piece"), FLOODS.values(), ids=FLOODS.keys())
async def test_a_flood_ends_soon(start: bytes, piece: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for command in commands(reader):
            if command[0] == b"PING":
                writer.write(b"+PONG\r\n")
                continue
            writer.write(start)
            while True:
                writer.write(piece * (65536 // len(piece)))
                await writer.drain()

    async with talking(talk) as url, tier_on(url, timeout=LONG, breaker_failures=1000) as (tier, seen):
        # Also of the one that floods.
        with bounded(cpu_s=1.0, bytes_=32 * MIB):
            for _ in range(3):
                took, value = await seconds(tier.get("k"))
                assert (value in {None, b"v"}, took < LONG + SLACK) == (True, True)
                with pytest.raises(RedisDown):
                    await tier.stream_after("log", "0-0", block_ms=1, count=1)
        assert seen.failures.keys() <= {Kind.PROTOCOL, Kind.TIMEOUT, Kind.CONNECTION}


# --- RESP3 ---

ASKED = (
    ("SET", "{k}a", "v", "NX", "PX", 60_000),
    ("SET", "{k}a", "v", "NX"),
    ("GET", "{k}a"),
    ("GET", "{k}none"),
    ("GETRANGE", "{k}none", 0, 5),
    ("PTTL", "{k}none"),
    ("HSET", "{k}h", "f", "1", "g", "2"),
    ("HGETALL", "{k}h"),
    ("HGETALL", "{k}none"),
    ("HDEL", "{k}h", "f"),
    ("XADD", "{k}s", "1-1", "a", "b", "c", "d"),
    ("XADD", "{k}s", "2-1", "a", "b"),
    ("XREAD", "COUNT", 5, "STREAMS", "{k}s", "0"),
    ("XREAD", "COUNT", 5, "STREAMS", "{k}s", "9-9"),
    ("XRANGE", "{k}s", "-", "+"),
    ("XREVRANGE", "{k}s", "+", "-", "COUNT", 1),
    ("EVAL", "return {1, 'a', {2, 3}, false}", 1, "{k}a"),
    ("EVAL", "return nil", 1, "{k}a"),
    ("EVAL", "return redis.call('HGETALL', '{k}h')", 1, "{k}h"),
    ("ZADD", "{k}z", "1.5", "m"),
    ("ZSCORE", "{k}z", "m"),
    ("SADD", "{k}t", "m"),
    ("SMEMBERS", "{k}t"),
    ("LPUSH", "{k}a", "x"),
    ("UNLINK", "{k}a"),
    ("NOSUCH",),
)


async def test_both_protocols_are_answered_with_the_same_values(server: servers.Server) -> None:
    async def answers(url: str) -> list[Any]:
        async with tier_on(url, timeout=5) as (tier, _):
            outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            asked = tuple(Command(args, (object,)) for args in ASKED)
            tier._link.send(Request(b"{k}", asked, outcome.set_result))
            await outcome
            waited = await tier._link.wait(
                b"{k}",
                Command(("XREAD", "BLOCK", 5, "STREAMS", "{k}s", "0"), list),
                Command(("XREAD", "BLOCK", 5, "STREAMS", "{k}s", "$"), (list, type(None))),
            )
            return [repr(reply) for reply in [*outcome.result(), *waited]]

    second, third = await answers(f"{server.url}/1"), await answers(f"{server.url}/2?protocol=3")
    assert len(second) == len(ASKED) + 2
    assert second == third
