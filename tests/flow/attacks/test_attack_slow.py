"""Clients that hold on to what they have: by the byte, by not reading, by many at once. A good client beside them is served."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.claims import attack
from tests.flow.attacks.site import Site
from tests.flow.client import Client, connected, request
from tests.flow.origin import Asked, framed, ok

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = "slow clients"
FLOOD = "floods"
MANY = 150
MIB = 1024 * 1024
# What a loaded machine may add; a client that waited for an attacker would wait for a timeout.
GOOD_S = 0.5


@pytest.fixture(scope="module")
def config() -> str:
    return """
memory: {max_size: 16MiB}
client:
  header_timeout: 800ms
  body_timeout: 800ms
  idle_timeout: 800ms
  write_timeout: 800ms
  max_connections: 400
routes: [{match: "/**", ttl: 5m}]
"""


@pytest.fixture(scope="module")
def upstream() -> str:
    return "max_connections: 20, queue_timeout: 500ms"


@asynccontextmanager
async def many(site: Site, count: int = MANY) -> AsyncIterator[list[Client]]:
    """Connections that are all open at once, and aborted in the end."""
    clients: list[Client] = []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.proxy.port, limit=2**16)
            clients.append(Client(reader, writer))
        yield clients
    finally:
        for client in clients:
            client.abort()
        async with asyncio.timeout(10):
            while await site.proxy.metric("crowdgate_client_connections") > 0:
                await asyncio.sleep(0.02)


async def good_meanwhile(site: Site) -> None:
    """A stored answer and one from the API, as quick as ever: the quickest of some, since this machine does other things too."""
    site.answers(ok(b"good"), "/good")
    await site.get("/good")
    for at in ("/good", "/good?{}"):
        took = []
        for number in range(4):
            started = time.monotonic()
            assert (await site.get(at.format(f"{started}.{number}"))).brief == (200, b"good")
            took.append(time.monotonic() - started)
        assert min(took) < GOOD_S


async def all_closed(clients: list[Client], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        await asyncio.gather(*(client.rest(within_s) for client in clients))


async def dripping(clients: list[Client], piece: bytes, pause_s: float = 0.1) -> None:
    """Sends on, until it is cancelled or nobody listens."""
    while True:
        await asyncio.sleep(pause_s)
        for client in clients:
            if not client.writer.is_closing():
                client.writer.write(piece)


STARTS: dict[str, tuple[Callable[[str], bytes], bytes]] = {
    "request lines": (lambda path: f"GET {path}".encode(), b"x"),
    "fields": (lambda path: f"GET {path} HTTP/1.1\r\nHost: a\r\nX: ".encode(), b"y"),
    "many fields": (lambda path: f"GET {path} HTTP/1.1\r\nHost: a\r\n".encode(), b"X: y\r\n"),
    "heads of 60 KB": (
        lambda path: f"GET {path} HTTP/1.1\r\nHost: a\r\n".encode() + (b"X: " + b"y" * 7500 + b"\r\n") * 8,
        b"Z",
    ),
}


@attack(
    SLOW,
    "heads by the byte, on many connections: request lines, fields, one after another, heads nearly as large as may be",
)
@pytest.mark.parametrize(("start", "piece"), STARTS.values(), ids=STARTS)
async def test_slow_heads_hold_nobody_up(site: Site, start: Callable[[str], bytes], piece: bytes) -> None:
    await good_meanwhile(site)
    before = site.proxy.rss
    async with many(site) as clients:
        for client in clients:
            client.writer.write(start(site.path))
        drip = asyncio.ensure_future(dripping(clients, piece))
        await asyncio.sleep(0.3)
        assert (site.proxy.rss - before) / MANY < MIB
        await good_meanwhile(site)
        await all_closed(clients)
        drip.cancel()
    await good_meanwhile(site)


@attack(SLOW, "bodies that stop in the middle, on many connections, of a known length and in chunks")
@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_bodies_that_stop_hold_nobody_up(site: Site, framing: str) -> None:
    async def reads(asked: Asked) -> None:
        await asked.content()

    site.answers(reads, "/upload")
    before, count = site.proxy.rss, 18
    async with many(site, count) as clients:
        start = b"10000\r\nhalf" if "chunked" in framing else b"half"
        for client in clients:
            client.writer.write(request(f"{site.path}/upload", framing, method="POST") + start)
        await asyncio.sleep(0.2)
        assert (site.proxy.rss - before) / count < MIB
        await good_meanwhile(site)
        # Some wait until others have let go of their connection to the API.
        await all_closed(clients, 8)
    await good_meanwhile(site)


@attack(SLOW, "bodies by the byte, as many as there are connections to the API")
async def test_bodies_by_the_byte_leave_others_a_connection_to_the_api(site: Site) -> None:
    async def reads(asked: Asked) -> None:
        await asked.content()

    site.answers(reads, "/upload")
    async with many(site, 30) as clients:
        for client in clients:
            client.writer.write(request(f"{site.path}/upload", "Content-Length: 100000", method="POST"))
        drip = asyncio.ensure_future(dripping(clients, b"x"))
        await asyncio.sleep(0.5)
        # For longer than body_timeout: each byte is in time.
        await asyncio.sleep(1.5)
        try:
            await good_meanwhile(site)
        finally:
            drip.cancel()


@attack(
    SLOW,
    "clients that don't read: a stored answer of 1 MB, asked for 40 times in one write, on many connections",
)
async def test_who_does_not_read_is_let_go_and_costs_less_than_a_mebibyte(site: Site) -> None:
    site.answers(ok(bytes(1_000_000)), "/large")
    await site.get("/large")
    count = 60
    before = site.proxy.rss
    async with many(site, count) as clients:
        for client in clients:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.writer.write(request(f"{site.path}/large") * 40)
        await asyncio.sleep(0.5)
        assert (site.proxy.rss - before) / count < MIB + MIB / 4
        await good_meanwhile(site)
        async with asyncio.timeout(8):
            while await site.proxy.metric("crowdgate_client_connections") > 0:
                await asyncio.sleep(0.05)
    await good_meanwhile(site)


@attack(SLOW, "clients that read an answer of the API's by the byte: the API is held back, not memory filled")
async def test_who_reads_by_the_byte_holds_back_only_his_own_answer(site: Site) -> None:
    async def large(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 30000000\r\n\r\n")
        for _ in range(300):
            await asked.send(bytes(100_000))

    site.answers(large, "/stream")
    before, count = site.proxy.rss, 15
    async with many(site, count) as clients:
        for client in clients:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.writer.write(request(f"{site.path}/stream"))
        await asyncio.sleep(0.5)
        assert (site.proxy.rss - before) / count < 1.5 * MIB
        await good_meanwhile(site)


# -- floods --


@attack(FLOOD, "idle connections up to client.max_connections, and beyond it")
async def test_idle_connections_are_bounded_and_closed(site: Site) -> None:
    before = site.proxy.rss
    async with connected(site.proxy.port) as good:
        assert (await good.ask(site.path)).status == 200
        async with many(site, 399) as clients:
            async with connected(site.proxy.port) as beyond:
                assert await beyond.rest(2) == b""
            assert (await good.ask(site.path)).status == 200
            assert (site.proxy.rss - before) / len(clients) < MIB / 8
            await all_closed(clients)
            await good.rest(5)
    await good_meanwhile(site)


@attack(FLOOD, "10,000 GETs in one write: answered in order, in bounded memory")
async def test_ten_thousand_pipelined_requests_are_answered_in_order(site: Site) -> None:
    async def by_number(asked: Asked) -> None:
        await ok(asked.target.partition("?")[2].encode() * 20)(asked)

    site.answers(by_number)
    for number in range(50):
        await site.get(f"?{number}")
    before, peak = site.proxy.rss, 0
    async with connected(site.proxy.port) as client:
        client.writer.write(b"".join(request(f"{site.path}?{number % 50}") for number in range(10_000)))
        for number in range(10_000):
            assert (await client.response()).body == b"%d" % (number % 50) * 20
            if number % 500 == 0:
                peak = max(peak, site.proxy.rss)
    assert peak - before < 8 * MIB


@attack(FLOOD, "10,000 GETs in one write by clients that read none of the answers")
async def test_pipelined_requests_whose_answers_are_not_read_wait_outside(site: Site) -> None:
    site.answers(ok(b"x" * 5000))
    await site.get()
    count, before = 10, site.proxy.rss
    async with many(site, count) as clients:
        for client in clients:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.writer.write(request(site.path) * 10_000)
        await asyncio.sleep(0.6)
        assert (site.proxy.rss - before) / count < MIB
        await good_meanwhile(site)


@attack(FLOOD, "a body of tens of thousands of one-byte chunks")
async def test_a_body_of_tiny_chunks_comes_whole(site: Site) -> None:
    async def echo(asked: Asked) -> None:
        body = await asked.content()
        await asked.send(framed(b"%d" % len(body)))

    site.answers(echo)
    before, started = site.proxy.rss, time.monotonic()
    body = b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"
    got = await site.send(request(site.path, "Transfer-Encoding: chunked", method="POST") + body)

    assert got.brief == (200, b"50000")
    assert site.proxy.rss - before < 4 * MIB
    assert time.monotonic() - started < 4


@attack(FLOOD, "heads as large as may be, and larger, again and again on one connection or many")
async def test_huge_heads_are_answered_or_refused(site: Site) -> None:
    fields = [f"X-{number}: {'y' * 7000}" for number in range(8)]
    site.answers(ok(b"large"))
    before = site.proxy.rss
    async with connected(site.proxy.port) as client:
        for _ in range(200):
            assert (await client.ask(site.path, *fields)).status == 200
    for _ in range(50):
        assert (await site.get("", *fields, "X: " + "z" * 8000, "Y: " + "z" * 8000)).status == 431
    assert site.proxy.rss - before < 8 * MIB
    await site.unharmed_and_cached()


@attack(FLOOD, "connections that are opened and reset at once, with and without half a request")
async def test_connections_that_come_and_go_leave_nothing(site: Site) -> None:
    before = site.proxy.sockets
    for number in range(600):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.proxy.port)
        if number % 3:
            writer.write(request(site.path)[: 10 * (number % 5)])
        writer.transport.abort()
        del reader
    await good_meanwhile(site)
    async with asyncio.timeout(5):
        while await site.proxy.metric("crowdgate_client_connections") > 0:
            await asyncio.sleep(0.02)
    # The connections to the API that were used stay for a while.
    assert site.proxy.sockets <= before + 4
