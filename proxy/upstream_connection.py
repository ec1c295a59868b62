"""One connection to the API: an answer taken apart as it comes, with back-pressure both ways."""

import asyncio
import select
from collections import deque
from collections.abc import Callable
from enum import Enum
from math import inf
from time import monotonic
from typing import Protocol, cast

from proxy import settings
from proxy.wire.chunked import BadChunks, ChunkReader
from proxy.wire.response import BadResponse, Body, ResponseHead, parse_head

# 256 KiB: the most of a body that waits for its reader before the API is held back.
_HIGH_WATER = 256 * 1024
_END_OF_HEAD = b"\r\n\r\n"


class UpstreamError(Exception):
    """The API could not be asked or did not answer well. `kind` is the metric's label, `status` what clients get."""

    def __init__(self, kind: str, status: int, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status = status


class Asker(Protocol):
    """Whoever asks without awaiting the answer: it's told of what comes first, and of nothing after that."""

    @property
    def informational(self) -> Callable[[ResponseHead], None] | None:
        """Where 1xx answers go, if anywhere."""

    def came(self, data: bytes) -> bool:
        """Some bytes. Whether they are an answer, whole; if not, they are read as those of any."""

    def lost(self) -> None:
        """The connection was closed."""

    def late(self, error: UpstreamError) -> None:
        """Nothing came in time."""


class _State(Enum):
    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ENDED = "ended"
    LOST = "lost"


class Connection(asyncio.Protocol):
    """One connection to the API: takes an answer apart as it comes."""

    def __init__(self, limits: settings.Upstream) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._state = _State.IDLE
        self._method = "GET"
        self._upgrade = False
        self._buffer = b""
        self._early = 0
        """Bytes of the 1xx answers to the current request: they and the final head may not be more than max_head."""
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._left = 0
        self._chunked: ChunkReader | None = None
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self._asker: Asker | None = None
        self._due = inf
        """When what is awaited is late, by the loop's clock."""
        self._late = (0.0, "")
        self._alarm: asyncio.TimerHandle | None = None
        self.head: ResponseHead | None = None
        self.informational: Callable[[ResponseHead], None] | None = None
        self.continued = asyncio.Event()
        self.paced = False
        """Whether a client sets the pace of what it is used for."""
        self.answered = False
        """Whether any byte of the current answer has come."""
        self.lost_at = inf
        """When (monotonic) it ended, if that was while it was idle."""

    # -- asyncio calls these --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is one in all but name.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._state is _State.BODY and exc is None and self._ends_by_closing():
            self._state = _State.ENDED
        elif self._state in {_State.HEAD, _State.BODY}:
            self._fail(
                UpstreamError("reset", 502, "the API closed the connection before its answer was whole")
            )
        elif self._state is _State.IDLE:
            self._state = _State.LOST
            self.lost_at = monotonic()
        self._writable.set()
        self._wake()
        if self._asker is not None:
            asker, self._asker = self._asker, None
            asker.lost()

    def data_received(self, data: bytes) -> None:
        self.answered = True
        asker = self._asker
        if asker is not None:
            self._asker = None
            self._due = inf
            self._state = _State.ENDED
            if asker.came(data):
                return
            self._state = _State.HEAD
            self.informational = asker.informational
        try:
            self._take(data)
        except (BadResponse, BadChunks) as error:
            self._fail(UpstreamError("malformed", 502, f"the API's answer is not valid HTTP: {error}"))
            self.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- the answer, taken apart --

    def _take(self, data: bytes) -> None:
        if self._state is _State.HEAD:
            self._take_head(data)
        elif self._state is _State.BODY:
            self._take_body(data)
        elif self._state is not _State.LOST:
            # Bytes that nobody asked for would be read as the next answer.
            self.close()
            self._state = _State.LOST

    def _take_head(self, data: bytes) -> None:
        read, self._buffer = len(self._buffer), self._buffer + data
        while self._state is _State.HEAD:
            end = self._buffer.find(_END_OF_HEAD, max(0, read - 3))
            size = self._early + (end if end >= 0 else len(self._buffer))
            if size > self._limits.max_head:
                raise BadResponse("its head is larger than upstream.max_head")
            if end < 0:
                return
            head = parse_head(self._buffer[:end], method=self._method)
            self._buffer = self._buffer[end + 4 :]
            self._early += end + 4
            read = 0
            if head.status >= 200 or head.status == 101:
                self._begin_body(head)
            elif head.status == 100:
                self.continued.set()
            elif self.informational is not None:
                self.informational(head)

    def _begin_body(self, head: ResponseHead) -> None:
        if head.status == 101 and not self._upgrade:
            raise BadResponse("101 without having been asked to upgrade")
        self.head = head
        self._state = _State.BODY
        self._left = head.length
        self._chunked = ChunkReader() if head.body is Body.CHUNKED else None
        rest, self._buffer = self._buffer, b""
        if head.status != 101 and (head.body is Body.NONE or (head.body is Body.LENGTH and not head.length)):
            self._end(rest)
        elif rest:
            self._take_body(rest)
        self._wake()

    def _take_body(self, data: bytes) -> None:
        if self._chunked is not None:
            pieces, end = self._chunked.feed(data)
            if pieces:
                # As one: thousands of tiny chunks would weigh more than what is in them.
                self._hold(b"".join(pieces))
            if self._chunked.done:
                self._end(data[end:])
        elif self.head is not None and self.head.body is Body.LENGTH:
            piece, rest = data[: self._left], data[self._left :]
            self._left -= len(piece)
            self._hold(piece)
            if not self._left:
                self._end(rest)
        else:
            self._hold(data)
        self._wake()

    def _ends_by_closing(self) -> bool:
        return self.head is not None and (self.head.body is Body.CLOSE or self.head.status == 101)

    def _hold(self, piece: bytes) -> None:
        self._chunks.append(piece)
        self._held += len(piece)
        if self._held > _HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _end(self, rest: bytes) -> None:
        self._state = _State.ENDED
        if rest or self.head is None or not self.head.keep_alive:
            self.close()

    def _fail(self, error: UpstreamError) -> None:
        self._error = error
        self._state = _State.LOST
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the pool and the exchange call these --

    @property
    def reusable(self) -> bool:
        """Whole answer read, connection open, nothing left over."""
        return (
            self._state in {_State.ENDED, _State.IDLE}
            and not self._chunks
            and self._transport is not None
            and not self._transport.is_closing()
        )

    def has_news(self) -> bool:
        """Whether something has come, its end perhaps, that the event loop has not seen yet."""
        if self._transport is None:
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def begin(self, method: str, *, upgrade: bool) -> None:
        """A new exchange."""
        self._state = _State.HEAD
        self._method = method
        self._upgrade = upgrade
        self.head = None
        self._early = 0
        self.informational = None
        self.continued.clear()
        self.answered = False

    def rest(self) -> None:
        """The exchange is over; whatever comes now closes the connection."""
        self._state = _State.IDLE
        self.informational = None

    def ask(self, head: bytes, asker: Asker) -> None:
        """A new exchange: a GET, whose `asker` awaits nothing."""
        self.begin("GET", upgrade=False)
        self._asker = asker
        self.expect(self._limits.timeout, "timeout")
        if self._transport is not None:
            self._transport.write(head)

    async def send(self, data: bytes) -> None:
        """Write, waiting while the API does not read. Raises UpstreamError."""
        if self._transport is None or self._transport.is_closing():
            raise self._error or UpstreamError("reset", 502, "the API closed the connection")
        self._transport.write(data)
        if not self._writable.is_set():
            try:
                async with asyncio.timeout(self._limits.write_timeout):
                    await self._writable.wait()
            except TimeoutError as error:
                raise UpstreamError("write_timeout", 504, "the API does not read the request") from error

    async def receive_head(self, timeout_s: float | None) -> ResponseHead:
        """The final answer's head. None waits for as long as the connection lives. Raises UpstreamError."""
        await self._until(lambda: self.head is not None, timeout_s, "timeout")
        assert self.head is not None  # noqa: S101 - what was waited for
        return self.head

    async def receive(self, timeout_s: float) -> bytes:
        """What has come of the body, at least a byte; empty at its end. Raises UpstreamError."""
        await self._until(
            lambda: bool(self._chunks) or self._state is _State.ENDED, timeout_s, "read_timeout"
        )
        return self.received()

    def received(self) -> bytes:
        """What has come of the body by now."""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def unread(self, data: bytes) -> None:
        """Give back what `receive` returned."""
        if data:
            self._chunks.appendleft(data)
            self._held += len(data)

    async def _until(self, ready: Callable[[], bool], timeout_s: float | None, kind: str) -> None:
        if ready():
            return
        if timeout_s is not None:
            self.expect(timeout_s, kind)
        try:
            while not ready():
                if self._error is not None:
                    raise self._error
                self._waiter = self._loop.create_future()
                await self._waiter
        finally:
            self._waiter = None
            self._due = inf

    def expect(self, timeout_s: float, kind: str) -> None:
        """From now on something has to come in time; else that is the error, of this `kind`."""
        loop = self._loop
        self._due, self._late = loop.time() + timeout_s, (timeout_s, kind)
        # It goes off for many answers once: one that comes in time only moves `_due`.
        if self._alarm is not None and self._alarm.when() > self._due:
            self._alarm.cancel()
            self._alarm = None
        if self._alarm is None and self._transport is not None:
            self._alarm = loop.call_at(self._due, self._is_it_late)

    def _is_it_late(self) -> None:
        loop = self._loop
        self._alarm = None
        if self._due == inf or self._transport is None:
            return
        if loop.time() < self._due:
            self._alarm = loop.call_at(self._due, self._is_it_late)
            return
        timeout_s, kind = self._late
        self._due = inf
        error = UpstreamError(kind, 504, f"the API sent nothing for {timeout_s:g}s")
        if self._asker is not None:
            asker, self._asker = self._asker, None
            asker.late(error)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def close(self) -> None:
        """Close; an answer that isn't whole is lost."""
        self._asker = None
        if self._transport is not None:
            self._transport.close()
