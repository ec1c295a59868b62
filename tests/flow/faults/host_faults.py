"""What the machine under a proxy does: a disk that is full, a log that nobody reads, a clock that jumps."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.flow.faults.stage import Stage
from tests.flow.faults.trial import Fault, Inject
from tests.flow.processes import _LOCAL, Proxy
from tests.servers import _die_with_parent

FAKETIME_REMEDY = "install libfaketime (apt-get install faketime)"
_HOUR_S = 3600


# -- the clock --


def libfaketime() -> Path | None:
    """The library through which a process sees another time."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@contextmanager
def another_clock(library: Path, said: Path) -> Iterator[None]:
    """Processes started meanwhile go by what the file says: seconds to be added to the wall clock."""
    said.write_text("+0")
    before = dict(os.environ)
    os.environ |= {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(said),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Else threads that wait for Python's lock are woken at once, again and again: 80 ms of stalls (measured).
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "FAKETIME_DONT_RESET": "1",
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def clock_off(seconds: int) -> Inject:
    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        assert stage.clock is not None
        _set(stage.clock, seconds)
        try:
            yield
        finally:
            _set(stage.clock, 0)

    return inject


def _set(clock: Path, seconds: int) -> None:
    # At once: half of it would be another time.
    news = clock.with_name("news")
    news.write_text(f"{seconds:+d}")
    news.replace(clock)


# -- the log --


@asynccontextmanager
async def running_with_reader(config: str) -> AsyncIterator[tuple[Proxy, subprocess.Popen[bytes]]]:
    """A proxy whose standard error is a pipe, and who reads it: as container runtimes do it."""
    with tempfile.TemporaryDirectory(prefix="flow-") as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(_LOCAL + config)
        read_end, write_end = os.pipe()
        # A page: some thirty requests.
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
        with path.with_name("log").open("wb") as log:
            reader = subprocess.Popen(["cat"], stdin=read_end, stdout=log, preexec_fn=_die_with_parent)  # noqa: PLW1509
        process = started(path, write_end)
        os.close(read_end)
        os.close(write_end)
        proxy = Proxy(process=process, config=path)
        try:
            await proxy.listening()
            await proxy.ready()
            yield proxy, reader
            await proxy.stop()
        finally:
            reader.send_signal(signal.SIGCONT)
            for each in (process, reader):
                each.kill()
                each.wait()


def started(config: Path, stderr: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "proxy", "run", "--config", str(config)]
    return subprocess.Popen(command, stderr=stderr, preexec_fn=_die_with_parent)  # noqa: PLW1509


@asynccontextmanager
async def _unread(stage: Stage) -> AsyncIterator[None]:
    """Who reads the last proxy's log stands still: the pipe fills up."""
    assert stage.log_reader is not None
    stage.log_reader.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        stage.log_reader.send_signal(signal.SIGCONT)


@asynccontextmanager
async def _full_disk(stage: Stage) -> AsyncIterator[None]:
    """The first proxy's log can't grow. (A quota: EFBIG instead of ENOSPC, and it can be lifted.)"""
    proxy = stage.proxies[0]
    size = proxy.config.with_name("log").stat().st_size
    before = resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, before)


CLOCKS = (
    Fault(name="clock an hour ahead, and back", inject=clock_off(_HOUR_S), purges=False),
    Fault(name="clock an hour behind, and forward", inject=clock_off(-_HOUR_S), purges=False),
)
LOGS = (
    Fault(name="disk full for the log", inject=_full_disk),
    Fault(name="nobody reads the log", inject=_unread),
)
