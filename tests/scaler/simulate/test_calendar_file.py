from pathlib import Path

import pytest

from scaler.calendar import Event
from scaler.simulate.calendar_file import read
from scaler.simulate.trace import BadTrace


def written(folder: Path, text: str) -> Path:
    path = folder / "c.csv"
    path.write_text(text, "utf-8")
    return path


def test_events_are_read_with_and_without_names(tmp_path: Path) -> None:
    named = read(written(tmp_path, "seconds,expected_peak_rps,name\n60,500,sale\n\n120,70.5,\n"))
    plain = read(written(tmp_path, "seconds,expected_peak_rps\n60,500\n"))
    assert (named, plain) == (
        (Event(at=60, peak=500.0, name="sale"), Event(at=120, peak=70.5)),
        (Event(at=60, peak=500.0),),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", None),
        ("when,what\n", "c.csv:1: a calendar begins with the line"),
        ("seconds,expected_peak_rps\nnoon,5\n", "c.csv:2: `noon,5` is no row"),
        ("seconds,expected_peak_rps\n5\n", "c.csv:2: `5` is no row"),
        ("seconds,expected_peak_rps\n-5,5\n", "c.csv:2: an event is at 0 s or later"),
        ("seconds,expected_peak_rps\n5,inf\n", "c.csv:2: an event is at 0 s or later"),
        ("seconds,expected_peak_rps\n5,nan\n", "c.csv:2: an event is at 0 s or later"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, message: str | None) -> None:
    path = written(tmp_path, text)
    if message is None:
        assert read(path) == ()
        return
    with pytest.raises(BadTrace, match=message):
        read(path)
