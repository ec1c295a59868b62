"""Connections to the API are kept and used again, and one that closes in that very moment costs nobody a request."""

import asyncio
import time
from collections import Counter

import pytest

from tests.flow.client import connected
from tests.flow.origin import Asked, Origin, framed, ok
from tests.flow.processes import running


def config(api: Origin, more: str = "") -> str:
    return f"upstream: {{url: {api.url}, timeout: 2s {more}}}"


async def test_one_connection_serves_one_client_after_the_other(api: Origin) -> None:
    async with running(config(api)) as proxy, connected(proxy.port) as client:
        for _ in range(50):
            assert (await client.ask("/")).status == 200

        assert api.accepted == 1


async def test_a_kept_connection_is_closed_after_its_time(api: Origin) -> None:
    async with running(config(api, ", keepalive: 200ms")) as proxy, connected(proxy.port) as client:
        await client.ask("/")
        started = time.monotonic()
        async with asyncio.timeout(3):
            while api.open:
                await asyncio.sleep(0.005)

        assert 0.15 < time.monotonic() - started < 0.7
        assert (await client.ask("/")).status == 200


async def closing(asked: Asked) -> None:
    """Answers as if it kept the connection, and closes it."""
    await ok(b"fine")(asked)
    asked.close()


async def closing_late(asked: Asked) -> None:
    """Closes while the next request may be under way."""
    await ok(b"fine")(asked)
    await asyncio.sleep(0.0005)
    asked.writer.transport.abort()


@pytest.mark.parametrize("how", [closing, closing_late])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_connection_that_closes_while_idle_never_costs_a_request(
    api: Origin, how: object, method: str
) -> None:
    api.on("/", how)  # type: ignore[arg-type]
    seen: Counter[int] = Counter()
    async with running(config(api)) as proxy:

        async def many() -> None:
            async with connected(proxy.port) as client:
                for number in range(200):
                    seen[(await client.ask("/", method=method)).status] += 1
                    # All moments in turn.
                    await asyncio.sleep((number % 12) / 10_000)

        await asyncio.gather(many(), many())

    assert seen == {200: 400}


async def test_a_post_is_never_sent_twice(api: Origin) -> None:
    async def unsure(asked: Asked) -> None:
        """Takes it, and closes without an answer every third time."""
        await asked.content()
        if int(asked.body) % 3 == 0:
            asked.writer.transport.abort()
        else:
            await asked.send(framed(b"done"))
            asked.writer.transport.abort()

    api.on("/", ok())
    api.on("/post", unsure)
    statuses: Counter[int] = Counter()
    async with running(config(api)) as proxy, connected(proxy.port) as client:
        for number in range(150):
            # So that there is a kept connection that it could have taken.
            await client.ask("/")
            statuses[(await client.ask("/post", method="POST", body=b"%d" % number)).status] += 1

    assert Counter(asked.body for asked in api.of("/post")) == {b"%d" % number: 1 for number in range(150)}
    assert statuses == {200: 100, 502: 50}


async def test_a_get_whose_answer_has_begun_is_not_asked_again(api: Origin) -> None:
    async def half(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 200 O")
        asked.writer.transport.close()

    api.on("/", ok())
    api.on("/half", half)
    async with running(config(api)) as proxy, connected(proxy.port) as client:
        await client.ask("/")
        assert (await client.ask("/half")).status == 502

    assert api.count("/half") == 1
