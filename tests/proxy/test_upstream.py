"""Asking a real socket that misbehaves; whole processes do so in tests/flow/test_api_faults.py and test_keepalive.py."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest

from proxy import settings
from proxy.upstream import ClientBodyError, Exchange, Outgoing, Upstream, _address
from proxy.upstream_connection import UpstreamError
from proxy.wire.response import ResponseHead
from tests.flow.origin import Asked, Origin, after, framed, ok, once, origin, raw
from tests.servers import free_port


class Seen:
    """What the metrics were told."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def __call__(self, route: str, code: str, seconds: float) -> None:
        assert (route, seconds >= 0) == ("route", True)
        self.codes.append(code)


@pytest.fixture
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


def upstream_of(api: Origin, seen: Seen | None = None, **limits: float) -> Upstream:
    return Upstream(settings.Upstream(url=api.url, **limits), seen or Seen())  # type: ignore[arg-type]


def get(target: bytes = b"/") -> Outgoing:
    return Outgoing(method="GET", target=target, fields=((b"Host", b"a"), (b"x-Case", b"1")))


def post(body: AsyncIterator[bytes], *, chunked: bool = True, expects: bool = False) -> Outgoing:
    fields = ((b"Host", b"a"),) if chunked else ((b"Host", b"a"), (b"Content-Length", b"4"))
    return Outgoing(
        method="POST", target=b"/", fields=fields, body=body, chunked=chunked, expects_continue=expects
    )


async def pieces(*parts: bytes | Exception | float) -> AsyncIterator[bytes]:
    """A body: bytes, waits and what goes wrong."""
    for part in parts:
        if isinstance(part, Exception):
            raise part
        if isinstance(part, float):
            await asyncio.sleep(part)
        else:
            yield part


async def whole(exchange: Exchange) -> bytes:
    body = b""
    while piece := await exchange.read():
        body += piece
    return body


async def ask(upstream: Upstream, request: Outgoing) -> tuple[int, bytes]:
    exchange = await upstream.ask(request, route="route")
    return exchange.head.status, await whole(exchange)


async def failure(upstream: Upstream, request: Outgoing) -> tuple[str, int]:
    with pytest.raises(UpstreamError) as caught:
        await ask(upstream, request)
    return caught.value.kind, caught.value.status


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_request_is_sent_exactly_as_it_is(api: Origin) -> None:
    seen = Seen()
    upstream = upstream_of(api, seen)
    assert await ask(upstream, get(b"/a?%zz")) == (200, b"{}")

    assert api.asked[0].head == b"GET /a?%zz HTTP/1.1\r\nHost: a\r\nx-Case: 1\r\n\r\n"
    assert (upstream.inflight, seen.codes) == (0, ["200"])
    upstream.close()


async def test_a_body_is_sent_as_it_comes(api: Origin) -> None:
    upstream = upstream_of(api)
    await ask(upstream, post(pieces(b"ab", b"", b"cde")))
    await ask(upstream, post(pieces(b"ab", b"cd"), chunked=False))

    assert [asked.body for asked in api.asked] == [b"abcde", b"abcd"]
    assert [asked.get("transfer-encoding") for asked in api.asked] == ["chunked", ""]
    upstream.close()


async def test_closing_closes_what_is_idle_and_leaves_what_is_not(api: Origin) -> None:
    release = asyncio.Event()
    api.on("/slow", once(release, ok(b"slow")))
    upstream = upstream_of(api)
    await ask(upstream, get())
    busy = asyncio.ensure_future(ask(upstream, get(b"/slow")))
    await ask(upstream, get())
    await api.came("/slow")
    upstream.close()
    await until(lambda: api.open == 1)
    release.set()

    assert await busy == (200, b"slow")
    upstream.close()
    await until(lambda: api.open == 0)


async def test_without_keepalive_every_request_has_a_connection_of_its_own(api: Origin) -> None:
    upstream = upstream_of(api, keepalive=0)
    for _ in range(3):
        await ask(upstream, get())

    assert api.accepted == 3
    await until(lambda: api.open == 0)


WRITE = Outgoing(method="POST", target=b"/", fields=((b"Host", b"a"),))


async def test_a_write_takes_a_connection_that_was_used_a_moment_ago(api: Origin) -> None:
    upstream = upstream_of(api)
    for request in (get(), WRITE, WRITE, post(pieces(b"body"))):
        await ask(upstream, request)

    assert api.accepted == 1
    upstream.close()


@pytest.mark.parametrize(
    ("reused_s", "request_"),
    [
        pytest.param(0.05, WRITE, id="it has rested for longer"),
        pytest.param(0.0, WRITE, id="never"),
        pytest.param(
            60.0,
            Outgoing(method="GET", target=b"/", fields=((b"Host", b"a"),), upgrade=True),
            id="an upgrade",
        ),
    ],
)
async def test_else_it_takes_a_new_one(api: Origin, reused_s: float, request_: Outgoing) -> None:
    upstream = upstream_of(api, reuse_for_writes=reused_s)
    await ask(upstream, get())
    await asyncio.sleep(0.1)
    await ask(upstream, request_)

    assert api.accepted == 2
    upstream.close()


async def test_no_write_goes_out_over_a_connection_whose_end_has_come_though_nobody_has_looked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        loop = asyncio.get_running_loop()
        upstream = Upstream(
            settings.Upstream(url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=2.0), Seen()
        )
        first = asyncio.ensure_future(ask(upstream, get()))
        api, _ = await loop.run_in_executor(None, listening.accept)
        await loop.run_in_executor(None, api.recv, 1000)
        api.sendall(framed(b"fine"))
        assert await first == (200, b"fine")
        # From here on the event loop does not run until the write is under way.
        api.close()
        second = asyncio.ensure_future(ask(upstream, WRITE))
        api, _ = await loop.run_in_executor(None, listening.accept)
        await loop.run_in_executor(None, api.recv, 1000)
        api.sendall(framed(b"once"))

        assert await second == (200, b"once")
        api.close()
        upstream.close()


async def test_an_api_that_closes_soon_after_its_answers_is_trusted_with_no_write_for_a_while(
    api: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closing(asked: Asked) -> None:
        await ok(b"fine")(asked)
        asked.close()

    api.on("/closing", closing)
    upstream = upstream_of(api)
    await ask(upstream, get(b"/closing"))
    await until(lambda: api.open == 0)
    # Whoever asks next finds that connection closed.
    await ask(upstream, get())
    await ask(upstream, WRITE)
    accepted = [api.accepted]
    now = time.monotonic()
    monkeypatch.setattr("proxy.upstream.monotonic", lambda: now + 61)
    await ask(upstream, get())
    await ask(upstream, WRITE)
    accepted.append(api.accepted)

    assert accepted == [3, 3]
    upstream.close()


@pytest.mark.parametrize("how", ["abandoned", "cancelled", "queued behind"])
async def test_an_exchange_that_nobody_wants_leaves_no_connection_and_no_place_taken(
    api: Origin, how: str
) -> None:
    async def hung(asked: Asked) -> None:
        await asked.gone()

    api.on("/", raw(framed(b"half", of=10)))
    api.on("/hung", hung)
    upstream = upstream_of(api, max_connections=1, queue_timeout=0.2)
    for _ in range(3):
        if how == "abandoned":
            exchange = await upstream.ask(get(), route="route")
            exchange.abandon()
            exchange.abandon()
            assert await exchange.read() == b""
        elif how == "cancelled":
            asking = asyncio.ensure_future(ask(upstream, get(b"/hung")))
            await until(lambda: upstream.inflight == 1)
            asking.cancel()
            await asyncio.wait({asking})
        else:
            exchange = await upstream.ask(get(), route="route")
            assert await failure(upstream, get()) == ("busy", 503)
            exchange.abandon()
    await until(lambda: api.open == 0)

    assert upstream.inflight == 0
    api.on("/", ok())
    assert await ask(upstream, get()) == (200, b"{}")
    upstream.close()


async def test_one_that_leaves_the_queue_takes_no_place_with_it(api: Origin) -> None:
    release = asyncio.Event()
    api.on("/", once(release, ok()))
    upstream = upstream_of(api, max_connections=1)
    first = asyncio.ensure_future(ask(upstream, get()))
    await until(lambda: upstream.inflight == 1)
    leaving = asyncio.ensure_future(ask(upstream, get()))
    staying = asyncio.ensure_future(ask(upstream, get()))
    await asyncio.sleep(0.02)
    leaving.cancel()
    release.set()

    assert [await first, await staying] == [(200, b"{}")] * 2
    upstream.close()


async def test_what_was_read_can_be_given_back(api: Origin) -> None:
    api.on("/", ok(b"abcdef"))
    upstream = upstream_of(api)
    exchange = await upstream.ask(get(), route="route")
    exchange.unread(await exchange.read())
    exchange.unread(b"")

    assert await whole(exchange) == b"abcdef"
    exchange.unread(b"too late")
    assert await exchange.read() == b""
    upstream.close()


async def test_an_answer_that_comes_before_the_body_is_sent_is_the_answer(api: Origin) -> None:
    async def early(asked: Asked) -> None:
        await asked.send(framed(b"no", status="403 Forbidden"))
        await asked.gone()

    api.on("/", early)
    upstream = upstream_of(api)
    assert await ask(upstream, post(pieces(b"a", 10.0, b"b"))) == (403, b"no")
    # The connection is in the middle of a body: it serves nobody else.
    await until(lambda: api.open == 0)


async def test_an_api_that_stops_reading_may_still_say_why(api: Origin) -> None:
    async def full(asked: Asked) -> None:
        await asked.send(framed(b"full", "Connection: close", status="413 Content Too Large"))
        asked.close()

    api.on("/", full)
    upstream = upstream_of(api)
    answer = await ask(upstream, post(pieces(*[bytes(65536)] * 100)))
    assert answer == (413, b"full")


async def test_an_api_that_reads_nothing_is_a_timeout(api: Origin) -> None:
    api.on("/", after(10, ok()))
    upstream = upstream_of(api, write_timeout=0.1, timeout=0.1)
    started = time.monotonic()

    assert await failure(upstream, post(pieces(*[bytes(2**20)] * 100))) == ("timeout", 504)
    assert time.monotonic() - started < 1


async def test_the_clock_for_the_answer_starts_when_the_body_is_sent(api: Origin) -> None:
    upstream = upstream_of(api, timeout=0.2)
    assert await ask(upstream, post(pieces(b"a", 0.3, b"b"))) == (200, b"{}")

    api.on("/", after(10, ok()))
    started = time.monotonic()
    assert await failure(upstream, post(pieces(b"a"))) == ("timeout", 504)
    assert 0.2 <= time.monotonic() - started < 0.7
    upstream.close()


async def test_a_client_s_body_that_breaks_off_is_the_client_s_fault_and_no_whole_request(
    api: Origin,
) -> None:
    seen = Seen()
    upstream = upstream_of(api, seen)
    for body in (pieces(b"a", 0.05, ClientBodyError("broke off")), pieces(ClientBodyError("at once"))):
        with pytest.raises(ClientBodyError):
            await ask(upstream, post(body))
    await until(lambda: api.open == 0)

    assert (upstream.inflight, seen.codes) == (0, [])


@pytest.mark.parametrize("continues", [True, False], ids=["100", "silence"])
async def test_a_body_waits_for_100_but_not_for_ever(api: Origin, continues: bool) -> None:
    async def expecting(asked: Asked) -> None:
        if continues:
            await asked.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await ok(await asked.content())(Asked(b"", asked.reader, asked.writer))

    api.on("/", expecting)
    upstream = upstream_of(api)
    started = time.monotonic()
    assert await ask(upstream, post(pieces(b"body"), expects=True)) == (200, b"body")
    assert (time.monotonic() - started < 0.5) is continues
    upstream.close()


async def test_informational_answers_are_handed_on(api: Origin) -> None:
    heads: list[ResponseHead] = []
    api.on(
        "/", raw(b"HTTP/1.1 102 Processing\r\nA: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + framed(b"x"))
    )
    upstream = upstream_of(api)
    exchange = await upstream.ask(get(), route="route", informational=heads.append)

    assert ([head.status for head in heads], await whole(exchange)) == ([102, 103], b"x")
    upstream.close()


async def test_an_address_that_fails_again_and_again_is_left_out_for_a_while() -> None:
    async with origin() as ill, origin() as well:
        ill.on("/", ok(status="503 Ill"))
        limits = settings.Upstream(urls=(ill.url, well.url), eject_after=3, eject_for=0.3)
        upstream = Upstream(limits, Seen())
        for _ in range(40):
            await ask(upstream, get())
        assert len(ill.asked) == 3

        ill.on("/", ok())
        await asyncio.sleep(0.35)
        for _ in range(10):
            await ask(upstream, get())
        assert len(ill.asked) > 3
        upstream.close()


async def test_where_no_address_can_be_reached_the_last_one_s_failure_is_told() -> None:
    seen = Seen()
    urls = tuple(f"http://127.0.0.1:{free_port()}" for _ in range(2))
    upstream = Upstream(settings.Upstream(urls=urls), seen)

    assert await failure(upstream, get()) == ("connect", 502)
    assert (seen.codes, upstream.inflight) == (["connect"], 0)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("http://api:8080", "api", 8080, b"api:8080"),
        ("http://api/", "api", 80, b"api:80"),
        ("http://[::1]:8080/", "::1", 8080, b"[::1]:8080"),
        ("http://127.0.0.1", "127.0.0.1", 80, b"127.0.0.1:80"),
    ],
)
def test_an_origin_is_a_host_and_a_port(url: str, host: str, port: int, authority: bytes) -> None:
    address = _address(url)

    assert (address.host, address.port) == (host, port)
    assert Upstream(settings.Upstream(url=url), Seen()).authority == authority
