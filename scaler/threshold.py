"""The classic rule of two thresholds: doubles where CPU or memory is high, halves where all is low, and otherwise does nothing.

It is here because it is widely known and was asked for, exactly as it is, not because it is good. What to expect of it:

- It ratchets. A cache fills the memory that it is given, by design: more than 80 % is what a warm one shows, and less than 40 %
  is what it never shows again. So the rule goes to max and stays there. Whoever uses it measures memory without caches.
- It doubles again while the pods of the first doubling still start: they have no share in the load yet, so CPU stays high.
- It scales down rarely, as three things must be low at once. Replayed on real traffic it took four to nine times HPA's pod-hours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scaler.decision import Decision, Limits

# Half of what the baseline has learned is younger than this: longer than a crowd stays, shorter than a release lives.
_HALF_LIFE_S = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """In percent, of whatever the readings are a share of."""

    cpu_up: float = 70.0
    memory_up: float = 80.0
    cpu_down: float = 30.0
    memory_down: float = 40.0
    baseline: float | None = None
    """Requests a second of the whole fleet that are usual; None: `auto`, what a `Baseline` has learned."""

    def __post_init__(self) -> None:
        for name in ("cpu", "memory"):
            down, up = getattr(self, f"{name}_down"), getattr(self, f"{name}_up")
            if not 0 <= down < up < math.inf:
                raise ValueError(f"{name}_down ({down:g}) must be at least 0 and below {name}_up ({up:g})")
        if self.baseline is not None and not 0 < self.baseline < math.inf:
            raise ValueError(f"baseline ({self.baseline:g}) must be `auto` or more than 0 requests a second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What was measured; None, NaN and what is negative or infinite: not known."""

    cpu: float | None
    """Mean over the pods, in percent."""
    memory: float | None
    rate: float | None
    """Requests a second of the whole fleet."""


@dataclass(slots=True)
class Baseline:
    """What is usual (`baseline: auto`), learned slowly: the rule as it was asked for says "baseline" and not what it is.

    It is the requests a second that a pod usually serves. Per pod, as "less than half" then means something: half as many pods
    would serve no more each than they usually do. A baseline of the whole fleet would mean nothing as soon as a site grows, and
    would halve a fleet again and again on a quiet night.

    Each moment weighs as much as requests came in it. By time alone, a night or a fleet that is too large would soon teach that
    hardly any work is usual, and then nothing is ever below half of it; so it learns what a request finds, not what a pod does.
    """

    _weight: float = field(default=0.0, init=False)
    """Requests that it has learned from, those of long ago counting less."""
    _sum: float = field(default=0.0, init=False)

    def learn(self, rate: float | None, ready: int, seconds: float) -> None:
        """So many requests a second came for some seconds, to so many ready pods. What is not known teaches nothing."""
        rate = _known(rate)
        if rate is None or ready <= 0 or seconds <= 0:
            return
        kept, requests = 0.5 ** (seconds / _HALF_LIFE_S), rate * seconds
        self._weight = self._weight * kept + requests
        self._sum = self._sum * kept + requests * (rate / ready)

    def of(self, ready: int) -> float | None:
        """Requests a second that so many pods usually serve; None as long as no request was seen."""
        return self._sum / self._weight * ready if self._weight else None


def decide(
    current: int, readings: Readings, usual: float | None, thresholds: Thresholds, limits: Limits
) -> Decision:
    """The rule. `usual` is what `Baseline.of` says, and is not asked where the settings say what is usual.

    What is not known is never a reason to scale down; of what is known, one that is high is enough to scale up. Limits hold
    whatever is known. 0 replicas are not ours to judge: whoever scaled to 0 wants us to keep our hands off.
    """
    cpu, memory, rate = _known(readings.cpu), _known(readings.memory), _known(readings.rate)
    high = [
        f"{name} {_short(value)} % > {most:g} %"
        for name, value, most in (("CPU", cpu, thresholds.cpu_up), ("memory", memory, thresholds.memory_up))
        if value is not None and value > most
    ]
    if high:
        return _bounded(2 * current, f"{' and '.join(high)}: twice as many", limits)
    usual = _known(usual if thresholds.baseline is None else thresholds.baseline)
    busy = [
        f"{name} {'is not known' if value is None else f'{_short(value)} >= {_short(least)}'}"
        for name, value, least in (
            ("CPU", cpu, thresholds.cpu_down),
            ("memory", memory, thresholds.memory_down),
            ("baseline", usual, math.inf),
            ("rate", rate, math.inf if usual is None else usual / 2),
        )
        if value is None or value >= least
    ]
    if busy or rate is None or usual is None:
        return _bounded(current, f"nothing is high; no fewer, as {', '.join(busy)}", limits)
    return _bounded(
        current // 2,
        f"CPU, memory and rate ({_short(rate)} req/s of usually {_short(usual)}) are low: half as many",
        limits,
    )


def _known(value: float | None) -> float | None:
    return value if value is not None and 0 <= value < math.inf else None


def _short(value: float) -> str:
    return f"{value:.4g}" if value < 10_000 else f"{value:.0f}"


def _bounded(replicas: int, reason: str, limits: Limits) -> Decision:
    within = limits.within(replicas)
    return Decision(
        replicas=within, reason=reason if within == replicas else f"{reason}, but {limits.why(replicas)}"
    )
