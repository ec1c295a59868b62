from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from proxy.exposition import Family, Histogram, Sample, pieces, samples
from proxy.metrics import BUCKETS_S, REQUEST_SECONDS, Metrics, read
from proxy.policy.outcome import Outcome

BOUNDS = (0.5, 1.0, 2.5)


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    family = Family(name="h", kind="histogram", text="A.", values=lambda: [((), histogram)])
    return [(s.labels["le"], s.value) for s in samples([family]) if s.name == "h_bucket"]


@pytest.mark.parametrize(
    ("seconds", "first"),
    [
        pytest.param(0.0, 0, id="nothing"),
        pytest.param(BUCKETS_S[0], 0, id="a bound belongs to its bucket"),
        pytest.param(BUCKETS_S[0] + 1e-9, 1, id="more does not"),
        pytest.param(BUCKETS_S[-1], len(BUCKETS_S) - 1, id="the last bound"),
        pytest.param(99.0, len(BUCKETS_S), id="beyond all of them"),
    ],
)
def test_an_observation_is_in_every_bucket_from_its_own_on(seconds: float, first: int) -> None:
    histogram = Histogram(BUCKETS_S)
    histogram.observe(seconds)

    assert [0.0] * first + [1.0] * (len(BUCKETS_S) + 1 - first) == [count for _, count in buckets(histogram)]


@given(st.lists(st.floats(0, 20), max_size=30))
def test_buckets_are_cumulative_and_the_last_counts_all(observations: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for seconds in observations:
        histogram.observe(seconds)

    expected = [float(sum(seconds <= bound for seconds in observations)) for bound in (*BOUNDS, float("inf"))]
    assert list(zip([*map(str, BOUNDS), "+Inf"], expected, strict=True)) == buckets(histogram)
    assert sum(observations) == pytest.approx(histogram.total)


LABEL = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBER = st.floats(0, 1e12, allow_nan=False)


class Theirs:
    """The same as the library collects it."""

    def __init__(self, rows: list[tuple[str, str, float]], histogram: Histogram) -> None:
        self._rows = rows
        self._histogram = histogram

    def collect(self) -> Iterator[Metric]:
        counter = CounterMetricFamily("c_total", "Counts.", labels=("route", "cache"))
        gauge = GaugeMetricFamily("g", "Measures.", value=2.5)
        histogram = HistogramMetricFamily("h", "Sorts.", labels=("route", "cache"))
        for route, cache, value in self._rows:
            counter.add_metric((route, cache), value)
            histogram.add_metric(
                (route, cache), buckets=buckets(self._histogram), sum_value=self._histogram.total
            )
        yield counter
        yield gauge
        yield histogram


@given(st.lists(st.tuples(LABEL, LABEL, NUMBER), max_size=5), st.lists(st.floats(0, 5), max_size=5))
def test_the_text_is_what_prometheus_own_library_writes(
    rows: list[tuple[str, str, float]], observations: list[float]
) -> None:
    histogram = Histogram(BOUNDS)
    for value in observations:
        histogram.observe(value)
    registry = CollectorRegistry()
    registry.register(Theirs(rows, histogram))
    labels = ("route", "cache")
    families = [
        Family(
            name="c_total",
            kind="counter",
            text="Counts.",
            labels=labels,
            values=lambda: [((route, cache), value) for route, cache, value in rows],
        ),
        Family(name="g", kind="gauge", text="Measures.", values=lambda: [((), 2.5)]),
        Family(
            name="h",
            kind="histogram",
            text="Sorts.",
            labels=labels,
            values=lambda: [((route, cache), histogram) for route, cache, _ in rows],
        ),
    ]

    theirs = generate_latest(registry).decode()
    assert read(theirs) == read("".join(pieces(families))) == [*samples(families)]


def test_no_piece_of_two_hundred_routes_is_long() -> None:
    metrics = Metrics("1")
    for number in range(200):
        for outcome in Outcome:
            metrics.request(f"route-{number}", "GET", 200, outcome, 0.01)
        metrics.upstream(f"route-{number}", "200", 0.01)

    assert max(piece.count("\n") for piece in metrics.pieces([REQUEST_SECONDS])) <= 20
    lines = [piece.count("\n") for piece in metrics.pieces()]
    # A line takes less than a microsecond.
    assert (sum(lines) > 20_000, max(lines) <= 20) == (True, True)


def test_a_value_that_is_read_back_is_the_one_that_was_written() -> None:
    family = Family(name="a", kind="gauge", text="One.", labels=("x",), values=lambda: [(("y",), 0.1 + 0.2)])

    assert [Sample(name="a", labels={"x": "y"}, value=0.1 + 0.2)] == read("".join(pieces([family])))
