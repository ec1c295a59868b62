"""What a soak counts, and how it is told."""

import statistics
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.fleet.clients import quantile

_MAX_TOLD = 20
_MIB = 2**20
# Shorter lives say nothing about memory: a process is still filling its own.
_SHORTEST_LIFE_S = 30.0
_WARM_UP_S = 120.0


@dataclass(slots=True)
class Counts:
    """As it goes on."""

    requests: int = 0
    by_cache: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """That each took while nothing was the matter."""
    late: int = 0
    wrong: list[str] = field(default_factory=list)
    wrong_count: int = 0
    failed: list[str] = field(default_factory=list)
    failed_count: int = 0
    lost_with_replica: int = 0
    failed_with_api: int = 0
    writes: int = 0
    purges: Counter[str] = field(default_factory=Counter)
    waits: int = 0
    """Those that had every replica's word."""
    wait_seconds: list[float] = field(default_factory=list)
    """That they took while nothing was the matter."""
    waits_alone: int = 0
    """That had not, while something was the matter."""
    unexplained_waits: list[str] = field(default_factory=list)
    reloads: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    """Errors that replicas logged: defects."""

    def found_wrong(self, what: str) -> None:
        self.wrong_count += 1
        _tell("WRONG", what, self.wrong)

    def found_failed(self, what: str) -> None:
        self.failed_count += 1
        _tell("FAILED", what, self.failed)

    def waited_in_vain(self, what: str) -> None:
        _tell("WAITED IN VAIN", what, self.unexplained_waits)


def _tell(word: str, what: str, told: list[str]) -> None:
    if len(told) < _MAX_TOLD:
        told.append(what)
        print(f"{word}: {what}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The memory of one process over its life, as medians of some seconds."""

    place: int
    life_s: float
    warm_mib: float
    """After it had filled its memory."""
    last_mib: float

    @property
    def mib(self) -> float:
        return self.last_mib - self.warm_mib


class Sizes:
    """How large each process was, and when."""

    def __init__(self) -> None:
        self._lives: dict[tuple[int, int], list[tuple[float, int]]] = defaultdict(list)

    def add(self, place: int, pid: int, at: float, size: int) -> None:
        self._lives[place, pid].append((at, size))

    def growths(self) -> list[Growth]:
        """Of every life that was long enough."""
        return [
            _growth(place, sizes)
            for (place, _), sizes in self._lives.items()
            if sizes[-1][0] - sizes[0][0] >= _SHORTEST_LIFE_S
        ]


def _growth(place: int, sizes: list[tuple[float, int]]) -> Growth:
    began, ended = sizes[0][0], sizes[-1][0]
    life = ended - began
    warm, window = began + min(_WARM_UP_S, life / 3), max(5.0, life / 10)
    return Growth(
        place=place,
        life_s=life,
        warm_mib=statistics.median(size for at, size in sizes if warm <= at <= warm + window) / _MIB,
        last_mib=statistics.median(size for at, size in sizes if at >= ended - window) / _MIB,
    )


def told(counts: Counts, growths: list[Growth], **more: Any) -> dict[str, Any]:
    """All figures, by stable names."""
    return {
        **more,
        "requests": counts.requests,
        "requests_by_cache": dict(sorted(counts.by_cache.items())),
        "p50_ms": _milliseconds(counts.seconds, 0.5),
        "p99_ms": _milliseconds(counts.seconds, 0.99),
        "wrong": counts.wrong_count,
        "wrong_first": counts.wrong,
        "late_as_allowed": counts.late,
        "failed": counts.failed_count,
        "failed_first": counts.failed,
        "lost_with_killed_replica": counts.lost_with_replica,
        "failed_with_api": counts.failed_with_api,
        "writes": counts.writes,
        "purges": dict(sorted(counts.purges.items())),
        "waits": counts.waits,
        "wait_p50_ms": _milliseconds(counts.wait_seconds, 0.5),
        "wait_p99_ms": _milliseconds(counts.wait_seconds, 0.99),
        "waits_incomplete_in_faults": counts.waits_alone,
        "waits_incomplete_unexplained": counts.unexplained_waits,
        "reloads": counts.reloads,
        "faults": dict(sorted(counts.faults.items())),
        "slowest_recovery_s": max(counts.recoveries, default=0.0),
        "logged_errors": counts.logged[:_MAX_TOLD],
        "memory": [
            {
                "replica": growth.place,
                "life_s": growth.life_s,
                "rss_warm_mib": growth.warm_mib,
                "rss_last_mib": growth.last_mib,
                "growth_mib": growth.mib,
            }
            for growth in growths
        ],
        "growth_max_mib": max((growth.mib for growth in growths), default=0.0),
    }


def _milliseconds(seconds: list[float], share: float) -> float | None:
    return quantile(seconds, share) * 1000 if seconds else None


def table(figures: dict[str, Any]) -> str:
    """For people."""
    return "\n".join(f"{name:30} {_shown(value)}" for name, value in figures.items())


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{name} {_shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "".join(f"\n  {_shown(each)}" for each in value) or "none"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
