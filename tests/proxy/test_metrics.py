import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy import metrics as m
from proxy.metrics import Metrics, Sample, read, total
from proxy.policy.outcome import Outcome


@pytest.fixture
def metrics() -> Metrics:
    """Everything counted once."""
    counted = Metrics("1.2.3")
    for name in (m.MEMORY_BYTES, m.MEMORY_ENTRIES, m.CONNECTIONS):
        counted.gauge(name, lambda: 7.0)
    counted.request("events", "GET", 200, Outcome.HIT_MEMORY, 0.0001)
    counted.upstream("events", "200", 0.2)
    counted.done("get", 0.001)
    counted.failed("timeout")
    counted.up(is_up=True)
    counted.warmed("active_events", ok=True)
    counted.count(m.EVICTIONS, "size")
    counted.count(m.PURGES, "tag")
    counted.count(m.DAMAGED, "checksum")
    counted.count(m.BAD_REQUESTS, "malformed")
    return counted


def exposed(metrics: Metrics) -> list[Sample]:
    return read(metrics.render().decode())


# -- the contract --

CONTRACT = {
    "crowdgate_requests_total": {"route", "method", "code", "cache"},
    "crowdgate_request_seconds": {"route", "cache"},
    "crowdgate_upstream_requests_total": {"route", "code"},
    "crowdgate_upstream_seconds": {"route"},
    "crowdgate_upstream_inflight": set(),
    "crowdgate_inflight_requests": set(),
    "crowdgate_redis_seconds": {"op"},
    "crowdgate_redis_errors_total": {"kind"},
    "crowdgate_redis_up": set(),
    "crowdgate_memory_bytes": set(),
    "crowdgate_memory_entries": set(),
    "crowdgate_evictions_total": {"reason"},
    "crowdgate_purges_total": {"kind"},
    "crowdgate_purge_lag_seconds": set(),
    "crowdgate_config_reload_failures_total": set(),
    "crowdgate_build_info": {"version"},
}


@pytest.mark.parametrize(("name", "labels"), [pytest.param(*pair, id=pair[0]) for pair in CONTRACT.items()])
def test_every_metric_of_the_contract_is_exposed_with_its_labels(
    metrics: Metrics, name: str, labels: set[str]
) -> None:
    parts = (
        {name}
        if not name.endswith("_seconds") or not labels
        else {f"{name}_{end}" for end in ("sum", "count")}
    )
    found = [set(sample.labels) for sample in exposed(metrics) if sample.name in parts]

    assert [labels] * len(parts) == found


def test_the_outcomes_are_those_of_the_contract() -> None:
    expected = "hit_memory|hit_redis|stale|revalidated|collapsed|miss|bypass|error"

    assert expected == "|".join(outcome.value for outcome in Outcome)


def test_the_text_is_prometheus_own_and_no_series_comes_twice(metrics: Metrics) -> None:
    text = metrics.render().decode()
    series = [
        (s.name, tuple(s.labels.items()))
        for family in text_string_to_metric_families(text)
        for s in family.samples
    ]

    assert len(set(series)) == len(series) > len(CONTRACT)


def test_every_family_says_what_it_is(metrics: Metrics) -> None:
    families = list(text_string_to_metric_families(metrics.render().decode()))

    assert not [
        f.name for f in families if not f.documentation or f.type not in {"counter", "gauge", "histogram"}
    ]
    assert all(family.name.startswith("crowdgate_") for family in families)


def test_nothing_counted_is_exposed_as_well() -> None:
    samples = exposed(Metrics("1"))

    assert (0, 0.0, 1.0) == (
        len([s for s in samples if s.name == m.REQUESTS]),
        total(samples, m.REDIS_UP),
        total(samples, m.BUILD, version="1"),
    )


# -- counting --


def test_requests_are_counted_by_route_method_status_and_outcome(metrics: Metrics) -> None:
    metrics.request("events", "GET", 200, Outcome.HIT_MEMORY, 0.1)
    metrics.request("events", "GET", 404, Outcome.MISS, 0.1)

    samples = exposed(metrics)
    assert [2, 1, 3] == [
        total(samples, m.REQUESTS, cache="hit_memory", code="200", method="GET", route="events"),
        total(samples, m.REQUESTS, cache="miss", code="404"),
        total(samples, m.REQUESTS),
    ]
    assert {"hit_memory": 2, "miss": 1} == metrics.totals()


def test_a_method_that_a_client_made_up_is_no_label_of_its_own() -> None:
    metrics = Metrics("1")
    for n in range(100):
        metrics.request("r", f"X{n}", 200, Outcome.BYPASS, 0.1)

    assert 100 == total(exposed(metrics), m.REQUESTS, method="OTHER")


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        pytest.param(m.INFLIGHT, "inflight", id="inflight"),
        pytest.param(m.UPSTREAM_INFLIGHT, "upstream_inflight", id="upstream inflight"),
        pytest.param(m.PURGE_LAG, "purge_lag_s", id="purge lag"),
        pytest.param(m.RELOADED, "reloaded_at", id="reloaded"),
        pytest.param(m.RELOAD_FAILURES, "reload_failures", id="reload failures"),
    ],
)
def test_a_single_value_is_exposed_as_it_is(metrics: Metrics, name: str, attribute: str) -> None:
    setattr(metrics, attribute, 5)

    assert 5.0 == total(exposed(metrics), name)


def test_redis_is_up_or_not(metrics: Metrics) -> None:
    seen = []
    for up in (True, False):
        metrics.up(is_up=up)
        seen.append(total(exposed(metrics), m.REDIS_UP))

    assert [1.0, 0.0] == seen


def test_a_gauge_is_read_when_the_metrics_are(metrics: Metrics) -> None:
    size = [1.0]
    metrics.gauge(m.MEMORY_BYTES, lambda: size[0])
    size[0] = 42.0

    assert 42.0 == total(exposed(metrics), m.MEMORY_BYTES)


def test_warming_counts_what_went_well_and_what_did_not(metrics: Metrics) -> None:
    metrics.warmed("active_events", ok=False)

    samples = exposed(metrics)
    assert [1, 1] == [total(samples, m.WARM, result=result) for result in ("ok", "failed")]


@pytest.mark.parametrize(
    "label",
    [pytest.param('a"b\\c\nd', id="what must be escaped"), pytest.param("é{}=,", id="what need not be")],
)
def test_any_label_comes_back_as_it_was(metrics: Metrics, label: str) -> None:
    metrics.upstream(label, "200", 0.1)

    assert 1.0 == total(exposed(metrics), m.UPSTREAM_REQUESTS, route=label)


# -- histograms --


def test_a_histogram_is_exposed_with_its_sum_and_count(metrics: Metrics) -> None:
    metrics.upstream("events", "200", 0.3)

    samples = exposed(metrics)
    name = m.UPSTREAM_SECONDS
    assert [2.0, 0.5, 1.0, 2.0] == [
        total(samples, f"{name}_count", route="events"),
        total(samples, f"{name}_sum"),
        total(samples, f"{name}_bucket", le="0.25"),
        total(samples, f"{name}_bucket", le="+Inf"),
    ]


# -- the reader's side --


def test_a_total_is_over_all_samples_with_the_labels_given() -> None:
    samples = read(
        '# TYPE a counter\na_total{x="1",y="1"} 1\na_total{x="1",y="2"} 2\na_total{x="2",y="2"} 4\n'
    )

    assert [7, 3, 6, 2, 0, 0] == [
        total(samples, "a_total"),
        total(samples, "a_total", x="1"),
        total(samples, "a_total", y="2"),
        total(samples, "a_total", x="1", y="2"),
        total(samples, "a_total", z="1"),
        total(samples, "b_total"),
    ]


def test_a_sample_has_its_name_labels_and_value() -> None:
    assert [Sample(name="up", labels={"a": "b"}, value=1.5)] == read('# TYPE up gauge\nup{a="b"} 1.5\n')


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<html>", id="a page"),
        pytest.param("a b c d e\n", id="words"),
        pytest.param('a{b="c} 1\n', id="a label without its end"),
    ],
)
def test_text_that_is_not_prometheus_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text)
