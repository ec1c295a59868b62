"""`stats` against a running proxy, and its text."""

import asyncio
import re

from tests.flow.client import fetch
from tests.proxy.commands.running import document, run
from tests.proxy.commands.test_admin_client import answering
from tests.proxy.live import Live


def test_requests_are_shown_by_outcome_and_by_route(here: Live) -> None:
    for target in ("/api/events?page=9", "/api/events?page=9", "/elsewhere"):
        asyncio.run(fetch(here.port, target))
    text = run("stats", "--admin", here.admin).stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert re.match(r"crowdgate \S+: ready, 0 in flight, \d+ connections", lines[0])
    assert "redis: none, 0 errors, p99 -" in lines
    assert {"hit_memory 1", "miss 1", "bypass 1"} <= set(lines)
    assert any(re.match(r"events 2 1 1 50\.0 % [\d.]+ ms [\d.]+ ms 1$", line) for line in lines)
    assert lines[-1].startswith("all 3 1 1 33.3 %")


def test_json_has_the_same_in_names_that_stay(here: Live) -> None:
    figures = document("stats", "--admin", here.admin)
    assert set(figures) == {
        "version",
        "ready",
        "unready",
        "inflight",
        "connections",
        "total",
        "routes",
        "upstream",
        "memory",
        "redis",
        "purges",
        "fleet",
        "reload",
        "bucket_seconds",
    }
    assert set(figures["total"]) == {
        "route",
        "requests",
        "hits",
        "misses",
        "bypasses",
        "errors",
        "hit_ratio",
        "p50_seconds",
        "p99_seconds",
        "upstream_requests",
        "outcomes",
        "buckets",
    }


def test_the_port_for_clients_is_not_taken_for_the_admin_port(here: Live) -> None:
    found = run("stats", "--admin", f"http://127.0.0.1:{here.port}")
    assert (1, True) == (
        found.exit_code,
        "not as an admin port does: check that --admin names" in found.stderr,
    )


def test_json_of_somebody_elses_is_not_taken_for_figures() -> None:
    with answering(200, b'{"total": 1}') as (admin, _):
        found = run("stats", "--admin", admin)
    assert (1, True) == (found.exit_code, "answers 200, not as an admin port does" in found.stderr)
