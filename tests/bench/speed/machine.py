"""What the benchmark runs on: its cores, and what processes take of it."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Who runs where. The server under test never shares its own."""

    server: int
    load: int
    origin: int
    redis: int


def cores() -> Cores:
    """The best that this machine has: with two, all but the server share the second."""
    found = apart({thread: _core_of(thread) for thread in os.sched_getaffinity(0)})
    if len(found) < 2:
        raise SystemExit("two cores are needed: one for the server under test, one for the load")
    server, load = found[:2]
    origin = found[2] if len(found) > 2 else load
    return Cores(server=server, load=load, origin=origin, redis=found[3] if len(found) > 3 else origin)


def apart(cores_of: dict[int, str]) -> list[int]:
    """First one thread of each core, then the others: two threads of one core are no two cores."""
    first = {core: thread for thread, core in sorted(cores_of.items(), reverse=True)}
    return sorted(first.values()) + sorted(set(cores_of) - set(first.values()))


def _core_of(thread: int) -> str:
    """Which threads share its core, as Linux names them."""
    siblings = Path(f"/sys/devices/system/cpu/cpu{thread}/topology/thread_siblings_list")
    return siblings.read_text() if siblings.exists() else str(thread)


def described() -> dict[str, str | int]:
    """For the report."""
    cpu = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu_model": cpu[1] if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory[1]) * 1024 if memory else 0,
        "kernel": platform.release(),
    }


# -- processes --


def tree(pid: int) -> list[int]:
    """A process and all that it started."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        if (fields := _stat(stat)) is not None:
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for parent in found:
        found += parents.get(parent, [])
    return found


def cpu_s(pids: list[int]) -> float:
    """Seconds of CPU, user and system, that these processes have used. Read to 10 ms."""
    used = [_stat(Path(f"/proc/{pid}/stat")) for pid in pids]
    return sum(int(fields[11]) + int(fields[12]) for fields in used if fields is not None) / _TICKS_PER_S


def core_s(core: int) -> float:
    """Seconds that a core has worked for processes, or was taken away by the host. Interrupts are not in it."""
    line = re.search(rf"^cpu{core} (.*)$", Path("/proc/stat").read_text(), re.MULTILINE)
    assert line is not None
    user, nice, system, _, _, _, _, stolen = (int(ticks) for ticks in line[1].split()[:8])
    return (user + nice + system + stolen) / _TICKS_PER_S


def resident_bytes(pids: list[int]) -> int:
    """Memory that processes hold. Where there are several, what they share counts once."""
    kind = "Rss" if len(pids) == 1 else "Pss"
    texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    found = (re.search(rf"^{kind}:\s*(\d+) kB", text, re.MULTILINE) for text in texts)
    return sum(int(one[1]) * 1024 for one in found if one is not None)


def _stat(path: Path) -> list[str] | None:
    """The fields behind the command's name: state, parent, ..."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        # It has ended meanwhile.
        return None
