"""Every test runs on memory alone and on memory before Redis, where both must do the same."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from proxy import settings
from proxy.policy.key import variant
from proxy.policy.purges import Kind, Purges, Record, record_id
from proxy.policy.routes import Route, prepare
from proxy.store.entry import Entry
from proxy.store.memory import Memory
from proxy.store.redis import RedisTier
from proxy.store.tiers import Copy, Tiers, signpost, variant_key
from proxy.wire.fields import Fields
from tests import servers
from tests.entries import an_entry
from tests.redis_tiers import needs_redis, tier_on

NOW = 1_800_000_000.0
NOBODY: Fields = ()
ENTRY = an_entry(NOW, born=record_id("5-0"), lines=b"A: b\r\n", keep_until=NOW + 100, body=b"body" * 1000)


@dataclass
class Log:
    """A purge log that the test writes."""

    purges: Purges = field(default_factory=Purges)
    readable: bool = True
    in_doubt: bool = False

    def purge(self, tag: str, at: int, *, soft: bool = False) -> None:
        self.purges.apply(Record(at=at, kind=Kind.TAG, value=tag, soft=soft))


class Store:
    """Tiers under test."""

    def __init__(self, redis: RedisTier | None) -> None:
        self.log = Log()
        # Read as far as the entries' own replica had when it asked.
        self.log.purges.last = ENTRY.born
        self.damage: list[str] = []
        self.memory: Memory[Copy] = Memory(max_bytes=2**20, max_object_bytes=2**20)
        self.redis = redis
        self.tiers = self.another(self.memory)

    def another(self, memory: Memory[Copy] | None = None) -> Tiers:
        """A second replica's, with a memory of its own."""
        own: Memory[Copy] = memory or Memory(max_bytes=2**20, max_object_bytes=2**20)
        return Tiers(own, self.redis, self.log, self.damage.append)

    async def put(self, entry: Entry = ENTRY, base: str = "e:k", route: Route | None = None) -> bool:
        kept = self.tiers.keep(entry, base, route or ROUTE, NOW)
        await self.tiers.store(entry, base, route or ROUTE, NOW)
        return kept


def route(**more: Any) -> Route:
    return prepare(settings.Route(match="/events", name="events", **more))


ROUTE = route()


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield Store(None)
        return
    with servers.redis() as server:
        async with tier_on(server.url) as (tier, _):
            yield Store(tier)


@pytest.fixture
async def shared(server: servers.Server) -> AsyncIterator[Store]:
    """On Redis, for what only Redis does."""
    async with tier_on(server.url) as (tier, _):
        yield Store(tier)


def varied(value: bytes) -> tuple[Entry, Fields]:
    fields = ((b"X", value),)
    return msgspec.structs.replace(
        ENTRY, key=variant("e:k", (b"x",), fields), vary=("x",), body=value
    ), fields


async def test_what_is_kept_is_recalled(store: Store) -> None:
    assert store.tiers.recall("e:k", NOBODY, NOW) is None
    assert await store.put()
    found = store.tiers.recall("e:k", NOBODY, NOW)

    assert found is not None
    assert (found.entry, found.soft_purged) == (ENTRY, 0.0)


async def test_each_request_finds_its_own_variant(store: Store) -> None:
    entries = [varied(value) for value in (b"1", b"2")]
    for entry, _ in entries:
        await store.put(entry)

    found = [store.tiers.recall("e:k", fields, NOW) for _, fields in entries]
    assert [each and each.entry.body for each in found] == [b"1", b"2"]
    assert store.tiers.recall("e:k", ((b"X", b"3"),), NOW) is None
    assert store.tiers.recall("e:k", NOBODY, NOW) is None


async def test_too_many_variants_push_out_the_oldest(store: Store) -> None:
    store.tiers.limits = settings.Memory(max_variants=2)
    entries = [varied(b"%d" % n) for n in range(4)]
    for entry, _ in entries:
        await store.put(entry)

    found = [store.tiers.recall("e:k", fields, NOW) for _, fields in entries]
    assert [each and each.entry.body for each in found] == [None, None, b"2", b"3"]
    assert store.tiers.own_key("e:k", entries[3][1]) == entries[3][0].key
    assert store.tiers.own_key("e:other", NOBODY) == ""


async def test_a_variant_that_is_renewed_pushes_nobody_out(store: Store) -> None:
    store.tiers.limits = settings.Memory(max_variants=2)
    for value in (b"1", b"2", b"1", b"2", b"1"):
        await store.put(varied(value)[0])

    assert all(store.tiers.recall("e:k", varied(value)[1], NOW) for value in (b"1", b"2"))


async def test_variants_that_are_gone_make_room(store: Store) -> None:
    store.tiers.limits = settings.Memory(max_variants=2)
    for value in (b"1", b"2"):
        await store.put(varied(value)[0])
    store.tiers.forget(varied(b"2")[0])
    await store.put(varied(b"3")[0])

    assert [bool(store.tiers.recall("e:k", varied(v)[1], NOW)) for v in (b"1", b"2", b"3")] == [
        True,
        False,
        True,
    ]


async def test_variants_beyond_the_most_are_not_kept_in_redis(shared: Store) -> None:
    shared.tiers.limits = settings.Memory(max_variants=2)
    entries = [varied(b"%d" % n) for n in range(4)]
    for entry, _ in entries:
        await shared.put(entry)

    found = [await shared.another().fetch("e:k", fields, ROUTE, NOW) for _, fields in entries]
    assert [each and each.entry.body for each in found] == [b"0", b"1", None, None]


async def test_what_is_purged_is_gone_and_does_not_come_back(store: Store) -> None:
    await store.put()
    store.log.purge("events", at=record_id("5-1"))
    assert store.tiers.recall("e:k", NOBODY, NOW) is None
    assert await store.tiers.fetch("e:k", NOBODY, ROUTE, NOW) is None
    # It was under way when its purge came.
    assert not await store.put()

    assert store.tiers.recall("e:k", NOBODY, NOW) is None
    assert await store.put(msgspec.structs.replace(ENTRY, born=record_id("5-1")))


async def test_what_is_purged_softly_is_there_and_stale(store: Store) -> None:
    await store.put()
    store.log.purge("events", record_id(f"{(int(NOW) + 1) * 1000}-0"), soft=True)
    found = store.tiers.recall("e:k", NOBODY, NOW)

    assert found is not None
    assert (found.soft_purged, found.times.effective_fresh_until) == (NOW + 1, NOW + 1)


async def test_a_purge_of_something_else_changes_nothing(store: Store) -> None:
    await store.put()
    store.log.purge("other", at=record_id("5-1"))

    assert store.tiers.recall("e:k", NOBODY, NOW) is not None


async def test_nothing_is_used_after_its_time(store: Store) -> None:
    await store.put()
    store.tiers.limits = settings.Memory(max_age=1000.0)
    assert store.tiers.recall("e:k", NOBODY, NOW + 100) is None
    assert await store.tiers.fetch("e:k", NOBODY, ROUTE, NOW + 100) is None


async def test_a_route_without_memory_keeps_nothing_there(store: Store) -> None:
    await store.put(route=route(memory=False))

    assert (store.tiers.recall("e:k", NOBODY, NOW), store.memory.entries) == (None, 0)


async def test_while_purges_cannot_be_seen_copies_are_used_for_max_age(store: Store) -> None:
    await store.put()
    store.log.readable = False
    assert store.tiers.recall("e:k", NOBODY, NOW + 59) is not None
    assert store.tiers.recall("e:k", NOBODY, NOW + 61) is None


def test_a_copy_alone_in_memory_is_kept_as_long_as_it_is_good() -> None:
    alone = Store(None)
    alone.tiers.remember(ENTRY, ROUTE, NOW)

    assert alone.tiers.recall("e:k", NOBODY, NOW + 99) is not None


# --- Redis ---


@needs_redis
async def test_another_replica_finds_what_was_stored_and_remembers_it(shared: Store) -> None:
    await shared.put()
    other = shared.another()
    found = await other.fetch("e:k", NOBODY, ROUTE, NOW)
    assert found is not None
    assert found.entry == ENTRY

    assert other.recall("e:k", NOBODY, NOW + 59) is not None
    # Redis has it, too, and may know better by now.
    assert other.recall("e:k", NOBODY, NOW + 60) is None


def asked_at(at: int, body: bytes) -> Entry:
    return msgspec.structs.replace(ENTRY, asked=at, body=body)


async def body_of(tiers: Tiers) -> bytes:
    found = tiers.recall("e:k", NOBODY, NOW) or await tiers.fetch("e:k", NOBODY, ROUTE, NOW)
    return found.entry.body if found is not None else b""


async def test_of_two_answers_the_one_asked_for_later_is_kept(store: Store) -> None:
    for at in (5, 7, 6):
        await store.put(asked_at(at, b"%d" % at))

    assert await body_of(store.tiers) == b"7"


@needs_redis
async def test_a_replica_that_stored_too_late_serves_the_newer_answer_of_another(shared: Store) -> None:
    a, b = shared.tiers, shared.another()
    for tiers, entry in ((a, asked_at(7, b"newer")), (b, asked_at(5, b"older"))):
        tiers.keep(entry, "e:k", ROUTE, NOW)
        await tiers.store(entry, "e:k", ROUTE, NOW)

    assert [await body_of(tiers) for tiers in (a, b, shared.another())] == [b"newer"] * 3


@needs_redis
async def test_what_memory_has_of_later_is_not_replaced_by_what_redis_has(shared: Store) -> None:
    await shared.put(asked_at(5, b"older"))
    shared.tiers.keep(asked_at(7, b"newer"), "e:k", ROUTE, NOW)
    found = await shared.tiers.fetch("e:k", NOBODY, ROUTE, NOW)

    assert (found is not None and found.entry.body, await body_of(shared.tiers)) == (b"newer", b"newer")


async def test_what_is_from_the_future_by_a_wrong_clock_is_replaced(store: Store) -> None:
    store.tiers.keep(asked_at(int((NOW + 3600) * 1e6), b"wrong"), "e:k", ROUTE, NOW)
    store.tiers.keep(asked_at(int(NOW * 1e6), b"right"), "e:k", ROUTE, NOW)

    assert await body_of(store.tiers) == b"right"


async def test_what_was_purged_is_replaced_whenever_it_was_asked_for(store: Store) -> None:
    store.tiers.keep(asked_at(7, b"purged"), "e:k", ROUTE, NOW)
    store.log.purge("events", record_id("5-1"))
    store.tiers.keep(msgspec.structs.replace(asked_at(6, b"good"), born=record_id("5-1")), "e:k", ROUTE, NOW)

    assert await body_of(store.tiers) == b"good"


@needs_redis
async def test_what_was_born_later_in_the_log_than_it_is_read_here_is_not_used_yet(shared: Store) -> None:
    await shared.put()
    behind = shared.another()
    shared.log.purges.last = record_id("4-0")
    early = await behind.fetch("e:k", NOBODY, ROUTE, NOW)
    shared.log.purges.last = ENTRY.born

    assert (early, await body_of(behind)) == (None, ENTRY.body)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0], ids=["forward", "back"])
async def test_while_the_log_is_away_copies_are_served_for_so_long_whatever_the_clock_does(
    shared: Store, jump_s: float
) -> None:
    await shared.put(msgspec.structs.replace(ENTRY, keep_until=NOW + 90_000, generated=NOW - 7200))
    shared.log.readable = False
    shared.tiers.clock_jumped(jump_s)
    now = NOW + jump_s
    served = [shared.tiers.recall("e:k", NOBODY, now + later) is not None for later in (0, 50, 70)]

    assert served == [True, True, False]


async def test_in_doubt_nothing_is_served_and_nothing_lost(store: Store) -> None:
    await store.put()
    store.log.in_doubt = True
    doubted = await body_of(store.tiers)
    store.log.in_doubt = False

    assert (doubted, store.tiers.recall("e:k", NOBODY, NOW) is not None) == (b"", True)


@needs_redis
async def test_another_replica_finds_its_variant(shared: Store) -> None:
    (first, asked), (_, others) = varied(b"1"), varied(b"2")
    await shared.put(first)
    other = shared.another()

    found = await other.fetch("e:k", asked, ROUTE, NOW)
    assert found is not None
    assert found.entry.body == b"1"
    assert await other.fetch("e:k", others, ROUTE, NOW) is None


@needs_redis
async def test_a_copy_is_not_remembered_for_longer_than_redis_keeps_it(shared: Store) -> None:
    await shared.put(msgspec.structs.replace(ENTRY, keep_until=NOW + 5))
    other = shared.another()
    await other.fetch("e:k", NOBODY, ROUTE, NOW)

    assert other.recall("e:k", NOBODY, NOW + 4) is not None
    assert other.recall("e:k", NOBODY, NOW + 5) is None


@needs_redis
@pytest.mark.parametrize(
    ("data", "why"),
    [(b"x", "short"), (b"garbage of some length or other", "foreign")],
    ids=["short", "foreign"],
)
async def test_bytes_that_are_no_entry_are_a_miss_that_is_told(
    shared: Store, server: servers.Server, data: bytes, why: str
) -> None:
    server.command("SET", "crowdgate:e:k", data)

    assert await shared.tiers.fetch("e:k", NOBODY, ROUTE, NOW) is None
    assert shared.damage == [why]


@needs_redis
async def test_redis_is_not_asked_for_what_it_should_not_have(shared: Store, server: servers.Server) -> None:
    private, large = route(redis=False), msgspec.structs.replace(ENTRY, key="e:l", body=bytes(5000))
    await shared.put(route=private)
    shared.tiers.redis_limits = settings.Redis(max_value=4000, compress_above=10_000)
    await shared.put(large, "e:l")
    assert server.command("DBSIZE") == 0

    await shared.put()
    shared.log.readable = False
    assert [await shared.another().fetch("e:k", NOBODY, each, NOW) for each in (private, ROUTE)] == [
        None,
        None,
    ]


@needs_redis
async def test_a_redis_that_is_gone_is_a_miss(shared: Store, server: servers.Server) -> None:
    await shared.put()
    server.kill()
    started = asyncio.get_running_loop().time()
    assert await shared.another().fetch("e:k", NOBODY, ROUTE, NOW) is None
    await shared.put()

    assert asyncio.get_running_loop().time() - started < 0.5
    assert shared.tiers.recall("e:k", NOBODY, NOW) is not None


def test_a_signpost_leads_to_every_variant_and_is_none() -> None:
    entry, fields = varied(b"1")
    sign = signpost(entry, "e:k")

    assert (sign.key, sign.status, sign.body, sign.keep_until) == ("e:k", 0, b"", entry.keep_until)
    assert variant_key("e:k", sign, fields) == entry.key
