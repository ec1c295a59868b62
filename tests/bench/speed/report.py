"""What was measured, as a JSON document, as text, and as the page in docs/."""

import argparse
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.speed import chart, configs, table, versions
from tests.bench.speed.figures import Found, verdicts

BEGIN = "<!-- begin: written by `python -m tests.bench.speed --docs` -->"
END = "<!-- end -->"
_PARTS: dict[str, tuple[str, Callable[[Found], str]]] = {
    "burst": ("Cold start: 1,000 clients ask at once for one key, the API takes 200 ms", table.burst),
    "latency": ("Latency of hits at half of saturation", table.latency),
    "memory": ("Memory and start", table.memory),
}


def document(
    options: argparse.Namespace,
    on: dict[str, str | int],
    found: dict[str, Any],
    failures: dict[str, dict[str, str]],
) -> dict[str, Any]:
    """The JSON file. Its keys are documented in docs/performance.md."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "tests.bench.speed", *sys.argv[1:]]),
        "machine": on,
        "versions": versions.found(),
        "settings": {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "connections": options.connections,
            "routes": configs.routes(),
        },
        "workloads": found,
        "failures": failures,
        "verdicts": [
            {
                "name": one.target.name,
                "title": one.target.title,
                "wanted": one.target.wanted,
                "measured": one.measured,
                "met": one.met,
            }
            for one in verdicts(found)
        ],
    }


def text(made: dict[str, Any]) -> str:
    """For people."""
    found: Found = made["workloads"]
    parts = [_circumstances(made), table.verdict_table(verdicts(found))]
    if any(workload in found for workload in table.SATURATED):
        parts.append("All the load that a server takes\n\n" + table.saturated(found) + table.notes(found))
    parts += [f"{title}\n\n{show(found)}" for name, (title, show) in _PARTS.items() if name in found]
    parts += _failures(made)
    return "\n".join(parts)


def write(made: dict[str, Any], folder: Path) -> None:
    """Put the figures into the page, between its markers, and draw the chart."""
    page = folder / "performance.md"
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found_end:
        raise SystemExit(f"{page} has lost its markers")
    page.write_text(f"{before}{BEGIN}\n\n{_markdown(made)}\n{END}{after}", "utf-8")
    below = (
        f"{made['date'][:10]}, {made['machine']['cpu_model']}, medians of {made['settings']['rounds']} rounds"
    )
    (folder / "performance.svg").write_text(chart.svg(made["workloads"], below), "utf-8")


def _markdown(made: dict[str, Any]) -> str:
    found: Found = made["workloads"]
    parts = [
        _circumstances(made),
        "### Targets\n\n" + table.verdict_table(verdicts(found)),
        "### All the load that a server takes\n\n" + table.saturated(found) + table.notes(found),
    ]
    parts += [f"### {title}\n\n{show(found)}" for name, (title, show) in _PARTS.items() if name in found]
    parts += _failures(made)
    return "\n".join(parts)


def _circumstances(made: dict[str, Any]) -> str:
    on, how = made["machine"], made["settings"]
    programs = ", ".join(
        f"{name} {version or '(not installed)'}" for name, version in made["versions"].items()
    )
    return (
        f"{made['date'][:10]}, {on['cores']} cores of {on['cpu_model']}, Linux {on['kernel']}; "
        f"{how['rounds']} rounds of {how['seconds']} s, {how['connections']} connections, {how['routes']} routes.\n"
        f"{programs}.\n"
        f"`{made['command']}`\n"
    )


def _failures(made: dict[str, Any]) -> list[str]:
    return [
        f"FAILED: {workload}: {server}: {problem}\n"
        for workload, failed in made["failures"].items()
        for server, problem in failed.items()
    ]
