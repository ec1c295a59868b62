"""Every wait has an end and every size a bound; nothing of what was refused is echoed."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.flow.client import connected, fetch, request
from tests.flow.origin import Asked, Origin, cut_off, ok, origin
from tests.flow.processes import Proxy, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What a loaded machine may add to a wait.
SLACK_S = 0.5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(api: Origin) -> AsyncIterator[Proxy]:
    config = f"""
upstream: {{url: {api.url}, read_timeout: 400ms}}
client:
  header_timeout: 300ms
  body_timeout: 300ms
  idle_timeout: 700ms
  write_timeout: 400ms
  max_body: 1000B
routes: [{{match: "/kept/**", ttl: 1m}}]
"""
    async with running(config) as started:
        yield started


async def refused(proxy: Proxy, kind: str) -> float:
    return await proxy.metric("crowdgate_bad_requests_total", kind=kind)


async def test_half_a_head_is_closed_with_408(proxy: Proxy) -> None:
    before = await refused(proxy, "header_timeout")
    for opening in (b"", request("/")):
        async with connected(proxy.port) as client:
            if opening:
                await client.send(opening)
                await client.response()
            started = time.monotonic()
            await client.send(b"GET /secret HTTP/1.1\r\nHost: a\r\nX-Se")
            answer = await client.rest(5)
            took = time.monotonic() - started

        assert (answer[:12], b"connection: close" in answer.lower()) == (b"HTTP/1.1 408", True)
        assert b"secret" not in answer
        assert 0.2 < took < 0.3 + SLACK_S
    assert await refused(proxy, "header_timeout") == before + 2


async def test_a_head_that_drips_is_closed_all_the_same(proxy: Proxy) -> None:
    started = time.monotonic()
    async with connected(proxy.port) as client:
        answer = asyncio.ensure_future(client.rest(5))
        for letter in "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: " + "x" * 100:
            if answer.done():
                break
            client.writer.write(letter.encode())
            await asyncio.sleep(0.02)

        assert (await answer)[:12] == b"HTTP/1.1 408"
    assert time.monotonic() - started < 0.3 + SLACK_S


async def test_a_connection_that_never_asks_is_closed(proxy: Proxy) -> None:
    started = time.monotonic()
    async with connected(proxy.port) as client:
        assert await client.rest(5) == b""
    assert 0.25 < time.monotonic() - started < 0.3 + SLACK_S


async def test_an_idle_connection_is_closed_without_a_word(proxy: Proxy) -> None:
    async with connected(proxy.port) as client:
        await client.ask("/")
        # Longer than a head may take: idleness has a limit of its own.
        await asyncio.sleep(0.4)
        await client.ask("/")
        started = time.monotonic()
        assert await client.rest(5) == b""
        assert 0.6 < time.monotonic() - started < 0.7 + SLACK_S


async def test_half_a_head_behind_an_answer_is_closed_too(api: Origin, proxy: Proxy) -> None:
    async def slow(asked: Asked) -> None:
        await asyncio.sleep(0.1)
        await ok()(asked)

    api.on("/slow", slow)
    async with connected(proxy.port) as client:
        await client.send(request("/slow") + b"GET / HT")
        await client.response()
        started = time.monotonic()
        await client.rest(5)
    assert time.monotonic() - started < 0.7 + SLACK_S


@pytest.mark.parametrize("chunked", [False, True], ids=["Content-Length", "chunked"])
async def test_a_body_that_stalls_is_a_408(api: Origin, proxy: Proxy, chunked: bool) -> None:
    api.on("/upload", ok())
    before = await refused(proxy, "body")
    line, start = (
        ("Transfer-Encoding: chunked", b"4\r\nhalf\r\n") if chunked else ("Content-Length: 10", b"half")
    )
    started = time.monotonic()
    async with connected(proxy.port) as client:
        await client.send(request("/upload", line, method="POST") + start)
        response = await client.response()

    assert (response.status, response.get("connection")) == (408, "close")
    assert 0.3 <= time.monotonic() - started < 0.3 + SLACK_S
    assert await refused(proxy, "body") == before + 1


async def test_a_body_that_is_announced_too_large_is_never_sent_on(api: Origin, proxy: Proxy) -> None:
    api.on("/large", ok())
    response = await fetch(proxy.port, "/large", method="POST", body=b"x" * 1001)

    assert (response.status, response.get("connection"), api.count("/large")) == (413, "close", 0)
    assert (await fetch(proxy.port, "/large", method="POST", body=b"x" * 1000)).status == 200


async def test_a_chunked_body_that_grows_too_large_is_a_413_and_not_whole_at_the_api(
    api: Origin, proxy: Proxy
) -> None:
    cut = asyncio.Event()

    api.on("/growing", cut_off(cut))
    async with connected(proxy.port) as client:
        await client.send(request("/growing", "Transfer-Encoding: chunked", method="POST"))
        for _ in range(3):
            await client.send(b"190\r\n" + b"x" * 0x190 + b"\r\n")
        assert (await client.response()).status == 413
    async with asyncio.timeout(2):
        await cut.wait()


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /" + b"q" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="long line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"q" * 9000 + b"\r\n\r\n", id="long field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: qqq\r\n" * 200 + b"\r\n", id="many fields"),
        pytest.param(b"GET /qqq HTTP/1.1\r\nHost: a\r\nX : qqq\r\n\r\n", id="space before colon"),
        pytest.param(b"GET /qqq\r\n\r\n", id="no version"),
        pytest.param(b"GET /qqq HTTP/2.0\r\nHost: a\r\n\r\n", id="HTTP/2"),
        pytest.param(b"qqq\r\n\r\n", id="garbage"),
        pytest.param(b"POST /q HTTP/1.1\r\nHost: a\r\nContent-Length: qqq\r\n\r\n", id="length of letters"),
        pytest.param(
            b"POST /qqq HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="two framings",
        ),
        pytest.param(b"\x16\x03\x01qqq\r\n\r\n", id="TLS"),
    ],
)
async def test_a_head_that_is_malformed_or_too_large_is_refused_without_an_echo(
    api: Origin, proxy: Proxy, head: bytes
) -> None:
    before, asked = await refused(proxy, "malformed"), len(api.asked)
    async with connected(proxy.port) as client:
        await client.send(head)
        response = await client.response()
        assert await client.rest(2) == b""

    assert (response.status in {400, 414, 431, 505}, response.get("connection")) == (True, "close")
    assert (b"qqq" in response.body, response.get("content-type")) == (False, "application/problem+json")
    assert (len(api.asked), await refused(proxy, "malformed")) == (asked, before + 1)


async def test_connect_is_refused(proxy: Proxy) -> None:
    assert (await fetch(proxy.port, "api.test:443", method="CONNECT")).status == 405


@pytest.mark.parametrize("path", ["/kept/large", "/passed/large"])
async def test_a_client_that_does_not_read_is_let_go(api: Origin, proxy: Proxy, path: str) -> None:
    async def endless(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n\r\n")
        while True:
            await asked.send(bytes(65536))

    api.on(path, endless)
    before = await refused(proxy, "write_timeout")
    async with connected(proxy.port) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request(path))
        await proxy.until("crowdgate_bad_requests_total", before + 1, kind="write_timeout", within_s=5)
        async with asyncio.timeout(2):
            while await proxy.metric("crowdgate_upstream_inflight"):
                await asyncio.sleep(0.01)


async def test_a_client_that_reads_slowly_but_reads_gets_all_of_it(api: Origin, proxy: Proxy) -> None:
    body = bytes(range(256)) * 4096
    api.on("/kept/slowly", ok(body))
    await fetch(proxy.port, "/kept/slowly")
    got = b""
    async with connected(proxy.port) as client:
        # Ten of them do not fit into the kernel's buffers.
        await client.send(request("/kept/slowly") * 10)
        started = time.monotonic()
        while len(got) < 10 * len(body):
            got += await client.reader.read(2**19)
            await asyncio.sleep(0.05)

    assert time.monotonic() - started > 0.4
    assert got.count(body) == 10


async def test_an_answer_that_stalls_is_broken_off(api: Origin, proxy: Proxy) -> None:
    async def stalling(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await asked.gone(10)

    api.on("/passed/stalling", stalling)
    started = time.monotonic()
    response = await fetch(proxy.port, "/passed/stalling")

    assert (response.body, response.whole) == (b"half", False)
    assert 0.4 <= time.monotonic() - started < 0.4 + SLACK_S


async def test_connections_beyond_the_limit_are_closed_and_the_others_served(api: Origin) -> None:
    async with (
        running(f"upstream: {{url: {api.url}}}\nclient: {{max_connections: 3}}") as proxy,
        connected(proxy.port) as one,
        connected(proxy.port) as two,
        connected(proxy.port) as three,
    ):
        for client in (one, two, three):
            assert (await client.ask("/")).status == 200
        async with connected(proxy.port) as four:
            assert await four.rest(2) == b""
        assert await refused(proxy, "connections") == 1
        assert (await three.ask("/")).status == 200
        one.abort()
        async with asyncio.timeout(2):
            while await proxy.metric("crowdgate_client_connections") > 2:
                await asyncio.sleep(0.01)
        assert (await fetch(proxy.port, "/")).status == 200
