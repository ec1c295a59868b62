import math
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.simulate.trace import of_rates
from scaler.simulate.world import VIOLATED_FROM, Deployment, Figures, Pod, World

RATES = st.lists(st.integers(0, 500).map(float), min_size=1, max_size=60)
# When to go on to, and how many pods to have from then on.
STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 14)), max_size=12)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        pytest.param(0.0, 1, id="nothing"),
        pytest.param(45.0, 1, id="what one takes"),
        pytest.param(45.1, 2, id="a bit more"),
        pytest.param(450.0, 10, id="what ten take"),
    ],
)
def test_a_rate_needs_pods_that_are_used_to_nine_tenths(rate: float, expected: int) -> None:
    assert expected == Deployment().needed(rate)


@given(rate=st.floats(0, 1e6), capacity=st.floats(0.1, 1e4))
def test_as_many_pods_as_are_needed_violate_nothing_and_one_fewer_does(rate: float, capacity: float) -> None:
    deployment = Deployment(pod_capacity=capacity, maximum=10**9)
    needed = deployment.needed(rate)
    least = rate / (capacity * VIOLATED_FROM)
    assert (True, True) == (needed >= least - 1e-6, needed == 1 or needed - 1 < least)


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        pytest.param(Deployment(), 3, id="what is needed"),
        pytest.param(Deployment(minimum=5), 5, id="the minimum"),
        pytest.param(Deployment(maximum=2), 2, id="the maximum"),
    ],
)
def test_it_begins_with_what_the_first_second_needs(deployment: Deployment, expected: int) -> None:
    world = World(of_rates("any", [100.0, 0.0]), deployment)
    assert (expected, [Pod(-inf, -inf)] * expected) == (world.ready, world.serving)


def test_a_pod_serves_when_its_start_up_time_has_passed() -> None:
    world = World(of_rates("any", [40.0] * 10), Deployment(pod_start_s=3))
    world.advance(2)
    world.scale(4)
    found = []
    for now in (4, 5, 6):
        world.advance(now)
        found.append((world.ready, world.replicas))
    # It becomes ready at 5, and serves in the second that begins then.
    assert [(1, 4), (1, 4), (4, 4)] == found
    assert [1, 1, 4, 4, 4, 4] == list(world.history)


def test_the_youngest_go_first_and_those_that_start_before_those_that_serve() -> None:
    world = World(of_rates("any", [90.0] * 20), Deployment(pod_start_s=3))
    for now, replicas in ((1, 3), (5, 5)):
        world.advance(now)
        world.scale(replicas)
    world.advance(6)
    world.scale(4)
    one_starts = (list(world.serving), list(world.starting))
    world.scale(2)
    assert ([Pod(-inf, -inf), Pod(-inf, -inf), Pod(1, 4)], [Pod(5, 8)]) == one_starts
    assert ([Pod(-inf, -inf), Pod(-inf, -inf)], []) == (world.serving, world.starting)


def test_figures_are_what_they_say() -> None:
    # One pod of 50: 40 is fine, 46 is a violation, 60 sheds 10; two pods are one too many for 40.
    world = World(of_rates("any", [40.0, 46.0, 60.0, 40.0]), Deployment(pod_start_s=0))
    world.advance(3)
    world.scale(2)
    world.advance(9)
    world.scale(1)
    world.scale(1)
    assert (
        Figures(
            seconds=4,
            violation_seconds=2,
            offered=186.0,
            shed_requests=10.0,
            pod_seconds=5.0,
            scale_operations=2,
            direction_flips=1,
            lacking=1.0,
            idle=1.0,
            seconds_lacking=2,
            seconds_idle=1,
        )
        == world.figures
    )


def test_elasticity_is_in_per_cent_of_need_and_time() -> None:
    figures = Figures(
        seconds=10,
        lacking=1.0,
        idle=2.0,
        seconds_lacking=3,
        seconds_idle=4,
        offered=8,
        shed_requests=2,
        pod_seconds=7200,
    )
    found = (figures.theta_u, figures.theta_o, figures.tau_u, figures.tau_o)
    assert ((10, 20, 30, 40), 0.25, 2.0) == (found, figures.shed_ratio, figures.pod_hours)


def test_nothing_has_been_before_the_first_second() -> None:
    figures = Figures()
    found = (figures.theta_u, figures.theta_o, figures.tau_u, figures.tau_o, figures.shed_ratio)
    assert (0.0,) * 5 == found


def test_use_is_of_capacity_and_ends_at_all_of_it() -> None:
    world = World(of_rates("any", [25.0, 25.0, 50.0, 500.0]), Deployment())
    world.advance(4)
    assert [0.5, 0.75, 1.0, 0.0] == [world.utilisation(*span) for span in ((0, 2), (1, 3), (2, 4), (4, 9))]


def test_nobody_sees_what_is_to_come() -> None:
    world = World(of_rates("any", [10.0, 10.0, 100.0]), Deployment())
    world.advance(2)
    assert (10.0, 0.2) == (world.offered(0, 3), world.utilisation(0, 3))


@given(rates=RATES, steps=STEPS, start=st.integers(0, 5))
def test_second_by_second_it_comes_to_the_same(
    rates: list[float], steps: list[tuple[int, int]], start: int
) -> None:
    """However long the stretches that it goes through at once."""
    deployment = Deployment(pod_start_s=start, minimum=1, maximum=12)
    world, slow = (World(of_rates("any", rates), deployment) for _ in range(2))
    for seconds, replicas in (*steps, (100, 1)):
        until = world.now + seconds
        world.advance(until)
        while slow.now < min(until, len(rates)):
            slow.advance(slow.now + 1)
        world.scale(replicas)
        slow.scale(replicas)

    assert list(slow.history) == list(world.history)
    assert slow.serving == world.serving
    assert _rounded(slow.figures) == _rounded(world.figures)


@given(rates=RATES, steps=STEPS, start=st.integers(0, 5))
def test_what_is_offered_is_served_or_shed(
    rates: list[float], steps: list[tuple[int, int]], start: int
) -> None:
    world = World(of_rates("any", rates), Deployment(pod_start_s=start, maximum=12))
    served, used = 0.0, 0.0
    for seconds, replicas in (*steps, (100, 1)):
        for _ in range(min(seconds, len(rates) - world.now)):
            world.advance(world.now + 1)
            now = world.now
            used = world.utilisation(now - 1, now)
            served += used * world.ready * world.deployment.pod_capacity
        world.scale(replicas)

    figures = world.figures
    assert math.isclose(figures.offered, served + figures.shed_requests, abs_tol=1e-6)
    assert figures.pod_seconds == sum(world.history)


def _rounded(figures: Figures) -> dict[str, float]:
    names = Figures.__slots__
    return {name: round(float(getattr(figures, name)), 6) for name in names}
