"""The calendar of a simulation: CSV of `seconds,expected_peak_rps[,name]`, in the trace's time."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from scaler.calendar import Event
from scaler.simulate.trace import BadTrace

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_HEADERS = (["seconds", "expected_peak_rps"], ["seconds", "expected_peak_rps", "name"])


def read(path: Path) -> tuple[Event, ...]:
    """The events of a file. Raises BadTrace, OSError."""
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return tuple(_events(path, csv.reader(file)))
        except (UnicodeDecodeError, csv.Error) as error:
            raise BadTrace(f"{path}: is no CSV: {error}") from None


def _events(path: Path, lines: Iterable[list[str]]) -> Iterable[Event]:
    for number, line in enumerate(lines, 1):
        if number == 1 and line not in _HEADERS:
            raise BadTrace(
                f"{path}:1: a calendar begins with the line `seconds,expected_peak_rps` (and `,name`)"
            )
        if number > 1 and line:
            yield _event(path, number, line)


def _event(path: Path, number: int, line: list[str]) -> Event:
    try:
        at, peak = int(line[0]), float(line[1])
    except (ValueError, IndexError):
        raise BadTrace(
            f"{path}:{number}: `{','.join(line)}` is no row of `seconds,expected_peak_rps`"
        ) from None
    if at < 0 or not 0 < peak < float("inf"):
        raise BadTrace(
            f"{path}:{number}: an event is at 0 s or later, and expects more than 0 requests a second"
        )
    return Event(at=at, peak=peak, name=line[2] if len(line) > 2 else "")
