"""`stats`: what a proxy has done since its start."""
# ruff: noqa: PLC0415 - msgspec is loaded when it is used, so that `--help` stays quick

from typing import TYPE_CHECKING

import click

from proxy.commands.admin_client import admin_option, ask, strange, token_option
from proxy.commands.output import duration, json_option, percent, report, size, table

if TYPE_CHECKING:
    from proxy.figures import Figures, Traffic

_HEAD = ("route", "requests", "hits", "misses", "hit ratio", "p50", "p99", "to the API")


@click.command("stats")
@admin_option
@token_option
@json_option
def command(admin: str, token: str, json_file: str | None) -> None:
    """Show what a proxy has done since its start.

    Requests by outcome and by route, and the state of memory, Redis and purges. p50 and p99 are estimated from histograms.
    """
    import msgspec

    figures = fetch(admin, token)
    report(msgspec.to_builtins(figures), text(figures), json_file)


def fetch(admin: str, token: str, timeout_s: float = 10.0) -> "Figures":
    """A proxy's figures. Raises ClickException."""
    import msgspec

    from proxy.figures import Figures

    reply = ask(admin, "/api/stats", token=token, timeout_s=timeout_s)
    try:
        return msgspec.convert(reply.document, Figures)
    except msgspec.ValidationError as error:
        raise strange(f"{admin}/api/stats", reply.status) from error


def text(figures: "Figures") -> str:
    """The figures for people."""
    total = figures.total
    outcomes = [(name, f"{count}") for name, count in total.outcomes.items() if count]
    rows = [_row(traffic.route, traffic) for traffic in figures.routes]
    return "\n\n".join(
        part
        for part in (
            "\n".join(state(figures)),
            table(("requests by outcome", ""), outcomes) if outcomes else "",
            table(_HEAD, [*rows, _row("all", total)]) if rows else "no requests yet",
        )
        if part
    )


def state(figures: "Figures") -> list[str]:
    """Everything but the requests, in lines."""
    memory, redis, purges, upstream = figures.memory, figures.redis, figures.purges, figures.upstream
    fleet = figures.fleet
    leases = ", ".join(f"{count} {turn}" for turn, count in fleet.leases.items()) or "none"
    ready = "ready" if figures.ready else f"not ready ({', '.join(figures.unready)})"
    flow = f"{figures.inflight} in flight, {figures.connections} connections"
    full = f"{size(memory.bytes)} of {size(memory.max_bytes)}"
    lag = duration(purges.lag_seconds) if purges.log_readable else "unknown: the log cannot be read"
    return [
        f"crowdgate {figures.version}: {ready}, {flow}",
        f"memory: {full}, {memory.entries} entries, {memory.evictions} evictions",
        f"redis: {redis.state}, {redis.errors} errors, p99 {duration(redis.p99_seconds)}",
        f"API: {upstream.requests} requests, {upstream.failures} failures, p99 {duration(upstream.p99_seconds)}",
        f"purges: {purges.applied} applied, lag {lag}, {purges.losses} losses of the log",
        f"fleet: {fleet.replicas} alive, leases: {leases}; {fleet.early_refreshes} early refreshes",
        f"config: {figures.reload.failures} failed reloads",
    ]


def _row(name: str, traffic: "Traffic") -> tuple[str, ...]:
    return (
        name,
        f"{traffic.requests}",
        f"{traffic.hits}",
        f"{traffic.misses}",
        percent(traffic.hit_ratio),
        duration(traffic.p50_seconds),
        duration(traffic.p99_seconds),
        f"{traffic.upstream_requests}",
    )
