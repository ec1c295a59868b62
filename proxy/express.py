"""The express lane: a client's connection, below aiohttp.

It takes requests of HTTP/1.1 that have come whole: a head, and a small body if that announces one. What memory answers is
written at once; whatever takes longer is awaited in a task, and what the client sends meanwhile waits for its turn.
Everything else goes to aiohttp's lane (`connection`), as it came, and all that follows it until that lane is done.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from math import inf
from random import random
from time import perf_counter, time
from typing import Any, cast

from proxy import connection
from proxy.connection import ClientServer, Front, Listener, refusal
from proxy.handler import Begun
from proxy.hits import Hit, Hits, Values
from proxy.logs import Logger
from proxy.messages import Answer, Incoming
from proxy.metrics import BUCKETS_S
from proxy.passing import Passage, Passages
from proxy.shapes import Shape
from proxy.store.s3fifo import MAX_USES
from proxy.wire.request import BadRequest, RequestHead, parse_head
from proxy.wire.response import Body, ResponseHead
from proxy.writing import CLOSE, Outlet, Writing, head_of, interim

log = Logger(__name__)

_END = b"\r\n\r\n"
_QUICK_S = BUCKETS_S[0]
# Larger than this, head and body are handed to the kernel in two pieces: copying 32 KiB takes a microsecond.
_LARGE = 32 * 1024
# Of a client that sends on before it is answered: beyond this it is held back.
_MAX_HELD = 64 * 1024
# A larger body is passed on while it comes.
_MAX_WHOLE = 64 * 1024
_SAFE = frozenset({"GET", "HEAD"})


class Express(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, port: "Port") -> None:
        self._port = port
        self._front = port.front
        self._hits = port.hits
        self._transport: asyncio.Transport | None = None
        self._outlet = Outlet(port.front)
        self._lane: connection.Connection | None = None
        self._free = True
        """Whether the next bytes can be a request that is answered at once, as far as is known without asking aiohttp's lane."""
        self._task: asyncio.Task[None] | None = None
        self._passage: Passage | None = None
        self._passed: Passage | None = None
        """One that is not simple, until its task has begun."""
        self._asking = b""
        """The head of a request that waits for Redis or the API without a task."""
        self._began = 0.0
        self._held = b""
        self._last = b""
        self._hit: Hit | None = None
        self._shape: Shape | None = None
        self._made_at = 0.0
        self._active_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # -- asyncio calls these --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is one in all but name.
        transport = cast("asyncio.Transport", transport)
        front = self._front
        if front.connections >= front.limits.max_connections:
            front.refused("connections")
            transport.abort()
            return
        front.connections += 1
        self._transport = self._outlet.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._port.open.add(self)
        self._made_at = self._port.loop.time()
        self._watch(min(front.limits.header_timeout, front.limits.idle_timeout))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._front.connections -= 1
        self._transport, self._free = None, False
        self._port.open.discard(self)
        self._outlet.lost()
        if self._timer is not None:
            self._timer.cancel()
        if self._lane is not None:
            self._lane.connection_lost(exc)
        self._leave()
        if self._task is not None:
            # A client that leaves ends its own stream at once; shared work is a task of its own and goes on.
            self._task.cancel()

    def pause_writing(self) -> None:
        self._outlet.pause()
        self._free = False
        if self._lane is not None:
            self._lane.pause_writing()
        if self._task is None and not self._asking and (self._lane is None or self._lane.idle):
            # Somebody has to see whether it takes anything.
            self._task = self._port.loop.create_task(self._until_taken())

    def resume_writing(self) -> None:
        self._outlet.resume()
        if self._lane is not None:
            self._lane.resume_writing()

    def data_received(self, data: bytes) -> None:
        if not self._free and not self._is_free():
            self._hold(data)
            return
        if data == self._last:
            hit = self._hit
            if hit is not None and (self._answer_hit(hit, data) or self._ask_redis(hit, data)):
                return
        elif (
            (shape := self._shape) is not None
            and (found := shape.match(data)) is not None
            and len(data) <= self._hits.max_head
            and self._answer_alike(data, shape, found.groups())
        ):
            return
        self._take(data)

    # -- what is in memory --

    def _answer_hit(self, hit: Hit, data: bytes) -> bool:
        """Answer with what is ready, if it is still right."""
        now = self._active_at = time()
        if not self._hits.holds(hit, now):
            return False
        if hit.luck and (chance := random()) < hit.luck:  # noqa: S311 - a die, not a secret
            self._refresh(data, chance)
        hit.copy.hits += 1
        if hit.node.uses < MAX_USES:
            hit.node.uses += 1
        if hit.sign.uses < MAX_USES:
            hit.sign.uses += 1
        transport = self._transport
        if transport is None:
            return True
        if len(hit.body) <= _LARGE:
            transport.write(hit.head + hit.body)
        else:
            transport.writelines((hit.head, hit.body))
        seconds = time() - now
        cell = hit.cell
        cell.count += 1
        if 0 <= seconds < _QUICK_S:
            cell.histogram.counts[0] += 1
            cell.histogram.total += seconds
        else:
            cell.histogram.observe(max(0.0, seconds))
        if self._front.observer.enabled:
            self._log(hit, seconds)
        return True

    def _log(self, hit: Hit, seconds: float) -> None:
        if hit.known is not None:
            self._front.observer.log(hit.known.incoming, hit.answer, seconds)

    def _answer_alike(self, data: bytes, shape: Shape, values: Values) -> bool:
        """Answer a request that looks like others, if it's as simple as it looks."""
        hit = self._hits.find(shape, values)
        if hit is not None:
            self._last, self._hit = data, hit
            return self._answer_hit(hit, data) or self._ask_redis(hit, data)
        front = self._front
        if shape.kept is None or front.draining or front.observer.enabled:
            return False
        self._passage = self._port.passages.begin(self, shape, data, values)
        if self._passage is None:
            return False
        self._free, self._asking, self._active_at = False, data, time()
        return True

    def _ask_redis(self, hit: Hit, data: bytes) -> bool:
        """Have Redis asked for the answer, if that probably has it."""
        front = self._front
        if front.draining or front.observer.enabled or not self._hits.ask_redis(hit, self):
            return False
        self._free, self._asking, self._began = False, data, perf_counter()
        self._port.metrics.inflight += 1
        return True

    def looked(self, hit: Hit, reply: bytes | None) -> None:
        """What Redis has."""
        data = self._asking
        self._port.metrics.inflight -= 1
        self._asking = b""
        self._active_at = time()
        transport, shared = self._transport, hit.shared
        if transport is None or transport.is_closing():
            return
        if reply is None or shared is None or self._front.draining:
            self._answer_anew(data)
            return
        transport.write(reply)
        shared.cell.observe(perf_counter() - self._began)
        self._go_on()

    def _refresh(self, data: bytes, chance: float) -> None:
        self._hits.chosen(_incoming(parse_head(data[:-2], self._port.limits), None), chance)

    # -- everything else --

    def _take(self, data: bytes) -> None:
        """Answer the requests in `data` one after the other, as far as that can be done now."""
        place = 0
        while place < len(data) and self._is_free():
            end = data.find(_END, place) + len(_END)
            if end < len(_END):
                break
            head = data if end - place == len(data) else data[place:end]
            size = self._answer(head, data, end)
            if size is None:
                break
            place = end + size
        if place == len(data):
            return
        rest = data[place:]
        if self._is_free():
            self._hand_over(rest)
        else:
            self._hold(rest)

    def _answer(self, data: bytes, received: bytes, at: int) -> int | None:
        """Answer the request whose head `data` is, or begin to. None if it is not for this lane.

        Its body, if it has one, must be all there, from `at` in what was `received` on: returned is its size.
        """
        if (like := self._hits.alike(data)) is not None:
            self._shape = like[0]
            if self._answer_alike(data, *like):
                return 0
        started = perf_counter()
        try:
            head = parse_head(data[:-2], self._port.limits)
        except BadRequest:
            # aiohttp's lane refuses it, with all that belongs to that.
            return None
        if len(data) > self._port.limits.max_head or not self._takes(head, len(received) - at):
            return None
        incoming = _incoming(head, self.tell, whole=received[at : at + head.length])
        self._active_at = time()
        begun = self._begin(incoming)
        if isinstance(begun, Answer) and isinstance(begun.body, bytes):
            self._write(data, head, incoming, begun, started)
        else:
            self._begin_slowly(data, head, incoming, begun)
        return head.length

    def _takes(self, head: RequestHead, left: int) -> bool:
        """Whether this lane takes a request, behind whose head so much has come."""
        if head.http_1_0 or head.expects_continue or head.websocket or head.body is Body.CHUNKED:
            return False
        most = self._front.limits.max_body
        return head.length <= min(left, _MAX_WHOLE if most is None else min(most, _MAX_WHOLE))

    def _begin_slowly(self, data: bytes, head: RequestHead, incoming: Incoming, begun: Begun) -> None:
        self._free = False
        task = self._task = self._port.loop.create_task(self._slowly(data, head, incoming, begun))
        if not isinstance(begun, Answer):
            # One that is cancelled before it has begun awaits nothing.
            task.add_done_callback(lambda _: begun.close())
        if self._transport is None or self._transport.is_closing():
            task.cancel()

    # -- what is passed on --

    @property
    def stays(self) -> bool:
        """Whether the connection goes on after an answer."""
        return not self._front.draining

    def tell(self, head: ResponseHead) -> None:
        """Pass a 1xx answer on."""
        if self._transport is not None:
            self._transport.write(interim(head))

    def passed(self, reply: bytes) -> None:
        """The API's answer, whole."""
        self._passage = None
        self._asking = b""
        self._active_at = time()
        if self._transport is None:
            return
        self._transport.write(reply)
        if self._front.draining:
            self._close()
        else:
            self._go_on()

    def pass_slowly(self, begun: Begun | None) -> None:
        """What was passed on is not as simple as it looked."""
        self._passed, self._passage = self._passage, None
        self._answer_anew(self._asking, begun, again=begun is None)

    def _answer_anew(self, data: bytes, begun: Begun | None = None, *, again: bool = False) -> None:
        """Answer as any other request what looked simple. `again`: it was sent over a connection that the API closed."""
        self._asking = b""
        head = parse_head(data[:-2], self._port.limits)
        incoming = _incoming(head, self.tell, again=again)
        self._begin_slowly(data, head, incoming, begun or self._begin(incoming))

    def _begin(self, incoming: Incoming) -> Begun:
        try:
            return self._front.begin(incoming)
        except Exception as error:
            log.error("defect while answering", exc_info=error)  # noqa: TRY400 - our own logger
            return refusal(500, "a defect of the proxy")

    def _write(
        self, data: bytes, head: RequestHead, incoming: Incoming, answer: Answer, started: float
    ) -> None:
        """Write an answer that is there."""
        keeps = self._keeps(head, answer)
        body = b"" if head.method == "HEAD" else cast("bytes", answer.body)
        transport = cast("asyncio.Transport", self._transport)
        transport.write(head_of(answer, b"" if keeps else CLOSE) + body)
        self._front.observer.answered(incoming, answer, perf_counter() - started)
        if not keeps:
            self._close()
        else:
            self._learn(data, incoming, answer)

    def _learn(self, data: bytes, incoming: Incoming, answer: Answer) -> None:
        if incoming.method in _SAFE and not incoming.whole:
            self._shape = self._hits.learn(data, incoming, answer.handling.outcome) or self._shape

    def _keeps(self, head: RequestHead, answer: Answer) -> bool:
        return head.keep_alive and not (answer.close or self._front.draining)

    async def _slowly(self, data: bytes, head: RequestHead, incoming: Incoming, begun: Begun) -> None:
        """Answer when there is something to answer with."""
        observer, keeps, started = self._front.observer, False, perf_counter()
        # What was passed on is the coroutine's from here on.
        self._passed = None
        observer.inflight += 1
        try:
            answer = begun if isinstance(begun, Answer) else await self._awaited(begun)
            writing = Writing(
                self._outlet,
                answer,
                head_only=head.method == "HEAD",
                http_1_0=False,
                keeps=lambda: self._keeps(head, answer),
            )
            try:
                await writing.write()
                keeps = self._keeps(head, answer)
            finally:
                observer.answered(incoming, answer, perf_counter() - started)
            if keeps:
                self._learn(data, incoming, answer)
        except ConnectionResetError:
            # The client is gone, or has to see that the answer broke off.
            pass
        except Exception as error:
            log.error("defect while answering", exc_info=error)  # noqa: TRY400 - our own logger
        finally:
            observer.inflight -= 1
            self._task = None
            self._active_at = time()
        if keeps:
            self._go_on()
        else:
            self._close()

    async def _awaited(self, begun: Coroutine[Any, Any, Answer]) -> Answer:
        try:
            return await begun
        except Exception as error:
            log.error("defect while answering", exc_info=error)  # noqa: TRY400 - our own logger
            return refusal(500, "a defect of the proxy")

    # -- whose turn it is --

    def _is_free(self) -> bool:
        """Whether the next bytes are a request's first, with nothing before it that is not answered and taken."""
        transport = self._transport
        self._free = (
            self._task is None
            and not self._asking
            and not self._outlet.paused
            and transport is not None
            and not transport.is_closing()
            and (self._lane is None or self._lane.idle)
        )
        # Of aiohttp's lane it has to be asked each time.
        is_free, self._free = self._free, self._free and self._lane is None
        return is_free

    def _hold(self, data: bytes) -> None:
        """Keep what came before its turn."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._lane is not None and not self._lane.idle:
            self._lane.data_received(data)
            return
        self._held += data
        if len(self._held) > _MAX_HELD:
            transport.pause_reading()

    def _go_on(self) -> None:
        """Take what was held, now that there is nothing before it."""
        if not self._is_free() or self._transport is None:
            return
        if len(self._held) > _MAX_HELD:
            self._transport.resume_reading()
        held, self._held = self._held, b""
        if held:
            self._take(held)

    def _hand_over(self, data: bytes) -> None:
        """Leave a request, and what follows it, to aiohttp's lane."""
        was_asked = self._active_at > 0
        if self._lane is None and self._transport is not None:
            self._lane = self._port.lanes.adopted(self._touch)
            self._lane.connection_made(self._transport)
            if not was_asked:
                self._lane.watch_head(self._left_for_a_head())
        self._free = False
        self._touch()
        if self._lane is not None:
            self._lane.data_received(data)
            if was_asked:
                self._lane.watch_no_head()

    async def _until_taken(self) -> None:
        # It's not answered before the client has taken most of it.
        self._port.metrics.inflight += 1
        try:
            await self._outlet.taken()
        except ConnectionResetError:
            return
        finally:
            self._port.metrics.inflight -= 1
            self._task = None
        if self._front.draining:
            self._close()
        else:
            self._go_on()

    # -- its end --

    def _left_for_a_head(self) -> float:
        """Seconds until the first request's head has to be here."""
        return self._made_at + self._front.limits.header_timeout - self._port.loop.time()

    def _touch(self) -> None:
        self._active_at = time()

    def _watch(self, delay_s: float) -> None:
        self._timer = self._port.loop.call_later(delay_s, self._look)

    def _look(self) -> None:
        """Whether it has been idle for too long."""
        limits, now = self._front.limits, time()
        if self._transport is None:
            return
        if not self._active_at:
            left_s = self._left_for_a_head()
            if left_s > 0:
                self._watch(left_s)
            else:
                self._front.refused("header_timeout")
                self._close()
            return
        # The clock may have been set back.
        self._active_at = min(self._active_at, now)
        idle_s = now - self._active_at if self._is_idle() else 0.0
        if idle_s >= limits.idle_timeout:
            self._close()
        else:
            self._watch(limits.idle_timeout - idle_s)

    def _is_idle(self) -> bool:
        """Whether nothing is under way."""
        if self._task is not None or self._asking or self._outlet.paused:
            return False
        return self._lane is None or self._lane.at_rest

    def _close(self) -> None:
        self._free = False
        transport = self._transport
        if transport is None:
            return
        transport.close()
        self._see_it_taken(transport, inf)

    def _see_it_taken(self, transport: asyncio.Transport, before: float) -> None:
        """It closes when all has been taken. Whoever takes nothing for so long is let go."""
        left = transport.get_write_buffer_size()
        if left >= before:
            transport.abort()
        elif left:
            self._port.loop.call_later(self._front.limits.write_timeout, self._see_it_taken, transport, left)

    def close_if_idle(self) -> None:
        """Close, unless a request is under way: that one ends with its answer."""
        if self._is_free():
            self._close()
        elif self._lane is not None and self._task is None and not self._asking:
            self._lane.close_if_idle()

    def cut_off(self) -> None:
        """Close, whatever is under way."""
        if self._task is not None:
            self._task.cancel()
        self._leave()
        self._close()

    def _leave(self) -> None:
        """Let go of what is being passed on."""
        if self._passage is not None:
            self._passage.leave()
        if self._passed is not None:
            self._passed.abandon()
        self._passage = self._passed = None


async def _at_once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _incoming(
    head: RequestHead,
    informational: Callable[[ResponseHead], None] | None,
    *,
    again: bool = False,
    whole: bytes = b"",
) -> Incoming:
    return Incoming(
        method=head.method,
        target=head.target,
        fields=head.fields,
        body=_at_once(whole) if whole else None,
        whole=whole,
        informational=informational,
        again=again,
    )


class Port:
    """What all connections of a port share."""

    def __init__(self, front: Front, hits: Hits, passages: Passages) -> None:
        self.front = front
        self.hits = hits
        self.passages = passages
        self.metrics = passages.metrics
        self.lanes = ClientServer(front)
        self.limits = self.lanes.limits
        self.loop = asyncio.get_running_loop()
        self.open: set[Express] = set()

    def __call__(self) -> Express:
        return Express(self)

    @property
    def connections(self) -> list[Express]:
        """Those that are open."""
        return list(self.open)

    async def shutdown(self, timeout_s: float) -> None:
        """Cut off what is left."""
        for one in self.connections:
            one.cut_off()
        await self.lanes.shutdown(timeout_s)


@contextlib.asynccontextmanager
async def listening(
    front: Front, hits: Hits, passages: Passages, host: str, port: int
) -> AsyncIterator[Listener]:
    """Connections on an address. Raises OSError where it is taken."""
    server = Port(front, hits, passages) if front.limits.express else ClientServer(front)
    async with connection.listening(server, host, port) as listener:
        yield listener
