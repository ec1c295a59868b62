from scaler.calendar import Event
from scaler.settings import Demand
from scaler.sizer import Sizer


def sized(
    rates: list[float], events: tuple[Event, ...] = (), current: int = 3
) -> tuple[list[int], list[str]]:
    """Pods after each two seconds of these rates, and the reasons. A pod takes 30 s to start, and 50 req/s."""
    sizer = Sizer(Demand(), 30.0, 50.0, events)
    counts, reasons = [], []
    for number, rate in enumerate(rates):
        now = 2.0 * (number + 1)
        sizer.observe(now - 2, now, rate)
        decision = sizer.decide(now, current)
        current = decision.replicas
        counts.append(current)
        reasons.append(decision.reason)
    return counts, reasons


def test_before_anything_is_known_all_stays() -> None:
    decision = Sizer(Demand(), 30.0, 50.0).decide(0.0, 7)
    assert (decision.replicas, decision.reason) == (7, "nothing is known yet")


def test_steady_load_has_steady_pods() -> None:
    counts, _ = sized([100.0] * 500)
    assert set(counts) == {3}


def test_a_leap_is_followed_at_once_and_given_up_when_it_is_over() -> None:
    counts, reasons = sized([100.0] * 300 + [600.0] * 60 + [100.0] * 150)
    assert (counts[305] > 12, counts[420] > 12, counts[-1]) == (True, True, 3)
    assert "were wanted of late" in reasons[400]


def test_an_event_s_pods_are_there_before_it_and_go_when_nobody_comes() -> None:
    counts, reasons = sized([100.0] * 800, (Event(at=600.0, peak=900.0, name="sale"),))
    # From 90 s before it until 10 minutes after it.
    assert [counts[at // 2 - 1] for at in (508, 510, 598, 1198, 1200, 1202)] == [3, 20, 20, 20, 3, 3]
    assert reasons[299 - 1].startswith("sale is ahead")


def test_an_event_whose_crowd_comes_is_left_to_what_is_measured() -> None:
    counts, _ = sized([100.0] * 300 + [900.0] * 30 + [400.0] * 200, (Event(at=600.0, peak=900.0),))
    assert (min(counts[300:329]) >= 20, counts[-1] <= 12) == (True, True)
