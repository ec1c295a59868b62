import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.calendar import Event, Floor, Phase
from scaler.decision import Decision
from scaler.demand import Seen, announced, settled, wanted
from scaler.forecast import Forecast
from scaler.settings import Demand

SALE = Event(at=1000.0, peak=900.0, name="sale")


def seen(ahead: float = 450.0, surprise: float = 1.0, floor: Floor | None = None) -> Seen:
    return Seen(
        forecast=Forecast(now=400.0, ahead=ahead),
        surprise=surprise,
        floor=floor or Floor(rate=0.0),
        capacity=50.0,
        horizon_s=32.0,
    )


def test_a_decision_says_what_was_seen_and_what_follows() -> None:
    assert wanted(seen(), Demand(headroom_min=1.1)) == Decision(
        replicas=11, reason="400 req/s, 450 in 32 s, 10% to spare, 45 a pod"
    )


@pytest.mark.parametrize(
    ("surprise", "replicas"),
    [
        pytest.param(1.0, 11, id="at least"),
        pytest.param(1.15, 12, id="as needed"),
        pytest.param(3.0, 13, id="at most"),
    ],
)
def test_headroom_is_what_was_needed_of_late_within_limits(surprise: float, replicas: int) -> None:
    assert wanted(seen(surprise=surprise), Demand()).replicas == replicas


def test_a_crowd_that_begins_to_come_may_be_larger_than_it_was_thought() -> None:
    floors = [Floor(rate=900.0, event=SALE, phase=where) for where in (Phase.AHEAD, Phase.OPEN)]
    assert [wanted(seen(floor=floor), Demand()).replicas for floor in floors] == [11, 13]


def test_one_pod_stays() -> None:
    assert wanted(seen(ahead=0.0), Demand()).replicas == 1


def test_the_calendar_says_who_comes() -> None:
    floor = Floor(rate=900.0, event=SALE, phase=Phase.AHEAD)
    assert announced(seen(floor=floor), Demand()) == Decision(
        replicas=20, reason="sale is ahead: 900 req/s are expected, 45 a pod"
    )


def test_without_an_event_the_calendar_says_nothing() -> None:
    assert announced(seen(), Demand()) is None


@pytest.mark.parametrize(
    ("wants", "held", "becomes", "why"),
    [
        pytest.param(12, 12, 12, "why", id="more: at once"),
        pytest.param(10, 10, 10, "why", id="as many"),
        pytest.param(5, 12, 10, "why; held: 12 were wanted of late", id="fewer, but more of late"),
        pytest.param(5, 8, 8, "why", id="as many as were wanted of late"),
        pytest.param(9, 9, 9, "why", id="a tenth fewer"),
    ],
)
def test_pods_come_at_once_and_go_when_nothing_has_wanted_them_for_a_while(
    wants: int, held: int, becomes: int, why: str
) -> None:
    found = settled(Decision(replicas=wants, reason="why"), current=10, held=held, tolerance=0.1)
    assert found == Decision(replicas=becomes, reason=why)


def test_hardly_fewer_is_not_worth_it() -> None:
    found = settled(Decision(replicas=95, reason="why"), current=100, held=95, tolerance=0.1)
    assert found == Decision(replicas=100, reason="why; held: 95 are hardly fewer")


@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 500), st.floats(0, 0.9))
def test_no_more_go_than_were_not_wanted_of_late(
    current: int, wants: int, more: int, tolerance: float
) -> None:
    held = wants + more
    found = settled(Decision(replicas=wants, reason=""), current=current, held=held, tolerance=tolerance)
    assert found.replicas >= min(current, held)
