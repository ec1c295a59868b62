"""Writes answers to a client, no faster than it takes them."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from proxy import settings
from proxy.messages import Answer
from proxy.policy.outcome import Handling, Outcome
from proxy.upstream import Exchange
from proxy.upstream_connection import UpstreamError
from proxy.wire.fields import block
from proxy.wire.response import ResponseHead

CLOSE = b"Connection: close\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


class Told(Protocol):
    """What a connection has of the port that it belongs to. `limits` may change at any time."""

    limits: settings.Client

    def refused(self, kind: str) -> None:
        """A request was malformed, too large or too slow, or its client did not take the answer."""


class Outlet:
    """The way to one client."""

    def __init__(self, told: Told) -> None:
        self.transport: asyncio.Transport | None = None
        self.paused = False
        """Whether as much waits to be taken as may."""
        self._told = told
        self._waiter: asyncio.Future[None] | None = None

    def pause(self) -> None:
        """The client does not keep up."""
        self.paused = True

    def resume(self) -> None:
        """It does again."""
        self.paused = False
        self._wake()

    def lost(self) -> None:
        """The connection is no more."""
        self.transport = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def send(self, data: bytes) -> None:
        """Write, waiting while the client does not read. Raises ConnectionResetError when it is gone or too slow."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self.transport.write(data)
        if self.paused:
            await self.taken()

    async def taken(self) -> None:
        """Wait until there is room for more. Raises ConnectionResetError when the client is gone or too slow."""
        left = self._still_to_take()
        while self.paused:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self._told.limits.write_timeout):
                    await self._waiter
            except TimeoutError:
                before, left = left, self._still_to_take()
                # A large piece may take a slow client longer: what counts is that it reads.
                if self.transport is not None and left >= before:
                    self._told.refused("write_timeout")
                    self.transport.abort()
                    raise ConnectionResetError("the client does not read") from None
            if self.transport is None:
                raise ConnectionResetError("the client is gone")

    def _still_to_take(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()


def _no() -> bool:
    return False


def head_of(answer: Answer, framing: bytes = b"") -> bytes:
    """The answer's head, with the fields that are about this hop."""
    return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (answer.status, answer.reason, answer.head, framing)


def interim(head: ResponseHead) -> bytes:
    """A 1xx answer of the API's, as it is passed on."""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, block(head.fields))


def _framed(piece: bytes, *, chunked: bool) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece


class Writing:
    """One answer on its way."""

    def __init__(
        self, outlet: Outlet, answer: Answer, *, head_only: bool, http_1_0: bool, keeps: Callable[[], bool]
    ) -> None:
        """`keeps` tells whether the connection goes on; it is asked when the head is written."""
        self._outlet = outlet
        self._answer = answer
        self._head_only = head_only
        self._http_1_0 = http_1_0
        self._keeps = keeps
        self.ends = False
        """Whether it has to be the connection's last."""

    async def write(self) -> None:
        """All of it. Raises ConnectionResetError, also where the API broke off and the client has to see that."""
        body = self._answer.body
        if isinstance(body, Exchange):
            try:
                await self._stream(body)
            except UpstreamError as error:
                self.break_off(error)
            finally:
                body.abandon()
            return
        # An answer of ours to HEAD says how long its body would be, and has none.
        await self._outlet.send(head_of(self._answer, self.framing()) + (b"" if self._head_only else body))

    def let_go(self) -> None:
        """All is written: forget who may be asked whether the connection goes on."""
        self._keeps = _no

    def framing(self) -> bytes:
        """What the head says of the connection."""
        if self.ends or not self._keeps():
            return CLOSE
        return b"Connection: keep-alive\r\n" if self._http_1_0 else b""

    async def _stream(self, exchange: Exchange) -> None:
        known, send = self._answer.length_known, self._outlet.send
        self.ends = self.ends or (not known and self._http_1_0)
        chunked = not known and not self._http_1_0
        # Sent at once: what follows may be long in coming, and the head is news already. What has come goes with it.
        head, piece = head_of(self._answer, (_CHUNKED if chunked else b"") + self.framing()), exchange.ready()
        await send(head + _framed(piece, chunked=chunked))
        while piece := await exchange.read():
            await send(_framed(piece, chunked=chunked))
        if chunked:
            await send(b"0\r\n\r\n")

    def break_off(self, error: UpstreamError) -> None:
        """End an answer that the API did not end. Raises ConnectionResetError."""
        # The head is out: the only honest end is one that the client can tell from a whole answer.
        self._answer.handling = Handling(outcome=Outcome.ERROR, detail=error.kind)
        transport = self._outlet.transport
        if transport is not None:
            if not self._answer.length_known and self._http_1_0:
                # Here an end is a good end; only a reset is not.
                linger = struct.pack("ii", 1, 0)
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                transport.abort()
            else:
                transport.close()
        raise ConnectionResetError("the API's answer broke off") from error
