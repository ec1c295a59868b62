import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from redis.crc import key_slot

from proxy.store.lanes import Command, Request
from proxy.store.redis import Kind, RedisTier
from proxy.store.shared import Put
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


@dataclass(slots=True)
class Times:
    """Of lookups, one after the other."""

    times: list[float] = field(default_factory=list)
    missed: int = 0

    def quantile(self, share: float) -> float:
        return sorted(self.times)[int(len(self.times) * share)]


async def times_of(tier: RedisTier, keys: list[str], for_s: float) -> Times:
    found, over = Times(), time.monotonic() + for_s
    while time.monotonic() < over:
        for key in keys:
            took, value = await seconds(tier.get(key))
            found.times.append(took)
            found.missed += value is None
        # Not to starve the others where nothing is waited for.
        await asyncio.sleep(0.0005)
    return found


async def undisturbed(tier: RedisTier, key: str, for_s: float, before: Times) -> bool:
    """Whether lookups of the key are as fast as before, nearly all of them, and none is a miss.

    In one of four spans at least: the machine may be busy now and then, a fault that lasts is there in each.
    """
    spans = [await times_of(tier, [key], for_s / 4) for _ in range(4)]
    least = min(span.quantile(0.99) for span in spans)
    return not any(span.missed for span in spans) and least < max(3 * before.quantile(0.99), 0.005)


async def test_a_cluster_serves_keys_of_all_nodes(nodes: list[servers.Server]) -> None:
    async with tier_on(nodes[0].url, mode="cluster", timeout=2.0) as (tier, seen):
        keys = [f"k{number}" for number in range(60)]
        assert all(await asyncio.gather(*(tier.put(key, key.encode(), 60) for key in keys)))
        assert await asyncio.gather(*(tier.get(key) for key in keys)) == [key.encode() for key in keys]
        timed = await asyncio.gather(*(tier.get_with_ttl(key) for key in keys))
        assert all(found is not None and 9 < found[1] <= 60 for found in timed)
        assert all(node.command("DBSIZE") > 5 for node in nodes)
        assert await tier.delete(*keys, "absent") == 60
        added = await tier.stream_add("log", {b"a": b"b"}, keep_after_ms=0)
        assert await tier.stream_last_id("log") == added
        tail = await tier.stream_after("log", "0-0", block_ms=10, count=1)
        assert tail.records == [(added, {b"a": b"b"})]
        assert (seen.failures, tier.up) == ({}, True)


async def test_a_hung_node_delays_its_own_keys_for_an_instant_and_no_others(
    nodes: list[servers.Server],
) -> None:
    hung = nodes[1]
    mine, other = key_on(hung, nodes), key_on(nodes[2], nodes)
    async with tier_on(urls(nodes), mode="cluster") as (tier, _):
        await tier.put(mine, b"m", 60)
        await tier.put(other, b"o", 60)
        before = await times_of(tier, [other], 0.5)
        hung.pause()
        try:
            slow, others = await asyncio.gather(
                times_of(tier, [mine], 2.0), undisturbed(tier, other, 2.0, before)
            )
            assert max(slow.times) < TIMEOUT + SLACK
            # The first, and those until the breaker opens; from then on its keys cost nothing.
            assert sum(took > TIMEOUT / 2 for took in slow.times) < 6
            assert (others, tier.up) == (True, False)
        finally:
            hung.resume()
        assert await back_within(tier, 5, mine) < 2
        servers.until(lambda: all(servers._serves(node) for node in nodes), "the cluster")


class Moving:
    """A slot on its way from one node to another, as redis-cli moves it."""

    def __init__(
        self, nodes: list[servers.Server], slot: int, way: tuple[servers.Server, servers.Server]
    ) -> None:
        self.nodes = nodes
        self.slot = slot
        self.source, self.target = way
        self.ids = {node: node.command("CLUSTER", "MYID") for node in nodes}

    def begin(self) -> None:
        self.target.command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.ids[self.source])
        self.source.command("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.ids[self.target])

    def move(self, *names: str) -> None:
        self.source.command("MIGRATE", "127.0.0.1", self.target.port, "", 0, 1000, "KEYS", *names)

    def end(self) -> None:
        for node in (self.target, self.source, *self.nodes):
            node.command("CLUSTER", "SETSLOT", self.slot, "NODE", self.ids[self.target])

    def all_of_it(self) -> None:
        """Not at once: keys are in both places for a while."""
        self.begin()
        while names := self.source.command("CLUSTER", "GETKEYSINSLOT", self.slot, 10):
            self.move(*(name.decode() for name in names))
            time.sleep(0.01)
        self.end()

    def undo(self) -> None:
        """Whatever happened: the slot is empty, and where it was."""
        for node in self.nodes:
            node.command("CLUSTER", "SETSLOT", self.slot, "NODE", self.ids[self.target])
        while names := self.target.command("CLUSTER", "GETKEYSINSLOT", self.slot, 1000):
            self.target.command("DEL", *names)
        for node in self.nodes:
            node.command("CLUSTER", "SETSLOT", self.slot, "NODE", self.ids[self.source])


async def test_a_slot_that_moves_is_followed_while_and_after_it_moves(nodes: list[servers.Server]) -> None:
    key = key_on(nodes[0], nodes, 500)
    moving = Moving(nodes, key_slot(f"crowdgate:{key}".encode()), (nodes[0], nodes[1]))
    async with tier_on(urls(nodes), mode="cluster", timeout=1.0) as (tier, seen):
        await tier.put(key, b"v", 60)
        try:
            moving.begin()
            moving.move(f"crowdgate:{key}")
            assert await asyncio.gather(*(tier.get(key) for _ in range(40))) == [b"v"] * 40
            assert (await tier.get_with_ttl(key) or (None,))[0] == b"v"
            assert await tier.put(key, b"w", 60)
            moving.end()
            assert await asyncio.gather(*(tier.get(key) for _ in range(40))) == [b"w"] * 40
            assert (seen.failures, tier.up) == ({}, True)
        finally:
            moving.undo()


async def test_a_stream_whose_slot_moves_is_read_on_while_and_after_it_moves(
    nodes: list[servers.Server],
) -> None:
    key = key_on(nodes[0], nodes, 900)
    moving = Moving(nodes, key_slot(f"crowdgate:{key}".encode()), (nodes[0], nodes[1]))
    async with tier_on(urls(nodes), mode="cluster", timeout=1.0) as (tier, seen):
        ids = [await tier.stream_add(key, {b"a": b"1"}, keep_after_ms=0)]

        async def read_on() -> list[str]:
            tail = await tier.stream_after(key, ids[-2], block_ms=100, count=9)
            return [record_id for record_id, _ in tail.records if tail.intact]

        try:
            moving.begin()
            moving.move(f"crowdgate:{key}")
            ids.append(await tier.stream_add(key, {b"a": b"2"}, keep_after_ms=0))
            assert [await read_on() for _ in range(3)] == [ids[-1:]] * 3
            moving.end()
            # Nothing but this read has been told that it moved.
            assert [await read_on() for _ in range(3)] == [ids[-1:]] * 3
            assert (seen.failures, tier.up) == ({}, True)
        finally:
            moving.undo()


@pytest.mark.parametrize("told", ["unknown-endpoint", "hostname"])
async def test_nodes_that_tell_no_name_are_found(nodes: list[servers.Server], told: str) -> None:
    try:
        for node in nodes:
            node.command("CONFIG", "SET", "cluster-preferred-endpoint-type", told)
        async with tier_on(urls(nodes), mode="cluster", timeout=2.0) as (tier, seen):
            keys = [f"k{number}" for number in range(60)]
            assert all(await asyncio.gather(*(tier.put(key, b"v", 60) for key in keys)))
            assert (seen.failures, tier.up) == ({}, True)
    finally:
        for node in nodes:
            node.command("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


async def test_a_redirection_to_a_node_without_a_name_is_followed(nodes: list[servers.Server]) -> None:
    # A node that knows of no names says that it has all slots, itself and at its address.
    slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n"
    node = owner_of("k", nodes)
    async with fault_proxy(node.port) as proxy:
        proxy.set(answer=slots % proxy.port)
        async with tier_on(url_of(proxy), mode="cluster", timeout=2.0) as (tier, seen):
            assert tier.up
            proxy.set(answer=b"-MOVED %d ?:%d\r\n" % (key_slot(b"crowdgate:k"), node.port))
            assert (await tier.put("k", b"v", 60), seen.failures) == (Put.STORED, {})


async def test_what_nobody_waits_for_any_more_is_not_sent_to_where_its_slot_moves(
    nodes: list[servers.Server],
) -> None:
    key = key_on(nodes[0], nodes, 1300)
    moving = Moving(nodes, key_slot(f"crowdgate:{key}".encode()), (nodes[0], nodes[1]))
    async with tier_on(urls(nodes), mode="cluster") as (tier, _):
        outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        name = f"crowdgate:{key}".encode()
        request = Request(name, (Command(("APPEND", name, "x"), int),), outcome.set_result)
        try:
            moving.begin()
            tier._link.send(request)
            while not request.sent_at:
                await asyncio.sleep(0)
            request.is_dropped = True
            assert str(await asyncio.wait_for(outcome, 2)) == "nobody waits for it"
            assert nodes[1].command("CLUSTER", "COUNTKEYSINSLOT", moving.slot) == 0
        finally:
            moving.undo()


class Traffic:
    """Reads and writes all the time, and notes what is wrong: a miss, another key's value, one older than was stored."""

    def __init__(self, tier: RedisTier, keys: list[str]) -> None:
        self.tier = tier
        self.keys = keys
        self.wrong: list[tuple[str, object]] = []
        self.reads = 0
        self.over = False
        self._written = dict.fromkeys(keys, 0)
        self._work: list[asyncio.Future[None]] = []

    async def start(self) -> None:
        for key in self.keys:
            await self.tier.put(key, f"{key} 0".encode(), 600)
        self._work = [asyncio.ensure_future(self._read(start)) for start in range(24)]
        self._work.append(asyncio.ensure_future(self._write()))

    async def stop(self) -> None:
        self.over = True
        await asyncio.gather(*self._work)

    async def _read(self, start: int) -> None:
        while not self.over:
            self.reads += 1
            key = self.keys[(start + self.reads) % len(self.keys)]
            least, value = self._written[key], await self.tier.get(key)
            if value is None or not value.startswith(key.encode()) or int(value[len(key) + 1 :]) < least:
                self.wrong.append((key, value))

    async def _write(self) -> None:
        number = 0
        while not self.over:
            number += 1
            key = self.keys[number % len(self.keys)]
            if await self.tier.put(key, f"{key} {number}".encode(), 600):
                self._written[key] = number


async def test_slots_that_move_under_load_cost_no_miss_and_mix_nothing_up(
    nodes: list[servers.Server],
) -> None:
    # Keys with a tag share a slot.
    tags = ("a", "b", "c")
    keys = [f"{{{tag}}}{number}" for tag in tags for number in range(60)]
    moves = []
    for tag in tags:
        slot = key_slot(f"crowdgate:{{{tag}}}".encode())
        source = min(slot * 3 // 16384, 2)
        moves.append(Moving(nodes, slot, (nodes[source], nodes[(source + 1) % 3])))
    async with tier_on(urls(nodes), mode="cluster", timeout=5.0) as (tier, seen):
        traffic = Traffic(tier, keys)
        await traffic.start()
        try:
            for moving in moves:
                await asyncio.to_thread(moving.all_of_it)
                await asyncio.sleep(0.05)
            await traffic.stop()
            assert (traffic.wrong, seen.failures, tier.up) == ([], {}, True)
            assert traffic.reads > 100
            assert all(asked_elsewhere(moving.source) for moving in moves)
        finally:
            traffic.over = True
            for moving in moves:
                moving.undo()


async def test_one_redirection_tells_of_all_slots_that_moved(nodes: list[servers.Server]) -> None:
    # Fifty slots of the first node, all empty, go to the third one.
    tags = [tag for tag in map(str, range(9999)) if key_slot(f"crowdgate:{{{tag}}}".encode()) < 5000][:50]
    moves = [Moving(nodes, key_slot(f"crowdgate:{{{tag}}}".encode()), (nodes[0], nodes[2])) for tag in tags]
    async with tier_on(urls(nodes), mode="cluster", timeout=5.0) as (tier, seen):
        try:
            for moving in moves:
                moving.end()
            with nodes[0].session() as session:
                before = answered(session, "MOVED")
                assert await tier.put(f"{{{tags[0]}}}k", b"v", 60)
                # All are looked up in the background.
                async with asyncio.timeout(5):
                    while tier._link.shard(f"crowdgate:{{{tags[-1]}}}".encode()) != name_of(nodes[2]):
                        await asyncio.sleep(0.02)
                assert all([await tier.put(f"{{{tag}}}k", b"v", 60) for tag in tags])
                assert (answered(session, "MOVED") - before, seen.failures) == (1, {})
        finally:
            for moving in moves:
                moving.undo()


def asked_elsewhere(node: servers.Server) -> bool:
    """Whether a slot moved from there while it was in use."""
    with node.session() as session:
        return answered(session, "ASK") > 0 and answered(session, "MOVED") > 0


def name_of(node: servers.Server) -> str:
    return f"127.0.0.1:{node.port}"


def answered(session: servers.Session, error: str) -> int:
    """How often the node answered MOVED or ASK."""
    found = re.findall(rf"errorstat_{error}:count=([0-9]+)", session.command("INFO", "errorstats").decode())
    return int(found[0]) if found else 0


async def test_what_nobody_waits_for_any_more_is_not_sent_to_a_node(nodes: list[servers.Server]) -> None:
    key = key_on(nodes[1], nodes, 7000)
    async with tier_on(urls(nodes), mode="cluster") as (tier, _):
        ended: list[object] = []
        name = f"crowdgate:{key}".encode()
        request = Request(name, (Command(("APPEND", name, "x"), int),), ended.append)
        tier._link.send(request)
        request.is_dropped = True
        await asyncio.sleep(0.05)
        assert [str(error) for error in ended] == ["nobody waits for it"]
        assert nodes[1].command("EXISTS", name) == 0


async def test_redirections_in_a_circle_end(nodes: list[servers.Server]) -> None:
    slot = key_slot(b"crowdgate:k")
    async with fault_proxy(nodes[0].port) as proxy:
        proxy.set(answer=b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % proxy.port)
        async with tier_on(url_of(proxy), mode="cluster") as (tier, seen):
            assert tier.up
            proxy.set(answer=b"-MOVED %d 127.0.0.1:%d\r\n" % (slot, proxy.port))
            took, value = await seconds(tier.get("k"))
            assert (value, took < TIMEOUT + SLACK, seen.failures) == (None, True, {Kind.CLUSTERDOWN: 1})


async def test_a_failover_is_followed_and_no_request_looks_for_it() -> None:
    with servers.cluster(3, replicas=1) as nodes:
        primary, replica = nodes[0], nodes[3]
        key, other = key_on(primary, nodes[:3]), key_on(nodes[1], nodes[:3])
        async with tier_on(urls(nodes[1:3]), mode="cluster") as (tier, _):
            await tier.put(key, b"v", 60)
            await tier.put(other, b"o", 60)
            servers.until(lambda: replica.command("DBSIZE") == 1, "replication")
            before = await times_of(tier, [other], 0.5)
            primary.kill()
            lost, others = await asyncio.gather(
                times_of(tier, [key], 1.2), undisturbed(tier, other, 1.2, before)
            )
            assert (max(lost.times) < TIMEOUT + SLACK, others) == (True, True)
            await back_within(tier, 10, key)
            async with asyncio.timeout(5):
                while not tier.up:
                    await asyncio.sleep(0.02)
            # It takes writes there, and the old primary comes back as a replica of no interest.
            assert await tier.put(key, b"w", 60)
            assert replica.command("GET", f"crowdgate:{key}") == b"w"
            primary.start()
            after = await times_of(tier, [key, other], 0.5)
            assert (after.missed, await tier.get(key)) == (0, b"w")


async def test_a_failover_by_hand_costs_redirections_alone() -> None:
    with servers.cluster(3, replicas=1) as nodes:
        primary, replica = nodes[0], nodes[3]
        keys = [key_on(primary, nodes[:3], start) for start in range(0, 3000, 100)]
        async with tier_on(urls(nodes[1:3]), mode="cluster", timeout=5.0) as (tier, seen):
            for key in keys:
                await tier.put(key, key.encode(), 60)
            servers.until(lambda: replica.command("DBSIZE") == len(set(keys)), "replication")
            reading = asyncio.ensure_future(times_of(tier, keys, 2.0))
            await asyncio.to_thread(replica.command, "CLUSTER", "FAILOVER")
            times = await reading
            assert (times.missed, seen.failures, tier.up) == (0, {}, True)
            assert "master" in replica.info("replication")["role"]
            # The one that was demoted is not asked any more.
            with primary.session() as session:
                before = answered(session, "MOVED")
                assert [await tier.get(key) for key in keys] == [key.encode() for key in keys]
                assert answered(session, "MOVED") == before


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
