"""What is kept warm, and what is hot: whether a client ever waits for the API, and how often the API is asked."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests import servers
from tests.fleet.clients import FAILURES, Connections, paced
from tests.fleet.cold import REPLICAS, config
from tests.fleet.replicas import Fleet, fleet
from tests.flow.client import Response, fetch
from tests.flow.origin import after, ok, origin

WARM_TTL_S = 3.0
# A query of an API's database that is worth keeping.
_API_S = 0.1
# What is told of those that should not be.
_MAX_TOLD = 20
_WARM = {
    "active_events": "/events?status=active",
    "popular_event_types": "/event-types",
    "system_configuration": "/configuration",
    "user_permissions": "/permissions",
}


@dataclass(slots=True)
class Seen:
    """How clients were answered."""

    by_tier: Counter[str] = field(default_factory=Counter)
    """`memory`, `redis`, `stale` (while it is refreshed behind them), and `waited` for the API."""
    waited: list[str] = field(default_factory=list)
    """What Cache-Status said to the first of those that waited."""
    failed: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def take(self, response: Response, seconds: float) -> None:
        tier = _tier(response)
        self.by_tier[tier] += 1
        self.slowest_s = max(self.slowest_s, seconds)
        if tier == "waited" and len(self.waited) < _MAX_TOLD:
            self.waited.append(response.cache)
        if response.status != 200 or not response.whole:
            self.failed.append(f"{response.status} {response.cache}")


def _tier(response: Response) -> str:
    cache = response.cache
    if not cache.startswith("hit") or "collapsed" in cache:
        return "waited"
    if "ttl=-" in cache:
        return "stale"
    return "memory" if "detail=memory" in cache else "redis"


@asynccontextmanager
async def under_load(replicas: Fleet, targets: list[str], per_s: float) -> AsyncIterator[Seen]:
    """Every replica in service is asked for every target in turn, at a steady pace."""
    seen, over, connections, number = Seen(), asyncio.Event(), Connections(), 0
    loop = asyncio.get_running_loop()

    async def one() -> None:
        nonlocal number
        number += 1
        serving = replicas.serving
        replica, target = serving[number % len(serving)], targets[number // len(serving) % len(targets)]
        began = loop.time()
        try:
            seen.take(await connections.ask(replica, target), loop.time() - began)
        except FAILURES as error:
            seen.failed.append(f"{type(error).__name__} of replica {replica.place}")

    load = asyncio.ensure_future(paced(per_s, one, over))
    try:
        yield seen
    finally:
        over.set()
        await load
        connections.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmth:
    """Constant load for some lifetimes of what is asked for."""

    seconds: float
    restart_s: float
    """How long the rolling restart of all replicas took, among those; 0 without one."""
    requests: int
    from_memory: int
    from_redis: int
    stale: int
    waited: int
    """Answers for which the API was asked while the client waited: synchronous misses."""
    said: tuple[str, ...]
    """Cache-Status of the first of those."""
    failed: tuple[str, ...]
    slowest_ms: float
    api_requests: int
    """After the first for each resource."""
    api_requests_per_ttl: float
    """For each resource, by the whole fleet."""

    @classmethod
    def of(
        cls, seen: Seen, *, api_requests: list[int], ttl_s: float, seconds: tuple[float, float]
    ) -> "Warmth":
        refreshes = sum(api_requests) - len(api_requests)
        return cls(
            seconds=seconds[0],
            restart_s=seconds[1],
            requests=sum(seen.by_tier.values()),
            from_memory=seen.by_tier["memory"],
            from_redis=seen.by_tier["redis"],
            stale=seen.by_tier["stale"],
            waited=seen.by_tier["waited"],
            said=tuple(seen.waited),
            failed=tuple(seen.failed),
            slowest_ms=seen.slowest_s * 1000,
            api_requests=refreshes,
            api_requests_per_ttl=refreshes / len(api_requests) / (seconds[0] / ttl_s),
        )


async def kept_warm(server: servers.Server, *, ttls: float, restart: bool, per_s: float = 200) -> Warmth:
    """The four resources of an event platform under load for `ttls` lifetimes, and half-way the restart, if wanted."""
    loop, restart_s = asyncio.get_running_loop(), 0.0
    async with origin() as api:
        api.on("/", after(_API_S, ok(b"warm")))
        async with fleet(config(api.url, server, _kept_warm()), REPLICAS) as replicas:
            began = loop.time()
            async with under_load(replicas, list(_WARM.values()), per_s) as seen:
                await asyncio.sleep(WARM_TTL_S * ttls / 2)
                if restart:
                    rolled = loop.time()
                    await replicas.roll(unseen_s=0.2)
                    restart_s = loop.time() - rolled
                await asyncio.sleep(WARM_TTL_S * ttls / 2)
            seconds = loop.time() - began
        counts = [api.count(path.partition("?")[0]) for path in _WARM.values()]
    return Warmth.of(seen, api_requests=counts, ttl_s=WARM_TTL_S, seconds=(seconds, restart_s))


def _kept_warm() -> str:
    lines = [f"  - {{name: {name}, path: '{path}', required: true}}" for name, path in _WARM.items()]
    routes = f"routes: [{{match: '/**', ttl: {WARM_TTL_S:g}s}}]"
    return "\n".join(("drain: {delay: 400ms}", routes, "warm:", *lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """How hot a key is. By default so that each replica has a request every 3 ms or so, or every 13."""

    replicas: int = 1
    ttl_s: float = 2.0
    per_s: float = 300.0


ONE_REPLICAS = Heat()
# What is asked for less often at each replica is not popular there, unless it lives longer.
ALL_REPLICAS = Heat(replicas=REPLICAS, ttl_s=6.0, per_s=400.0)


async def hot_key(server: servers.Server, heat: Heat, *, ttls: float) -> Warmth:
    """A popular entry that is not on any list, without stale-while-revalidate: only an early refresh spares the wait."""
    loop = asyncio.get_running_loop()
    async with origin() as api:
        api.on("/hot", after(_API_S, ok(b"hot")))
        routes = f"routes: [{{match: /hot, ttl: {heat.ttl_s:g}s}}]"
        async with fleet(config(api.url, server, routes), heat.replicas) as started:
            for replica in started.replicas:
                await fetch(replica.port, "/hot")
            began = loop.time()
            async with under_load(started, ["/hot"], heat.per_s) as seen:
                await asyncio.sleep(heat.ttl_s * ttls)
            seconds = loop.time() - began
    return Warmth.of(seen, api_requests=[api.count("/hot")], ttl_s=heat.ttl_s, seconds=(seconds, 0.0))
