"""What the figures make of the metrics: totals, ratios and quantiles, ever and between two looks."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import metrics
from proxy.figures import Figures, State, between, figures, quantile
from proxy.metrics import BUCKETS_S, Metrics
from proxy.policy.outcome import Outcome

STATE = State(unready=(), memory_max_bytes=100, has_redis=True, log_readable=True)


def seen(counted: Metrics, state: State = STATE) -> Figures:
    return figures(metrics.read(counted.render().decode()), state)


def a_minute() -> Metrics:
    counted = Metrics("1.2")
    for outcome, seconds in (
        (Outcome.HIT_MEMORY, 0.0004),
        (Outcome.HIT_REDIS, 0.0008),
        (Outcome.COLLAPSED, 0.02),
        (Outcome.STALE, 0.0004),
        (Outcome.MISS, 0.02),
        (Outcome.REVALIDATED, 0.02),
        (Outcome.ERROR, 3.0),
    ):
        counted.request("events", "GET", 200, outcome, seconds)
    counted.request("-", "POST", 201, Outcome.BYPASS, 0.02)
    for route, code in (("events", "200"), ("events", "503"), ("events", "timeout"), ("-", "201")):
        counted.upstream(route, code, 0.02)
    return counted


def test_requests_are_counted_by_route_the_busiest_first() -> None:
    events, none = seen(a_minute()).routes
    assert ("events", 7, 4, 2, 0, 1, 3) == (
        events.route,
        events.requests,
        events.hits,
        events.misses,
        events.bypasses,
        events.errors,
        events.upstream_requests,
    )
    assert ("-", 1, 0, 0, 1, 0, 1, 0.0) == (
        none.route,
        none.requests,
        none.hits,
        none.misses,
        none.bypasses,
        none.errors,
        none.upstream_requests,
        none.hit_ratio,
    )


def test_all_routes_together_are_the_total() -> None:
    now = seen(a_minute())
    assert (8, 0.5, 4) == (now.total.requests, now.total.hit_ratio, now.total.upstream_requests)
    assert (4, 2) == (now.upstream.requests, now.upstream.failures)
    assert set(now.total.outcomes) == {outcome.value for outcome in Outcome}


def test_nothing_known_is_no_zero() -> None:
    now = seen(Metrics("1.2"))
    assert ((), None, None, None) == (
        now.routes,
        now.total.hit_ratio,
        now.total.p99_seconds,
        now.upstream.p50_seconds,
    )
    assert len(now.total.buckets) == len(now.bucket_seconds) + 1


def test_what_is_no_request_is_shown_too() -> None:
    counted = Metrics("1.2")
    counted.redis_up = True
    counted.failed("timeout")
    counted.count(metrics.PURGES, "tag")
    counted.gauge(metrics.MEMORY_BYTES, lambda: 50)
    counted.count(metrics.EARLY, "event")
    counted.reload_failures, counted.purge_lag_s, counted.purge_losses = 2, 0.25, 3
    now = seen(counted)
    assert ("1.2", True, "up", 1, 1, 0.25, 50, 100, 2) == (
        now.version,
        now.ready,
        now.redis.state,
        now.redis.errors,
        now.purges.applied,
        now.purges.lag_seconds,
        now.memory.bytes,
        now.memory.max_bytes,
        now.reload.failures,
    )
    assert (3, 1) == (now.purges.losses, now.fleet.early_refreshes)


def test_turns_are_told_apart() -> None:
    counted = Metrics("1.2")
    for turn in ("won", "won", "lost"):
        counted.count(metrics.LEASES, turn)
    counted.gauge(metrics.REPLICAS, lambda: 3)
    now = seen(counted)
    assert ({"won": 2, "lost": 1}, 3) == (now.fleet.leases, now.fleet.replicas)


@pytest.mark.parametrize(("has_redis", "state"), [(True, "down"), (False, "none")])
def test_no_redis_is_not_one_that_is_down(has_redis: bool, state: str) -> None:
    asked = State(unready=("warming",), memory_max_bytes=0, has_redis=has_redis, log_readable=True)
    now = seen(Metrics("1.2"), asked)
    assert (state, False, ("warming",)) == (now.redis.state, now.ready, now.unready)


def test_between_two_looks_only_what_is_new_counts() -> None:
    counted = a_minute()
    before = seen(counted)
    counted.request("event", "GET", 200, Outcome.HIT_MEMORY, 0.0004)
    counted.request("events", "GET", 200, Outcome.MISS, 0.2)
    counted.upstream("events", "200", 0.2)
    now = between(before, seen(counted))
    assert [("event", 1, 1.0), ("events", 1, 0.0), ("-", 0, None)] == [
        (route.route, route.requests, route.hit_ratio) for route in now.routes
    ]
    assert (2, 0.5, 1, 1, 0) == (
        now.total.requests,
        now.total.hit_ratio,
        now.total.upstream_requests,
        now.upstream.requests,
        now.upstream.failures,
    )
    assert 0.1 < (now.total.p99_seconds or 0) <= 0.25


def test_after_a_restart_all_that_is_known_is_new() -> None:
    fresh = Metrics("1.2")
    fresh.request("events", "GET", 200, Outcome.MISS, 0.01)
    assert between(seen(a_minute()), seen(fresh)) == seen(fresh)


@pytest.mark.parametrize(
    ("share", "counts", "expected"),
    [
        pytest.param(0.5, {0: 10}, 0.00025, id="within the first bucket"),
        pytest.param(0.99, {4: 100}, 0.00995, id="within a later one"),
        pytest.param(0.5, {4: 1, 5: 1}, 0.01, id="at a bound"),
        pytest.param(0.99, {len(BUCKETS_S): 1}, 5.0, id="beyond the last"),
        pytest.param(0.99, {}, None, id="no requests"),
    ],
)
def test_a_quantile_is_estimated_within_its_bucket(
    share: float, counts: dict[int, int], expected: float | None
) -> None:
    running, buckets = 0, []
    for index in range(len(BUCKETS_S) + 1):
        running += counts.get(index, 0)
        buckets.append(running)
    assert expected == quantile(share, buckets)


@given(st.lists(st.integers(0, 50), min_size=len(BUCKETS_S) + 1, max_size=len(BUCKETS_S) + 1))
def test_a_larger_share_takes_no_less_time(counts: list[int]) -> None:
    buckets = [sum(counts[: index + 1]) for index in range(len(counts))]
    found = [quantile(share, buckets) for share in (0.1, 0.5, 0.9, 0.99)]
    assert all((one or 0) <= (other or 0) for one, other in pairwise(found))
