"""The proxy's metrics: their names, who writes them, who reads them.

The scaler and the tuner read what is written here, which is why both sides stand in one file. Counting is a dict and an
integer; the text for Prometheus is made only when it is asked for.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from proxy.exposition import Family, Histogram, Labels, Sample, Value, named, pieces, samples
from proxy.policy.outcome import HITS, Outcome

__all__ = ["Histogram", "Sample"]

REQUESTS = "crowdgate_requests_total"
REQUEST_SECONDS = "crowdgate_request_seconds"
UPSTREAM_REQUESTS = "crowdgate_upstream_requests_total"
UPSTREAM_SECONDS = "crowdgate_upstream_seconds"
UPSTREAM_INFLIGHT = "crowdgate_upstream_inflight"
INFLIGHT = "crowdgate_inflight_requests"
CONNECTIONS = "crowdgate_client_connections"
BAD_REQUESTS = "crowdgate_bad_requests_total"
REDIS_SECONDS = "crowdgate_redis_seconds"
REDIS_ERRORS = "crowdgate_redis_errors_total"
REDIS_UP = "crowdgate_redis_up"
DAMAGED = "crowdgate_damaged_entries_total"
MEMORY_BYTES = "crowdgate_memory_bytes"
MEMORY_ENTRIES = "crowdgate_memory_entries"
EVICTIONS = "crowdgate_evictions_total"
PURGES = "crowdgate_purges_total"
PURGE_LAG = "crowdgate_purge_lag_seconds"
PURGE_LOSSES = "crowdgate_purge_log_losses_total"
SWEPT = "crowdgate_swept_entries_total"
REPLICAS = "crowdgate_replicas"
LEASES = "crowdgate_leases_total"
EARLY = "crowdgate_early_refreshes_total"
PRELOADED = "crowdgate_preloaded_entries"
WARM = "crowdgate_warm_total"
LOST_LINES = "crowdgate_log_lines_lost_total"
RELOAD_FAILURES = "crowdgate_config_reload_failures_total"
RELOADED = "crowdgate_config_last_reload_success_timestamp_seconds"
BUILD = "crowdgate_build_info"
LOAD = "crowdgate_load_total"
LOAD_SECONDS = "crowdgate_load_upstream_seconds_total"
# Every Prometheus client library has it by this name, and so do dashboards and alerts that know nothing of us.
STARTED = "process_start_time_seconds"

NO_ROUTE = "-"
"""The label of requests that match no route."""

# Hits take microseconds: the usual buckets, which begin at 5 ms, would put all of them into one.
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# What stands between the API and us says so when there is no API to be had.
_NO_ANSWER = frozenset({"502", "503", "504"})
# A label must not be the client's to choose: each new value is a new time series.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Cell:
    """Requests of one kind: so many, and a share of the histogram that its kind is part of."""

    __slots__ = ("count", "histogram")

    def __init__(self, histogram: Histogram) -> None:
        self.count = 0
        self.histogram = histogram

    def observe(self, seconds: float) -> None:
        """One more of them."""
        self.count += 1
        self.histogram.observe(seconds)


class Metrics:
    """What the proxy counts."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._requests: dict[tuple[str, str, int, Outcome], Cell] = {}
        # The same cells: adding them up takes 30 us for 200 routes, and 200 us where each is asked for its outcome.
        self._hits: list[Cell] = []
        self._others: list[Cell] = []
        self._request_seconds: dict[Labels, Histogram] = {}
        self._upstream: Counter[Labels] = Counter()
        self._upstream_seconds: dict[Labels, Histogram] = {}
        self._redis_seconds: dict[Labels, Histogram] = {}
        self._counted: dict[str, Counter[Labels]] = {
            name: Counter()
            for name in (REDIS_ERRORS, DAMAGED, EVICTIONS, PURGES, BAD_REQUESTS, LEASES, EARLY)
        }
        self._warm: Counter[Labels] = Counter()
        self._gauges: dict[str, Callable[[], float]] = {}
        self.inflight = 0
        self.upstream_inflight = 0
        self.redis_up = False
        self.purge_lag_s = 0.0
        self.purge_losses = 0
        self.swept = 0
        self.reload_failures = 0
        self.lost_lines = 0
        self.preloaded = 0
        self.reloaded_at = 0.0
        self.started_at = 0.0

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """A value that is read when the metrics are."""
        self._gauges[name] = read

    def request(self, route: str, method: str, status: int, outcome: Outcome, seconds: float) -> None:
        """A request answered."""
        self.cell(route, method, status, outcome).observe(seconds)

    def cell(self, route: str, method: str, status: int, outcome: Outcome) -> Cell:
        """Where requests of one kind are counted."""
        key = (route, method if method in _METHODS else "OTHER", status, outcome)
        found = self._requests.get(key)
        if found is None:
            found = self._requests[key] = Cell(_histogram(self._request_seconds, (route, outcome.value)))
            (self._hits if outcome in HITS else self._others).append(found)
        return found

    def upstream(self, route: str, code: str, seconds: float) -> None:
        """The API asked; `code` is its status or the kind of failure."""
        self._upstream[route, code] += 1
        _histogram(self._upstream_seconds, (route,)).observe(seconds)

    def warmed(self, name: str, *, ok: bool) -> None:
        """A warm resource fetched."""
        self._warm[name, "ok" if ok else "failed"] += 1

    def count(self, metric: str, label: str) -> None:
        """One more of a counter with a single label."""
        self._counted[metric][label,] += 1

    # What the Redis tier reports (store.redis.RedisObserver).
    def done(self, op: str, seconds: float) -> None:
        """A Redis command ended."""
        _histogram(self._redis_seconds, (op,)).observe(seconds)

    def failed(self, kind: str) -> None:
        """A Redis command failed."""
        self.count(REDIS_ERRORS, kind)

    def up(self, is_up: bool) -> None:  # noqa: FBT001 - the observer's shape
        """Redis answers, or no longer."""
        self.redis_up = is_up

    def totals(self) -> dict[str, int]:
        """Requests by outcome."""
        totals: Counter[str] = Counter()
        for (_, _, _, outcome), cell in list(self._requests.items()):
            totals[outcome.value] += cell.count
        return dict(totals)

    def pieces(self, names: Iterable[str] | None = None) -> Iterator[str]:
        """The text for Prometheus, piece by piece, each made in microseconds: of all families, or of those named."""
        families = self.families()
        return pieces(families if names is None else named(families, names))

    def render(self) -> bytes:
        """All of it."""
        return "".join(self.pieces()).encode()

    def samples(self) -> list[Sample]:
        """All of it, as values."""
        return list(samples(self.families()))

    def families(self) -> Iterator[Family]:
        """Every family of series."""
        yield Family(
            name=REQUESTS,
            kind="counter",
            text="Requests answered.",
            labels=("route", "method", "code", "cache"),
            values=self._counts,
        )
        yield _histograms(
            REQUEST_SECONDS,
            "From a request's head to its answer's end.",
            ("route", "cache"),
            self._request_seconds,
        )
        yield _counter(UPSTREAM_REQUESTS, "Requests to the API.", ("route", "code"), self._upstream.items)
        yield _histograms(
            UPSTREAM_SECONDS, "To the head of the API's answer.", ("route",), self._upstream_seconds
        )
        yield _histograms(REDIS_SECONDS, "Redis commands.", ("op",), self._redis_seconds)
        yield _counter(WARM, "Fetches of warm resources.", ("name", "result"), self._warm.items)
        for name, (text, label) in _COUNTED.items():
            yield _counter(name, text, (label,), self._counted[name].items)
        yield Family(
            name=LOAD,
            kind="counter",
            text="All routes: requests, hits among them, requests to the API, failures among them (no answer or 502-504).",
            labels=("of",),
            values=self._load,
        )
        yield from self._single_values()

    def _load(self) -> Iterator[tuple[Labels, Value]]:
        """Added up when it is asked for: 20 ns for each kind of request, 100 ns for each kind of the API's answers.

        The part comes before the whole, which may grow in between: hits are never more than requests.
        """
        hits = sum([cell.count for cell in self._hits])
        yield ("hits",), hits
        yield ("requests",), hits + sum([cell.count for cell in self._others])
        asked = list(self._upstream.items())
        # A code that is no number is a kind of failure.
        yield (
            ("upstream_failures",),
            sum([count for (_, code), count in asked if code in _NO_ANSWER or not code.isdigit()]),
        )
        yield ("upstream_requests",), sum([count for _, count in asked])

    def _counts(self) -> Iterable[tuple[Labels, Value]]:
        for (route, method, status, outcome), cell in list(self._requests.items()):
            if cell.count:
                yield (route, method, str(status), outcome.value), cell.count

    def _single_values(self) -> Iterator[Family]:
        values: dict[str, float] = {
            INFLIGHT: self.inflight,
            UPSTREAM_INFLIGHT: self.upstream_inflight,
            REDIS_UP: self.redis_up,
            PURGE_LAG: self.purge_lag_s,
            RELOADED: self.reloaded_at,
            STARTED: self.started_at,
            PRELOADED: self.preloaded,
        }
        for name, read in self._gauges.items():
            values[name] = read()
        for name, value in values.items():
            yield _single(name, "gauge", _GAUGES[name], value)
        for name, (text, count) in {
            RELOAD_FAILURES: ("Config files that could not be loaded.", self.reload_failures),
            PURGE_LOSSES: ("Times that the purge log had a gap, and all was dropped.", self.purge_losses),
            SWEPT: ("Purged entries that this replica took out of Redis.", self.swept),
            LOST_LINES: ("Access log lines that standard error did not take at once.", self.lost_lines),
            LOAD_SECONDS: (
                "All routes: seconds to the heads of the API's answers.",
                sum([histogram.total for histogram in list(self._upstream_seconds.values())]),
            ),
        }.items():
            yield _single(name, "counter", text, count)
        version = ((self._version,), 1.0)
        yield Family(
            name=BUILD,
            kind="gauge",
            text="The running version.",
            labels=("version",),
            values=lambda: [version],
        )


_COUNTED = {
    REDIS_ERRORS: ("Redis commands that failed; each is a miss, never an error for a client.", "kind"),
    DAMAGED: ("Values from Redis that were no entries of ours.", "kind"),
    EVICTIONS: ("Entries that left memory.", "reason"),
    PURGES: ("Purges applied.", "kind"),
    BAD_REQUESTS: ("Requests refused as malformed, too large or too slow.", "kind"),
    LEASES: (
        "Times that this replica wanted to ask the API for all: won, lost (another is at it), passed (not to be shared), free.",
        "turn",
    ),
    EARLY: ("Popular answers refreshed ahead of their expiry.", "route"),
}
_GAUGES = {
    INFLIGHT: "Requests being answered.",
    UPSTREAM_INFLIGHT: "Requests that the API is answering.",
    CONNECTIONS: "Open client connections.",
    REDIS_UP: "1 while Redis answers.",
    MEMORY_BYTES: "Bytes in the memory tier, overhead included.",
    MEMORY_ENTRIES: "Entries in the memory tier.",
    PURGE_LAG: "From a purge's record to its application here.",
    RELOADED: "When the config was last loaded.",
    STARTED: "When this process was started.",
    REPLICAS: "Replicas that are alive, as far as this one knows.",
    PRELOADED: "Entries that memory was filled with from Redis at the start.",
}


def _histogram(family: dict[Labels, Histogram], labels: Labels) -> Histogram:
    found = family.get(labels)
    if found is None:
        found = family[labels] = Histogram(BUCKETS_S)
    return found


def _counter(
    name: str, text: str, labels: tuple[str, ...], items: Callable[[], Iterable[tuple[Labels, Value]]]
) -> Family:
    # As it is at this moment: it may grow while it is written.
    return Family(name=name, kind="counter", text=text, labels=labels, values=lambda: list(items()))


def _histograms(name: str, text: str, labels: tuple[str, ...], histograms: dict[Labels, Histogram]) -> Family:
    return Family(
        name=name, kind="histogram", text=text, labels=labels, values=lambda: list(histograms.items())
    )


def _single(name: str, kind: Literal["counter", "gauge"], text: str, value: float) -> Family:
    return Family(name=name, kind=kind, text=text, values=lambda: [((), value)])


def read(text: str) -> list[Sample]:
    """The samples in a proxy's metrics. Raises ValueError where the text is not Prometheus'."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - 14 ms, and the proxy only writes

    try:
        return [
            Sample(name=sample.name, labels=dict(sample.labels), value=float(sample.value))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]
    except (LookupError, TypeError) as error:
        # The library's parser trips over some malformed labels.
        raise ValueError("malformed metrics") from error


def total(samples: Iterable[Sample], name: str, /, **labels: str) -> float:
    """The sum of a metric over the samples that carry the labels given."""
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
