import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.startup import StartUp


def seen(*took_s: float, initial_s: float = 30.0) -> StartUp:
    startup = StartUp(initial_s)
    for number, seconds in enumerate(took_s):
        startup.learn(f"uid-{number}", 1000.0, 1000.0 + seconds)
    return startup


def test_before_any_has_started_it_is_what_the_settings_say() -> None:
    assert seen(initial_s=45.0).expected_s() == 45.0


def test_ninety_five_of_a_hundred_took_no_longer() -> None:
    assert seen(*range(1, 21)).expected_s() == 19.0


def test_one_that_was_seen_is_believed() -> None:
    assert seen(12.0).expected_s() == 12.0


def test_a_pod_counts_once_however_often_it_becomes_ready() -> None:
    startup = seen(10.0)
    startup.learn("uid-0", 1000.0, 1900.0)
    assert startup.expected_s() == 10.0


def test_a_release_that_starts_faster_is_believed_after_fifty_pods() -> None:
    assert seen(*[90.0] * 200, *[5.0] * 50).expected_s() == 5.0


@pytest.mark.parametrize("took_s", [-5.0, 1801.0, float("nan"), float("inf")])
def test_what_can_t_be_is_passed_over(took_s: float) -> None:
    assert seen(10.0, took_s).expected_s() == 10.0


def test_those_that_still_start_and_are_late_count() -> None:
    assert seen(10.0).expected_s([2.0, 25.0]) == 25.0


def test_one_that_never_becomes_ready_does_not() -> None:
    assert seen(10.0).expected_s([5000.0]) == 10.0


def test_nothing_starts_in_no_time() -> None:
    assert seen(0.0).expected_s() == 1.0


@given(st.lists(st.floats(0, 1800), max_size=200), st.lists(st.floats(0, 1e5), max_size=20))
def test_it_is_never_less_than_a_second_nor_more_than_half_an_hour(
    took: list[float], starting: list[float]
) -> None:
    assert 1.0 <= seen(*took).expected_s(starting) <= 1800.0
