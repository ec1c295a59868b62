"""What may not be shared is not: each client gets its own answer, none waits for another's, nothing is kept."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.flow.client import fetch
from tests.flow.origin import Asked, Origin, ok, origin
from tests.flow.processes import Proxy, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENTS = 20
SLOW_S = 0.2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(api: Origin) -> AsyncIterator[Proxy]:
    config = f"""
upstream: {{url: {api.url}}}
memory: {{max_object: 64KiB}}
routes:
  - {{match: "/ttl/**", ttl: 1m}}
  - {{match: "/theirs/**"}}
"""
    async with running(config) as started:
        yield started


CASES = [
    # path, what each client sends, what the API answers
    pytest.param("/ttl/set-cookie", "X: {}", ["Set-Cookie: session=1"], id="Set-Cookie"),
    pytest.param("/ttl/private", "X: {}", ["Cache-Control: private, max-age=60"], id="private"),
    pytest.param("/ttl/no-store", "X: {}", ["Cache-Control: no-store"], id="no-store"),
    pytest.param("/ttl/vary", "X: {}", ["Vary: *"], id="Vary: *"),
    pytest.param("/ttl/authorization", "Authorization: Bearer {}", [], id="Authorization"),
    pytest.param(
        "/theirs/authorization", "Authorization: Bearer {}", ["Cache-Control: max-age=60"], id="max-age alone"
    ),
    pytest.param("/ttl/cookie", "Cookie: session={}", [], id="Cookie where only the route has a ttl"),
    pytest.param("/ttl/asked", "Cache-Control: no-store, x={}", [], id="a request's no-store"),
    pytest.param("/theirs/silent", "X: {}", [], id="no freshness"),
    pytest.param("/ttl/varied", "X: {}", ["Vary: X"], id="varied by what each sends"),
    pytest.param("/unrouted", "X: {}", ["Cache-Control: max-age=60"], id="no route"),
]


@pytest.mark.parametrize(("path", "line", "answer"), CASES)
async def test_each_gets_its_own_and_none_waits_for_another(
    api: Origin, proxy: Proxy, path: str, line: str, answer: list[str]
) -> None:
    name = line.partition(":")[0]

    async def slowly(asked: Asked) -> None:
        await asyncio.sleep(SLOW_S)
        await ok(asked.get(name).encode(), *answer)(asked)

    api.on(path, slowly)
    lines = [line.format(number) for number in range(CLIENTS)]
    started = time.monotonic()
    responses = await asyncio.gather(*(fetch(proxy.port, path, line) for line in lines))
    took = time.monotonic() - started

    assert [response.body.decode() for response in responses] == [line.partition(": ")[2] for line in lines]
    assert (api.count(path), {response.status for response in responses}) == (CLIENTS, {200})
    # One wait to learn that it cannot be shared, one for its own; one by one it would be 4 s.
    assert took < 2 * SLOW_S + 0.5
    if path != "/ttl/varied":
        entries = json.loads((await proxy.asked("/api/entries?limit=1000")).body)["entries"]
        assert [entry for entry in entries if entry["url"] == path] == []
        # Known by now: the next ones do not even wait for one another once.
        started = time.monotonic()
        await asyncio.gather(*(fetch(proxy.port, path, line) for line in lines))
        assert time.monotonic() - started < 2 * SLOW_S


async def test_one_too_large_to_store_is_streamed_to_each(api: Origin, proxy: Proxy) -> None:
    body = bytes(range(256)) * 1024
    api.on("/ttl/large", ok(body))

    async def chunked(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 10_000):
            piece = body[start : start + 10_000]
            await asked.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await asked.send(b"0\r\n\r\n")

    api.on("/ttl/large/chunked", chunked)
    for path in ("/ttl/large", "/ttl/large/chunked"):
        responses = await asyncio.gather(*(fetch(proxy.port, path) for _ in range(5)))
        assert [(r.status, r.whole, r.body == body) for r in responses] == [(200, True, True)] * 5
        assert api.count(path) == 5


async def test_what_the_api_declares_public_is_shared_among_those_who_are_authorized(
    api: Origin, proxy: Proxy
) -> None:
    api.on("/theirs/public", ok(b"all", "Cache-Control: public, max-age=60"))
    await asyncio.gather(
        *(fetch(proxy.port, "/theirs/public", f"Authorization: Bearer {number}") for number in range(10))
    )

    assert api.count("/theirs/public") == 1


async def test_a_public_answer_that_varies_by_authorization_is_nobody_else_s(
    api: Origin, proxy: Proxy
) -> None:
    async def whose(asked: Asked) -> None:
        await asyncio.sleep(SLOW_S)
        await ok(
            asked.get("authorization").encode(), "Cache-Control: public, max-age=60", "Vary: Authorization"
        )(asked)

    api.on("/theirs/varied", whose)
    people = [f"Bearer {number}" for number in range(10)] * 2
    for _ in range(2):
        responses = await asyncio.gather(
            *(fetch(proxy.port, "/theirs/varied", f"Authorization: {who}") for who in people)
        )
        assert [response.body.decode() for response in responses] == people

    assert api.count("/theirs/varied") == 10
