"""Measures crowdgate beside nginx, Varnish and HAProxy: python -m tests.bench.speed --help.

Each server has one core for itself, the load comes from another, rounds are by turns, figures are medians.
"""

import argparse
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from tests.bench.speed import machine, peers, report, workloads
from tests.bench.speed.figures import verdicts

_ROOT = Path(__file__).parents[3]


def main() -> int:
    options = _options()
    # What was started is ended, also where the benchmark is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found = measured(options)
    sys.stdout.write(report.text(found))
    if options.json == "-":
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    elif options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    if options.docs:
        report.write(found, _ROOT / "docs")
    missed = [one for one in verdicts(found["workloads"]) if one.met is False]
    return 1 if options.check and missed else 0


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for, as it is in the JSON file."""
    _raise_limits()
    on, cores = machine.described(), machine.cores()
    chosen = [one for one in workloads.workloads() if not options.only or one.name in options.only]
    names = [name for name in (options.peers or peers.NAMES) if peers.installed(name)]
    # This process works between rounds, never where a server does.
    os.sched_setaffinity(0, {cores.load})
    found: dict[str, Any] = {}
    failures: dict[str, dict[str, str]] = {}
    with peers.place() as where:
        for one in chosen:
            workloads.say(one.title)
            bench = workloads.Bench(
                where=where,
                cores=cores,
                rounds=options.rounds,
                seconds=options.seconds,
                connections=options.connections,
                names=names,
            )
            found[one.name] = one.measure(bench)
            if bench.failures:
                failures[one.name] = bench.failures
    return report.document(options, on, found, failures)


def _raise_limits() -> None:
    """A crowd of a thousand has a file descriptor each, in the clients, the server and the API."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.speed", description=__doc__)
    names = [one.name for one in workloads.workloads()]
    parser.add_argument("--seconds", type=int, default=4, help="of each round (4)")
    parser.add_argument("--rounds", type=int, default=5, help="of each server in each workload (5)")
    parser.add_argument("--connections", type=int, default=64, help="of the load generator (64)")
    parser.add_argument("--only", type=_among(names), metavar="NAME,...", help=f"of {', '.join(names)}")
    parser.add_argument(
        "--peers", type=_among(peers.NAMES), metavar="NAME,...", help=f"of {', '.join(peers.NAMES)}"
    )
    parser.add_argument("--json", metavar="FILE", help="- for standard output")
    parser.add_argument("--docs", action="store_true", help="write docs/performance.md and its chart")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    return parser.parse_args()


def _among(known: list[str]) -> Any:
    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)} (known: {', '.join(known)})")
        return found

    return names


if __name__ == "__main__":
    sys.exit(main())
