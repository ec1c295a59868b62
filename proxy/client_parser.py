"""Requests as they come from a client, in the place of aiohttp's own parser: what it hands on is `wire.request`'s word."""

import asyncio

from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy.wire.chunked import BadChunks, ChunkReader
from proxy.wire.request import BadRequest, HeadReader, Limits, RequestHead
from proxy.wire.response import Body

Message = tuple[RequestHead | BadRequest, StreamReader]
"""A request and its body; or why there is none, and nothing comes after that."""

# 256 KiB: aiohttp's own; twice as much of a body waits for its reader before the client is held back.
_BODY_BUFFER = 256 * 1024


class RequestParser:
    """One connection's. aiohttp's RequestHandler calls all of it, as it would call its own."""

    def __init__(
        self, protocol: BaseProtocol, loop: asyncio.AbstractEventLoop, limits: Limits, *, max_queued: int
    ) -> None:
        """At most `max_queued` requests are handed on before their answers have begun; what follows them waits."""
        self._protocol = protocol
        self._loop = loop
        self._max_queued = max_queued
        self._queued = 0
        self._heads = HeadReader(limits)
        self._body: StreamReader | None = None
        self._left = 0
        self._chunks: ChunkReader | None = None
        self._held = b""
        self._refused = False
        self.heads = 0
        """Read so far."""

    @property
    def in_head(self) -> bool:
        """Whether part of a request's head has come."""
        return self._heads.begun and not self._refused

    @property
    def at_rest(self) -> bool:
        """Whether nothing of a request has come that is not handed on."""
        return not (self._refused or self._held or self._body is not None or self._heads.begun)

    @property
    def at_start(self) -> bool:
        """Whether what comes next begins a request: not even an empty line has come."""
        return self.at_rest and self._heads.at_start

    def feed_data(self, data: bytes) -> tuple[list[Message], bool, bytes]:
        """The requests that begin in `data`; whether the last asks for a WebSocket, and what came after that one."""
        messages: list[Message] = []
        if self._refused:
            return messages, False, b""
        if self._held:
            data, self._held = self._held + data, b""
        place, websocket = 0, False
        try:
            while place < len(data) and not websocket:
                if self._body is not None:
                    place = self._take_body(self._body, data, place)
                elif self._queued >= self._max_queued:
                    self._held, place = data[place:], len(data)
                else:
                    head, place = self._heads.feed(data, place)
                    if head is not None:
                        messages.append((head, self._begin(head)))
                        websocket = head.websocket
        except BadRequest as refusal:
            # Without what it was raised from: the frames keep all that has come, until the garbage collector comes by.
            messages.append((refusal.with_traceback(None), EMPTY_PAYLOAD))
            self._refused = True
            self._heads.forget()
        except BadChunks as error:
            messages.append((self._break_off(error), EMPTY_PAYLOAD))
        return messages, websocket, data[place:] if websocket else b""

    def _begin(self, head: RequestHead) -> StreamReader:
        self.heads += 1
        self._queued += 1
        if head.body is Body.NONE or (head.body is Body.LENGTH and not head.length):
            return EMPTY_PAYLOAD
        self._left = head.length
        self._chunks = ChunkReader() if head.body is Body.CHUNKED else None
        self._body = StreamReader(self._protocol, _BODY_BUFFER, loop=self._loop)
        return self._body

    def _take_body(self, body: StreamReader, data: bytes, place: int) -> int:
        if self._chunks is None:
            piece = data[place : place + self._left]
            self._left -= len(piece)
            body.feed_data(piece)
            whole, place = not self._left, place + len(piece)
        else:
            pieces, place = self._chunks.feed(data, place)
            # As one: thousands of tiny chunks would weigh more than what is in them.
            body.feed_data(b"".join(pieces))
            whole = self._chunks.done
        if whole:
            self._body = None
            body.feed_eof()
        return place

    def _break_off(self, error: BadChunks) -> BadRequest:
        """Nothing more is read. Whoever reads the body learns of it; if nobody does any more, the next answer says it."""
        refusal = BadRequest(400, f"the request's body is malformed: {error}")
        self._refused = True
        body, self._body = self._body, None
        if body is not None:
            # First its end: aiohttp waits for it after an answer that came early, and takes an error for a defect.
            body.feed_eof()
            body.set_exception(refusal)
        return refusal

    def message_consumed(self) -> None:
        """A request has left the queue."""
        self._queued -= 1

    def set_upgraded(self, upgraded: bool) -> None:  # noqa: FBT001 - aiohttp's
        """A WebSocket was declined: what follows its request are requests. That needs nothing done."""

    def pause_reading(self) -> None:
        """The body's reader is behind. What was read already is handed on: it is no more than one read of a socket."""
