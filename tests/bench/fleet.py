"""Five replicas as one cache, in figures: what the API is asked, what purges take, whether anybody waits.

python -m tests.bench.fleet [--json FILE] [--entries N] [--ttls N] [--only WORD]
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from tests import servers
from tests.fleet.cold import API_S, LEASE_S, REPLICAS, cold_key, holder_killed
from tests.fleet.purging import many_entries, purging
from tests.fleet.warmth import ALL_REPLICAS, ONE_REPLICAS, WARM_TTL_S, hot_key, kept_warm

Trial = Callable[[servers.Server], Awaitable[Any]]


def trials(entries: int, ttls: float) -> dict[str, Trial]:
    """By the name of their figures."""
    return {
        "cold_key": cold_key,
        "holder_killed": holder_killed,
        "purge": purging,
        "purge_of_many": lambda server: many_entries(server, entries),
        "warm_expiry": lambda server: kept_warm(server, ttls=ttls, restart=False),
        "warm_rolling_restart": lambda server: kept_warm(server, ttls=ttls, restart=True),
        "hot_key": lambda server: hot_key(server, ONE_REPLICAS, ttls=ttls),
        "hot_key_of_all": lambda server: hot_key(server, ALL_REPLICAS, ttls=ttls / 2),
    }


async def measure(wanted: dict[str, Trial]) -> dict[str, Any]:
    """The figures of each trial, on a Redis of its own."""
    figures: dict[str, Any] = {
        "replicas": REPLICAS,
        "api_s": API_S,
        "lease_s": LEASE_S,
        "warm_ttl_s": WARM_TTL_S,
    }
    for name, trial in wanted.items():
        with servers.redis() as server:
            figures[name] = asdict(told := await trial(server))
        report(name, told)
    return figures


def report(name: str, told: Any) -> None:
    """One trial, a line for each figure."""
    print(f"\n{name.replace('_', ' ')}", file=sys.stderr)
    for field in fields(told):
        value = getattr(told, field.name)
        print(f"  {field.name:24} {_shown(value)}", file=sys.stderr)


def _shown(value: Any) -> str:
    if is_dataclass(value):
        return "  ".join(f"{field.name} {_shown(getattr(value, field.name))}" for field in fields(value))
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else "; ".join(value) or "none"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="- for standard output")
    parser.add_argument("--entries", type=int, default=1_000_000, help="how many a tag is to name")
    parser.add_argument("--ttls", type=float, default=10, help="lifetimes of what is warm or hot")
    parser.add_argument("--only", metavar="WORD", default="", help="trials whose name has this in it")
    options = parser.parse_args()
    every = trials(options.entries, options.ttls)
    figures = asyncio.run(measure({name: trial for name, trial in every.items() if options.only in name}))
    if options.json:
        text = json.dumps(figures, indent=2) + "\n"
        sys.stdout.write(text) if options.json == "-" else Path(options.json).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
