"""The log on a real Redis that goes away, loses it and comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from time import sleep as blocking_sleep
from time import time
from typing import Any

import pytest

from proxy import metrics, purge_log
from proxy.metrics import Metrics
from proxy.policy import known_log, replicas
from proxy.policy.purges import Concerned, Kind, record_id, stream_id
from proxy.policy.writes import Name
from proxy.purge_log import PurgeLog
from proxy.settings import Redis
from proxy.store.redis import RedisTier
from proxy.tasks import Tasks
from tests import servers
from tests.faults import FaultProxy, fault_proxy
from tests.log_lines import capture_logs
from tests.redis_tiers import needs_redis, url_of

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
async def replica(url: str | None = None, *, leaves: bool = True) -> AsyncIterator[Replica]:
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
            if leaves:
                await log.leave()
            await tier.close()


@pytest.fixture
def server() -> Any:
    with servers.redis() as one:
        yield one


def recorded(server: servers.Server) -> Any:
    return server.command("XRANGE", "crowdgate:purges", "-", "+")


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


async def test_without_redis_a_purge_concerns_nothing_that_comes_after_it() -> None:
    async with replica() as alone:
        for tag in ("events", "other", "another"):
            await alone.log.purge([(Kind.TAG, tag)])
            await asyncio.sleep(0.002)

        assert not alone.purged(alone.concerned())
        assert alone.log.purges._afloat == {}


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

        assert (a.log.purges._afloat, b.log.purges._afloat) == ({}, {})
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
        await until(lambda: a.log.purges._afloat == {})
        kinds = [dict(zip(record[::2], record[1::2], strict=True))[b"k"] for _, record in recorded(server)]
        assert kinds.count(b"tag") == 2


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
        await until(lambda: a.log.purges._afloat == {})


@needs_redis
async def test_a_log_that_was_lost_drops_what_is_in_memory(server: servers.Server) -> None:
    async with replica(server.url) as a:
        await a.log.purge([EVENTS])
        await until(lambda: a.log._known.cursor == stream_id(a.log.purges.last))
        entry = a.concerned(tag="other")
        with capture_logs() as lines:
            # Redis is back without its data, as after a restart without a disk.
            server.restart()
            await until(lambda: a.purged(entry))
            await until(lambda: a.log.readable)

        assert "purge log was lost; what was stored is dropped" in {line["event"] for line in lines}
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


# -- a log that was lost --


@asynccontextmanager
async def one_away(server: servers.Server) -> AsyncIterator[tuple[Replica, Replica, FaultProxy]]:
    """Two replicas, of which the second is cut off by the proxy when its fault is set."""
    async with fault_proxy(server.port) as between, replica(server.url) as a, replica(url_of(between)) as b:
        await until(lambda: b.log.readable and b.log.purges.last == a.log.purges.last)
        await until(lambda: a.log.replicas == 2)
        yield a, b, between


async def cut_off(replica: Replica, between: FaultProxy) -> None:
    between.set(refuse=True)
    between.reset_all()
    await until(lambda: not replica.log.readable)


LOSSES = {
    "an empty replacement": lambda server: server.restart(),
    "FLUSHALL": lambda server: server.command("FLUSHALL"),
    "eviction": lambda server: server.command("DEL", "crowdgate:purges"),
}


@needs_redis
@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
async def test_a_log_that_was_lost_while_a_replica_was_away_is_noticed_although_purges_were_made_since(
    server: servers.Server, lose: Callable[[servers.Server], Any]
) -> None:
    async with one_away(server) as (a, b, between):
        entry = b.concerned()
        await cut_off(b, between)
        await a.log.purge([EVENTS])
        lose(server)
        await until(lambda: a.metrics.purge_losses == 1 and a.log.readable)
        for number in range(3):
            await a.log.purge([(Kind.TAG, f"t{number}")])
        assert not b.purged(entry)
        between.set()
        await until(lambda: b.log.readable)

        assert (b.purged(entry), b.metrics.purge_losses) == (True, 1)
        assert (a.purged(a.concerned()), b.purged(b.concerned())) == (False, False)
        # One of them has said so to whoever reads the log from now on.
        async with replica(server.url) as late:
            assert late.purged(entry)


@needs_redis
async def test_a_log_that_is_flushed_under_their_eyes_is_noticed_within_a_second(
    server: servers.Server,
) -> None:
    async with replica(server.url) as a, replica(server.url) as b:
        await a.log.purge([EVENTS])
        await until(lambda: b.log.purges.last == a.log.purges.last)
        entries = a.concerned(tag="x"), b.concerned(tag="x")
        server.command("FLUSHALL")
        await until(lambda: a.purged(entries[0]) and b.purged(entries[1]), 1.5)
        await until(lambda: a.log.readable and b.log.readable)
        await a.log.purge([EVENTS])
        entry = b.concerned()
        await until(lambda: b.log.purges.last == a.log.purges.last)
        await b.log.purge([EVENTS])

        assert a.metrics.purge_losses == b.metrics.purge_losses == 1
        assert b.purged(entry)


@needs_redis
async def test_ids_grow_although_the_clock_of_a_new_redis_is_behind(server: servers.Server) -> None:
    hour_ahead = int((time() + 3600) * 1000)
    async with replica(server.url) as a, replica(server.url) as b:
        server.command("XADD", "crowdgate:purges", f"{hour_ahead}-0", "k", "mark")
        await until(lambda: a.log.purges.last == b.log.purges.last == record_id(f"{hour_ahead}-0"))
        server.command("FLUSHALL")
        await until(lambda: a.metrics.purge_losses == b.metrics.purge_losses == 1)
        await until(lambda: a.log.readable and b.log.readable)
        before = b.concerned()
        await a.log.purge([EVENTS])
        await until(lambda: b.purged(before))

        assert int(recorded(server)[0][0].split(b"-")[0]) > hour_ahead
        assert not b.purged(b.concerned())


@needs_redis
@pytest.mark.parametrize("behind", [pytest.param(False, id="in time"), pytest.param(True, id="behind")])
async def test_records_that_a_failover_lost_are_put_back_and_nothing_is_dropped(
    server: servers.Server, *, behind: bool
) -> None:
    async with one_away(server) as (a, b, between):
        await a.log.purge([(Kind.TAG, "kept")])
        await until(lambda: b.log.purges.last == a.log.purges.last)
        entry, other = b.concerned(), a.concerned(tag="other")
        await cut_off(b, between)
        await a.log.purge([EVENTS])
        await until(lambda: a.log._known.cursor == stream_id(a.log.purges.last))
        # What a master that had not got the last record would have.
        lost, _ = recorded(server)[-1]
        server.command("XDEL", "crowdgate:purges", lost)
        if behind:
            server.command("XSETID", "crowdgate:purges", recorded(server)[-1][0])
        between.set()
        await until(lambda: b.purged(entry))
        await until(lambda: any(lost in fields for _, fields in recorded(server)))
        await asyncio.sleep(0.3)

        assert (a.purged(other), a.metrics.purge_losses, b.metrics.purge_losses) == (False, 0, 0)
        # Once: who else knew of it saw that it's there again.
        assert [lost in fields for _, fields in recorded(server)].count(True) == 1


@needs_redis
async def test_a_purge_that_gets_a_number_from_the_past_is_made_again_above_all(
    server: servers.Server,
) -> None:
    async with replica(server.url) as a, replica(server.url) as b:
        await a.log.purge([(Kind.TAG, "kept")])
        await until(lambda: b.log.purges.last == a.log.purges.last)
        hour_ahead = f"{int((time() + 3600) * 1000)}-0"
        server.command("XADD", "crowdgate:purges", hour_ahead, "k", "mark")
        await until(lambda: b.log.purges.last == a.log.purges.last == record_id(hour_ahead))
        # A failover to one whose clock is behind.
        server.command("XDEL", "crowdgate:purges", hour_ahead)
        server.command("XSETID", "crowdgate:purges", recorded(server)[-1][0])
        entry = b.concerned()
        assert entry.born == record_id(hour_ahead)
        await a.log.purge([EVENTS])
        await until(lambda: b.purged(entry))
        await until(lambda: record_id(recorded(server)[-1][0].decode()) > record_id(hour_ahead), 5)

        async with replica(server.url) as late:
            await until(lambda: late.purged(entry))


# -- a log that cannot be used as it should --


@needs_redis
async def test_a_log_that_takes_no_records_can_still_be_read(server: servers.Server) -> None:
    server.command("CONFIG", "SET", "maxmemory", "1")
    async with replica(server.url) as a:
        await until(lambda: a.log.readable)
        assert not await a.log.purge([EVENTS])
        server.command("CONFIG", "SET", "maxmemory", "0")
        async with replica(server.url) as b:
            entry = b.concerned(born=0)
            await until(lambda: b.purged(entry))


@needs_redis
async def test_an_id_that_no_clock_could_give_makes_the_log_unreadable_and_not_endless(
    server: servers.Server,
) -> None:
    async with replica(server.url) as a:
        last = a.log.purges.last
        server.command("XADD", "crowdgate:purges", "99999999999999-0", "k", "tag", "v", "x")
        await until(lambda: not a.log.readable)
        assert a.log.purges.last == last
        server.command("DEL", "crowdgate:purges")
        await until(lambda: a.log.readable)


@needs_redis
async def test_a_log_in_which_nobody_purges_gets_a_mark_now_and_then(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_log, "_QUIET_S", (0.1, 0.2))
    async with replica(server.url) as a:
        await until(lambda: a.log.readable)
        entry = a.concerned()
        await until(lambda: len(recorded(server)) > 3)

        assert (a.purged(entry), a.counted()) == (False, 0)
        assert {fields[1] for _, fields in recorded(server)} == {b"begin", b"mark"}


@needs_redis
async def test_a_long_log_is_cut_short_and_who_starts_later_trusts_nothing_older(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_log, "MAX_RECENT", 50)
    monkeypatch.setattr(known_log, "MAX_RECORDS", 200)
    async with replica(server.url) as a:
        entry = a.concerned(tag="t0")
        for start in range(0, 1000, 20):
            await a.log.purge([(Kind.TAG, f"t{start + number}") for number in range(20)])
        # Redis lets go of whole blocks of a hundred.
        assert len(recorded(server)) < 500
        async with replica(server.url) as late:
            assert (late.purged(entry), late.purged(a.concerned(tag="t0"))) == (True, False)


# -- soft purges, and who hears of purges --


@needs_redis
async def test_a_soft_purge_counts_from_when_it_was_made_however_late_the_log_gets_it(
    server: servers.Server,
) -> None:
    async with replica(server.url) as a:
        entry = a.concerned()
        server.kill()
        await asyncio.sleep(0.3)
        made = time()
        await a.log.purge([EVENTS], soft=True)

        assert made - 0.01 <= a.log.purges.standing(entry).soft_at <= time() + 0.01


@needs_redis
async def test_whoever_wants_to_hears_of_purges_made_here_and_elsewhere(server: servers.Server) -> None:
    async with replica(server.url) as a, replica(server.url) as b:
        heard: list[tuple[str, bool]] = []
        entries = a.concerned(), b.concerned()
        a.log.heard.append(lambda: heard.append(("a", a.purged(entries[0]))))
        b.log.heard.append(lambda: heard.append(("b", b.purged(entries[1]))))
        await a.log.purge([EVENTS])
        await until(lambda: ("b", True) in heard)

        assert ("a", True) in heard


# -- waiting for the others --


@needs_redis
async def test_a_purge_that_is_waited_for_has_been_applied_by_all(server: servers.Server) -> None:
    async with replica(server.url) as a, replica(server.url) as b, replica(server.url) as c:
        entries = b.concerned(), c.concerned()
        reached = await a.log.purge_and_wait([EVENTS])

        assert (b.purged(entries[0]), c.purged(entries[1])) == (True, True)
        assert (reached.shared, reached.everywhere, reached.replicas, reached.missing) == (True, True, 3, ())
        assert reached.seconds < 0.5
        await until(lambda: (a.log.replicas, b.log.replicas) == (3, 3))


async def test_without_redis_there_is_nobody_to_wait_for() -> None:
    async with replica() as alone:
        reached = await alone.log.purge_and_wait([EVENTS])

        assert (reached.shared, reached.everywhere, reached.replicas, reached.missing) == (False, True, 1, ())


@needs_redis
async def test_a_replica_that_is_cut_off_is_missing_and_not_waited_for_once_it_is_silent(
    server: servers.Server,
) -> None:
    async with one_away(server) as (a, b, between):
        await cut_off(b, between)
        first = await a.log.purge_and_wait([EVENTS], timeout_s=0.3)
        second = await a.log.purge_and_wait([EVENTS], timeout_s=20)
        third = await a.log.purge_and_wait([EVENTS], timeout_s=20)

        told = [
            (reached.everywhere, reached.replicas, [one.replica for one in reached.missing])
            for reached in (first, second, third)
        ]
        assert told == [(False, 1, [b.log._own])] * 3
        assert (0.3 <= first.seconds < 1, second.seconds < 4, third.seconds < 0.5) == (True, True, True)
        # It serves what it had for its max_age; and before it is known to be silent, it may read on.
        assert (60 < first.missing[0].for_s <= 63, third.missing[0].for_s) == (True, 60)
        between.set()
        await until(lambda: b.log.readable)
        assert (await a.log.purge_and_wait([EVENTS])).everywhere


@needs_redis
async def test_a_replica_that_has_left_is_not_missing(server: servers.Server) -> None:
    async with replica(server.url) as a:
        async with replica(server.url):
            pass
        reached = await a.log.purge_and_wait([EVENTS])

        assert (reached.everywhere, reached.replicas, reached.missing) == (True, 1, ())


@needs_redis
async def test_a_replica_that_died_is_missing_for_a_minute_and_then_forgotten(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "_GONE_S", 3.5)
    async with replica(server.url) as a:
        a.log.max_age_s = 1.0
        async with replica(server.url, leaves=False) as b:
            b.log.max_age_s = 1.0
            await until(lambda: a.log.replicas == 2)
        reached = await a.log.purge_and_wait([EVENTS], timeout_s=0.1)
        assert [one.replica for one in reached.missing] == [b.log._own]
        await asyncio.sleep(5)

        assert (await a.log.purge_and_wait([EVENTS])).everywhere
        (table,) = server.command("KEYS", "crowdgate:*replicas")
        assert server.command("HKEYS", table) == [a.log._own.encode()]


@needs_redis
async def test_replicas_whose_table_was_lost_are_still_waited_for(server: servers.Server) -> None:
    async with one_away(server) as (a, b, between):
        between.set(stall=True)
        server.command("FLUSHALL")
        reached = await a.log.purge_and_wait([EVENTS], timeout_s=0.5)

        assert (reached.everywhere, [one.replica for one in reached.missing]) == (False, [b.log._own])


@needs_redis
async def test_without_redis_at_hand_a_wait_ends_in_time_and_says_that_it_does_not_know(
    server: servers.Server,
) -> None:
    async with replica(server.url) as a:
        server.kill()
        reached = await a.log.purge_and_wait([EVENTS], timeout_s=0.3)

        assert (reached.shared, reached.everywhere) == (False, False)
        assert 0.3 <= reached.seconds < 1
        assert a.purged(a.concerned(born=0))


@needs_redis
async def test_a_purge_that_is_waited_for_while_the_log_loses_it_is_waited_for_again(
    server: servers.Server,
) -> None:
    async with one_away(server) as (a, b, between):
        await a.log.purge([(Kind.TAG, "kept")])
        await until(lambda: b.log.purges.last == a.log.purges.last)
        entry = b.concerned()
        await cut_off(b, between)
        waiting = asyncio.ensure_future(a.log.purge_and_wait([EVENTS], timeout_s=10))
        await until(lambda: a.log._known.cursor == stream_id(a.log.purges.last))
        await asyncio.sleep(0.1)
        server.command("XDEL", "crowdgate:purges", recorded(server)[-1][0])
        between.set()
        reached = await waiting

        assert (reached.everywhere, b.purged(entry)) == (True, True)


# -- a process that sleeps --


@pytest.fixture
def light_sleeper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge_log, "_TICK_S", 0.02)
    monkeypatch.setattr(purge_log, "_SLEPT_S", 0.1)


def sleep_through(seconds: float) -> None:
    """All of this process stands still, as if it had been stopped."""
    blocking_sleep(seconds)


@needs_redis
async def test_after_a_sleep_nothing_is_trusted_before_the_log_was_read(
    server: servers.Server, light_sleeper: None
) -> None:
    async with replica(server.url) as a:
        await until(lambda: a.log._ticked < inf)
        entry = a.concerned()
        server.command("XADD", "crowdgate:purges", "*", "k", "tag", "v", "events")
        sleep_through(0.3)
        assert a.log.in_doubt
        await until(lambda: not a.log.in_doubt)

        assert (a.purged(entry), a.log.readable) == (True, True)


@needs_redis
async def test_after_a_sleep_without_redis_the_doubt_ends_and_the_rule_for_a_log_that_cannot_be_read_holds(
    server: servers.Server, light_sleeper: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_log, "_DOUBT_S", 0.4)
    async with replica(server.url) as a:
        await until(lambda: a.log._ticked < inf)
        server.kill()
        sleep_through(0.3)
        assert a.log.in_doubt
        await asyncio.sleep(0.1)
        assert (a.log.in_doubt, a.log.readable) == (True, False)
        await until(lambda: not a.log.in_doubt, 2)

        assert not a.log.readable


async def test_without_redis_nothing_is_ever_in_doubt(light_sleeper: None) -> None:
    async with replica() as alone:
        await asyncio.sleep(0.05)
        sleep_through(0.3)

        assert not alone.log.in_doubt
