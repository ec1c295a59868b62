"""What is hot: told to Redis by replicas that are being asked, taken from there by one that starts."""

import asyncio
from collections.abc import Mapping, Sequence
from random import uniform
from time import monotonic, time

import msgspec

from proxy.logs import Logger
from proxy.metrics import Metrics
from proxy.policy.routes import Route
from proxy.settings import Memory
from proxy.store.shared import SharedTier
from proxy.store.tiers import Tiers

_KEY = "hot"
# Of 1 KiB each they are a megabyte; a list of them 60 KB.
_MAX_KEYS = 1000
# Keys are a route's name, two digests and some punctuation.
_MAX_KEY = 300
# Whoever has just started knows nothing that the list does not say.
_TELL_EVERY_S = 30.0
# A list that nobody renews is of another day's events.
_LASTS_S = 86_400.0
# Together: few round trips, and no burst that anybody else feels.
_TOGETHER = 16

log = Logger(__name__)


class Hot:
    """The list of the hottest keys, of all replicas: they see the same crowd, so the last to write it is right enough."""

    def __init__(self, tiers: Tiers, redis: SharedTier, metrics: Metrics) -> None:
        self._tiers = tiers
        self._redis = redis
        self._metrics = metrics

    async def tell(self) -> None:
        """Say what is hot here, for ever."""
        while True:
            await asyncio.sleep(_TELL_EVERY_S * uniform(0.8, 1.2))  # noqa: S311 - not a secret
            keys = await self._tiers.hottest(_MAX_KEYS)
            if keys:
                await self._redis.put(_KEY, msgspec.msgpack.encode(keys), _LASTS_S, asked=0)

    async def preload(self, routes: Mapping[str, Route], limits: Memory) -> None:
        """Fill memory with what is hot elsewhere, for a bounded time and size. Raises nothing."""
        started, memory = monotonic(), self._tiers.memory
        deadline, full = started + limits.preload_timeout, memory.bytes + limits.preload_size
        keys = await self._told() if limits.preload_size else []
        for begin in range(0, len(keys), _TOGETHER):
            if monotonic() >= deadline or memory.bytes >= full:
                break
            batch = keys[begin : begin + _TOGETHER]
            taken = await asyncio.gather(*(self._tiers.take_in(key, routes, time()) for key in batch))
            self._metrics.preloaded += sum(taken)
        if keys:
            took_s = round(monotonic() - started, 3)
            log.info("memory is preloaded", entries=self._metrics.preloaded, of=len(keys), seconds=took_s)

    async def _told(self) -> list[str]:
        raw = await self._redis.get_with_ttl(_KEY)
        return [] if raw is None else listed(raw[0])


def listed(data: bytes) -> list[str]:
    """The keys in such a list, each behind the signpost that leads to it; none where it is no such list."""
    try:
        keys: Sequence[str] = msgspec.msgpack.decode(data, type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    return list(dict.fromkeys(key for named in keys[:_MAX_KEYS] if _is_key(named) for key in _way_to(named)))


def _is_key(named: str) -> bool:
    return named.startswith("e:") and len(named) <= _MAX_KEY


def _way_to(key: str) -> tuple[str, ...]:
    base, dot, _ = key.rpartition(".")
    # A route's name may have dots, too; what follows its colon has one only where it is a variant.
    return (base, key) if dot and ":" in base[2:] else (key,)
