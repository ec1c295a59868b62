"""The aiohttp lane: a client's connection, with a bound on every wait, and answers written as the API wrote them.

aiohttp parses requests and keeps the order of answers; what it would add to a head (Server, Content-Type, Date) and the
hour that it gives a half-sent one are replaced here.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, cast

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from proxy import settings
from proxy.logs import Logger
from proxy.messages import Answer, Incoming, problem
from proxy.metrics import NO_ROUTE
from proxy.policy.outcome import Handling, Outcome
from proxy.tunnel import relay, take_over
from proxy.upstream import ClientBodyError, Exchange
from proxy.upstream_connection import UpstreamError
from proxy.wire.fields import block, members
from proxy.wire.request import origin_form
from proxy.wire.response import ResponseHead

log = Logger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CUT_OFF_S = 0.1
# The parser also takes HTTP/0.9 and HTTP/2.0, which say something else with the same bytes.
_VERSIONS = frozenset({(1, 0), (1, 1)})
_REFUSED = Handling(outcome=Outcome.ERROR, detail="bad-request")


class Observer(Protocol):
    """Who is told of requests (metrics and the access log)."""

    inflight: int

    def answered(self, incoming: Incoming, answer: Answer, seconds: float) -> None:
        """An answer was written to its end, or as far as it went."""

    def refused(self, kind: str) -> None:
        """A request was malformed, too large or too slow."""


@dataclass(slots=True)
class Front:
    """What all connections share. `limits` and `draining` may change at any time."""

    answer: Callable[[Incoming], Any]
    observer: Observer
    limits: settings.Client
    draining: bool = False
    connections: int = 0


class ClientServer(web.Server):
    """Makes connections."""

    def __init__(self, front: Front) -> None:
        limits = front.limits
        super().__init__(
            self._no_request,
            # A client that leaves ends its own stream at once; shared work is a task of its own and goes on.
            handler_cancellation=True,
            keepalive_timeout=limits.idle_timeout,
            access_log=None,
            auto_decompress=False,
            max_line_size=limits.max_line,
            max_field_size=limits.max_field,
            max_headers=limits.max_fields,
        )
        self.front = front
        self.request_factory = cast("Any", _Request)
        self.request_handler = cast("Any", self._handle)

    async def _no_request(self, request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError

    async def _handle(self, request: "_Request") -> "Reply":
        return await request.connection.handle(request)

    def __call__(self) -> RequestHandler:
        return Connection(self, self.front, loop=self._loop, **self._kwargs)


class _Request:
    """A parsed request: only what is needed of aiohttp's."""

    __slots__ = ("_task", "answered", "connection", "continued", "message", "payload", "writer")

    def __init__(
        self,
        message: RawRequestMessage,
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
        self._head_begun = False
        self._payload: StreamReader | None = None
        """Of the request that is being answered, or of the last one."""
        self._counted = False

    # -- asyncio calls these --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        front = self._front
        if front.connections >= front.limits.max_connections:
            front.observer.refused("connections")
            cast("asyncio.Transport", transport).abort()
            return
        front.connections += 1
        self._counted = True
        super().connection_made(transport)
        self._watch_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._counted:
            self._counted = False
            self._front.connections -= 1
        self._unwatch_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._counted:
            return
        # What comes while a request's body is not whole belongs to that; all else begins the next head.
        begins = self._payload is None or self._payload.is_eof()
        super().data_received(data)
        if self._messages or self._payload_parser is not None:
            self._head_begun = False
            self._unwatch_head()
        elif data and begins:
            self._head_begun = True
            if self._slow_head is None:
                self._watch_head()

    def _watch_head(self) -> None:
        self._slow_head = self._loop.call_later(self._front.limits.header_timeout, self._head_too_slow)

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
            if self._head_begun:
                self._watch_head()
            return
        self._front.observer.refused("header_timeout")
        if self._head_begun:
            answer = problem(
                408, "the request's head did not come in time", handling=_REFUSED, route=NO_ROUTE
            )
            self.transport.write(_head(answer, b"Connection: close\r\n") + cast("bytes", answer.body))
        self.force_close()

    # -- aiohttp calls these --

    def handle_error(self, request: Any, status: int = 500, exc: Any = None, message: Any = None) -> Any:  # noqa: ARG002 - aiohttp's
        """An answer to what could not be parsed or handled. Nothing of the request is echoed."""
        if status == 400:
            self._front.observer.refused("malformed")
            detail = "the request is not valid HTTP, or its head is larger than allowed"
        else:
            log.error("defect while answering", exc_info=exc)
            detail = "a defect of the proxy"
        if request.writer.output_size:
            raise ConnectionResetError("the answer has begun")
        answer = problem(status, detail, handling=_REFUSED, route=NO_ROUTE)
        answer.close = True
        return Reply(request, None, answer, self._front, perf_counter())

    def log_exception(self, *_args: Any, exc_info: BaseException | None = None) -> None:
        """A defect while an answer was written. aiohttp's own logger is off: its lines quote requests."""
        log.error("defect while answering", exc_info=exc_info)

    async def handle(self, request: _Request) -> "Reply":
        """Answer one request."""
        self._payload = request.payload
        started = perf_counter()
        self._front.observer.inflight += 1
        try:
            incoming = self._incoming(request)
            answer = await self._answer(request, incoming)
        except BaseException:
            self._front.observer.inflight -= 1
            raise
        return Reply(request, incoming, answer, self._front, started)

    async def _answer(self, request: _Request, incoming: Incoming) -> Answer:
        if tuple(request.message.version) not in _VERSIONS:
            self._front.observer.refused("malformed")
            return _refusal(400, "the request is not HTTP/1.1 or HTTP/1.0")
        if incoming.method == "CONNECT":
            return _refusal(405, "CONNECT is not for this server")
        limit = self._front.limits.max_body
        length = int(request.message.headers.get("Content-Length", "0"))
        if limit is not None and length > limit:
            self._front.observer.refused("body_size")
            return _refusal(413, "the request's body is larger than client.max_body")
        try:
            return cast("Answer", await self._front.answer(incoming))
        except ClientBodyError as error:
            self._front.observer.refused("body")
            status = 413 if "larger" in str(error) else 408
            return _refusal(status, str(error))

    def _incoming(self, request: _Request) -> Incoming:
        message = request.message
        fields = tuple((bytes(name), bytes(value)) for name, value in message.raw_headers)
        expects = b"100-continue" in members(fields, b"expect")
        has_body = message.chunked or message.headers.get("Content-Length", "0").strip("0") != ""
        # Upgrade beside a body is nothing that we know how to pass on safely: then it is a plain request.
        framed = any(name.lower() in {b"content-length", b"transfer-encoding"} for name, _ in fields)
        plain_get = message.method == "GET" and tuple(message.version) == (1, 1) and not framed
        websocket = plain_get and bool(message.upgrade) and members(fields, b"upgrade") == [b"websocket"]
        target, fields = origin_form(message.path.encode("utf-8", "surrogateescape"), fields)
        return Incoming(
            method=message.method,
            target=target,
            fields=fields,
            body=self._body(request, expects=expects) if has_body and not websocket else None,
            chunked=message.chunked,
            expects_continue=expects,
            websocket=websocket,
            informational=self._informational if tuple(message.version) >= (1, 1) else None,
        )

    async def _body(self, request: _Request, *, expects: bool) -> AsyncIterator[bytes]:
        limits = self._front.limits
        taken = 0
        if request.answered:
            raise ClientBodyError("the request's body came after its answer")
        if expects and self.transport is not None:
            request.continued = True
            self.transport.write(_CONTINUE)
        while True:
            try:
                async with asyncio.timeout(limits.body_timeout):
                    piece = await request.payload.readany()
            except TimeoutError as error:
                raise ClientBodyError("the request's body did not come in time") from error
            except Exception as error:
                # aiohttp's own errors for a body that broke off or is malformed have many names.
                raise ClientBodyError("the request's body broke off or is malformed") from error
            if not piece:
                return
            taken += len(piece)
            if limits.max_body is not None and taken > limits.max_body:
                raise ClientBodyError("the request's body is larger than client.max_body")
            yield piece

    def _informational(self, head: ResponseHead) -> None:
        if self.transport is not None:
            line = b"HTTP/1.1 %d %s\r\n" % (head.status, head.reason)
            self.transport.write(line + block(head.fields) + b"\r\n")

    async def send(self, data: bytes) -> None:
        """Write, waiting while the client does not read. Raises ConnectionResetError when it is gone or too slow."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self.transport.write(data)
        if self._paused:
            await self._taken(self.transport)

    async def _taken(self, transport: asyncio.Transport) -> None:
        left = transport.get_write_buffer_size()
        while self._paused:
            try:
                async with asyncio.timeout(self._front.limits.write_timeout):
                    await self._drain_helper()
            except TimeoutError:
                # The timeout cancelled aiohttp's future, which it would await again.
                self._drain_waiter = None
                before, left = left, transport.get_write_buffer_size()
                # A large piece may take a slow client longer: what counts is that it reads.
                if left >= before:
                    self._front.observer.refused("write_timeout")
                    transport.abort()
                    raise ConnectionResetError("the client does not read") from None

    def close_if_idle(self) -> None:
        """Close, unless a request is under way, if only its first bytes: that one ends with its answer."""
        if not (self._messages or self._request_in_progress or self._head_begun):
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
        message = request.message
        self._http_1_0 = tuple(message.version) < (1, 1)
        # Whether a body that was not asked for still comes is the client's choice: what follows could be either.
        unsure = incoming is not None and incoming.expects_continue and not request.continued
        self._kept = not (message.should_close or front.draining or answer.close or unsure)
        # Here, because aiohttp takes what came early for a request once the answer begins.
        self._from_client = take_over(request.connection) if answer.status == 101 else None

    @property
    def keep_alive(self) -> bool:
        """Whether the connection goes on. aiohttp asks when all is written: draining may have begun meanwhile."""
        return self._kept and not self._front.draining

    async def prepare(self, _request: Any) -> None:
        """Write all of it."""
        try:
            if isinstance(self._answer.body, Exchange):
                await self._write_stream(self._answer.body)
            else:
                head = _head(self._answer, self._connection_field())
                # An answer of ours to HEAD says how long its body would be, and has none.
                body = b"" if self._request.message.method == "HEAD" else self._answer.body
                await self._request.connection.send(head + body)
        finally:
            if self._incoming is not None:
                self._front.observer.inflight -= 1
                self._front.observer.answered(self._incoming, self._answer, perf_counter() - self._started)

    async def write_eof(self) -> None:
        """Everything has been written."""

    def _connection_field(self) -> bytes:
        if not self.keep_alive:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if self._http_1_0 else b""

    async def _write_stream(self, exchange: Exchange) -> None:
        connection = self._request.connection
        try:
            if self._from_client is not None:
                self._kept = False
                await connection.send(_head(self._answer, b""))
                await relay(connection, self._from_client, exchange)
                return
            chunked = not self._answer.length_known and not self._http_1_0
            if not self._answer.length_known and self._http_1_0:
                self._kept = False
            framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
            # Sent at once: what follows may be long in coming, and the head is news already.
            await connection.send(_head(self._answer, framing + self._connection_field()))
            while piece := await exchange.read():
                await connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                await connection.send(b"0\r\n\r\n")
        except UpstreamError as error:
            self._break_off(error)
        finally:
            exchange.abandon()

    def _break_off(self, error: UpstreamError) -> None:
        # The head is out: the only honest end is one that the client can tell from a whole answer.
        self._answer.handling = Handling(outcome=Outcome.ERROR, detail=error.kind)
        transport = self._request.connection.transport
        if transport is not None:
            if not self._answer.length_known and self._http_1_0:
                # Here an end is a good end; only a reset is not.
                linger = struct.pack("ii", 1, 0)
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                transport.abort()
            else:
                transport.close()
        raise ConnectionResetError("the API's answer broke off") from error


def _head(answer: Answer, framing: bytes) -> bytes:
    return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (answer.status, answer.reason, answer.head, framing)


def _refusal(status: int, detail: str) -> Answer:
    answer = problem(status, detail, handling=_REFUSED, route=NO_ROUTE)
    answer.close = True
    return answer


class Listener:
    """An open port."""

    def __init__(self, server: ClientServer, listener: asyncio.Server) -> None:
        self._server = server
        self._listener = listener
        host, port, *_ = listener.sockets[0].getsockname()
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def stop_listening(self) -> None:
        """Take no more connections and close those without a request; the others end after their answer."""
        self._listener.close()
        # Not aiohttp's pre_shutdown: it leaves idle ones open, deaf, and uploads unread.
        for connection in self._server.connections:
            cast("Connection", connection).close_if_idle()


@contextlib.asynccontextmanager
async def listening(front: Front, host: str, port: int) -> AsyncIterator[Listener]:
    """Connections on an address. Raises OSError where it is taken."""
    server = ClientServer(front)
    # 1024: a crowd arrives in bursts; the kernel caps it by net.core.somaxconn.
    listener = await asyncio.get_running_loop().create_server(server, host or None, port, backlog=1024)
    try:
        yield Listener(server, listener)
    finally:
        listener.close()
        # Draining had its time; to aiohttp 0 would mean for ever.
        await server.shutdown(_CUT_OFF_S)
