"""Memory, then Redis, as one store that knows about purges and variants."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from proxy import settings
from proxy.policy.freshness import Times
from proxy.policy.key import variant
from proxy.policy.purges import GOOD, Purges, Standing
from proxy.policy.routes import Route
from proxy.store.entry import Damaged, Entry, decode, encode
from proxy.store.memory import Memory
from proxy.store.shared import SharedTier
from proxy.wire.fields import Fields


class Copy:
    """An entry in memory. What is mutable about it is only how far it has been checked against purges."""

    __slots__ = ("crowded", "entry", "epoch", "since", "standing", "until", "variants")

    def __init__(self, entry: Entry, *, since: float, until: float) -> None:
        self.entry = entry
        self.since = since
        self.until = until
        self.epoch = -1
        self.standing: Standing = GOOD
        self.variants: dict[str, None] | None = None
        """Of a signpost: the keys of its variants, oldest first."""
        self.crowded = False
        """Of a signpost: whether one had to go for the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A stored answer that no purge has taken away."""

    entry: Entry
    soft_purged: float = 0.0

    @property
    def times(self) -> Times:
        """What freshness is decided by."""
        return self.entry.times(self.soft_purged)


class Log(Protocol):
    """The purge log, as far as the store needs it."""

    purges: Purges
    readable: bool
    """Whether all purges up to now are known here."""


class Tiers:
    """The store. Memory is asked synchronously, Redis is awaited; a Redis that fails is a miss."""

    def __init__(
        self,
        memory: Memory[Copy],
        redis: SharedTier | None,
        purge_log: Log,
        damaged: Callable[[str], None],
    ) -> None:
        """`damaged` is told why bytes from Redis are no entry of ours."""
        self.memory = memory
        self._redis = redis
        self._log = purge_log
        self._damaged = damaged
        self.limits = settings.Memory()
        self.redis_limits = settings.Redis()

    # -- memory --

    def recall(self, key: str, fields: Fields, now: float) -> Found | None:
        """What memory has for a request."""
        copy = self._good_copy(key, now)
        if copy is not None and copy.entry.vary:
            copy = self._good_copy(variant_key(key, copy.entry, fields), now)
        return None if copy is None else Found(entry=copy.entry, soft_purged=copy.standing.soft_at)

    def own_key(self, key: str, fields: Fields) -> str:
        """The key of a request's own variant, if memory knows by what the answers under `key` vary; else nothing."""
        copy = self.memory.get(key)
        return variant_key(key, copy.entry, fields) if copy is not None and copy.entry.vary else ""

    def holds(self, entry: Entry) -> bool:
        """Whether this very entry is in memory, and nothing newer in its place."""
        copy = self.memory.get(entry.key)
        return copy is not None and copy.entry is entry

    def current(self, found: Found) -> Found | None:
        """What is left of something found a moment ago, after all purges until now."""
        standing = self._log.purges.standing(found.entry.concerned)
        return None if standing.purged else Found(entry=found.entry, soft_purged=standing.soft_at)

    def _good_copy(self, key: str, now: float) -> Copy | None:
        copy = self.memory.get(key)
        if copy is None:
            return None
        if copy.epoch != self._log.purges.epoch:
            copy.standing = self._log.purges.standing(copy.entry.concerned)
            copy.epoch = self._log.purges.epoch
        # While the log can't be read, purges of other replicas go unseen here for this long and no longer.
        unsure = not self._log.readable and now - copy.since > self.limits.max_age
        if copy.standing.purged or now >= copy.until or unsure:
            self.memory.pop(key)
            return None
        return copy

    def remember(
        self, entry: Entry, route: Route, now: float, *, redis_left_s: float | None = None
    ) -> Copy | None:
        """Keep a copy in memory: as long as it's good, or `max_age` where Redis has it too and can be asked again."""
        if not route.settings.memory and not entry.is_signpost:
            return None
        until = entry.keep_until
        if self._redis is not None and route.settings.redis:
            until = min(until, now + self.limits.max_age)
        if redis_left_s is not None:
            until = min(until, now + redis_left_s)
        copy = Copy(entry, since=now, until=until)
        before = self.memory.get(entry.key) if entry.is_signpost else None
        if before is not None and before.entry.vary == entry.vary:
            # The same signpost, from Redis: what stands behind it here is still there.
            copy.variants, copy.crowded = before.variants, before.crowded
        self.memory.put(entry.key, copy, size=entry.size, until=until)
        return copy

    # -- Redis --

    async def fetch(self, key: str, fields: Fields, route: Route, now: float) -> Found | None:
        """What Redis has for a request; it is remembered."""
        entry = await self._fetch(key, route, now)
        if entry is not None and entry.vary:
            entry = await self._fetch(variant_key(key, entry, fields), route, now)
        if entry is None:
            return None
        return Found(entry=entry, soft_purged=self._log.purges.standing(entry.concerned).soft_at)

    async def _fetch(self, key: str, route: Route, now: float) -> Entry | None:
        # Before the log is read to its end, Redis may hold what has been purged.
        if self._redis is None or not route.settings.redis or not self._log.readable:
            return None
        raw = await self._redis.get_with_ttl(key)
        if raw is None:
            return None
        data, left_s = raw
        try:
            entry = decode(data, key=key, max_body=self.redis_limits.max_value)
        except Damaged as error:
            self._damaged(str(error))
            return None
        if now >= entry.keep_until or self._log.purges.standing(entry.concerned).purged:
            return None
        self.remember(entry, route, now, redis_left_s=left_s)
        return entry

    # -- both --

    async def store(self, entry: Entry, base_key: str, route: Route, now: float) -> None:
        """Keep an entry in Redis as well. `base_key` is the key before its Vary was known."""
        if self._redis is None or not route.settings.redis:
            return
        ttl_s = entry.keep_until - now
        if entry.key != base_key:
            if self._crowded(base_key):
                return
            await self._share(signpost(entry, base_key), ttl_s)
        await self._share(entry, ttl_s)

    async def _share(self, entry: Entry, ttl_s: float) -> None:
        assert self._redis is not None  # noqa: S101 - the caller checked
        data = encode(entry, compress_above=self.redis_limits.compress_above)
        if len(data) <= self.redis_limits.max_value:
            await self._redis.put(entry.key, data, ttl_s)

    def forget(self, entry: Entry) -> None:
        """Drop an entry from memory."""
        self.memory.pop(entry.key)

    async def forget_shared(self, entry: Entry, route: Route) -> None:
        """Drop an entry from Redis."""
        if self._redis is not None and route.settings.redis:
            await self._redis.delete(entry.key)

    def keep(self, entry: Entry, base_key: str, route: Route, now: float) -> bool:
        """Keep an entry in memory, unless it has been purged while it was under way."""
        if self._log.purges.standing(entry.concerned).purged:
            return False
        if entry.key != base_key:
            self._point(entry, base_key, route, now)
        remembered = self.remember(entry, route, now) is not None
        return remembered or (self._redis is not None and route.settings.redis)

    def _point(self, entry: Entry, base_key: str, route: Route, now: float) -> None:
        """Renew the signpost to a variant. The oldest variants go where there are too many."""
        sign = signpost(entry, base_key)
        before = self.memory.get(base_key)
        if before is not None and before.entry.vary == entry.vary:
            # It stands as long as any variant behind it.
            until = max(before.entry.keep_until, entry.keep_until)
            sign = msgspec.structs.replace(sign, keep_until=until)
        copy = self.remember(sign, route, now)
        if copy is None:
            return
        variants = copy.variants or {}
        if len(variants) >= self.limits.max_variants:
            variants = {key: None for key in variants if key in self.memory}
        variants.pop(entry.key, None)
        variants[entry.key] = None
        crowded = len(variants) > self.limits.max_variants
        while len(variants) > self.limits.max_variants:
            oldest = next(iter(variants))
            del variants[oldest]
            self.memory.pop(oldest)
        copy.variants, copy.crowded = variants, crowded

    def _crowded(self, base_key: str) -> bool:
        copy = self.memory.get(base_key)
        return copy is not None and copy.crowded


def signpost(entry: Entry, base_key: str) -> Entry:
    """What stands under the key without Vary: not an answer, but which headers its variants differ by."""
    return Entry(
        key=base_key,
        route=entry.route,
        url=entry.url,
        tags=entry.tags,
        born=entry.born,
        status=0,
        reason=b"",
        head=b"",
        etag=b"",
        last_modified=b"",
        generated=entry.generated,
        fresh_until=entry.fresh_until,
        revalidate_s=0.0,
        error_s=0.0,
        keep_until=entry.keep_until,
        explicit=entry.explicit,
        vary=entry.vary,
    )


def variant_key(key: str, entry: Entry, fields: Fields) -> str:
    """The key of a request's own variant, where `entry` is any of them or the signpost."""
    return variant(key, tuple(name.encode("latin-1") for name in entry.vary), fields)
