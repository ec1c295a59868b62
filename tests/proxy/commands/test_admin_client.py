"""A client of the admin port tells each failure in one sentence that says what to check."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest

from proxy.commands.admin_client import ask
from tests.proxy.commands.running import run
from tests.proxy.live import Live
from tests.servers import free_port


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server with one answer, and the headers that it was sent."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def failure(admin: str, timeout_s: float = 5.0, token: str = "") -> str:
    with pytest.raises(click.ClickException) as caught:
        ask(admin, "/api/stats", timeout_s=timeout_s, token=token)
    assert caught.value.exit_code == 1
    return caught.value.message


def test_nobody_there_is_told_with_what_to_check() -> None:
    admin = f"http://127.0.0.1:{free_port()}"
    expected = (
        f"cannot reach the admin port at {admin}: connection refused; "
        "check that the proxy runs and that this is its admin.listen"
    )
    assert expected == failure(admin)


def test_a_name_that_is_none_is_told() -> None:
    assert failure("http://nowhere.invalid:9901").startswith(
        "cannot reach the admin port at http://nowhere.invalid:9901: "
    )


def test_silence_is_not_waited_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        admin = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert f"cannot reach the admin port at {admin}: no answer within 0.1s; " in failure(admin, 0.1)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, b"<html>", id="a page"),
        pytest.param(200, b"[1]", id="a list"),
        pytest.param(404, b'{"detail": "no event"}', id="not found"),
        pytest.param(418, b'{"error": 1}', id="another problem"),
    ],
)
def test_what_is_no_admin_port_is_recognised(status: int, body: bytes) -> None:
    with answering(status, body) as (admin, _):
        expected = (
            f"{admin}/api/stats answers {status}, not as an admin port does: "
            "check that --admin names admin.listen and not the port for clients"
        )
        assert expected == failure(admin)


def test_a_token_follows_no_redirect() -> None:
    with (
        answering(200, b"{}") as (other, seen),
        answering(302, b"", Location=f"{other}/api/stats") as (admin, _),
    ):
        assert "answers 302" in failure(admin, token="s3cret")
        assert seen == []


def test_the_variables_of_a_proxy_for_the_internet_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with answering(200, b'{"a": 1}') as (admin, _):
        assert ask(admin, "/").document == {"a": 1}


def test_a_token_of_any_letters_arrives() -> None:
    with answering(200, b"{}") as (admin, seen):
        ask(admin, "/", token="tök")
        assert seen[0]["authorization"].encode("latin-1") == "Bearer tök".encode()


@pytest.mark.parametrize(
    "admin", ["ftp://a", "http://", "http://u:p@a:1", "http://a:x", "http://a/?b", "a b:c"]
)
def test_what_is_no_url_is_a_usage_error(admin: str) -> None:
    found = run("stats", "--admin", admin)
    assert (found.exit_code, f"must be a URL such as http://127.0.0.1:9901, not {admin}" in found.stderr) == (
        2,
        True,
    )


def test_a_url_needs_no_scheme(here: Live) -> None:
    assert run("stats", "--admin", f"127.0.0.1:{here.admin_port}").exit_code == 0


def test_a_write_without_the_token_is_told_where_it_belongs(locked: Live) -> None:
    found = run("purge", "--admin", locked.admin, "--tag", "events")
    expected = (
        "Error: writes need `Authorization: Bearer <admin.token>` (--token-file or $CROWDGATE_ADMIN_TOKEN)\n"
    )
    assert (1, expected) == (found.exit_code, found.stderr)


def test_the_token_comes_from_a_file_or_from_the_environment(locked: Live, token_file: str) -> None:
    purge = ("purge", "--admin", locked.admin, "--tag", "events")
    found = [run(*purge, "--token-file", token_file), run(*purge, CROWDGATE_ADMIN_TOKEN="s3cret")]
    assert [0, 0] == [each.exit_code for each in found]


def test_a_token_of_two_lines_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a\nb")
    found = run("reload", "--token-file", str(file))
    assert (2, True) == (found.exit_code, "the token must be one line" in found.stderr)


def test_what_the_admin_port_refuses_is_told_in_its_words(here: Live) -> None:
    found = run("purge", "--admin", here.admin, "--route", "evnts")
    assert (1, "Error: routes[0]: there is no route `evnts`; did you mean events?\n") == (
        found.exit_code,
        found.stderr,
    )


def test_a_problem_is_read_from_json_alone() -> None:
    with answering(400, json.dumps({"detail": "limit must be less"}).encode()) as (admin, _):
        assert failure(admin) == "limit must be less"
