"""A crowd that wants the same thing costs the API one request."""

import asyncio

from tests import servers
from tests.flow.client import fetch
from tests.flow.origin import Asked, Origin, ok, once
from tests.flow.processes import Proxy, running

CROWD = 1000
BODY = b"0123456789abcdef" * 4096


def config(api: Origin, redis: str = "") -> str:
    return f"""
upstream: {{url: {api.url}}}
routes: [{{match: "/events", ttl: 1m}}]
{redis}
"""


async def crowd(proxy: Proxy, api: Origin) -> tuple[set[tuple[int, bytes]], list[str]]:
    """All ask before the API answers any. Their different answers, and how each was answered."""
    release = asyncio.Event()
    api.on("/events", once(release, ok(BODY)))
    waiting = [asyncio.ensure_future(fetch(proxy.port, "/events")) for _ in range(CROWD)]
    await proxy.until("crowdgate_inflight_requests", CROWD, within_s=30)
    release.set()
    responses = await asyncio.gather(*waiting)
    return {response.brief for response in responses}, [response.cache for response in responses]


async def test_a_thousand_clients_at_once_cost_the_api_one_request(api: Origin) -> None:
    async with running(config(api)) as proxy:
        answers, caches = await crowd(proxy, api)

        assert (answers, api.count("/events")) == ({(200, BODY)}, 1)
        assert sum("collapsed" in cache for cache in caches) == CROWD - 1
        assert await proxy.metric("crowdgate_requests_total", cache="collapsed") == CROWD - 1


async def test_a_thousand_clients_at_once_cost_redis_and_the_api_one_request(
    api: Origin, redis_server: servers.Server
) -> None:
    async with running(config(api, f"redis: {{url: '{redis_server.url}'}}")) as proxy:
        answers, _ = await crowd(proxy, api)

        assert (answers, api.count("/events")) == ({(200, BODY)}, 1)
        # One of them at the start, for what is hot elsewhere.
        assert await proxy.metric("crowdgate_redis_seconds_count", op="get") == 2
        assert await proxy.metric("crowdgate_redis_seconds_count", op="claim") == 1


async def test_nobody_gets_the_variant_that_another_asked_for(api: Origin) -> None:
    async def in_its_language(asked: Asked) -> None:
        await asyncio.sleep(0.2)
        await ok(asked.get("accept-language").encode(), "Vary: Accept-Language")(asked)

    api.on("/events", in_its_language)
    languages = ["fr", "en", "de"] * 10
    async with running(config(api)) as proxy:
        responses = await asyncio.gather(
            *(fetch(proxy.port, "/events", f"Accept-Language: {language}") for language in languages)
        )

        assert [response.body.decode() for response in responses] == languages
        assert api.count("/events") == 3
