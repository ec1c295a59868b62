from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.simulate.hpa import Alike, Behavior, Hpa, Standing, calculated, seen, standing
from scaler.simulate.play import play
from scaler.simulate.trace import of_rates
from scaler.simulate.world import Deployment, Pod, World

UNREADY = Alike(standing=Standing.UNREADY)
MISSING = Alike(standing=Standing.MISSING)


def _using(*used: int) -> list[Alike]:
    return [Alike(used=share) for share in used]


@pytest.mark.parametrize(
    ("pods", "current", "target", "expected"),
    [
        pytest.param(_using(300, 500, 700), 3, 30, 5, id="ScaleUp"),
        pytest.param([UNREADY, *_using(500, 700)], 3, 30, 4, id="ScaleUpUnreadyLessScale"),
        pytest.param([*_using(400), UNREADY, UNREADY], 3, 30, 3, id="ScaleUpUnreadyNoScale"),
        pytest.param(_using(500, 700), 2, 30, 4, id="ScaleUpIgnoresFailedPods"),
        pytest.param(_using(100, 300, 500, 250, 250), 5, 50, 3, id="ScaleDown"),
        pytest.param([*_using(100, 300, 500), UNREADY, UNREADY], 5, 50, 2, id="ScaleDownExcludeUnreadyPods"),
        pytest.param([*_using(100), *4 * [UNREADY]], 5, 50, 1, id="ScaleDownExcludeUnscheduledPods"),
        pytest.param(_using(1010, 1030, 1020), 3, 100, 3, id="Tolerance"),
        pytest.param([*_using(400, 95), MISSING, MISSING], 4, 100, 3, id="MissingMetrics"),
        pytest.param([MISSING, MISSING], 4, 100, None, id="EmptyMetrics"),
        pytest.param([*_using(1000), MISSING], 2, 100, 2, id="MissingMetricsNoChangeEq"),
        pytest.param([*_using(1900), MISSING], 2, 100, 2, id="MissingMetricsNoChangeGt"),
        pytest.param([*_using(600), MISSING], 2, 100, 2, id="MissingMetricsNoChangeLt"),
        pytest.param([UNREADY, *_using(450), MISSING], 3, 50, 3, id="MissingMetricsUnreadyChange"),
        pytest.param([UNREADY, *_using(2000), MISSING], 3, 50, 4, id="MissingMetricsUnreadyScaleUp"),
        pytest.param([UNREADY, *_using(100, 100), MISSING], 4, 50, 3, id="MissingMetricsUnreadyScaleDown"),
        pytest.param([*_using(100, 100), MISSING], 2, 50, 2, id="DuringRollingUpdateWithMaxSurge"),
    ],
)
def test_it_calculates_as_kubernetes_own_tests_say(
    pods: list[Alike], current: int, target: int, expected: int | None
) -> None:
    """The cases of replica_calculator_test.go (TestReplicaCalc...) in which all pods request the same."""
    assert expected == calculated(pods, current, target)


@pytest.mark.parametrize(
    ("tolerance", "used", "expected"),
    [
        pytest.param(0.0, 1010, 4, id="beyond 0 %"),
        pytest.param(0.08, 1090, 4, id="beyond 8 %"),
        pytest.param(0.36, 650, 3, id="within 36 %"),
        pytest.param(0.34, 650, 2, id="beyond 34 %"),
    ],
)
def test_nothing_is_done_within_the_tolerance(tolerance: float, used: int, expected: int) -> None:
    """TestReplicaCalcConfigurableTolerance."""
    assert expected == calculated(_using(used, used, used), 3, 100, tolerance)


def test_per_cents_are_whole_so_that_just_above_the_tolerance_is_within_it() -> None:
    assert (10, 12) == (calculated(_using(*10 * [779]), 10, 70), calculated(_using(*10 * [780]), 10, 70))


@given(
    pods=st.lists(
        st.builds(
            Alike,
            pods=st.integers(1, 50),
            standing=st.sampled_from(Standing),
            used=st.integers(0, 1000),
        ),
        min_size=1,
        max_size=8,
    ),
    target=st.integers(1, 100),
)
def test_pods_that_are_alike_may_be_seen_together(pods: list[Alike], target: int) -> None:
    one_by_one = [
        Alike(standing=alike.standing, used=alike.used) for alike in pods for _ in range(alike.pods)
    ]
    current = len(one_by_one)
    assert calculated(one_by_one, current, target) == calculated(pods, current, target)


@pytest.mark.parametrize(
    ("created_at", "ready_at", "expected"),
    [
        pytest.param(-inf, -inf, Standing.COUNTED, id="there from the beginning"),
        pytest.param(971, 1001, Standing.MISSING, id="younger than a sample's time"),
        pytest.param(971, 980, Standing.MISSING, id="younger than that, though ready"),
        pytest.param(970, 1001, Standing.UNREADY, id="not ready"),
        pytest.param(600, 1001, Standing.UNREADY, id="not ready after five minutes"),
        pytest.param(900, 971, Standing.UNREADY, id="a sample that began before it was ready"),
        pytest.param(900, 970, Standing.COUNTED, id="a sample that began when it was ready"),
        pytest.param(701, 971, Standing.UNREADY, id="in the first five minutes"),
        pytest.param(700, 971, Standing.COUNTED, id="after five minutes any sample counts"),
    ],
)
def test_a_pod_counts_once_it_was_ready_through_a_sample(
    created_at: float, ready_at: float, expected: Standing
) -> None:
    """As TestGroupPods says, with a sample of 15 s that ended at 985, and now 1000."""
    assert expected == standing(Pod(created_at, ready_at), 1000, 985)


def test_a_new_pod_is_missing_then_unready_then_as_all_others() -> None:
    world = World(of_rates("steady", [60.0] * 200), Deployment(pod_start_s=20))
    world.advance(30)
    world.scale(3)
    found = []
    for now in (30, 45, 60, 75, 90):
        world.advance(now)
        found.append([(alike.pods, alike.standing.name, alike.used) for alike in seen(world)])

    assert found == [
        [(2, "COUNTED", 600), (1, "MISSING", 0)],
        [(2, "COUNTED", 600), (1, "MISSING", 0)],
        [(2, "COUNTED", 600), (1, "UNREADY", 0)],
        # From 45 to 60: a third of the time with two pods, then with three.
        [(2, "COUNTED", 467), (1, "UNREADY", 267)],
        [(3, "COUNTED", 400)],
    ]


def test_a_pod_that_took_more_than_five_minutes_counts_at_once_with_what_little_it_used() -> None:
    world = World(of_rates("steady", [60.0] * 600), Deployment(pod_start_s=400))
    world.advance(30)
    world.scale(3)
    found = []
    for now in (420, 435, 450, 465):
        world.advance(now)
        found.append([(alike.pods, alike.standing.name, alike.used) for alike in seen(world)])

    assert found == [
        [(2, "COUNTED", 600), (1, "UNREADY", 0)],
        [(2, "COUNTED", 600), (1, "COUNTED", 0)],
        [(2, "COUNTED", 534), (1, "COUNTED", 134)],
        [(3, "COUNTED", 400)],
    ]


def _world(replicas: int, *, maximum: int = 1000) -> World:
    world = World(of_rates("none", [0.0] * 3600), Deployment(maximum=maximum, pod_start_s=0))
    world.scale(replicas)
    return world


def _applied(world: World, behavior: Behavior, desired: int | None) -> int:
    world.advance(world.now + 15)
    world.scale(behavior.applied(world, desired))
    return world.replicas


@pytest.mark.parametrize(
    ("current", "desired", "expected"),
    [
        pytest.param(1, 100, 5, id="four more"),
        pytest.param(4, 100, 8, id="twice as many or four more"),
        pytest.param(10, 100, 20, id="twice as many"),
        pytest.param(10, 15, 15, id="as many as it takes"),
        pytest.param(40, 100, 60, id="the maximum"),
        pytest.param(10, None, 10, id="nothing known"),
    ],
)
def test_it_goes_up_at_once_by_as_much_as_behavior_allows(
    current: int, desired: int | None, expected: int
) -> None:
    assert expected == _applied(_world(current, maximum=60), Behavior(), desired)


def test_it_goes_down_to_the_most_that_was_asked_for_within_five_minutes() -> None:
    world, behavior = _world(10), Behavior()
    found = [_applied(world, behavior, desired) for desired in (8, 7, 3, *20 * [2])]
    # What it found at first counts as asked for, too. After 20 more syncs each is forgotten.
    assert [*20 * [10], 7, 3, 2] == found


def test_it_asks_for_one_pod_at_least() -> None:
    world, behavior = _world(2), Behavior()
    assert [*20 * [2], 1] == [_applied(world, behavior, 0) for _ in range(21)]


def test_no_metrics_are_no_zero() -> None:
    world, behavior = _world(10), Behavior()
    assert [10] * 40 == [_applied(world, behavior, None) for _ in range(40)]


def test_at_full_load_it_asks_for_three_sevenths_more_once_a_minute() -> None:
    """Use ends at 100 %, however many come (714 pods were needed), and pods that it can't see use of yet count as idle."""
    trace = of_rates("flood", [700.0] * 60 + [25_000.0] * 150)
    history = play(trace, Hpa(), Deployment(minimum=20)).history
    found = [(at, history[at]) for at in range(1, len(history)) if history[at - 1] != history[at]]
    assert [(90, 29), (150, 42)] == found


def test_it_settles_where_use_is_within_a_tenth_of_the_target() -> None:
    trace = of_rates("steady", [900.0] * 3600)
    world = play(trace, Hpa(target=0.5), Deployment())
    assert (36, 0) == (world.replicas, world.figures.violation_seconds)


def test_it_is_called_by_its_target() -> None:
    assert ["hpa-70", "hpa-50"] == [Hpa().name, Hpa(target=0.5).name]
