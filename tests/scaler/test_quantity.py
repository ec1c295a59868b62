"""Quantities and durations as Kubernetes' own parser reads them."""

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.quantity import duration_s, quantity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("0", 0.0, id="nothing"),
        pytest.param("3", 3.0, id="whole"),
        pytest.param("1.5", 1.5, id="a fraction"),
        pytest.param("1.", 1.0, id="a point without digits behind it"),
        pytest.param(".5", 0.5, id="a point without digits before it"),
        pytest.param("+2", 2.0, id="a plus"),
        pytest.param("-2m", -0.002, id="negative"),
        pytest.param("1234567n", 0.001234567, id="nano, as metrics-server says cores"),
        pytest.param("250u", 0.00025, id="micro"),
        pytest.param("250m", 0.25, id="milli"),
        pytest.param("1k", 1e3, id="kilo"),
        pytest.param("1M", 1e6, id="mega"),
        pytest.param("1G", 1e9, id="giga"),
        pytest.param("1T", 1e12, id="tera"),
        pytest.param("1P", 1e15, id="peta"),
        pytest.param("1E", 1e18, id="exa"),
        pytest.param("1536Ki", 1536 * 1024.0, id="kibi, as metrics-server says bytes"),
        pytest.param("1.5Mi", 1.5 * 2**20, id="mebi"),
        pytest.param("1Gi", 2.0**30, id="gibi"),
        pytest.param("1Ti", 2.0**40, id="tebi"),
        pytest.param("1Pi", 2.0**50, id="pebi"),
        pytest.param("1Ei", 2.0**60, id="exbi"),
        pytest.param("1E3", 1e3, id="E with digits is an exponent"),
        pytest.param("12e6", 12e6, id="e-notation"),
        pytest.param("12e-3", 0.012, id="a negative exponent"),
        pytest.param("1e+2", 100.0, id="a positive exponent"),
    ],
)
def test_a_quantity_is_the_number_that_kubernetes_reads(text: str, expected: float) -> None:
    assert expected == quantity(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(" 1", id="a blank"),
        pytest.param("1\n", id="a line's end"),
        pytest.param("m", id="no number"),
        pytest.param(".", id="no digit"),
        pytest.param("1K", id="kilo is small"),
        pytest.param("1ki", id="kibi is not"),
        pytest.param("1mi", id="no such suffix"),
        pytest.param("1e", id="an exponent without digits"),
        pytest.param("1e3Ki", id="both"),
        pytest.param("1e9999", id="more than a float holds"),
        pytest.param("NaN", id="not a number"),
        pytest.param("١", id="digits of another script"),
        pytest.param("1" * 65, id="endless"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        quantity(text)


@given(st.integers(-(2**53), 2**53), st.sampled_from(["m", "", "k", "Ki", "Mi", "e3"]))
def test_whole_numbers_come_back_as_they_were(number: int, suffix: str) -> None:
    scale = {"m": 1e-3, "": 1.0, "k": 1e3, "Ki": 2.0**10, "Mi": 2.0**20, "e3": 1e3}[suffix]
    assert math.isclose(number * scale, quantity(f"{number}{suffix}"), rel_tol=1e-15)


@given(st.text(alphabet="0123456789.+-eEKMGTPnumki ", max_size=70))
def test_whatever_comes_it_is_a_finite_number_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert math.isfinite(quantity(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("30s", 30.0, id="seconds"),
        pytest.param("15.022s", 15.022, id="a fraction"),
        pytest.param("1m0s", 60.0, id="two units"),
        pytest.param("1h1m1s", 3661.0, id="three"),
        pytest.param("1500ms", 1.5, id="milliseconds are not minutes"),
        pytest.param("0", 0.0, id="nothing"),
    ],
)
def test_a_duration_is_read_as_go_writes_it(text: str, expected: float) -> None:
    assert expected == pytest.approx(duration_s(text))


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1s 2s", "1d", "1.2.3s", "9" * 70 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration_s(text)
