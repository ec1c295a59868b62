import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from proxy import metrics as m
from proxy.metrics import Metrics, Sample, read, total
from proxy.policy.outcome import HITS, Outcome


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
    assert {m.STARTED} == {family.name for family in families if not family.name.startswith("crowdgate_")}


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
        pytest.param(m.STARTED, "started_at", id="started"),
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


# -- the load: all routes in a few numbers --


def of_load(metrics: Metrics) -> dict[str, float]:
    found = exposed(metrics)
    return {s.labels["of"]: s.value for s in found if s.name == m.LOAD} | {"s": total(found, m.LOAD_SECONDS)}


def test_the_load_is_there_from_the_start() -> None:
    names = ("hits", "requests", "upstream_failures", "upstream_requests", "s")
    assert dict.fromkeys(names, 0.0) == of_load(Metrics("1"))


def test_the_load_adds_up_all_routes() -> None:
    metrics = Metrics("1")
    for route in ("events", "-"):
        for outcome in Outcome:
            metrics.request(route, "GET", 200, outcome, 0.1)
        for code in ("200", "404", "500", "502", "503", "504", "timeout", "connect"):
            metrics.upstream(route, code, 0.25)

    expected = {"hits": 8, "requests": 16, "upstream_failures": 10, "upstream_requests": 16, "s": 4.0}
    assert expected == of_load(metrics)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(Outcome), st.sampled_from((200, 404)))))
def test_the_load_is_what_the_routes_add_up_to(requests: list[tuple[str, Outcome, int]]) -> None:
    metrics = Metrics("1")
    for route, outcome, status in requests:
        metrics.request(route, "GET", status, outcome, 0.1)
        if outcome is Outcome.MISS:
            metrics.upstream(route, str(status), 0.1)

    found, load = exposed(metrics), of_load(metrics)
    hits = sum(total(found, m.REQUESTS, cache=outcome.value) for outcome in HITS)
    assert (total(found, m.REQUESTS), hits, total(found, m.UPSTREAM_REQUESTS)) == (
        load["requests"],
        load["hits"],
        load["upstream_requests"],
    )
    # No count of its own beside the sum: the mean is over the requests to the API.
    assert load["upstream_requests"] == total(found, f"{m.UPSTREAM_SECONDS}_count")


# -- some of them --


@pytest.mark.parametrize(
    ("names", "families"),
    [
        pytest.param([m.REDIS_UP], [m.REDIS_UP], id="a gauge"),
        pytest.param([m.REQUESTS], [m.REQUESTS], id="a counter"),
        pytest.param(["crowdgate_requests"], [m.REQUESTS], id="a counter as OpenMetrics calls it"),
        pytest.param([m.UPSTREAM_SECONDS], [m.UPSTREAM_SECONDS], id="a histogram"),
        pytest.param([f"{m.UPSTREAM_SECONDS}_bucket"], [m.UPSTREAM_SECONDS], id="its buckets"),
        pytest.param([f"{m.UPSTREAM_SECONDS}_count"], [m.UPSTREAM_SECONDS], id="its count"),
        pytest.param([f"{m.UPSTREAM_SECONDS}_sum"], [m.UPSTREAM_SECONDS], id="its sum"),
        pytest.param([f"{m.REDIS_UP}_sum"], [], id="a gauge has no sum"),
        pytest.param(["crowdgate_", "", "*"], [], id="no beginnings and no patterns"),
        pytest.param([], [], id="none"),
        pytest.param([m.REDIS_UP, "up", m.LOAD, m.REDIS_UP], [m.LOAD, m.REDIS_UP], id="several, one twice"),
    ],
)
def test_families_are_chosen_by_name(metrics: Metrics, names: list[str], families: list[str]) -> None:
    text = "".join(metrics.pieces(names))

    assert families == [line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert set(text.splitlines()) <= set(metrics.render().decode().splitlines())


def test_without_a_choice_it_is_all_of_them(metrics: Metrics) -> None:
    assert metrics.render().decode() == "".join(metrics.pieces(None))


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
