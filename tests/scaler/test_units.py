import pytest

from scaler.units import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("1h30m", 5400.0), ("250ms", 0.25), ("1.5m", 90.0), ("0s", 0.0), ("1h1m1s1ms", 3661.001)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "30 s", "30s30s", "-1s", "1d", "infs", "1e3s", "٣s"])
def test_what_is_no_duration_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration: write it as 250ms, 30s, 5m or 1h30m"):
        parse_duration(text)
