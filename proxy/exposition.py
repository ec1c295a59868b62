"""Metrics as text for Prometheus, in small pieces: whoever writes it can let others have their turn in between.

prometheus_client takes 8 us for a line and all lines at once; 200 routes have 18,000. The tests read this with its parser.
Source: Prometheus' text-based format, version 0.0.4.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]
"""The values, in the order of the family's label names."""

_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(slots=True)
class Histogram:
    """Observations by bucket; the last bucket is everything above."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Value = float | Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """All series of one name."""

    name: str
    """A counter's ends in `_total`."""
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    values: Callable[[], Iterable[tuple[Labels, Value]]]

    @property
    def names(self) -> tuple[str, ...]:
        """By which it can be asked for: its own, its samples', and OpenMetrics', whose counters have no `_total`."""
        match self.kind:
            case "counter":
                return self.name, self.name.removesuffix("_total")
            case "gauge":
                return (self.name,)
            case "histogram":
                return self.name, *(f"{self.name}_{part}" for part in ("bucket", "count", "sum"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of what a proxy exposes."""

    name: str
    labels: dict[str, str]
    value: float


def samples(families: Iterable[Family]) -> Iterator[Sample]:
    """What is written, as values."""
    for family in families:
        for values, value in family.values():
            labels = dict(zip(family.labels, values, strict=True))
            for suffix, bound, number in _numbers(value):
                said = labels | {"le": bound} if bound else labels
                yield Sample(name=family.name + suffix, labels=said, value=float(number))


def named(families: Iterable[Family], names: Iterable[str]) -> Iterator[Family]:
    """Those that are asked for, whole; what is unknown names none."""
    wanted = frozenset(names)
    return (family for family in families if not wanted.isdisjoint(family.names))


def pieces(families: Iterable[Family]) -> Iterator[str]:
    """The text, in pieces of some lines each."""
    for family in families:
        yield f"# HELP {family.name} {family.text}\n# TYPE {family.name} {family.kind}\n"
        order = sorted(range(len(family.labels)), key=family.labels.__getitem__)
        for values, value in family.values():
            labels = [f'{family.labels[at]}="{_escaped(values[at])}"' for at in order]
            yield "".join(_lines(family.name, labels, value))


def _lines(name: str, labels: list[str], value: Value) -> Iterator[str]:
    said = "{" + ",".join(labels) + "}" if labels else ""
    if not isinstance(value, Histogram):
        yield f"{name}{said} {float(value)}\n"
        return
    # Labels stand in the order of the alphabet, `le` among them.
    at = bisect_left(labels, "le=")
    before = "{" + "".join(f"{label}," for label in labels[:at])
    after = "".join(f",{label}" for label in labels[at:]) + "}"
    for suffix, bound, number in _numbers(value):
        if bound:
            yield f'{name}_bucket{before}le="{bound}"{after} {number}.0\n'
        else:
            yield f"{name}{suffix}{said} {float(number)}\n"


def _numbers(value: Value) -> Iterator[tuple[str, str, float]]:
    """Suffix, bound of a bucket, and number of each line. Buckets count all that is at most their bound."""
    if not isinstance(value, Histogram):
        yield "", "", value
        return
    for bound, count in zip((*map(str, value.bounds), "+Inf"), accumulate(value.counts), strict=True):
        yield "_bucket", bound, count
    yield "_count", "", sum(value.counts)
    yield "_sum", "", value.total


def _escaped(value: str) -> str:
    return value.translate(_ESCAPED) if "\\" in value or '"' in value or "\n" in value else value
