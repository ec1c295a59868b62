"""Whatever the API does wrong is said plainly, counted, never stored, and over as soon as the API is well again."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from hashlib import blake2b

import pytest
import pytest_asyncio

from tests.flow.client import Client, Response, connected, fetch
from tests.flow.origin import Answer, Asked, Origin, after, framed, ok, origin, raw
from tests.flow.processes import Proxy, running
from tests.servers import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMEOUT_S = 0.4
# What a loaded machine may add to a wait.
SLACK_S = 0.4


def config(url: str, more: str = "") -> str:
    return f"""
upstream: {{url: {url}, timeout: {TIMEOUT_S}s, read_timeout: {TIMEOUT_S}s, connect_timeout: 300ms {more}}}
routes:
  - {{name: stored, match: "/stored/**", ttl: 1m}}
  - {{name: stale, match: "/stale/**", ttl: 50ms, stale_if_error: 1m}}
"""


def problem(response: Response) -> tuple[int, str, str]:
    told = json.loads(response.body)
    assert (told["status"], told["source"]) == (response.status, "crowdgate")
    return response.status, response.get("content-type"), response.get("cache-control")


def problem_of(status: int) -> tuple[int, str, str]:
    return status, "application/problem+json", "no-store"


async def failures(proxy: Proxy, kind: str) -> float:
    return await proxy.metric("crowdgate_upstream_requests_total", code=kind)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(api: Origin) -> AsyncIterator[Proxy]:
    async with running(config(api.url)) as started:
        yield started


@pytest.fixture
def here(request: pytest.FixtureRequest) -> str:
    """A path's end that no other test uses."""
    return blake2b(request.node.name.encode(), digest_size=8).hexdigest()


PATHS = pytest.mark.parametrize("path", ["/stored/", "/passed/"])


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
async def test_an_api_that_hangs_is_a_504_after_its_timeout(path: str, reused: bool) -> None:
    async with origin() as api, running(config(api.url)) as proxy:
        api.on("/", after(10, ok()))
        api.on("/well", ok())
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
    api: Origin, proxy: Proxy, here: str, cut: Callable[[], Answer], status: int
) -> None:
    path, entries = f"/stored/{here}", await proxy.metric("crowdgate_memory_entries")
    errors = await proxy.metric("crowdgate_requests_total", code=str(status), cache="error")
    api.on(path, cut())

    assert problem(await fetch(proxy.port, path)) == problem_of(status)
    assert await proxy.metric("crowdgate_memory_entries") == entries
    assert await proxy.metric("crowdgate_requests_total", code=str(status), cache="error") == errors + 1
    api.on(path, ok(b"whole"))
    assert (await fetch(proxy.port, path)).brief == (200, b"whole")


@CUTS
async def test_a_body_that_breaks_off_on_its_way_through_breaks_off_for_the_client_too(
    api: Origin, proxy: Proxy, here: str, cut: Callable[[], Answer], status: int
) -> None:
    path, errors = (
        f"/passed/{here}",
        await proxy.metric("crowdgate_requests_total", code="200", cache="error"),
    )
    api.on(path, cut())
    async with connected(proxy.port) as client:
        response = await client.ask(path)
        rest = await client.rest(1)

    assert (response.status, response.body, response.whole, rest) == (200, b"half", False, b"")
    assert await proxy.metric("crowdgate_requests_total", code="200", cache="error") == errors + 1


async def to_the_end(client: Client) -> None:
    while await client.reader.read(100):
        pass


async def test_a_body_that_breaks_off_does_not_end_cleanly_for_an_http_1_0_client(
    api: Origin, proxy: Proxy
) -> None:
    api.on("/passed/old", cut_chunks())
    async with connected(proxy.port) as client:
        await client.send(b"GET /passed/old HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await to_the_end(client)


@CUTS
async def test_a_stale_answer_stands_in_for_a_body_that_breaks_off(
    api: Origin, proxy: Proxy, here: str, cut: Callable[[], Answer], status: int
) -> None:
    path, stale = f"/stale/{here}", await proxy.metric("crowdgate_requests_total", cache="stale")
    api.on(path, ok(b"old"))
    await fetch(proxy.port, path)
    await asyncio.sleep(0.1)
    api.on(path, cut())

    assert (await fetch(proxy.port, path)).brief == (200, b"old")
    assert await proxy.metric("crowdgate_requests_total", cache="stale") == stale + 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_stale_answer_stands_in_for_an_api_that_fails(
    api: Origin, proxy: Proxy, here: str, status: int
) -> None:
    path = f"/stale/{here}"
    api.on(path, ok(b"old"))
    await fetch(proxy.port, path)
    await asyncio.sleep(0.1)
    api.on(path, ok(b"ill", status=f"{status} Ill"))

    response = await fetch(proxy.port, path)
    assert (response.brief, f"fwd-status={status}" in response.cache) == ((200, b"old"), True)


async def test_an_api_that_is_gone_and_back_is_hidden_behind_the_stale_answer_until_then() -> None:
    port = free_port()
    async with running(config(f"http://127.0.0.1:{port}")) as proxy:
        async with origin(port) as api:
            api.on("/stale/a", ok(b"old"))
            await fetch(proxy.port, "/stale/a")
        await asyncio.sleep(0.1)
        assert (await fetch(proxy.port, "/stale/a")).brief == (200, b"old")

        async with origin(port) as api:
            api.on("/stale/a", ok(b"new"))
            async with asyncio.timeout(3):
                while (await fetch(proxy.port, "/stale/a")).body != b"new":
                    await asyncio.sleep(0.02)


async def test_the_api_s_own_errors_are_passed_on_as_they_are_and_not_stored(
    api: Origin, proxy: Proxy
) -> None:
    api.on("/stored/ill", ok(b"ill", "X-Why: ill", status="503 Too Bad"))
    response = await fetch(proxy.port, "/stored/ill")
    assert (response.brief, response.reason, response.get("x-why")) == ((503, b"ill"), b"Too Bad", "ill")

    api.on("/stored/ill", ok(b"well"))
    assert (await fetch(proxy.port, "/stored/ill")).brief == (200, b"well")


GARBAGE = {
    "nothing": b"",
    "no HTTP": b"hello, world\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "folded line": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "space in a name": b"HTTP/1.1 200 OK\r\nContent Length: 0\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "no end of head": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
}


@PATHS
async def test_garbage_is_a_502_that_is_counted(api: Origin, proxy: Proxy, path: str) -> None:
    path += "garbage"
    before = [await failures(proxy, kind) for kind in ("reset", "malformed")]
    for name, data in GARBAGE.items():
        api.on(path, raw(data, close=True))
        response = await fetch(proxy.port, path)
        assert (name, *problem(response)) == (name, *problem_of(502))

    counted = [await failures(proxy, kind) for kind in ("reset", "malformed")]
    # Without its own end a head is not malformed but cut.
    assert [after - before for after, before in zip(counted, before, strict=True)] == [2, len(GARBAGE) - 2]
    api.on(path, ok(b"well"))
    assert (await fetch(proxy.port, path)).brief == (200, b"well")


BAD_CHUNKS = {
    "no number": b"xyz\r\n",
    "negative": b"-1\r\n",
    "bare LF": b"4\nhalf\n",
    "no end": b"4\r\nhalfx",
    "a number without end": b"0" * 1000,
}


async def test_a_malformed_chunk_is_never_a_clean_end(api: Origin, proxy: Proxy) -> None:
    for name, data in BAD_CHUNKS.items():
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n"
        for path in ("/stored/chunk", "/passed/chunk"):
            api.on(path, raw(head + data, close=True))
        assert (name, (await fetch(proxy.port, "/stored/chunk")).status) == (name, 502)
        assert (name, (await fetch(proxy.port, "/passed/chunk")).whole) == (name, False)


async def test_bytes_after_an_answer_are_not_the_next_one(api: Origin, proxy: Proxy) -> None:
    api.on("/passed/mine", raw(framed(b"mine") + framed(b"smuggled")))
    api.on("/passed/next", ok(b"next"))

    assert (await fetch(proxy.port, "/passed/mine")).body == b"mine"
    assert (await fetch(proxy.port, "/passed/next")).body == b"next"


async def test_a_slow_body_is_served_whole(api: Origin, proxy: Proxy) -> None:
    async def slow(asked: Asked) -> None:
        await asked.send(framed(b"", of=6))
        for letter in (b"s", b"l", b"o", b"w", b"l", b"y"):
            await asyncio.sleep(TIMEOUT_S / 4)
            await asked.send(letter)

    paths = ["/stored/slow", "/passed/slow"]
    for path in paths:
        api.on(path, slow)
    both = await asyncio.gather(*(fetch(proxy.port, path) for path in paths))

    assert [response.brief for response in both] == [(200, b"slowly")] * 2


async def test_too_many_at_once_wait_their_turn_or_get_a_503() -> None:
    more = ", max_connections: 1, queue_timeout: 200ms"
    async with origin() as api, running(config(api.url, more)) as proxy:
        api.on("/passed", after(0.3, ok()))
        started = time.monotonic()
        first = asyncio.ensure_future(fetch(proxy.port, "/passed"))
        await api.came("/passed")
        second = await fetch(proxy.port, "/passed")
        took = time.monotonic() - started

        assert (problem(second), second.get("retry-after")) == (problem_of(503), "1")
        assert 0.2 <= took < 0.2 + SLACK_S
        assert ((await first).status, await failures(proxy, "busy"), api.open) == (200, 1, 1)


async def test_no_more_connections_than_allowed_idle_ones_included() -> None:
    most = 0
    async with origin() as api, running(config(api.url, ", max_connections: 1")) as proxy:

        async def watching(asked: Asked) -> None:
            nonlocal most
            # One that was closed for this one is seen to be so a moment later.
            await asyncio.sleep(0.05)
            most = max(most, api.open)
            await ok()(asked)

        api.on("/", watching)
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
