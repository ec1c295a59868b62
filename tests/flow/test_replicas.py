"""Two proxies and one Redis: what one stored both serve, what one purges neither does."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests import servers
from tests.flow.client import Response, fetch
from tests.flow.origin import Asked, Origin, numbered, ok
from tests.flow.processes import Proxy, running

# A purge is one XADD and one read that waits for it: milliseconds, and a loaded machine's share.
PROMPTLY_S = 0.5
OURS = {b"Age", b"Cache-Status"}


def config(api: Origin, redis: servers.Server, memory: str = "{}") -> str:
    return f"""
upstream: {{url: {api.url}}}
redis: {{url: '{redis.url}'}}
memory: {memory}
routes:
  - {{name: events, match: "/events", ttl: 1m, tags: [events]}}
  - {{match: "/events/{{id}}", ttl: 1m, tags: ["event:{{id}}"]}}
  - {{match: "/mine", ttl: 1m, per: authorization}}
  - {{match: "/bookings", methods: [POST], purge: [events]}}
  - {{match: "/events/{{id}}/bookings", methods: [POST], purge: ["event:{{id}}"]}}
"""


@asynccontextmanager
async def replicas(text: str) -> AsyncIterator[tuple[Proxy, Proxy]]:
    async with running(text) as first, running(text) as second:
        yield first, second


async def stored(proxy: Proxy, target: str, *lines: str, puts: int = 1) -> Response:
    """Fetch, and wait until Redis has it."""
    before = await proxy.metric("crowdgate_redis_seconds_count", op="put")
    response = await fetch(proxy.port, target, *lines)
    await proxy.until("crowdgate_redis_seconds_count", before + puts, op="put")
    return response


async def changed(proxy: Proxy, target: str, was: bytes) -> float:
    """Seconds until another body is served."""
    started = time.monotonic()
    async with asyncio.timeout(10):
        while (await fetch(proxy.port, target)).body == was:
            await asyncio.sleep(0.005)
    return time.monotonic() - started


async def test_what_one_stored_the_other_has_from_redis_and_then_from_memory(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/events", numbered('ETag: "one"', "X-Kept: Yes"))
    async with replicas(config(api, redis_server)) as (a, b):
        first = await stored(a, "/events")
        second, third = await fetch(b.port, "/events"), await fetch(b.port, "/events")

        assert [r.cache.rpartition(" ")[2] for r in (first, second, third)] == [
            "stored",
            "detail=redis",
            "detail=memory",
        ]
        assert [r.body for r in (first, second, third)] == [b"1"] * 3
        # All but our own fields is the same, in the same order.
        assert [f for f in second.fields if f[0] not in OURS] == [f for f in first.fields if f[0] not in OURS]
        assert api.count("/events") == 1


async def test_a_write_through_one_purges_at_both_promptly(api: Origin, redis_server: servers.Server) -> None:
    api.on("/events", numbered())
    api.on("/bookings", ok(b"done", status="201 Created"))
    async with replicas(config(api, redis_server)) as (a, b):
        await stored(a, "/events")
        assert (await fetch(b.port, "/events")).body == b"1"

        assert (await fetch(a.port, "/bookings", method="POST", body=b"x")).status == 201
        took = await changed(b, "/events", b"1")

        assert (await fetch(a.port, "/events")).body == b"2"
        assert (took < PROMPTLY_S, api.count("/events")) == (True, 2)


async def test_a_write_purges_what_its_params_name_and_nothing_else(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/events", numbered())
    async with replicas(config(api, redis_server)) as (a, b):
        await stored(a, "/events/7")
        await stored(a, "/events/8")
        await fetch(b.port, "/events/7"), await fetch(b.port, "/events/8")

        await fetch(a.port, "/events/7/bookings", method="POST", body=b"x")
        await changed(b, "/events/7", b"1")

        assert (await fetch(b.port, "/events/8")).cache.endswith("detail=memory")


@pytest.mark.parametrize("status", ["404 Not Found", "409 Conflict", "500 Internal Server Error"])
async def test_a_write_that_did_nothing_purges_nothing(
    api: Origin, redis_server: servers.Server, status: str
) -> None:
    api.on("/events", numbered())
    api.on("/bookings", ok(b"no", status=status))
    async with running(config(api, redis_server)) as proxy:
        await fetch(proxy.port, "/events")
        await fetch(proxy.port, "/bookings", method="POST", body=b"x")

        assert (await fetch(proxy.port, "/events")).body == b"1"


async def test_an_operator_purges_at_both_by_tag_url_route_and_pattern(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/events", numbered())
    ways = [{"tags": ["events"]}, {"urls": ["/events"]}, {"routes": ["events"]}, {"patterns": ["/ev*"]}]
    async with replicas(config(api, redis_server)) as (a, b):
        for way in ways:
            await fetch(a.port, "/events")
            before = (await fetch(b.port, "/events")).body
            purged = await a.asked("/api/purge", method="POST", body=json.dumps(way).encode())
            assert (purged.status, json.loads(purged.body)["shared"]) == (200, True)
            assert await changed(b, "/events", before) < PROMPTLY_S


async def test_what_was_asked_for_before_a_purge_is_not_stored_after_it(
    api: Origin, redis_server: servers.Server
) -> None:
    release = asyncio.Event()

    async def old_state(asked: Asked) -> None:
        await release.wait()
        await ok(b"old")(asked)

    api.on("/events", old_state)
    async with replicas(config(api, redis_server)) as (a, b):
        under_way = asyncio.ensure_future(fetch(b.port, "/events"))
        await api.came("/events")
        await fetch(a.port, "/bookings", method="POST", body=b"x")
        await b.until("crowdgate_purges_total", 1, kind="tag")
        release.set()
        assert (await under_way).body == b"old"

        api.on("/events", ok(b"new"))
        assert [(await fetch(p.port, "/events")).body for p in (a, b)] == [b"new", b"new"]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param([b"SET", b"garbage"], id="foreign"),
        pytest.param([b"SET", b"CG\x01\x00" + bytes(40)], id="damaged"),
        pytest.param([b"SET", b""], id="empty"),
        pytest.param([b"RPUSH", b"list"], id="of another type"),
    ],
)
async def test_bytes_that_are_no_entry_are_a_miss_that_is_counted_and_overwritten(
    api: Origin, redis_server: servers.Server, damage: list[bytes]
) -> None:
    api.on("/events", numbered())
    async with replicas(config(api, redis_server)) as (a, b):
        await stored(a, "/events")
        (key,) = redis_server.command("KEYS", "crowdgate:e:*")
        redis_server.command("DEL", key)
        redis_server.command(damage[0], key, damage[1])
        failures = await b.metric("crowdgate_redis_errors_total", kind="wrongtype")
        response = await stored(b, "/events")

        assert (response.body, "stored" in response.cache) == (b"2", True)
        assert redis_server.command("GETRANGE", key, 0, 1) == b"CG"
        assert redis_server.command("PTTL", key) > 50_000
        counted = await b.metric("crowdgate_damaged_entries_total")
        counted += await b.metric("crowdgate_redis_errors_total", kind="wrongtype") - failures
        # It is looked at once more when the lease is won.
        assert counted == (0 if damage[1] == b"" else 2)


async def test_an_entry_of_another_key_is_not_served(api: Origin, redis_server: servers.Server) -> None:
    api.on("/events", numbered())
    async with replicas(config(api, redis_server)) as (a, b):
        await stored(a, "/events/7")
        (seven,) = redis_server.command("KEYS", "crowdgate:e:*")
        await stored(a, "/events/8")
        (eight,) = set(redis_server.command("KEYS", "crowdgate:e:*")) - {seven}
        redis_server.command("COPY", seven, eight, "REPLACE")

        assert (await fetch(b.port, "/events/8")).body == b"3"
        assert await b.metric("crowdgate_damaged_entries_total", kind="key") == 2


async def test_a_copy_in_memory_lives_for_max_age_at_most(api: Origin, redis_server: servers.Server) -> None:
    api.on("/events", numbered())
    async with running(config(api, redis_server, "{max_age: 500ms}")) as proxy:
        await stored(proxy, "/events")
        assert (await fetch(proxy.port, "/events")).cache.endswith("detail=memory")
        await asyncio.sleep(0.6)
        assert (await fetch(proxy.port, "/events")).cache.endswith("detail=redis")


async def test_a_purge_that_cannot_be_seen_is_unseen_for_max_age_at_most(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/events", ok(b"old"))
    async with running(config(api, redis_server, "{max_age: 1s}")) as proxy:
        await fetch(proxy.port, "/events")
        redis_server.kill()
        api.on("/events", ok(b"new"))

        assert (await fetch(proxy.port, "/events")).body == b"old"
        assert await changed(proxy, "/events", b"old") < 1 + PROMPTLY_S


async def test_principals_never_cross_in_flight_in_memory_or_in_redis(
    api: Origin, redis_server: servers.Server
) -> None:
    async def whose(asked: Asked) -> None:
        await asyncio.sleep(0.1)
        await ok(asked.get("authorization").encode())(asked)

    api.on("/mine", whose)
    people = ["Bearer a", "Bearer b", "bearer a", "Bearer a ,Bearer b"] * 5
    async with replicas(config(api, redis_server)) as (a, b):

        async def all_at(proxy: Proxy) -> list[str]:
            responses = await asyncio.gather(
                *(fetch(proxy.port, "/mine", f"Authorization: {who}") for who in people)
            )
            return [response.body.decode() for response in responses]

        flights, memory = await all_at(a), await all_at(a)
        await a.until("crowdgate_redis_seconds_count", 4, op="put")
        redis = await all_at(b)
        nobody = await fetch(a.port, "/mine")

        assert [flights, memory, redis] == [people] * 3
        assert (nobody.body, api.count("/mine")) == (b"", 5)
        hits = [
            await b.metric("crowdgate_requests_total", cache=cache) for cache in ("hit_redis", "hit_memory")
        ]
        assert (sum(hits), hits[0] >= 4) == (len(people), True)
        assert b"Bearer" not in b"".join(redis_server.command("KEYS", "*"))
