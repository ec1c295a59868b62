"""Every test talks to a real server; faults come from signals and from a proxy between. Times are what the tier promises."""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from proxy.store.redis import Kind, RedisTier
from proxy.store.shared import Put, RedisDown
from tests import servers
from tests.faults import FaultProxy
from tests.log_lines import capture_logs
from tests.redis_tiers import SLACK, TIMEOUT, back_within, needs_redis, seconds, tier_on, url_of

pytestmark = needs_redis


# --- what it does ---


async def test_what_is_put_is_got_until_its_time_is_over(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, seen):
        assert await tier.get("k") is None
        assert await tier.put("k", b"v\x00\xff", 10)
        assert await tier.get("k") == b"v\x00\xff"
        value, ttl = await tier.get_with_ttl("k") or (None, 0)
        assert (value, 9 < ttl <= 10) == (b"v\x00\xff", True)
        assert await tier.put("short", b"v", 0.02)
        await asyncio.sleep(0.04)
        assert await tier.get_with_ttl("short") is None
        assert (seen.failures, seen.answered["get"], seen.ups) == (Counter(), 4, [True])


@pytest.mark.parametrize("ttl_s", [0, -1, 0.0004], ids=str)
async def test_a_ttl_that_is_over_is_not_stored(server: servers.Server, ttl_s: float) -> None:
    async with tier_on(server.url) as (tier, _):
        assert not await tier.put("k", b"v", ttl_s)
        assert await tier.get("k") is None


async def test_delete_counts_what_there_was(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, _):
        await tier.put("a", b"1", 10)
        await tier.put("b", b"2", 10)
        assert [await tier.delete("a", "b", "c"), await tier.delete("a"), await tier.delete()] == [2, 0, 0]


async def test_every_key_has_the_prefix_and_every_string_is_a_key(server: servers.Server) -> None:
    keys = ["k", "ключ", "with space\r\n", "lone \udcff", "lone \ud800", ""]
    async with tier_on(server.url, prefix="mine") as (tier, _):
        for key in keys:
            assert await tier.put(key, key.encode("utf-8", "surrogatepass") or b"empty", 10)
        values = [await tier.get(key) for key in keys]

    assert values == [key.encode("utf-8", "surrogatepass") or b"empty" for key in keys]
    assert all(name.startswith(b"mine:") for name in server.command("KEYS", "*"))


async def test_a_value_without_an_end_says_so(server: servers.Server) -> None:
    server.command("SET", "crowdgate:k", "v")
    async with tier_on(server.url) as (tier, _):
        assert await tier.get_with_ttl("k") == (b"v", float("inf"))


async def test_too_large_a_value_is_neither_stored_nor_fetched(server: servers.Server) -> None:
    async with tier_on(server.url, max_value=1000) as (tier, seen):
        assert not await tier.put("k", b"x" * 1001, 10)
        assert await tier.put("k", b"x" * 1000, 10)
        assert await tier.get("k") == b"x" * 1000

        server.command("SETRANGE", "crowdgate:k", 300_000_000, "y")
        before = int(server.info("stats")["total_net_output_bytes"])
        assert [await tier.get("k"), await tier.get_with_ttl("k")] == [None, None]
        assert int(server.info("stats")["total_net_output_bytes"]) - before < 10_000
        assert seen.failures == {Kind.TOO_LARGE: 3}
        # The next answer from the API heals it.
        assert await tier.put("k", b"v", 10)
        assert await tier.get("k") == b"v"


async def test_a_key_of_another_type_is_a_miss_that_put_overwrites(server: servers.Server) -> None:
    server.command("LPUSH", "crowdgate:k", "v")
    async with tier_on(server.url) as (tier, seen):
        assert await tier.get("k") is None
        assert await tier.get_with_ttl("k") is None
        assert await tier.put("k", b"v", 10)
        assert await tier.get("k") == b"v"
        assert (seen.failures, tier.up) == ({Kind.WRONGTYPE: 2}, True)


async def test_a_flushed_redis_is_a_plain_miss(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, seen):
        await tier.put("k", b"v", 10)
        server.command("FLUSHALL")
        assert await tier.get("k") is None
        assert seen.failures == {}


# --- Redis is absent, dies, hangs, is slow ---


async def test_an_absent_redis_costs_nothing_and_is_used_when_it_comes() -> None:
    port = servers.free_port()
    started = time.monotonic()
    async with tier_on(f"redis://127.0.0.1:{port}") as (tier, seen):
        assert time.monotonic() - started < TIMEOUT + SLACK
        took, value = await seconds(tier.get("k"))
        assert (value, took < 0.02, tier.up, seen.ups) == (None, True, False, [False])

        with servers.redis(port=port) as server:
            server.command("SET", "crowdgate:k", "v")
            assert await back_within(tier, 5) < 1
            assert tier.up
        assert seen.ups[-1]


async def test_a_name_that_does_not_resolve_and_an_address_that_does_not_answer_cost_at_most_the_timeout() -> (
    None
):
    for host in ("no-such-host.invalid", "192.0.2.1"):
        took = time.monotonic()
        async with tier_on(f"redis://{host}:6379") as (tier, _):
            assert time.monotonic() - took < TIMEOUT + SLACK
            assert not tier.up
            took, value = await seconds(tier.get("k"))
            assert (value, took < 0.002) == (None, True)


async def test_a_redis_that_is_killed_delays_nobody_and_is_used_again_after_its_restart(
    server: servers.Server,
) -> None:
    async with tier_on(server.url) as (tier, seen):
        await tier.put("k", b"v", 60)
        server.kill()
        times = [(await seconds(tier.get("k")))[0] for _ in range(50)]
        assert max(times) < 0.02
        await asyncio.sleep(0.1)
        assert not tier.up

        server.start()
        server.command("SET", "crowdgate:k", "v")
        assert await back_within(tier, 5) < 1
        assert seen.ups == [True, False, True]


async def test_a_hung_redis_delays_calls_by_the_timeout_for_an_instant_and_is_used_again(
    server: servers.Server,
) -> None:
    async with tier_on(server.url, probe_every=1.0) as (tier, seen):
        await tier.put("k", b"v", 60)
        server.pause()
        try:
            took, value = await seconds(tier.get("k"))
            assert (value, took < TIMEOUT + 0.03) == (None, True)
            # Somebody always asks.
            delayed = time.monotonic()
            while tier.up:
                await tier.get("k")
            assert time.monotonic() - delayed < 4 * TIMEOUT
            await asyncio.sleep(1)
            times = [(await seconds(tier.get("k")))[0] for _ in range(100)]
            assert max(times) < 0.002
        finally:
            server.resume()
        assert await back_within(tier, 5) < 1.5
        assert seen.ups == [True, False, True]


async def test_five_hundred_callers_of_a_hung_redis_all_return_in_time(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, seen):
        await tier.put("k", b"v", 60)
        server.pause()
        try:
            took, values = await seconds(asyncio.gather(*(tier.get("k") for _ in range(500))))
        finally:
            server.resume()
        assert values == [None] * 500
        assert took < TIMEOUT + 0.1
        assert sum(seen.failures.values()) == 500
        assert seen.failures.keys() <= {Kind.TIMEOUT, Kind.BUSY}
        assert await back_within(tier, 5) < 1


async def test_a_hung_redis_at_the_start_is_waited_for_no_longer_than_eight_timeouts(
    server: servers.Server,
) -> None:
    server.command("SET", "crowdgate:k", "v")
    server.pause()
    try:
        started = time.monotonic()
        async with tier_on(server.url) as (tier, _):
            assert time.monotonic() - started < 8 * TIMEOUT + SLACK
            assert not tier.up
            server.resume()
            await back_within(tier, 5)
    finally:
        server.resume()


async def test_a_redis_thirty_milliseconds_away_is_used(faulty: FaultProxy) -> None:
    faulty.set(delay_s=0.03)
    async with tier_on(f"{url_of(faulty)}/1") as (tier, seen):
        # SELECT is one round trip too many for start() and for a connection's first call; the second finds it ready.
        await asyncio.sleep(0.1)
        await tier.put("k", b"v", 60)
        await asyncio.sleep(0.1)
        seen.failures.clear()
        await tier.put("k", b"v", 60)
        for _ in range(5):
            took, value = await seconds(tier.get("k"))
            assert (value, 0.03 <= took < TIMEOUT + SLACK) == (b"v", True)
        assert (seen.failures, tier.up) == ({}, True)


async def test_a_redis_that_became_too_far_away_is_taken_out_and_back(faulty: FaultProxy) -> None:
    async with tier_on(url_of(faulty)) as (tier, _):
        await tier.put("k", b"v", 60)
        faulty.set(delay_s=0.2)
        took: list[float] = []
        # Where the machine is busy, a time-out or two are the loop's own.
        while tier.up and len(took) < 20:
            took.append((await seconds(tier.get("k")))[0])
        assert max(took) < TIMEOUT + SLACK
        assert not tier.up
        faulty.set()
        await back_within(tier, 5)


async def test_an_event_loop_that_stood_still_does_not_take_redis_out(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, seen):
        await tier.put("k", b"v", 60)
        for _ in range(3):
            server.pause()
            callers = [asyncio.ensure_future(tier.get("k")) for _ in range(20)]
            # Sent by now, and answered while nobody looks.
            await asyncio.sleep(0.2 * TIMEOUT)
            server.resume()
            time.sleep(1.4 * TIMEOUT)
            assert await asyncio.gather(*callers) == [b"v"] * 20
        assert (tier.up, seen.failures) == (True, {})


async def test_timeouts_while_our_own_loop_was_late_do_not_take_redis_out(server: servers.Server) -> None:
    async with tier_on(server.url, breaker_failures=3) as (tier, seen):
        await tier.put("k", b"v", 60)
        for _ in range(6):
            server.pause()
            callers = [asyncio.ensure_future(tier.get("k")) for _ in range(20)]
            await asyncio.sleep(0.2 * TIMEOUT)
            time.sleep(1.5 * TIMEOUT)
            assert await asyncio.gather(*callers) == [None] * 20
            server.resume()
            # For the look that this asks for.
            await asyncio.sleep(0.5 * TIMEOUT)
        assert (tier.up, seen.failures.total(), await tier.get("k")) == (True, 120, b"v")


async def test_nor_does_a_look_that_is_late_itself(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, seen):
        await tier.put("k", b"v", 60)
        # Each step of connecting takes longer than it may.
        busy = BusyLoop(1.5 * TIMEOUT)
        found = await asyncio.gather(tier.get("k"), tier._look(""), tier.get("k"))
        busy.end()
        assert (list(found), seen.ups) == ([b"v", None, b"v"], [True])


async def test_a_redis_that_hangs_is_found_also_while_our_own_loop_is_late(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, _):
        await tier.put("k", b"v", 60)
        server.pause()
        try:
            started = time.monotonic()
            while tier.up:
                caller = asyncio.ensure_future(tier.get("k"))
                await asyncio.sleep(0.2 * TIMEOUT)
                time.sleep(1.5 * TIMEOUT)
                await caller
            assert time.monotonic() - started < 2
        finally:
            server.resume()
        await back_within(tier, 5)


async def test_a_redis_that_hangs_while_it_is_connected_to_is_found_by_the_first_that_waits() -> None:
    with servers.redis("--requirepass", "pw") as server:
        async with tier_on(f"redis://:pw@127.0.0.1:{server.port}") as (tier, seen):
            await tier.put("k", b"v", 60)
            with server.session() as session:
                session.command("AUTH", "pw")
                # As an idle timeout does, or a balancer.
                session.command("CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal")
            await asyncio.sleep(0.02)
            server.pause()
            try:
                assert await tier.get("k") is None
                await asyncio.sleep(2 * TIMEOUT)
                assert (tier.up, seen.failures) == (False, {Kind.TIMEOUT: 1})
            finally:
                server.resume()
            await back_within(tier, 5)


# --- Redis misbehaves ---

ABSURD = {
    "garbage": b"\x00\xff\x13garbage\r\n",
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "integer": b":1\r\n",
    "array": b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    "nothing": b"$-1\r\n",
    "a length beyond all numbers": b"$99999999999999999999999\r\n",
    "a negative length": b"$-7\r\n",
    "an array beyond all numbers": b"*99999999999999999999\r\n",
    "a redirection to nowhere": b"-MOVED nonsense\r\n",
    "an error in no encoding": b"-\xff\xfe\xfd\r\n",
    "an empty line": b"\r\n",
    "deep nesting": b"*1\r\n" * 100 + b":1\r\n",
}


@pytest.mark.parametrize("answer", ABSURD.values(), ids=ABSURD.keys())
async def test_an_absurd_answer_is_a_miss_and_costs_the_connection(faulty: FaultProxy, answer: bytes) -> None:
    async with tier_on(url_of(faulty), breaker_failures=1000) as (tier, seen):
        await tier.put("k", b"v", 60)
        accepted = faulty.accepted
        faulty.set(answer=answer)
        took, value = await seconds(tier.get("k"))
        faulty.set()

        assert (value, took < TIMEOUT + SLACK) == (None, True)
        assert seen.failures.keys() <= {Kind.PROTOCOL, Kind.OTHER}
        assert seen.failures.total() == 1
        if seen.failures[Kind.PROTOCOL]:
            await back_within(tier, 5)
            assert faulty.accepted > accepted


@pytest.mark.parametrize(
    ("length", "kind"), [(2_000_000_000, Kind.PROTOCOL), (1000, Kind.TIMEOUT)], ids=["absurd", "never filled"]
)
async def test_a_length_that_is_not_filled_is_a_miss_in_time(
    faulty: FaultProxy, length: int, kind: Kind
) -> None:
    async with tier_on(url_of(faulty)) as (tier, seen):
        await tier.put("k", b"v", 60)
        faulty.set(answer=b"$%d\r\nx" % length)
        took, value = await seconds(tier.get("k"))
        faulty.set()
        assert (value, took < TIMEOUT + SLACK, seen.failures) == (None, True, {kind: 1})
        await back_within(tier, 5)


FAULTS: dict[str, dict[str, Any]] = {
    "reset before the answer": {"cut_after": 0},
    "reset in the answer": {"cut_after": 40},
    "end of file in the answer": {"cut_after": 40, "reset": False},
    "corrupt": {"corrupt": True},
    "stall": {"stall": True},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_broken_answer_is_a_miss_in_time_and_redis_is_used_again(
    faulty: FaultProxy, fault: dict[str, Any]
) -> None:
    async with tier_on(url_of(faulty)) as (tier, seen):
        await tier.put("k", b"v" * 1000, 60)
        faulty.set(**fault)
        took, values = await seconds(asyncio.gather(*(tier.get("k") for _ in range(20))))
        faulty.set()

        assert values == [None] * 20
        assert took < TIMEOUT + SLACK
        assert seen.failures.total() == 20
        assert await back_within(tier, 5) < 1


async def test_refused_connections_are_misses_and_redis_is_used_again(faulty: FaultProxy) -> None:
    async with tier_on(url_of(faulty)) as (tier, seen):
        await tier.put("k", b"v", 60)
        faulty.set(refuse=True)
        faulty.reset_all()
        await asyncio.sleep(0.05)
        times = [(await seconds(tier.get("k")))[0] for _ in range(20)]
        assert max(times) < TIMEOUT
        await asyncio.sleep(0.1)
        assert (tier.up, seen.failures.keys() <= {Kind.CONNECTION, Kind.TIMEOUT}) == (False, True)
        faulty.set()
        await back_within(tier, 5)


async def test_no_caller_ever_gets_the_value_of_another_key_in_a_storm_of_faults(faulty: FaultProxy) -> None:
    chance = random.Random(7)
    async with tier_on(url_of(faulty), breaker_failures=1000, probe_every=0.02) as (tier, seen):
        keys = [f"k{number}" for number in range(50)]
        for key in keys:
            await tier.put(key, key.encode() * 40, 60)
        got: Counter[str] = Counter()
        over = time.monotonic() + 3

        async def ask() -> None:
            while time.monotonic() < over:
                key = chance.choice(keys)
                value = (
                    (await tier.get_with_ttl(key) or (None,))[0]
                    if chance.random() < 0.5
                    else await tier.get(key)
                )
                got["miss" if value is None else "right" if value == key.encode() * 40 else "wrong"] += 1
                await asyncio.sleep(0)

        async def disturb() -> None:
            while time.monotonic() < over:
                faulty.set(delay_s=chance.choice([0, 0.001, 0.049, 0.0505, 0.055, 0.099, 0.105]))
                await asyncio.sleep(0.03)
                if chance.random() < 0.2:
                    faulty.set(cut_after=chance.randrange(200), reset=chance.random() < 0.5)
                    await asyncio.sleep(0.005)
                faulty.set()
                await asyncio.sleep(0.02)

        await asyncio.gather(disturb(), *(ask() for _ in range(60)))
        assert got["wrong"] == 0
        assert got["right"] > 100
        assert seen.failures[Kind.TIMEOUT] > 20
        await asyncio.sleep(0.3)
        await back_within(tier, 5, "k0")
        assert faulty.open_connections <= 64


# --- Redis answers, with an error ---


async def test_a_full_redis_refuses_writes_and_serves_reads() -> None:
    with servers.redis() as server, capture_logs() as logs:
        async with tier_on(server.url) as (tier, seen):
            await tier.put("k", b"v", 60)
            server.command("CONFIG", "SET", "maxmemory", "1")
            assert [await tier.put(f"k{number}", b"v", 60) for number in range(10)] == [Put.FAILED] * 10
            assert await tier.get("k") == b"v"
            assert (seen.failures, tier.up) == ({Kind.OOM: 10}, True)
            server.command("CONFIG", "SET", "maxmemory", "0")
            assert await tier.put("k2", b"v", 60)
    assert [log["event"] for log in logs] == ["redis refuses", "redis takes writes again"]


async def test_writes_that_hang_while_reads_are_answered_are_given_up_until_one_is_answered(
    server: servers.Server,
) -> None:
    with capture_logs() as logs:
        async with tier_on(server.url) as (tier, _):
            await tier.put("k", b"v", 60)
            # As a failover by hand does, or a server that shuts down.
            server.command("CLIENT", "PAUSE", 20_000, "WRITE")
            claims = [(await seconds(tier.claim(f"k{number}", "x", b"t", 1)))[0] for number in range(5)]
            assert min(claims) > 0.9 * TIMEOUT
            started = time.monotonic()
            times = [(await seconds(tier.claim("k", "x", b"t", 1)))[0] for _ in range(200)]
            # One every 0.2 s finds out.
            delayed = sum(took > TIMEOUT / 2 for took in times)
            assert delayed <= 1 + (time.monotonic() - started) / 0.2
            assert (await tier.get("k"), tier.up) == (b"v", True)

            server.command("CLIENT", "UNPAUSE")
            async with asyncio.timeout(5):
                while not await tier.put("k", b"w", 60):
                    await asyncio.sleep(0.01)
            assert [await tier.put("k", b"w", 60) for _ in range(5)] == [Put.STORED] * 5
    assert [log["event"] for log in logs] == ["redis does not answer writes", "redis answers writes again"]


async def test_a_redis_that_is_back_is_written_to_at_once(server: servers.Server) -> None:
    async with tier_on(server.url, breaker_failures=1, probe_every=0.5) as (tier, _):

        def is_up() -> bool:
            return tier.up

        await tier.put("k", b"v", 60)
        server.pause()
        try:
            assert await tier.put("k", b"v", 60) is Put.FAILED
            async with asyncio.timeout(5):
                while is_up():
                    await asyncio.sleep(0.005)
        finally:
            server.resume()
        async with asyncio.timeout(5):
            # Those that find out are let through, and not made.
            while not is_up():
                await tier.put("k", b"v", 60)
                await asyncio.sleep(0.005)
        assert await tier.put("k", b"v", 60) is Put.STORED


async def test_a_user_who_may_nothing_for_an_instant_goes_on_running_scripts(server: servers.Server) -> None:
    server.command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all")
    async with tier_on(f"redis://app:pw@127.0.0.1:{server.port}") as (tier, _):
        for rights in ("-@all", "+@all"):
            server.command("ACL", "SETUSER", "app", rights)
            await tier.put("k", b"v", 60)
        assert scripts_run(server) == 1


def scripts_run(server: servers.Server) -> int:
    # Those that were rejected are told apart.
    (calls,) = re.findall("calls=([0-9]+),", server.info("commandstats").get("cmdstat_eval", "calls=0,"))[:1]
    return int(calls)


async def test_a_user_who_may_run_no_scripts_is_tried_again_after_a_while_and_that_is_logged_once(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.redis._NO_SCRIPTS_S", 0.1)
    server.command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-eval")
    with capture_logs() as logs:
        async with tier_on(f"redis://app:pw@127.0.0.1:{server.port}") as (tier, _):
            for _ in range(3):
                assert await tier.put("k", b"v", 60) is Put.STORED
                await asyncio.sleep(0.11)
            server.command("ACL", "SETUSER", "app", "+eval")
            assert await tier.put("k", b"v", 60) is Put.STORED
            assert scripts_run(server) == 1
    assert [log["event"].partition(":")[0] for log in logs] == [
        "redis refuses",
        "redis takes writes again",
        "redis runs no scripts for us",
    ]


async def test_a_replica_refuses_writes_and_serves_reads(server: servers.Server) -> None:
    server.command("SET", "crowdgate:k", "v")
    server.command("REPLICAOF", "127.0.0.1", str(servers.free_port()))
    async with tier_on(server.url) as (tier, seen):
        assert [await tier.put("k", b"w", 60) for _ in range(10)] == [Put.FAILED] * 10
        assert await tier.get("k") == b"v"
        assert (seen.failures, tier.up) == ({Kind.READONLY: 10}, True)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(b"-LOADING Redis is loading the dataset in memory\r\n", Kind.LOADING, id="loading"),
        pytest.param(b"-MASTERDOWN Link with MASTER is down\r\n", Kind.LOADING, id="masterdown"),
        pytest.param(b"-BUSY Redis is busy running a script.\r\n", Kind.LOADING, id="busy"),
        pytest.param(b"-CLUSTERDOWN The cluster is down\r\n", Kind.CLUSTERDOWN, id="clusterdown"),
        pytest.param(b"-ERR max number of clients reached\r\n", Kind.MAXCLIENTS, id="maxclients"),
        pytest.param(
            b"-ERR max number of clients + cluster connections reached\r\n",
            Kind.MAXCLIENTS,
            id="cluster maxclients",
        ),
        pytest.param(b"-NOAUTH Authentication required.\r\n", Kind.AUTH, id="noauth"),
        pytest.param(b"-DENIED Redis is running in protected mode\r\n", Kind.AUTH, id="protected"),
        pytest.param(b"-no upstream host\r\n", Kind.OTHER, id="a proxy without its Redis"),
    ],
)
async def test_a_redis_that_serves_nobody_is_taken_out_and_back(
    faulty: FaultProxy, answer: bytes, kind: Kind
) -> None:
    async with tier_on(url_of(faulty)) as (tier, seen):
        await tier.put("k", b"v", 60)
        faulty.set(answer=answer)
        assert await tier.get("k") is None
        await asyncio.sleep(0.05)
        assert (tier.up, seen.failures) == (False, {kind: 1})
        faulty.set()
        await back_within(tier, 5)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(b"-NOPERM this user has no permissions\r\n", Kind.DENIED, id="noperm"),
        pytest.param(b"-ERR unknown command\r\n", Kind.OTHER, id="unknown"),
        pytest.param(b"-WRONGTYPE Operation against\r\n", Kind.WRONGTYPE, id="wrongtype"),
        pytest.param(b"-MISCONF Redis is configured to\r\n", Kind.READONLY, id="misconf"),
    ],
)
async def test_an_error_about_one_command_does_not_take_redis_out(
    faulty: FaultProxy, answer: bytes, kind: Kind
) -> None:
    async with tier_on(url_of(faulty)) as (tier, seen):
        await tier.put("k", b"v", 60)
        faulty.set(answer=answer)
        assert [await tier.get("k") for _ in range(10)] == [None] * 10
        assert (tier.up, seen.failures) == (True, {kind: 10})


async def test_a_server_with_no_room_for_clients_is_told_as_such() -> None:
    with servers.redis("--maxclients", "1") as server:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"PING\r\n")
            if await reader.read(100) == b"+PONG\r\n":
                break
            # The connection by which its start was seen is still counted.
            writer.close()
        async with tier_on(server.url) as (tier, _):
            assert not tier.up
            writer.close()
            async with asyncio.timeout(5):
                while not await tier.put("k", b"v", 10):
                    await asyncio.sleep(0.02)


def no_more_clients(session: servers.Session) -> None:
    clients = len(session.command("CLIENT", "LIST").splitlines())
    session.command("CONFIG", "SET", "maxclients", clients)


def another_password(session: servers.Session) -> None:
    session.command("CONFIG", "SET", "requirepass", "another")


@pytest.mark.parametrize("refuse", [no_more_clients, another_password])
async def test_a_slow_answer_does_not_take_out_a_redis_that_only_refuses_further_connections(
    refuse: Callable[[servers.Session], None],
) -> None:
    with servers.redis() as server, server.session() as session:
        async with tier_on(server.url, probe_every=0.05) as (tier, seen):
            await asyncio.gather(*(tier.put(f"k{number}", b"v", 60) for number in range(8)))
            await asyncio.sleep(0.1)
            refuse(session)
            session.command("CLIENT", "PAUSE", 70)
            assert await tier.get("k1") is None
            await asyncio.sleep(0.3)
            assert [await tier.get("k1") for _ in range(10)] == [b"v"] * 10
            assert (tier.up, seen.ups, seen.failures) == (True, [True], {Kind.TIMEOUT: 1})


async def test_an_outage_is_logged_once_however_many_ask(server: servers.Server) -> None:
    with capture_logs() as logs:
        async with tier_on(server.url) as (tier, _):
            await tier.put("k", b"v", 60)
            server.kill()
            for _ in range(200):
                await tier.get("k")
                await tier.put("k", b"v", 60)
            await asyncio.sleep(0.5)
            server.start()
            server.command("SET", "crowdgate:k", "v")
            await back_within(tier, 5)
    assert [log["event"] for log in logs] == ["redis is out", "redis is back"]


async def test_a_closed_tier_answers_with_misses(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, seen):
        await tier.put("k", b"v", 60)
        await tier.close()
        assert (await tier.get("k"), await tier.put("k", b"v", 1), tier.up) == (None, Put.FAILED, False)
        assert seen.ups == [True, False]


# --- the purge log's stream ---


async def read(
    tier: RedisTier, last_id: str, *, block_ms: int = 0, count: int = 9
) -> list[tuple[str, dict[bytes, bytes]]]:
    return (await tier.stream_after("log", last_id, block_ms=block_ms, count=count)).records


async def test_a_stream_is_written_read_on_and_trimmed(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, _):
        assert await tier.stream_last_id("log") == "0-0"
        assert await read(tier, "0-0", count=10) == []
        first = await tier.stream_add("log", {b"tag": b"a", b"soft": b"1"}, keep_after_ms=0)
        second = await tier.stream_add("log", {b"tag": b"b"}, keep_after_ms=0)

        assert await tier.stream_last_id("log") == second
        assert await read(tier, "0-0", count=1) == [(first, {b"tag": b"a", b"soft": b"1"})]
        assert await read(tier, first, block_ms=1000) == [(second, {b"tag": b"b"})]
        for _ in range(300):
            await tier.stream_add("log", {b"tag": b"c"}, keep_after_ms=int(time.time() * 1000) + 1000)
        assert len(await read(tier, "0-0", count=999)) < 300


async def test_a_reader_that_waits_is_woken_and_takes_no_turn_from_anybody(server: servers.Server) -> None:
    async with tier_on(server.url, max_connections=1) as (tier, seen):
        reader = asyncio.ensure_future(read(tier, "0-0", block_ms=2000))
        await asyncio.sleep(0.15)
        assert await tier.put("k", b"v", 60)
        took, value = await seconds(tier.get("k"))
        assert (value, took < 0.02) == (b"v", True)

        added = await tier.stream_add("log", {b"a": b"b"}, keep_after_ms=0)
        assert await asyncio.wait_for(reader, 0.1) == [(added, {b"a": b"b"})]
        took, records = await seconds(read(tier, added, block_ms=100))
        assert (records, 0.09 < took < 0.2, seen.failures) == ([], True, {})


async def test_a_reader_that_is_cancelled_or_meets_a_hung_redis_ends(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, seen):
        reader = asyncio.ensure_future(tier.stream_after("log", "0-0", block_ms=5000, count=10))
        await asyncio.sleep(0.05)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        assert await read(tier, "0-0", block_ms=20) == []

        server.pause()
        started = time.monotonic()
        with pytest.raises(RedisDown):
            await tier.stream_after("log", "0-0", block_ms=100, count=10)
        server.resume()
        # Redis itself may be late by 0.1 s with what waits.
        assert 0.1 < time.monotonic() - started < 0.1 + 0.15 + 4 * TIMEOUT + SLACK
        assert seen.failures == {Kind.TIMEOUT: 1}


async def test_streams_of_a_redis_that_is_down_raise(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, _):
        server.kill()
        with pytest.raises(RedisDown):
            await tier.stream_add("log", {b"a": b"b"}, keep_after_ms=0)
        with pytest.raises(RedisDown):
            await tier.stream_last_id("log")
        with pytest.raises(RedisDown):
            await tier.stream_after("log", "0-0", block_ms=0, count=1)


async def test_a_stream_key_of_another_type_raises(server: servers.Server) -> None:
    server.command("SET", "crowdgate:log", "v")
    async with tier_on(server.url) as (tier, _):
        with pytest.raises(RedisDown, match="wrongtype"):
            await tier.stream_add("log", {b"a": b"b"}, keep_after_ms=0)
        with pytest.raises(RedisDown, match="wrongtype"):
            await tier.stream_after("log", "0-0", block_ms=10, count=1)
        assert tier.up


class BusyLoop:
    """Each turn of the event loop takes so long."""

    def __init__(self, turn_s: float) -> None:
        self._turn_s = turn_s
        self._is_over = False
        self._loop = asyncio.get_running_loop()
        self._turn()

    def _turn(self) -> None:
        time.sleep(self._turn_s)
        if not self._is_over:
            self._loop.call_soon(self._turn)

    def end(self) -> None:
        self._is_over = True


async def test_answers_that_a_busy_process_keeps_from_arriving_are_waited_for(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, seen):
        for number in range(300):
            await tier.put(f"k{number}", b"v", 60)
        busy = BusyLoop(0.04)
        found = await asyncio.gather(*(tier.get(f"k{number}") for number in range(300)))
        busy.end()

        assert (found, seen.failures, tier.up) == ([b"v"] * 300, Counter(), True)


async def test_a_busy_process_notices_that_redis_hangs_and_waits_no_longer(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, _):
        await tier.put("k", b"v", 60)
        server.pause()
        busy = BusyLoop(0.02)
        began = time.monotonic()
        while tier.up:
            took, values = await seconds(asyncio.gather(*(tier.get("k") for _ in range(50))))
            assert (values, took < 1.0) == ([None] * 50, True)
        busy.end()
        server.resume()

        assert time.monotonic() - began < 2.5


async def test_a_busy_process_takes_redis_back(server: servers.Server) -> None:
    async with tier_on(server.url, probe_every=0.1) as (tier, _):
        await tier.put("k", b"v", 60)
        busy = BusyLoop(0.05)
        server.pause()
        while tier.up:
            await tier.get("k")
        server.resume()
        back_s = await back_within(tier, 5)
        busy.end()

        assert back_s < 2.5


async def ask_for_ever(tier: RedisTier) -> None:
    while True:
        await tier.get("k")
        await asyncio.sleep(0.02)


async def test_a_busy_process_goes_on_reading_a_stream_whose_connection_was_lost(
    server: servers.Server,
) -> None:
    async with tier_on(server.url) as (tier, _):
        await tier.stream_after("log", "0-0", block_ms=1, count=1)
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        busy = BusyLoop(0.06)
        asking = asyncio.ensure_future(ask_for_ever(tier))
        read = []
        until = time.monotonic() + 3
        while time.monotonic() < until:
            with suppress(RedisDown):
                read.append(await tier.stream_after("log", "0-0", block_ms=1, count=1))
            await asyncio.sleep(0.05)
        asking.cancel()
        busy.end()

        assert (len(read) >= 3, tier.up) == (True, True)


async def test_a_short_pause_of_writes_costs_no_reads_and_is_over_when_it_is_over(
    server: servers.Server,
) -> None:
    async with tier_on(server.url) as (tier, _):
        await tier.put("k", b"v", 60)
        server.command("CLIENT", "PAUSE", 300, "WRITE")
        until = time.monotonic() + 0.3

        async def write() -> None:
            while time.monotonic() < until:
                asking.append(asyncio.ensure_future(tier.put("w", b"v", 60)))
                await asyncio.sleep(0.01)

        asking: list[asyncio.Future[Put]] = []
        writing = asyncio.ensure_future(write())
        while time.monotonic() < until:
            await tier.get("k")
            await asyncio.sleep(0.002)
        await asyncio.gather(writing, *asking)
        while await tier.put("w", b"v", 60) is Put.FAILED:
            await asyncio.sleep(0.005)

        assert (tier.up, time.monotonic() - until < 0.3) == (True, True)
