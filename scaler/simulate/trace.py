"""How many requests came when: read from CSV, or drawn by a formula."""

from __future__ import annotations

import csv
from array import array
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_HEADER = ["seconds", "requests"]
# A year of seconds takes 500 MB.
MAX_SECONDS = 400 * 86_400


class BadTrace(ValueError):
    """A file that is no trace; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Offered load, second by second."""

    name: str
    rates: array[float]
    """Requests in each second."""
    sums: array[float]
    """Requests before each second, and in the end all."""

    @property
    def seconds(self) -> int:
        """How long it lasts."""
        return len(self.rates)

    def mean(self, since: float, until: float) -> float:
        """Requests a second in `[since, until)`, as far as that is part of the trace."""
        first, last = max(0, int(since)), min(len(self.rates), int(until))
        return (self.sums[last] - self.sums[first]) / (last - first) if last > first else 0.0


def of_rates(name: str, rates: Iterable[float]) -> Trace:
    """A trace of requests a second."""
    kept = array("d", rates)
    return Trace(name, kept, array("d", accumulate(kept, initial=0.0)))


def times(trace: Trace, factor: float) -> Trace:
    """The same with so many times the requests."""
    return of_rates(trace.name, (rate * factor for rate in trace.rates))


def read(path: Path) -> Trace:
    """A file of `seconds,requests`: from each of these seconds until the next, so many requests came. Raises BadTrace, OSError.

    Where rows are more than a second apart, the rate goes from the middle of one to that of the next in a straight line.
    """
    with path.open(newline="", encoding="utf-8") as file:
        try:
            rows = list(_rows(path, csv.reader(file)))
        except (UnicodeDecodeError, csv.Error) as error:
            raise BadTrace(f"{path}: is no CSV: {error}") from None
    if len(rows) < 2:
        raise BadTrace(f"{path}: a trace needs two rows at least: one tells when the other ends")
    return of_rates(path.stem, _rates(rows))


def _rows(path: Path, lines: Iterable[Sequence[str]]) -> Iterable[tuple[int, float]]:
    before = -1
    for number, line in enumerate(lines, 1):
        if number == 1 and line != _HEADER:
            raise BadTrace(f"{path}:1: a trace begins with the line `seconds,requests`")
        if number == 1 or not line:
            continue
        try:
            at, count = int(line[0]), float(line[1])
        except (ValueError, IndexError):
            raise BadTrace(f"{path}:{number}: `{','.join(line)}` is no row of `seconds,requests`") from None
        if not 0 <= count < float("inf"):
            raise BadTrace(f"{path}:{number}: requests ({line[1]}) must be a number of at least 0")
        if at <= before:
            raise BadTrace(f"{path}:{number}: seconds ({at}) must grow from row to row")
        if at > MAX_SECONDS:
            raise BadTrace(f"{path}:{number}: seconds ({at}) must be at most {MAX_SECONDS}: split the trace")
        before = at
        yield at, count


def _rates(rows: list[tuple[int, float]]) -> Iterable[float]:
    """Per second, from rows whose last one only ends the one before where they are apart."""
    spans = [(at, until - at, count / (until - at)) for (at, count), (until, _) in pairwise(rows)]
    # The last row lasts as long as the one before it.
    at, count = rows[-1]
    spans.append((at, spans[-1][1], count / spans[-1][1]))
    start = rows[0][0]
    if all(length == 1 for _, length, _ in spans):
        yield from (rate for _, _, rate in spans)
        return
    middles = [(at - start + length / 2, rate) for at, length, rate in spans]
    place = 0
    for second in range(spans[-1][0] + spans[-1][1] - start):
        now = second + 0.5
        while place + 1 < len(middles) and middles[place + 1][0] <= now:
            place += 1
        (left, low), (right, high) = middles[place], middles[min(place + 1, len(middles) - 1)]
        share = (now - left) / (right - left) if right > left and now > left else 0.0
        yield low + (high - low) * min(share, 1.0)
