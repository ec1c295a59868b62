"""Clients that leave: their leaving is their own, and nothing is left open for them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.claims import attack
from tests.flow.client import connected, fetch, request
from tests.flow.origin import Asked, Origin, cut_off, ok, once, origin
from tests.flow.processes import Proxy, running

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(api: Origin) -> AsyncIterator[Proxy]:
    config = f"""
upstream: {{url: {api.url}, max_connections: 3}}
routes: [{{match: "/kept/**", ttl: 1m}}]
"""
    async with running(config) as started:
        yield started


async def idle(proxy: Proxy) -> None:
    """Wait until nothing is under way; no request may be left over."""
    async with asyncio.timeout(3):
        while await proxy.metric("crowdgate_upstream_inflight") or await proxy.metric(
            "crowdgate_inflight_requests"
        ):
            await asyncio.sleep(0.01)


async def test_a_client_that_leaves_does_not_cancel_the_fetch_for_the_rest(api: Origin, proxy: Proxy) -> None:
    path, release = "/kept/leader", asyncio.Event()
    api.on(path, once(release, ok(b"body")))
    async with connected(proxy.port) as leader:
        await leader.send(request(path))
        await api.came(path)
        rest = [asyncio.ensure_future(fetch(proxy.port, path)) for _ in range(5)]
        await proxy.until("crowdgate_inflight_requests", 6)
    async with asyncio.timeout(3):
        while await proxy.metric("crowdgate_inflight_requests") != 5:
            await asyncio.sleep(0.01)
    release.set()

    assert [response.body for response in await asyncio.gather(*rest)] == [b"body"] * 5
    assert api.count(path) == 1


async def test_what_was_fetched_for_clients_that_all_left_is_stored(api: Origin, proxy: Proxy) -> None:
    path, release = "/kept/all", asyncio.Event()
    api.on(path, once(release, ok(b"body")))
    async with connected(proxy.port) as one, connected(proxy.port) as other:
        await one.send(request(path))
        await other.send(request(path))
        await api.came(path)
    async with asyncio.timeout(3):
        while await proxy.metric("crowdgate_inflight_requests"):
            await asyncio.sleep(0.01)
    release.set()
    await idle(proxy)

    assert ((await fetch(proxy.port, path)).cache.rpartition(" ")[2], api.count(path)) == ("detail=memory", 1)


ENDLESS = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


@pytest.mark.parametrize("path", ["/kept/stream", "/passed/stream"])
@pytest.mark.parametrize("when", ["before the head", "after the head"])
async def test_a_client_that_leaves_an_endless_answer_leaves_no_connection_to_the_api(
    api: Origin, proxy: Proxy, path: str, when: str
) -> None:
    path += f"/{len(when)}"
    release, gone = asyncio.Event(), asyncio.Event()

    async def endless(asked: Asked) -> None:
        if when == "before the head":
            await release.wait()
        await asked.send(ENDLESS)
        if await asked.gone():
            gone.set()

    api.on(path, endless)
    async with connected(proxy.port) as client:
        await client.send(request(path))
        await api.came(path)
        if when == "after the head":
            assert (await client.head()).status == 200
    release.set()

    async with asyncio.timeout(2):
        await gone.wait()
    await idle(proxy)


@attack("credential leaks", "the answer of a client that left is not given to another that waited with it")
async def test_when_one_of_many_leaves_an_answer_that_is_not_shared_each_of_the_rest_gets_its_own(
    api: Origin, proxy: Proxy
) -> None:
    path, release = "/kept/mine", asyncio.Event()

    async def whose(asked: Asked) -> None:
        await release.wait()
        await ok(asked.get("x-api-key").encode(), "Set-Cookie: a=b")(asked)

    api.on(path, whose)
    async with connected(proxy.port) as leader:
        await leader.send(request(path, "X-Api-Key: leader"))
        await api.came(path)
        rest = [asyncio.ensure_future(fetch(proxy.port, path, f"X-Api-Key: {n}")) for n in range(3)]
        await proxy.until("crowdgate_inflight_requests", 4)
    release.set()

    assert [response.body for response in await asyncio.gather(*rest)] == [b"0", b"1", b"2"]
    await idle(proxy)


async def test_a_client_that_leaves_the_queue_for_a_connection_takes_no_place_with_it(
    api: Origin, proxy: Proxy
) -> None:
    path, release = "/passed/queue", asyncio.Event()
    api.on(path, once(release, ok(b"")))
    for _ in range(3):
        busy = [asyncio.ensure_future(fetch(proxy.port, path)) for _ in range(3)]
        await proxy.until("crowdgate_upstream_inflight", 3)
        async with connected(proxy.port) as client:
            await client.send(request(path))
            await proxy.until("crowdgate_inflight_requests", 4)
        release.set()
        await asyncio.gather(*busy)
        release.clear()
    await idle(proxy)


async def test_a_client_that_breaks_off_its_body_ends_the_request_at_the_api_too(
    api: Origin, proxy: Proxy
) -> None:
    ended = asyncio.Event()

    path = "/passed/upload"
    api.on(path, cut_off(ended))
    async with connected(proxy.port) as client:
        await client.send(request(path, "Content-Length: 100", method="POST") + b"half")
        await api.came(path)
    async with asyncio.timeout(2):
        await ended.wait()
    await idle(proxy)
