"""Whole tunnels are in tests/flow/test_streams.py; here is what they don't reach."""

import asyncio
from typing import Any, cast

import pytest

from proxy.tunnel import FromClient, relay, take_over
from proxy.upstream import Exchange
from proxy.upstream_connection import UpstreamError


class Transport:
    def __init__(self) -> None:
        self.reading = True
        self.closing = False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing


class Client:
    """The client's end, without a socket."""

    def __init__(self) -> None:
        self.transport: Any = Transport()
        self.parser: Any = None
        self.got: list[bytes] = []
        self.fails: Exception | None = None

    async def send(self, data: bytes) -> None:
        if self.fails is not None:
            raise self.fails
        self.got.append(data)

    def set_parser(self, parser: Any) -> None:
        self.parser = parser


class Api:
    """The API's end of an exchange."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.says: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    async def read(self) -> bytes:
        said = await self.says.get()
        if isinstance(said, Exception):
            raise said
        return said

    async def write(self, data: bytes) -> None:
        self.got.append(data)


def opened() -> tuple[Client, FromClient, Api, "asyncio.Task[None]"]:
    client, api = Client(), Api()
    incoming = take_over(client)
    assert incoming is not None
    return client, incoming, api, asyncio.ensure_future(relay(client, incoming, cast("Exchange", api)))


async def test_a_client_that_sends_faster_than_the_api_takes_is_held_back() -> None:
    transport = Transport()
    incoming = FromClient(cast("asyncio.Transport", transport))
    reading = []
    for _ in range(2):
        incoming.feed_data(bytes(60_000))
        reading.append(transport.reading)
    size = len(await incoming.read())
    incoming.feed_data(bytes(60_000))

    assert (reading, size, transport.reading) == ([True, False], 120_000, True)


async def test_what_came_before_the_end_is_still_read() -> None:
    transport = Transport()
    incoming = FromClient(cast("asyncio.Transport", transport))
    assert incoming.feed_data(b"last") == (False, b"")
    incoming.feed_eof()

    assert [await incoming.read(), await incoming.read()] == [b"last", b""]


async def test_bytes_go_both_ways_until_the_api_ends() -> None:
    client, incoming, api, tunnel = opened()
    incoming.feed_data(b"up")
    api.says.put_nowait(b"down")
    await asyncio.sleep(0.01)
    api.says.put_nowait(b"")
    await asyncio.wait_for(tunnel, 1)

    assert (client.parser, client.got, api.got) == (incoming, [b"down"], [b"up"])


async def test_it_ends_when_the_client_does() -> None:
    _, incoming, _, tunnel = opened()
    incoming.feed_eof()
    await asyncio.wait_for(tunnel, 1)


@pytest.mark.parametrize("who", ["client", "api"])
async def test_a_side_that_breaks_is_an_end_like_any_other(who: str) -> None:
    client, _, api, tunnel = opened()
    client.fails = ConnectionResetError("gone") if who == "client" else None
    api.says.put_nowait(b"x" if who == "client" else UpstreamError("reset", 502, "gone"))

    await asyncio.wait_for(tunnel, 1)


async def test_a_defect_is_not_swallowed() -> None:
    client, _, api, tunnel = opened()
    client.fails = ValueError("defect")
    api.says.put_nowait(b"x")

    with pytest.raises(ValueError, match="defect"):
        await asyncio.wait_for(tunnel, 1)


async def test_a_client_that_is_gone_is_not_taken_over() -> None:
    client = Client()
    client.transport = None

    assert (take_over(client), client.parser) == (None, None)
