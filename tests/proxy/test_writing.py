"""Answers on their way to a client, on real sockets; with whole proxies in tests/flow/."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from proxy import settings
from proxy.messages import Answer
from proxy.policy.outcome import Handling, Outcome
from proxy.upstream import Exchange
from proxy.upstream_connection import UpstreamError
from proxy.wire.response import parse_head
from proxy.writing import Outlet, Writing, head_of, interim

_MISS = Handling(outcome=Outcome.MISS)


@dataclass
class Told:
    limits: settings.Client = field(default_factory=lambda: settings.Client(write_timeout=0.2))
    refusals: list[str] = field(default_factory=list)

    def refused(self, kind: str) -> None:
        self.refusals.append(kind)


class Way(asyncio.Protocol):
    """A client's connection, with an outlet."""

    def __init__(self, told: Told) -> None:
        self.outlet = Outlet(told)
        self.made: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.outlet.transport = cast("asyncio.Transport", transport)
        self.made.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        self.outlet.lost()

    def pause_writing(self) -> None:
        self.outlet.pause()

    def resume_writing(self) -> None:
        self.outlet.resume()


@dataclass
class Ends:
    told: Told
    outlet: Outlet
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@asynccontextmanager
async def ends() -> AsyncIterator[Ends]:
    """Both ends of a connection."""
    told, made = Told(), []

    def accepted() -> Way:
        made.append(Way(told))
        return made[-1]

    server = await asyncio.get_running_loop().create_server(accepted, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2], limit=2**16)
    while not made:
        await asyncio.sleep(0)
    await made[0].made
    try:
        yield Ends(told, made[0].outlet, reader, writer)
    finally:
        writer.transport.abort()
        if made[0].outlet.transport is not None:
            made[0].outlet.transport.abort()
        server.close()
        await asyncio.sleep(0.01)


class Coming(Exchange):
    """An answer of the API's, in pieces; then its end, or an error."""

    def __init__(self, *pieces: bytes, come: bytes = b"", error: UpstreamError | None = None) -> None:
        self.head = parse_head(b"HTTP/1.1 200 OK", method="GET")
        self.come = come
        self.pieces = list(pieces)
        self.error = error
        self.abandoned = False

    def ready(self) -> bytes:
        come, self.come = self.come, b""
        return come

    async def read(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self.error is not None:
            raise self.error
        return b""

    def abandon(self) -> None:
        self.abandoned = True


_BROKEN = UpstreamError("reset", 502, "the API closed the connection")


def answer(body: bytes | Exchange, *, length: int | None = None) -> Answer:
    head = b"X: 1\r\n" if length is None else b"X: 1\r\nContent-Length: %d\r\n" % length
    return Answer(
        status=200,
        reason=b"OK",
        head=head,
        body=body,
        handling=_MISS,
        route="r",
        length_known=length is not None,
    )


def writing(outlet: Outlet, said: Answer, **how: Any) -> Writing:
    return Writing(outlet, said, **{"head_only": False, "http_1_0": False, "keeps": lambda: True, **how})


@dataclass(frozen=True)
class Case:
    said: Answer
    how: dict[str, Any]
    wanted: bytes
    ends: bool = False


_START = b"HTTP/1.1 200 OK\r\nX: 1\r\n"
_CASES = {
    "whole": Case(answer(b"body", length=4), {}, _START + b"Content-Length: 4\r\n\r\nbody"),
    "to HEAD": Case(answer(b"body", length=4), {"head_only": True}, _START + b"Content-Length: 4\r\n\r\n"),
    "the connection's last": Case(
        answer(b"body", length=4),
        {"keeps": lambda: False},
        _START + b"Content-Length: 4\r\nConnection: close\r\n\r\nbody",
    ),
    "kept, of HTTP/1.0": Case(
        answer(b"body", length=4),
        {"http_1_0": True},
        _START + b"Content-Length: 4\r\nConnection: keep-alive\r\n\r\nbody",
    ),
    "in pieces, of a known length": Case(
        answer(Coming(b"bo", b"dy"), length=4), {}, _START + b"Content-Length: 4\r\n\r\nbody"
    ),
    "in pieces": Case(
        answer(Coming(b"bo", b"d" * 17)),
        {},
        _START + b"Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n11\r\n" + b"d" * 17 + b"\r\n0\r\n\r\n",
    ),
    "in pieces, of which one is here": Case(
        answer(Coming(b"dy", come=b"bo")),
        {},
        _START + b"Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
    ),
    "all here, of a known length": Case(
        answer(Coming(come=b"body"), length=4), {}, _START + b"Content-Length: 4\r\n\r\nbody"
    ),
    "nothing, in pieces": Case(answer(Coming()), {}, _START + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "in pieces, to HTTP/1.0": Case(
        answer(Coming(b"bo", b"dy")),
        {"http_1_0": True},
        _START + b"Connection: close\r\n\r\nbody",
        ends=True,
    ),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in _CASES.items()])
async def test_an_answer_is_written_as_it_is_with_what_its_framing_needs(case: Case) -> None:
    async with ends() as both:
        way = writing(both.outlet, case.said, **case.how)
        await way.write()

        assert await both.reader.readexactly(len(case.wanted)) == case.wanted
        assert way.ends is case.ends
        if isinstance(case.said.body, Coming):
            assert case.said.body.abandoned


async def test_once_it_is_written_nobody_is_asked_whether_the_connection_goes_on() -> None:
    async with ends() as both:
        way = writing(both.outlet, answer(b"body", length=4))
        assert way.framing() == b""
        way.let_go()
        assert way.framing() == b"Connection: close\r\n"


@pytest.mark.parametrize(
    ("length", "http_1_0"),
    [
        pytest.param(10, False, id="of a known length"),
        pytest.param(10, True, id="of a known length, to HTTP/1.0"),
        pytest.param(None, False, id="in chunks"),
    ],
)
async def test_an_answer_that_breaks_off_is_told_from_a_whole_one(length: int | None, http_1_0: bool) -> None:
    async with ends() as both:
        said = answer(Coming(b"body", error=_BROKEN), length=length)
        with pytest.raises(ConnectionResetError):
            await writing(both.outlet, said, http_1_0=http_1_0).write()
        got = await both.reader.read()

        # Neither the last chunk nor all that the length promised.
        assert b"body" in got
        assert not got.endswith(b"0\r\n\r\n")
        assert said.handling == Handling(outcome=Outcome.ERROR, detail="reset")


async def test_where_only_the_end_tells_the_end_a_broken_answer_is_a_reset() -> None:
    async with ends() as both:
        said = answer(Coming(b"body", error=_BROKEN))
        with pytest.raises(ConnectionResetError):
            await writing(both.outlet, said, http_1_0=True).write()
        with pytest.raises(ConnectionResetError):
            await both.reader.read()


async def test_a_client_that_reads_nothing_is_let_go_in_time() -> None:
    async with ends() as both:
        both.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionResetError):
            await both.outlet.send(bytes(30_000_000))

        assert both.told.refusals == ["write_timeout"]


async def test_one_that_reads_slowly_is_not() -> None:
    async with ends() as both:
        sending = asyncio.create_task(both.outlet.send(bytes(4_000_000)))
        got = 0
        while got < 4_000_000:
            got += len(await both.reader.read(200_000))
            await asyncio.sleep(0.01)
        await sending

        assert both.told.refusals == []


async def test_one_that_leaves_is_noticed_at_once() -> None:
    async with ends() as both:
        both.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sending = asyncio.create_task(both.outlet.send(bytes(30_000_000)))
        await asyncio.sleep(0.05)
        both.writer.transport.abort()
        with pytest.raises(ConnectionResetError):
            await sending
        with pytest.raises(ConnectionResetError):
            await both.outlet.send(b"more")

        assert both.told.refusals == []


async def test_nothing_is_waited_for_while_all_is_taken() -> None:
    async with ends() as both:
        await asyncio.wait_for(both.outlet.taken(), 0.01)
        await both.outlet.send(b"body")
        assert await both.reader.readexactly(4) == b"body"


def test_a_1xx_goes_on_as_it_came() -> None:
    head = parse_head(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nx-A: 1", method="GET")

    assert interim(head) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nx-A: 1\r\n\r\n"
    assert head_of(answer(b"", length=0)) == _START + b"Content-Length: 0\r\n\r\n"
