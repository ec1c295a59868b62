import pytest

from scaler.simulate.knative import Kpa, Panic, decided
from scaler.simulate.play import play
from scaler.simulate.trace import of_rates
from scaler.simulate.world import Deployment


@pytest.mark.parametrize(
    ("stable", "panicking", "ready", "expected"),
    [
        pytest.param(10.0, 10.0, 10, 10, id="as many as it takes"),
        pytest.param(10.1, 10.0, 10, 11, id="a part of a pod is a pod"),
        pytest.param(4.0, 4.0, 10, 5, id="half as many at most"),
        pytest.param(1.0, 1.0, 3, 1, id="half of three is one"),
        pytest.param(0.0, 0.0, 0, 0, id="none for nothing"),
        pytest.param(12.0, 19.0, 10, 12, id="not twice as many: no panic"),
        pytest.param(12.0, 19.1, 10, 20, id="twice as many: panic"),
        pytest.param(25.0, 21.0, 10, 25, id="in panic the larger of both"),
        pytest.param(9000.0, 9000.0, 2, 2000, id="a thousand times as many at most"),
        pytest.param(3.0, 3.0, 0, 3, id="none ready counts as one"),
    ],
)
def test_it_decides_by_both_windows(stable: float, panicking: float, ready: int, expected: int) -> None:
    assert expected == decided(stable, panicking, ready, 100, Panic())


def test_in_panic_it_never_goes_down_until_a_minute_after_it_last_was_over_the_threshold() -> None:
    panic = Panic()
    found = [
        decided(stable, panicking, ready, now, panic)
        for now, stable, panicking, ready in (
            (100, 10.0, 40.0, 10),
            (102, 11.0, 30.0, 10),
            # Over the threshold once more, by what is ready.
            (130, 20.0, 20.0, 10),
            (190, 20.0, 20.0, 40),
            (192, 20.0, 20.0, 40),
        )
    ]
    assert ([40, 40, 40, 40, 20], Panic()) == (found, panic)


def test_it_begins_in_panic_and_keeps_the_pods_there_are_for_a_minute() -> None:
    """It has no history yet: less may be needed than there is."""
    trace = of_rates("less", [450.0] + [35.0] * 120)
    world = play(trace, Kpa(), Deployment())
    # Half as many at most, at each tick.
    assert [10, 10, 5, 2, 1] == [world.history[at] for at in (0, 63, 64, 66, 68)]


def test_with_one_pod_it_begins_calm() -> None:
    trace = of_rates("little", [10.0] * 10)
    kpa = Kpa()
    play(trace, kpa, Deployment())
    assert kpa._panic == Panic()


def test_a_leap_is_answered_by_the_next_ticks() -> None:
    trace = of_rates("leap", [350.0] * 300 + [3500.0] * 300)
    world = play(trace, Kpa(), Deployment())
    # Of the six seconds of the panic window, two are new, then four, then all.
    assert [10, 40, 70, 100] == [world.history[at] for at in (300, 302, 304, 306)]


def test_limits_are_limits() -> None:
    trace = of_rates("leap", [350.0] * 100 + [3500.0] * 100 + [0.0] * 300)
    world = play(trace, Kpa(), Deployment(minimum=3, maximum=50))
    assert (3, 50) == (min(world.history), max(world.history))
