"""The client's side on real sockets, before an answer that the test makes; whole proxies are in tests/flow/."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy import settings
from proxy.connection import ClientServer, Connection, Front, Listener, listening
from proxy.messages import Answer, Incoming
from proxy.policy.outcome import Handling, Outcome
from proxy.upstream import Exchange
from proxy.wire.response import parse_head
from tests.flow.client import Client, connected, request
from tests.log_lines import capture_logs

HANDLING = Handling(outcome=Outcome.MISS)


@dataclass
class Seen:
    """An observer that remembers."""

    inflight: int = 0
    enabled: bool = False
    answers: list[tuple[str, int]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def answered(self, incoming: Incoming, answer: Answer, seconds: float) -> None:
        assert seconds >= 0
        self.answers.append((incoming.path, answer.status))

    def log(self, incoming: Incoming, answer: Answer, seconds: float) -> None:
        self.answered(incoming, answer, seconds)

    def refused(self, kind: str) -> None:
        self.refusals.append(kind)


def answer_of(body: bytes = b"body", status: int = 200) -> Answer:
    head = b"X: 1\r\nContent-Length: %d\r\n" % len(body)
    return Answer(status=status, reason=b"OK", head=head, body=body, handling=HANDLING, route="r")


async def plainly(_: Incoming) -> Answer:
    return answer_of()


async def echoing(incoming: Incoming) -> Answer:
    body = b""
    if incoming.body is not None:
        async for piece in incoming.body:
            body += piece
    return answer_of(body)


@dataclass
class Port:
    front: Front
    seen: Seen
    listener: Listener

    @property
    def number(self) -> int:
        return int(self.listener.address.rpartition(":")[2])


@asynccontextmanager
async def port(
    answer: Callable[[Incoming], Coroutine[Any, Any, Answer]] = plainly, **limits: Any
) -> AsyncIterator[Port]:
    seen = Seen()
    front = Front(begin=answer, observer=seen, limits=settings.Client(**limits))
    async with listening(ClientServer(front), "127.0.0.1", 0) as listener:
        yield Port(front, seen, listener)
    assert (seen.inflight, front.connections) == (0, 0)


@asynccontextmanager
async def client_of(opened: Port) -> AsyncIterator[Client]:
    async with connected(opened.number) as client:
        yield client
    async with asyncio.timeout(2):
        while opened.front.connections:
            await asyncio.sleep(0.005)


async def test_an_answer_is_written_as_it_is_and_nothing_is_added() -> None:
    async with port() as opened, client_of(opened) as client:
        await client.send(request("/a?secret"))
        expected = b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 4\r\n\r\nbody"
        assert await client.reader.readexactly(len(expected)) == expected

        assert (opened.seen.answers, opened.seen.refusals) == ([("/a", 200)], [])


async def test_a_request_is_handed_on_as_it_was_sent() -> None:
    got: list[Incoming] = []

    async def keep(incoming: Incoming) -> Answer:
        got.append(incoming)
        return await echoing(incoming)

    async with port(keep) as opened, client_of(opened) as client:
        await client.send(
            b"POST /%zz?a HTTP/1.1\r\nhOST: a\r\nX-L: \xe9\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await client.send(b"3\r\nabc\r\n0\r\n\r\n")
        assert (await client.response()).body == b"abc"

    (incoming,) = got
    assert (incoming.target, incoming.fields, incoming.chunked) == (
        b"/%zz?a",
        ((b"hOST", b"a"), (b"X-L", b"\xe9"), (b"Transfer-Encoding", b"chunked")),
        True,
    )
    assert (incoming.websocket, incoming.expects_continue) == (False, False)


async def test_a_defect_is_a_500_that_tells_nothing_and_is_logged() -> None:
    async def defective(incoming: Incoming) -> Answer:
        raise ValueError(incoming.target)

    async with port(defective) as opened, client_of(opened) as client:
        with capture_logs() as lines:
            response = await client.ask("/secret")

        assert (response.status, response.get("connection"), b"secret" in response.body) == (
            500,
            "close",
            False,
        )
        assert [line["event"] for line in lines] == ["defect while answering"]
        assert await client.rest(1) == b""

    async with port(defective) as opened, client_of(opened) as client:
        with capture_logs():
            await client.send(request("/", method="HEAD"))
            assert (await client.response("HEAD")).status == 500
        assert await client.rest(1) == b""


async def test_a_defect_after_the_answer_has_begun_ends_the_connection() -> None:
    class Breaking(Exchange):
        def __init__(self) -> None:
            self.head = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 10", method="GET")
            self.abandoned = False

        def ready(self) -> bytes:
            return b""

        async def read(self) -> bytes:
            raise ValueError("defect")

        def abandon(self) -> None:
            self.abandoned = True

    exchange = Breaking()

    async def half(_: Incoming) -> Answer:
        head = b"Content-Length: 10\r\n"
        return Answer(
            status=200,
            reason=b"OK",
            head=head,
            body=exchange,
            handling=HANDLING,
            route="r",
        )

    with capture_logs() as lines:
        async with port(half) as opened, client_of(opened) as client:
            response = await client.ask("/")

    assert (response.status, response.whole, exchange.abandoned) == (200, False, True)
    assert [line["event"] for line in lines] == ["defect while answering"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nA\x00: b\r\n\r\n", 400, id="NUL"),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405, id="CONNECT"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, id="HTTP/2"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", 413, id="too large"),
    ],
)
async def test_what_is_refused_closes_the_connection(data: bytes, status: int) -> None:
    async with port(max_body=10) as opened, client_of(opened) as client:
        await client.send(data)
        response = await client.response()

        assert (response.status, response.get("connection")) == (status, "close")


async def test_a_body_that_is_malformed_is_the_client_s_fault() -> None:
    async with port(echoing) as opened, client_of(opened) as client:
        await client.send(request("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\nxyz\r\n")
        response = await client.response()

    assert (response.status, opened.seen.refusals) == (400, ["body"])


async def test_a_body_that_is_malformed_behind_an_answer_ends_the_connection_without_a_word() -> None:
    with capture_logs() as lines:
        async with port(plainly) as opened, client_of(opened) as client:
            await client.send(request("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n")
            assert (await client.response()).status == 200
            await client.send(b"xyz\r\n" + request("/"))
            # aiohttp was still waiting for the rest: what it gets is answered as a request of its own would be.
            assert (await client.response()).status == 400
            assert await client.rest(2) == b""

    assert (lines, opened.seen.answers, opened.seen.refusals) == ([], [("/", 200)], ["malformed"])


async def test_a_refusal_comes_in_its_turn_and_is_the_last_word() -> None:
    async with port() as opened, client_of(opened) as client:
        await client.send(request("/1") + request("/2") + b"GET / HTTP/1.1\r\n\r\n" + request("/3"))
        statuses = [(await client.response()).status for _ in range(3)]
        assert await client.rest(0.5) == b""

    assert (statuses, opened.seen.answers) == ([200, 200, 400], [("/1", 200), ("/2", 200)])
    assert opened.seen.refusals == ["malformed"]


async def sending_on(client: Client) -> None:
    while True:
        await client.send(bytes(1000))
        await asyncio.sleep(0.01)


async def test_whoever_sends_on_after_a_refusal_is_cut_off_in_time() -> None:
    async with port() as opened, client_of(opened) as client:
        await client.send(b"garbage\r\n")
        assert (await client.response()).status == 400
        started = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionError):
            await sending_on(client)
        assert 0.5 < asyncio.get_running_loop().time() - started < 2


async def test_a_head_has_its_time_also_behind_another_request() -> None:
    async with port(header_timeout=0.2) as opened, client_of(opened) as client:
        await client.send(request("/1", method="POST", body=b"body") + b"GET /2 HT")
        assert (await client.response()).status == 200
        assert (await client.rest(1))[:12] == b"HTTP/1.1 408"

    assert opened.seen.refusals == ["header_timeout"]


async def test_an_empty_line_behind_a_request_is_not_the_beginning_of_another() -> None:
    async with port(header_timeout=0.1) as opened, client_of(opened) as client:
        await client.send(request("/1", method="POST", body=b"body") + b"\r\n")
        assert (await client.response()).status == 200
        await asyncio.sleep(0.3)
        assert (await client.ask("/2")).status == 200


async def test_http_1_0_is_told() -> None:
    seen: list[bool] = []

    async def keep(incoming: Incoming) -> Answer:
        seen.append(incoming.http_1_0)
        return answer_of()

    async with port(keep) as opened, client_of(opened) as client:
        await client.ask("/")
        await client.send(request("/", version="1.0"))
        await client.response()

    assert seen == [False, True]


async def test_a_client_that_takes_a_large_piece_slowly_is_not_let_go() -> None:
    body = bytes(8_000_000)

    async def large(_: Incoming) -> Answer:
        return answer_of(body)

    async with port(large, write_timeout=0.1) as opened, client_of(opened) as client:
        await client.send(request("/"))
        got = 0
        while got < len(body):
            got += len(await client.reader.read(400_000))
            await asyncio.sleep(0.03)

        assert opened.seen.refusals == []


async def test_a_client_that_stops_taking_it_is() -> None:
    async def large(_: Incoming) -> Answer:
        return answer_of(bytes(30_000_000))

    async with port(large, write_timeout=0.1) as opened, client_of(opened) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request("/"))
        async with asyncio.timeout(2):
            while opened.seen.refusals != ["write_timeout"]:
                await asyncio.sleep(0.01)


async def test_a_client_that_leaves_while_it_is_written_to_is_no_defect() -> None:
    async def large(_: Incoming) -> Answer:
        return answer_of(bytes(30_000_000))

    with capture_logs() as lines:
        async with port(large) as opened, client_of(opened) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(request("/"))
            await asyncio.sleep(0.05)

    assert (lines, opened.seen.answers, opened.seen.refusals) == ([], [("/", 200)], [])


async def test_stopping_closes_idle_connections_and_lets_the_others_end() -> None:
    release = asyncio.Event()

    async def waiting(_: Incoming) -> Answer:
        await release.wait()
        return answer_of()

    async with (
        port(waiting) as opened,
        client_of(opened) as idle,
        client_of(opened) as busy,
        client_of(opened) as begun,
    ):
        await busy.send(request("/"))
        await begun.send(b"GET / HT")
        async with asyncio.timeout(2):
            while opened.seen.inflight != 1 or not any(
                isinstance(each, Connection) and each._requests.in_head
                for each in opened.listener._server.connections
            ):
                await asyncio.sleep(0.005)
        opened.front.draining = True
        opened.listener.stop_listening()
        assert await idle.rest(1) == b""

        release.set()
        await begun.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        for client in (busy, begun):
            assert (await client.response()).get("connection") == "close"
            assert await client.rest(1) == b""


async def test_an_answer_that_began_before_the_end_was_known_still_closes_its_connection() -> None:
    class Drained(Exchange):
        """Draining begins while its body is read."""

        def __init__(self) -> None:
            self.head = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 4", method="GET")
            self.pieces = [b"body"]

        def ready(self) -> bytes:
            return b""

        async def read(self) -> bytes:
            opened.front.draining = True
            return self.pieces.pop() if self.pieces else b""

        def abandon(self) -> None:
            """There is no connection."""

    async def streamed(_: Incoming) -> Answer:
        head = b"Content-Length: 4\r\n"
        return Answer(status=200, reason=b"OK", head=head, body=Drained(), handling=HANDLING, route="r")

    async with port(streamed) as opened, client_of(opened) as client:
        response = await client.ask("/")

        assert (response.body, response.get("connection")) == (b"body", "")
        assert await client.rest(1) == b""


async def test_an_address_is_told_as_it_is_written() -> None:
    front = Front(begin=plainly, observer=Seen(), limits=settings.Client())
    async with listening(ClientServer(front), "::1", 0) as listener:
        assert listener.address.startswith("[::1]:")
    async with listening(ClientServer(front), "127.0.0.1", 0) as listener:
        taken = int(listener.address.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            async with listening(ClientServer(front), "127.0.0.1", taken):
                pass
