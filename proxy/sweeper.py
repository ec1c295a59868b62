"""Takes out of Redis what purges have made useless.

A purge only says that it was made: what it concerns is never served again, and stays until it expires or is overwritten. That
may be a day of somebody's memory. So one replica looks through the entries, a few at a time and mostly idle, and drops those
that are purged. Whatever it gets wrong, or never gets to, costs memory or a miss.
"""

import asyncio
import secrets
from random import uniform
from time import monotonic

from proxy.logs import Logger
from proxy.metrics import Metrics
from proxy.store.shared import RedisDown, Refused, SharedTier
from proxy.store.tiers import Tiers

_NAME = "sweep"
# Its share of the time: a twentieth of one core, and less of Redis'.
_SHARE = 0.05
_LONGEST_PAUSE_S = 1.0
# Whoever looks through the entries says so as often.
_RENEW_S = 5.0

log = Logger(__name__)


class Sweeper:
    """Of this process. Among all replicas one looks, every `redis.sweep` at most, after a purge."""

    def __init__(self, tiers: Tiers, redis: SharedTier, metrics: Metrics) -> None:
        self._tiers = tiers
        self._redis = redis
        self._metrics = metrics
        self._token = secrets.token_hex(8).encode()
        self._purged = asyncio.Event()
        self._said_at = -float("inf")

    def heard(self) -> None:
        """Purges have come."""
        self._purged.set()

    async def sweep(self) -> None:
        """For ever, after purges."""
        while every_s := self._tiers.redis_limits.sweep:
            await self._purged.wait()
            await asyncio.sleep(every_s * uniform(1.0, 1.2))  # noqa: S311 - not a secret
            self._purged.clear()
            try:
                await self._sweep_once(every_s)
            except RedisDown as error:
                log.info("purged entries stay in redis for now", kind=str(error))
                self._purged.set()
            except Refused as error:
                log.warning("purged entries stay in redis until they expire", why=str(error))
                return

    async def _sweep_once(self, every_s: float) -> None:
        """Nothing, if another replica has begun to since this time yesterday, so to say: within `every_s`."""
        claim = await self._redis.claim(_NAME, "", self._token, every_s)
        if claim is None or claim.holder != self._token:
            return
        self._said_at = monotonic()
        dropped = 0
        for shard in self._redis.shards():
            cursor: int | None = 0
            while cursor is not None:
                began = monotonic()
                cursor, some = await self._redis.sweep(shard, cursor, self._tiers.is_purged)
                dropped += some
                self._metrics.swept += some
                await self._still_here(every_s)
                await asyncio.sleep(min(_LONGEST_PAUSE_S, (monotonic() - began) / _SHARE))
        log.info("purged entries are out of redis", entries=dropped)

    async def _still_here(self, every_s: float) -> None:
        if monotonic() - self._said_at >= min(_RENEW_S, every_s / 3):
            self._said_at = monotonic()
            await self._redis.swap(_NAME, "", self._token, self._token, every_s)
