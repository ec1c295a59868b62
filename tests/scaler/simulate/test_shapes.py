import pytest

from scaler.calendar import Event
from scaler.simulate.shapes import NAMES, drawn
from scaler.simulate.trace import BadTrace


@pytest.mark.parametrize("name", NAMES)
def test_a_shape_is_the_same_each_time(name: str) -> None:
    first, second = drawn(name), drawn(name)
    assert (first.trace.rates, first.calendar) == (second.trace.rates, second.calendar)
    assert (min(first.trace.rates) >= 0, first.trace.name) == (True, name)


def test_an_on_sale_rises_as_its_name_says_and_was_announced() -> None:
    shape = drawn("onsale(x10,120s)")
    rates = shape.trace.rates
    assert [round(rates[at]) for at in (0, 7199, 7200, 7260, 7320, 7919, 8520)] == [
        100,
        100,
        100,
        550,
        1000,
        1000,
        550,
    ]
    assert shape.calendar == (Event(at=7200, peak=1000.0, name="on sale"),)


def test_to_a_no_show_nobody_comes() -> None:
    shape = drawn("noshow")
    assert (set(shape.trace.rates), [event.peak for event in shape.calendar]) == ({100.0}, [1000.0])


def test_bursts_and_days_were_announced_to_nobody() -> None:
    assert [drawn(name).calendar for name in ("burst", "diurnal")] == [(), ()]
    assert max(drawn("burst").trace.rates) > 3 * 300


@pytest.mark.parametrize(
    "name", ["", "onsale", "onsale(x0,10s)", "onsale(x10,0s)", "onsale(10,120)", "Diurnal"]
)
def test_what_is_no_shape_is_told_which_there_are(name: str) -> None:
    with pytest.raises(BadTrace, match=r"is no shape: there are onsale\(x10,120s\), "):
        drawn(name)
