"""What a proxy's metrics amount to for a person: the admin port writes it, the dashboard and the commands read it.

Counters become totals, ratios and estimated quantiles, over the process's life or between two looks at it (`between`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from proxy import metrics
from proxy.metrics import BUCKETS_S, Sample, total
from proxy.policy.outcome import HITS, Outcome

MISSES = frozenset({Outcome.MISS, Outcome.REVALIDATED})
"""For these the API was asked."""

_BUCKET = f"{metrics.REQUEST_SECONDS}_bucket"


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one route, or of all of them."""

    route: str
    requests: int
    hits: int
    misses: int
    bypasses: int
    errors: int
    hit_ratio: float | None
    """Hits among all requests; None without any."""
    p50_seconds: float | None
    p99_seconds: float | None
    upstream_requests: int
    outcomes: dict[str, int]
    """Requests by the metric label `cache`; all of them are there."""
    buckets: tuple[int, ...]
    """Requests that took at most so long: by `bucket_seconds`, and then all."""


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """The API."""

    requests: int
    failures: int
    """No answer, or one of 500 and above."""
    inflight: int
    p50_seconds: float | None
    p99_seconds: float | None


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The first tier."""

    bytes: int
    max_bytes: int
    entries: int
    evictions: int


class Redis(msgspec.Struct, frozen=True, kw_only=True):
    """The second tier."""

    state: Literal["up", "down", "none"]
    errors: int
    p99_seconds: float | None


class Purges(msgspec.Struct, frozen=True, kw_only=True):
    """Purges applied here, from all replicas."""

    applied: int
    lag_seconds: float
    log_readable: bool
    losses: int
    """Times that the log was lost and all that was stored dropped."""


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """This replica among the others."""

    replicas: int
    """That are alive, as far as this one knows."""
    leases: dict[str, int]
    """Times that it wanted to ask the API for all, by what became of it: won, lost, passed, free."""
    early_refreshes: int
    preloaded_entries: int


class Reload(msgspec.Struct, frozen=True, kw_only=True):
    """The config file."""

    failures: int
    succeeded_at: float
    """Unix seconds."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the metrics alone do not say."""

    unready: tuple[str, ...]
    """Why the proxy should get no requests; empty where it may."""
    memory_max_bytes: int
    has_redis: bool
    log_readable: bool


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, as `/api/stats` has it."""

    version: str
    ready: bool
    unready: tuple[str, ...]
    inflight: int
    connections: int
    total: Traffic
    routes: tuple[Traffic, ...]
    """Busiest first."""
    upstream: Upstream
    memory: Memory
    redis: Redis
    purges: Purges
    fleet: Fleet
    reload: Reload
    bucket_seconds: tuple[float, ...] = BUCKETS_S


def figures(samples: Sequence[Sample], state: State) -> Figures:
    """The figures since the proxy's start."""
    up = total(samples, metrics.REDIS_UP) > 0
    overall, routes = _traffic(samples)
    return Figures(
        version=next((s.labels.get("version", "") for s in samples if s.name == metrics.BUILD), ""),
        ready=not state.unready,
        unready=state.unready,
        inflight=_count(samples, metrics.INFLIGHT),
        connections=_count(samples, metrics.CONNECTIONS),
        total=overall,
        routes=routes,
        upstream=_upstream(samples),
        memory=Memory(
            bytes=_count(samples, metrics.MEMORY_BYTES),
            max_bytes=state.memory_max_bytes,
            entries=_count(samples, metrics.MEMORY_ENTRIES),
            evictions=_count(samples, metrics.EVICTIONS),
        ),
        redis=Redis(
            state=("up" if up else "down") if state.has_redis else "none",
            errors=_count(samples, metrics.REDIS_ERRORS),
            p99_seconds=quantile(0.99, _buckets(samples, f"{metrics.REDIS_SECONDS}_bucket")),
        ),
        purges=Purges(
            applied=_count(samples, metrics.PURGES),
            lag_seconds=round(total(samples, metrics.PURGE_LAG), 6),
            log_readable=state.log_readable,
            losses=_count(samples, metrics.PURGE_LOSSES),
        ),
        fleet=Fleet(
            replicas=_count(samples, metrics.REPLICAS),
            leases={s.labels["turn"]: int(s.value) for s in samples if s.name == metrics.LEASES},
            early_refreshes=_count(samples, metrics.EARLY),
            preloaded_entries=_count(samples, metrics.PRELOADED),
        ),
        reload=Reload(
            failures=_count(samples, metrics.RELOAD_FAILURES),
            succeeded_at=total(samples, metrics.RELOADED),
        ),
    )


def between(before: Figures, after: Figures) -> Figures:
    """What happened from one look to the next: requests, ratios and quantiles of that time, all else as it is now.

    Where a counter went back the proxy was restarted, and what it says now is all that is known.
    """
    if after.total.requests < before.total.requests:
        return after
    earlier = {traffic.route: traffic for traffic in before.routes}
    routes = [_difference(earlier.get(traffic.route), traffic) for traffic in after.routes]
    return msgspec.structs.replace(
        after,
        total=_difference(before.total, after.total),
        routes=tuple(sorted(routes, key=lambda traffic: (-traffic.requests, traffic.route))),
        upstream=msgspec.structs.replace(
            after.upstream,
            requests=after.upstream.requests - before.upstream.requests,
            failures=after.upstream.failures - before.upstream.failures,
        ),
    )


def quantile(share: float, buckets: Sequence[int]) -> float | None:
    """Seconds that `share` of the requests took at most, estimated within a bucket as Prometheus does it.

    None without requests; the last bound where the answer lies beyond it.
    """
    rank = share * buckets[-1] if buckets else 0.0
    if rank <= 0:
        return None
    index = next(i for i, count in enumerate(buckets) if count >= rank)
    if index >= len(BUCKETS_S):
        return BUCKETS_S[-1]
    lower, below = (BUCKETS_S[index - 1], buckets[index - 1]) if index else (0.0, 0)
    part = (rank - below) / (buckets[index] - below)
    return round(lower + (BUCKETS_S[index] - lower) * part, 6)


def _traffic(samples: Sequence[Sample]) -> tuple[Traffic, tuple[Traffic, ...]]:
    """Over all, and by route, in one pass: two thousand routes have a quarter of a million samples."""
    outcomes: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    buckets: defaultdict[str, dict[str, int]] = defaultdict(dict)
    upstream: defaultdict[str, int] = defaultdict(int)
    for sample in samples:
        route = sample.labels.get("route", "")
        if sample.name == metrics.REQUESTS:
            outcomes[route][sample.labels["cache"]] += int(sample.value)
        elif sample.name == metrics.UPSTREAM_REQUESTS:
            upstream[route] += int(sample.value)
        elif sample.name == _BUCKET:
            bound = sample.labels["le"]
            buckets[route][bound] = buckets[route].get(bound, 0) + int(sample.value)
    routes = [
        _of_route(route, outcomes.get(route, {}), tuple(buckets.get(route, {}).values()), upstream[route])
        for route in outcomes.keys() | upstream.keys()
    ]
    routes.sort(key=lambda traffic: (-traffic.requests, traffic.route))
    return _sum(routes), tuple(routes)


def _of_route(
    route: str, outcomes: Mapping[str, int], buckets: tuple[int, ...], upstream_requests: int
) -> Traffic:
    by_outcome = {outcome: outcomes.get(outcome.value, 0) for outcome in Outcome}
    requests = sum(by_outcome.values())
    hits = sum(by_outcome[outcome] for outcome in HITS)
    return Traffic(
        route=route,
        requests=requests,
        hits=hits,
        misses=sum(by_outcome[outcome] for outcome in MISSES),
        bypasses=by_outcome[Outcome.BYPASS],
        errors=by_outcome[Outcome.ERROR],
        hit_ratio=round(hits / requests, 6) if requests else None,
        p50_seconds=quantile(0.5, buckets),
        p99_seconds=quantile(0.99, buckets),
        upstream_requests=upstream_requests,
        outcomes={outcome.value: count for outcome, count in by_outcome.items()},
        buckets=buckets or (0,) * (len(BUCKETS_S) + 1),
    )


def _sum(routes: Iterable[Traffic]) -> Traffic:
    outcomes: defaultdict[str, int] = defaultdict(int)
    buckets = [0] * (len(BUCKETS_S) + 1)
    upstream_requests = 0
    for traffic in routes:
        for outcome, count in traffic.outcomes.items():
            outcomes[outcome] += count
        buckets = [one + other for one, other in zip(buckets, traffic.buckets, strict=True)]
        upstream_requests += traffic.upstream_requests
    return _of_route("", outcomes, tuple(buckets), upstream_requests)


def _difference(before: Traffic | None, after: Traffic) -> Traffic:
    if before is None:
        return after
    return _of_route(
        after.route,
        {outcome: count - before.outcomes.get(outcome, 0) for outcome, count in after.outcomes.items()},
        tuple(now - then for now, then in zip(after.buckets, before.buckets, strict=True)),
        after.upstream_requests - before.upstream_requests,
    )


def _upstream(samples: Sequence[Sample]) -> Upstream:
    asked = [sample for sample in samples if sample.name == metrics.UPSTREAM_REQUESTS]
    buckets = _buckets(samples, f"{metrics.UPSTREAM_SECONDS}_bucket")
    return Upstream(
        requests=int(sum(sample.value for sample in asked)),
        failures=int(sum(sample.value for sample in asked if not _answered(sample.labels["code"]))),
        inflight=_count(samples, metrics.UPSTREAM_INFLIGHT),
        p50_seconds=quantile(0.5, buckets),
        p99_seconds=quantile(0.99, buckets),
    )


def _answered(code: str) -> bool:
    return code.isdigit() and int(code) < 500


def _buckets(samples: Iterable[Sample], name: str) -> tuple[int, ...]:
    """A histogram's cumulative counts, whatever its other labels are."""
    counts: dict[str, int] = {}
    for sample in samples:
        if sample.name == name:
            bound = sample.labels["le"]
            counts[bound] = counts.get(bound, 0) + int(sample.value)
    return tuple(counts.values())


def _count(samples: Iterable[Sample], name: str) -> int:
    return int(total(samples, name))
