"""Whatever the API does wrong is said plainly, counted, never stored, and over as soon as the API is well again."""

import asyncio
import json
import socket
import time
from collections.abc import Callable

import pytest

from tests.flow.client import Response, connected, fetch
from tests.flow.origin import Answer, Asked, Origin, after, framed, ok, origin, raw
from tests.flow.processes import Proxy, running
from tests.servers import free_port

TIMEOUT_S = 0.4
# What a loaded machine may add to a wait.
SLACK_S = 0.4


def config(url: str, more: str = "") -> str:
    return f"""
upstream: {{url: {url}, timeout: {TIMEOUT_S}s, read_timeout: {TIMEOUT_S}s, connect_timeout: 300ms {more}}}
routes:
  - {{name: stored, match: "/stored", ttl: 1m}}
  - {{name: stale, match: "/stale", ttl: 50ms, stale_if_error: 1m}}
"""


def problem(response: Response) -> tuple[int, str, str]:
    told = json.loads(response.body)
    assert (told["status"], told["source"]) == (response.status, "crowdgate")
    return response.status, response.get("content-type"), response.get("cache-control")


def problem_of(status: int) -> tuple[int, str, str]:
    return status, "application/problem+json", "no-store"


async def failures(proxy: Proxy, kind: str) -> float:
    return await proxy.metric("crowdgate_upstream_requests_total", code=kind)


PATHS = pytest.mark.parametrize("path", ["/stored", "/passed"])


@PATHS
async def test_an_api_that_is_down_is_a_502_and_served_as_soon_as_it_is_back(path: str) -> None:
    port = free_port()
    async with running(config(f"http://127.0.0.1:{port}")) as proxy:
        assert problem(await fetch(proxy.port, path)) == problem_of(502)
        assert await failures(proxy, "connect") == 1
        assert await proxy.metric("crowdgate_requests_total", code="502", cache="error") == 1

        async with origin(port) as api:
            api.on("/", ok(b"back"))
            assert (await fetch(proxy.port, path)).brief == (200, b"back")


@PATHS
@pytest.mark.parametrize("reused", [False, True], ids=["new connection", "used connection"])
async def test_an_api_that_hangs_is_a_504_after_its_timeout(api: Origin, path: str, reused: bool) -> None:  # noqa: FBT001
    api.on("/", after(10, ok()))
    api.on("/well", ok())
    async with running(config(api.url)) as proxy:
        if reused:
            await fetch(proxy.port, "/well")
        started = time.monotonic()
        response = await fetch(proxy.port, path)
        took = time.monotonic() - started

        assert problem(response) == problem_of(504)
        assert TIMEOUT_S <= took < TIMEOUT_S + SLACK_S
        assert (api.count(path), await failures(proxy, "timeout")) == (1, 1)


async def test_an_api_that_does_not_accept_is_a_504_after_the_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        address = deaf.getsockname()
        fill = [socket.socket() for _ in range(4)]
        try:
            for one in fill:
                one.setblocking(False)
                one.connect_ex(address)
            async with running(config(f"http://127.0.0.1:{address[1]}")) as proxy:
                started = time.monotonic()
                response = await fetch(proxy.port, "/passed")
                took = time.monotonic() - started

                assert problem(response) == problem_of(504)
                assert 0.3 <= took < 0.3 + SLACK_S
                assert await failures(proxy, "connect_timeout") == 1
        finally:
            for one in fill:
                one.close()


def cut_length() -> Answer:
    return raw(framed(b"half", of=1000), close=True)


def cut_chunks() -> Answer:
    return raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", close=True)


async def stalled(asked: Asked) -> None:
    await asked.send(framed(b"half", of=1000))
    await asked.gone(10)


async def reset(asked: Asked) -> None:
    await asked.send(framed(b"half", of=1000))
    asked.writer.transport.abort()


CUTS = pytest.mark.parametrize(
    ("cut", "status"),
    [
        pytest.param(cut_length, 502, id="Content-Length"),
        pytest.param(cut_chunks, 502, id="chunked"),
        pytest.param(lambda: stalled, 504, id="stalled"),
        pytest.param(lambda: reset, 502, id="reset"),
    ],
)


@CUTS
async def test_a_body_that_breaks_off_is_an_error_where_it_would_be_stored_and_is_not(
    api: Origin, cut: Callable[[], Answer], status: int
) -> None:
    api.on("/stored", cut())
    async with running(config(api.url)) as proxy:
        assert problem(await fetch(proxy.port, "/stored")) == problem_of(status)
        assert await proxy.metric("crowdgate_memory_entries") == 0
        assert await proxy.metric("crowdgate_requests_total", code=str(status), cache="error") == 1

        api.on("/stored", ok(b"whole"))
        assert (await fetch(proxy.port, "/stored")).brief == (200, b"whole")


@CUTS
async def test_a_body_that_breaks_off_on_its_way_through_breaks_off_for_the_client_too(
    api: Origin, cut: Callable[[], Answer], status: int
) -> None:
    api.on("/passed", cut())
    async with running(config(api.url)) as proxy:
        async with connected(proxy.port) as client:
            response = await client.ask("/passed")
            rest = await client.rest(1)

        assert (response.status, response.body, response.whole, rest) == (200, b"half", False, b"")
        assert await proxy.metric("crowdgate_requests_total", route="-", cache="error") == 1
        assert (await fetch(proxy.port, "/well")).status == 200


async def test_a_body_that_breaks_off_does_not_end_cleanly_for_an_http_1_0_client(api: Origin) -> None:
    api.on("/passed", cut_chunks())
    async with running(config(api.url)) as proxy, connected(proxy.port) as client:
        await client.send(b"GET /passed HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
            await client.reader.read()


@CUTS
async def test_a_stale_answer_stands_in_for_a_body_that_breaks_off(
    api: Origin, cut: Callable[[], Answer], status: int
) -> None:
    api.on("/stale", ok(b"old"))
    async with running(config(api.url)) as proxy:
        await fetch(proxy.port, "/stale")
        await asyncio.sleep(0.1)
        api.on("/stale", cut())
        response = await fetch(proxy.port, "/stale")

        assert (response.brief, response.cache.startswith("hit; ttl=")) == ((200, b"old"), True)
        assert await proxy.metric("crowdgate_requests_total", cache="stale") == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_stale_answer_stands_in_for_an_api_that_fails_until_it_is_well(
    api: Origin, status: int
) -> None:
    api.on("/stale", ok(b"old"))
    async with running(config(api.url)) as proxy:
        await fetch(proxy.port, "/stale")
        await asyncio.sleep(0.1)
        api.on("/stale", ok(b"ill", status=f"{status} Ill"))
        assert (await fetch(proxy.port, "/stale")).brief == (200, b"old")

        api.on("/stale", ok(b"new"))
        async with asyncio.timeout(3):
            while (await fetch(proxy.port, "/stale")).body != b"new":
                await asyncio.sleep(0.02)


async def test_a_stale_answer_stands_in_for_an_api_that_is_gone() -> None:
    async with origin() as api:
        api.on("/stale", ok(b"old"))
        async with running(config(api.url)) as proxy:
            await fetch(proxy.port, "/stale")
            await asyncio.sleep(0.1)
            api.on("/stale", raw(b"", close=True))
            assert (await fetch(proxy.port, "/stale")).brief == (200, b"old")


async def test_the_api_s_own_errors_are_passed_on_as_they_are(api: Origin) -> None:
    api.on("/stored", ok(b"ill", "X-Why: ill", status="503 Too Bad"))
    async with running(config(api.url)) as proxy:
        response = await fetch(proxy.port, "/stored")

        assert (response.brief, response.reason, response.get("x-why")) == ((503, b"ill"), b"Too Bad", "ill")
        assert await proxy.metric("crowdgate_memory_entries") == 0


GARBAGE = {
    "nothing": b"",
    "no HTTP": b"hello, world\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "folded line": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "no end of head": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("path", ["/stored", "/passed"])
async def test_garbage_is_a_502_that_is_counted(api: Origin, path: str) -> None:
    async with running(config(api.url)) as proxy:
        for name, data in GARBAGE.items():
            api.on(path, raw(data, close=True))
            response = await fetch(proxy.port, path)
            assert (name, *problem(response)) == (name, *problem_of(502))

        # Without its own end a head is not malformed but cut.
        assert await failures(proxy, "reset") == 2
        assert await failures(proxy, "malformed") == len(GARBAGE) - 2
        assert await proxy.metric("crowdgate_memory_entries") == 0
        api.on(path, ok(b"well"))
        assert (await fetch(proxy.port, path)).brief == (200, b"well")


BAD_CHUNKS = {
    "no number": b"xyz\r\n",
    "negative": b"-1\r\n",
    "bare LF": b"4\nhalf\n",
    "no end": b"4\r\nhalfx",
    "a number without end": b"0" * 1000,
}


async def test_a_malformed_chunk_is_never_a_clean_end(api: Origin) -> None:
    async with running(config(api.url)) as proxy:
        for name, data in BAD_CHUNKS.items():
            bad = raw(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n" + data, close=True
            )
            api.on("/", bad)
            assert (name, (await fetch(proxy.port, "/stored")).status) == (name, 502)
            assert (name, (await fetch(proxy.port, "/passed")).whole) == (name, False)


async def test_bytes_after_an_answer_are_not_the_next_one(api: Origin) -> None:
    api.on("/passed", raw(framed(b"mine") + framed(b"smuggled")))
    api.on("/next", ok(b"next"))
    async with running(config(api.url)) as proxy:
        assert (await fetch(proxy.port, "/passed")).body == b"mine"
        assert (await fetch(proxy.port, "/next")).body == b"next"


async def test_a_slow_body_is_served_whole(api: Origin) -> None:
    async def slow(asked: Asked) -> None:
        await asked.send(framed(b"", of=6))
        for letter in (b"s", b"l", b"o", b"w", b"l", b"y"):
            await asyncio.sleep(TIMEOUT_S / 4)
            await asked.send(letter)

    api.on("/", slow)
    async with running(config(api.url)) as proxy:
        both = await asyncio.gather(fetch(proxy.port, "/stored"), fetch(proxy.port, "/passed"))
        assert [response.brief for response in both] == [(200, b"slowly")] * 2


async def test_too_many_at_once_wait_their_turn_or_get_a_503(api: Origin) -> None:
    api.on("/passed", after(0.3, ok()))
    async with running(config(api.url, ", max_connections: 1, queue_timeout: 200ms")) as proxy:
        started = time.monotonic()
        first = asyncio.ensure_future(fetch(proxy.port, "/passed"))
        await api.came("/passed")
        second = await fetch(proxy.port, "/passed")
        took = time.monotonic() - started

        assert (problem(second), second.get("retry-after")) == (problem_of(503), "1")
        assert 0.2 <= took < 0.2 + SLACK_S
        assert ((await first).status, await failures(proxy, "busy"), api.open) == (200, 1, 1)


async def test_no_more_connections_than_allowed_idle_ones_included(api: Origin) -> None:
    most = 0

    async def watching(asked: Asked) -> None:
        nonlocal most
        # One that was closed for this one is seen to be so a moment later.
        await asyncio.sleep(0.05)
        most = max(most, api.open)
        await ok()(asked)

    api.on("/", watching)
    async with running(config(api.url, ", max_connections: 1")) as proxy:
        await fetch(proxy.port, "/passed")
        # A POST takes a new connection: the idle one must make room.
        await fetch(proxy.port, "/passed", method="POST", body=b"x")
        await asyncio.sleep(0.05)
        await fetch(proxy.port, "/passed")

        assert (most, api.open) == (1, 1)


async def test_of_several_addresses_those_that_are_down_cost_no_request() -> None:
    async with origin() as one, origin() as other:
        urls = f"[{one.url}, {other.url}, 'http://127.0.0.1:{free_port()}']"
        async with running(f"upstream: {{urls: {urls}}}") as proxy:
            statuses = [(await fetch(proxy.port, "/")).status for _ in range(30)]

            assert statuses == [200] * 30
            assert one.count("/") >= 10 <= other.count("/")
