"""SIGTERM: readiness fails at once, what is in flight ends well, nobody is left hanging, and it is over in time."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack

from tests import servers
from tests.flow.client import connected, fetch, request
from tests.flow.origin import Asked, Origin, ok, once
from tests.flow.processes import Proxy, running
from tests.redis_tiers import needs_redis


def config(api: Origin, drain: str = "{}") -> str:
    return f"upstream: {{url: {api.url}}}\ndrain: {drain}\nroutes: [{{match: '/kept', ttl: 1m}}]"


async def draining(proxy: Proxy) -> None:
    async with asyncio.timeout(2):
        while not proxy.log("draining"):
            await asyncio.sleep(0.005)


async def test_requests_in_flight_finish_while_the_proxy_is_already_unready(api: Origin) -> None:
    release = asyncio.Event()
    api.on("/", once(release, ok(b"body")))
    async with running(config(api)) as proxy, connected(proxy.port) as idle, connected(proxy.port) as busy:
        release.set()
        await idle.ask("/")
        release.clear()
        await busy.send(request("/slow"))
        await api.came("/slow")

        proxy.send(signal.SIGTERM)
        await draining(proxy)
        ready = await proxy.asked("/readyz")
        assert (ready.status, ready.body) == (503, b"not ready: draining\n")
        # A connection without a request is closed at once, not when all is over.
        assert await idle.rest(1) == b""
        assert proxy.process.poll() is None

        release.set()
        response = await busy.response()
        assert (response.brief, response.get("connection")) == ((200, b"body"), "close")
        assert await busy.rest(1) == b""
        assert await proxy.ended(3) == 0


async def test_an_upload_in_flight_finishes(api: Origin) -> None:
    async def length(asked: Asked) -> None:
        body = await asked.content()
        await ok(b"%d" % len(body))(Asked(b"", asked.reader, asked.writer))

    api.on("/upload", length)
    async with running(config(api)) as proxy, connected(proxy.port) as client:
        await client.send(request("/upload", "Content-Length: 300000", method="POST") + bytes(100_000))
        await api.came("/upload")
        proxy.send(signal.SIGTERM)
        await draining(proxy)
        await asyncio.sleep(0.1)
        await client.send(bytes(200_000))

        assert (await client.response()).body == b"300000"
        assert await proxy.ended(3) == 0


async def test_a_stream_in_flight_finishes_and_its_connection_is_closed(api: Origin) -> None:
    release = asyncio.Event()

    async def two_pieces(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await release.wait()
        await asked.send(b"3\r\ntwo\r\n0\r\n\r\n")

    api.on("/stream", two_pieces)
    async with running(config(api)) as proxy, connected(proxy.port) as client:
        await client.send(request("/stream"))
        await client.head()
        proxy.send(signal.SIGTERM)
        await draining(proxy)
        release.set()

        assert [await client.chunk() for _ in range(3)] == [b"one", b"two", b""]
        assert await client.rest(1) == b""
        assert await proxy.ended(3) == 0


async def test_a_request_in_its_last_moment_is_answered(api: Origin) -> None:
    api.on("/", ok(b"body"))
    async with running(config(api)) as proxy, connected(proxy.port) as client:
        await client.ask("/")
        # Both reach the proxy together: whatever comes first, there is an answer or a plain end, and no half one.
        await client.send(request("/"))
        proxy.send(signal.SIGTERM)
        answer = await client.rest(2)

        assert answer == b"" or answer.endswith(b"\r\n\r\nbody")
        assert await proxy.ended(3) == 0


async def test_what_does_not_finish_is_cut_off_in_time(api: Origin) -> None:
    api.on("/", once(asyncio.Event(), ok()))
    async with running(config(api, "{timeout: 500ms}")) as proxy, connected(proxy.port) as client:
        await client.send(request("/endless"))
        await api.came("/endless")
        started = time.monotonic()
        proxy.send(signal.SIGTERM)

        assert await proxy.ended(5) == 0
        assert 0.5 <= time.monotonic() - started < 2
        assert proxy.log("requests were cut off")


@needs_redis
async def test_it_is_over_in_time_with_redis_too_however_many_leases_are_held(api: Origin) -> None:
    api.on("/", once(asyncio.Event(), ok()))
    with servers.redis() as server:
        text = config(api, "{timeout: 300ms}").replace("/kept", "/**") + f"\nredis: {{url: '{server.url}'}}"
        async with running(text) as proxy, AsyncExitStack() as clients:
            await proxy.ready()
            for number in range(60):
                client = await clients.enter_async_context(connected(proxy.port))
                await client.send(request(f"/cold/{number}"))
            await asyncio.to_thread(servers.until, lambda: server.command("DBSIZE") >= 60, "a lease for each")
            started = time.monotonic()
            proxy.send(signal.SIGTERM)

            assert await proxy.ended(6) == 0
            assert time.monotonic() - started < 3


async def test_during_the_delay_new_requests_are_served_and_told_to_close(api: Origin) -> None:
    async with running(config(api, "{delay: 500ms}")) as proxy, connected(proxy.port) as kept:
        await kept.ask("/")
        started = time.monotonic()
        proxy.send(signal.SIGTERM)
        await draining(proxy)
        assert (await proxy.asked("/readyz")).status == 503
        for response in (await kept.ask("/"), await fetch(proxy.port, "/"), await fetch(proxy.port, "/kept")):
            assert (response.status, response.get("connection")) == (200, "close")

        assert await proxy.ended(3) == 0
        assert 0.5 <= time.monotonic() - started < 2


async def test_a_second_signal_ends_at_once(api: Origin) -> None:
    api.on("/", once(asyncio.Event(), ok()))
    async with running(config(api)) as proxy, connected(proxy.port) as client:
        await client.send(request("/endless"))
        await api.came("/endless")
        proxy.send(signal.SIGTERM)
        await draining(proxy)
        proxy.send(signal.SIGTERM)

        assert await proxy.ended(0.5) == 1


async def test_sigint_drains_too_and_without_requests_it_is_over_at_once(api: Origin) -> None:
    async with running(config(api)) as proxy:
        await fetch(proxy.port, "/")
        started = time.monotonic()
        proxy.send(signal.SIGINT)

        assert await proxy.ended(3) == 0
        assert time.monotonic() - started < 1
