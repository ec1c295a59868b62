import pytest

from scaler.calendar import Event, Floor, Lead, Phase, floor, phase

SALE = Event(at=1000.0, peak=500.0, name="sale")
LEAD = Lead(start_s=30.0, spare_s=60.0, patience_s=600.0)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (909.9, Phase.FAR),
        (910.0, Phase.AHEAD),
        (999.9, Phase.AHEAD),
        (1000.0, Phase.OPEN),
        (1599.9, Phase.OPEN),
        (1600.0, Phase.OVER),
    ],
)
def test_an_event_has_its_phases(now: float, expected: Phase) -> None:
    assert phase(SALE, lead=LEAD, now=now) is expected


def asked(now: float, here: set[Event] | None = None) -> float:
    return floor([SALE], here or set(), lead=LEAD, now=now).rate


def test_pods_are_asked_for_from_a_start_up_time_and_a_bit_before_it() -> None:
    assert [asked(now) for now in (909.0, 910.0, 999.0, 1000.0)] == [0.0, 500.0, 500.0, 500.0]


def test_when_the_crowd_is_here_what_is_measured_says_more() -> None:
    assert asked(1100.0, {SALE}) == 0.0


def test_a_crowd_that_does_not_come_is_waited_for_ten_minutes() -> None:
    assert [asked(now) for now in (1599.0, 1600.0)] == [500.0, 0.0]


def test_of_several_events_the_largest_counts_and_is_named() -> None:
    other = Event(at=1050.0, peak=800.0, name="other")
    assert floor([SALE, other], set(), lead=LEAD, now=1010.0) == Floor(
        rate=800.0, event=other, phase=Phase.AHEAD
    )


def test_without_events_nothing_is_asked_for() -> None:
    assert floor([], set(), lead=LEAD, now=0.0) == Floor(rate=0.0)
