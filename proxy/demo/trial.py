"""Endpoints to try a proxy with: an endless stream, a WebSocket, a large download, and what the API was asked."""

import asyncio
import hashlib
from collections import Counter
from contextlib import suppress
from weakref import WeakSet

from aiohttp import WSCloseCode, WSMsgType, web

from proxy.demo.answers import ProblemError, json, number

# A prime: no read buffer's size divides it, so a lost or repeated buffer changes the bytes that follow.
BLOCK = hashlib.shake_128(b"crowdgate").digest(65_521)

# 1 TiB: enough to see memory stay flat, short of numbers that only attack.
MAX_DOWNLOAD = 2**40

# Distinct targets that are counted one by one: some MiB of memory at most.
MAX_TARGETS = 10_000
OTHERS = "(others)"

TICK_S = 1.0


class Counts:
    """How often each exact request line was seen."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def add(self, method: str, target: str) -> None:
        key = f"{method} {target}"
        self._seen[key if key in self._seen or len(self._seen) < MAX_TARGETS else OTHERS] += 1

    async def show(self, _: web.Request) -> web.Response:
        return json(dict(self._seen))

    async def reset(self, _: web.Request) -> web.Response:
        self._seen.clear()
        return web.Response(status=204)


class Live:
    """Answers that have no end of their own, and so must be told when the server's comes."""

    def __init__(self) -> None:
        self._closing = asyncio.Event()
        self._sockets: WeakSet[web.WebSocketResponse] = WeakSet()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        tick = 0
        while not self._closing.is_set():
            try:
                await response.write(f'id: {tick}\nevent: tick\ndata: {{"tick":{tick}}}\n\n'.encode())
                async with asyncio.timeout(TICK_S):
                    await self._closing.wait()
            except TimeoutError:
                tick += 1
            except ConnectionResetError:
                break
        return response

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        # timeout: a client that does not answer our goodbye must not hold up the exit.
        socket = web.WebSocketResponse(timeout=0.2)
        await socket.prepare(request)
        self._sockets.add(socket)
        # A client that leaves before its echo comes has simply left.
        with suppress(ConnectionResetError):
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await socket.send_str(message.data)
                elif message.type is WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
        return socket

    async def close(self, _: web.Application) -> None:
        self._closing.set()
        goodbyes = [socket.close(code=WSCloseCode.GOING_AWAY) for socket in list(self._sockets)]
        await asyncio.gather(*goodbyes, return_exceptions=True)


async def download(request: web.Request) -> web.StreamResponse:
    """`?bytes=N`: N bytes that depend on nothing but their place."""
    text = request.query.get("bytes", "0")
    size = number(text, at_most=MAX_DOWNLOAD)
    if size is None:
        raise ProblemError(400, f"bytes is a number from 0 to {MAX_DOWNLOAD}, not {text!r}")
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = size
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    with suppress(ConnectionResetError):
        for _ in range(size // len(BLOCK)):
            await response.write(BLOCK)
        await response.write(BLOCK[: size % len(BLOCK)])
    return response
