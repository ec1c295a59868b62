"""Runs the load generators: wrk as fast as answers come, and a constant rate for latencies."""

import json
import os
import resource
import subprocess
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tests.bench.speed import asked, configs, machine
from tests.bench.speed.figures import Pace, Round
from tests.bench.speed.peers import Place
from tests.bench.speed.programs import Program, executable
from tests.servers import _die_with_parent

_SCRIPTS = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a load generator asks for, as files."""

    template: Path
    draws: Path | None = None


def asked_for(where: Place, template: bytes, draws: list[int] | None = None) -> Asked:
    """Keys as they are drawn; without draws, one key."""
    folder = where.of("asked")
    if draws is None:
        (folder / "template").write_bytes(asked.keyed(template, asked.HOT_KEY))
        return Asked(template=folder / "template")
    (folder / "template").write_bytes(template)
    (folder / "draws").write_bytes(asked.packed(draws))
    return Asked(template=folder / "template", draws=folder / "draws")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """Load from one core."""

    core: int
    connections: int

    def saturate(self, server: Program, what: Asked, seconds: int) -> Round:
        """One round of wrk: every connection asks again as soon as it has its answer."""
        words = [
            "-c",
            str(self.connections),
            "-d",
            f"{seconds}s",
            "--timeout",
            "10s",
            "-s",
            str(_SCRIPTS / "wrk.lua"),
        ]
        words += [f"http://127.0.0.1:{server.port}/", "--", str(what.template)]
        if what.draws is not None:
            words.append(str(what.draws))
        return round_of(*self._measured(server, words))

    def pace(self, server: Program, what: Asked, *, rate: int, seconds: int) -> Pace:
        """One round at a constant mean rate, with latencies from when a request was due."""
        words = ["-c", "1", "-d", "1s", "-s", str(_SCRIPTS / "open_loop.lua")]
        words += [f"http://127.0.0.1:{server.port}/", "--", str(what.template), str(server.port), str(rate)]
        words += [str(seconds), str(self.connections), configs.END_OF_BODY.decode()]
        return pace_of(*self._measured(server, words), rate)

    def _measured(self, server: Program, words: list[str]) -> tuple[dict[str, Any], "Spent"]:
        pids = server.pids

        def spent() -> Spent:
            return Spent(
                server_s=machine.cpu_s(pids),
                load_s=_children_s(),
                core_s=machine.core_s(server.core),
                wall_s=time.monotonic(),
            )

        before = spent()
        found = self._run(words)
        return found, spent() - before

    def _run(self, words: list[str]) -> dict[str, Any]:
        wrk = executable("wrk")
        if wrk is None:
            raise SystemExit("wrk is not installed: tests/bench/install.sh")

        def settle() -> None:
            _die_with_parent()
            os.sched_setaffinity(0, {self.core})

        ran = subprocess.run(
            [wrk, "-t", "1", *words],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=settle,
            timeout=600,
        )
        lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
        if len(lines) != 1:
            raise RuntimeError(f"wrk ended with {ran.returncode}: {ran.stdout[-500:]}{ran.stderr[-500:]}")
        return dict(json.loads(lines[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Seconds of CPU in a round, and of the round itself."""

    server_s: float
    load_s: float
    core_s: float
    """Of the server's core, by whomever."""
    wall_s: float

    @property
    def others_busy(self) -> float:
        """The share of the server's core that went to anything else."""
        return max(0.0, (self.core_s - self.server_s) / self.wall_s)

    def __sub__(self, before: "Spent") -> "Spent":
        return Spent(
            **{one.name: getattr(self, one.name) - getattr(before, one.name) for one in fields(self)}
        )


def round_of(said: dict[str, Any], spent: Spent) -> Round:
    """What wrk.lua printed, as a round."""
    requests = said["requests"]
    return Round(
        requests=requests,
        requests_per_s=requests / (said["duration_us"] / 1e6),
        p50_ms=said["p50_us"] / 1000,
        p99_ms=said["p99_us"] / 1000,
        cpu_us_per_request=spent.server_s * 1e6 / requests if requests else 0.0,
        server_busy=min(1.0, spent.server_s / spent.wall_s),
        load_busy=min(1.0, spent.load_s / spent.wall_s),
        others_busy=spent.others_busy,
        errors=said["bad_statuses"] + said["socket_errors"] + said["timeouts"],
    )


def pace_of(said: dict[str, Any], spent: Spent, rate: int) -> Pace:
    """What open_loop.lua printed."""
    return Pace(
        rate=rate,
        answered_per_s=said["answered"] / said["seconds"],
        p50_ms=said["p50_us"] / 1000,
        p99_ms=said["p99_us"] / 1000,
        p999_ms=said["p999_us"] / 1000,
        max_ms=said["max_us"] / 1000,
        late_p99_ms=said["late_p99_us"] / 1000,
        cpu_us_per_request=spent.server_s * 1e6 / said["answered"] if said["answered"] else 0.0,
        others_busy=spent.others_busy,
        errors=said["bad"] + said["sent"] - said["answered"],
    )


def _children_s() -> float:
    """CPU of the load generators that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
