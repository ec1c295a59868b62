"""How many pods what is asked for needs: the rate that is foreseen over what one pod serves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaler.calendar import Phase
from scaler.decision import Decision

if TYPE_CHECKING:
    from scaler.calendar import Floor
    from scaler.forecast import Forecast
    from scaler.settings import Demand

# Less than this over a whole number of pods is the arithmetic's doing.
_HAIR = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known at a moment. Rates are requests a second of the whole fleet."""

    forecast: Forecast
    surprise: float
    """By what forecasts had to be multiplied of late."""
    floor: Floor
    """What the calendar asks for."""
    capacity: float
    """Requests a second that one pod serves."""
    horizon_s: float


def wanted(seen: Seen, knobs: Demand) -> Decision:
    """Pods that what is measured wants, whatever there are."""
    # How large a crowd is that begins to come, nobody knows.
    surprise = knobs.headroom_max if seen.floor.phase is Phase.OPEN else seen.surprise
    headroom = min(max(surprise, knobs.headroom_min), _most(knobs, seen.forecast.noise))
    each = seen.capacity * knobs.full
    reason = (
        f"{seen.forecast.now:.0f} req/s, {seen.forecast.ahead:.0f} in {seen.horizon_s:.0f} s, "
        f"{headroom - 1:.0%} to spare, {each:.0f} a pod"
    )
    return Decision(replicas=_pods(seen.forecast.ahead * headroom / each), reason=reason)


def announced(seen: Seen, knobs: Demand) -> Decision | None:
    """Pods that the calendar wants, if it wants any."""
    event, each = seen.floor.event, seen.capacity * knobs.full
    if event is None:
        return None
    reason = f"{event.name or 'an event'} is {seen.floor.phase.value}: {event.peak:.0f} req/s are expected, {each:.0f} a pod"
    return Decision(replicas=_pods(event.peak / each), reason=reason)


def settled(decision: Decision, *, current: int, held: int, tolerance: float) -> Decision:
    """What to do about it: up at once, down when nothing has wanted more of late (`held`) and it is worth it."""
    if decision.replicas >= current:
        return decision
    if held >= current:
        return Decision(replicas=current, reason=f"{decision.reason}; held: {held} were wanted of late")
    if current - held < tolerance * current:
        return Decision(replicas=current, reason=f"{decision.reason}; held: {held} are hardly fewer")
    return Decision(replicas=held, reason=decision.reason)


def _most(knobs: Demand, noise: float) -> float:
    """Where half of it is chance, headroom buys little; what was wanted is held for longer instead (see `Sizer`)."""
    return max(knobs.headroom_min, 1 + (knobs.headroom_max - 1) * (1 - 2 * noise))


def _pods(number: float) -> int:
    return max(1, math.ceil(number - _HAIR))
