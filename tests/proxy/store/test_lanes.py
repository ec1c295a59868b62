import asyncio

import pytest

from proxy.store.lanes import Lanes, Request
from tests import servers
from tests.faults import FaultProxy
from tests.redis_tiers import back_within, needs_redis, seconds, tier_on, url_of

pytestmark = needs_redis


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
        assert int(server.info("clients")["connected_clients"]) <= 6


async def test_a_caller_that_leaves_takes_nothing_with_it(faulty: FaultProxy) -> None:
    async with tier_on(url_of(faulty), max_connections=2) as (tier, seen):
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
    async with tier_on(server.url) as (tier, seen):
        await tier.put("k", b"v", 60)
        server.restart()
        server.command("SET", "crowdgate:k", "w")
        await asyncio.sleep(0.05)

        assert await tier.get("k") == b"w"
        assert seen.failures == {}


async def test_lanes_that_are_closed_end_those_that_wait() -> None:
    ended: list[object] = []
    lanes = Lanes(lambda: pytest.fail("connects"), 0, lambda work, _: work.close())
    lanes.send(Request(b"k", (), ended.append))
    await lanes.close()
    assert [str(error) for error in ended] == ["closed"]


async def test_outages_leave_no_tasks_and_no_connections(server: servers.Server) -> None:
    before = len(asyncio.all_tasks())
    async with tier_on(server.url, probe_every=0.05) as (tier, _):
        await tier.put("k", b"v", 60)
        for _ in range(3):
            server.pause()
            for _ in range(5):
                await asyncio.gather(*(tier.get("k") for _ in range(100)))
            server.resume()
            await back_within(tier, 5)
        await asyncio.sleep(0.2)
        # The prober stays.
        assert len(asyncio.all_tasks()) - before <= 1
        assert int(server.info("clients")["connected_clients"]) <= 20
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) == before
    assert int(server.info("clients")["connected_clients"]) == 1


async def test_connections_are_made_four_at_a_time_and_more_as_they_are_needed(faulty: FaultProxy) -> None:
    faulty.set(delay_s=0.02)
    async with tier_on(url_of(faulty), timeout=5, max_connections=200) as (tier, seen):
        before = faulty.accepted
        await asyncio.gather(*(tier.get(f"k{number}") for number in range(64)))
        assert faulty.accepted - before == 4
        # One at a time, a new one before the last is back: each finds its own way.
        callers = []
        for number in range(12):
            callers.append(asyncio.ensure_future(tier.get(f"k{number}")))
            await asyncio.sleep(0.001)
        took, _ = await seconds(asyncio.gather(*callers))
        assert took < 0.04
        assert seen.failures == {}


async def test_what_nobody_waits_for_any_more_is_not_sent() -> None:
    ended: list[object] = []
    lanes = Lanes(lambda: pytest.fail("connects"), 1, lambda work, _: work.close())
    request = Request(b"k", (), ended.append)
    lanes.send(request)
    request.is_dropped = True
    assert (lanes._batch(), [str(error) for error in ended]) == ([], ["nobody waits for it"])
