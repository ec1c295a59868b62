"""Remembers what decisions need to know of the past, and makes them: the same in a cluster and in a simulation."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scaler.calendar import Event, Lead, floor
from scaler.decision import Decision
from scaler.demand import Seen, announced, settled, wanted
from scaler.forecast import Surprises, forecast
from scaler.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scaler.settings import Demand

# The more of what comes is chance, the longer what was wanted a moment ago is worth something.
_NOISY = 1.5
# As long as the longest mean that a forecast takes.
_KEEP_S = 300.0


@dataclass(slots=True)
class Sizer:
    """Sizes by what is asked for. Times are seconds of one clock that doesn't jump."""

    knobs: Demand
    start_s: float
    """From a pod's creation until it is ready."""
    capacity: float
    """Requests a second that one pod serves."""
    events: Sequence[Event] = ()
    _window: Window = field(default_factory=lambda: Window(_KEEP_S), init=False)
    _surprises: Surprises = field(default_factory=Surprises, init=False)
    _held: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]], init=False)
    """What was wanted, when: falling numbers, so that the first is the largest of all that count."""
    _here: set[Event] = field(default_factory=set[Event], init=False)
    """Whose crowd has come."""

    def observe(self, since: float, until: float, rate: float) -> None:
        """So many requests a second came between two times."""
        self._window.add(since, until, rate)
        self._surprises.came(until, rate, until - since)

    def decide(self, now: float, current: int) -> Decision:
        """How many pods there should be. `current` are those that there are, or will be."""
        if self._window.is_empty:
            return Decision(replicas=current, reason="nothing is known yet")
        horizon_s = self.start_s + self.knobs.interval
        ahead = forecast(self._window, now, horizon_s)
        lead = Lead(start_s=self.start_s, spare_s=self.knobs.spare, patience_s=self.knobs.patience)
        seen = Seen(
            forecast=ahead,
            surprise=self._surprises.factor(self.knobs.misses, self.knobs.headroom_max),
            floor=floor(self.events, self._here, lead=lead, now=now),
            capacity=self.capacity,
            horizon_s=horizon_s,
        )
        # What was announced is no surprise.
        self._surprises.foresee(now + horizon_s, max(ahead.ahead, seen.floor.rate))
        decision = wanted(seen, self.knobs)
        held = self._hold(now, decision.replicas, self.knobs.hold * (1 + _NOISY * ahead.noise))
        measured = settled(decision, current=current, held=held, tolerance=self.knobs.tolerance)
        # Pods of an event whose crowd did not come have been wanted by nothing that was measured: they go at once.
        expected, event = announced(seen, self.knobs), seen.floor.event
        if expected is None or event is None:
            return measured
        if now >= event.at and decision.replicas >= expected.replicas:
            self._here.add(event)
        return measured if measured.replicas >= expected.replicas else expected

    def _hold(self, now: float, replicas: int, hold_s: float) -> int:
        """The most that was wanted of late, this included."""
        held = self._held
        while held and held[-1][1] <= replicas:
            held.pop()
        held.append((now, replicas))
        while held[0][0] <= now - hold_s:
            held.popleft()
        return held[0][1]
