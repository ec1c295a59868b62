"""A server process that can be stopped, killed, frozen and started again, and never outlives the tests."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The kernel ends a child when the *thread* that started it ends, and a test may restart a server from asyncio.to_thread:
# all are started by one thread that lives as long as the test process.
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="daemons")
_LOG_TAIL = 4000


class Daemon:
    """One process. Its output goes to a file, over restarts too."""

    def __init__(self, args: Sequence[str], log: Path, ready: Callable[[], bool] = lambda: True) -> None:
        self._args = list(args)
        self._log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = 30.0) -> None:
        """Returns when it's ready."""
        self._process = _STARTER.submit(self._spawn).result()
        deadline = time.monotonic() + timeout_s
        while not self._ready():
            if not self.running or time.monotonic() > deadline:
                state = "is not ready" if self.running else "ended"
                raise RuntimeError(f"{self._args[0]} {state}: {self.log()}")
            time.sleep(0.02)

    def stop(self, timeout_s: float = 20.0) -> None:
        """As its operator would, by SIGTERM; by SIGKILL where it takes too long."""
        if self._process is not None and self.running:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections are still accepted, by the kernel, and nothing is ever answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """The end of what it printed."""
        return self._log.read_text(errors="replace")[-_LOG_TAIL:]

    def _spawn(self) -> subprocess.Popen[bytes]:
        setpriv = shutil.which("setpriv")
        bound = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv is not None else []
        with self._log.open("ab") as log:
            return subprocess.Popen([*bound, *self._args], stdout=log, stderr=log, start_new_session=True)
