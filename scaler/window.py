"""What was observed of late: how many requests came, counted so that any span can be asked about.

It remembers as much as decisions look back. Rates are requests a second of the whole fleet.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field

# Means over so long are compared to learn how much they vary by themselves.
SHORT_S = 6.0
# Of a normal distribution: its spread, from the mean difference of two values.
_OF_DIFFERENCE = math.sqrt(math.pi) / 2
_SPREAD_HALF_LIFE_S = 300.0
# A leap is not what varies by itself, until it comes again and again.
_LEAP = 4.0
# Twice what is asked for is kept before the older half is dropped, in one go.
_SLACK = 2


@dataclass(slots=True)
class Window:
    """Rates, the last `keep_s` seconds of them. Times only grow; by any clock that doesn't jump."""

    keep_s: float
    _times: list[float] = field(default_factory=list[float], init=False)
    _sums: list[float] = field(default_factory=list[float], init=False)
    """Requests from the first observation until each time."""
    short: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0), init=False)
    """The means of the last three spans of SHORT_S, the latest first."""
    spread: float = field(default=0.0, init=False)
    """By how much the mean of some seconds (SHORT_S) varies while nothing changes: a standard deviation."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known."""
        return len(self._times) < 2

    @property
    def until(self) -> float:
        """When the last observation ended."""
        return self._times[-1]

    @property
    def since(self) -> float:
        """When the first one began."""
        return self._times[0]

    def add(self, since: float, until: float, rate: float) -> None:
        """So many requests a second came from `since` to `until`. A gap before it is filled with the same rate."""
        times, sums = self._times, self._sums
        if not times:
            times.append(since)
            sums.append(0.0)
        if until <= times[-1]:
            return
        sums.append(sums[-1] + rate * (until - times[-1]))
        times.append(until)
        self._learn(until - times[-2])
        if times[0] < until - _SLACK * self.keep_s:
            place = bisect_right(times, until - self.keep_s) - 1
            del times[:place], sums[:place]

    def mean(self, since: float, until: float) -> float:
        """Requests a second between two times, as far as they were observed."""
        since, until = max(since, self._times[0]), min(until, self._times[-1])
        if until <= since:
            return 0.0
        return (self._sum_at(until) - self._sum_at(since)) / (until - since)

    def _learn(self, seconds: float) -> None:
        now = self._times[-1]
        sums = [self._sums[-1], *(self._sum_at(now - span * SHORT_S) for span in (1, 2, 3))]
        # What was before the first observation is taken to have been like it.
        spans = [min(SHORT_S, max(0.0, now - span * SHORT_S - self._times[0])) for span in range(3)]
        means = [
            (newer - older) / length if length else 0.0
            for newer, older, length in zip(sums, sums[1:], spans, strict=False)
        ]
        latest = means[0]
        earlier = means[1] if spans[1] else latest
        self.short = (latest, earlier, means[2] if spans[2] else earlier)
        least = math.sqrt(max(latest, earlier) / SHORT_S)
        difference = min(abs(latest - earlier) * _OF_DIFFERENCE, _LEAP * max(self.spread, least))
        self.spread += (difference - self.spread) * (1 - 0.5 ** (seconds / _SPREAD_HALF_LIFE_S))
        self.spread = max(self.spread, least)

    def _sum_at(self, time: float) -> float:
        times, sums = self._times, self._sums
        place = bisect_right(times, time) - 1
        if place < 0:
            return sums[0]
        if place >= len(times) - 1:
            return sums[-1]
        share = (time - times[place]) / (times[place + 1] - times[place])
        return sums[place] + share * (sums[place + 1] - sums[place])
