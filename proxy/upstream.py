"""Asking the API: pooled connections, one strict reader of answers, a bound on every wait.

Bodies are streamed both ways with back-pressure and never held whole. An answer that breaks off is an error, never an
end. What was sent is never sent twice, unless the method allows it and not one byte of an answer had come.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import msgspec

from proxy import settings
from proxy.policy.balance import Address, order
from proxy.upstream_connection import Asker, Connection, UpstreamError
from proxy.wire.fields import Fields, block
from proxy.wire.response import OUTAGES, ResponseHead, is_event_stream

# RFC 9110 section 9.2.2.
# An API that closed a connection soon after an answer, without a word, may do so again: no write is at stake for so long.
_WARY_S = 60.0
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
# RFC 9110 section 10.1.1: a client need not wait for 100 for ever, and some servers never send it.
_CONTINUE_WAIT_S = 1.0


class ClientBodyError(Exception):
    """The client did not send the body it announced, or not in time."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A request to the API, in bytes exactly as they are to be sent."""

    method: str
    target: bytes
    fields: Fields
    """With Host; without framing unless the body's length is known."""
    body: AsyncIterator[bytes] | None = None
    whole: bytes = b""
    """All of the body, if it is here already."""
    chunked: bool = False
    """The body's length is not known."""
    expects_continue: bool = False
    upgrade: bool = False
    again: bool = False
    """It was sent before, over a connection that turned out to be closed: now it takes a new one."""
    paced: bool = False
    """A client sets the pace of its body, or of its answer's."""

    def head(self) -> bytes:
        """Request line and fields."""
        framing = b"Transfer-Encoding: chunked\r\n" if self.chunked else b""
        line = b"%s %s HTTP/1.1\r\n" % (self.method.encode(), self.target)
        return b"".join((line, block(self.fields), framing, b"\r\n"))


class Exchange:
    """One request and its answer. Whoever holds it must read the body to its end, or `abandon` it."""

    def __init__(
        self, pool: "_Pool", connection: Connection, head: ResponseHead, sender: asyncio.Task[bool] | None
    ) -> None:
        self.head = head
        self._pool = pool
        self._connection: Connection | None = connection
        self._sender = sender
        self.once = False
        """Its connection is not for others: after an upgrade that was declined, nobody knows what follows."""
        quiet = head.status == 101 or is_event_stream(head)
        limits = pool.limits
        self._timeout_s = limits.stream_idle_timeout if quiet else limits.read_timeout

    async def read(self) -> bytes:
        """More of the body; empty at its end. Raises UpstreamError where it breaks off or stalls."""
        if self._connection is None:
            return b""
        try:
            data = await self._connection.receive(self._timeout_s)
        except UpstreamError:
            self.abandon()
            raise
        if not data:
            self._release()
        return data

    def ready(self) -> bytes:
        """What has come of the body by now, if anything. Its end is for `read` to tell."""
        return b"" if self._connection is None else self._connection.received()

    def pace(self) -> bool:
        """From now on a client sets the pace. False if too many do already: then it is over."""
        if self._connection is None or self._connection.paced or self._pool.pace(self._connection):
            return True
        self.abandon()
        return False

    def unread(self, data: bytes) -> None:
        """Give back what `read` returned."""
        if self._connection is not None:
            self._connection.unread(data)

    async def write(self, data: bytes) -> None:
        """Bytes into the tunnel that a 101 opened. Raises UpstreamError."""
        if self._connection is not None:
            await self._connection.send(data)

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # A request whose body was not sent to its end leaves the connection in the middle of it.
        sent = self._sender is None or _was_sent(self._sender)
        if self._sender is not None:
            self._sender.cancel()
        self._pool.release(connection, reuse=sent and not self.once)

    def abandon(self) -> None:
        """Done with it, whatever is left: the connection is closed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._sender is not None:
                self._sender.cancel()
            connection.close()
            self._pool.release(connection, reuse=False)


class _Slots:
    """So many at once; who comes later waits in line."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take one, if that is possible at once."""
        if self._waiting or not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Take one when it is this caller's turn."""
        if self.take():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give_back()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def give_back(self) -> None:
        """Let the next one have it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class _Pool:
    """Connections to one address."""

    def __init__(self, address: Address, limits: settings.Upstream) -> None:
        self.address = address
        self.limits = limits
        self._idle: list[tuple[Connection, float]] = []
        """Each with the (monotonic) time at which its last answer ended, oldest first."""
        self._expiry: asyncio.TimerHandle | None = None
        self._wary_until = 0.0
        """Until then (monotonic) nothing that may not be sent twice goes out over a connection that was used before."""
        self._in_use = 0
        most = limits.max_connections
        self._all = _Slots(most)
        self._paced = _Slots(min(most, limits.max_paced or math.ceil(most * 3 / 4)))
        """For those whose pace a client sets, who need one of each."""

    def _take_slots(self, *, paced: bool) -> bool:
        if paced and not self._paced.take():
            return False
        if self._all.take():
            return True
        if paced:
            self._paced.give_back()
        return False

    async def _wait_for_slots(self, *, paced: bool) -> None:
        """All or none, in this order."""
        if paced:
            await self._paced.wait()
        try:
            await self._all.wait()
        except BaseException:
            if paced:
                self._paced.give_back()
            raise

    async def acquire(self, *, rested_s: float, paced: bool) -> tuple[Connection, bool]:
        """A connection, and whether it was used before: if so, at most `rested_s` seconds ago. Raises UpstreamError."""
        if not self._take_slots(paced=paced):
            try:
                async with asyncio.timeout(self.limits.queue_timeout):
                    await self._wait_for_slots(paced=paced)
            except TimeoutError as error:
                raise UpstreamError("busy", 503, "all connections to the API are in use") from error
        self._in_use += 1
        try:
            reused = self._take_idle(rested_s)
            connection = reused or await self._connect()
        except BaseException:
            self._let_go(paced=paced)
            raise
        connection.paced = paced
        self.address.inflight += 1
        return connection, reused is not None

    def pace(self, connection: Connection) -> bool:
        """Count a connection among those whose pace a client sets, if that is possible at once."""
        if not self._paced.take():
            return False
        connection.paced = True
        return True

    def take_at_once(self) -> Connection | None:
        """An idle connection for a request whose pace a client sets, if that can be had without waiting."""
        if not self._take_slots(paced=True):
            return None
        connection = self._take_idle()
        self._in_use += 1
        if connection is None:
            self._let_go(paced=True)
            return None
        connection.paced = True
        self.address.inflight += 1
        return connection

    def _take_idle(self, rested_s: float = math.inf) -> Connection | None:
        now, once = monotonic(), rested_s < math.inf
        if once and now < self._wary_until:
            return None
        # The last one is the one that was used last: where it has rested for too long, all have.
        while self._idle and self._idle[-1][1] > now - rested_s:
            connection, since = self._idle.pop()
            if connection.reusable and not (once and connection.has_news()):
                return connection
            if min(connection.lost_at, now) - since < self.limits.reuse_for_writes:
                self.be_wary()
            connection.close()
        return None

    def be_wary(self) -> None:
        """The API closed a connection without a word, and may do so again."""
        self._wary_until = monotonic() + _WARY_S

    def _let_go(self, *, paced: bool) -> None:
        self._in_use -= 1
        self._all.give_back()
        if paced:
            self._paced.give_back()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        # Idle ones count as well: an API with few workers may serve a new one only when an old one is gone.
        while self._idle and self._in_use + len(self._idle) > self.limits.max_connections:
            oldest, _ = self._idle.pop(0)
            oldest.close()
        try:
            async with asyncio.timeout(self.limits.connect_timeout):
                _, connection = await loop.create_connection(
                    lambda: Connection(self.limits), self.address.host, self.address.port
                )
        except TimeoutError as error:
            raise UpstreamError("connect_timeout", 504, "the API does not accept connections") from error
        except OSError as error:
            raise UpstreamError("connect", 502, "the API cannot be reached") from error
        return connection

    def release(self, connection: Connection, *, reuse: bool) -> None:
        """An exchange is over."""
        self.address.inflight -= 1
        self._let_go(paced=connection.paced)
        if not reuse or not connection.reusable or self.limits.keepalive <= 0:
            connection.close()
            return
        connection.rest()
        self._idle.append((connection, monotonic()))
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(self.limits.keepalive, self._expire)

    def _expire(self) -> None:
        """Close what has been idle for too long."""
        now, kept_s = monotonic(), self.limits.keepalive
        while self._idle and self._idle[0][1] + kept_s <= now:
            self._idle.pop(0)[0].close()
        # One timer for all: a connection that is used a thousand times a second would need as many.
        self._expiry = None
        if self._idle:
            left_s = self._idle[0][1] + kept_s - now
            self._expiry = asyncio.get_running_loop().call_later(left_s, self._expire)

    def close(self) -> None:
        """Close what is idle."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        for connection, _ in self._idle:
            connection.close()
        self._idle.clear()


class AtOnce:
    """A connection that was there for a request, while that is asked without a task (see `passing`)."""

    __slots__ = ("_connection", "_pool", "_started", "_upstream")

    def __init__(self, upstream: "Upstream", pool: _Pool, connection: Connection) -> None:
        self._upstream = upstream
        self._pool = pool
        self._connection = connection
        self._started = monotonic()

    def send(self, head: bytes, asker: Asker) -> None:
        """Ask with this head; the `asker` is told of what comes first."""
        self._connection.ask(head, asker)

    def answered(self, route: str, status: int) -> None:
        """The answer is here, whole."""
        self._upstream.observe(route, str(status), monotonic() - self._started)
        self._pool.address.succeeded()
        self._pool.release(self._connection, reuse=True)

    async def exchange(self, route: str) -> Exchange:
        """The answer, of which something has come. Raises UpstreamError."""
        return await self._upstream.go_on(self._pool, self._connection, route, self._started)

    def failed(self, route: str, error: UpstreamError) -> None:
        """Nothing came."""
        self._upstream.observe(route, error.kind, monotonic() - self._started)
        self._upstream.blame(self._pool.address)
        self.abandon()

    def abandon(self) -> None:
        """Done with it."""
        self._connection.close()
        self._pool.release(self._connection, reuse=False)


class Upstream:
    """The API, at one address or several."""

    def __init__(self, limits: settings.Upstream, observe: Callable[[str, str, float], None]) -> None:
        """`observe` is told of every request: route, status or kind of failure, seconds to the answer's head."""
        self._limits = limits
        self.observe = observe
        origins = limits.urls or (limits.url or "",)
        self.addresses = [_address(origin) for origin in origins]
        self._pools = {address.text: _Pool(address, limits) for address in self.addresses}
        self._turn = 0

    @property
    def authority(self) -> bytes:
        """The API's own name for itself: Host where no client names one."""
        return self.addresses[0].text.encode()

    @property
    def inflight(self) -> int:
        """Requests whose answers are not read to their end."""
        return sum(address.inflight for address in self.addresses)

    async def ask(
        self,
        request: Outgoing,
        *,
        route: str,
        informational: Callable[[ResponseHead], None] | None = None,
    ) -> Exchange:
        """Send a request; the exchange it returns has the answer's head. `route` is the metric's label.

        Raises UpstreamError, ClientBodyError.
        """
        started = monotonic()
        try:
            exchange = await self._ask(request, informational)
        except UpstreamError as error:
            self.observe(route, error.kind, monotonic() - started)
            raise
        self.observe(route, str(exchange.head.status), monotonic() - started)
        return exchange

    def at_once(self) -> AtOnce | None:
        """A connection for a GET that a client waits for, if there is one that is idle."""
        address = self.addresses[0]
        if len(self.addresses) > 1:
            self._turn += 1
            address = order(self.addresses, now=monotonic(), turn=self._turn)[0]
        pool = self._pools[address.text]
        connection = pool.take_at_once()
        if connection is None:
            # Whoever asks now waits for one, of this same address.
            self._turn -= len(self.addresses) > 1
            return None
        return AtOnce(self, pool, connection)

    async def go_on(self, pool: _Pool, connection: Connection, route: str, started: float) -> Exchange:
        """What was begun `at_once`, once something has come. Raises UpstreamError."""
        try:
            head = await connection.receive_head(self._limits.timeout)
        except BaseException as error:
            connection.close()
            pool.release(connection, reuse=False)
            if isinstance(error, UpstreamError):
                self.blame(pool.address)
                self.observe(route, error.kind, monotonic() - started)
            raise
        self.observe(route, str(head.status), monotonic() - started)
        self._judge(pool.address, head)
        return Exchange(pool, connection, head, None)

    def _judge(self, address: Address, head: ResponseHead) -> None:
        if head.status in OUTAGES:
            self.blame(address)
        else:
            address.succeeded()

    async def _ask(self, request: Outgoing, informational: Callable[[ResponseHead], None] | None) -> Exchange:
        self._turn += 1
        candidates = order(self.addresses, now=monotonic(), turn=self._turn)
        for last, address in ((address is candidates[-1], address) for address in candidates):
            try:
                exchange = await self._ask_at(self._pools[address.text], request, informational)
            except UpstreamError as error:
                self.blame(address)
                # Nothing was sent where there was no connection, so another address may be asked.
                if last or error.kind not in {"connect", "connect_timeout"}:
                    raise
            else:
                self._judge(address, exchange.head)
                return exchange
        raise AssertionError("an API has at least one address")

    def blame(self, address: Address) -> None:
        """It failed, or did not answer."""
        address.failed(
            now=monotonic(), eject_after=self._limits.eject_after, eject_for=self._limits.eject_for
        )

    async def _ask_at(
        self, pool: _Pool, request: Outgoing, informational: Callable[[ResponseHead], None] | None
    ) -> Exchange:
        # An idle connection may be closed by the API in the very moment in which it is used. What may not be sent twice
        # takes one only where the API hardly has a reason to, having just answered; else a new one, 0.2 ms on loopback.
        repeatable = request.method in _IDEMPOTENT and request.body is None and not request.upgrade
        rested_s = math.inf if repeatable else self._limits.reuse_for_writes
        if request.again:
            pool.be_wary()
        if request.again or request.upgrade:
            rested_s = 0.0
        connection, reused = await pool.acquire(rested_s=rested_s, paced=request.paced)
        try:
            return await self._exchange(pool, connection, request, informational)
        except UpstreamError as error:
            # Only a connection that was closed: an API that is silent is not asked a second time.
            if not (reused and repeatable and error.kind == "reset" and not connection.answered):
                raise
        pool.be_wary()
        connection, _ = await pool.acquire(rested_s=0.0, paced=request.paced)
        return await self._exchange(pool, connection, request, informational)

    async def _exchange(
        self,
        pool: _Pool,
        connection: Connection,
        request: Outgoing,
        informational: Callable[[ResponseHead], None] | None,
    ) -> Exchange:
        sender: asyncio.Task[bool] | None = None
        connection.begin(request.method, upgrade=request.upgrade)
        connection.informational = informational
        try:
            await connection.send(request.head() + request.whole)
            if request.body is not None and not request.whole:
                sender = asyncio.get_running_loop().create_task(_send_body(connection, request))
                sender.add_done_callback(_retrieved)
            head = await self._head_or_broken_body(connection, sender)
        except BaseException:
            if sender is not None:
                sender.cancel()
            connection.close()
            pool.release(connection, reuse=False)
            raise
        exchange = Exchange(pool, connection, head, sender)
        exchange.once = request.upgrade
        return exchange

    async def _head_or_broken_body(
        self, connection: Connection, sender: asyncio.Task[bool] | None
    ) -> ResponseHead:
        if sender is None:
            return await connection.receive_head(self._limits.timeout)
        # The clock for the first byte starts when the body is sent: an upload may take as long as it takes.
        waiting = asyncio.get_running_loop().create_task(connection.receive_head(None))
        waiting.add_done_callback(_retrieved)
        try:
            await asyncio.wait({sender, waiting}, return_when=asyncio.FIRST_COMPLETED)
            # First of all: a body that broke off closes the connection, which is then no fault of the API's.
            error = sender.exception() if sender.done() else None
            if isinstance(error, ClientBodyError):
                raise error
            if not waiting.done():
                # Where the API stopped reading it may still have said why.
                return await asyncio.wait_for(waiting, self._limits.timeout)
            return waiting.result()
        except TimeoutError as error:
            raise UpstreamError(
                "timeout", 504, f"the API sent nothing for {self._limits.timeout:g}s"
            ) from error
        finally:
            waiting.cancel()

    def close(self) -> None:
        """Close idle connections."""
        for pool in self._pools.values():
            pool.close()


def _was_sent(sender: asyncio.Task[bool]) -> bool:
    return sender.done() and not sender.cancelled() and sender.exception() is None and sender.result()


async def _send_body(connection: Connection, request: Outgoing) -> bool:
    """Whether it was sent to its end. Raises UpstreamError, ClientBodyError."""
    assert request.body is not None  # noqa: S101 - the caller checked
    if request.expects_continue:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CONTINUE_WAIT_S):
                await connection.continued.wait()
        if connection.head is not None:
            # The answer is there already: the body is not wanted, and a 100 would stand in the middle of that answer.
            return False
    try:
        async for piece in request.body:
            if piece:
                await connection.send(b"%x\r\n%s\r\n" % (len(piece), piece) if request.chunked else piece)
        if request.chunked:
            await connection.send(b"0\r\n\r\n")
    except ClientBodyError:
        # The API must see a request that broke off, not one that it waits for.
        connection.close()
        raise
    return True


def _retrieved(task: asyncio.Task[Any]) -> None:
    # Its error has been acted on, or something else came before it mattered.
    if not task.cancelled():
        task.exception()


def _address(origin: str) -> Address:
    host, _, port = origin.removeprefix("http://").rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        return Address(host=origin.removeprefix("http://").rstrip("/").strip("[]"), port=80)
    return Address(host=host.strip("[]"), port=int(port))
