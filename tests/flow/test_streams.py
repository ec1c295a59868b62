"""Bodies of any size, streams without an end, and tunnels: passed on as they come, in constant memory."""

import asyncio
import hashlib
import socket
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from proxy.demo.trial import BLOCK
from tests.flow.client import Client, connected, fetch, request
from tests.flow.origin import Asked, Origin, ok, origin
from tests.flow.processes import Proxy, running
from tests.proxy.demo import processes as demo

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
# What a stream may cost the proxy: its buffers, and what the allocator keeps of them.
GROWTH = 32 * MIB
# An event is news: it is passed on as soon as it comes.
PROMPTLY_S = 0.3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(api: Origin) -> AsyncIterator[Proxy]:
    config = f"""
upstream: {{url: {api.url}}}
routes: [{{match: "/ttl/**", ttl: 1m}}]
"""
    async with running(config) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def before_demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    """A proxy before the sample API."""
    with demo.running(tmp_path_factory.mktemp("cache")) as sample:
        async with running(f"upstream: {{url: '{sample.url}'}}\nroutes: [{{match: '/**'}}]") as started:
            yield started


def download(port: int, target: str) -> tuple[int, bool]:
    """Bytes of the body, and whether they were the right ones. Blocking: it must not be slower than the proxy."""
    repeated = memoryview(BLOCK * 20)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request(target, "Connection: close"))
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        data, right, size = data.partition(b"\r\n\r\n")[2], True, 0
        buffer = bytearray(MIB)
        # The head comes at once, the body when there is some.
        data = data or connection.recv(MIB)
        count, buffer[: len(data)] = len(data), data
        while count:
            start = size % len(BLOCK)
            right = right and memoryview(buffer)[:count] == repeated[start : start + count]
            size += count
            count = connection.recv_into(buffer)
    return size, right


async def test_a_gigabyte_is_downloaded_in_constant_memory(before_demo: Proxy) -> None:
    size = 1024 * MIB
    await fetch(before_demo.port, "/api/download?bytes=10000000")
    before = before_demo.rss
    downloading = asyncio.ensure_future(
        asyncio.to_thread(download, before_demo.port, f"/api/download?bytes={size}")
    )
    most = 0
    while not downloading.done():
        most = max(most, before_demo.rss)
        await asyncio.sleep(0.02)

    assert await downloading == (size, True)
    assert most - before < GROWTH


def upload(port: int, size: int) -> tuple[bytes, str]:
    """The answer and what was sent, digested."""
    digest, sent = hashlib.sha1(), 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request("/upload", f"Content-Length: {size}", method="POST"))
        while sent < size:
            piece = BLOCK[: size - sent]
            connection.sendall(piece)
            digest.update(piece)
            sent += len(piece)
        answer = b""
        while not answer.partition(b"\r\n\r\n")[2]:
            answer += connection.recv(65536)
        return answer, digest.hexdigest()


async def test_a_large_upload_passes_in_constant_memory(api: Origin, proxy: Proxy) -> None:
    async def digesting(asked: Asked) -> None:
        digest, left = hashlib.sha1(), int(asked.get("content-length"))
        while left:
            piece = await asked.reader.read(MIB)
            digest.update(piece)
            left -= len(piece)
        await ok(digest.hexdigest().encode())(Asked(b"", asked.reader, asked.writer))

    api.on("/upload", digesting)
    before = proxy.rss
    uploading = asyncio.ensure_future(asyncio.to_thread(upload, proxy.port, 200 * MIB))
    most = 0
    while not uploading.done():
        most = max(most, proxy.rss)
        await asyncio.sleep(0.02)
    answer, digest = await uploading

    assert answer.endswith(digest.encode())
    assert most - before < GROWTH


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("path", ["/passed/events", "/ttl/events"])
async def test_events_arrive_one_by_one_as_they_are_sent(api: Origin, proxy: Proxy, path: str) -> None:
    streams: asyncio.Queue[Asked] = asyncio.Queue()
    over = asyncio.Event()

    async def stream(asked: Asked) -> None:
        await asked.send(EVENTS)
        streams.put_nowait(asked)
        if await asked.gone():
            over.set()

    api.on(path, stream)
    async with connected(proxy.port) as client:
        await client.send(request(path))
        async with asyncio.timeout(PROMPTLY_S):
            assert (await client.head()).get("content-type") == "text/event-stream"
        asked = await streams.get()
        for number in range(5):
            event = b"data: %d\n\n" % number
            await asked.send(b"%x\r\n%b\r\n" % (len(event), event))
            async with asyncio.timeout(PROMPTLY_S):
                assert await client.chunk() == event
    # The client has left: so does the proxy.
    async with asyncio.timeout(1):
        await over.wait()


async def test_the_sample_s_events_arrive_every_second(before_demo: Proxy) -> None:
    async with connected(before_demo.port) as client:
        await client.send(request("/api/stream"))
        await client.head()
        first = await client.chunk()
        started = time.monotonic()
        second = await client.chunk()

    assert [b"id: 0" in (first or b""), b"id: 1" in (second or b"")] == [True, True]
    assert 0.7 < time.monotonic() - started < 1 + PROMPTLY_S


async def test_a_client_that_reads_slowly_holds_the_api_back(api: Origin, proxy: Proxy) -> None:
    sent = 0

    async def endless(asked: Asked) -> None:
        nonlocal sent
        await asked.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await asked.send(bytes(MIB))
            sent += MIB

    api.on("/passed/endless", endless)
    before = proxy.rss
    async with connected(proxy.port) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request("/passed/endless"))
        await api.came("/passed/endless")
        await asyncio.sleep(0.5)
        stopped = sent
        await asyncio.sleep(0.5)

        # The kernel's buffers on both ways are full, and nothing moves any more.
        assert (sent == stopped, sent < 64 * MIB) == (True, True)
        assert proxy.rss - before < 8 * MIB


async def test_an_api_that_reads_slowly_holds_the_client_back(api: Origin, proxy: Proxy) -> None:
    release = asyncio.Event()

    async def deaf(_: Asked) -> None:
        await release.wait()

    api.on("/passed/deaf", deaf)
    before = proxy.rss
    async with connected(proxy.port) as client:
        await client.send(request("/passed/deaf", "Content-Length: 1000000000", method="POST"))
        sent = 0

        async def sending() -> None:
            nonlocal sent
            while True:
                await client.send(bytes(MIB))
                sent += MIB

        task = asyncio.ensure_future(sending())
        await asyncio.sleep(0.5)
        stopped = sent
        await asyncio.sleep(0.5)
        task.cancel()

        assert (sent == stopped, sent < 64 * MIB) == (True, True)
        assert proxy.rss - before < 8 * MIB
    release.set()


async def test_a_websocket_carries_messages_of_any_size_both_ways_and_its_close(before_demo: Proxy) -> None:
    url = f"http://127.0.0.1:{before_demo.port}/api/ws"
    large = BLOCK * 40
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as ws:
        for message in ("hello", "ü" * 70_000):
            await ws.send_str(message)
            assert await ws.receive_str() == message
        await ws.send_bytes(large)
        assert await ws.receive_bytes() == large
        # It may be silent for a while.
        await asyncio.sleep(1)
        await ws.send_str("still there")
        assert await ws.receive_str() == "still there"
        # The code that it has from the API: it is that which says goodbye.
        await ws.close(code=4001)
        assert ws.close_code == 1000


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: eA==",
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Case: Kept\r\n\r\n"
)


async def tunnelled(client: Client, path: str, early: bytes = b"") -> None:
    await client.send(request(path, *UPGRADE) + early)
    head = await client.head()
    assert (head.status, head.get("upgrade"), head.get("x-case")) == (101, "websocket", "Kept")


async def test_a_tunnel_carries_bytes_as_they_are_the_early_ones_too(api: Origin, proxy: Proxy) -> None:
    async def echo(asked: Asked) -> None:
        await asked.send(SWITCHING + b"hello")
        while data := await asked.reader.read(65536):
            await asked.send(data)

    api.on("/passed/tunnel", echo)
    async with connected(proxy.port) as client:
        await tunnelled(client, "/passed/tunnel", early=b"\x81\x00early\r\n\r\n")
        assert await client.reader.readexactly(16) == b"hello\x81\x00early\r\n\r\n"
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await client.reader.readexactly(18) == b"GET / HTTP/1.1\r\n\r\n"

    asked = api.of("/passed/tunnel")[0]
    assert [f for f in asked.fields if f[0] in {b"Connection", b"Upgrade"}] == [
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
    ]


@pytest.mark.parametrize("who", ["client", "api"])
async def test_a_tunnel_that_one_side_ends_is_ended_for_the_other(
    api: Origin, proxy: Proxy, who: str
) -> None:
    path, gone = f"/passed/ended/{who}", asyncio.Event()

    async def tunnel(asked: Asked) -> None:
        await asked.send(SWITCHING)
        if who == "api":
            await asked.send(b"bye")
            asked.close()
        elif await asked.gone():
            gone.set()

    api.on(path, tunnel)
    async with connected(proxy.port) as client:
        await tunnelled(client, path)
        if who == "api":
            assert await client.rest(2) == b"bye"
        else:
            client.abort()
            async with asyncio.timeout(2):
                await gone.wait()


async def test_a_refused_upgrade_is_an_answer_like_any_other(api: Origin, proxy: Proxy) -> None:
    api.on("/passed/refused", ok(b"no", "X-Why: no", status="403 Forbidden"))
    api.on("/passed/next", ok(b"next"))
    async with connected(proxy.port) as client:
        refused = await client.ask("/passed/refused", *UPGRADE)
        assert (refused.brief, refused.get("x-why")) == ((403, b"no"), "no")
        assert (await client.ask("/passed/next")).brief == (200, b"next")


async def test_no_tunnel_is_left_open(api: Origin, proxy: Proxy, before_demo: Proxy) -> None:
    for one in (proxy, before_demo):
        async with asyncio.timeout(3):
            while await one.metric("crowdgate_upstream_inflight"):
                await asyncio.sleep(0.02)
