"""No client gets another's bytes, and no write goes unseen, however the client behaves. Found by review."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.flow.client import connected, fetch, request
from tests.flow.origin import Asked, Origin, after, framed, numbered, ok, origin, raw
from tests.flow.processes import Proxy, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: eA==",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(api: Origin) -> AsyncIterator[Proxy]:
    config = f"""
upstream: {{url: {api.url}, max_connections: 3, timeout: 3s, write_timeout: 500ms}}
routes:
  - {{match: "/kept/{{id}}", ttl: 5m, tags: ["kept:{{id}}"]}}
  - {{match: "/swr/{{id}}", ttl: 1s, stale_while_revalidate: 10m}}
  - {{match: "/kept/{{id}}/join", name: join, methods: [POST], purge: ["kept:{{id}}"]}}
"""
    async with running(config) as started:
        yield started


@pytest.mark.parametrize("framing", ["Content-Length: 30", "Transfer-Encoding: chunked"])
async def test_an_upgrade_with_a_body_is_a_plain_request(api: Origin, proxy: Proxy, framing: str) -> None:
    api.asked.clear()
    body = b"1e\r\n" + b"G" * 30 + b"\r\n0\r\n\r\n" if "chunked" in framing else b"G" * 30
    async with connected(proxy.port) as attacker:
        await attacker.send(request("/ws", *UPGRADE, framing) + body)
        assert (await attacker.response()).status == 200

    (asked,) = api.of("/ws")
    assert (asked.body, asked.get("upgrade")) == (b"G" * 30, "")


async def test_a_declined_upgrade_s_connection_is_nobody_else_s(api: Origin, proxy: Proxy) -> None:
    api.asked.clear()
    assert (await fetch(proxy.port, "/ws", *UPGRADE)).status == 200
    assert (await fetch(proxy.port, "/next")).status == 200

    ws, after_it = api.asked
    assert ws.writer is not after_it.writer


async def test_an_error_of_ours_to_head_has_no_body(api: Origin, proxy: Proxy) -> None:
    api.on("/garbage", raw(b"garbage\r\n\r\n", close=True))
    async with connected(proxy.port) as client:
        head = await client.ask("/garbage", method="HEAD")
        following = await client.ask("/fine")

    assert (head.status, following.status, following.body) == (502, 200, b"{}")


async def test_a_connection_in_the_middle_of_a_request_s_body_is_not_used_again(
    api: Origin, proxy: Proxy
) -> None:
    async def refuses(asked: Asked) -> None:
        # It reads nothing of the body for longer than write_timeout, answers, and keeps the connection.
        await asyncio.sleep(1)
        await asked.send(framed(b"no", status="413 Content Too Large"))

    api.on("/upload", refuses)
    api.asked.clear()
    async with connected(proxy.port) as client:
        client.writer.write(request("/upload", "Content-Length: 30000000", method="POST") + bytes(20_000_000))
        assert (await client.response()).status == 413
    victim = await fetch(proxy.port, "/victim", "Authorization: Bearer secret")

    assert (victim.status, [asked.target for asked in api.asked]) == (200, ["/upload", "/victim"])


async def test_100_continue_never_stands_in_the_middle_of_an_answer(api: Origin, proxy: Proxy) -> None:
    async def slowly(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nAAAAA")
        await asyncio.sleep(1.3)
        await asked.send(b"BBBBB")
        asked.close()

    api.on("/early", slowly)
    async with connected(proxy.port) as client:
        await client.send(request("/early", "Expect: 100-continue", "Content-Length: 5", method="POST"))
        answer = await client.response()

    assert answer.brief == (200, b"AAAAABBBBB")


async def test_a_write_is_purged_when_it_is_done_though_its_client_left_before(
    api: Origin, proxy: Proxy
) -> None:
    api.on("/kept/1", numbered())
    api.on("/kept/1/join", after(0.6, ok()))
    assert (await fetch(proxy.port, "/kept/1")).body == b"1"
    async with connected(proxy.port) as client:
        await client.send(request("/kept/1/join", method="POST", body=b"x"))
        await api.came("/kept/1/join")
    still_old = await fetch(proxy.port, "/kept/1")
    await asyncio.sleep(1)

    assert (still_old.body, (await fetch(proxy.port, "/kept/1")).body) == (b"1", b"2")


async def test_a_write_that_breaks_off_purges_nothing(api: Origin, proxy: Proxy) -> None:
    api.on("/kept/2", numbered())
    api.on("/kept/2/join", ok())
    assert (await fetch(proxy.port, "/kept/2")).body == b"1"
    for _ in range(5):
        async with connected(proxy.port) as client:
            await client.send(request("/kept/2/join", "Content-Length: 10", method="POST") + b"half")
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)

    assert (await fetch(proxy.port, "/kept/2")).body == b"1"


@pytest.mark.parametrize(
    "withdrawn",
    [
        pytest.param(ok(b"gone", status="404 Not Found"), id="gone"),
        pytest.param(ok(b"mine", "Cache-Control: private"), id="private"),
    ],
)
async def test_what_the_api_has_withdrawn_is_not_served_stale(
    api: Origin, proxy: Proxy, withdrawn: object, request: pytest.FixtureRequest
) -> None:
    path = f"/swr/{request.node.callspec.id}"
    api.on(path, ok(b"old"))
    assert (await fetch(proxy.port, path)).body == b"old"
    api.on(path, withdrawn)  # type: ignore[arg-type]
    await asyncio.sleep(1.2)
    stale = await fetch(proxy.port, path)
    await api.came(path, 2)
    await asyncio.sleep(0.1)

    assert stale.body == b"old"
    assert (await fetch(proxy.port, path)).body in {b"gone", b"mine"}


async def test_a_write_in_absolute_form_purges_as_well(api: Origin, proxy: Proxy) -> None:
    api.on("/kept/3", numbered())
    api.on("/kept/3/join", ok())
    assert (await fetch(proxy.port, "/kept/3")).body == b"1"
    assert (await fetch(proxy.port, "http://api.test/kept/3/join", method="POST", body=b"x")).status == 200

    assert (await fetch(proxy.port, "/kept/3")).body == b"2"


async def test_a_request_without_host_gets_one_towards_the_api(api: Origin, proxy: Proxy) -> None:
    async with connected(proxy.port) as client:
        await client.send(b"GET /kept/hostless HTTP/1.0\r\n\r\n")
        assert (await client.response()).status == 200

    assert api.of("/kept/hostless")[0].get("host") == f"127.0.0.1:{api.port}"
