"""Clients that count and compare: they fill a cache, check answers, and come as a crowd."""

import asyncio
import time
from collections.abc import Sequence
from typing import cast

import uvloop

from tests.bench.speed.figures import Burst
from tests.flow.client import Response, connected

_PATIENCE_S = 30.0


def answers(port: int, requests: Sequence[bytes], *, connections: int = 32) -> list[Response]:
    """What is answered to each of these requests, over so many connections."""
    return uvloop.run(_answers(port, requests, connections))


async def _answers(port: int, requests: Sequence[bytes], connections: int) -> list[Response]:
    waiting = iter(enumerate(requests))
    found: dict[int, Response] = {}

    async def client() -> None:
        async with connected(port) as connection:
            for number, request in waiting:
                await connection.send(request)
                found[number] = await connection.response()

    async with asyncio.timeout(300):
        await asyncio.gather(*(client() for _ in range(min(connections, len(requests)))))
    return [found[number] for number in range(len(requests))]


class _Member(asyncio.Protocol):
    """One of a crowd: asks as soon as it is connected."""

    def __init__(self, request: bytes, ending: bytes) -> None:
        self._request = request
        self._ending = ending
        self._received = b""
        self.served: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by type.
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(self._ending) and not self.served.done():
            self.served.set_result(self._received.startswith(b"HTTP/1.1 200 "))

    def connection_lost(self, _: Exception | None) -> None:
        if not self.served.done():
            self.served.set_result(False)


def crowd(port: int, request: bytes, ending: bytes, clients: int) -> Burst:
    """So many clients connect at once and ask the same. What reached the API is for the caller to say."""
    return uvloop.run(_crowd(port, request, ending, clients))


async def _crowd(port: int, request: bytes, ending: bytes, clients: int) -> Burst:
    loop = asyncio.get_running_loop()
    members = [_Member(request, ending) for _ in range(clients)]
    started = time.monotonic()

    async def come(member: _Member) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                transport, _ = await loop.create_connection(lambda: member, "127.0.0.1", port)
                try:
                    return await member.served
                finally:
                    transport.close()
        except OSError:
            # A timeout is one too.
            return False

    served = await asyncio.gather(*(come(member) for member in members))
    return Burst(
        clients=clients, origin_requests=0, seconds=time.monotonic() - started, errors=clients - sum(served)
    )
