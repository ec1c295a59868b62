"""Figures as people read them."""

import pytest

from proxy.commands.output import duration, percent, size, table


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "-"), (0.0, "0 ms"), (0.00034567, "0.346 ms"), (0.4, "400 ms"), (1.0, "1 s"), (75.31, "75.3 s")],
)
def test_durations_have_three_digits(seconds: float | None, expected: str) -> None:
    assert expected == duration(seconds)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (64 * 2**20, "64.0 MiB"), (5 * 2**40, "5120.0 GiB")],
)
def test_sizes_have_a_unit(count: int, expected: str) -> None:
    assert expected == size(count)


@pytest.mark.parametrize(("ratio", "expected"), [(None, "-"), (0.0, "0.0 %"), (0.98765, "98.8 %")])
def test_ratios_are_percent(ratio: float | None, expected: str) -> None:
    assert expected == percent(ratio)


def test_the_first_column_is_text_and_the_others_are_numbers() -> None:
    assert table(("route", "n"), [("a", "10"), ("longer", "5")]) == "route    n\na       10\nlonger   5"
