"""How much of the machine is used by others: what is measured meanwhile says little about us."""

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# On two processors that is a fifth of one: with less, the 99th percentile without a fault stays within a millisecond
# or two (measured: 5 to 7 ms), with half a processor it is three times as high.
DISTURBED = 0.1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Seconds, at one moment."""

    at: float
    busy_s: float
    """Of all processors, also what a hypervisor gave to others. Not what runs at low priority: that makes way."""
    ours_s: float
    """Of this process and those that it started."""


def read() -> Reading:
    lines = Path("/proc/stat").read_text()
    user, _, system, _, _, irq, softirq, steal, *_ = map(int, lines.split("\n", 1)[0].split()[1:])
    busy = user + system + irq + softirq + steal
    return Reading(at=time.monotonic(), busy_s=busy / _TICKS_PER_S, ours_s=sum(_ours()) / _TICKS_PER_S)


def used_by_others(since: Reading, until: Reading) -> float:
    """The share of the machine."""
    others_s = (until.busy_s - since.busy_s) - (until.ours_s - since.ours_s)
    return others_s / ((until.at - since.at) * (os.cpu_count() or 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When something was measured: monotonic seconds, and the share of the machine that others used."""

    start: float
    end: float
    others: float


async def window(seconds: float, *, tries: int) -> Window:
    """Let so much time pass; once more, up to `tries` times, while others use the machine. Returns the best of them."""
    found: list[Window] = []
    while len(found) < tries and not (found and found[-1].others <= DISTURBED):
        before = read()
        await asyncio.sleep(seconds)
        after = read()
        found.append(Window(start=before.at, end=after.at, others=used_by_others(before, after)))
    return min(found, key=lambda each: each.others)


def _ours() -> Iterator[int]:
    """Ticks of this process and of its children."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Its name may hold anything.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if os.getpid() in {int(stat.parent.name), int(fields[1])}:
            yield int(fields[11]) + int(fields[12])
