import pytest

from scaler.simulate.keda import Keda, per_pod
from scaler.simulate.play import play
from scaler.simulate.trace import of_rates
from scaler.simulate.world import Deployment, World


@pytest.mark.parametrize(
    ("target", "current", "tolerance", "expected"),
    [
        pytest.param(2150, 3, 0.1, 4, id="ScaleUpPerPodCMExternal"),
        pytest.param(2867, 5, 0.1, 3, id="ScaleDownPerPodCMExternal"),
        pytest.param(2900, 3, 0.1, 3, id="TolerancePerPodCMExternal"),
        pytest.param(2800, 3, 0.01, 4, id="ConfigurableTolerancePerPodCMExternal"),
    ],
)
def test_it_calculates_as_kubernetes_own_tests_say(
    target: float, current: int, tolerance: float, expected: int
) -> None:
    """The cases of replica_calculator_test.go (TestReplicaCalc...), with 8600 in sum."""
    assert expected == per_pod(8600, target, current, tolerance)


def test_what_it_asks_for_has_no_bound_but_behaviors() -> None:
    """Unlike CPU, requests are counted even if nobody serves them: it doubles at each sync."""
    world = play(of_rates("flood", [700.0] * 60 + [25_000.0] * 100), Keda(), Deployment(minimum=20))
    assert [20, 40, 80, 160, 320, 640] == sorted(set(world.history))


def test_a_leap_is_seen_after_a_scrape_and_then_as_a_part_of_the_minute() -> None:
    trace = of_rates("leap", [700.0] * 90 + [1400.0] * 90)
    world = play(trace, Keda(), Deployment(minimum=20))
    # At 105 its last scrape is of 90. At 120 a third of what it sees is new, at 135 two thirds, at 150 all.
    assert [20, 20, 27, 34, 40] == [world.history[at] for at in (90, 105, 120, 135, 150)]


def test_it_goes_down_five_minutes_after_the_load_did() -> None:
    trace = of_rates("less", [700.0] * 600 + [70.0] * 900)
    world = play(trace, Keda(), Deployment(minimum=1))
    gone = next(at for at in range(600, 1500) if world.history[at] < 10)
    assert (600 + 300 < gone <= 600 + 300 + 60, 2) == (True, world.replicas)


def test_before_there_are_two_scrapes_nothing_is_known() -> None:
    world = World(of_rates("idle", [0.0] * 60), Deployment(minimum=5))
    keda = Keda()
    world.advance(15)
    assert 5 == keda.replicas(world)
