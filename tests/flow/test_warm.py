"""Critical resources are there before the first client is, and one that fails stops none of the others."""

import asyncio
import json
import time

from tests import servers
from tests.flow.client import fetch
from tests.flow.origin import Origin, numbered, ok, once
from tests.flow.processes import running

RESOURCES = {
    "active_events": "/events?status=active",
    "popular_event_types": "/event-types",
    "system_configuration": "/configuration",
    "user_permissions": "/permissions",
}


def config(api: Origin, *, required: bool = False, more: str = "") -> str:
    warm = "\n".join(
        f"  - {{name: {name}, path: '{path}', required: {str(required).lower()}}}"
        for name, path in RESOURCES.items()
    )
    return f"""
upstream: {{url: {api.url}}}
{more}
routes: [{{match: "/**", ttl: 1m}}]
warm:
{warm}
"""


async def test_four_resources_are_fetched_before_anybody_asks(api: Origin) -> None:
    async with running(config(api, required=True)) as proxy:
        assert {asked.target for asked in api.asked} == set(RESOURCES.values())
        for path in RESOURCES.values():
            assert (await fetch(proxy.port, path)).cache.endswith("detail=memory")

        assert len(api.asked) == len(RESOURCES)


async def test_one_that_fails_stops_none_of_the_others_and_is_logged(api: Origin) -> None:
    api.on("/event-types", ok(b"ill", status="500 Ill"))
    async with running(config(api, required=True)) as proxy:
        paths = [path for path in RESOURCES.values() if path != "/event-types"]
        caches = [(await fetch(proxy.port, path)).cache.rpartition(" ")[2] for path in paths]
        failed = proxy.log("warming failed")

        assert caches == ["detail=memory"] * 3
        assert {(line["resource"], line["path"]) for line in failed} == {
            ("popular_event_types", "/event-types")
        }
        assert await proxy.metric("crowdgate_warm_total", result="failed") >= 1
        assert await proxy.metric("crowdgate_warm_total", result="ok") >= 3


async def test_what_is_required_delays_readiness_and_the_rest_does_not(api: Origin) -> None:
    release = asyncio.Event()
    api.on("/", once(release, ok()))
    async with running(config(api), ready=False) as proxy:
        assert await proxy.ready(3) < 1

    async with running(config(api, required=True), ready=False) as proxy:
        await api.came("/permissions", count=2)
        unready = await proxy.asked("/readyz")
        assert (unready.status, unready.body) == (503, b"not ready: warming\n")
        # Clients that come nevertheless are served.
        early = asyncio.ensure_future(fetch(proxy.port, "/permissions"))
        release.set()
        assert (await early).status == 200
        await proxy.ready(3)


async def test_a_resource_that_hangs_delays_readiness_for_its_timeout_at_most(api: Origin) -> None:
    api.on("/event-types", once(asyncio.Event(), ok()))
    slow = config(api, required=True).replace("required: true", "required: true, timeout: 700ms")
    started = time.monotonic()
    async with running(slow):
        assert 0.7 <= time.monotonic() - started < 3


async def test_a_resource_is_refreshed_before_it_expires(api: Origin) -> None:
    api.on("/configuration", numbered())
    text = f"""
upstream: {{url: {api.url}}}
routes: [{{match: "/**", ttl: 5s}}]
warm: [{{name: system_configuration, path: /configuration, every: 1s, required: true}}]
"""
    async with running(text) as proxy:
        assert (await fetch(proxy.port, "/configuration")).body == b"1"
        await api.came("/configuration", count=2, within_s=3)
        async with asyncio.timeout(1):
            while (await fetch(proxy.port, "/configuration")).body == b"1":
                await asyncio.sleep(0.02)


async def test_a_second_replica_takes_what_the_first_has_fetched(
    api: Origin, redis_server: servers.Server
) -> None:
    text = config(api, required=True, more=f"redis: {{url: '{redis_server.url}'}}")
    async with running(text) as first:
        await first.until("crowdgate_redis_seconds_count", len(RESOURCES), op="put")
        async with running(text) as second:
            assert (await fetch(second.port, "/permissions")).cache.endswith("detail=memory")
            assert len(api.asked) == len(RESOURCES)


async def test_memory_never_lets_go_of_what_is_warm_although_it_lives_longer_than_memory_keeps_things(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/", numbered("Cache-Control: max-age=60"))
    more = f"memory: {{max_age: 1s}}\nredis: {{url: '{redis_server.url}'}}"
    async with running(config(api, required=True, more=more)) as proxy:
        until = time.monotonic() + 4
        seen = set()
        while time.monotonic() < until:
            for path in RESOURCES.values():
                seen.add((await fetch(proxy.port, path)).cache.rpartition(" ")[2])
            await asyncio.sleep(0.02)

        assert (seen, len(api.asked)) == ({"detail=memory"}, len(RESOURCES))


async def test_an_operator_warms_again(api: Origin) -> None:
    api.on("/configuration", numbered())
    async with running(config(api, required=True)) as proxy:
        body = json.dumps({"names": ["system_configuration"]}).encode()
        warmed = await proxy.asked("/api/warm", method="POST", body=body)

        assert (warmed.status, json.loads(warmed.body)) == (200, {"warmed": {"system_configuration": "ok"}})
        assert (await fetch(proxy.port, "/configuration")).body == b"2"


async def test_a_resource_that_was_purged_is_fetched_again_before_anybody_asks(api: Origin) -> None:
    api.on("/configuration", numbered())
    async with running(config(api, required=True)) as proxy:
        purge = json.dumps({"urls": [RESOURCES["system_configuration"]]}).encode()
        assert (await proxy.asked("/api/purge", method="POST", body=purge)).status == 200
        await api.came("/configuration", count=2)
        await proxy.until("crowdgate_warm_total", len(RESOURCES) + 1, result="ok")

        answer = await fetch(proxy.port, "/configuration")
        assert (answer.body, answer.cache.endswith("detail=memory")) == (b"2", True)
        # None of the others was.
        assert len(api.asked) == len(RESOURCES) + 1


async def test_a_storm_of_purges_costs_the_api_a_few_fetches_a_second(
    api: Origin, redis_server: servers.Server
) -> None:
    text = config(api, required=True, more=f"redis: {{url: '{redis_server.url}'}}")
    async with running(text) as proxy:
        purge = json.dumps({"patterns": ["/conf*"]}).encode()
        began = time.monotonic()
        for _ in range(200):
            assert (await proxy.asked("/api/purge", method="POST", body=purge)).status == 200
        await asyncio.sleep(0.3)
        took = time.monotonic() - began

        assert 1 < api.count("/configuration") <= 3 + took / 0.2
