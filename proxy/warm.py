"""Critical resources, fetched before they are asked for and again before they expire."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import inf
from random import uniform
from typing import Any

from proxy import settings
from proxy.handler import Handler, Warmed
from proxy.logs import Logger
from proxy.messages import Incoming
from proxy.metrics import Metrics
from proxy.policy.freshness import LATE_HALF
from proxy.wire.fields import Fields

# Where neither `every` nor the answer says how long it is good.
_DEFAULT_EVERY_S = 60.0
# Ahead of expiry by a tenth, or three times what the API takes, but never in the first half of a life.
_AHEAD = 0.9
_TIMES_TOOK = 3.0
# Not all replicas in the same moment: the first one refreshes, the rest find that it has.
_JITTER = 0.05
# A resource that failed is tried again so soon, or sooner while what is stored runs out.
_RETRY_S = 5.0
_SOON_S = 0.1
# A thousand at once would keep Redis and the API from everybody else.
_AT_ONCE = 32
_TURN_S = 0.25
# A storm of purges costs the API no more than this many fetches a second.
_LOOK_EVERY_S = 0.2
# Memory lets go of what Redis also has after `memory.max_age`: warm resources are read again before.
_AGAIN = 0.8

log = Logger(__name__)


class Warmer:
    """Keeps resources warm. One that fails is logged and tried again; it stops none of the others."""

    def __init__(self, handler: Handler, metrics: Metrics) -> None:
        self._handler = handler
        self._metrics = metrics
        self._purged = asyncio.Event()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._cold: dict[str, asyncio.Event] = {}
        """By name, of those that are being kept warm: to be set when one is purged."""

    async def warm(self, resources: Sequence[settings.Warm], *, forced: bool) -> dict[str, str]:
        """Fetch each once, side by side. Returns `ok` or what went wrong, by name.

        Unless `forced`, what is stored and fresh (by another replica, say) is good enough.
        """
        done = await asyncio.gather(*(self._fetch(resource, forced=forced) for resource in resources))
        return {resource.name: warmed.result for resource, warmed in zip(resources, done, strict=True)}

    async def keep_warm(self, resource: settings.Warm) -> None:
        """Refresh one for ever: ahead of its expiry, by whichever replica comes first."""
        warmed = await self._fetch(resource)
        while True:
            due_s, again_s = _pause(resource, warmed), self._again_s()
            if await self._is_cold_within(resource, min(due_s, again_s)):
                warmed = await self._fetch(resource)
            elif due_s > again_s:
                warmed = await self._fetch(resource, again=True)
            else:
                warmed = await self._fetch(resource, newer_than=warmed.asked)

    def heard(self) -> None:
        """Purges have come. Which resources they concern is looked at a little later, for all of them at once."""
        self._purged.set()

    async def watch(self) -> None:
        """Have what was purged fetched again, for ever: its next client should not have to wait for it."""
        while True:
            await self._purged.wait()
            self._purged.clear()
            for resource in self._handler.config.settings.warm:
                cold = self._cold.get(resource.name)
                if cold is not None and not self._handler.is_warm(_request(resource, self._handler)):
                    cold.set()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _is_cold_within(self, resource: settings.Warm, seconds: float) -> bool:
        """Wait so long, or until it is purged, which is what is told."""
        cold = self._cold[resource.name] = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await cold.wait()
        except TimeoutError:
            return False
        return True

    def _again_s(self) -> float:
        loaded = self._handler.config.settings
        return inf if loaded.redis is None else loaded.memory.max_age * _AGAIN

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of a few at a time; for a moment, so that those that hang keep nobody waiting."""
        loop = asyncio.get_running_loop()
        await self._turns.acquire()
        end = loop.call_later(_TURN_S, self._turns.release)
        try:
            yield
        finally:
            if loop.time() < end.when():
                end.cancel()
                self._turns.release()

    async def _fetch(self, resource: settings.Warm, **how: Any) -> Warmed:
        try:
            async with self._turn(), asyncio.timeout(resource.timeout):
                warmed = await self._handler.warm(_request(resource, self._handler), **how)
        except TimeoutError:
            warmed = Warmed(result=f"no answer within {resource.timeout:g}s")
        self._metrics.warmed(resource.name, ok=warmed.result == "ok")
        if warmed.result != "ok":
            path = resource.path.partition("?")[0]  # a query may hold a secret
            log.warning("warming failed", resource=resource.name, path=path, why=warmed.result)
        return warmed


def _pause(resource: settings.Warm, warmed: Warmed) -> float:
    """Seconds until the API is to be asked again."""
    if warmed.result != "ok":
        return _RETRY_S
    jitter = uniform(1 - _JITTER, 1)  # noqa: S311 - not a secret
    if resource.every is not None:
        return max(_SOON_S, resource.every * jitter - warmed.age_s)
    if warmed.fresh_s is None or warmed.fresh_s + warmed.age_s <= 0:
        return _DEFAULT_EVERY_S * jitter
    life_s = warmed.fresh_s + warmed.age_s
    ahead_s = min(max(life_s * (1 - _AHEAD), _TIMES_TOOK * warmed.took_s), life_s * LATE_HALF)
    return max(_SOON_S, (life_s - ahead_s) * jitter - warmed.age_s)


def _request(resource: settings.Warm, handler: Handler) -> Incoming:
    host = resource.host.encode() if resource.host else handler.config.upstream.authority
    fields: Fields = ((b"Host", host),)
    fields += tuple((name.encode(), value.encode()) for name, value in resource.headers.items())
    return Incoming(method="GET", target=resource.path.encode("utf-8", "surrogateescape"), fields=fields)
