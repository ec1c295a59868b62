"""A client's connection below aiohttp, on real sockets, in a whole proxy: answers in order, whatever is sent and however."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import strategies as st

from proxy.messages import Answer, Incoming
from proxy.metrics import EARLY, INFLIGHT, read, total
from proxy.policy.outcome import Handling, Outcome
from proxy.upstream import Exchange
from proxy.wire.response import parse_head
from tests.flow.client import Client, connected, request
from tests.flow.origin import Asked, framed, numbered, ok, once
from tests.fuzz.search import PATIENCE_S, search
from tests.log_lines import capture_logs
from tests.proxy.quick import Quick, client_of, in_pieces, often, quick

pytestmark = pytest.mark.timeout(PATIENCE_S)

_ROUTES = 'routes: [{name: kept, match: "/kept/**", ttl: 60s}, {name: big, match: "/big/**", ttl: 60s}]\n'
_DATE = "Date: Fri, 15 Jan 2027 08:00:00 GMT"
_BIG = bytes(range(256)) * 1000


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expressions are made one after the other."""
    monkeypatch.setattr("proxy.shapes._PAUSES", 0)


async def telling(asked: Asked) -> None:
    """An answer that tells what was asked."""
    body = await asked.content()
    said = f"{asked.method} {asked.target} {len(body)} {sum(body)}".encode()
    head_only = b"" if asked.method == "HEAD" else said
    await asked.send(framed(head_only, _DATE, 'ETag: "v1"', of=len(said)))


def _limited(**limits: str) -> str:
    said = ", ".join(f"{name}: {value}" for name, value in limits.items())
    return f"{_ROUTES}client: {{{said}}}\n"


# -- many requests, in any pieces --

_BODY = b"0123456789" * 100
_LARGE = bytes(200_000)
# What stands for `#` is new in each.
_MENU = {
    "hit": request("/kept/a"),
    "another hit": request("/kept/b", "X-Trace: #"),
    "304": request("/kept/a", 'If-None-Match: "v1"'),
    "206": request("/kept/a", "Range: bytes=0-3"),
    "hit to HEAD": request("/kept/a", method="HEAD"),
    "large hit": request("/big/a"),
    "miss": request("/kept/#"),
    "no-store": request("/kept/a", "Cache-Control: no-store"),
    "passed": request("/other"),
    "passed, new": request("/other/#?a=b", "X-Trace: #"),
    "passed, HEAD": request("/other", method="HEAD"),
    "POST": request("/other", method="POST", body=_BODY),
    "POST, large": request("/other", method="POST", body=_LARGE),
    "POST, nothing": request("/other", "Content-Length: 0", method="POST"),
    "POST, chunked": request("/other", "Transfer-Encoding: chunked", method="POST")
    + b"5\r\n01234\r\n3;a=b\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    "GET with a body": request("/kept/a", body=b"body"),
    "DELETE": request("/other", method="DELETE"),
    "OPTIONS": request("*", method="OPTIONS"),
    "absolute": request("http://other.test/kept/a"),
    "empty line": b"\r\n" + request("/kept/a"),
    "HTTP/1.0, kept": request("/kept/a", "Connection: keep-alive", version="1.0"),
    "websocket, declined": request(
        "/other", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: a", "Sec-WebSocket-Version: 13"
    ),
}  # fmt: skip
_LAST = {
    "close": request("/kept/a", "Connection: close"),
    "close, passed": request("/other", "Connection: close"),
    "close, POST": request("/other", "Connection: close", method="POST", body=_BODY),
    "HTTP/1.0": request("/kept/a", version="1.0"),
    "no Host": b"GET /kept/a HTTP/1.1\r\n\r\n",
    "two Hosts": request("/kept/a", "Host: a", "Host: b"),
    "a folded line": request("/kept/a", "X-A: b\r\n c"),
    "LF": b"GET /kept/a HTTP/1.1\nHost: a\n\n",
    "smuggling": request("/other", "Content-Length: 4", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a bad body": request("/other", "Transfer-Encoding: chunked", method="POST") + b"xyz\r\n",
}  # fmt: skip
_CHOSEN = st.tuples(st.lists(st.sampled_from(sorted(_MENU)), max_size=10), st.sampled_from(sorted(_LAST)))
_CUTS = st.one_of(
    st.just(()), st.lists(st.integers(0, 2**20), max_size=6).map(tuple), st.just((1,)), st.just((-1,))
)
# What is new in each, and what time changes.
_VARIABLE = re.compile(rb"#[0-9]{6}#|(?<=\r\nAge: )[0-9]+|(?<=ttl=)-?[0-9]+|(?<=\r\nDate: )[^\r]+")


@dataclass
class Stage:
    runner: asyncio.Runner
    seen: Quick
    number: int = 0

    def new(self, data: bytes) -> bytes:
        self.number += 1
        return data.replace(b"#", b"%%23%06d%%23" % self.number)

    def received(self, pieces: list[bytes], *, apart: bool) -> bytes:
        return self.runner.run(self._received(pieces, apart=apart))

    async def _received(self, pieces: list[bytes], *, apart: bool) -> bytes:
        """All that comes for what is sent, up to the end of the connection."""
        async with connected(self.seen.port) as client:
            reading = asyncio.create_task(client.rest(10))
            for number, piece in enumerate(pieces):
                client.writer.write(piece)
                # Some come together, some apart.
                await asyncio.sleep(0.002 if apart and number % 2 and number < 20 else 0)
            try:
                return _comparable(await reading)
            finally:
                reading.cancel()


# Why it's refused depends on how much has come when that is known.
_WHY = re.compile(rb'(?<=no-store\r\nContent-Length: )[0-9]+|"detail":"[^"]*"')


def _comparable(data: bytes) -> bytes:
    data = _WHY.sub(b"~", data)
    return _VARIABLE.sub(b"~", re.sub(rb"%23[0-9]{6}%23", b"~", data))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        patch.setattr("proxy.shapes._PAUSES", 0)
        stack = AsyncExitStack()

        async def start() -> Quick:
            seen = await stack.enter_async_context(quick(tmp_path_factory.mktemp("stage"), _ROUTES))
            seen.api.on("/", telling)
            seen.api.on("*", telling)
            seen.api.on("/big", ok(_BIG, _DATE))
            async with client_of(seen) as client:
                for name in (
                    "hit",
                    "another hit",
                    "304",
                    "hit to HEAD",
                    "large hit",
                    "passed",
                    "passed, new",
                ):
                    method = "HEAD" if "HEAD" in name else "GET"
                    for number in range(30):
                        await client.send(_MENU[name].replace(b"#", b"%%23%06d%%23" % number))
                        await client.response(method)
            return seen

        try:
            yield Stage(runner, runner.run(start()))
        finally:
            runner.run(stack.aclose())


def _pieces(data: bytes, cuts: tuple[int, ...]) -> list[bytes]:
    if cuts == (-1,):
        # Byte by byte, where it isn't too long.
        return [data[at : at + 1] for at in range(len(data))] if len(data) < 2500 else [data]
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(places)]


def test_requests_in_any_pieces_are_answered_in_order_and_as_one_by_one(stage: Stage) -> None:
    alone: dict[str, bytes] = {}
    end = stage.received([_LAST["close"]], apart=False)

    def answer_to(name: str) -> bytes:
        # The first time it may be stored; what is asked for in these tests is there already, or new each time.
        for _ in range(0 if name in alone else 2):
            data = stage.new({**_MENU, **_LAST}[name])
            if name in _LAST:
                alone[name] = stage.received([data], apart=False)
            else:
                both = stage.received([data, _LAST["close"]], apart=True)
                assert both.endswith(end), (name, both)
                alone[name] = both.removesuffix(end)
        return alone[name]

    def check(example: tuple[tuple[list[str], str], tuple[int, ...]]) -> None:
        (names, last), cuts = example
        data = b"".join(stage.new(_MENU[name]) for name in names) + stage.new(_LAST[last])
        wanted = b"".join(answer_to(name) for name in (*names, last))
        assert wanted == stage.received(_pieces(data, cuts), apart=bool(cuts))

    search(st.tuples(_CHOSEN, _CUTS), check, examples=250)
    # All but what came last took its usual way often enough.
    assert stage.seen.passages.count(b"/other") > 20
    stage.runner.run(stage.seen.rest())


def test_a_hit_is_answered_wherever_the_end_of_the_one_before_it_is_cut(stage: Stage) -> None:
    data = _MENU["hit"] + _MENU["POST"] + _MENU["hit"] + _LAST["close"]
    wanted = stage.received([data], apart=False)
    for cut in range(1, 230):
        assert stage.received([data[:cut], data[cut:]], apart=False) == wanted


# -- a client that does not read --


async def test_a_client_that_sends_on_and_does_not_read_is_held_back_and_let_go(tmp_path: Path) -> None:
    async with quick(tmp_path, _limited(write_timeout="300ms")) as seen, client_of(seen) as client:
        seen.api.on("/big", ok(bytes(20_000), _DATE))
        await often(client, "/big/a")
        lane = seen.connection
        transport = lane._transport
        assert transport is not None
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        most = 0
        for _ in range(300):
            client.writer.write(request("/big/a") * 100)
            await asyncio.sleep(0.003)
            most = max(most, transport.get_write_buffer_size())
            if transport.is_closing():
                break

        assert transport.is_closing()
        assert most < 200_000
        assert len(lane._held) < 64 * 1024 + 2**18
        assert seen.counted()["crowdgate_bad_requests_total[('kind', 'write_timeout')]"] == 1


async def test_a_client_that_reads_slowly_gets_everything_in_order(tmp_path: Path) -> None:
    async with quick(tmp_path, _limited(write_timeout="300ms")) as seen, client_of(seen) as client:
        seen.api.on("/big", ok(bytes(20_000), _DATE))
        await often(client, "/big/a")
        client.writer.write(request("/big/a") * 300 + request("/kept/last", "Connection: close"))
        got = 0
        while data := await client.reader.read(60_000):
            got += len(data)
            await asyncio.sleep(0.001)

        assert got > 300 * 20_000
        assert not [key for key in seen.counted() if "bad_requests" in key]


@pytest.mark.parametrize(
    ("express", "target"),
    [
        pytest.param(True, "/big/a", id="express, a hit"),
        pytest.param(True, "/other", id="express"),
        pytest.param(False, "/big/a", id="aiohttp, a hit"),
        pytest.param(False, "/other", id="aiohttp"),
    ],
)
async def test_the_last_answer_of_a_connection_may_take_a_client_as_long_as_it_reads(
    tmp_path: Path, express: bool, target: str
) -> None:
    body = bytes(16_000_000)
    more = _limited(write_timeout="500ms") + "memory: {max_object: 32MiB, max_size: 64MiB}\n"
    async with quick(tmp_path, more, express=express) as seen:
        seen.api.on("/", ok(body, _DATE))
        async with client_of(seen) as client:
            await client.ask(target)
            await client.send(request(target, "Connection: close"))
            got = 0
            while piece := await client.reader.read(400_000):
                got += len(piece)
                await asyncio.sleep(0.04)

        assert got > len(body)


async def test_what_is_sent_while_an_answer_is_awaited_waits_outside_beyond_a_bound(tmp_path: Path) -> None:
    async with quick(tmp_path, _ROUTES) as seen, client_of(seen) as client:
        release = asyncio.Event()
        seen.api.on("/", numbered(_DATE))
        seen.api.on("/waits", once(release, ok(b"waited", _DATE)))
        await often(client, "/kept/a")
        lane = seen.connection
        count = 15_000
        data = request("/waits") + request("/kept/a") * count + request("/kept/a", "Connection: close")
        client.writer.write(data)
        await seen.api.came("/waits")
        await asyncio.sleep(0.1)
        assert len(lane._held) < 64 * 1024 + 2**18
        release.set()
        answers = await client.rest(20)

        assert answers.count(b"HTTP/1.1 200 OK\r\n") == count + 2
        assert answers.index(b"waited") < answers.index(b"hit; ttl")


# -- time --


async def _ended_after(client: Client, within_s: float = 5.0) -> tuple[float, bytes]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    data = await client.rest(within_s)
    return loop.time() - began, data


_EITHER = pytest.mark.parametrize("express", [True, False], ids=["express", "aiohttp"])


@_EITHER
@pytest.mark.parametrize("target", ["/kept/a", "/other"])
async def test_an_idle_connection_is_closed_in_time(tmp_path: Path, express: bool, target: str) -> None:
    more = _limited(idle_timeout="300ms", header_timeout="3s")
    async with quick(tmp_path, more, express=express) as seen, client_of(seen) as client:
        seen.api.on("/", telling)
        await often(client, target)
        took_s, data = await _ended_after(client)

        assert (data, 0.2 < took_s < 1.0) == (b"", True)


@_EITHER
async def test_one_on_which_the_other_lane_was_used_too(tmp_path: Path, express: bool) -> None:
    more = _limited(idle_timeout="300ms", header_timeout="3s")
    for after in (b"", b"\r\n"):
        async with quick(tmp_path, more, express=express) as seen, client_of(seen) as client:
            seen.api.on("/", telling)
            chunked = request("/other", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n"
            await client.send(chunked + after)
            assert (await client.response()).status == 200
            took_s, data = await _ended_after(client)

            assert (data, 0.2 < took_s < 1.0) == (b"", True)


@_EITHER
async def test_a_request_that_takes_its_time_is_not_idle(tmp_path: Path, express: bool) -> None:
    more = _limited(idle_timeout="200ms", header_timeout="200ms")
    async with quick(tmp_path, more, express=express) as seen, client_of(seen) as client:
        release = asyncio.Event()
        seen.api.on("/waits", once(release, ok(b"waited", _DATE)))
        await client.send(request("/waits"))
        await asyncio.sleep(0.7)
        release.set()

        assert (await client.response()).body == b"waited"


@_EITHER
@pytest.mark.parametrize(
    ("sent", "wait_s", "answer"),
    [
        pytest.param(b"", 0.0, b"", id="nothing"),
        pytest.param(b"GET / HT", 0.0, b"HTTP/1.1 408", id="half"),
        pytest.param(b"GET / HT", 0.3, b"HTTP/1.1 408", id="half, late"),
        pytest.param(b"\r\n", 0.0, b"", id="an empty line"),
    ],
)
async def test_a_head_has_its_time_from_the_start(
    tmp_path: Path, express: bool, sent: bytes, wait_s: float, answer: bytes
) -> None:
    async with quick(tmp_path, _limited(header_timeout="500ms"), express=express) as seen:
        async with client_of(seen) as client:
            await asyncio.sleep(wait_s)
            await client.send(sent)
            took_s, data = await _ended_after(client)

        assert (data[:12], 0.1 < took_s + wait_s < 0.9) == (answer, True)
        assert seen.counted()["crowdgate_bad_requests_total[('kind', 'header_timeout')]"] == 1


@_EITHER
async def test_a_later_head_has_its_time_from_its_first_byte(tmp_path: Path, express: bool) -> None:
    more = _limited(header_timeout="300ms")
    async with quick(tmp_path, more, express=express) as seen, client_of(seen) as client:
        seen.api.on("/", telling)
        await often(client, "/kept/a")
        await asyncio.sleep(0.4)
        await client.send(b"GET /kept/a HT")
        took_s, data = await _ended_after(client)

        assert (data[:12], 0.2 < took_s < 0.8) == (b"HTTP/1.1 408", True)


@_EITHER
async def test_more_connections_than_may_be_are_closed(tmp_path: Path, express: bool) -> None:
    async with quick(tmp_path, _limited(max_connections="2"), express=express) as seen:
        seen.api.on("/", telling)
        async with client_of(seen) as one, client_of(seen) as two:
            for client in (one, two):
                await client.ask("/kept/a")
            async with client_of(seen) as three:
                assert await three.rest(2) == b""
            assert (await one.ask("/kept/a")).status == 200
        async with asyncio.timeout(2):
            while seen.one.proxy.front.connections:
                await asyncio.sleep(0.005)
        async with client_of(seen) as client:
            assert (await client.ask("/kept/a")).status == 200
        assert seen.counted()["crowdgate_bad_requests_total[('kind', 'connections')]"] == 1


# -- the end of a connection --


@_EITHER
@pytest.mark.parametrize("target", ["/kept/a", "/other"])
async def test_whoever_asks_for_the_end_gets_it_each_time(tmp_path: Path, express: bool, target: str) -> None:
    async with quick(tmp_path, _ROUTES, express=express) as seen:
        seen.api.on("/", telling)
        for _ in range(30):
            async with client_of(seen) as client:
                response = await client.ask(target, "Connection: close")
                assert (response.status, response.get("connection")) == (200, "close")
                assert await client.rest(1) == b""


@_EITHER
@pytest.mark.parametrize("first", ["a hit", "a POST of the other lane"])
async def test_draining_ends_what_is_idle_and_lets_the_others_end(
    tmp_path: Path, express: bool, first: str
) -> None:
    async with (
        quick(tmp_path, _ROUTES, express=express) as seen,
        client_of(seen) as idle,
        client_of(seen) as busy,
    ):
        release = asyncio.Event()
        seen.api.on("/", telling)
        seen.api.on("/waits", once(release, ok(b"waited", _DATE)))
        for client in (idle, busy):
            if first == "a hit":
                await often(client, "/kept/a")
            else:
                await client.send(
                    request("/other", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n"
                )
                await client.response()
        await busy.send(request("/waits"))
        await seen.api.came("/waits")
        seen.one.proxy.front.draining = True
        seen.one.proxy.hits.close()
        for connection in _connections(seen):
            connection.close_if_idle()
        assert await idle.rest(1) == b""
        release.set()

        response = await busy.response()
        assert (response.body, response.get("connection")) == (b"waited", "close")
        assert await busy.rest(1) == b""


def _connections(seen: Quick) -> list[Any]:
    return list(seen.server.connections)


@_EITHER
async def test_while_draining_hits_end_their_connections(tmp_path: Path, express: bool) -> None:
    async with quick(tmp_path, _ROUTES, express=express) as seen, client_of(seen) as client:
        seen.api.on("/", telling)
        await often(client, "/kept/a")
        seen.one.proxy.front.draining = True
        seen.one.proxy.hits.close()
        response = await client.ask("/kept/a")

        assert (response.cache[:3], response.get("connection")) == ("hit", "close")
        assert await client.rest(1) == b""


async def test_what_is_left_at_the_end_is_cut_off(tmp_path: Path) -> None:
    async with quick(tmp_path, _ROUTES) as seen:
        release = asyncio.Event()
        seen.api.on("/", telling)
        seen.api.on("/waits", once(release, ok()))
        async with client_of(seen) as passing, client_of(seen) as slow, client_of(seen) as other:
            await often(passing, "/other")
            await passing.send(request("/waits"))
            await slow.send(request("/waits", "X-Not: seen often"))
            await other.send(request("/waits", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n")
            await seen.api.came("/waits", 3)
            await seen.lane.shutdown(0.1)

            assert [await client.rest(2) for client in (passing, slow, other)] == [b""] * 3
        # What one of them may have changed is still waited for.
        release.set()
        await seen.rest()


# -- bodies --


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 32 * 1024 + 1, 100_000, 1_000_000])
async def test_bodies_of_any_size_are_answered_whole(tmp_path: Path, size: int) -> None:
    body = bytes(range(250)) * (size // 250) + bytes(size % 250)
    async with quick(tmp_path, _ROUTES) as seen, client_of(seen) as client:
        seen.api.on("/", ok(body, _DATE))
        await often(client, "/kept/a")
        seen.slowly.clear()
        for _ in range(3):
            response = await client.ask("/kept/a")
            assert (response.body == body, response.cache[:3]) == (True, "hit")
        head = await often(client, "/kept/a", method="HEAD")
        assert (head.get("content-length"), head.body) == (str(size), b"")
        assert (await client.ask("/kept/a")).body == body

        assert b"/kept/a" not in seen.slowly[10:]


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 300_000])
@pytest.mark.parametrize("pieces", [1, 3])
async def test_bodies_of_requests_go_on_whole(tmp_path: Path, size: int, pieces: int) -> None:
    body = bytes(range(250)) * (size // 250) + bytes(size % 250)
    async with quick(tmp_path, _ROUTES) as seen, client_of(seen) as client:
        seen.api.on("/", telling)
        for method in ("POST", "PUT", "GET"):
            data = request("/other", method=method, body=body)
            step = -(-len(data) // pieces)
            for at in range(0, len(data), step):
                await client.send(data[at : at + step])
                await asyncio.sleep(0.01 if pieces > 1 else 0)
            assert (await client.response()).body == f"{method} /other {size} {sum(body)}".encode()
            assert seen.api.asked[-1].get("content-length") == str(size)


@_EITHER
async def test_a_body_larger_than_it_may_be_is_refused(tmp_path: Path, express: bool) -> None:
    async with quick(tmp_path, _limited(max_body="10B"), express=express) as seen:
        seen.api.on("/", telling)
        for size, status in ((10, 200), (11, 413)):
            async with client_of(seen) as client:
                assert (await client.ask("/other", method="POST", body=bytes(size))).status == status
        assert seen.counted()["crowdgate_bad_requests_total[('kind', 'body_size')]"] == 1


# -- defects --


@_EITHER
@pytest.mark.parametrize("when", ["at once", "later"])
async def test_a_defect_is_a_500_that_tells_nothing_and_is_logged(
    tmp_path: Path, express: bool, when: str
) -> None:
    async def later(incoming: Incoming) -> Answer:
        raise ValueError(incoming.target)

    def at_once(incoming: Incoming) -> Answer:
        raise ValueError(incoming.target)

    async with quick(tmp_path, _ROUTES, express=express) as seen, client_of(seen) as client:
        seen.one.proxy.front.begin = at_once if when == "at once" else later
        with capture_logs() as lines:
            response = await client.ask("/secret")

        assert (response.status, response.get("connection"), b"secret" in response.body) == (
            500,
            "close",
            False,
        )
        assert [line["event"] for line in lines] == ["defect while answering"]
        assert await client.rest(1) == b""


class _Breaking(Exchange):
    def __init__(self) -> None:
        self.head = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 10", method="GET")
        self.abandoned = False

    def ready(self) -> bytes:
        return b""

    async def read(self) -> bytes:
        raise ValueError("defect")

    def abandon(self) -> None:
        self.abandoned = True


@_EITHER
async def test_a_defect_after_the_answer_has_begun_ends_the_connection(tmp_path: Path, express: bool) -> None:
    exchange = _Breaking()

    async def half(_: Incoming) -> Answer:
        return Answer(
            status=200,
            reason=b"OK",
            head=b"Content-Length: 10\r\n",
            body=exchange,
            handling=Handling(outcome=Outcome.MISS),
            route="r",
        )

    async with quick(tmp_path, _ROUTES, express=express) as seen, client_of(seen) as client:
        seen.one.proxy.front.begin = half
        with capture_logs() as lines:
            response = await client.ask("/")
            assert await client.rest(1) == b""

        assert (response.status, response.whole, exchange.abandoned) == (200, False, True)
        assert [line["event"] for line in lines] == ["defect while answering"]


# -- what is told of requests --

_TOLD = (
    *(["/kept/a"] * 12),
    *(["/other?secret"] * 25),
    *(["/kept/b"] * 2),
)


@pytest.mark.parametrize("access", [True, False])
async def test_both_lanes_log_and_count_the_same(
    tmp_path: Path, access: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for express in (True, False):
        lines: list[dict[str, Any]] = []
        async with quick(tmp_path, _ROUTES, express=express) as seen, client_of(seen) as client:
            seen.api.on("/", telling)
            seen.one.proxy.access.enabled = access
            monkeypatch.setattr(
                seen.one.proxy.access._log, "write", lambda line, to=lines: to.append(line) or True
            )
            for target in _TOLD:
                await client.ask(target)
                await client.ask(target, method="HEAD")
            await client.ask("/other", method="POST", body=b"body")
            await asyncio.sleep(0.01)
            shown = [{name: value for name, value in line.items() if name != "seconds"} for line in lines]
            assert all(0 <= line["seconds"] < 5 for line in lines)
            told.append((shown, seen.counted(), _histograms(seen)))

    assert told[0] == told[1]
    assert len(told[0][0]) == (2 * len(_TOLD) + 1 if access else 0)


def _histograms(seen: Quick) -> dict[str, float]:
    samples = read(seen.one.proxy.metrics.render().decode())
    counts = {
        f"{sample.name} {sorted(sample.labels.items())}": sample.value
        for sample in samples
        if sample.name in {"crowdgate_request_seconds_count", "crowdgate_upstream_seconds_count"}
    }
    return {**counts, "inflight": total(samples, INFLIGHT)}


# -- ahead of time --


async def test_a_popular_answer_is_refreshed_before_anybody_waits_for_it(tmp_path: Path) -> None:
    async with (
        quick(tmp_path, 'routes: [{name: kept, match: "/kept/**", ttl: 2s}]\n') as seen,
        client_of(seen) as client,
    ):
        seen.api.on("/", numbered(_DATE.replace("2027", "2036")))
        seen.api.on("/kept", numbered())
        loop = asyncio.get_running_loop()
        until, kinds = loop.time() + 4.5, set()
        while loop.time() < until:
            kinds.add((await client.ask("/kept/a")).cache.partition(";")[0])
            await asyncio.sleep(0.001)
        early = total(read(seen.one.proxy.metrics.render().decode()), EARLY, route="kept")

        assert early >= 1
        assert kinds == {"hit", "fwd=uri-miss"}
        assert seen.api.count("/kept/a") >= 3


# -- who leaves --


@pytest.mark.parametrize("target", ["/kept/waits", "/waits"])
async def test_a_client_that_leaves_leaves_nothing_behind(tmp_path: Path, target: str) -> None:
    async with quick(tmp_path, _ROUTES) as seen:
        release = asyncio.Event()
        seen.api.on("/", telling)
        seen.api.on(target, once(release, ok(b"waited", _DATE)))
        async with client_of(seen) as client:
            await often(client, "/kept/a")
            await client.send(request(target) + request("/kept/a") * 5)
            await seen.api.came(target)
        async with asyncio.timeout(5):
            while seen.one.proxy.front.connections or seen.one.proxy.metrics.inflight:
                await asyncio.sleep(0.005)
        release.set()
        await seen.rest()


async def test_an_answer_of_which_the_client_has_taken_enough_ends_at_the_api_too(tmp_path: Path) -> None:
    async with quick(tmp_path, "routes: []\n") as seen:
        seen.api.on("/", in_pieces(b"HTTP/1.1 200 OK\r\n\r\n", *[bytes(1000)] * 1000))
        async with client_of(seen) as client:
            await client.send(request("/"))
            assert (await client.head()).status == 200
        await seen.rest()
