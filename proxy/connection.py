"""The aiohttp lane: a client's connection, with a bound on every wait, and answers written as the API wrote them.

aiohttp keeps the order of answers, holds back who sends faster than they are taken, and ends what is idle. Its parser
(`client_parser` stands in its place), what it would add to a head (Server, Content-Type, Date) and the hour that it gives
a half-sent one are replaced here.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, cast

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_protocol import RequestHandler

from proxy import settings
from proxy.client_parser import RequestParser
from proxy.logs import Logger
from proxy.messages import Answer, Incoming, problem
from proxy.metrics import NO_ROUTE
from proxy.policy.outcome import Handling, Outcome
from proxy.tunnel import FromClient, relay, take_over
from proxy.upstream import ClientBodyError, Exchange
from proxy.upstream_connection import UpstreamError
from proxy.wire.request import BadRequest, Limits, RequestHead
from proxy.wire.response import Body, ResponseHead
from proxy.writing import CLOSE, Outlet, Writing, head_of, interim

log = Logger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CUT_OFF_S = 0.1
# Requests of one connection whose turn has not come: with the largest heads they are less than a mebibyte.
_MAX_QUEUED = 12
# aiohttp's own.
_LEFTOVER_S = 10.0
# Closed while the client still sends, a connection is reset, and the refusal lost on the way. Nobody sends on for long
# who has been answered and told that it is over.
_LINGER_S = 1.0
_REFUSED = Handling(outcome=Outcome.ERROR, detail="bad-request")


class Observer(Protocol):
    """Who is told of requests (metrics and the access log)."""

    inflight: int
    enabled: bool
    """Whether `log` is to be called for each request that `answered` is not called for."""

    def answered(self, incoming: Incoming, answer: Answer, seconds: float) -> None:
        """An answer was written to its end, or as far as it went."""

    def log(self, incoming: Incoming, answer: Answer, seconds: float) -> None:
        """An answer was written that has been counted already."""

    def refused(self, kind: str) -> None:
        """A request was malformed, too large or too slow."""


@dataclass(slots=True)
class Front:
    """What all connections share. `limits` and `draining` may change at any time."""

    begin: Callable[[Incoming], Answer | Coroutine[Any, Any, Answer]]
    observer: Observer
    limits: settings.Client
    draining: bool = False
    connections: int = 0

    def refused(self, kind: str) -> None:
        """A request was malformed, too large or too slow, or its client did not take the answer."""
        self.observer.refused(kind)


class ClientServer(web.Server):
    """Makes connections."""

    def __init__(self, front: Front) -> None:
        limits = front.limits
        super().__init__(
            self._no_request,
            # A client that leaves ends its own stream at once; shared work is a task of its own and goes on.
            handler_cancellation=True,
            keepalive_timeout=limits.idle_timeout,
            # What is left of a body behind its answer is thrown away, but waited for no longer than any other body.
            lingering_time=min(_LEFTOVER_S, limits.body_timeout),
            access_log=None,
        )
        self.front = front
        self.limits = head_limits(limits)
        self.request_factory = cast("Any", _Request)
        self.request_handler = cast("Any", self._handle)

    async def _no_request(self, request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError

    async def _handle(self, request: "_Request") -> "Reply":
        return await request.connection.handle(request)

    def __call__(self) -> RequestHandler:
        return Connection(self, self.front, loop=self._loop, **self._kwargs)

    def adopted(self, answered: Callable[[], None]) -> "Connection":
        """A connection that is counted, and closed when it is idle, by somebody else: who is told when it has `answered`."""
        made = Connection(self, self.front, loop=self._loop, **self._kwargs)
        made.told = answered
        return made


class _BodyError(ClientBodyError):
    """`status` is what the client gets."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _Request:
    """What was read of a request: only what is needed of aiohttp's."""

    __slots__ = ("_task", "answered", "connection", "continued", "message", "payload", "writer")

    def __init__(
        self,
        message: RequestHead | BadRequest,
        payload: StreamReader,
        protocol: "Connection",
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> None:
        self.message = message
        self.payload = payload
        self.connection = protocol
        self.writer = writer
        self._task = task
        self.continued = False
        """Whether the client was told to send the body for which it asked."""
        self.answered = False
        """Whether its answer has begun."""

    def _finish(self) -> None:
        """aiohttp calls it when the answer begins."""

    def _cancel(self, exc: BaseException) -> None:
        self.payload.set_exception(exc)


class Connection(RequestHandler):
    """One client's connection."""

    def __init__(self, server: ClientServer, front: Front, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._front = front
        self._slow_head: asyncio.TimerHandle | None = None
        self._requests = RequestParser(self, self._loop, server.limits, max_queued=_MAX_QUEUED)
        self._parser = cast("Any", self._requests)
        # The marks at which aiohttp stops reading from the client, and begins again.
        self._max_msg_queue_size = _MAX_QUEUED
        self._msg_queue_resume_size = _MAX_QUEUED // 2
        self._counted = False
        self.outlet = Outlet(front)
        self.told: Callable[[], None] | None = None
        """Whoever else takes care of the connection, if somebody does."""

    # -- asyncio calls these --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        front = self._front
        if self.told is None:
            if front.connections >= front.limits.max_connections:
                front.observer.refused("connections")
                cast("asyncio.Transport", transport).abort()
                return
            front.connections += 1
        self._counted = True
        self.outlet.transport = cast("asyncio.Transport", transport)
        super().connection_made(transport)
        self._watch_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._counted:
            self._counted = False
            self._front.connections -= self.told is None
        self._unwatch_head()
        self.outlet.lost()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.outlet.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.outlet.resume()

    def data_received(self, data: bytes) -> None:
        if not self._counted:
            return
        heads = self._requests.heads
        super().data_received(data)
        if self._requests.heads != heads:
            self._unwatch_head()
        if self._requests.in_head and self._slow_head is None:
            self._watch_head()

    @property
    def idle(self) -> bool:
        """Whether what comes next is the first of a request, and nothing before it is left to be done."""
        return self.at_rest and self._requests.at_start

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way here. An empty line may have come."""
        waiter = self._waiter
        waits = waiter is not None and not waiter.done()
        return waits and not self._messages and self._requests.at_rest and not self._upgraded

    def _process_keepalive(self) -> None:
        if self.told is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = None

    def _watch_head(self) -> None:
        self.watch_head(self._front.limits.header_timeout)

    def watch_head(self, left_s: float) -> None:
        """So long may a request's head take to be here."""
        self._unwatch_head()
        self._slow_head = self._loop.call_later(max(0.0, left_s), self._head_too_slow)

    def watch_no_head(self) -> None:
        """Unless one has begun."""
        if not self._requests.in_head:
            self._unwatch_head()

    def _unwatch_head(self) -> None:
        if self._slow_head is not None:
            self._slow_head.cancel()
            self._slow_head = None

    def _head_too_slow(self) -> None:
        self._slow_head = None
        if self.transport is None:
            return
        if self._messages or self._request_in_progress:
            # Its turn has not come; whether it is whole by then is asked again.
            if self._requests.in_head:
                self._watch_head()
            return
        self._front.observer.refused("header_timeout")
        if self._requests.in_head:
            answer = problem(
                408, "the request's head did not come in time", handling=_REFUSED, route=NO_ROUTE
            )
            self.transport.write(head_of(answer, CLOSE) + cast("bytes", answer.body))
        self.force_close()

    # -- aiohttp calls these --

    def handle_error(self, request: Any, status: int = 500, exc: Any = None, message: Any = None) -> Any:  # noqa: ARG002 - aiohttp's
        """An answer where handling failed. Nothing of the request is echoed."""
        log.error("defect while answering", exc_info=exc)
        if request.writer.output_size:
            raise ConnectionResetError("the answer has begun")
        return Reply(request, None, refusal(status, "a defect of the proxy"), self._front, perf_counter())

    def log_exception(self, *_args: Any, exc_info: BaseException | None = None) -> None:
        """A defect while an answer was written. aiohttp's own logger is off: its lines quote requests."""
        log.error("defect while answering", exc_info=exc_info)

    async def handle(self, request: _Request) -> "Reply":
        """Answer one request."""
        started = perf_counter()
        head = request.message
        if isinstance(head, BadRequest):
            self._front.observer.refused("malformed")
            return Reply(request, None, refusal(head.status, str(head)), self._front, started)
        self._front.observer.inflight += 1
        try:
            incoming = self._incoming(request, head)
            answer = await self._answer(head, incoming)
        except BaseException:
            self._front.observer.inflight -= 1
            raise
        return Reply(request, incoming, answer, self._front, started)

    async def _answer(self, head: RequestHead, incoming: Incoming) -> Answer:
        limit = self._front.limits.max_body
        if limit is not None and head.length > limit:
            self._front.observer.refused("body_size")
            return refusal(413, "the request's body is larger than client.max_body")
        try:
            begun = self._front.begin(incoming)
            return begun if isinstance(begun, Answer) else await begun
        except _BodyError as error:
            self._front.observer.refused("body")
            # Else aiohttp waits ten seconds for the rest, which lets an early answer reach who is still sending.
            self._lingering_time = _LINGER_S
            return refusal(error.status, str(error))

    def _incoming(self, request: _Request, head: RequestHead) -> Incoming:
        has_body = head.body is Body.CHUNKED or head.length > 0
        return Incoming(
            method=head.method,
            target=head.target,
            fields=head.fields,
            body=self._body(request, expects=head.expects_continue) if has_body else None,
            chunked=head.body is Body.CHUNKED,
            expects_continue=head.expects_continue,
            websocket=head.websocket,
            http_1_0=head.http_1_0,
            informational=None if head.http_1_0 else self._informational,
        )

    async def _body(self, request: _Request, *, expects: bool) -> AsyncIterator[bytes]:
        limits = self._front.limits
        taken = 0
        if request.answered:
            raise _BodyError(408, "the request's body came after its answer")
        if expects and self.transport is not None:
            request.continued = True
            self.transport.write(_CONTINUE)
        while piece := await self._piece(request.payload):
            taken += len(piece)
            if limits.max_body is not None and taken > limits.max_body:
                raise _BodyError(413, "the request's body is larger than client.max_body")
            yield piece

    async def _piece(self, payload: StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._front.limits.body_timeout):
                piece = await payload.readany()
        except TimeoutError as error:
            raise _BodyError(408, "the request's body did not come in time") from error
        except BadRequest as error:
            raise _BodyError(error.status, str(error)) from error
        except Exception as error:
            # How a connection is lost has many names.
            raise _BodyError(408, "the request's body broke off") from error
        refusal = payload.exception()
        if isinstance(refusal, BadRequest):
            # Its end, if that is what came, is none.
            raise _BodyError(refusal.status, str(refusal))
        return piece

    def _informational(self, head: ResponseHead) -> None:
        if self.transport is not None:
            self.transport.write(interim(head))

    async def send(self, data: bytes) -> None:
        """Write, waiting while the client does not read. Raises ConnectionResetError when it is gone or too slow."""
        await self.outlet.send(data)

    async def linger(self) -> None:
        """Say that nothing more comes, and wait until the client has closed, or has had time to see it."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()
            # Ended by the connection's own end: aiohttp cancels it.
            await asyncio.sleep(_LINGER_S)

    def close_if_idle(self) -> None:
        """Close, unless a request is under way, if only its first bytes: that one ends with its answer."""
        if not (self._messages or self._request_in_progress or self._requests.in_head):
            self.force_close()


class Reply:
    """Writes an answer. aiohttp drives it as it drives a response of its own: prepare, write_eof, keep_alive."""

    def __init__(
        self, request: _Request, incoming: Incoming | None, answer: Answer, front: Front, started: float
    ) -> None:
        self._request = request
        self._incoming = incoming
        self._answer = answer
        self._front = front
        self._started = started
        request.answered = True
        head = request.message
        # Whether a body that was not asked for still comes is the client's choice: what follows could be either.
        unsure = incoming is not None and incoming.expects_continue and not request.continued
        self._kept = (
            isinstance(head, RequestHead)
            and head.keep_alive
            and not (front.draining or answer.close or unsure)
        )
        self._writing = Writing(
            request.connection.outlet,
            answer,
            head_only=isinstance(head, RequestHead) and head.method == "HEAD",
            http_1_0=isinstance(head, RequestHead) and head.http_1_0,
            keeps=lambda: self.keep_alive,
        )
        # Here, because aiohttp takes what came early for a request once the answer begins.
        self._from_client = take_over(request.connection) if answer.status == 101 else None

    @property
    def keep_alive(self) -> bool:
        """Whether the connection goes on. aiohttp asks when all is written: draining may have begun meanwhile.

        So may the request's body have broken off, behind an answer that came early.
        """
        return (
            self._kept
            and not (self._front.draining or self._writing.ends)
            and self._request.payload.exception() is None
        )

    async def prepare(self, _request: Any) -> None:
        """Write all of it."""
        try:
            if self._from_client is not None and isinstance(self._answer.body, Exchange):
                self._kept = False
                await self._tunnel(self._from_client, self._answer.body)
            else:
                await self._writing.write()
        finally:
            # It keeps us, and we it: an answer would stay in memory until the garbage collector came by.
            self._writing.let_go()
            if self._request.connection.told is not None:
                self._request.connection.told()
            if self._incoming is not None:
                self._front.observer.inflight -= 1
                self._front.observer.answered(self._incoming, self._answer, perf_counter() - self._started)

    async def _tunnel(self, from_client: FromClient, exchange: Exchange) -> None:
        connection = self._request.connection
        try:
            await connection.send(head_of(self._answer))
            await relay(connection, from_client, exchange)
        except UpstreamError as error:
            self._writing.break_off(error)
        finally:
            exchange.abandon()

    async def write_eof(self) -> None:
        """Everything has been written. Who was refused may still be sending."""
        if isinstance(self._request.message, BadRequest):
            await self._request.connection.linger()


def head_limits(limits: settings.Client) -> Limits:
    """The limits of a request's head."""
    return Limits(
        max_line=limits.max_line,
        max_field=limits.max_field,
        max_fields=limits.max_fields,
        max_head=limits.max_head,
    )


def refusal(status: int, detail: str) -> Answer:
    """What a client gets that is not served, before its connection is closed."""
    answer = problem(status, detail, handling=_REFUSED, route=NO_ROUTE)
    answer.close = True
    return answer


class Server(Protocol):
    """Makes connections, and knows those that are open."""

    @property
    def connections(self) -> Sequence[Any]:
        """Each has a `close_if_idle`."""

    def __call__(self) -> asyncio.Protocol: ...

    async def shutdown(self, timeout: float) -> None:  # noqa: ASYNC109 - as aiohttp has it
        """Cut off what is left."""


class Listener:
    """An open port."""

    def __init__(self, server: Server, listener: asyncio.Server) -> None:
        self._server = server
        self._listener = listener
        host, port, *_ = listener.sockets[0].getsockname()
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def stop_listening(self) -> None:
        """Take no more connections and close those without a request; the others end after their answer."""
        self._listener.close()
        # Not aiohttp's pre_shutdown: it leaves idle ones open, deaf, and uploads unread.
        for connection in self._server.connections:
            connection.close_if_idle()


@contextlib.asynccontextmanager
async def listening(server: Server, host: str, port: int) -> AsyncIterator[Listener]:
    """Connections on an address. Raises OSError where it is taken."""
    # 1024: a crowd arrives in bursts; the kernel caps it by net.core.somaxconn.
    listener = await asyncio.get_running_loop().create_server(server, host or None, port, backlog=1024)
    try:
        yield Listener(server, listener)
    finally:
        listener.close()
        # Draining had its time; to aiohttp 0 would mean for ever.
        await server.shutdown(_CUT_OFF_S)
