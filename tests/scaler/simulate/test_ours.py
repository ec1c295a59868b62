"""What the scaler makes of known shapes: the figures that it promises."""

import pytest

from scaler.calendar import Event
from scaler.settings import Demand
from scaler.simulate.hpa import Hpa
from scaler.simulate.ours import Ours
from scaler.simulate.play import play
from scaler.simulate.shapes import drawn
from scaler.simulate.world import Deployment, Figures


def sized(name: str, *, factor: float = 1.0, pod_start_s: int = 30, known: bool = True) -> Figures:
    shape, deployment = drawn(name), Deployment(pod_start_s=pod_start_s)
    calendar = [Event(at=one.at, peak=one.peak * factor) for one in shape.calendar] if known else []
    return play(shape.trace, Ours(Demand(), deployment, calendar), deployment).figures


@pytest.mark.parametrize("pod_start_s", [30, 120])
@pytest.mark.parametrize("name", ["onsale(x10,120s)", "onsale(x30,60s)"])
def test_an_on_sale_that_is_announced_costs_nobody_a_second(name: str, pod_start_s: int) -> None:
    found = sized(name, pod_start_s=pod_start_s)
    assert (found.violation_seconds, found.shed_requests) == (0, 0.0)


@pytest.mark.parametrize(("name", "most"), [("onsale(x10,120s)", 35), ("onsale(x30,60s)", 35)])
def test_an_audience_twice_as_large_as_was_thought_waits_for_seconds(name: str, most: int) -> None:
    assert sized(name, factor=0.5).violation_seconds <= most


@pytest.mark.parametrize(("name", "most"), [("onsale(x10,120s)", 1.1), ("onsale(x30,60s)", 1.1)])
def test_an_on_sale_that_is_announced_costs_hardly_more_than_hpa_s(name: str, most: float) -> None:
    hpa = play(drawn(name).trace, Hpa(), Deployment()).figures
    assert sized(name).pod_hours <= most * hpa.pod_hours


def test_an_on_sale_that_nobody_announced_is_met_within_a_pod_s_start() -> None:
    assert sized("onsale(x10,120s)", known=False).violation_seconds <= 60


def test_a_no_show_costs_its_lead_and_ten_minutes() -> None:
    extra_s = (sized("noshow").pod_seconds - sized("noshow", known=False).pod_seconds) / (23 - 3)
    assert extra_s <= 30 + 60 + 600 + 4


def test_the_same_trace_has_the_same_figures() -> None:
    assert sized("burst") == sized("burst")
