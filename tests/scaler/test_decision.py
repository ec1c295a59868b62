import pytest

from scaler.decision import Limits


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        pytest.param(1, 2, id="too few"),
        pytest.param(2, 2, id="just enough"),
        pytest.param(4, 4, id="between"),
        pytest.param(5, 5, id="just not too many"),
        pytest.param(9, 5, id="too many"),
    ],
)
def test_the_nearest_allowed_number_is_taken(replicas: int, expected: int) -> None:
    assert expected == Limits(minimum=2, maximum=5).within(replicas)


@pytest.mark.parametrize(
    ("replicas", "expected"), [pytest.param(9, "max is 5", id="max"), pytest.param(1, "min is 2", id="min")]
)
def test_a_limit_is_named(replicas: int, expected: str) -> None:
    assert expected == Limits(minimum=2, maximum=5).why(replicas)


@pytest.mark.parametrize(
    ("minimum", "maximum", "expected"),
    [
        pytest.param(3, 2, r"max \(2\) must be at least min \(3\)", id="crossed"),
        pytest.param(-1, 2, r"min \(-1\) must be at least 0", id="negative"),
    ],
)
def test_bad_limits_are_refused_with_both_numbers(minimum: int, maximum: int, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Limits(minimum=minimum, maximum=maximum)
