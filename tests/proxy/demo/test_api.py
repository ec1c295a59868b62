"""The sample API as a process: it starts, tells, refuses and ends."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.mariadb import Server
from tests.proxy.demo.processes import Api, command, environment, refusal, running


def _seconds_to_end(api: Api, signal_number: signal.Signals) -> float:
    started = time.monotonic()
    api.process.send_signal(signal_number)
    assert api.process.wait(timeout=10) == 0
    return time.monotonic() - started


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        body: bytes = answer.read()
        return body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_signal_ends_it_cleanly_in_less_than_a_second(cache: Path, number: signal.Signals) -> None:
    with running(cache) as api:
        assert _get(f"{api.url}/healthz") == b"ok\n"
        assert _seconds_to_end(api, number) < 1
        said, errors = api.process.communicate()
        # Whoever comes first builds the sample, which on a busy machine takes so long that it tells.
        assert (said, [line for line in errors.splitlines() if not line.startswith("sample data:")]) == (
            "",
            [],
        )


def test_endless_answers_do_not_hold_up_the_end(cache: Path) -> None:
    with running(cache) as api:
        address = urlsplit(api.url).netloc
        stream = http.client.HTTPConnection(address, timeout=5)
        stream.request("GET", "/api/stream")
        answer = stream.getresponse()
        assert answer.readline() == b"id: 0\n"
        upgrade = http.client.HTTPConnection(address, timeout=5)
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        upgrade.request(
            "GET", "/api/ws", headers={**headers, "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
        )
        assert upgrade.getresponse().status == 101

        assert _seconds_to_end(api, signal.SIGTERM) < 1
        # The stream ends as chunked answers end, and is not cut off.
        assert answer.read().endswith(b'data: {"tick":0}\n\n')
        answer.close()
        stream.close()
        upgrade.close()


def test_a_signal_during_the_build_ends_it_cleanly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*command("--port", "0"), "--scale", "1"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("sample data: 10 %")
    process.terminate()

    out, _ = process.communicate(timeout=5)
    assert (process.returncode, out) == (0, "")


def test_a_taken_port_is_told_by_number_and_option(cache: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, told = refusal(cache, "--port", str(port))

    assert (code, f"port {port} is taken on 127.0.0.1: choose another with --port" in told) == (2, True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(["--port", "70000"], "--port", id="no such port"),
        pytest.param(
            ["--host", "192.0.2.1", "--port", "0"], "cannot listen on 192.0.2.1", id="not our address"
        ),
        pytest.param(["--db", "x", "--dsn", "y"], "--db and --dsn exclude each other", id="two databases"),
        pytest.param(["--dsn", "y", "--port", "0"], "--dsn: a DSN looks like", id="no dsn"),
        pytest.param(["--db", "/dev/null/x", "--port", "0"], "cannot keep the sample", id="nowhere to write"),
        pytest.param(["--scale", "0"], "--scale", id="no crowd"),
    ],
)
def test_a_bad_start_is_told_in_a_sentence(cache: Path, options: list[str], sentence: str) -> None:
    code, told = refusal(cache, *options)

    assert (code, sentence in told) == (2, True), told
    assert "Traceback" not in told


def test_without_a_file_each_run_starts_from_a_fresh_sample(cache: Path) -> None:
    registered = []
    for _ in range(2):
        with running(cache) as api:
            registered.append(_register(api))

    assert registered[0] == registered[1]


def test_processes_that_share_a_file_see_each_others_writes(cache: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "shared.sqlite3")
    with running(cache, "--db", place) as first, running(cache, "--db", place) as second:
        person = _register(first)
        found = json.loads(_get(f"{second.url}/api/events/7/participants/{person}"))

    assert (person, "Ada") == (found["id"], found["name"])


@pytest.mark.mariadb
@pytest.mark.parametrize("by", ["dsn", "file", "environment"])
def test_a_password_comes_by_dsn_file_or_environment(
    cache: Path, tmp_path: Path, mariadb_server: Server, by: str
) -> None:
    mariadb_server.run(
        "CREATE DATABASE IF NOT EXISTS locked",
        "CREATE OR REPLACE USER demo IDENTIFIED BY 'p@ss/word'",
        "GRANT ALL ON locked.* TO demo",
    )
    (tmp_path / "password").write_text("p@ss/word\n")
    dsn = mariadb_server.dsn("locked", "demo")
    if by == "dsn":
        started = running(cache, "--dsn", dsn.replace("demo@", "demo:p%40ss%2Fword@"))
    elif by == "file":
        started = running(cache, "--dsn", dsn, "--password-file", str(tmp_path / "password"))
    else:
        started = running(cache, "--dsn", dsn, CROWDGATE_DEMO_PASSWORD="p@ss/word")
    with started as api:
        assert json.loads(_get(f"{api.url}/api/events/1"))["registered"] == 489


@pytest.mark.mariadb
def test_a_wrong_password_is_told_without_it(cache: Path, mariadb_server: Server) -> None:
    dsn = mariadb_server.dsn("mysql", "root").replace("root@", "root:hush@")
    code, told = refusal(cache, "--port", "0", "--dsn", dsn)

    assert (code, "Access denied" in told, "hush" in told) == (2, True, False)


def test_sqlite_needs_no_mysql_client(cache: Path) -> None:
    code = "import sys, proxy.demo.api; print(sorted({'aiomysql', 'pymysql', 'rich'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def _register(api: Api) -> int:
    body = json.dumps({"name": "Ada", "email": "ada@example.com"}).encode()
    request = urllib.request.Request(f"{api.url}/api/events/7/participants", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        person: int = json.load(answer)["participant_id"]
        return person
