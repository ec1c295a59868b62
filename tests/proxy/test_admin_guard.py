"""The bounds of the admin port: who may write, and how long anybody may take."""

import asyncio
import json
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from proxy import admin_guard, settings
from proxy.admin_guard import is_operator, may_read, may_write
from tests.flow.client import connected, request
from tests.proxy.live import live


def asked_by(remote: str | None, path: str = "/api/stats", **headers: str) -> web.BaseRequest:
    headers = {"Host": "127.0.0.1", **headers}
    return cast("web.BaseRequest", SimpleNamespace(remote=remote, path=path, headers=headers))


@pytest.mark.parametrize("remote", ["127.0.0.6", "127.9.9.9", "::ffff:127.0.0.6"])
def test_what_a_mesh_delivers_from_loopback_may_not(remote: str) -> None:
    assert "only loopback" in may_write(asked_by(remote), None)


@pytest.mark.parametrize("name", ["X-Forwarded-Proto", "x-envoy-attempt-count", "Via", "Forwarded"])
def test_nor_may_what_comes_through_a_proxy(name: str) -> None:
    assert "only loopback" in may_write(asked_by("127.0.0.1", **{name: "1"}), None)


@pytest.mark.parametrize("remote", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_may_write_without_a_token(remote: str) -> None:
    assert may_write(asked_by(remote), None) == ""


@pytest.mark.parametrize("remote", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "", None, "localhost"])
def test_nobody_else_may(remote: str | None) -> None:
    assert may_write(asked_by(remote), None).startswith("without admin.token only loopback may write")


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_a_proxy_on_the_machine_lends_nobody_its_address(header: str) -> None:
    assert may_write(asked_by("127.0.0.1", **{header: "x"}), None).startswith("without admin.token")


@pytest.mark.parametrize(
    "host", ["", "evil.test", "evil.test:9901", "localhost.evil.test", "127.0.0.1.evil.test"]
)
def test_a_name_for_loopback_is_no_loopback(host: str) -> None:
    assert "called by name" in may_write(asked_by("127.0.0.1", Host=host), None)


@pytest.mark.parametrize(
    ("given", "is_right"),
    [
        pytest.param("Bearer tök en", True, id="the token"),
        pytest.param("bearer tök en", True, id="a scheme has no case"),
        pytest.param("Bearer  tök en", True, id="two spaces"),
        pytest.param("Bearer tök e", False, id="too short"),
        pytest.param("Bearer", False, id="no token"),
        pytest.param("Basic tök en", False, id="another scheme"),
        pytest.param("tök en", False, id="no scheme"),
        pytest.param("Bearer \udcff", False, id="no text"),
    ],
)
def test_the_token_is_compared_as_a_whole(given: str, is_right: bool) -> None:
    assert (may_write(asked_by("10.0.0.1", Authorization=given), "tök en") == "") is is_right


@pytest.mark.parametrize(
    "host", ["", "10.0.0.7:9901", "localhost", "LOCALHOST:1", "[::1]:9901", "ops.Test", "OPS.test:80"]
)
def test_who_calls_by_an_address_or_by_a_name_that_is_listed_may_read(host: str) -> None:
    assert may_read(asked_by("10.0.0.1", Host=host), settings.Admin(hosts=("Ops.test",))) == ""


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "ops.test.evil.test:9901",
        "x.ops.test",
        "localhost.",
        "127.0.0.1.evil.test",
        ":",
        "[evil]",
    ],
)
def test_who_calls_by_any_other_name_may_not(host: str) -> None:
    refusal = may_read(asked_by("127.0.0.1", Host=host), settings.Admin(hosts=("ops.test",), token="t"))
    assert refusal.startswith("called by a name that admin.hosts does not list")


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz"])
def test_probes_and_scrapers_may_call_by_any_name(path: str) -> None:
    assert may_read(asked_by("10.0.0.1", path, Host="crowdgate.shop.svc:9901"), settings.Admin()) == ""


def test_with_the_token_any_name_will_do() -> None:
    request = asked_by("10.0.0.1", Host="evil.test", Authorization="Bearer t")
    assert [may_read(request, settings.Admin(token=token)) == "" for token in ("t", "other", None)] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("remote", "headers", "token", "is_one"),
    [
        pytest.param("127.0.0.1", {}, None, True, id="on the machine"),
        pytest.param("127.0.0.1", {}, "t", True, id="on the machine, where there is a token"),
        pytest.param("10.0.0.1", {"Authorization": "Bearer t"}, "t", True, id="with the token"),
        pytest.param(
            "10.0.0.1", {"Authorization": "Bearer t"}, None, False, id="with a token where there is none"
        ),
        pytest.param("10.0.0.1", {}, None, False, id="from elsewhere"),
        pytest.param("127.0.0.1", {"Via": "1.1 x"}, "t", False, id="through a proxy on the machine"),
        pytest.param("127.0.0.1", {"Host": "ops.test"}, None, False, id="by a name"),
    ],
)
def test_an_operator_has_the_token_or_is_on_the_machine(
    remote: str, headers: dict[str, str], token: str | None, is_one: bool
) -> None:
    assert is_operator(asked_by(remote, **headers), token) is is_one


async def test_a_body_too_large_is_refused(tmp_path: Path) -> None:
    async with live(tmp_path, "") as here:
        answer = await here.ask("/api/purge", method="POST", body=b" " * (1024 * 1024 + 1))
        assert (413, "the body is larger than 1048576 bytes") == (
            answer.status,
            json.loads(answer.body)["detail"],
        )


async def test_a_body_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_guard, "_BODY_S", 0.1)
    async with live(tmp_path, "") as here, connected(here.admin_port) as client:
        await client.send(request("/api/purge", "Host: localhost", "Content-Length: 9", method="POST") + b"{")
        answer = await client.response()
        assert (400, "the body did not come within 0.1s") == (
            answer.status,
            json.loads(answer.body)["detail"],
        )


async def test_a_head_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_guard, "_IDLE_S", 0.3)
    async with live(tmp_path, "") as here, connected(here.admin_port) as client:
        started = time.monotonic()
        await client.send(b"GET /livez HTTP/1.1\r\nX: ")
        drip = asyncio.ensure_future(_drip(client.send))
        assert await client.rest(within_s=5) == b""
        drip.cancel()
        assert time.monotonic() - started < 3


async def _drip(send: Any) -> None:
    while True:
        await asyncio.sleep(0.05)
        await send(b"x")


async def test_too_many_connections_are_closed_and_make_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_guard, "_MAX_CONNECTIONS", 2)
    async with live(tmp_path, "") as here:
        async with connected(here.admin_port) as one, connected(here.admin_port) as other:
            assert [200, 200] == [(await each.ask("/livez")).status for each in (one, other)]
            async with connected(here.admin_port) as third:
                assert await third.rest() == b""
        async with asyncio.timeout(5):
            while True:
                async with connected(here.admin_port) as fourth:
                    try:
                        assert (await fourth.ask("/livez")).status == 200
                    except (asyncio.IncompleteReadError, ConnectionError):
                        continue
                    return


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
async def test_a_client_that_reads_nothing_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_guard, "_UNREAD_S", 0.5)
    async with live(tmp_path, "") as here:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, ("127.0.0.1", here.admin_port))
            # 16 MB of answers: more than the kernel keeps.
            await loop.sock_sendall(deaf, request("/", "Host: localhost") * 1000)
            assert await _is_reset(deaf, within_s=20)


async def _is_reset(deaf: socket.socket, within_s: float) -> bool:
    """Without reading. The server's side ends in silence; whatever is sent to it then is refused."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            deaf.send(b" ")
        except BlockingIOError:
            pass
        except ConnectionError:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_defect_is_told_as_one_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with live(tmp_path, "") as here:

        def defect() -> list[str]:
            raise ZeroDivisionError

        here.proxy.unready = defect  # type: ignore[method-assign]
        answer = await here.ask("/readyz")
    assert (500, "a defect of the proxy; its log has the details") == (
        answer.status,
        json.loads(answer.body)["detail"],
    )
    assert ["defect of the admin port"] == [record.getMessage() for record in caplog.records]
