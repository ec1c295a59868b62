"""What will be asked for when a pod that is created now is ready.

The rate of this moment, going on as it has grown; and how wrong that has been of late, which is the headroom. So calm traffic
is served with few pods to spare, and traffic in bursts with as many as its bursts have needed.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scaler.window import SHORT_S

if TYPE_CHECKING:
    from scaler.window import Window

_LONG_S = 300.0
_STEADY_S = 60.0
_STEADY_NOISE = math.sqrt(SHORT_S / _STEADY_S)
# In standard deviations: one in forty is more by chance.
_SURE = 2.0
# To go on growing is more than to be more.
_SURE_OF_GROWTH = 2.8
# By how much more came than was foreseen: in steps of 2 %, up to eight times as much.
_STEP = math.log(1.02)
_BINS = 106
# Half of what is remembered is younger than this.
_HALF_LIFE_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Requests a second."""

    now: float
    """The longest mean of late that no shorter one contradicts."""
    ahead: float
    """At the horizon, if it goes on as it does."""
    noise: float = 0.0
    """How much of it is chance: the spread of short means as a share of it, 0.5 at most."""


def forecast(window: Window, now: float, horizon_s: float) -> Forecast:
    """What comes until `now + horizon_s`, for `now` about when the window ends. It must not be empty."""
    latest, middle, first = window.short
    noise = _SURE * window.spread
    # The longest mean that no shorter one contradicts: the more there is by chance, the longer it takes to see what there is.
    present = window.mean(now - _LONG_S, now)
    recent = window.mean(now - _STEADY_S, now)
    if abs(recent - present) > noise * _STEADY_NOISE:
        present = recent
    if latest > present + noise:
        present = latest
    # A leap is no growth: it doesn't go on.
    growth = (min(latest - middle, middle - first) - _SURE_OF_GROWTH * window.spread) / SHORT_S
    ahead = present + max(0.0, growth) * (horizon_s + SHORT_S / 2)
    share = min(0.5, window.spread / present) if present > 0 else 0.0
    return Forecast(now=present, ahead=ahead, noise=share)


@dataclass(slots=True)
class Surprises:
    """By how much more came than had been foreseen when the pods that served it had to be created."""

    _due: deque[tuple[float, float]] = field(default_factory=deque[tuple[float, float]], init=False)
    """When what was foreseen is to come, and how much."""
    _weights: list[float] = field(default_factory=lambda: [0.0] * _BINS, init=False)
    _total: float = field(default=0.0, init=False)
    _weight: float = field(default=1.0, init=False)
    """Of the next one: it grows, which is as if all others faded."""

    def foresee(self, at: float, rate: float) -> None:
        """So much is to come at that time. Times only grow."""
        self._due.append((at, rate))

    def came(self, now: float, rate: float, since_s: float) -> None:
        """So much came in the last `since_s` seconds."""
        due, foreseen = self._due, None
        while due and due[0][0] <= now:
            foreseen = due.popleft()[1]
        if foreseen is None:
            return
        self._weight *= 2 ** (since_s / _HALF_LIFE_S)
        more = math.log(rate / foreseen) / _STEP if rate > foreseen > 0 else 0.0
        self._weights[math.ceil(min(more, _BINS - 1))] += self._weight
        self._total += self._weight
        if self._weight > 1e9:
            self._weights = [weight / self._weight for weight in self._weights]
            self._total /= self._weight
            self._weight = 1.0

    def factor(self, share: float, most: float) -> float:
        """By what a forecast has to be multiplied, so that all but such a share of what came would have been foreseen."""
        rest = share * self._total
        for place in range(_BINS - 1, -1, -1):
            rest -= self._weights[place]
            if rest < 0:
                return min(most, math.exp(place * _STEP))
        return 1.0
