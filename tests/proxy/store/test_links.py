import asyncio
import time
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from proxy.store.redis import Kind
from tests import servers
from tests.faults import fault_proxy
from tests.redis_tiers import SLACK, TIMEOUT, back_within, needs_redis, seconds, tier_on, url_of

pytestmark = needs_redis


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[servers.Server]]:
    with servers.cluster(3) as three:
        yield three


def urls(nodes: list[servers.Server]) -> str:
    return ",".join(node.url for node in nodes)


def owner_of(key: str, nodes: list[servers.Server]) -> servers.Server:
    return nodes[min(key_slot(f"crowdgate:{key}".encode()) * 3 // 16384, 2)]


def key_on(node: servers.Server, nodes: list[servers.Server], start: int = 0) -> str:
    return next(f"k{n}" for n in range(start, start + 9999) if owner_of(f"k{n}", nodes) is node)


async def test_a_cluster_serves_keys_of_all_nodes(nodes: list[servers.Server]) -> None:
    async with tier_on(nodes[0].url, mode="cluster") as (tier, seen):
        keys = [f"k{number}" for number in range(60)]
        assert all(await asyncio.gather(*(tier.put(key, key.encode(), 60) for key in keys)))
        assert await asyncio.gather(*(tier.get(key) for key in keys)) == [key.encode() for key in keys]
        timed = await asyncio.gather(*(tier.get_with_ttl(key) for key in keys))
        assert all(found is not None and 9 < found[1] <= 60 for found in timed)
        assert all(node.command("DBSIZE") > 5 for node in nodes)
        assert await tier.delete(*keys, "absent") == 60
        added = await tier.stream_add("log", {b"a": b"b"}, keep_after_ms=0)
        assert await tier.stream_last_id("log") == added
        assert await tier.stream_after("log", "0-0", block_ms=10, count=1) == [(added, {b"a": b"b"})]
        assert (seen.failures, tier.up) == ({}, True)


async def test_a_hung_node_delays_its_own_keys_for_an_instant_and_no_others(
    nodes: list[servers.Server],
) -> None:
    hung = nodes[1]
    mine, other = key_on(hung, nodes), key_on(nodes[2], nodes)
    async with tier_on(urls(nodes), mode="cluster") as (tier, _):
        await tier.put(mine, b"m", 60)
        await tier.put(other, b"o", 60)
        hung.pause()
        try:
            slow, others, over = [], [], time.monotonic() + 1.0
            while time.monotonic() < over:
                slow.append((await seconds(tier.get(mine)))[0])
                others.append(await seconds(tier.get(other)))
            assert max(slow) < TIMEOUT + SLACK
            assert sum(took for took in slow if took > 0.01) < 6 * TIMEOUT
            assert {value for _, value in others} == {b"o"}
            # Reading the topology holds the loop for some 15 ms: redis-py goes through all 16384 slots.
            assert sorted(took for took, _ in others)[int(len(others) * 0.99)] < 0.01
            assert max(took for took, _ in others) < TIMEOUT + SLACK
            assert not tier.up
        finally:
            hung.resume()
        assert await back_within(tier, 5, mine) < 2
        servers.until(lambda: all(servers._serves(node) for node in nodes), "the cluster")


async def test_a_slot_that_moves_is_followed_while_and_after_it_moves(nodes: list[servers.Server]) -> None:
    key = key_on(nodes[0], nodes, 500)
    name, slot = f"crowdgate:{key}", key_slot(f"crowdgate:{key}".encode())
    source, target = nodes[0], nodes[1]
    ids = {node: node.command("CLUSTER", "MYID") for node in nodes}
    async with tier_on(urls(nodes), mode="cluster", timeout=1.0) as (tier, seen):
        await tier.put(key, b"v", 60)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        source.command("MIGRATE", "127.0.0.1", target.port, name, 0, 1000)
        try:
            assert await asyncio.gather(*(tier.get(key) for _ in range(40))) == [b"v"] * 40
            assert (await tier.get_with_ttl(key) or (None,))[0] == b"v"
            assert await tier.put(key, b"w", 60)
            for node in nodes:
                node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
            assert await asyncio.gather(*(tier.get(key) for _ in range(40))) == [b"w"] * 40
            assert (seen.failures, tier.up) == ({}, True)
        finally:
            for node in nodes:
                node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
            target.command("DEL", name)
            for node in nodes:
                node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[source])


async def test_redirections_in_a_circle_end(nodes: list[servers.Server]) -> None:
    slot = key_slot(b"crowdgate:k")
    async with fault_proxy(nodes[0].port) as proxy:
        proxy.set(answer=b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % proxy.port)
        async with tier_on(url_of(proxy), mode="cluster") as (tier, seen):
            assert tier.up
            proxy.set(answer=b"-MOVED %d 127.0.0.1:%d\r\n" % (slot, proxy.port))
            took, value = await seconds(tier.get("k"))
            assert (value, took < TIMEOUT + SLACK, seen.failures) == (None, True, {Kind.CLUSTERDOWN: 1})


async def test_a_failover_is_followed() -> None:
    with servers.cluster(3, replicas=1) as nodes:
        primary, replica = nodes[0], nodes[3]
        key = key_on(primary, nodes[:3])
        async with tier_on(urls(nodes[1:3]), mode="cluster") as (tier, _):
            await tier.put(key, b"v", 60)
            servers.until(lambda: replica.command("DBSIZE") == 1, "replication")
            primary.kill()
            took, value = await seconds(tier.get(key))
            assert (value, took < TIMEOUT + SLACK) == (None, True)
            await back_within(tier, 10, key)
            await asyncio.sleep(0.3)
            assert tier.up


async def test_a_cluster_absent_at_the_start_is_used_when_it_comes() -> None:
    with servers.cluster(3) as nodes:
        for node in nodes:
            node.kill()
        started = time.monotonic()
        async with tier_on(urls(nodes), mode="cluster") as (tier, _):
            assert time.monotonic() - started < TIMEOUT + SLACK
            assert (await tier.get("k"), tier.up) == (None, False)
            for node in nodes:
                node.start()
            async with asyncio.timeout(10):
                while not await tier.put("k", b"v", 60):
                    await asyncio.sleep(0.02)
            assert await tier.get("k") == b"v"


async def test_a_lone_server_is_no_cluster_and_costs_nothing(server: servers.Server) -> None:
    async with tier_on(server.url, mode="cluster") as (tier, _):
        took, value = await seconds(tier.get("k"))
        assert (value, took < 0.02, tier.up) == (None, True, False)


async def test_a_failover_that_sentinels_decide_is_followed() -> None:
    with servers.replicated() as servers_:
        async with tier_on(
            f"redis://127.0.0.1:{servers.free_port()},{servers_.sentinel.url}", mode="sentinel"
        ) as (tier, seen):
            async with asyncio.timeout(2):
                while not await tier.put("k", b"v", 60):
                    await asyncio.sleep(0.02)
            assert servers_.master.command("GET", "crowdgate:k") == b"v"
            servers.until(lambda: servers_.replica.command("GET", "crowdgate:k") == b"v", "replication")

            servers_.master.pause()
            took, value = await seconds(tier.get("k"))
            assert (value, took < TIMEOUT + SLACK) == (None, True)
            async with asyncio.timeout(15):
                while not await tier.put("k", b"w", 60):
                    await asyncio.sleep(0.02)
            assert servers_.replica.command("GET", "crowdgate:k") == b"w"
            assert (tier.up, seen.ups[-1]) == (True, True)
            servers_.master.resume()


async def test_absent_sentinels_cost_nothing() -> None:
    async with tier_on(f"redis://127.0.0.1:{servers.free_port()}", mode="sentinel") as (tier, _):
        took, value = await seconds(tier.get("k"))
        assert (value, took < 0.02, tier.up) == (None, True, False)
