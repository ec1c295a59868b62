"""Figures as Markdown tables, which also read well in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.speed.figures import Found, Verdict, figure

SERVERS = {
    "nginx": "nginx",
    "varnish": "Varnish",
    "haproxy": "HAProxy",
    "redis-py": "aiohttp + redis-py",
    "crowdgate": "crowdgate",
}
SATURATED = {
    "identical": "Hits, identical requests",
    "different": "Hits, all requests different",
    "zipf": "Hits on 10,000 Zipf keys",
    "redis": "Hits from Redis, memory off",
    "pass": "GET passed through",
    "post": "POST passed through",
}
_FULL = 0.97
"""A core that is used so much has no more to give."""
_SPARE = 0.9
_DISTURBED = 0.05


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, figures to the right."""
    widths = [max(len(row[number]) for row in (heads, *rows)) for number in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join((line(heads), line(rule), *(line(row) for row in rows))) + "\n"


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    rows = [
        (one.target.title, one.target.wanted, _measured(one), {True: "yes", False: "NO", None: "—"}[one.met])
        for one in verdicts
    ]
    return table(("Target", "wanted", "measured", "reached"), rows)


def _measured(one: Verdict) -> str:
    if one.measured is None:
        return "—"
    return f"{one.measured:,.0f}" if one.measured >= 1000 else f"{one.measured:.2f}"


def saturated(found: Found) -> str:
    """All the load that a server takes."""
    rows = [
        _saturated_row(found, workload, server)
        for workload in SATURATED
        for server in SERVERS
        if server in found.get(workload, {})
    ]
    heads = (
        "Workload",
        "server",
        "req/s",
        "× nginx",
        "p50 ms",
        "p99 ms",
        "CPU µs",
        "server core",
        "load core",
        "rounds",
    )
    return table(heads, rows)


def _saturated_row(found: Found, workload: str, server: str) -> tuple[str, ...]:
    of = found[workload][server]
    nginx = figure(found, workload, "nginx", "requests_per_s")
    speed = of["requests_per_s"]
    return (
        SATURATED[workload],
        SERVERS[server],
        _number(speed) + _mark(of),
        "—" if nginx is None or speed is None else f"{speed / nginx:.2f}",
        _number(of["p50_ms"], 2),
        _number(of["p99_ms"], 2),
        _number(of["cpu_us_per_request"], 1),
        _share(of["server_busy"]),
        _share(of["load_busy"]),
        _rounds(of),
    )


def _mark(of: Mapping[str, Any]) -> str:
    """What a reader must know of a figure."""
    if of["requests_per_s"] is None:
        return ""
    limited = "*" if of["load_busy"] >= _FULL and of["server_busy"] < _SPARE else ""
    return limited + ("!" if of["others_busy"] > _DISTURBED else "")


def notes(found: Found) -> str:
    """What the marks mean, of those that are there."""
    marks = "".join(_mark(of) for workload in SATURATED for of in found.get(workload, {}).values())
    said = {
        "*": "the load generator had no more to give, while the server had: it can do more than this.",
        "!": "something else ran on the server's core for more than 5 % of the time: measure again.",
    }
    return "".join(f"\n`{mark}` {text}\n" for mark, text in said.items() if mark in marks)


def burst(found: Found) -> str:
    rows = [
        (
            SERVERS[server],
            _number(of["origin_requests"]),
            _number(of["seconds"], 2),
            str(of["errors"]),
            _rounds(of),
        )
        for server, of in found["burst"].items()
    ]
    return table(
        ("Server", "requests that reached the API", "s until all were answered", "failures", "rounds"), rows
    )


def latency(found: Found) -> str:
    rows = [
        (
            SERVERS[server],
            _number(of["saturation_requests_per_s"]),
            _number(of["rate"]),
            _number(of["p50_ms"], 3),
            _number(of["p99_ms"], 3) + ("!" if _is_disturbed(of) else ""),
            _number(of["p999_ms"], 3),
            _number(of["late_p99_ms"], 3),
            _number(of["cpu_us_per_request"], 1),
            _rounds(of),
        )
        for server, of in found["latency"].items()
    ]
    heads = (
        "Server",
        "saturation req/s",
        "asked req/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "generator late p99 ms",
        "CPU µs",
        "rounds",
    )
    said = "\n`!` something else ran on the core of the server or of the load generator: measure again.\n"
    return table(heads, rows) + (said if any(map(_is_disturbed, found["latency"].values())) else "")


def _is_disturbed(of: Mapping[str, Any]) -> bool:
    """Whether the latencies are those of something else: of the generator, or of whoever took the server's core."""
    if of["p99_ms"] is None:
        return False
    return bool(of["late_p99_ms"] > of["p99_ms"] / 4 or of["others_busy"] > _DISTURBED)


def memory(found: Found) -> str:
    rows = [
        (
            SERVERS[server],
            _number(None if of["idle_bytes"] is None else of["idle_bytes"] / 1e6, 1),
            _number(of["bytes_per_object"]),
            _number(of["ready_s"], 2),
        )
        for server, of in found["memory"].items()
    ]
    return table(("Server", "idle MB", "bytes per answer of 1 KiB", "s until ready"), rows)


def _number(value: float | None, digits: int = 0) -> str:
    return "—" if value is None else f"{value:,.{digits}f}"


def _share(value: float | None) -> str:
    return "—" if value is None else f"{value:.0%}"


def _rounds(of: Mapping[str, Any]) -> str:
    bad = of["invalid_rounds"]
    return f"{of['rounds']}" if not bad else f"{of['rounds']}, {bad} with errors"
