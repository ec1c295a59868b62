from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.simulate.trace import BadTrace, of_rates, read, times


def _file(folder: Path, *rows: str) -> Path:
    path = folder / "day.csv"
    path.write_text("\n".join(("seconds,requests", *rows)) + "\n")
    return path


def test_rows_of_a_second_each_are_taken_as_they_are(tmp_path: Path) -> None:
    trace = read(_file(tmp_path, "10,3", "11,0", "12,5.5"))
    assert ("day", [3.0, 0.0, 5.5], [0.0, 3.0, 3.0, 8.5]) == (trace.name, list(trace.rates), list(trace.sums))


def test_between_the_middles_of_longer_rows_the_rate_is_a_straight_line(tmp_path: Path) -> None:
    trace = read(_file(tmp_path, "0,4", "4,12", "8,12"))
    assert [1, 1, 1.25, 1.75, 2.25, 2.75, 3, 3, 3, 3, 3, 3] == list(trace.rates)


def test_the_last_row_lasts_as_long_as_the_one_before_it(tmp_path: Path) -> None:
    assert 60 + 120 + 120 == read(_file(tmp_path, "0,1", "60,1", "180,1")).seconds


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(["0,1"], "a trace needs two rows at least: one tells when the other ends", id="one row"),
        pytest.param(["0,1", "1,many"], "3: `1,many` is no row of `seconds,requests`", id="no number"),
        pytest.param(["0,1", "1"], "3: `1` is no row of `seconds,requests`", id="half a row"),
        pytest.param(["0,1", "1,-1"], "3: requests (-1) must be a number of at least 0", id="less than none"),
        pytest.param(["0,1", "1,nan"], "3: requests (nan) must be a number of at least 0", id="nan"),
        pytest.param(["0,1", "1,inf"], "3: requests (inf) must be a number of at least 0", id="endless"),
        pytest.param(["1,1", "1,1"], "3: seconds (1) must grow from row to row", id="twice the same"),
        pytest.param(["-1,1"], "2: seconds (-1) must grow from row to row", id="before the beginning"),
    ],
)
def test_a_bad_row_is_told_with_its_line(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(BadTrace) as caught:
        read(_file(tmp_path, *rows))
    assert str(caught.value).endswith(message)


def test_a_trace_of_more_than_400_days_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="must be at most 34560000: split the trace"):
        read(_file(tmp_path, "0,1", "34560001,1"))


def test_a_trace_begins_with_its_header(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    path.write_text("0,1\n1,1\n")
    with pytest.raises(BadTrace, match=r"day.csv:1: a trace begins with the line `seconds,requests`"):
        read(path)


def test_empty_lines_are_nothing(tmp_path: Path) -> None:
    assert [1.0, 2.0] == list(read(_file(tmp_path, "0,1", "", "1,2", "")).rates)


@given(
    rates=st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=30),
    since=st.integers(-5, 40),
    until=st.integers(-5, 40),
)
def test_a_mean_is_of_what_is_part_of_the_trace(rates: list[float], since: int, until: int) -> None:
    part = rates[max(0, since) : max(0, until)]
    expected = sum(part) / len(part) if part else 0.0
    assert expected == pytest.approx(of_rates("any", rates).mean(since, until))


def test_times_multiplies_each_second() -> None:
    trace = times(of_rates("day", [1.0, 2.0]), 2.5)
    assert ("day", [2.5, 5.0], [0.0, 2.5, 7.5]) == (trace.name, list(trace.rates), list(trace.sums))
