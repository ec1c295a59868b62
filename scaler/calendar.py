"""What is known of the future: events that draw a crowd, and what that makes necessary before it is here.

An event asks for its crowd's pods from a start-up time and a bit before it until what is measured asks for as many (from then
on that says more), or until it is plain that so many don't come.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from collections.abc import Container, Iterable


class Phase(Enum):
    """Where an event is."""

    FAR = "far"
    AHEAD = "ahead"
    """Its pods are being started."""
    OPEN = "open"
    """It has begun, and its crowd may come at any moment."""
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that begins at a known time."""

    at: float
    """When its crowd comes, by the caller's clock."""
    peak: float
    """Requests a second that are expected at most, everything else included."""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """How long before and after."""

    start_s: float
    """How long a pod takes until it is ready."""
    spare_s: float = 60.0
    """Pods are there so long before an event: to be warmed, and because clients' clocks are fast."""
    patience_s: float = 600.0
    """A crowd that has not come after so long does not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What the calendar asks for."""

    rate: float
    """Requests a second that have to be provided for; 0: nothing."""
    event: Event | None = None
    phase: Phase = Phase.FAR


_NOTHING = Floor(rate=0.0)


def phase(event: Event, *, lead: Lead, now: float) -> Phase:
    """Where an event is, by time alone."""
    if now < event.at - lead.start_s - lead.spare_s:
        return Phase.FAR
    if now < event.at:
        return Phase.AHEAD
    return Phase.OPEN if now < event.at + lead.patience_s else Phase.OVER


def floor(events: Iterable[Event], here: Container[Event], *, lead: Lead, now: float) -> Floor:
    """The most that any event asks for, but for those whose crowd is `here`."""
    asking = [(event, phase(event, lead=lead, now=now)) for event in events if event not in here]
    floors = [Floor(rate=event.peak, event=event, phase=where) for event, where in asking if _asks(where)]
    return max(floors, key=lambda floor: floor.rate, default=_NOTHING)


def _asks(where: Phase) -> bool:
    match where:
        case Phase.FAR | Phase.OVER:
            return False
        case Phase.AHEAD | Phase.OPEN:
            return True
    assert_never(where)
