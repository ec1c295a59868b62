"""Which events there are and who goes to them: the part of the sample whose shape matters.

A few events draw most of the crowd, as everywhere: Zipf's law.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum, gcd

from proxy.demo.draws import draws

EVENTS = 2_000
RUNNING = 300
UPCOMING = 900

# 2025-09-20 18:00 UTC, a Saturday evening: the instant at which the sample was "taken". In the past on any sane clock,
# since no Last-Modified may lie in the future (RFC 9110 §8.8.2.1).
TAKEN_AT = 1_758_391_200

HOUR = 3600
DAY = 24 * HOUR

# (Unix seconds, event id, participant id)
Visit = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event as its registrations need it; instants are Unix seconds."""

    id: int
    status: str
    price_cents: int
    opened: int
    starts: int
    ends: int


def crowd_of_each(registrations: int, people: int) -> dict[int, int]:
    """Registrations of each event id, by Zipf's law: the n-th most popular event draws 1/n of what the first draws.
    Event 1 is the first; the rest are shuffled.
    """
    popular = _shuffled_after_first(seed=11)
    # fsum, since what `sum` makes of floats changed with Python 3.12.
    total = fsum(1 / place for place in range(1, EVENTS + 1))
    return {
        event: min(people, int(registrations / total / place + 0.5)) for place, event in enumerate(popular, 1)
    }


def _shuffled_after_first(*, seed: int) -> list[int]:
    draw = draws(seed)
    return [1, *(event for _, event in sorted((draw(), event) for event in range(2, EVENTS + 1)))]


def plan() -> Iterator[Event]:
    statuses = ["running"] * RUNNING + ["upcoming"] * UPCOMING + ["past"] * (EVENTS - RUNNING - UPCOMING)
    status_of = dict(zip(_shuffled_after_first(seed=12), statuses, strict=True))
    draw = draws(13)
    for event in range(1, EVENTS + 1):
        status = status_of[event]
        length = HOUR * (2 + int(draw() * 8))
        if status == "running":
            starts = TAKEN_AT - 60 * int(draw() * length / 60)
        elif status == "upcoming":
            starts = TAKEN_AT + HOUR * (1 + int(draw() * 24 * 120))
        else:
            starts = TAKEN_AT - HOUR * (12 + int(draw() * 24 * 300))
        yield Event(
            id=event,
            status=status,
            price_cents=500 * int(draw() * draw() * 40),
            opened=min(starts, TAKEN_AT) - DAY * (7 + int(draw() * 60)),
            starts=starts,
            ends=starts + length + 60,
        )


def bookings(planned: list[Event], people: int, registrations: int) -> list[Visit]:
    """Every registration, in the order in which they came."""
    crowd = crowd_of_each(registrations, people)
    draw = draws(14)
    booked: list[Visit] = []
    for event in planned:
        # A walk with a stride coprime to the number of people meets nobody twice.
        stride = 1 + int(draw() * (people - 1))
        while gcd(stride, people) != 1:
            stride += 1
        person = int(draw() * people)
        span = min(event.starts, TAKEN_AT) - event.opened
        for _ in range(crowd[event.id]):
            person = (person + stride) % people
            booked.append((event.opened + int(draw() * span), event.id, person + 1))
    booked.sort()
    return booked


def arrivals(planned: list[Event], booked: list[Visit]) -> list[Visit]:
    """Every check-in, in the order in which they came."""
    by_id = {event.id: event for event in planned}
    draw = draws(15)
    arrived: list[Visit] = []
    for _, event_id, participant in booked:
        event = by_id[event_id]
        at = event.starts - 1800 + int(draw() * 5400)
        # Seven in ten come to what they registered for.
        if draw() < 0.7 and at < TAKEN_AT and event.status != "upcoming":
            arrived.append((at, event_id, participant))
    arrived.sort()
    return arrived
