import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.forecast import Forecast, Surprises, forecast
from scaler.window import Window


def seen(*rates: float) -> Forecast:
    """What is foreseen 30 s ahead after these rates, two seconds each."""
    window = Window(300.0)
    for number, rate in enumerate(rates):
        window.add(2.0 * number, 2.0 * (number + 1), rate)
    return forecast(window, 2.0 * len(rates), 30.0)


def numbers(found: Forecast) -> tuple[float, float]:
    return found.now, found.ahead


def test_what_is_steady_goes_on() -> None:
    assert numbers(seen(*[100.0] * 200)) == pytest.approx((100.0, 100.0))


def test_growth_goes_on_as_long_as_a_pod_takes_to_start() -> None:
    found = seen(*[100.0] * 200, *(100.0 + 20 * number for number in range(1, 31)))
    # 10 a second since a minute: 700 now, 1000 in 30 s; what may be chance is left out.
    assert 650 < found.now < 700
    assert 830 < found.ahead < 1010


def test_a_leap_is_seen_at_once_and_does_not_go_on() -> None:
    found = seen(*[100.0] * 200, *[500.0] * 3)
    assert numbers(found) == pytest.approx((500.0, 500.0))


def test_a_moment_without_requests_is_no_end() -> None:
    assert seen(*[100.0] * 200, *[0.0] * 3).ahead > 80


def test_what_has_gone_is_gone_after_a_minute() -> None:
    assert seen(*[1000.0] * 200, *[100.0] * 30).ahead == pytest.approx(100.0)


def test_noise_is_no_growth() -> None:
    rates = [100.0 + (37 * number) % 41 for number in range(300)]
    assert seen(*rates).ahead < 135


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_no_less_is_foreseen_than_there_is(rates: list[float]) -> None:
    found = seen(*rates)
    assert found.ahead >= found.now >= 0


# -- surprises --


def after(*pairs: tuple[float, float]) -> Surprises:
    """Foreseen and come, every two seconds."""
    surprises = Surprises()
    for number, (foreseen, came) in enumerate(pairs):
        surprises.foresee(2.0 * number, foreseen)
        surprises.came(2.0 * number, came, 2.0)
    return surprises


def test_who_has_seen_nothing_knows_of_no_surprise() -> None:
    assert Surprises().factor(0.01, 2.0) == 1.0


def test_what_came_as_foreseen_needs_no_headroom() -> None:
    assert after(*[(100.0, 100.0), (100.0, 60.0)] * 100).factor(0.01, 2.0) == 1.0


def test_headroom_is_what_was_needed_for_all_but_a_share() -> None:
    surprises = after(*[(100.0, 100.0)] * 950, *[(100.0, 130.0)] * 50)
    assert [surprises.factor(0.2, 2.0), surprises.factor(0.01, 2.0)] == pytest.approx([1.0, 1.3], rel=0.03)


def test_headroom_has_a_limit() -> None:
    assert after(*[(100.0, 1e6)] * 100).factor(0.01, 1.2) == 1.2


def test_what_was_foreseen_for_later_is_not_compared_with_now() -> None:
    surprises = Surprises()
    surprises.foresee(30.0, 10.0)
    surprises.came(2.0, 100.0, 2.0)
    assert surprises.factor(0.01, 2.0) == 1.0


def test_old_surprises_fade() -> None:
    assert after(*[(100.0, 150.0)] * 30, *[(100.0, 100.0)] * 20_000).factor(0.001, 2.0) == 1.0


def test_weeks_lose_nothing() -> None:
    surprises = after(*[(100.0, 100.0)] * 100_000, *[(100.0, 140.0)] * 200)
    assert surprises.factor(0.01, 2.0) == pytest.approx(1.4, rel=0.03)


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=50),
    st.floats(0.001, 0.5),
    st.floats(1, 3),
)
def test_headroom_is_within_its_limits_whatever_comes(
    pairs: list[tuple[float, float]], share: float, most: float
) -> None:
    assert 1.0 <= after(*pairs).factor(share, most) <= most
