"""Leases on a real Redis: who may ask, who waits, and what a holder that dies costs."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from proxy import metrics
from proxy.leases import Ask, Early, Lease, Leases, Turn, pauses
from proxy.metrics import Metrics
from proxy.tasks import Tasks
from tests import servers
from tests.faults import fault_proxy
from tests.redis_tiers import needs_redis, tier_on, url_of

pytestmark = needs_redis


@pytest.fixture(scope="module")
def server() -> Any:
    with servers.redis() as running:
        yield running


@asynccontextmanager
async def replica(url: str, lasts_s: float = 2.0, **more: Any) -> AsyncIterator[Leases]:
    tasks = Tasks()
    async with tier_on(url, **more) as (tier, _):
        leases = Leases(tier, Metrics("1"), tasks)
        leases.lasts_s = lasts_s
        yield leases
        await tasks.close(1)


async def took(asked: Leases | Early, *args: str, **how: bool) -> tuple[Turn, Lease | None]:
    taken = await asked.take(*args, **how)  # type: ignore[arg-type]
    return taken.turn, taken.lease


async def released(leases: Leases, lease: Lease, passed_s: float = 0.0) -> None:
    leases.release(lease, passed_s=passed_s)
    while len(leases._tasks):
        await asyncio.sleep(0.001)


async def test_one_wins_and_the_others_are_told_so_until_it_is_released(server: servers.Server) -> None:
    async with replica(server.url) as a, replica(server.url) as b:
        first, lease = await took(a, "e:one", "")
        second, _ = await took(b, "e:one", "")
        other_kind, _ = await took(b, "e:one", ":personal")
        assert lease is not None
        await released(a, lease)
        third, _ = await took(b, "e:one", "")

        assert (first, second, other_kind, third) == (Turn.OURS, Turn.THEIRS, Turn.OURS, Turn.OURS)


async def test_what_cannot_be_shared_is_nobody_s_for_a_while(server: servers.Server) -> None:
    async with replica(server.url) as a, replica(server.url) as b:
        _, lease = await took(a, "e:passed", "")
        assert lease is not None
        await released(a, lease, 0.2)
        turns = [(await took(each, "e:passed", ""))[0] for each in (a, b)]
        await asyncio.sleep(0.25)

        assert (turns, (await took(b, "e:passed", ""))[0]) == ([Turn.PASSED] * 2, Turn.OURS)


async def test_a_holder_that_lives_keeps_it_and_one_that_died_loses_it(server: servers.Server) -> None:
    async with replica(server.url, 0.3) as other:
        async with replica(server.url, 0.3) as a:
            _, lease = await took(a, "e:long", "")
            await asyncio.sleep(0.7)
            assert (await took(other, "e:long", ""))[0] is Turn.THEIRS
            # As if killed: nothing is released, nothing renewed.
            assert lease is not None
            assert lease.renewal is not None
            lease.renewal.cancel()
            lease.renewal = None
        died = time.monotonic()
        while (await took(other, "e:long", ""))[0] is Turn.THEIRS:
            await asyncio.sleep(0.01)

        assert time.monotonic() - died < 0.4


async def test_a_lease_that_ran_out_is_not_released_over_its_next_holder(server: servers.Server) -> None:
    async with replica(server.url, 0.1) as a, replica(server.url) as b:
        _, lease = await took(a, "e:late", "")
        assert lease is not None
        assert lease.renewal is not None
        lease.renewal.cancel()
        await asyncio.sleep(0.15)
        _, next_lease = await took(b, "e:late", "")
        lease.until += 100
        await released(a, lease)

        assert next_lease is not None
        assert (await took(a, "e:late", ""))[0] is Turn.THEIRS


async def test_what_a_redis_that_hung_carries_out_late_holds_up_nobody() -> None:
    with servers.redis() as hanging:
        async with replica(hanging.url) as a, replica(hanging.url) as b:
            hanging.pause()
            try:
                late = asyncio.ensure_future(took(a, "e:late", ""))
                await asyncio.sleep(0.3)
            finally:
                hanging.resume()
            turn, _ = await late
            resumed = time.monotonic()
            while (await took(b, "e:late", ""))[0] is not Turn.OURS:
                await asyncio.sleep(0.01)

            assert (turn, time.monotonic() - resumed < 1) == (Turn.FREE, True)


async def test_the_winner_is_told_whether_something_is_stored(server: servers.Server) -> None:
    async with replica(server.url) as a:
        server.command("SET", "crowdgate:e:there", "x")
        leases = [(await took(a, key, ""))[1] for key in ("e:there", "e:not-there")]

        assert [lease is not None and lease.has_entry for lease in leases] == [True, False]


async def test_a_lease_and_its_entry_are_on_one_node_of_a_cluster(server: servers.Server) -> None:
    async with replica(server.url) as a:
        await took(a, "e:events.1:00ff", ":personal")
        name = b"crowdgate:lease:{crowdgate:e:events.1:00ff}:personal"

        assert server.command("EXISTS", name) == 1
        with servers.redis("--cluster-enabled", "yes") as node:
            slots = {node.command("CLUSTER", "KEYSLOT", key) for key in (name, b"crowdgate:e:events.1:00ff")}
        assert len(slots) == 1


async def test_without_redis_or_where_it_fails_everybody_may_ask(server: servers.Server) -> None:
    with servers.redis() as full:
        full.command("SET", "room", "x" * 1000)
        full.command("CONFIG", "SET", "maxmemory", "1")
        async with replica(full.url) as refused:
            assert await took(refused, "e:k", "") == (Turn.FREE, None)
    assert await took(Leases(None, Metrics("1"), Tasks()), "e:k", "") == (Turn.FREE, None)
    async with replica(f"redis://127.0.0.1:{servers.free_port()}") as lonely:
        assert await took(lonely, "e:k", "") == (Turn.FREE, None)


async def test_a_user_that_may_run_no_scripts_has_leases_nevertheless(server: servers.Server) -> None:
    server.command("ACL", "SETUSER", "plain", "on", ">pw", "~*", "+@all", "-eval")
    url = server.url.replace("redis://", "redis://plain:pw@")
    async with replica(url) as a, replica(url) as b:
        _, lease = await took(a, "e:plain", "")
        theirs, _ = await took(b, "e:plain", "")
        assert lease is not None
        await released(a, lease)

        assert (theirs, (await took(b, "e:plain", ""))[0]) == (Turn.THEIRS, Turn.OURS)


async def test_only_a_redis_that_is_far_away_is_asked_for_leases_that_may_not_be_needed(
    server: servers.Server,
) -> None:
    async with fault_proxy(server.port) as way, replica(url_of(way), timeout=0.2) as leases:
        for number in range(3):
            await took(leases, f"e:near-{number}", "")
        near = leases.early("e:k", "")
        way.set(delay_s=0.03)
        for number in range(3):
            await took(leases, f"e:far-{number}", "")
        far = leases.early("e:k", "")
        assert far is not None
        far.leave()
        way.set()
        for number in range(30):
            await took(leases, f"e:again-{number}", "")

        assert (near, leases.early("e:k", "")) == (None, None)


async def test_a_busy_process_does_not_take_redis_for_far_away(server: servers.Server) -> None:
    async with replica(server.url, timeout=0.5) as leases:
        loop = asyncio.get_running_loop()
        is_busy = True

        def work() -> None:
            # What a turn of a busy loop takes.
            time.sleep(0.01)
            if is_busy:
                loop.call_soon(work)

        work()
        for number in range(30):
            await took(leases, f"e:busy-{number}", "")
        is_busy = False

        assert leases.early("e:k", "") is None


async def test_a_lease_that_could_not_be_renewed_once_is_renewed_all_the_same(server: servers.Server) -> None:
    async with (
        fault_proxy(server.port) as way,
        replica(url_of(way), 0.6, probe_every=0.05) as a,
        replica(server.url) as other,
    ):
        _, lease = await took(a, "e:hiccup", "")
        assert lease is not None
        way.set(stall=True)
        await asyncio.sleep(0.18)
        way.set()
        await asyncio.sleep(1.0)

        assert (await took(other, "e:hiccup", ""))[0] is Turn.THEIRS


async def test_a_lease_that_was_asked_for_early_and_is_not_needed_is_released(server: servers.Server) -> None:
    async with replica(server.url) as a, replica(server.url) as b:
        a._claim_s = 1.0
        first, second = a.early("e:left", ""), a.early("e:taken", "")
        assert first is not None
        assert second is not None
        first.leave()
        turn, lease = await took(second, has_seen=True)
        second.leave()
        while len(a._tasks):
            await asyncio.sleep(0.001)
        turns = [(await took(b, key, ""))[0] for key in ("e:left", "e:taken")]

        assert (turn, lease is not None, turns) == (Turn.OURS, True, [Turn.OURS, Turn.THEIRS])


async def test_what_was_seen_when_a_lease_was_asked_for_early_need_not_be_looked_at_again(
    server: servers.Server,
) -> None:
    server.command("SET", "crowdgate:e:seen", "x")
    server.command("SET", "crowdgate:e:new", "x")
    async with replica(server.url) as a:
        a._claim_s = 1.0
        told = []
        for key, has_seen in (("e:seen", True), ("e:new", False)):
            early = a.early(key, "")
            assert early is not None
            _, lease = await took(early, has_seen=has_seen)
            told.append(lease is not None and lease.has_entry)

        assert told == [False, True]


async def test_turns_are_counted(server: servers.Server) -> None:
    async with replica(server.url) as a:
        for _ in range(3):
            await took(a, "e:counted", "")
        samples = metrics.read(a._metrics.render().decode())

    counts = [metrics.total(samples, metrics.LEASES, turn=turn) for turn in ("won", "lost", "free")]
    assert counts == [1, 2, 0]


async def test_time_is_redis_own_and_never_stands_still(server: servers.Server) -> None:
    async with replica(server.url) as a:
        a._ahead_us += 3_600_000_000
        await took(a, "e:time", "")
        seconds, microseconds = map(int, server.command("TIME"))
        told = [a.now_us() for _ in range(100)]

        assert abs(told[0] - seconds * 1_000_000 - microseconds) < 1_000_000
        assert all(earlier < later for earlier, later in pairwise(told))


def test_how_long_it_took_is_measured_from_the_ask() -> None:
    got = Ask(born=7, at_us=8, started=time.monotonic() - 1.5).got()

    assert (got.born, got.asked, 1.5 <= got.took_s < 2.5) == (7, 8, True)


def test_pauses_grow_and_end_with_patience() -> None:
    pause = pauses(0.3)
    slept: list[float] = []
    while seconds := pause():
        slept.append(seconds)
        time.sleep(seconds)

    assert slept[:-1] == sorted(slept[:-1])
    assert (max(slept) <= 0.05, 0.25 < sum(slept) < 0.35) == (True, True)
