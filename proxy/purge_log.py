"""The purge log as it is shared: one Redis stream that every replica appends to and reads.

Without Redis the log is this process's own and means the same. With Redis, entries are trusted only while the log can be
read: what Redis holds is not asked for before the log has been read up to its end, and after a gap memory is dropped. A process
that has slept trusts nothing before it has read on. What a log amounts to that was lost, or has lost its end, is decided in
`policy.known_log`; who is alive and has applied what, in `policy.replicas`.
"""

import asyncio
import contextlib
import random
import time as clocks
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from time import clock_gettime, monotonic, time

from proxy.logs import Logger
from proxy.metrics import PURGES, Metrics
from proxy.policy.known_log import NO_RECORD, BadLog, KnownLog, Look, Raw, Sign
from proxy.policy.purges import MAX_AT, Kind, Purges, Record, fields_of, instant, next_id, record_id
from proxy.policy.replicas import Missing
from proxy.policy.writes import Name
from proxy.replicas import Membership
from proxy.store.shared import RedisDown, SharedTier
from proxy.tasks import Tasks

_STREAM = "purges"
# 1s: a Redis that went silent is noticed so soon, and a new record ends the wait at once.
_BLOCK_MS = 1000
_RETRY_S = 0.5
# So often in a row, and it is not being read to its end any more, but can't be read.
_FAILURES = 3
# Some 3 ms of work: requests get their turn in between.
_BATCH = 200
# Of one purge that names many: Redis is to have turns for others.
_AT_ONCE = 32
# Purges made while Redis was away, to be appended when it is back; beyond it the log says "everything".
_MAX_PENDING = 10_000
# All who notice that something is missing would append it: each waits by chance, and then looks whether another has.
_SPREAD_S = 0.2
# A log in which nobody purges gets a mark so often (by chance, so that not all make one): what was read last must not be so
# old that it's let go of.
_QUIET_S = (4 * 3600.0, 8 * 3600.0)
_TICK_S = 0.5
# Of a process that was not run for so long, others may have thought that it's gone (`policy.replicas.SILENT_S`).
_SLEPT_S = 2.0
# After a sleep, connections may have to be made anew; then the rule for a log that can't be read applies.
_DOUBT_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.02
# It runs while a machine is suspended too, where there is such a clock.
CLOCK = getattr(clocks, "CLOCK_BOOTTIME", clocks.CLOCK_MONOTONIC)

log = Logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far a purge has come that was waited for."""

    shared: bool
    """Whether it is in the log: whoever has not applied it will."""
    everywhere: bool
    """Whether every replica has applied it."""
    replicas: int
    """How many have, this one among them."""
    missing: tuple[Missing, ...]
    seconds: float


@dataclass(slots=True)
class _Made:
    """A purge of this replica on its way into the log."""

    record: Record
    id: str = ""
    """Its id, once it has one."""


class PurgeLog:
    """Appends purges, and applies those of all replicas."""

    def __init__(
        self, tier: SharedTier | None, metrics: Metrics, tasks: Tasks, *, prefix: str = "crowdgate"
    ) -> None:
        """`prefix` is the one that the tier's keys begin with."""
        self._known = KnownLog()
        self.purges: Purges = self._known.purges
        self.heard: list[Callable[[], None]] = []
        """Called after purges were applied, of this replica or others."""
        self.max_age_s = 60.0
        """So long memory is served while the log can't be read."""
        self.readable = tier is None
        """Whether all purges up to now are known here: Redis may be read."""
        self._tier = tier
        self._metrics = metrics
        self._tasks = tasks
        self._membership = Membership(tier, prefix) if tier is not None else None
        self._own = self._membership.replicas.own if self._membership is not None else ""
        self._pending: list[_Made] = []
        self._put_back_at = inf
        self._quiet_at = inf
        self._reading: asyncio.Timeout | None = None
        self._ticked = inf
        self._doubt_until = -inf
        self.trusted_until = inf
        """By `CLOCK`: until then this process has surely not slept through purges."""
        self._failures = 0
        self.is_behind = tier is not None
        """Whether it is being read to its end for the first time."""

    # -- what the store and the admin port ask --

    @property
    def in_doubt(self) -> bool:
        """Whether this process may have slept through purges: then not even its own memory is to be trusted."""
        return clock_gettime(CLOCK) >= self.trusted_until

    @property
    def replicas(self) -> int:
        """How many are alive, as far as this one knows."""
        return 1 if self._membership is None else self._membership.replicas.alive(monotonic())

    # -- purging --

    async def purge(self, names: Sequence[Name], *, soft: bool = False) -> bool:
        """Purge by names. It holds here when this returns; False if the other replicas will learn of it later.

        Raises nothing: a purge that Redis does not take is kept and appended when it can be.
        """
        return await self._share(self._make(names, soft=soft, waited=False))

    async def purge_and_wait(
        self, names: Sequence[Name], *, soft: bool = False, timeout_s: float = 5.0
    ) -> Reached:
        """Purge, and wait until every replica has applied it: until the rest are silent, or for so long. Raises nothing."""
        began = monotonic()
        made = self._make(names, soft=soft, waited=True)
        await self._share(made)
        everywhere, missing = await self._applied_by_all(made, began + timeout_s)
        present = 1 if self._membership is None else self._membership.replicas.present()
        return Reached(
            shared=self._tier is not None and all(one.id for one in made),
            everywhere=everywhere,
            replicas=present - len(missing),
            missing=tuple(missing),
            seconds=monotonic() - began,
        )

    def _make(self, names: Sequence[Name], *, soft: bool, waited: bool) -> list[_Made]:
        if not names:
            return []
        now = round(time(), 3)
        # Beside Redis our clock must not number records: it may be ahead of the stream's, and an entry that is born
        # "later" than a purge which is yet to come would outlive it.
        at = next_id(self.purges.last, now if self._tier is None else 0.0)
        records = [
            Record(at=at, kind=kind, value=value, soft=soft, made=now, waited=waited, by=self._own)
            for kind, value in names
        ]
        # Here at once and without an await: it must hold even if whoever asked for it is cancelled now.
        if self._tier is None:
            self.purges.apply(*records)
        else:
            self._known.made(*records)
        self._applied(records)
        return [_Made(record) for record in records]

    async def _share(self, made: Sequence[_Made]) -> bool:
        if self._tier is None or not made:
            return True
        if not self.readable:
            # It may have been lost: that must be known before anything is appended to it.
            self._pend(made)
            return False
        # A task of its own: the other replicas must learn of it even if this caller leaves.
        appending = self._append_all(self._tier, made)
        return await asyncio.shield(self._tasks.spawn(appending, name="append purges"))

    async def _append_all(self, tier: SharedTier, made: Sequence[_Made]) -> bool:
        appended = []
        for start in range(0, len(made), _AT_ONCE):
            some = made[start : start + _AT_ONCE]
            appended += await asyncio.gather(*(self._append(tier, one) for one in some))
        return all(appended)

    async def _append(self, tier: SharedTier, made: _Made) -> bool:
        top = self._known.top
        try:
            id_ = await self._add(tier, fields_of(made.record))
            appended = self._known.appended(made.record, id_, top)
        except (RedisDown, BadLog):
            self._pend([made])
            return False
        made.id = id_
        return appended

    def _pend(self, made: Sequence[_Made]) -> None:
        self._pending += made
        if len(self._pending) > _MAX_PENDING:
            self._known.dropped(one.record for one in self._pending)
            at = next_id(self.purges.last, 0.0)
            everything = Record(at=at, kind=Kind.PATTERN, value="*", soft=False, made=time(), by=self._own)
            self._known.made(everything)
            self._pending = [_Made(everything)]

    async def _add(self, tier: SharedTier, fields: dict[bytes, bytes], at: str = "*") -> str:
        keep_after_ms = self._known.keep_after_ms(time())
        return await tier.stream_add(_STREAM, fields, keep_after_ms=keep_after_ms, at=at)

    def _applied(self, records: Iterable[Record]) -> None:
        for record in records:
            self._metrics.count(PURGES, record.kind.value)
        for tell in self.heard:
            tell()

    # -- waiting --

    async def _applied_by_all(self, made: Sequence[_Made], until: float) -> tuple[bool, list[Missing]]:
        membership, pause_s = self._membership, _FIRST_PAUSE_S
        if membership is None or not made:
            return True, []
        while True:
            at = self._in_log(made)
            try:
                await membership.look()
            except RedisDown:
                at = MAX_AT
            now = monotonic()
            missing = membership.replicas.missing(at, self._known.holds, now)
            if at < MAX_AT and all(one.is_silent for one in missing):
                return not missing, missing
            if now >= until:
                return False, missing
            await asyncio.sleep(min(pause_s, until - now))
            pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)

    def _in_log(self, made: Sequence[_Made]) -> int:
        """The number up to which the log must be read to have these; MAX_AT if they are not all in it."""
        places = [self._known.place_of(one.record, one.id) if one.id else "" for one in made]
        return max(map(record_id, places)) if all(places) else MAX_AT

    # -- reading --

    async def catch_up(self, timeout_s: float) -> None:
        """Read the log to its end, for at most `timeout_s`; what is left is done by `follow`."""
        if self._tier is not None:
            with contextlib.suppress(TimeoutError, RedisDown, BadLog):
                async with asyncio.timeout(timeout_s):
                    await self._sync(self._tier)

    async def follow(self) -> None:
        """Read the log as it grows, for ever. Without Redis there is nothing to do."""
        if self._tier is None:
            return
        self._tick(clock_gettime(CLOCK))
        ticking = self._tasks.spawn(self._tick_for_ever(), name="purge log ticker")
        try:
            while True:
                await self._follow(self._tier)
        finally:
            ticking.cancel()
            self._tick(inf)

    async def _follow(self, tier: SharedTier) -> None:
        try:
            if not self.readable:
                await self._sync(tier)
            await self._mend(tier)
            await self._read(tier, block_ms=self._block_ms())
            await self._say()
        except TimeoutError:
            # The read was given up, since this process has slept: it's made anew.
            pass
        except (RedisDown, BadLog) as error:
            if self.readable:
                log.warning("purge log cannot be read", last=self._known.cursor, kind=str(error))
            await self._rest()
        except Exception as error:
            log.error("purge log cannot be read", exc_info=error)  # noqa: TRY400 - our own logger
            await self._rest()

    async def _rest(self) -> None:
        # Purges may go unseen from here on, so what is stored is trusted for a while only.
        self.readable = False
        self._failures += 1
        # Once it may have been this process that was late: one that starts is busy.
        self.is_behind = self.is_behind and self._failures < _FAILURES
        if monotonic() < self._doubt_until:
            await asyncio.sleep(_RETRY_S / 10)
            return
        self._doubt_no_more()
        await asyncio.sleep(_RETRY_S)

    async def _sync(self, tier: SharedTier) -> None:
        """Read the log to its end, whatever has become of it."""
        # Before, so that nobody serves what somebody waits for the end of without being known.
        await self._say(at_once=True)
        if self._known.cursor != NO_RECORD:
            # It may be another Redis now, and what has the id of the last record another record.
            await self._look_back(tier)
        await self._read_to_end(tier)
        if self._known.must_begin:
            await asyncio.sleep(_SPREAD_S * random.random())  # noqa: S311 - no secret
            await self._read_to_end(tier)
            await self._begin(tier)
        if time() - instant(self._known.top) > _QUIET_S[1]:
            self._quiet_at = monotonic()
        self.readable, self.is_behind, self._failures = True, False, 0
        self._doubt_no_more()

    async def _read_to_end(self, tier: SharedTier) -> None:
        while await self._read(tier, block_ms=0):
            pass

    async def _read(self, tier: SharedTier, *, block_ms: int) -> bool:
        """Read on. Returns whether there is more."""
        due = self._known.due()
        try:
            async with asyncio.timeout(None) as self._reading:
                tail = await tier.stream_after(_STREAM, self._known.cursor, block_ms=block_ms, count=_BATCH)
        finally:
            self._reading = None
        whole = len(tail.records) < _BATCH
        fresh = self._known.read(Look(records=tail.records, intact=tail.intact, due=due, whole=whole))
        if fresh is None:
            await self._look_back(tier)
            return True
        await self._heard(fresh, tail.records)
        return not whole

    async def _look_back(self, tier: SharedTier) -> None:
        """Something is missing: find out what."""
        look = await self._whole_look(tier)
        fresh = self._known.look_back(look)
        if fresh is not None:
            if self._known.lacks_some:
                log.warning("purge log has lost its end", last=self._known.cursor)
            await self._heard(fresh, look.records)
            return
        self.readable = False
        self._metrics.purge_losses += 1
        log.warning("purge log was lost; what was stored is dropped", last=self._known.cursor)
        self._known.lose()
        self._applied(())

    async def _whole_look(self, tier: SharedTier) -> Look:
        """All records from the oldest that is known on."""
        due, after = self._known.due(), self._known.before_anchor
        records: list[Raw] = []
        more = True
        while more:
            tail = await tier.stream_after(_STREAM, after, block_ms=0, count=_BATCH)
            records += tail.records
            more = len(tail.records) == _BATCH
            after = tail.records[-1][0] if more else after
        return Look(records=records, intact=True, due=due)

    async def _heard(self, fresh: Sequence[Record], records: Sequence[Raw]) -> None:
        """Say and count what was read."""
        if not records:
            return
        low, high = _QUIET_S
        self._quiet_at = monotonic() + low + (high - low) * random.random()  # noqa: S311 - no secret
        self._metrics.purge_lag_s = max(0.0, time() - instant(record_id(records[-1][0])))
        # What was made here was counted when it was; it may be read before Redis' answer says that it was appended.
        self._applied(record for record in fresh if record.by != self._own)
        if self._membership is not None and any(record.waited for record in fresh):
            await self._membership.say(self._known.cursor)

    async def _say(self, *, at_once: bool = False) -> None:
        if self._membership is not None:
            await self._membership.beat(self._known.cursor, self.max_age_s, at_once=at_once)

    async def leave(self) -> None:
        """Nobody is served here any more, so nobody need wait for this replica. Raises nothing."""
        if self._membership is not None:
            await self._membership.leave()

    # -- mending --

    def _block_ms(self) -> int:
        left_s = min(self._put_back_at, self._quiet_at) - monotonic()
        return max(1, min(_BLOCK_MS, int(1000 * min(left_s, 1.0))))

    async def _mend(self, tier: SharedTier) -> None:
        """Append what the log should have and hasn't."""
        now = monotonic()
        if self._known.must_begin:
            await self._begin(tier)
        if self._known.is_low:
            # Redis is to go on from an id above all that is known.
            await self._sign(tier, Sign.MARK)
        elif now >= self._quiet_at:
            self._quiet_at = inf
            await self._sign(tier, Sign.MARK, at="*")
        if self._known.is_low:
            return
        if self._known.lacks_some:
            self._put_back_at = min(self._put_back_at, now + _SPREAD_S * random.random())  # noqa: S311 - no secret
        if now >= self._put_back_at:
            self._put_back_at = inf
            self._pending += [_Made(replace(record, by=self._own)) for record in self._known.missing()]
        await self._append_pending(tier)

    async def _append_pending(self, tier: SharedTier) -> None:
        while self._pending:
            made, self._pending = self._pending[:_BATCH], self._pending[_BATCH:]
            if not await self._append_all(tier, made):
                # A log that takes no records (a replica, a full server) can still be read.
                return

    async def _begin(self, tier: SharedTier) -> None:
        """Tell all who read the log that purges from before may not be in it, unless somebody else has."""
        if self._known.must_begin:
            await self._sign(tier, Sign.BEGIN)
            await self._read_to_end(tier)

    async def _sign(self, tier: SharedTier, sign: Sign, *, at: str = "") -> None:
        jump_ms, sequence = random.randint(1, 1000), random.randint(0, 255)  # noqa: S311 - no secrets
        at = at or self._known.id_above(jump_ms, sequence)
        # It may be refused: somebody else has lifted it higher, or nothing can be appended now.
        with contextlib.suppress(RedisDown):
            self._known.lifted(await self._add(tier, sign.fields(made=time(), by=self._own), at))

    # -- sleeping --

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            now = clock_gettime(CLOCK)
            if now - self._ticked > _TICK_S + _SLEPT_S:
                self._doubt(now - self._ticked)
            self._tick(now)

    def _tick(self, now: float) -> None:
        self._ticked = now
        self.trusted_until = -inf if self._doubt_until > 0 else now + _TICK_S + _SLEPT_S

    def _doubt(self, slept_s: float) -> None:
        log.warning("this process was not run for a while", slept_s=round(slept_s, 1))
        self.readable = False
        self._doubt_until = monotonic() + _DOUBT_S
        self.trusted_until = -inf
        if self._reading is not None:
            # What it waits for may have been sent to a connection that is no more.
            self._reading.reschedule(-inf)

    def _doubt_no_more(self) -> None:
        self._doubt_until = -inf
        self._tick(self._ticked)
