"""A replica that starts has in memory what the others are asked for most, within its bounds."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from time import time
from typing import Any

import msgspec
import pytest

from proxy import metrics, settings
from proxy.hot import Hot, listed
from proxy.metrics import Metrics
from proxy.policy.key import variant
from proxy.policy.purges import Kind, Record
from proxy.policy.routes import prepare
from proxy.store.entry import Entry
from proxy.store.memory import Memory
from proxy.store.tiers import Copy, Tiers
from proxy.wire.fields import Fields
from tests import servers
from tests.entries import an_entry
from tests.proxy.store.test_tiers import Log
from tests.redis_tiers import needs_redis, tier_on

NOW = time()
NOBODY: Fields = ()
ROUTE = prepare(settings.Route(match="/events", name="events.of.today", ttl=60.0))
ROUTES = {ROUTE.name: ROUTE}
LIMITS = settings.Memory()


@pytest.fixture
def server() -> Iterator[servers.Server]:
    with servers.redis() as running:
        yield running


def entry(number: int, **more: Any) -> Entry:
    made = {
        "key": f"e:{ROUTE.namespace}:{number:032x}",
        "route": ROUTE.name,
        "url": f"/events?{number}",
        "body": b"x" * 1000,
    }
    return an_entry(NOW, **{**made, **more})


class Replica:
    def __init__(self, tier: Any) -> None:
        self.log = Log()
        self.memory: Memory[Copy] = Memory(max_bytes=2**24, max_object_bytes=2**20)
        self.tiers = Tiers(self.memory, tier, self.log, lambda _: None)
        self.metrics = Metrics("1")
        self.hot = Hot(self.tiers, tier, self.metrics)

    async def have(self, made: Entry, hits: int = 1, base: str = "", fields: Fields = NOBODY) -> None:
        self.tiers.keep(made, base or made.key, ROUTE, NOW)
        await self.tiers.store(made, base or made.key, ROUTE, NOW)
        for _ in range(hits):
            assert self.tiers.recall(base or made.key, fields, NOW)


@asynccontextmanager
async def two(url: str) -> AsyncIterator[tuple[Replica, Replica]]:
    async with tier_on(url) as (tier, _), tier_on(url) as (other, _):
        yield Replica(tier), Replica(other)


async def told(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.hot._TELL_EVERY_S", 0.01)
    telling = asyncio.ensure_future(replica.hot.tell())
    await asyncio.sleep(0.1)
    telling.cancel()


@needs_redis
async def test_who_starts_has_what_is_hot_elsewhere_hottest_first(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(server.url) as (a, b):
        for number in range(50):
            await a.have(entry(number), hits=number)
        await told(a, monkeypatch)
        await b.hot.preload(ROUTES, LIMITS)

        # Number 0 was never asked for.
        assert [key for key, _ in b.memory.items()] == [entry(number).key for number in range(49, 0, -1)]
        assert metrics.total(metrics.read(b.metrics.render().decode()), metrics.PRELOADED) == 49
        assert b.tiers.recall(entry(49).key, NOBODY, NOW) is not None


@needs_redis
async def test_a_variant_is_found_by_its_signpost(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: Fields = ((b"X", b"1"),)
    base = entry(1).key
    made = entry(1, key=variant(base, (b"x",), fields), vary=("x",))
    async with two(server.url) as (a, b):
        await a.have(made, base=base, fields=fields)
        await told(a, monkeypatch)
        await b.hot.preload(ROUTES, LIMITS)

        found = b.tiers.recall(base, fields, NOW)
        assert found is not None
        assert found.entry == made


@needs_redis
async def test_it_takes_no_more_than_it_may(server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(server.url) as (a, b):
        for number in range(500):
            await a.have(entry(number))
        await told(a, monkeypatch)
        await b.hot.preload(ROUTES, settings.Memory(preload_size=100_000))
        some, bytes_ = b.memory.entries, b.memory.bytes
        await b.hot.preload(ROUTES, settings.Memory(preload_size=0))
        await b.hot.preload(ROUTES, settings.Memory(preload_timeout=1e-9))

        assert (0 < some < 200, bytes_ < 200_000, b.memory.entries) == (True, True, some)


@needs_redis
async def test_what_was_purged_or_whose_route_changed_is_left(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(server.url) as (a, b):
        await a.have(entry(1, tags=("purged",)))
        await a.have(entry(2))
        await told(a, monkeypatch)
        b.log.purges.apply(Record(at=5, kind=Kind.TAG, value="purged", soft=False))
        await b.hot.preload({}, LIMITS)
        assert b.memory.entries == 0
        await b.hot.preload(ROUTES, LIMITS)

        assert [key for key, _ in b.memory.items()] == [entry(2).key]


@needs_redis
@pytest.mark.parametrize(
    "value", [b"garbage", b"\x91\xa1\xff", b"\x91\x07", b"\x80", b"\xdd\xff\xff\xff\xff"]
)
async def test_a_list_that_is_none_is_nothing(server: servers.Server, value: bytes) -> None:
    server.command("SET", "crowdgate:hot", value)
    async with two(server.url) as (_, b):
        await b.hot.preload(ROUTES, LIMITS)

        assert b.memory.entries == 0


def test_only_keys_of_entries_are_looked_for_and_not_without_end() -> None:
    named = ["e:a.b.1:00", "e:a.b.1:00.ff", "lease:{x}", "e:" + "x" * 400, *(f"e:{n}:0" for n in range(2000))]
    keys = listed(msgspec.msgpack.encode(named))

    assert keys[:3] == ["e:a.b.1:00", "e:a.b.1:00.ff", "e:0:0"]
    assert len(keys) == 998


async def test_without_redis_nothing_is_told_and_nothing_taken() -> None:
    async with tier_on(f"redis://127.0.0.1:{servers.free_port()}") as (tier, _):
        lonely = Replica(tier)
        await lonely.hot.preload(ROUTES, LIMITS)

        assert lonely.memory.entries == 0
