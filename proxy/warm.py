"""Critical resources, fetched before they are asked for and again before they expire."""

import asyncio
from collections.abc import Sequence
from random import uniform

from proxy import settings
from proxy.handler import Handler
from proxy.logs import Logger
from proxy.messages import Incoming
from proxy.metrics import Metrics
from proxy.wire.fields import Fields

# Where neither `every` nor the answer says how long it is good.
_DEFAULT_EVERY_S = 60.0
# Ahead of expiry by a fifth, and not all replicas in the same second.
_AHEAD = 0.8
_JITTER = 0.1
# A resource that failed is tried again so soon.
_RETRY_S = 5.0

log = Logger(__name__)


class Warmer:
    """Keeps resources warm. One that fails is logged and tried again; it stops none of the others."""

    def __init__(self, handler: Handler, metrics: Metrics) -> None:
        self._handler = handler
        self._metrics = metrics

    async def warm(self, resources: Sequence[settings.Warm], *, forced: bool) -> dict[str, str]:
        """Fetch each once, side by side. Returns `ok` or what went wrong, by name.

        Unless `forced`, what is stored and fresh (by another replica, say) is good enough.
        """
        results = await asyncio.gather(*(self._fetch(resource, forced=forced) for resource in resources))
        return {resource.name: result for resource, (result, _) in zip(resources, results, strict=True)}

    async def keep_warm(self, resource: settings.Warm) -> None:
        """Refresh one for ever."""
        result, fresh_s = await self._fetch(resource, forced=False)
        while True:
            await asyncio.sleep(_pause(resource, result, fresh_s))
            result, fresh_s = await self._fetch(resource, forced=True)

    async def _fetch(self, resource: settings.Warm, *, forced: bool) -> tuple[str, float | None]:
        fresh_s: float | None = None
        try:
            async with asyncio.timeout(resource.timeout):
                result, fresh_s = await self._handler.warm(_request(resource, self._handler), forced=forced)
        except TimeoutError:
            result = f"no answer within {resource.timeout:g}s"
        self._metrics.warmed(resource.name, ok=result == "ok")
        if result != "ok":
            path = resource.path.partition("?")[0]  # a query may hold a secret
            log.warning("warming failed", resource=resource.name, path=path, why=result)
        return result, fresh_s


def _pause(resource: settings.Warm, result: str, fresh_s: float | None) -> float:
    if result != "ok":
        return _RETRY_S
    every = resource.every or (fresh_s or _DEFAULT_EVERY_S) * _AHEAD
    return max(1.0, every * uniform(1 - _JITTER, 1))  # noqa: S311 - jitter, not a secret


def _request(resource: settings.Warm, handler: Handler) -> Incoming:
    host = resource.host.encode() if resource.host else handler.config.upstream.authority
    fields: Fields = ((b"Host", host),)
    fields += tuple((name.encode(), value.encode()) for name, value in resource.headers.items())
    return Incoming(method="GET", target=resource.path.encode("utf-8", "surrogateescape"), fields=fields)
