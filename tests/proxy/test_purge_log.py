"""The log on a real Redis that goes away, loses it and comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from proxy import metrics, purge_log
from proxy.metrics import Metrics
from proxy.policy.purges import Concerned, Kind
from proxy.policy.writes import Name
from proxy.purge_log import PurgeLog
from proxy.settings import Redis
from proxy.store.redis import RedisTier
from proxy.tasks import Tasks
from tests import servers
from tests.log_lines import capture_logs
from tests.redis_tiers import needs_redis

EVENTS: Name = (Kind.TAG, "events")


@dataclass
class Replica:
    log: PurgeLog
    metrics: Metrics
    tasks: Tasks
    tier: RedisTier | None = None

    def concerned(self, *, born: int | None = None, tag: str = "events", url: str = "/e") -> Concerned:
        return Concerned(born=self.log.purges.last if born is None else born, route="r", url=url, tags=(tag,))

    def purged(self, entry: Concerned) -> bool:
        return self.log.purges.standing(entry).purged

    def counted(self, kind: str = "tag") -> float:
        return metrics.total(metrics.read(self.metrics.render().decode()), metrics.PURGES, kind=kind)


@asynccontextmanager
async def replica(url: str | None = None) -> AsyncIterator[Replica]:
    tasks, counted = Tasks(), Metrics("1")
    tier = RedisTier(Redis(url=url, probe_every=0.2), counted, tasks) if url else None
    log = PurgeLog(tier, counted, tasks)
    if tier is not None:
        await tier.start()
        await log.catch_up(1.0)
    tasks.spawn(log.follow(), name="purge log")
    try:
        yield Replica(log, counted, tasks, tier)
    finally:
        await tasks.close(1)
        if tier is not None:
            await tier.close()


@pytest.fixture
def server() -> Any:
    with servers.redis() as one:
        yield one


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


async def test_without_redis_a_purge_holds_at_once() -> None:
    async with replica() as alone:
        before, other = alone.concerned(), alone.concerned(tag="other")
        assert await alone.log.purge([EVENTS, (Kind.URL, "/x")])

        assert (alone.purged(before), alone.purged(other), alone.log.readable) == (True, False, True)
        assert not alone.purged(alone.concerned())
        assert (alone.counted(), alone.counted("url")) == (1, 1)


async def test_without_redis_a_clock_that_steps_back_loses_no_purge(monkeypatch: pytest.MonkeyPatch) -> None:
    async with replica() as alone:
        await alone.log.purge([EVENTS])
        entry = alone.concerned()
        monkeypatch.setattr(purge_log, "time", lambda: 1.0)
        await alone.log.purge([EVENTS])

        assert alone.purged(entry)


@needs_redis
async def test_a_purge_holds_here_when_it_returns_and_there_soon_after(server: servers.Server) -> None:
    async with replica(server.url) as a, replica(server.url) as b:
        here, there = a.concerned(), b.concerned()
        assert await a.log.purge([EVENTS])
        assert a.purged(here)
        await until(lambda: b.purged(there), 0.5)
        await asyncio.sleep(0.05)

        # Its own record, read again, is not a second purge.
        assert (a.counted(), b.counted()) == (1, 1)
        assert a.log.purges.last == b.log.purges.last
        assert not a.purged(a.concerned())


@needs_redis
async def test_a_replica_that_starts_knows_what_was_purged_before(server: servers.Server) -> None:
    async with replica(server.url) as a:
        entry = a.concerned()
        await a.log.purge([EVENTS])
    async with replica(server.url) as late:
        assert (late.log.readable, late.purged(entry)) == (True, True)


@needs_redis
async def test_a_purge_made_while_redis_is_away_reaches_the_others_when_it_is_back(
    server: servers.Server,
) -> None:
    async with replica(server.url) as a, replica(server.url) as b:
        server.kill()
        here, there = a.concerned(), b.concerned()
        assert not await a.log.purge([EVENTS], soft=True)
        assert not await a.log.purge([EVENTS])
        assert (a.purged(here), b.purged(there)) == (True, False)
        await until(lambda: not a.log.readable and not b.log.readable)

        server.start()
        await until(lambda: b.purged(there))
        await until(lambda: a.log.readable and b.log.readable)
        assert server.command("XLEN", "crowdgate:purges") == 2


@needs_redis
async def test_too_many_purges_that_wait_are_one_of_everything(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_log, "_MAX_PENDING", 3)
    async with replica(server.url) as a, replica(server.url) as b:
        server.kill()
        entry = b.concerned(tag="never named")
        for number in range(5):
            await a.log.purge([(Kind.TAG, f"t{number}")])
        assert len(a.log._pending) <= 3
        server.start()

        await until(lambda: b.purged(entry))


@needs_redis
async def test_a_log_that_was_lost_drops_what_is_in_memory(server: servers.Server) -> None:
    async with replica(server.url) as a:
        await a.log.purge([EVENTS])
        await until(lambda: a.log._cursor == a.log.purges.last)
        entry = a.concerned(tag="other")
        with capture_logs() as lines:
            # Redis is back without its data, as after a restart without a disk.
            server.restart()
            await until(lambda: a.purged(entry))
            await until(lambda: a.log.readable)

        assert "purge log was lost; memory is dropped" in {line["event"] for line in lines}
        assert "purge log cannot be read" in {line["event"] for line in lines}
        # And it goes on: the new log's records are read from its beginning.
        async with replica(server.url) as b:
            again = a.concerned()
            await b.log.purge([EVENTS])
            await until(lambda: a.purged(again))


@needs_redis
async def test_a_record_of_a_newer_version_is_taken_for_everything(server: servers.Server) -> None:
    async with replica(server.url) as a:
        entry = a.concerned(tag="other")
        server.command("XADD", "crowdgate:purges", "*", "k", "new kind", "v", "x")
        await until(lambda: a.purged(entry))

        assert not a.purged(a.concerned(tag="other"))


@needs_redis
async def test_a_purge_whose_caller_leaves_reaches_the_others_all_the_same(server: servers.Server) -> None:
    async with replica(server.url) as a, replica(server.url) as b:
        entry = b.concerned()
        server.pause()
        leaving = asyncio.ensure_future(a.log.purge([EVENTS]))
        await asyncio.sleep(0.01)
        leaving.cancel()
        await asyncio.wait({leaving})
        server.resume()

        assert a.purged(a.concerned(born=0))
        await until(lambda: b.purged(entry))


@needs_redis
async def test_the_log_is_read_although_it_is_longer_than_one_batch(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_log, "_BATCH", 3)
    async with replica(server.url) as a:
        await a.log.purge([(Kind.TAG, f"t{number}") for number in range(10)])
    async with replica(server.url) as late:
        assert (late.log.readable, late.counted()) == (True, 10)


@needs_redis
async def test_before_the_log_is_read_redis_is_not_trusted(server: servers.Server) -> None:
    server.kill()
    async with replica(server.url) as a:
        assert not a.log.readable
        server.start()
        await until(lambda: a.log.readable)
