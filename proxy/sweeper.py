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
        """Unless another replica has begun to within `every_s`. Raises Refused, and RedisDown if a part of Redis is left out."""
        claim = await self._redis.claim(_NAME, "", self._token, every_s)
        if claim is None and not self._redis.up:
            raise RedisDown("out")
        # A Redis that is full refuses claims, and needs it most. Two who look do no harm.
        if claim is not None and claim.holder != self._token:
            return
        self._said_at = monotonic()
        before, failed = self._metrics.swept, None
        for shard in self._redis.shards():
            try:
                await self._sweep_shard(shard, every_s)
            except RedisDown as error:
                failed = error
        log.info("purged entries are out of redis", entries=self._metrics.swept - before)
        if failed is not None:
            raise failed

    async def _sweep_shard(self, shard: str, every_s: float) -> None:
        cursor: int | None = 0
        while cursor is not None:
            began = monotonic()
            cursor, dropped = await self._redis.sweep(shard, cursor, self._tiers.is_purged)
            self._metrics.swept += dropped
            await self._still_here(every_s)
            await asyncio.sleep(min(_LONGEST_PAUSE_S, (monotonic() - began) / _SHARE))

    async def _still_here(self, every_s: float) -> None:
        if monotonic() - self._said_at >= min(_RENEW_S, every_s / 3):
            self._said_at = monotonic()
            await self._redis.swap(_NAME, "", self._token, self._token, every_s)
