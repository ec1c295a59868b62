"""The crowd has the shape of real crowds."""

from collections import Counter

import pytest

from proxy.demo.crowd import EVENTS, TAKEN_AT, arrivals, bookings, crowd_of_each, plan


def test_exactly_300_of_2000_events_run_at_once() -> None:
    statuses = Counter(event.status for event in plan())

    assert statuses == {"running": 300, "upcoming": 900, "past": 800}


def test_a_status_agrees_with_the_times_of_its_event() -> None:
    for event in plan():
        if event.status == "running":
            assert event.starts <= TAKEN_AT < event.ends
        elif event.status == "upcoming":
            assert TAKEN_AT < event.starts < event.ends
        else:
            assert event.ends < TAKEN_AT


def test_few_events_draw_most_registrations() -> None:
    crowd = sorted(crowd_of_each(400_000, 200_000).values(), reverse=True)

    # Zipf: a fifth of the events draws four fifths, and the second half as many as the first.
    assert sum(crowd) == pytest.approx(400_000, abs=EVENTS)
    assert sum(crowd[: EVENTS // 5]) > 0.78 * sum(crowd)
    assert crowd[1] == pytest.approx(crowd[0] / 2, abs=1)


def test_event_1_runs_and_is_the_most_popular() -> None:
    crowd = crowd_of_each(400_000, 200_000)

    assert (next(plan()).status, max(crowd, key=lambda event: crowd[event])) == ("running", 1)


def test_nobody_registers_twice_for_one_event() -> None:
    booked = bookings(list(plan()), people=2_000, registrations=4_000)
    pairs = [(event, person) for _, event, person in booked]

    assert len(pairs) == len(set(pairs))


def test_only_registered_people_arrive_and_never_before_their_event() -> None:
    planned = list(plan())
    booked = bookings(planned, people=2_000, registrations=4_000)
    arrived = arrivals(planned, booked)

    upcoming = {event.id for event in planned if event.status == "upcoming"}
    assert {(event, person) for _, event, person in arrived} <= {
        (event, person) for _, event, person in booked
    }
    assert not upcoming & {event for _, event, _ in arrived}
