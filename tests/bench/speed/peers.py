"""The servers that are compared, and the API behind them: how each is started."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.speed import configs
from tests.bench.speed.configs import Job, Kind
from tests.bench.speed.programs import Command, Program, executable
from tests.servers import free_port

CROWDGATE, NGINX, VARNISH, HAPROXY, REDIS_PY = "crowdgate", "nginx", "varnish", "haproxy", "redis-py"
NAMES = [NGINX, VARNISH, HAPROXY, REDIS_PY, CROWDGATE]


def installed(name: str) -> bool:
    program = {NGINX: "nginx", VARNISH: "varnishd", HAPROXY: "haproxy"}.get(name)
    return program is None or executable(program) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the files of a run are."""

    folder: Path
    fast: Path
    """In memory, if the machine has such a folder: for what a server would call its disk."""

    def of(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def fast_of(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.fast))


@contextmanager
def place() -> Iterator[Place]:
    shared = Path("/dev/shm")
    in_memory = shared if shared.is_dir() and os.access(shared, os.W_OK) else None
    with ExitStack() as folders:
        folder, fast = (
            folders.enter_context(tempfile.TemporaryDirectory(prefix="crowdgate-bench-", dir=parent))
            for parent in (None, in_memory)
        )
        yield Place(folder=Path(folder), fast=Path(fast))


def peer(name: str, job: Job, where: Place, core: int) -> Program:
    """A server that is not yet started."""
    return Program(name, _COMMANDS[name](job, where), core)


def origin(where: Place, core: int) -> Program:
    """The API for everything but the burst."""
    folder, port = where.of("origin"), free_port()
    (folder / "nginx.conf").write_text(configs.origin(port, folder))
    words = [_found("nginx"), "-p", str(folder), "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"]
    return Program("origin", Command(words=words, port=port, folder=folder), core)


def slow_origin(where: Place, core: int) -> Program:
    """The API for the burst: it takes its time."""
    port = free_port()
    words = [sys.executable, "-m", "tests.bench.speed.slow_origin", str(port)]
    return Program("slow origin", Command(words=words, port=port, folder=where.of("slow")), core)


# -- commands --


def _nginx(job: Job, where: Place) -> Command:
    folder, fast, port = where.of(NGINX), where.fast_of(NGINX), free_port()
    (folder / "nginx.conf").write_text(configs.nginx(job, port, folder, fast))
    words = [_found("nginx"), "-p", str(folder), "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"]
    return Command(words=words, port=port, folder=folder, cache=fast)


def _varnish(job: Job, where: Place) -> Command:
    # All of it in memory: its log is shared memory, which on a disk would be written back again and again.
    folder, port = where.fast_of(VARNISH), free_port()
    (folder / "default.vcl").write_text(configs.varnish(job))
    return Command(
        words=[_found("varnishd"), *configs.varnish_options(port, folder)], port=port, folder=folder
    )


def _haproxy(job: Job, where: Place) -> Command:
    folder, port = where.of(HAPROXY), free_port()
    (folder / "haproxy.cfg").write_text(configs.haproxy(job, port))
    return Command(words=[_found("haproxy"), "-db", "-f", f"{folder}/haproxy.cfg"], port=port, folder=folder)


def _crowdgate(job: Job, where: Place) -> Command:
    folder, port, admin_port = where.of(CROWDGATE), free_port(), free_port()
    (folder / "config.yaml").write_text(configs.crowdgate(job, (port, admin_port)))
    words = [sys.executable, "-m", "proxy", "run", "--config", f"{folder}/config.yaml"]
    return Command(words=words, port=port, folder=folder, admin_port=admin_port)


def _redis_py(job: Job, where: Place) -> Command:
    assert job.kind is Kind.REDIS
    port = free_port()
    words = [
        sys.executable,
        "-m",
        "tests.bench.speed.redis_py",
        str(port),
        str(job.redis_port),
        str(job.origin_port),
    ]
    return Command(words=words, port=port, folder=where.of(REDIS_PY))


def _found(name: str) -> str:
    found = executable(name)
    if found is None:
        raise SystemExit(f"{name} is not installed: tests/bench/install.sh")
    return found


_COMMANDS: dict[str, Callable[[Job, Place], Command]] = {
    CROWDGATE: _crowdgate,
    NGINX: _nginx,
    VARNISH: _varnish,
    HAPROXY: _haproxy,
    REDIS_PY: _redis_py,
}
