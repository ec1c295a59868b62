"""Whose turn it is to ask the API, among all replicas: one lease per key, in Redis.

Whoever holds it asks; the others wait for what that brings, for a bounded time. A holder that lives renews its lease, so
it can be short: one that was killed costs the others no more than that. What could not be stored is marked: for a while
nobody waits for its like. Without Redis, or where it fails, everybody may ask.

Redis also tells its time with every lease. Of two answers the one asked for later is kept, by that clock.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from time import monotonic, time

from proxy.metrics import LEASES, Metrics
from proxy.store.entry import Got
from proxy.store.shared import SharedTier
from proxy.tasks import Tasks

# Stands for a while where no answer came that can be shared.
_PASS = b"pass"
# Between two looks at whether the holder is done: soon at first, when the API is quick, then at leisure.
_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.05
# A machine that has its hands full is late with a claim, just when a crowd is here to be kept from the API. A Redis that hangs
# is out of use before the second try, or during it.
_TRIES = 3
# What fails sooner was not late, but refused (a full server, say).
_REFUSED_S = 0.01
# Of its time, until it is first renewed: most answers come sooner, and whoever was never told that it won renews nothing.
_FIRST = 0.5
# Where a claim takes longer on average, Redis is far away or slow: leases are asked for together with what is stored.
_FAR_S = 0.005
# A claim takes some turns of the event loop, which are long in a busy process, wherever Redis is: twice as many as are measured.
_TURNS = 2
# Of the latest claim, in that average.
_WEIGHT = 0.1
# One that could not be renewed is tried again while it lasts.
_SOON_S = 0.02
# A Redis that is away for longer has forgotten it.
_GIVE_UP_S = 10.0
_MICRO = 1_000_000


class Turn(Enum):
    """What Redis said to somebody who wants to ask the API."""

    OURS = "won"
    THEIRS = "lost"
    PASSED = "passed"
    """Nobody's: its like cannot be shared."""
    FREE = "free"
    """Nobody's: there is no Redis to ask, or it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The moment at which the API is asked."""

    born: int
    """The last purge seen before (see `policy.purges`)."""
    at_us: int
    """Microseconds since 1970, by Redis' clock."""
    started: float
    """Monotonic seconds, of this process."""

    def got(self) -> Got:
        """Of an answer that is here now."""
        return Got(born=self.born, asked=self.at_us, took_s=max(0.0, monotonic() - self.started))


class Lease:
    """One key's, from when it was won until it is released."""

    def __init__(self, key: str, kind: str, token: bytes, lasts_s: float) -> None:
        self.key = key
        self.kind = kind
        self.token = token
        self.lasts_s = lasts_s
        self.renewal: asyncio.TimerHandle | None = None
        self.until = 0.0
        """Loop time."""
        self.has_entry = False
        """Whether something was stored when it was won, that its holder may not have seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of asking for a lease."""

    turn: Turn
    lease: Lease | None = None
    """Ours, if it was won."""
    holder: bytes = b""
    """Whose it is, if it was lost."""


class Early:
    """A lease that is asked for together with what is stored, which may turn out to do."""

    def __init__(self, leases: "Leases", key: str, taking: asyncio.Task[Taken]) -> None:
        self.key = key
        self._leases = leases
        self._taking: asyncio.Task[Taken] | None = taking

    async def take(self, *, has_seen: bool) -> Taken:
        """As `Leases.take`. `has_seen`: something was stored."""
        if self._taking is None:
            return Taken(turn=Turn.FREE)
        taken = await asyncio.shield(self._taking)
        self._taking = None
        if taken.lease is not None and has_seen:
            taken.lease.has_entry = False
        return taken

    def leave(self) -> None:
        """Whoever has not taken it needs none."""
        if self._taking is not None:
            self._taking.add_done_callback(self._release)
            self._taking = None

    def _release(self, taking: asyncio.Task[Taken]) -> None:
        if (
            not taking.cancelled()
            and taking.exception() is None
            and (lease := taking.result().lease) is not None
        ):
            self._leases.release(lease)


class Leases:
    """Of this process. `lasts_s` is how long one lasts without being renewed."""

    def __init__(self, tier: SharedTier | None, metrics: Metrics, tasks: Tasks) -> None:
        self._tier = tier
        self._metrics = metrics
        self._tasks = tasks
        self._who = secrets.token_hex(8).encode()
        self._number = 0
        self._last_us = 0
        self._claim_s = 0.0
        """What a claim takes, on average."""
        self._ahead_us = int((time() - monotonic()) * _MICRO)
        """Redis' clock, or this machine's where there is none, before our monotonic one."""
        self.lasts_s = 2.0

    @property
    def patience_s(self) -> float:
        """How long to wait for others: one that died holding it, and one more."""
        return 2 * self.lasts_s

    def now_us(self) -> int:
        """The moment, later than any told here before."""
        self._last_us = max(self._last_us + 1, int(monotonic() * _MICRO) + self._ahead_us)
        return self._last_us

    def early(self, key: str, kind: str) -> Early | None:
        """Ask for a lease that may not be needed, where that saves time."""
        if self._claim_s < _FAR_S:
            return None
        return Early(self, key, self._tasks.spawn(self.take(key, kind), name="take lease early"))

    async def take(self, key: str, kind: str) -> Taken:
        """Ask for an entry's lease; without waiting for it. Requests of one kind share one. Raises nothing."""
        if self._tier is None:
            return Taken(turn=Turn.FREE)
        self._number += 1
        lease = Lease(key, kind, b"%s-%d" % (self._who, self._number), self.lasts_s)
        claim, was_late = None, False
        for _ in range(_TRIES):
            began = monotonic()
            turns_s = self._turns_s(began)
            claim = await self._tier.claim(key, kind, lease.token, lease.lasts_s * _FIRST)
            took_s = monotonic() - began
            self._claim_s += _WEIGHT * (max(0.0, took_s - _TURNS * turns_s()) - self._claim_s)
            is_late = took_s >= _REFUSED_S
            was_late = was_late or is_late
            if claim is not None or not self._tier.up or not is_late:
                break
        if claim is None:
            turn = Turn.FREE
            if was_late:
                self._tasks.spawn(self._give_up(self._tier, lease), name="give up lease")
        else:
            self._ahead_us = claim.at_us - int(monotonic() * _MICRO)
            turn = _turn(claim.holder, lease.token)
            lease.has_entry = claim.has_entry
        self._metrics.count(LEASES, turn.value)
        if turn is not Turn.OURS:
            return Taken(turn=turn, holder=claim.holder if claim is not None else b"")
        self._keep(lease, lease.lasts_s * _FIRST)
        return Taken(turn=turn, lease=lease)

    @staticmethod
    def _turns_s(began: float) -> Callable[[], float]:
        """What the event loop takes for the rest of this turn and the next, to be asked for afterwards."""
        turned = began

        def turn() -> None:
            nonlocal turned
            turned = monotonic()

        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, turn)
        return lambda: turned - began

    async def _give_up(self, tier: SharedTier, lease: Lease) -> None:
        """A Redis that hung carries out what it was asked when it goes on: nobody would release that lease."""
        until = monotonic() + _GIVE_UP_S
        while not tier.up and monotonic() < until:  # noqa: ASYNC110 - the tier tells nobody
            await asyncio.sleep(_LONGEST_PAUSE_S)
        # It may take no writes yet; and after so long the lease has ended by itself.
        until = monotonic() + lease.lasts_s * _FIRST
        pause = _LONGEST_PAUSE_S
        while await self._swap(tier, lease, b"", 0.0) is None and monotonic() < until:
            await asyncio.sleep(pause)
            pause *= 2

    def _keep(self, lease: Lease, lasts_s: float) -> None:
        loop = asyncio.get_running_loop()
        lease.until = loop.time() + lasts_s
        lease.renewal = loop.call_later(lasts_s / 3, self._renew, lease)

    def _renew(self, lease: Lease) -> None:
        async def renew() -> None:
            renewed = self._tier is not None and await self._swap(
                self._tier, lease, lease.token, lease.lasts_s
            )
            if lease.renewal is None:
                return
            loop = asyncio.get_running_loop()
            if renewed:
                self._keep(lease, lease.lasts_s)
            elif renewed is None and (left_s := lease.until - loop.time()) > _SOON_S:
                lease.renewal = loop.call_later(max(_SOON_S, left_s / 3), self._renew, lease)

        self._tasks.spawn(renew(), name="renew lease")

    def release(self, lease: Lease, *, passed_s: float = 0.0) -> None:
        """Let the others ask; or for so long, all of them side by side. Nobody here need wait for that."""
        if lease.renewal is not None:
            lease.renewal.cancel()
            lease.renewal = None
        if self._tier is not None and asyncio.get_running_loop().time() < lease.until:
            swapping = self._swap(self._tier, lease, _PASS if passed_s else b"", passed_s)
            self._tasks.spawn(swapping, name="release lease")

    @staticmethod
    async def _swap(tier: SharedTier, lease: Lease, value: bytes, ttl_s: float) -> bool | None:
        return await tier.swap(lease.key, lease.kind, lease.token, value, ttl_s)


def _turn(holder: bytes, token: bytes) -> Turn:
    if holder == token:
        return Turn.OURS
    # Empty: it ended in this very moment, and the next look tells more.
    return Turn.PASSED if holder == _PASS else Turn.THEIRS


def pauses(patience_s: float) -> Callable[[], float]:
    """Seconds until the next look, time after time; 0 once patience has ended."""
    until, pause = monotonic() + patience_s, _FIRST_PAUSE_S

    def next_pause() -> float:
        nonlocal pause
        left, now_s = until - monotonic(), pause
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)
        return max(0.0, min(now_s, left))

    return next_pause
