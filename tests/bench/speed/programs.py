"""Starts one program on one core, and ends it."""

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.speed import machine
from tests.servers import _die_with_parent

_START_S = 20.0
_END_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How a server is started, and where it listens."""

    words: list[str]
    port: int
    folder: Path
    """Its own, for all that it writes."""
    admin_port: int | None = None
    """Where it says whether it is ready, if it does."""
    cache: Path | None = None
    """Where its cache is, if that is made of files."""


@dataclass(slots=True)
class Program:
    """A running server."""

    name: str
    command: Command
    core: int
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def port(self) -> int:
        return self.command.port

    @property
    def pids(self) -> list[int]:
        assert self._process is not None
        return machine.tree(self._process.pid)

    @property
    def cache_bytes(self) -> int:
        """What its cache takes of the folder that it is in."""
        if self.command.cache is None:
            return 0
        return sum(path.lstat().st_blocks * 512 for path in self.command.cache.rglob("*"))

    def start(self) -> "Program":
        self.launch()
        self.wait()
        return self

    def launch(self) -> None:
        """Return at once, before it listens."""

        def settle() -> None:
            _die_with_parent()
            os.sched_setaffinity(0, {self.core})

        with (self.command.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command.words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[3],
                # Two system calls between fork and exec: safe enough for a benchmark.
                preexec_fn=settle,  # noqa: PLW1509
            )

    def wait(self) -> None:
        """Wait until it listens."""
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.005)
        said = (self.command.folder / "log").read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"{self.name} did not start: {said.strip()[-500:]}")

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def executable(name: str) -> str | None:
    """Where a program is. Debian's servers are in a folder that not everybody's PATH has."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
