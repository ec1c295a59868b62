"""`crowdgate-proxy demo` as its users see it: what it says is true, and when it ends nothing is left."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import servers

ROOT = Path(__file__).parents[2]
_START_S = 60.0
_END_S = 3.0
ANY_PORT = ("--port", "0", "--admin-port", "0", "--api-port", "0")

with_redis = pytest.mark.skipif(servers.valkey() is None, reason="needs the extra `embedded`")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample is built once for all tests here."""
    return tmp_path_factory.mktemp("cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    process: subprocess.Popen[str]
    said: str

    def place(self, name: str) -> str:
        """What it says after a name, such as `dashboard`."""
        found = re.search(rf"^  {name} +(\S+)", self.said, re.MULTILINE)
        assert found, self.said
        return found[1].rstrip("/")

    @property
    def url(self) -> str:
        return self.place("through crowdgate")

    @property
    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def cache_status(self, path: str, **headers: str) -> str:
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.headers["Cache-Status"])

    def ended(self) -> tuple[int, str]:
        """Exit code, and what it said on standard error but for the progress of building the sample."""
        _, errors = self.process.communicate(timeout=_END_S)
        lines = errors.splitlines(keepends=True)
        return self.process.returncode, "".join(
            [line for line in lines if not line.startswith("sample data:")]
        )


def _start(cache: Path, *options: str, session: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo", "--scale", "0.01", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        cwd=ROOT,
        start_new_session=session,
    )


@contextmanager
def demo(cache: Path, *options: str, session: bool = False) -> Iterator[Demo]:
    process = _start(cache, *options, session=session)
    # A start that hangs ends the reading below.
    watchdog = threading.Timer(_START_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        said = ""
        while "Worth a try" not in said and (line := process.stdout.readline()):
            said += line
        assert "Worth a try" in said, process.communicate()[1]
        watchdog.cancel()
        yield Demo(process=process, said=said)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def gone(pids: list[int], within_s: float = _END_S) -> bool:
    """Whether all of them end in time; one that nobody has collected yet has ended too."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not [pid for pid in pids if _is_alive(pid)]:
            return True
        time.sleep(0.02)
    return False


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@with_redis
def test_everything_is_there_and_ctrl_c_ends_it_without_a_trace(cache: Path) -> None:
    with demo(cache, *ANY_PORT) as started:
        assert started.cache_status("/api/events?status=running").startswith("crowdgate; hit; ")
        assert started.cache_status("/api/users/1/permissions", Authorization="Bearer user-1").startswith(
            "crowdgate; hit; "
        )
        statuses = [started.cache_status("/api/events/7").split("; ")[1] for _ in range(2)]
        assert ["fwd=uri-miss", "hit"] == statuses
        with urllib.request.urlopen(started.place("dashboard") + "/metrics", timeout=10) as answer:
            assert b"crowdgate_redis_up 1" in answer.read()
        # The API and the private Valkey.
        children = started.children
        assert len(children) == 2
        started.process.send_signal(signal.SIGINT)
        code, errors = started.ended()
    assert (0, False, True) == (code, "Traceback" in errors, gone(children))


def test_sigterm_ends_it_as_well_and_without_redis_it_has_one_child(cache: Path) -> None:
    with demo(cache, *ANY_PORT, "--no-redis") as started:
        children = started.children
        assert len(children) == 1
        started.process.terminate()
        code, errors = started.ended()
    assert (0, "", True) == (code, errors, gone(children))


def test_a_signal_to_the_whole_terminal_ends_it_in_order(cache: Path) -> None:
    with demo(cache, *ANY_PORT, "--no-redis", session=True) as started:
        children = started.children
        os.killpg(started.process.pid, signal.SIGINT)
        code, errors = started.ended()
    assert (0, "", True) == (code, errors, gone(children))


def test_an_api_that_is_stopped_hinders_nobody_from_leaving(cache: Path) -> None:
    with demo(cache, *ANY_PORT, "--no-redis") as started:
        started.cache_status("/api/events/7")
        children = started.children
        os.kill(children[0], signal.SIGSTOP)
        assert started.cache_status("/api/events/7").startswith("crowdgate; hit; ")
        started.process.send_signal(signal.SIGINT)
        code, _ = started.ended()
    assert (0, True) == (code, gone(children))


@with_redis
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_killing_it_kills_its_children(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is killed cannot tidy up.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with demo(cache, *ANY_PORT) as started:
        children = started.children
        started.process.kill()
        assert gone(children)


def test_an_api_that_dies_is_told_and_the_proxy_goes_on(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with demo(cache, *ANY_PORT, "--no-redis") as started:
        os.kill(started.children[0], signal.SIGKILL)
        assert started.process.stdout is not None
        said = next(line for line in started.process.stdout if line.startswith("The sample API ended"))
        assert "(exit code -9)" in said
        assert started.cache_status("/api/events?status=running").startswith("crowdgate; hit; ")
        started.process.send_signal(signal.SIGINT)
        assert started.ended()[0] == 0


@pytest.mark.parametrize("option", ["--port", "--admin-port", "--api-port"])
def test_a_taken_port_is_one_sentence(cache: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = _start(cache, *ANY_PORT, option, str(port))
        said, errors = process.communicate(timeout=20)
    expected = f"crowdgate-proxy demo: port {port} is taken on 127.0.0.1: choose another with {option}, or 0 for any\n"
    assert (1, "", expected) == (process.returncode, said, errors)


def test_one_port_for_two_is_one_sentence(cache: Path) -> None:
    port = str(servers.free_port())
    process = _start(cache, "--port", port, "--admin-port", port)
    _, errors = process.communicate(timeout=20)
    expected = f"crowdgate-proxy demo: --port and --admin-port are both {port}: choose two\n"
    assert (1, expected) == (process.returncode, errors)


def test_ctrl_c_is_heard_while_the_sample_is_built(tmp_path: Path) -> None:
    process = _start(tmp_path, *ANY_PORT, "--no-redis", "--scale", "1")
    assert process.stderr is not None
    # The first progress that is seen: the building has begun.
    assert process.stderr.readline().startswith("sample data:")
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=_END_S)
    assert (0, "", False) == (process.returncode, said, "Traceback" in errors)
