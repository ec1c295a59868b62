"""Traces that are drawn by a formula, by name: `onsale(x10,120s)`, `onsale(x30,60s)`, `diurnal`, `burst`, `noshow`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from scaler.calendar import Event
from scaler.simulate.trace import BadTrace, Trace, of_rates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BASE = 100.0
_NOISE = 0.03
_HOUR = 3600
_ONSALE = re.compile(r"onsale\(x([0-9]{1,3}),([0-9]{1,4})s\)")
NAMES = ("onsale(x10,120s)", "onsale(x30,60s)", "diurnal", "burst", "noshow")


@dataclass(frozen=True, slots=True)
class Shape:
    """A trace, and what a calendar would have said of it."""

    trace: Trace
    calendar: tuple[Event, ...] = ()


def drawn(name: str) -> Shape:
    """The shape of a name. Raises BadTrace."""
    onsale = _ONSALE.fullmatch(name)
    if onsale is not None and int(onsale[1]) > 0 and int(onsale[2]) > 0:
        return _on_sale(name, int(onsale[1]), int(onsale[2]))
    simple: dict[str, Callable[[], Shape]] = {"diurnal": _diurnal, "burst": _burst, "noshow": _no_show}
    if name not in simple:
        raise BadTrace(f"`{name}` is no shape: there are {', '.join(NAMES)}, and files of `seconds,requests`")
    return simple[name]()


def _on_sale(name: str, factor: int, ramp_s: int) -> Shape:
    """Six hours; after two the sale opens: up in a straight line, full for ten minutes, half as many every ten after that."""
    opens, full_s, half_life_s = 2 * _HOUR, 600, 600

    def rate(second: int) -> float:
        late = second - opens
        if late < 0:
            return _BASE
        if late < ramp_s:
            return _BASE * (1 + (factor - 1) * late / ramp_s)
        fading = max(0, late - ramp_s - full_s) / half_life_s
        return _BASE * (1 + (factor - 1) * math.pow(0.5, fading))

    trace = of_rates(name, map(rate, range(6 * _HOUR)))
    return Shape(trace, (Event(at=opens, peak=_BASE * factor, name="on sale"),))


def _no_show() -> Shape:
    """A sale that is announced, and nobody comes."""
    trace = of_rates("noshow", [_BASE] * (6 * _HOUR))
    return Shape(trace, (Event(at=2 * _HOUR, peak=10 * _BASE, name="on sale"),))


def _diurnal() -> Shape:
    """Two days: ten times as many in the evening as before dawn."""

    def rate(second: int) -> float:
        day = math.sin(2 * math.pi * (second / (24 * _HOUR) - 0.3))
        return 10 * _BASE * (0.55 + 0.45 * day)

    return Shape(of_rates("diurnal", _noisy(rate, 48 * _HOUR, seed=3)))


def _burst() -> Shape:
    """Twelve hours with forty bursts that nobody announced: two to six times as many within five seconds, gone in minutes."""
    chance = Random(4)  # noqa: S311 - a shape, no secret
    bursts = [
        (chance.randrange(600, 12 * _HOUR), chance.uniform(1, 5), chance.uniform(30, 240)) for _ in range(40)
    ]
    total = [0.0] * (12 * _HOUR)
    for at, height, fading_s in bursts:
        for second in range(at, min(at + int(6 * fading_s), len(total))):
            late = second - at
            total[second] += height * min(late / 5, 1) * math.exp(-max(0, late - 5) / fading_s)

    return Shape(
        of_rates("burst", _noisy(lambda second: 3 * _BASE * (1 + total[second]), len(total), seed=5))
    )


def _noisy(rate: Callable[[int], float], seconds: int, *, seed: int) -> Iterator[float]:
    """As requests come: the same each time that it's drawn."""
    chance = Random(seed)  # noqa: S311 - a shape, no secret
    for second in range(seconds):
        mean = rate(second)
        # Poisson's spread, and a little that all clients have in common.
        spread = math.sqrt(mean + (_NOISE * mean) ** 2)
        yield max(0.0, chance.gauss(mean, spread))
