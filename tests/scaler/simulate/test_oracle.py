from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scaler.simulate.hpa import Hpa
from scaler.simulate.keda import Keda
from scaler.simulate.knative import Kpa
from scaler.simulate.oracle import Oracle, most, plan
from scaler.simulate.play import Policy, play
from scaler.simulate.trace import of_rates
from scaler.simulate.world import Deployment, World

RATES = st.lists(st.integers(0, 20).map(lambda pods: 45.0 * pods), min_size=1, max_size=60)
# Around what a pod takes: 45 requests a second.
ODD_RATES = st.lists(st.floats(0, 900), min_size=1, max_size=60)
STARTS = st.integers(0, 8)


@given(rates=RATES | ODD_RATES, start=STARTS)
def test_it_violates_nothing_that_it_could_have_foreseen(rates: list[float], start: int) -> None:
    rates[0] = max(rates[: start + 1])
    world = play(of_rates("any", rates), Oracle(), Deployment(pod_start_s=start))
    assert (0, 0.0) == (world.figures.violation_seconds, world.figures.shed_requests)


@given(rates=RATES, start=STARTS)
def test_it_has_what_the_most_needed_second_of_a_start_up_time_needs(rates: list[float], start: int) -> None:
    deployment = Deployment(pod_start_s=start)
    world = play(of_rates("any", rates), Oracle(), deployment)
    needed = [deployment.needed(rate) for rate in rates]
    expected = [needed[0], *(max(needed[at : at + start + 1]) for at in range(1, len(rates)))]
    assert expected == list(world.history)


class Whims:
    """Any policy."""

    name = "whims"

    def __init__(self, wishes: list[int]) -> None:
        self.period_s = 1
        self._wishes = iter(wishes)

    def replicas(self, world: World) -> int:
        return next(self._wishes, world.replicas)


@given(rates=RATES, start=st.integers(0, 3), data=st.data())
def test_nobody_who_violates_nothing_has_fewer_at_any_second(
    rates: list[float], start: int, data: st.DataObject
) -> None:
    deployment = Deployment(pod_start_s=start)
    trace = of_rates("any", rates)
    lowest = play(trace, Oracle(), deployment).history
    # Wishes near the oracle's own have a chance to violate nothing.
    wishes = [
        data.draw(st.integers(max(1, pods - 1), pods + 2), label="pods") for pods in (*lowest[1:], lowest[-1])
    ]
    world = play(trace, Whims(wishes), deployment)
    assume(world.figures.violation_seconds == 0)
    assert all(few <= pods for few, pods in zip(lowest, world.history, strict=True))


@pytest.mark.parametrize("policy", [Hpa, Keda, Kpa])
def test_it_has_fewer_pod_seconds_than_a_rival_that_violates_nothing(policy: Callable[[], Policy]) -> None:
    slowly = [100.0 + second / 10 for second in range(7200)]
    trace = of_rates("slow", [*slowly, *reversed(slowly)])
    rival, oracle = (play(trace, one, Deployment()).figures for one in (policy(), Oracle()))
    assert (0, 0) == (rival.violation_seconds, oracle.violation_seconds)
    assert oracle.pod_seconds < rival.pod_seconds


@given(rates=st.lists(st.floats(0, 10), max_size=40), ahead=st.integers(0, 50))
def test_the_largest_of_what_is_next(rates: list[float], ahead: int) -> None:
    assert [max(rates[at : at + ahead + 1]) for at in range(len(rates))] == list(most(rates, ahead))


def test_a_plan_has_only_changes() -> None:
    rates = [45.0, 44.0, 90.0, 90.0, 10.0, 0.0, 45.0]
    assert [(0, 1), (1, 2), (4, 1)] == list(plan(rates, Deployment(pod_start_s=1)))


def test_it_is_only_asked_where_the_number_changes() -> None:
    asked: list[int] = []

    class Heard(Oracle):
        def replicas(self, world: World) -> int:
            asked.append(world.now)
            return super().replicas(world)

    rates = [45.0] * 100 + [90.0] * 100 + [45.0] * 100
    play(of_rates("steps", rates), Heard(), Deployment(pod_start_s=30))
    assert [1, 70, 200, 300] == asked


def test_the_maximum_is_its_too() -> None:
    world = play(
        of_rates("flood", [45.0] * 10 + [900.0] * 10), Oracle(), Deployment(maximum=5, pod_start_s=2)
    )
    assert (5, 10) == (max(world.history), world.figures.violation_seconds)
