"""The purge log as it is shared: one Redis stream that every replica appends to and reads.

Without Redis the log is this process's own and means the same. With Redis, entries are trusted only while the log can be
read: what Redis holds is not asked for before the log has been read up to its end, and after a gap memory is dropped.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from time import time

from proxy.logs import Logger
from proxy.metrics import PURGES, Metrics
from proxy.policy.purges import (
    Kind,
    Purges,
    Record,
    from_fields,
    instant,
    next_id,
    record_id,
    stream_id,
    to_fields,
)
from proxy.policy.storable import MAX_KEEP_S
from proxy.policy.writes import Name
from proxy.store.shared import RedisDown, SharedTier
from proxy.tasks import Tasks

_STREAM = "purges"
# An hour more than anything is kept.
_KEEP_MS = int((MAX_KEEP_S + 3600) * 1000)
# 1s: a Redis that went silent is noticed so soon, and a new record ends the wait at once.
_BLOCK_MS = 1000
_RETRY_S = 0.5
_BATCH = 1000
# Purges made while Redis was away, to be appended when it is back; beyond it the log says "everything".
_MAX_PENDING = 10_000

log = Logger(__name__)


class PurgeLog:
    """Appends purges, and applies those of all replicas."""

    def __init__(self, tier: SharedTier | None, metrics: Metrics, tasks: Tasks) -> None:
        self.purges = Purges()
        self._tier = tier
        self._metrics = metrics
        self._tasks = tasks
        self._pending: list[tuple[Name, bool]] = []
        self._own: set[int] = set()
        """Ids of records that were appended here and not read yet."""
        self._cursor = 0
        """Id of the last record read from the stream; `purges.last` may be later by what was appended here."""
        self.readable = tier is None
        """Whether all purges up to now are known here: Redis may be read."""

    async def purge(self, names: Sequence[Name], *, soft: bool = False) -> bool:
        """Purge by names. It holds here when this returns; False if the other replicas will learn of it later.

        Raises nothing: a purge that Redis does not take is kept and appended when it can be.
        """
        for kind, value in names:
            # Here at once and without an await: it must hold even if whoever asked for it is cancelled now.
            self.purges.apply(Record(at=self._local_id(), kind=kind, value=value, soft=soft))
        if self._tier is None:
            self._count(names)
            return True
        # A task of its own: the other replicas must learn of it even if this caller leaves.
        appending = self._append_all(self._tier, names, soft=soft)
        return await asyncio.shield(self._tasks.spawn(appending, name="append purges"))

    async def _append_all(self, tier: SharedTier, names: Sequence[Name], *, soft: bool) -> bool:
        return all(await asyncio.gather(*(self._append(tier, name, soft=soft) for name in names)))

    def _local_id(self) -> int:
        # Beside Redis our clock must not number records: it may be ahead of the stream's, and an entry that is born
        # "later" than a purge which is yet to come would outlive it.
        return next_id(self.purges.last, time() if self._tier is None else 0.0)

    async def _append(self, tier: SharedTier, name: Name, *, soft: bool, again: bool = False) -> bool:
        kind, value = name
        try:
            text = await tier.stream_add(
                _STREAM, to_fields(kind, value, soft=soft), keep_after_ms=int(time() * 1000) - _KEEP_MS
            )
        except RedisDown:
            if not again:
                self._count([name])
            self._pending.append((name, soft))
            if len(self._pending) > _MAX_PENDING:
                self._pending = [((Kind.PATTERN, "*"), False)]
            return False
        at = record_id(text)
        # Unless it was read before its own answer came, and so applied and counted.
        if at > self._cursor:
            self._own.add(at)
            self.purges.apply(Record(at=at, kind=kind, value=value, soft=soft))
            if not again:
                self._count([name])
        return True

    def _count(self, names: Sequence[Name]) -> None:
        for kind, _ in names:
            self._metrics.count(PURGES, kind.value)

    async def catch_up(self, timeout_s: float) -> None:
        """Read the log to its end, for at most `timeout_s`; what is left is done by `follow`."""
        if self._tier is not None:
            with contextlib.suppress(TimeoutError, RedisDown):
                async with asyncio.timeout(timeout_s):
                    await self._read_to_end(self._tier)

    async def follow(self) -> None:
        """Read the log as it grows, for ever. Without Redis there is nothing to do."""
        tier = self._tier
        while tier is not None:
            try:
                if not self.readable:
                    await self._read_to_end(tier)
                await self._append_pending(tier)
                await self._read(tier, block_ms=_BLOCK_MS)
            except RedisDown:
                if self.readable:
                    log.warning("purge log cannot be read", last=stream_id(self._cursor))
                await self._rest()
            except Exception as error:
                log.error("purge log cannot be read", exc_info=error)  # noqa: TRY400 - our own logger
                await self._rest()

    async def _rest(self) -> None:
        # Purges may go unseen from here on, so what is stored is trusted for a while only.
        self.readable = False
        await asyncio.sleep(_RETRY_S)

    async def _read_to_end(self, tier: SharedTier) -> None:
        await self._check_for_gap(tier)
        while await self._read(tier, block_ms=0):
            pass
        self.readable = True

    async def _check_for_gap(self, tier: SharedTier) -> None:
        last = record_id(await tier.stream_last_id(_STREAM))
        # A log that ends before what is known here was lost and begun anew (FLUSHALL, an empty replacement), and with
        # it purges that never came here.
        if last < self._cursor:
            self._cursor = 0
            self.purges.forget_before(self._local_id())
            log.warning("purge log was lost; memory is dropped")

    async def _read(self, tier: SharedTier, *, block_ms: int) -> int:
        records = await tier.stream_after(_STREAM, stream_id(self._cursor), block_ms=block_ms, count=_BATCH)
        for text, fields in records:
            at = record_id(text)
            record = from_fields(at, fields)
            if record is None:
                # A newer version's record: not knowing what it names, take it for everything.
                self.purges.forget_before(at)
            else:
                self._take(record)
            self._cursor = at
        return len(records)

    def _take(self, record: Record) -> None:
        self._metrics.purge_lag_s = max(0.0, time() - instant(record.at))
        if record.at in self._own:
            self._own.discard(record.at)
            return
        self.purges.apply(record)
        self._metrics.count(PURGES, record.kind.value)

    async def _append_pending(self, tier: SharedTier) -> None:
        while self._pending:
            (name, soft), *rest = self._pending
            self._pending = rest
            if not await self._append(tier, name, soft=soft, again=True):
                # A log that takes no records (a replica, a full server) can still be read.
                return
