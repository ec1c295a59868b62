"""The arithmetic of the benchmark: medians of rounds, ratios between servers, and whether the targets are reached."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of one server under all the load that it takes."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_request: float
    """User and system time of the server and its children."""
    server_busy: float
    """The share of its core that the server used. Well below 1: something else was the limit."""
    load_busy: float
    """The share of its core that the load generator used."""
    others_busy: float
    """The share of the server's core that went to anything else: above a few percent the figures are worth little."""
    errors: int
    """Bad statuses, broken connections, timeouts. A round with any does not count."""
    origin_requests: int = 0
    """What reached the API."""
    redis_commands: int = 0
    """What reached Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """One round of one server at a constant rate."""

    rate: int
    answered_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_p99_ms: float
    """How late the load generator itself was; part of the latencies above."""
    cpu_us_per_request: float
    others_busy: float
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """A crowd that asks at once for what nobody has asked for before."""

    clients: int
    origin_requests: int
    seconds: float
    """From the first connection's start to the last answer."""
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a server holds of memory, and what it holds more for each stored answer."""

    idle_bytes: int
    """After the start, before any request. Where several processes share memory, it counts once."""
    bytes_per_object: float | None
    """Growth of that by storing the objects, files of a cache in memory included. None: it is all reserved at the start."""
    objects: int
    ready_s: float | None
    """From the start of the process until it says that it is ready, for those that say so."""


Measured = Round | Pace | Burst | Memory


def middle(rounds: Sequence[Measured]) -> dict[str, Any]:
    """Of each figure its median over the rounds without errors; and how many rounds there were, and how many had some."""
    good = [one for one in rounds if not getattr(one, "errors", 0)]
    found: dict[str, Any] = {}
    for name in (field.name for field in fields(rounds[0])):
        values = [getattr(one, name) for one in good if getattr(one, name) is not None]
        if name != "errors":
            found[name] = _median(values)
    errors = sum(getattr(one, "errors", 0) for one in rounds)
    return {**found, "rounds": len(rounds), "invalid_rounds": len(rounds) - len(good), "errors": errors}


def _median(values: Sequence[float]) -> float | None:
    if not values:
        return None
    found = median(values)
    return int(found) if all(isinstance(value, int) for value in values) and found == int(found) else found


# What was found: workload, server, figure.
Found = Mapping[str, Mapping[str, Mapping[str, Any]]]


def figure(found: Found, workload: str, server: str, name: str) -> float | None:
    value = found.get(workload, {}).get(server, {}).get(name)
    return None if value is None else float(value)


def ratio(found: Found, workload: str, peer: str, name: str) -> float | None:
    """Ours over a peer's."""
    ours, theirs = (figure(found, workload, server, name) for server in ("crowdgate", peer))
    return ours / theirs if ours is not None and theirs else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A promise about one figure: `peer` names whose figure ours is divided by."""

    name: str
    title: str
    workload: str
    figure: str
    peer: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "×"
    scale: float = 1.0
    """What the figure is divided by to be in `unit`."""

    @property
    def wanted(self) -> str:
        sign, limit = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        return f"{sign} {limit:,g} {self.unit}"


_IDENTICAL, _DIFFERENT, _ZIPF, _PASS = "identical", "different", "zipf", "pass"
_SPEED, _CPU = "requests_per_s", "cpu_us_per_request"

TARGETS = (
    Target(
        name="identical_vs_nginx", title="Hits, identical requests: req/s over nginx's",
        workload=_IDENTICAL, figure=_SPEED, peer="nginx", at_least=1.3,
    ),
    Target(
        name="identical_vs_varnish", title="Hits, identical requests: req/s over Varnish's",
        workload=_IDENTICAL, figure=_SPEED, peer="varnish", at_least=2.0,
    ),
    Target(
        name="identical_cpu_vs_nginx", title="Hits, identical requests: CPU per request over nginx's",
        workload=_IDENTICAL, figure=_CPU, peer="nginx", at_most=0.8,
    ),
    Target(
        name="different_vs_nginx", title="Hits, all requests different: req/s over nginx's",
        workload=_DIFFERENT, figure=_SPEED, peer="nginx", at_least=0.9,
    ),
    Target(
        name="different_vs_varnish", title="Hits, all requests different: req/s over Varnish's",
        workload=_DIFFERENT, figure=_SPEED, peer="varnish", at_least=1.5,
    ),
    Target(
        name="zipf_vs_nginx", title="Hits on 10,000 Zipf keys: req/s over nginx's",
        workload=_ZIPF, figure=_SPEED, peer="nginx", at_least=0.9,
    ),
    Target(
        name="redis_requests_per_s", title="Hits from Redis",
        workload="redis", figure=_SPEED, at_least=40_000, unit="req/s",
    ),
    Target(
        name="pass_vs_nginx", title="GET passed through: req/s over nginx's",
        workload=_PASS, figure=_SPEED, peer="nginx", at_least=0.5,
    ),
    Target(
        name="p99_vs_nginx", title="p99 of hits at half of saturation over nginx's",
        workload="latency", figure="p99_ms", peer="nginx", at_most=1.5,
    ),
    Target(
        name="idle_bytes", title="Memory of the idle process (RSS)",
        workload="memory", figure="idle_bytes", at_most=64, unit="MB", scale=1e6,
    ),
    Target(
        name="bytes_per_object", title="Memory per cached answer of 1 KiB",
        workload="memory", figure="bytes_per_object", at_most=2048, unit="bytes",
    ),
    Target(
        name="ready", title="Ready after the start",
        workload="memory", figure="ready_s", at_most=0.5, unit="s",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a target is reached; not known where something was not measured."""

    target: Target
    measured: float | None
    met: bool | None


def verdict(target: Target, found: Found) -> Verdict:
    if target.peer is None:
        measured = figure(found, target.workload, "crowdgate", target.figure)
    else:
        measured = ratio(found, target.workload, target.peer, target.figure)
    if measured is None:
        return Verdict(target=target, measured=None, met=None)
    measured /= target.scale
    compare: Callable[[float, float], bool]
    compare, limit = (
        (operator.ge, target.at_least) if target.at_least is not None else (operator.le, target.at_most)
    )
    assert limit is not None
    return Verdict(target=target, measured=measured, met=compare(measured, limit))


def verdicts(found: Found) -> list[Verdict]:
    return [verdict(target, found) for target in TARGETS]
