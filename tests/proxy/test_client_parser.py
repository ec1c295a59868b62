"""What aiohttp asks of a parser; what a request may be is in tests/proxy/wire/, whole connections are in tests/flow/."""

import asyncio
from collections.abc import Iterable
from itertools import pairwise

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from hypothesis import given
from hypothesis import strategies as st

from proxy.client_parser import RequestParser
from proxy.wire.request import BadRequest, Limits
from tests.flow.client import request

LIMITS = Limits(max_line=8190, max_field=8190, max_fields=128, max_head=65536)
UPGRADE = request("/ws", "Connection: Upgrade", "Upgrade: websocket")
CHUNKED = request("/chunked", "Transfer-Encoding: chunked", method="POST")


def parser(max_queued: int = 32) -> RequestParser:
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    # A body is only waited for while there is one.
    protocol.transport = asyncio.Transport()
    return RequestParser(protocol, loop, LIMITS, max_queued=max_queued)


class Seen:
    """Requests by their target, or the status of a refusal, and their bodies."""

    def __init__(self) -> None:
        self.requests: list[tuple[str | int, StreamReader]] = []

    def feed(self, fed: RequestParser, data: bytes = b"") -> tuple[bool, bytes]:
        messages, upgraded, tail = fed.feed_data(data)
        self.requests += [
            (head.status if isinstance(head, BadRequest) else head.target.decode(), body)
            for head, body in messages
        ]
        return upgraded, tail

    @property
    def targets(self) -> list[str | int]:
        return [target for target, _ in self.requests]

    async def bodies(self) -> list[bytes]:
        return [await body.read() for _, body in self.requests]


async def fed(pieces: Iterable[bytes]) -> tuple[list[str | int], list[bytes]]:
    seen, reading = Seen(), parser()
    for piece in pieces:
        seen.feed(reading, piece)
    return seen.targets, await seen.bodies()


STREAM = (
    request("/a")
    + request("/b", method="POST", body=b"hello")
    + CHUNKED
    + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\n"
    + b"\r\n"
    + request("/c")
)


@given(st.sets(st.integers(1, len(STREAM) - 1), max_size=9))
async def test_requests_and_bodies_are_the_same_in_whatever_pieces_they_come(cuts: set[int]) -> None:
    pieces = [STREAM[start:end] for start, end in pairwise([0, *sorted(cuts), len(STREAM)])]

    assert (["/a", "/b", "/chunked", "/c"], [b"", b"hello", b"abcde", b""]) == await fed(pieces)


async def test_what_exceeds_the_queue_waits_for_it_to_drain() -> None:
    seen, reading = Seen(), parser(max_queued=2)
    seen.feed(reading, b"".join(request(f"/{n}") for n in range(4)) + b"GET /4 HTTP/1.1\r\nHo")
    seen.feed(reading)
    assert (seen.targets, reading.in_head) == (["/0", "/1"], False)

    reading.message_consumed()
    seen.feed(reading, b"st: a\r\n")
    assert seen.targets == ["/0", "/1", "/2"]

    for _ in range(3):
        reading.message_consumed()
    seen.feed(reading)
    assert (seen.targets, reading.in_head) == (["/0", "/1", "/2", "/3"], True)
    seen.feed(reading, b"\r\n")
    assert seen.targets == ["/0", "/1", "/2", "/3", "/4"]


async def test_what_follows_a_request_for_a_websocket_is_given_back_unread() -> None:
    seen, reading = Seen(), parser()

    assert (True, b"\x81\0") == seen.feed(reading, request("/a") + UPGRADE + b"\x81\0")
    assert seen.targets == ["/a", "/ws"]
    # It was declined: those bytes come again, and are requests.
    reading.set_upgraded(False)
    assert (False, b"") == seen.feed(reading, request("/b"))
    assert seen.targets == ["/a", "/ws", "/b"]


async def test_a_refusal_comes_after_the_good_ones_and_nothing_after_it() -> None:
    seen, reading = Seen(), parser()
    seen.feed(reading, request("/a") + b"GET / HTTP/3.0\r\n\r\n" + request("/b"))
    seen.feed(reading, request("/c"))

    assert (seen.targets, reading.in_head) == (["/a", 505], False)


@pytest.mark.parametrize("reads_before", [True, False])
async def test_whoever_reads_a_body_that_is_malformed_is_told(reads_before: bool) -> None:
    seen, reading = Seen(), parser()
    seen.feed(reading, CHUNKED + b"3\r\nabc\r\n")
    body = seen.requests[0][1]
    if reads_before:
        assert await body.readany() == b"abc"
        waiting = asyncio.ensure_future(body.readany())
        await asyncio.sleep(0)
    seen.feed(reading, b"oops\r\n" + request("/b"))

    # An end that is none: whoever waited for more must look at the exception.
    assert not reads_before or await waiting == b""
    assert isinstance(body.exception(), BadRequest)
    assert (body.is_eof(), seen.targets) == (True, ["/chunked", 400])


async def test_a_body_that_is_not_read_holds_the_client_back() -> None:
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    reading = RequestParser(protocol, loop, LIMITS, max_queued=32)
    protocol._parser = reading  # type: ignore[assignment]
    reading.feed_data(request("/b", "Content-Length: 1000000", method="POST"))
    paused = []
    for _ in range(3):
        reading.feed_data(bytes(256 * 1024))
        paused.append(protocol._reading_paused)

    assert paused == [False, False, True]


async def test_many_tiny_chunks_are_kept_as_one_piece() -> None:
    seen, reading = Seen(), parser()
    seen.feed(reading, CHUNKED + b"1\r\nx\r\n" * 1000)
    (_, body) = seen.requests[0]

    assert len(body._buffer) == 1
