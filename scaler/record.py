"""What was recommended of late and how the Deployment was scaled: what a behavior looks back on."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

# The longest stabilization window that autoscaling/v2 allows; its periods are half as long at most.
KEEP_S = 3600.0
# So many times what is kept is there before the older part is dropped, in one go: each value is moved twice at most.
_SLACK = 2


@dataclass(slots=True)
class _Peaks:
    """Of all values, those that no later one reaches: the largest since any time is the first of them since then."""

    times: list[float] = field(default_factory=list[float])
    values: list[int] = field(default_factory=list[int])

    def add(self, value: int, now: float, keep_s: float) -> None:
        times, values = self.times, self.values
        while values and values[-1] <= value:
            times.pop()
            values.pop()
        times.append(now)
        values.append(value)
        _forget(times, values, now, keep_s)

    def largest(self, value: int, after: float) -> int:
        place = bisect_right(self.times, after)
        return max(value, self.values[place]) if place < len(self.values) else value


@dataclass(slots=True)
class Record:
    """Recommendations and scale events, the last `keep_s` seconds of them. Times only grow; by any clock that doesn't jump.

    Who starts should begin it with a recommendation of the replicas that are there, as HPA does (`recordInitialRecommendation`):
    then a restart holds them for one stabilization window.
    """

    keep_s: float = KEEP_S
    _highs: _Peaks = field(default_factory=_Peaks, init=False)
    _lows: _Peaks = field(default_factory=_Peaks, init=False)
    """Of the negative values."""
    _times: list[float] = field(default_factory=list[float], init=False)
    """Of the scale events."""
    _before: list[int] = field(default_factory=list[int], init=False)
    """What all events before each one had changed."""
    _changed: int = field(default=0, init=False)
    """What all of them have."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever recommended."""
        return not self._highs.times

    def recommended(self, replicas: int, now: float) -> None:
        """So many were wanted, before any behavior limited it."""
        self._highs.add(replicas, now, self.keep_s)
        self._lows.add(-replicas, now, self.keep_s)

    def scaled(self, before: int, after: int, now: float) -> None:
        """We have scaled. What others do is no event, as HPA has it."""
        if before == after:
            return
        self._times.append(now)
        self._before.append(self._changed)
        self._changed += after - before
        _forget(self._times, self._before, now, self.keep_s)

    def most(self, replicas: int, after: float) -> int:
        """The largest of this number and what was recommended after that time."""
        return self._highs.largest(replicas, after)

    def least(self, replicas: int, after: float) -> int:
        """The smallest of them."""
        return -self._lows.largest(-replicas, after)

    def change(self, after: float) -> int:
        """By how many replicas we have scaled up since then; negative: down."""
        place = bisect_right(self._times, after)
        return self._changed - self._before[place] if place < len(self._times) else 0


def _forget(times: list[float], values: list[int], now: float, keep_s: float) -> None:
    if times[0] < now - _SLACK * keep_s:
        place = bisect_right(times, now - keep_s)
        del times[:place], values[:place]
