"""Redis may die, hang and come back: under load, no client fails, and what it costs each is bounded."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from tests import servers
from tests.flow.client import connected, fetch
from tests.flow.origin import Asked, Origin, ok
from tests.flow.processes import Proxy, running

TIMEOUT_S = 0.05
# What two busy processors may add to one request; a Redis whose own timeouts counted would add seconds.
SLACK_S = 0.2


def config(api: Origin, redis: servers.Server) -> str:
    return f"""
upstream: {{url: {api.url}}}
redis: {{url: '{redis.url}', timeout: {TIMEOUT_S * 1000:g}ms}}
routes:
  - {{match: "/events", ttl: 1m}}
  - {{match: "/from-redis", ttl: 1m, memory: false}}
"""


@dataclass
class Load:
    """What clients saw: when they asked, how long it took, what was wrong."""

    took: list[tuple[float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def since(self, instant: float, until: float = float("inf")) -> list[float]:
        return [seconds for at, seconds in self.took if instant <= at < until]


@asynccontextmanager
async def load(proxy: Proxy, clients: int = 8) -> AsyncIterator[Load]:
    """Clients that ask without a pause, half of the time for something new."""
    seen, numbers = Load(), count()

    async def client() -> None:
        async with connected(proxy.port) as connection:
            while True:
                number = next(numbers)
                target = f"/events?n={number if number % 2 else 0}"
                started = time.monotonic()
                response = await connection.ask(target)
                seen.took.append((started, time.monotonic() - started))
                if response.brief != (200, target.encode()):
                    seen.wrong.append(f"{response.status} for {target}: {response.body!r}")
                await asyncio.sleep(0.004)

    tasks = [asyncio.ensure_future(client()) for _ in range(clients)]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []


async def echo(asked: Asked) -> None:
    await ok(asked.target.encode())(asked)


async def seconds_until_redis_serves(proxy: Proxy) -> float:
    started = time.monotonic()
    async with asyncio.timeout(10):
        while "detail=redis" not in (await fetch(proxy.port, "/from-redis")).cache:
            await asyncio.sleep(0.02)
    return time.monotonic() - started


async def test_a_redis_that_is_killed_under_load_fails_no_client_and_is_used_again_when_it_is_back(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/events", echo)
    async with running(config(api, redis_server)) as proxy, load(proxy) as seen:
        await asyncio.sleep(0.5)
        redis_server.kill()
        await asyncio.sleep(1)
        asked = len(seen.took)
        redis_server.start()
        back = await seconds_until_redis_serves(proxy)
        await asyncio.sleep(0.2)

        assert (seen.wrong, asked > 100, len(seen.took) > asked) == ([], True, True)
        assert max(seen.since(0)) < TIMEOUT_S + SLACK_S
        assert back < 5


async def test_a_redis_that_hangs_delays_requests_by_its_timeout_for_less_than_a_second(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/events", echo)
    async with running(config(api, redis_server)) as proxy, load(proxy) as seen:
        await asyncio.sleep(0.5)
        redis_server.pause()
        paused = time.monotonic()
        try:
            async with asyncio.timeout(1):
                while await proxy.metric("crowdgate_redis_up"):
                    await asyncio.sleep(0.01)
            out = time.monotonic()
            await asyncio.sleep(1)
        finally:
            redis_server.resume()
        back = await seconds_until_redis_serves(proxy)

        assert seen.wrong == []
        assert max(seen.since(paused, out)) < TIMEOUT_S + SLACK_S
        # Nothing more, once it is out: what is left is the test's own noise.
        assert statistics.quantiles(seen.since(out, out + 0.9), n=10)[8] < TIMEOUT_S
        assert back < 5


async def test_a_proxy_starts_without_redis_and_uses_it_when_it_comes(
    api: Origin, redis_server: servers.Server
) -> None:
    redis_server.kill()
    async with running(config(api, redis_server)) as proxy:
        assert (await fetch(proxy.port, "/events")).cache.endswith("stored")
        redis_server.start()

        assert await seconds_until_redis_serves(proxy) < 5
