import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.window import Window

RATES = st.floats(0, 1e6)


def a_window(*rates: float, each_s: float = 2.0, keep_s: float = 300.0) -> Window:
    """One observation after the other, the first from 0 on."""
    window = Window(keep_s)
    for number, rate in enumerate(rates):
        window.add(number * each_s, (number + 1) * each_s, rate)
    return window


def test_nothing_is_known_before_the_first_observation() -> None:
    window = Window(300.0)
    assert window.is_empty
    window.add(0.0, 2.0, 10.0)
    assert (window.is_empty, window.since, window.until) == (False, 0.0, 2.0)


@pytest.mark.parametrize(
    ("since", "until", "mean"),
    [
        pytest.param(0, 2, 10.0, id="one observation"),
        pytest.param(0, 6, 20.0, id="all"),
        pytest.param(1, 3, 15.0, id="halves of two"),
        pytest.param(-100, 2, 10.0, id="from before the first"),
        pytest.param(4, 100, 30.0, id="until after the last"),
        pytest.param(3, 3, 0.0, id="no time at all"),
        pytest.param(50, 60, 0.0, id="nothing of it was observed"),
    ],
)
def test_any_span_can_be_asked_about(since: float, until: float, mean: float) -> None:
    assert a_window(10.0, 20.0, 30.0).mean(since, until) == pytest.approx(mean)


def test_a_gap_is_filled_with_what_came_after_it() -> None:
    window = a_window(10.0)
    window.add(8.0, 10.0, 30.0)
    assert window.mean(2, 10) == pytest.approx(30.0)


def test_what_is_observed_twice_counts_once() -> None:
    window = a_window(10.0, 20.0)
    window.add(0.0, 2.0, 99.0)
    window.add(2.0, 4.0, 99.0)
    assert [window.until, window.mean(0, 4)] == pytest.approx([4.0, 15.0])


def test_it_keeps_as_long_as_it_is_to_and_not_much_longer() -> None:
    window = a_window(*[1.0] * 10_000, keep_s=60.0)
    assert window.until - 120.0 <= window.since <= window.until - 60.0
    assert window.mean(window.until - 60, window.until) == pytest.approx(1.0)


@given(st.lists(RATES, min_size=1, max_size=200))
def test_the_mean_of_all_is_the_mean_of_all(rates: list[float]) -> None:
    window = a_window(*rates, keep_s=1e9)
    assert window.mean(0, 2 * len(rates)) == pytest.approx(sum(rates) / len(rates), abs=1e-3)


@given(st.lists(RATES, min_size=20, max_size=200))
def test_the_short_means_are_those_of_the_last_spans(rates: list[float]) -> None:
    window = a_window(*rates, keep_s=1e9)
    end = window.until
    expected = [window.mean(end - 6 * (back + 1), end - 6 * back) for back in range(3)]
    assert list(window.short) == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_before_the_first_observation_it_is_taken_to_have_been_alike(count: int) -> None:
    assert a_window(*[50.0] * count).short == pytest.approx((50.0, 50.0, 50.0))


def test_requests_that_come_one_by_one_vary_as_poisson_says() -> None:
    assert a_window(*[600.0] * 300).spread == pytest.approx(math.sqrt(600 / 6))


def test_what_varies_more_is_learned() -> None:
    window = a_window(*[900.0, 900.0, 900.0, 300.0, 300.0, 300.0] * 300)
    assert 200 < window.spread < 700


def test_one_leap_is_hardly_learned() -> None:
    assert a_window(*[600.0] * 300, *[6000.0] * 10).spread < 1.1 * math.sqrt(6000 / 6)
