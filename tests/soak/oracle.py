"""What may be served, by when it was changed and who knows of it: the judge of the soak.

It knows no clock and no network: instants are arguments, in seconds of one monotonic clock. A change binds a replica
from the instant at which its purge was acknowledged, except where design says otherwise:

- a replica that nobody waited for may take `spread_s` to read of it;
- while Redis is away it is bound once its memory is older than `max_age_s`, and again for good `recovery_s` after the cure;
- one that is stopped can't know, until it has run again for `spread_s`; nor can others know of what it acknowledges when it
  wakes, until it has run for `wake_s`: what it had sent to Redis has timed out in its sleep, and is sent again;
- a soft purge allows stale answers for its route's `stale_while_revalidate`.
"""

from collections import defaultdict
from dataclasses import dataclass
from enum import Enum
from math import inf

# What is older binds everybody without exceptions: no window lasts so long.
_SETTLED_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is allowed, in seconds."""

    spread_s: float
    max_age_s: float
    recovery_s: float
    wake_s: float


@dataclass(eq=False, slots=True, kw_only=True)
class Window:
    """While something was the matter: with Redis, or with one replica."""

    began: float
    ended: float = inf
    place: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A version that came, and the acknowledgement of the purge that followed."""

    version: int
    begun: float
    acked: float
    by: int
    """The replica that acknowledged it."""
    heard: frozenset[int]
    """The replicas that had applied it when it was acknowledged."""
    soft_s: float = 0.0


class Verdict(Enum):
    """What an answer was."""

    RIGHT = "right"
    LATE = "late"
    """Older than the last change, as design allows just then."""
    WRONG = "wrong"


class Oracle:
    """All changes that were acknowledged, and all that was the matter."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._changes: dict[str, list[Change]] = defaultdict(list)
        self._settled: dict[str, int] = defaultdict(int)
        self._windows: list[Window] = []
        self.slowest_s = 0.0
        """The longest that an older version was seen after its change, where nothing was the matter."""
        self.slowest = ""
        """Which that was."""

    def changed(self, resource: str, change: Change) -> None:
        """A change of a resource was acknowledged."""
        changes = self._changes[resource]
        changes.append(change)
        while changes[0].acked < change.acked - _SETTLED_S:
            self._settled[resource] = max(self._settled[resource], changes.pop(0).version)

    def redis_away(self, now: float) -> Window:
        """From now on. The window's end is for the caller to set."""
        return self._opened(Window(began=now))

    def stopped(self, place: int, now: float) -> Window:
        """From now on one replica doesn't run."""
        return self._opened(Window(began=now, place=place))

    def _opened(self, window: Window) -> Window:
        self._windows = [known for known in self._windows if window.began - known.ended < _SETTLED_S]
        self._windows.append(window)
        return window

    def verdict(self, resource: str, place: int, *, version: int, started: float) -> Verdict:
        """On an answer of the replica at `place` to a request that was sent at `started`."""
        if version < self._settled[resource]:
            return Verdict.WRONG
        newer = [change for change in self._changes[resource] if change.version > version]
        bound = [change for change in newer if change.acked <= started]
        if any(not self._excused(change, resource, place, started) for change in bound):
            return Verdict.WRONG
        return Verdict.LATE if bound else Verdict.RIGHT

    def lately(self, resource: str, at: float) -> str:
        """The last changes of a resource, for whoever looks into a wrong answer."""
        return "; ".join(
            f"version {change.version} {'softly ' if change.soft_s else ''}{at - change.acked:.3f} s before"
            f" ({change.acked - change.begun:.3f} s, by {change.by}, heard by {sorted(change.heard)})"
            for change in self._changes[resource][-3:]
        )

    def _excused(self, change: Change, resource: str, place: int, at: float) -> bool:
        if change.soft_s and self._softened(resource, at):
            return True
        windows = [window for window in self._windows if self._concerns(window, change, place)]
        if any(self._may_not_know(window, change, place, at) for window in windows):
            return True
        if place in change.heard or at >= change.acked + self.bounds.spread_s:
            return False
        if not windows and at - change.acked > self.slowest_s:
            self.slowest_s = at - change.acked
            self.slowest = f"{resource} at replica {place}: {self.lately(resource, at)}"
        return True

    def _softened(self, resource: str, at: float) -> bool:
        # By any soft purge until then: the log knows the last of a name, and that begins the time anew.
        return any(
            change.soft_s and change.acked <= at < change.acked + change.soft_s
            for change in self._changes[resource]
        )

    def _concerns(self, window: Window, change: Change, place: int) -> bool:
        # Whoever applied it keeps to it, whatever becomes of Redis and of others.
        if place in change.heard or window.place not in {None, place, change.by}:
            return False
        began_before = window.began <= change.acked + self.bounds.spread_s
        return began_before and change.begun <= window.ended + self._aftermath_s(window, place)

    def _aftermath_s(self, window: Window, place: int) -> float:
        if window.place is None:
            return self.bounds.recovery_s
        return self.bounds.spread_s if window.place == place else self.bounds.wake_s

    def _may_not_know(self, window: Window, change: Change, place: int, at: float) -> bool:
        if at >= window.ended + self._aftermath_s(window, place):
            return False
        if window.place is not None:
            return True
        by_memory = change.acked + self.bounds.max_age_s + self.bounds.spread_s
        return at < by_memory or at >= window.ended
