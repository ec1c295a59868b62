"""Hit ratio and speed of S3-FIFO beside cachetools' LRU on recorded requests: `python -m tests.bench.eviction TRACE...`.

A trace is text, plain or gzipped: the id of the object asked for, one a line. Every object has size 1.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from cachetools import Cache, LRUCache

from proxy.store.memory import Memory
from proxy.store.s3fifo import S3FIFO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIZES = (128, 512, 2048)
POLICIES: dict[str, Callable[[int], Cache[str, str]]] = {"lru": LRUCache, "s3fifo": S3FIFO}
# The machine has other things to do: the fastest run was disturbed least.
RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    trace: str
    requests: int
    size: int
    policy: str
    hit_ratio: float
    mops: float


def requests(path: Path) -> list[str]:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode().splitlines()


def replay(cache: Cache[str, str], trace: Sequence[str]) -> tuple[int, float]:
    """Hits and seconds."""
    hits = 0
    started = perf_counter()
    for key in trace:
        if key in cache:
            cache[key]
            hits += 1
        else:
            cache[key] = key
    return hits, perf_counter() - started


def score(trace: Sequence[str], *, name: str, size: int, policy: str) -> Score:
    runs = [replay(POLICIES[policy](size), trace) for _ in range(RUNS)]
    return Score(
        trace=name,
        requests=len(trace),
        size=size,
        policy=policy,
        hit_ratio=runs[0][0] / len(trace),
        mops=len(trace) / min(seconds for _, seconds in runs) / 1e6,
    )


def memory_get_mops(rounds: int = 200) -> float:
    """Speed of the memory tier's hit, a thousand keys in turn."""
    tier: Memory[str] = Memory(max_bytes=1 << 24, max_object_bytes=1 << 20)
    keys = [f"/api/events?page={page}" for page in range(1000)]
    for key in keys:
        tier.put(key, key, size=1024, until=0)
    fastest = float("inf")
    for _ in range(rounds):
        started = perf_counter()
        for key in keys:
            tier.get(key)
        fastest = min(fastest, perf_counter() - started)
    return len(keys) / fastest / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.eviction", description=__doc__)
    parser.add_argument("traces", metavar="TRACE", nargs="+", type=Path)
    parser.add_argument(
        "--size", action="append", type=int, help=f"objects the cache holds (default: {SIZES})"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there, - for standard output")
    asked = parser.parse_args()
    scores = []
    for path in asked.traces:
        trace = requests(path)
        scores += [
            score(trace, name=path.name, size=size, policy=policy)
            for size in asked.size or SIZES
            for policy in POLICIES
        ]
    mops = memory_get_mops()
    # Where the figures go to standard output, the table makes way.
    table = sys.stderr if asked.json == "-" else sys.stdout
    print(f"{'trace':24} {'requests':>9} {'size':>6} {'policy':>7} {'hits %':>7} {'Mops/s':>7}", file=table)
    for row in scores:
        print(
            f"{row.trace:24} {row.requests:9} {row.size:6} {row.policy:>7} {100 * row.hit_ratio:7.2f} {row.mops:7.2f}",
            file=table,
        )
    print(f"Memory.get of what is stored: {mops:.1f} Mops/s", file=table)
    if asked.json:
        figures = json.dumps({"results": [asdict(row) for row in scores], "memory_get_mops": mops}, indent=2)
        if asked.json == "-":
            print(figures)
        else:
            Path(asked.json).write_text(figures + "\n")


if __name__ == "__main__":
    main()
