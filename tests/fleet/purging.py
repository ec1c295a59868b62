"""What a purge costs, what it costs to wait for every replica, and whether anything old is served after it."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests import servers
from tests.fleet.clients import Connections, quantile
from tests.fleet.cold import REPLICAS, config
from tests.fleet.entries import Multiplier
from tests.fleet.replicas import Fleet, Replica, fleet
from tests.flow.client import Response, fetch
from tests.flow.origin import Asked, ok, origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long something took, each time."""

    count: int
    min_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Durations":
        p50, p99 = quantile(seconds, 0.5) * 1000, quantile(seconds, 0.99) * 1000
        least, most = min(seconds) * 1000, max(seconds) * 1000
        return cls(count=len(seconds), min_ms=least, p50_ms=p50, p99_ms=p99, max_ms=most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purging:
    """A tag that is purged again and again while every replica has in memory what it names."""

    purge: Durations
    """Not waited for: as long as an operator waits, or the client of a write."""
    wait: Durations
    nothing: Durations
    """The admin port's answers to `/livez`, in between: as long as this machine needs to do nothing."""
    not_waited_for: tuple[str, ...]
    """Answers to waits that had not every replica's word."""
    old_answers: int
    """That any replica served after a wait."""


async def purging(server: servers.Server, count: int = 200) -> Purging:
    """`count` purges of either kind. After each wait every replica is asked at once."""
    version = 0

    async def state(asked: Asked) -> None:
        await ok(b"%d" % version)(asked)

    times, unwaited, idle = list[float](), list[float](), list[float]()
    old, alone = 0, list[str]()
    async with origin() as api:
        api.on("/events", state)
        routes = "routes: [{match: '/events/{id}', ttl: 1m, tags: [events]}]"
        async with fleet(config(api.url, server, routes), REPLICAS) as replicas:
            await _from_all(replicas, "/events/1")
            for number in range(count):
                version += 1
                seconds, told = await purged(replicas.replicas[number % REPLICAS], "events", wait=True)
                times.append(seconds)
                idle.append(await _nothing(replicas.replicas[number % REPLICAS]))
                if not _everywhere(told):
                    alone.append(json.dumps(told))
                answers = await _from_all(replicas, "/events/1")
                old += sum(answer.body != b"%d" % version for answer in answers)
            for number in range(count):
                unwaited.append((await purged(replicas.replicas[number % REPLICAS], "events"))[0])
    return Purging(
        purge=Durations.of(unwaited),
        wait=Durations.of(times),
        nothing=Durations.of(idle),
        not_waited_for=tuple(alone),
        old_answers=old,
    )


async def _from_all(replicas: Fleet, target: str) -> list[Response]:
    return await asyncio.gather(*(fetch(replica.port, target) for replica in replicas.replicas))


async def purged(replica: Replica, tag: str, *, wait: bool = False) -> tuple[float, dict[str, Any]]:
    """Seconds that it took, a new connection to the admin port among them, and what was answered."""
    body = json.dumps({"tags": [tag], "wait": wait}).encode()
    began = asyncio.get_running_loop().time()
    answer = await replica.proxy.asked("/api/purge", method="POST", body=body)
    seconds = asyncio.get_running_loop().time() - began
    assert answer.status in {200, 202}, answer
    told: dict[str, Any] = json.loads(answer.body)
    return seconds, told


async def _nothing(replica: Replica) -> float:
    began = asyncio.get_running_loop().time()
    await replica.proxy.asked("/livez")
    return asyncio.get_running_loop().time() - began


def _everywhere(told: dict[str, Any]) -> bool:
    return (told.get("waited"), told.get("replicas"), told.get("missing")) == (True, REPLICAS, [])


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyEntries:
    """A tag that names a great many entries."""

    entries: int
    redis_bytes: int
    old_before: int
    """Answers from what was stored, before the purge."""
    from_memory_before: int
    """Of them."""
    first_purge_ms: float
    """The one that takes them all away."""
    purge: Durations
    """That one, and more of the same tag."""
    wait: Durations
    not_waited_for: tuple[str, ...]
    asked_after: int
    """Entries that were asked for after the wait: those from before, and as many that only Redis has."""
    old_after: int


async def many_entries(server: servers.Server, count: int, *, sampled: int = 100) -> ManyEntries:
    """`count` entries in Redis. Every replica has `sampled` of them in memory."""
    async with origin() as api:
        api.on("/items", ok(b"old 0000000"))
        routes = "routes: [{match: '/items/{id}', ttl: 1h, tags: [items]}]"
        async with fleet(config(api.url, server, routes), REPLICAS) as replicas:
            await _multiply(server, replicas, count)
            redis_bytes = int(server.info("memory")["used_memory"])
            step = count // (2 * sampled)
            targets = [f"/items/{number * step + 1}" for number in range(2 * sampled)]
            known = targets[::2]
            before = await _samples(replicas, known) + await _samples(replicas, known)
            api.on("/items", ok(b"new"))
            often = _Often(replicas)
            await often.purge(1)
            afterwards = await _samples(replicas, targets)
            await often.purge(19)
    return ManyEntries(
        entries=count,
        redis_bytes=redis_bytes,
        old_before=sum(answer.body.startswith(b"old") for answer in before),
        from_memory_before=sum("detail=memory" in answer.cache for answer in before),
        first_purge_ms=often.purges[0] * 1000,
        purge=Durations.of(often.purges),
        wait=Durations.of(often.waits),
        not_waited_for=tuple(often.alone),
        asked_after=len(afterwards),
        old_after=sum(answer.body != b"new" for answer in afterwards),
    )


async def _multiply(server: servers.Server, replicas: Fleet, count: int) -> None:
    first = replicas.replicas[0]
    await fetch(first.port, "/items/0")
    await first.proxy.until("crowdgate_redis_seconds_count", 1, op="put")
    multiplier = Multiplier(server, first.proxy.config)
    # In a thread: it takes seconds, and the API and the clients live in this loop.
    await asyncio.to_thread(multiplier.write, _items(count))


def _items(count: int) -> Iterator[tuple[str, bytes]]:
    return ((f"/items/{number}", b"old %07d" % number) for number in range(1, count))


async def _samples(replicas: Fleet, targets: list[str]) -> list[Response]:
    connections = Connections()
    try:
        return [await connections.ask(replica, target) for replica in replicas.replicas for target in targets]
    finally:
        connections.close()


class _Often:
    """Purges of the same tag by one replica after another, not waited for and waited for."""

    def __init__(self, replicas: Fleet) -> None:
        self._replicas = replicas.replicas
        self.purges: list[float] = []
        self.waits: list[float] = []
        self.alone: list[str] = []

    async def purge(self, times: int) -> None:
        for _ in range(times):
            replica = self._replicas[len(self.purges) % REPLICAS]
            self.purges.append((await purged(replica, "items"))[0])
            seconds, told = await purged(replica, "items", wait=True)
            self.waits.append(seconds)
            if not _everywhere(told):
                self.alone.append(json.dumps(told))
