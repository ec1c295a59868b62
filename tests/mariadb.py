"""A private MariaDB server for tests: a real mariadbd on a free port, gone without a trace afterwards.

Use the session's server by importing the fixture into a conftest.py: `from tests.mariadb import mariadb_server`.
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
import pytest

REMEDY = "no mariadbd on PATH or in /usr/sbin: `apt-get install mariadb-server-core` brings it"

START_TIMEOUT_S = 30.0

_SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server; `root` has no password, which is nobody's business but this machine's loopback's."""

    host: str
    port: int
    process_id: int

    def dsn(self, schema: str, user: str = "root") -> str:
        return f"mysql://{user}@{self.host}:{self.port}/{schema}"

    def run(self, *statements: str, schema: str | None = None) -> list[tuple[Any, ...]]:
        """Runs the statements as root and answers the last one's rows."""
        with contextlib.closing(self._connect(schema)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def _connect(self, schema: str | None) -> Any:
        return pymysql.connect(host=self.host, port=self.port, user="root", database=schema, autocommit=True)


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if missing():
        pytest.skip(REMEDY)
    with running(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


def missing() -> bool:
    return not (_binary("mariadbd") and _binary("mariadb-install-db"))


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[Server]:
    """A server with its data in `folder`; `options` are mariadbd's, such as `--slow-query-log=ON`."""
    data = folder / "data"
    # mariadbd refuses to run as root unless told to.
    user = [f"--user={getpass.getuser()}"] if os.geteuid() == 0 else []
    _install(data, user)
    port = _free_port()
    command = [
        str(_binary("mariadbd")),
        "--no-defaults",
        *user,
        f"--datadir={data}",
        "--skip-networking=0",
        "--bind-address=127.0.0.1",
        f"--port={port}",
        # A socket's path may have no more than 107 characters; temporary folders can be deeper.
        f"--socket={_short_socket(port)}",
        f"--pid-file={folder / 'pid'}",
        "--skip-name-resolve",
        "--skip-log-bin",
        # What a test writes need not survive a power cut.
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=0",
        *options,
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    server = Server(host="127.0.0.1", port=port, process_id=process.pid)
    try:
        _await_start(server, process, folder / "log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(data, ignore_errors=True)
        _short_socket(port).unlink(missing_ok=True)


def _binary(name: str) -> str | None:
    return shutil.which(name, path=_SEARCH)


def _install(data: Path, user: list[str]) -> None:
    command = [
        str(_binary("mariadb-install-db")),
        "--no-defaults",
        *user,
        f"--datadir={data}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mariadb-install-db failed: {done.stdout}{done.stderr}")


def _short_socket(port: int) -> Path:
    return Path("/tmp") / f"crowdgate-mariadb-{os.getpid()}-{port}.sock"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _await_start(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.run("SELECT 1")
        except pymysql.err.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"mariadbd did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.05)
        else:
            return
