"""Memory, then Redis, as one store that knows about purges and variants."""

import asyncio
from collections.abc import Callable, Mapping
from heapq import heappush, heappushpop
from math import ceil, frexp, inf, ldexp
from time import monotonic, time
from typing import Protocol

import msgspec

from proxy import settings
from proxy.policy.freshness import MAX_SKEW_S, Times, may_be_due_from
from proxy.policy.key import variant
from proxy.policy.purges import GOOD, Purges, Standing, logged
from proxy.policy.routes import Route
from proxy.store.entry import Beginning, Damaged, Entry, body_of, concerned_in, decode, encode
from proxy.store.heads import Forms
from proxy.store.memory import Memory, one
from proxy.store.shared import Put, SharedTier
from proxy.wire.fields import Fields

# A popular answer is one that so many have come for: the rest are not worth a request ahead of time.
POPULAR = 10
# Until the log has come as far here as elsewhere; all of them take as long as Redis may.
_LOOKS = 20
# So many entries are looked at before requests get their turn again: about 0.2 ms.
_AT_ONCE = 1000
_SWEPT_AT_ONCE = 5
_SWEEP_S = 0.001
_JUST_NOW_S = 0.1


class Copy(msgspec.Struct, eq=False, gc=False):
    """An entry in memory. What is mutable about it is only how far it has been checked against purges."""

    entry: Entry
    since: float
    until: float
    hits: int = 0
    """Requests that came for it: of late, since it was last stored anew."""
    epoch: int = -1
    standing: Standing = GOOD

    @property
    def due_from(self) -> float:
        """From when on it may be refreshed ahead of time (Unix seconds)."""
        return may_be_due_from(self.entry.times())


class Sign(Copy, eq=False, gc=False):
    """A signpost in memory."""

    variants: dict[str, None] = msgspec.field(default_factory=dict[str, None])
    """Their keys, oldest first."""
    crowded: bool = False
    """Whether one had to go for the latest."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A stored answer that no purge has taken away."""

    entry: Entry
    soft_purged: float = 0.0
    every_s: float = inf
    """Where it may be refreshed ahead of time: seconds from one request for it to the next."""

    @property
    def times(self) -> Times:
        """What freshness is decided by."""
        return self.entry.times(self.soft_purged)


class Log(Protocol):
    """The purge log, as far as the store needs it."""

    purges: Purges

    @property
    def readable(self) -> bool:
        """Whether all purges up to now are known here."""

    @property
    def in_doubt(self) -> bool:
        """Whether this process may have slept through purges, so that not even its own memory is to be trusted."""


Raw = tuple[bytes, float]
"""A value from Redis, and the seconds that it will be kept there."""


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
        self._forms = Forms()

    # -- memory --

    def recall(self, key: str, fields: Fields, now: float) -> Found | None:
        """What memory has for a request."""
        copy = self.copy_for(key, fields, now)
        if copy is None:
            return None
        copy.hits += 1
        if copy.hits < POPULAR or now < copy.due_from:
            return Found(entry=copy.entry, soft_purged=copy.standing.soft_at)
        every_s = (now - copy.since) / copy.hits
        return Found(entry=copy.entry, soft_purged=copy.standing.soft_at, every_s=every_s)

    def copy_for(self, key: str, fields: Fields, now: float) -> Copy | None:
        """The copy in memory that a request is answered from; it does not count as one that came for it."""
        copy = self._good_copy(key, now)
        if copy is not None and copy.entry.vary:
            copy = self._good_copy(variant_key(key, copy.entry, fields), now)
        return copy

    def own_key(self, key: str, fields: Fields) -> str:
        """The key of a request's own variant, if memory knows by what the answers under `key` vary; else nothing."""
        copy = self.memory.get(key)
        return variant_key(key, copy.entry, fields) if copy is not None and copy.entry.vary else ""

    def holds(self, entry: Entry) -> bool:
        """Whether this very entry is in memory, and nothing newer in its place."""
        copy = self.memory.get(entry.key)
        kept = None if copy is None else copy.entry
        if kept is None or kept is entry:
            return kept is entry
        # Memory has it with its head in another form.
        return (kept.body is entry.body, kept.asked, kept.times()) == (True, entry.asked, entry.times())

    def current(self, found: Found) -> Found | None:
        """What is left of something found a moment ago, after all purges until now."""
        standing = self._log.purges.standing(found.entry.concerned)
        return None if standing.purged else Found(entry=found.entry, soft_purged=standing.soft_at)

    def _good_copy(self, key: str, now: float) -> Copy | None:
        copy = self.memory.get(key)
        if copy is None or self._log.in_doubt:
            return None
        self._look_at(copy)
        # While the log can't be read, purges of other replicas go unseen here for this long and no longer.
        unsure = not self._log.readable and now - copy.since > self.limits.max_age
        if copy.standing.purged or now >= copy.until or unsure:
            self.memory.pop(key)
            return None
        return copy

    def remember(
        self, entry: Entry, route: Route, now: float, *, redis_left_s: float | None = None
    ) -> Copy | None:
        """Keep a copy in memory: as long as it's good, or `max_age` where Redis has it too and can be asked again.

        Returns what memory has of it then: something newer, if that is there already.
        """
        if not route.settings.memory and not entry.is_signpost:
            return None
        until = entry.keep_until
        if self._redis is not None and route.settings.redis:
            until = min(until, now + self.limits.max_age)
        if redis_left_s is not None:
            until = min(until, now + redis_left_s)
        # An answer that was made just now shares the number with its copy.
        since = entry.generated if 0 <= now - entry.generated < _JUST_NOW_S else now
        kind = Sign if entry.is_signpost else Copy
        copy = kind(self._slim(entry), since=since, until=until)
        before = self.memory.peek(entry.key)
        if before is not None and self._is_newer(before, entry, now):
            return before
        if before is not None:
            copy.hits = before.hits // 2
        if isinstance(copy, Sign) and isinstance(before, Sign) and before.entry.vary == entry.vary:
            # The same signpost, from Redis: what stands behind it here is still there.
            copy.variants, copy.crowded = before.variants, before.crowded
        self.memory.put(entry.key, copy, size=copy.entry.size, until=until)
        return copy

    def _slim(self, entry: Entry) -> Entry:
        """The same, without what it has in common with others: of that there is one for all."""
        if entry.form is not None:
            return entry
        form, lines = self._forms.split(entry.route, entry.head)
        return msgspec.structs.replace(
            entry,
            form=form,
            lines=lines,
            tags=tuple(map(one, entry.tags)),
            revalidate_s=one(entry.revalidate_s),
            error_s=one(entry.error_s),
            took_s=one(_about(entry.took_s)),
        )

    def _is_newer(self, copy: Copy, entry: Entry, now: float) -> bool:
        """Whether what memory has was asked for later, is good, and not from the future by a clock that was wrong."""
        asked = copy.entry.asked
        return (
            entry.asked < asked < (now + MAX_SKEW_S) * 1e6
            and now < copy.until
            and not self._log.purges.standing(copy.entry.concerned).purged
        )

    def clock_jumped(self, by_s: float) -> None:
        """The clock was set: what is remembered of when copies came goes along. What they say themselves stays."""
        for _, copy in self.memory.items():  # noqa: PERF102 - it is no dict
            copy.since += by_s
            copy.until = min(copy.until + by_s, copy.entry.keep_until)

    # -- Redis --

    def shares(self, route: Route) -> bool:
        """Whether what one replica stores for this route the others can read, at this moment."""
        return self._redis is not None and route.settings.redis and self._log.readable

    async def fetch(self, key: str, fields: Fields, route: Route, now: float) -> Found | None:
        """What Redis has for a request; it is remembered."""
        entry = await self._fetch(key, route, now)
        if entry is not None and entry.vary:
            entry = await self._fetch(variant_key(key, entry, fields), route, now)
        if entry is None:
            return None
        return Found(entry=entry, soft_purged=self._log.purges.standing(entry.concerned).soft_at)

    async def _fetch(self, key: str, route: Route, now: float) -> Entry | None:
        if not route.settings.redis:
            return None
        read = await self._read(key, now)
        if read is None:
            return None
        entry, left_s = read
        copy = self.remember(entry, route, now, redis_left_s=left_s)
        return entry if copy is None else copy.entry

    async def _read(self, key: str, now: float) -> tuple[Entry, float] | None:
        """What Redis has under a key, if it is good, and the seconds that it will keep it."""
        # Before the log is read to its end, Redis may hold what has been purged.
        if self._redis is None or not self._log.readable or self._log.in_doubt:
            return None
        raw = await self._redis.get_with_ttl(key)
        entry = None if raw is None else self._decoded(key, raw[0], now)
        if raw is None or entry is None or not await self._has_read(entry.born):
            return None
        return None if self._log.purges.standing(entry.concerned).purged else (entry, raw[1])

    def _decoded(self, key: str, data: bytes, now: float) -> Entry | None:
        try:
            entry = decode(data, key=key, max_body=self.redis_limits.max_value)
        except Damaged as error:
            self._damaged(str(error))
            return None
        return None if now >= entry.keep_until else entry

    def look(self, key: str, fields: Fields, route: Route, told: Callable[[str, Raw | None], None]) -> bool:
        """Ask Redis for what a request is answered with, and await nothing. False where Redis isn't to be asked.

        `told` gets the key that was asked for, and what Redis has under it: for `found_in`.
        """
        if self._redis is None or not route.settings.redis or not self._log.readable or self._log.in_doubt:
            return False
        own = self.own_key(key, fields) or key
        # What is not kept in memory need not be told for how long.
        self._redis.look(own, lambda raw: told(own, raw), with_ttl=route.settings.memory)
        return True

    def found_in(self, key: str, raw: Raw, route: Route) -> Found | None:
        """An answer, not a signpost, that Redis has under a key, if it's surely good. It is remembered.

        Where there is none `fetch` may still find it.
        """
        now, purges = time(), self._log.purges
        entry = self._decoded(key, raw[0], now)
        if entry is None or entry.born > purges.last or not self._log.readable or self._log.in_doubt:
            return None
        if purges.standing(entry.concerned).purged:
            return None
        copy = self.remember(entry, route, now, redis_left_s=raw[1])
        if copy is not None:
            entry = copy.entry
        if entry.is_signpost:
            return None
        return Found(entry=entry, soft_purged=purges.standing(entry.concerned).soft_at)

    def body_of(self, raw: Raw, begins: Beginning) -> bytes | None:
        """The body that Redis has of an entry that is known but for that; None if it's another, or damaged (see `found_in`)."""
        try:
            return body_of(raw[0], begins=begins, max_body=self.redis_limits.max_value)
        except Damaged:
            return None

    async def _has_read(self, born: int) -> bool:
        """Whether the log is read as far here as the replica had read it that asked for an entry.

        Another one may be milliseconds ahead. Where it is more, its log was lost, and new purges have the numbers of old ones.
        """
        for _ in range(_LOOKS):
            if born <= self._log.purges.last:
                return True
            await asyncio.sleep(self.redis_limits.timeout / _LOOKS)
        return False

    # -- the hottest --

    async def hottest(self, count: int) -> list[str]:
        """The keys of what memory is asked for most, hottest first. Lets requests go on in between."""
        best: list[tuple[int, str]] = []
        for number, (key, copy) in enumerate(self.memory.items()):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            if copy.hits and not copy.entry.is_signpost and copy.entry.status != 206:
                (heappush if len(best) < count else heappushpop)(best, (copy.hits, key))
        return [key for _, key in sorted(best, reverse=True)]

    async def take_in(self, key: str, routes: Mapping[str, Route], now: float) -> bool:
        """Fill memory with what Redis has under a key that is not being asked for. False if that is nothing of use."""
        read = await self._read(key, now)
        if read is None:
            return False
        entry, left_s = read
        route = routes.get(entry.route)
        # Of a route that has changed since, nobody would ever find it.
        if route is None or not route.settings.memory or not key.startswith(f"e:{route.namespace}:"):
            return False
        return self.remember(entry, route, now, redis_left_s=left_s) is not None

    def is_purged(self, key: str, data: bytes) -> bool:
        """Whether what begins so in Redis is purged for good. What can't be told is not."""
        try:
            concerned = concerned_in(data, key=key)
        except Damaged:
            return False
        purges = self._log.purges
        # What is older than the log goes back may be good elsewhere: this replica alone may not have understood a record.
        known = self._log.readable and purges.floor <= concerned.born <= purges.last
        return known and purges.standing(concerned).purged

    def sweep(self, now: float) -> None:
        """Let go of some of what memory has and nobody may be served any more. Takes 2 ms or so at most."""
        deadline = monotonic() + _SWEEP_S
        for _ in range(0, _AT_ONCE, _SWEPT_AT_ONCE):
            self.memory.sweep(now, self._is_purged, limit=_SWEPT_AT_ONCE)
            if monotonic() >= deadline:
                # A thousand patterns take a third of a millisecond for each entry.
                break

    def _is_purged(self, copy: Copy) -> bool:
        self._look_at(copy)
        return copy.standing.purged

    def _look_at(self, copy: Copy) -> None:
        """Have a copy checked against all purges until now."""
        if copy.epoch != self._log.purges.epoch:
            copy.standing = self._log.purges.standing(copy.entry.concerned)
            copy.epoch = self._log.purges.epoch

    # -- both --

    async def store(self, entry: Entry, base_key: str, route: Route, now: float) -> bool:
        """Keep an entry in Redis as well, and tell whether it is there. `base_key` is the key before its Vary was known."""
        if self._redis is None or not route.settings.redis:
            return False
        ttl_s = entry.keep_until - now
        if entry.key != base_key:
            if self._crowded(base_key):
                return False
            await self._share(self._redis, signpost(entry, base_key), ttl_s)
        put = await self._share(self._redis, entry, ttl_s)
        if put is Put.NEWER and self.holds(entry):
            # Another replica asked later and stored sooner: the next to ask here gets that.
            self.memory.pop(entry.key)
        return put is not Put.FAILED

    async def _share(self, redis: SharedTier, entry: Entry, ttl_s: float) -> Put:
        # The numbers of purges that the log does not have yet mean nothing to others.
        shared = msgspec.structs.replace(entry, born=logged(entry.born))
        data = encode(shared, compress_above=self.redis_limits.compress_above)
        if len(data) > self.redis_limits.max_value:
            return Put.FAILED
        return await redis.put(entry.key, data, ttl_s, asked=entry.asked)

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
        if not isinstance(copy, Sign):
            return
        variants = copy.variants
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
        return isinstance(copy, Sign) and copy.crowded


def _about(seconds: float) -> float:
    """Up to an eighth more, so that entries share it: odds are made of it."""
    mantissa, exponent = frexp(seconds)
    return ldexp(ceil(mantissa * 16) / 16, exponent)


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
        lines=b"",
        generated=entry.generated,
        asked=entry.asked,
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
