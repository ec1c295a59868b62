"""A WebSocket, or whatever else a 101 opened: bytes both ways, untouched, with back-pressure."""

import asyncio
from typing import Any, Protocol

from proxy.upstream import Exchange
from proxy.upstream_connection import UpstreamError

# 64 KiB: one read; beyond it the client is held back until the API takes it.
_HIGH_WATER = 64 * 1024


class FromClient:
    """What the client sends, in aiohttp's shape of a parser."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._pieces: list[bytes] = []
        self._held = 0
        self._ended = False
        self._news = asyncio.Event()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._pieces.append(data)
        self._held += len(data)
        self._news.set()
        if self._held > _HIGH_WATER:
            self._transport.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._news.set()

    async def read(self) -> bytes:
        while not self._pieces and not self._ended:
            self._news.clear()
            await self._news.wait()
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        if not self._ended and not self._transport.is_closing():
            self._transport.resume_reading()
        return data


class Client(Protocol):
    """The client's end."""

    transport: asyncio.Transport | None

    async def send(self, data: bytes) -> None:
        """Write, waiting while the client does not read."""

    def set_parser(self, parser: Any) -> None:
        """What comes from the client from now on goes to `parser`."""


def take_over(client: Client) -> FromClient | None:
    """From now on the client's bytes are the tunnel's, those that came early as well. None if it is gone."""
    if client.transport is None:
        return None
    incoming = FromClient(client.transport)
    client.set_parser(incoming)
    return incoming


async def relay(client: Client, incoming: FromClient, exchange: Exchange) -> None:
    """Carry bytes both ways until either side ends; an API's side that breaks is an end like any other."""

    async def upwards() -> None:
        while data := await incoming.read():
            await exchange.write(data)

    async def downwards() -> None:
        while data := await exchange.read():
            await client.send(data)

    loop = asyncio.get_running_loop()
    ways = {loop.create_task(upwards()), loop.create_task(downwards())}
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in done:
            error = way.exception()
            if error is not None and not isinstance(error, UpstreamError | ConnectionError):
                raise error
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
