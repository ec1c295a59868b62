"""An answer taken apart, in whatever pieces it comes."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import settings
from proxy.upstream_connection import Connection, UpstreamError

LIMITS = settings.Upstream(url="http://a")
CHUNKED = (
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n8;x=y\r\n, world!\r\n0\r\nTrailer: 1\r\n\r\n"
)
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nhello, world!"
BODY = b"hello, world!"


class Transport:
    """What the connection does to its socket."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def connected(method: str = "GET", *, upgrade: bool = False) -> tuple[Connection, Transport]:
    connection, transport = Connection(LIMITS), Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.begin(method, upgrade=upgrade)
    return connection, transport


async def taken(connection: Connection) -> bytes:
    await connection.receive_head(0.1)
    body = b""
    while piece := await connection.receive(0.1):
        body += piece
    return body


@given(answer=st.sampled_from([CHUNKED, LENGTH]), cuts=st.sets(st.integers(1, 140), max_size=8))
async def test_an_answer_is_the_same_in_whatever_pieces_it_comes(answer: bytes, cuts: set[int]) -> None:
    connection, transport = connected()
    places = [0, *sorted(cuts), len(answer)]
    for start, end in pairwise(places):
        if piece := answer[start:end]:
            connection.data_received(piece)

    assert await taken(connection) == BODY
    assert (connection.reusable, transport.closed) == (True, False)


@given(size=st.integers(0, len(CHUNKED) - 1))
async def test_an_answer_that_ends_early_is_never_a_whole_one(size: int) -> None:
    connection, _ = connected()
    if size:
        connection.data_received(CHUNKED[:size])
    connection.connection_lost(None)

    with pytest.raises(UpstreamError, match="before its answer was whole"):
        await taken(connection)
    assert not connection.reusable


async def test_what_comes_after_an_answer_closes_the_connection() -> None:
    connection, transport = connected()
    connection.data_received(LENGTH + b"HTTP/1.1 200 OK\r\n")
    assert (await taken(connection), transport.closed, connection.reusable) == (BODY, True, False)

    connection, transport = connected()
    connection.data_received(LENGTH)
    await taken(connection)
    connection.rest()
    assert connection.reusable
    connection.data_received(b"x")
    assert (transport.closed, connection.reusable) == (True, False)


async def test_an_idle_connection_that_is_lost_is_not_used_again() -> None:
    connection, _ = connected()
    connection.data_received(LENGTH)
    await taken(connection)
    connection.rest()
    connection.connection_lost(None)

    assert not connection.reusable
    connection.close()
    with pytest.raises(UpstreamError, match="closed the connection"):
        await connection.send(b"x")


async def test_a_body_that_nobody_reads_holds_the_api_back() -> None:
    connection, transport = connected()
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n")
    for _ in range(6):
        connection.data_received(bytes(50_000))
    assert not transport.reading

    await connection.receive_head(0.1)
    piece = await connection.receive(0.1)
    assert (len(piece), transport.reading) == (300_000, True)
    connection.unread(piece)
    assert await connection.receive(0.1) == piece


async def test_a_write_waits_while_the_api_does_not_read() -> None:
    connection, transport = connected()
    connection.pause_writing()
    writing = asyncio.ensure_future(connection.send(b"x"))
    await asyncio.sleep(0)
    assert not writing.done()
    connection.resume_writing()
    await writing

    assert transport.written == [b"x"]


async def test_a_write_that_waits_ends_with_the_connection() -> None:
    connection, _ = connected()
    connection.pause_writing()
    writing = asyncio.ensure_future(connection.send(b"x"))
    await asyncio.sleep(0)
    connection.connection_lost(ConnectionResetError())

    await asyncio.wait_for(writing, 1)
    with pytest.raises(UpstreamError, match="before its answer was whole"):
        await connection.send(b"y")


async def test_a_write_does_not_wait_for_ever() -> None:
    connection = Connection(settings.Upstream(url="http://a", write_timeout=0.02))
    connection.connection_made(Transport())  # type: ignore[arg-type]
    connection.begin("GET", upgrade=False)
    connection.pause_writing()

    with pytest.raises(UpstreamError) as caught:
        await connection.send(b"x")
    assert (caught.value.kind, caught.value.status) == ("write_timeout", 504)


@pytest.mark.parametrize(
    ("head", "method", "reusable"),
    [
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", "GET", True, id="204"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "GET", True, id="304"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD", True, id="HEAD"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", True, id="length 0"),
        pytest.param(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", "GET", False, id="close"),
        pytest.param(b"HTTP/1.0 204 No Content\r\n\r\n", "GET", False, id="HTTP/1.0"),
    ],
)
async def test_an_answer_without_a_body_ends_with_its_head(
    head: bytes,
    method: str,
    reusable: bool,
) -> None:
    connection, _ = connected(method)
    connection.data_received(head)

    assert (await taken(connection), connection.reusable) == (b"", reusable)


async def test_after_a_101_all_bytes_are_the_tunnel_s() -> None:
    connection, _ = connected(upgrade=True)
    connection.data_received(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nHTTP/1.1")
    connection.data_received(b" 200 OK\r\n\r\n")
    await connection.receive_head(0.1)
    assert await connection.receive(0.1) == b"HTTP/1.1 200 OK\r\n\r\n"

    connection.connection_lost(None)
    assert await connection.receive(0.1) == b""


def closed(error: Exception | None) -> Connection:
    """After a body without a length."""
    connection, _ = connected()
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nbody")
    connection.connection_lost(error)
    return connection


async def test_a_body_that_ends_with_the_connection_ends_well_only_if_that_does() -> None:
    assert await taken(closed(None)) == b"body"

    with pytest.raises(UpstreamError, match="before its answer was whole"):
        await taken(closed(ConnectionResetError()))


async def test_nothing_is_waited_for_longer_than_it_may_take() -> None:
    connection, _ = connected()
    kinds = []
    for wait in (connection.receive_head, connection.receive):
        with pytest.raises(UpstreamError) as caught:
            await wait(0.01)
        kinds.append((caught.value.kind, caught.value.status))

    assert kinds == [("timeout", 504), ("read_timeout", 504)]


async def test_a_head_that_is_too_large_is_refused_before_its_end() -> None:
    connection, transport = connected()
    connection.data_received(b"HTTP/1.1 200 OK\r\nA: " + b"x" * LIMITS.max_head)
    with pytest.raises(UpstreamError, match=r"larger than upstream\.max_head"):
        await connection.receive_head(0.1)
    assert transport.closed
    # What still comes is nobody's.
    connection.data_received(b"\r\n\r\n")
    assert connection.head is None


async def test_a_100_lets_the_body_go_and_is_no_answer() -> None:
    connection, _ = connected("POST")
    seen: list[Any] = []
    connection.informational = seen.append
    connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")

    assert (connection.continued.is_set(), connection.head, seen) == (True, None, [])


async def test_interim_answers_count_towards_the_largest_head() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    connection, transport = connected()
    seen: list[Any] = []
    connection.informational = seen.append
    for _ in range(LIMITS.max_head // len(early)):
        connection.data_received(early)
    assert not transport.closed
    connection.data_received(early * 2)

    with pytest.raises(UpstreamError, match=r"larger than upstream\.max_head"):
        await connection.receive_head(0.1)
    assert (transport.closed, len(seen)) == (True, LIMITS.max_head // len(early))
    # The next request's begin anew.
    connection, _ = connected()
    connection.data_received(early * 100 + LENGTH)
    assert await taken(connection) == BODY


async def test_many_tiny_chunks_are_kept_as_one_piece() -> None:
    connection, _ = connected()
    connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000)

    assert (len(connection._chunks), len(await connection.receive(0.1))) == (1, 1000)


async def test_a_head_that_comes_by_the_byte_is_read_once() -> None:
    connection, _ = connected()
    for byte in CHUNKED:
        connection.data_received(bytes([byte]))

    assert await taken(connection) == BODY
