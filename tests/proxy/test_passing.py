"""GETs that are passed on without a task, beside the same by aiohttp's lane: the same bytes, both ways, and the same counts."""

import asyncio
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.passing import Passages
from tests.flow.client import connected, request
from tests.flow.origin import Answer, ok, once, origin
from tests.proxy.quick import OFTEN, Quick, client_of, in_pieces, often, quick

_DATE = "Date: Fri, 15 Jan 2027 08:00:00 GMT"
_PLAIN = ok(b"plain", _DATE, "Content-Type: text/plain")
_LAST = b"the last of all"
_PATIENCE_S = 5.0


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expressions are made one after the other."""
    monkeypatch.setattr("proxy.shapes._PAUSES", 0)


def answer(*lines: str, body: bytes = b"", status: str = "200 OK", version: str = "1.1") -> bytes:
    head = "\r\n".join((f"HTTP/{version} {status}", *lines, "", ""))
    return head.encode("latin-1") + body


_HEAD = answer(_DATE, "Content-Length: 10")

# Each after many that were plain; b"" ends the connection.
ANSWERS = {
    "plain": _PLAIN,
    "plain, empty": ok(b"", _DATE, "Content-Type: text/plain"),
    "another status": ok(b"no", _DATE, "Content-Type: text/plain", status="404 Not Found"),
    "no reason": ok(b"no", _DATE, "Content-Type: text/plain", status="404 "),
    "502": ok(b"ill", _DATE, "Content-Type: text/plain", status="502 Bad Gateway"),
    "503": ok(b"ill", _DATE, "Content-Type: text/plain", status="503 Ill"),
    "504": ok(b"ill", _DATE, "Content-Type: text/plain", status="504 Ill"),
    "500": ok(b"ill", _DATE, "Content-Type: text/plain", status="500 Ill"),
    "204": in_pieces(answer(_DATE, status="204 No Content")),
    "204 with a length": in_pieces(answer(_DATE, "Content-Length: 5", status="204 No Content")),
    "304": in_pieces(answer(_DATE, "Content-Length: 5", status="304 Not Modified")),
    "no Date": ok(b"dateless"),
    "other fields": ok(b"x", _DATE, "X-A: 1", "X-a:  2 ", "Set-Cookie: a=b", "Via: 1.1 other", "Age: 7"),
    "fields of this hop": ok(b"x", _DATE, "Connection: keep-alive, X-A", "Keep-Alive: timeout=5", "X-A: 1"),
    "fields of this hop, plain": ok(b"x", _DATE, "Connection: keep-alive", "Keep-Alive: timeout=5"),
    "1xx before it": in_pieces(
        answer("Link: </a>; rel=preload", status="103 Early Hints") + _HEAD + b"0123456789"
    ),
    "1xx long before it": in_pieces(
        answer(status="100 Continue"), answer("Link: </a>", status="103 Early"), _HEAD + b"0123456789"
    ),
    "chunked": in_pieces(answer(_DATE, "Transfer-Encoding: chunked") + b"5\r\nchunk\r\n0\r\n\r\n"),
    "chunked, slowly": in_pieces(
        answer(_DATE, "Transfer-Encoding: chunked"), b"5\r\nchu", b"nk\r\n0\r\nT: 1\r\n\r\n"
    ),
    "its body later": in_pieces(_HEAD, b"0123456789"),
    "its body in two": in_pieces(_HEAD + b"01234", b"56789"),
    "its head in two": in_pieces(_HEAD[:30], _HEAD[30:] + b"0123456789"),
    "byte by byte": in_pieces(*(bytes([byte]) for byte in _HEAD + b"0123456789"), pause_s=0.0),
    "longer than it says": in_pieces(_HEAD + b"0123456789HTTP/1.1 200 OK\r\n"),
    "to the end of the connection": in_pieces(answer(_DATE) + b"to the end", b""),
    "Connection: close": in_pieces(answer(_DATE, "Content-Length: 2", "Connection: close") + b"ab", b""),
    "HTTP/1.0": in_pieces(answer(_DATE, "Content-Length: 2", version="1.0") + b"ab", b""),
    "HTTP/1.0, kept": in_pieces(answer(_DATE, "Content-Length: 2", "Connection: keep-alive", version="1.0") + b"ab"),
    "broken off in its body": in_pieces(_HEAD + b"01234", b""),
    "broken off in its head": in_pieces(_HEAD[:30], b""),
    "broken off between": in_pieces(_HEAD, b""),
    "two lengths": in_pieces(answer(_DATE, "Content-Length: 2", "Content-Length: 2") + b"ab"),
    "a folded line": in_pieces(answer(_DATE, "X-A: 1\r\n 2", "Content-Length: 2") + b"ab"),
    "no HTTP": in_pieces(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "an upgrade nobody asked for": in_pieces(answer("Upgrade: x", "Connection: upgrade", status="101 S")),
    "larger than a read": ok(bytes(300_000), _DATE, "Content-Type: text/plain"),
    "an event stream": ok(b"data: 1\n\n", _DATE, "Content-Type: text/event-stream"),
    "a very long line": ok(b"x", _DATE, f"X-A: {'a' * 70_000}"),
    "nothing": in_pieces(b""),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of one odd request behind many plain ones."""

    to_client: bytes
    to_api: tuple[bytes, ...]
    counts: Counter[str]
    next_status: int


async def play(folder: Path, given: Answer, *lines: str, express: bool) -> tuple[Played, Quick]:
    """As `Played`; also that nothing is left of it."""
    async with quick(folder, express=express) as seen:
        seen.api.on("/plain", _PLAIN)
        seen.api.on("/odd", given)
        seen.api.on("/last", ok(_LAST, _DATE, "Content-Type: text/plain"))
        async with client_of(seen) as client:
            await often(client, "/plain", *lines)
            before = seen.counted()
            await client.send(request("/odd", *lines) + request("/last", *lines))
            sent = await _whole(client.reader)
        async with client_of(seen) as client:
            following = (await client.ask("/plain", *lines)).status
        await seen.rest()
        counts = seen.counted() - before
        heads = tuple(asked.replace(b":%d" % seen.api.port, b":API") for asked in seen.asked("/odd"))
        return Played(to_client=sent, to_api=heads, counts=counts, next_status=following), seen


async def _whole(reader: asyncio.StreamReader) -> bytes:
    """All that comes up to the answer to what was sent behind it, or up to the connection's end."""
    data = b""
    async with asyncio.timeout(_PATIENCE_S):
        while not data.endswith(_LAST):
            if not (piece := await reader.read(2**20)):
                return data + b"<end>"
            data += piece
    return data


def _less_date(data: bytes) -> bytes:
    """Without a Date that we had to add."""
    return re.sub(rb"Date: (?!Fri, 15 Jan 2027).*\r\n", b"", data)


@pytest.mark.parametrize("given", [pytest.param(given, id=name) for name, given in ANSWERS.items()])
async def test_whatever_the_api_answers_goes_on_as_by_the_other_lane(tmp_path: Path, given: Answer) -> None:
    quickly, seen = await play(tmp_path, given, express=True)
    slowly, _ = await play(tmp_path, given, express=False)

    assert b"/odd" in seen.passages, "it was to go the quick way"
    assert _less_date(slowly.to_client) == _less_date(quickly.to_client)
    assert (slowly.to_api, slowly.counts, slowly.next_status) == (
        quickly.to_api, quickly.counts, quickly.next_status
    )  # fmt: skip


@pytest.mark.parametrize("express", [True, False], ids=["express", "aiohttp"])
async def test_bytes_that_nobody_asked_for_end_the_connection_to_the_api(
    tmp_path: Path, express: bool
) -> None:
    async with quick(tmp_path, express=express) as seen, client_of(seen) as client:
        seen.api.on("/plain", _PLAIN)
        seen.api.on(
            "/odd", in_pieces(answer(_DATE, "Content-Length: 5", body=b"whole"), _HEAD + b"0123456789")
        )
        await often(client, "/plain")
        accepted = seen.api.accepted

        assert (await client.ask("/odd")).body == b"whole"
        await asyncio.sleep(0.1)
        assert (await client.ask("/plain")).brief == (200, b"plain")
        assert seen.api.accepted == accepted + 1


async def test_a_plain_answer_needs_no_task(tmp_path: Path) -> None:
    async with quick(tmp_path) as seen, client_of(seen) as client:
        seen.api.on("/plain", _PLAIN)
        await often(client, "/plain")
        seen.slowly.clear()
        response = await often(client, "/plain?a=1", "Host: other.test:80")

        assert (response.brief, response.cache) == ((200, b"plain"), "fwd=bypass; fwd-status=200")
        assert seen.slowly == []
        assert seen.pool._in_use == 0


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("Host: a b",), id="no host"),
        pytest.param(("Host: a,b",), id="two hosts in one"),
        pytest.param(("Host: a:99999",), id="no port"),
        pytest.param(("Host: [::g]",), id="no address"),
        pytest.param(("Host: a%zz",), id="no escape"),
        pytest.param(("Host: ",), id="nothing"),
    ],
)
async def test_a_request_for_no_host_is_refused_also_where_it_looks_like_others(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    async with quick(tmp_path) as seen, client_of(seen) as client:
        seen.api.on("/plain", _PLAIN)
        await often(client, "/plain")
        before = seen.api.count("/plain")

        assert (await client.ask("/plain", *lines)).status == 400
        assert seen.api.count("/plain") == before


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("Connection: keep-alive", "Keep-Alive: 5"), id="fields of this hop"),
        pytest.param(("Cookie: a=b", "X-A: \xe9", "Accept:  two spaces"), id="spaces"),
        pytest.param(("Range: bytes=0-1", "If-None-Match: *", "Cache-Control: only-if-cached"), id="wishes"),
        pytest.param(("Via: 1.1 other",), id="Via"),
        pytest.param(("TE: trailers", "Connection: TE"), id="TE"),
        pytest.param(("Authorization: Bearer t", "X-Forwarded-For: 1.2.3.4", "X-Empty:"), id="nothing in it"),
    ],
)
async def test_whatever_is_asked_is_asked_as_by_the_other_lane(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    quickly, _ = await play(tmp_path, _PLAIN, *lines, express=True)
    slowly, _ = await play(tmp_path, _PLAIN, *lines, express=False)

    assert slowly == quickly


async def test_via_is_added_as_the_config_says_also_after_a_reload(tmp_path: Path) -> None:
    async with quick(tmp_path) as seen, client_of(seen) as client:
        seen.api.on("/plain", _PLAIN)
        response = await often(client, "/plain")
        told = [(response.cache != "", seen.api.asked[-1].get("via"))]
        for transparent in ("true", "false"):
            seen.one.write(f"routes: []\ntransparent: {transparent}\n")
            await seen.one.proxy.reload()
            response = await often(client, "/plain")
            told.append((response.cache != "", seen.api.asked[-1].get("via")))

        assert told == [(True, "1.1 crowdgate"), (False, ""), (True, "1.1 crowdgate")]


async def test_a_route_that_begins_to_cache_is_cached(tmp_path: Path) -> None:
    async with quick(tmp_path) as seen, client_of(seen) as client:
        seen.api.on("/plain", _PLAIN)
        await often(client, "/plain")
        seen.one.write('routes: [{match: "/**", ttl: 60s}]\n')
        await seen.one.proxy.reload()

        await often(client, "/plain", times=2)
        assert (await client.ask("/plain")).cache.startswith("hit")


async def test_what_is_a_write_s_alone_is_counted_as_its_route_s(tmp_path: Path) -> None:
    async with quick(tmp_path, "routes: [{name: w, match: /plain, methods: [POST]}]\n") as seen:
        seen.api.on("/plain", _PLAIN)
        async with client_of(seen) as client:
            await often(client, "/plain")
        labels = [key for key in seen.counted() if key.startswith("crowdgate_requests_total")]

        assert len(labels) == 1
        assert "('route', '-')" in labels[0]


# -- connections to the API --


async def test_a_connection_that_the_api_has_closed_costs_no_client_its_answer(tmp_path: Path) -> None:
    counts = []
    for express in (True, False):
        async with quick(tmp_path, express=express) as seen, client_of(seen) as client:
            seen.api.on("/plain", _PLAIN)
            await often(client, "/plain")
            # It answers no second request on a connection that it has closed, and closes each on the first.
            seen.api.on("/closes", in_pieces(b""))
            await asyncio.gather(*(_once(seen, "/plain") for _ in range(4)))
            response = await client.ask("/closes")
            counts.append((response.status, seen.api.count("/closes")))

    assert counts == [(502, 2), (502, 2)]


async def _once(seen: Quick, target: str) -> None:
    async with client_of(seen) as client:
        await client.ask(target)


async def test_one_that_is_found_closed_is_replaced(tmp_path: Path) -> None:
    async with quick(tmp_path) as seen, client_of(seen) as client:
        first = True

        async def once_closing(asked: Any) -> None:
            nonlocal first
            if first:
                first = False
                asked.close()
                return
            await _PLAIN(asked)

        seen.api.on("/plain", _PLAIN)
        await often(client, "/plain")
        seen.api.on("/moody", once_closing)

        assert (await client.ask("/moody")).brief == (200, b"plain")
        assert (seen.api.count("/moody"), seen.passages[-1]) == (2, b"/moody")


@pytest.mark.parametrize("express", [True, False], ids=["express", "aiohttp"])
async def test_an_answer_that_is_late_is_a_504_and_the_connection_goes_on(
    tmp_path: Path, express: bool
) -> None:
    async with quick(tmp_path, express=express) as seen, client_of(seen) as client:
        seen.api.on("/plain", _PLAIN)
        seen.api.on("/late", once(asyncio.Event(), _PLAIN))
        await often(client, "/plain")
        # Seconds are too long for a test.
        _limit(seen, 0.15)
        response = await client.ask("/late")

        assert (response.status, response.cache) == (504, "fwd=bypass; detail=timeout")
        assert (await client.ask("/plain")).status == 200
        assert seen.counted()["crowdgate_upstream_requests_total[('code', 'timeout'), ('route', '-')]"] == 1
        assert seen.pool._in_use == 0


def _limit(seen: Quick, timeout_s: float) -> None:
    """The connections that are open keep the limits that they were made with: they are the same object's."""
    for connection, _ in seen.pool._idle:
        connection._limits = msgspec.structs.replace(connection._limits, timeout=timeout_s)
    seen.one.proxy.config.upstream._limits = msgspec.structs.replace(
        seen.one.proxy.config.upstream._limits, timeout=timeout_s
    )


async def test_a_client_that_leaves_ends_what_was_asked_for_it(tmp_path: Path) -> None:
    async with quick(tmp_path) as seen:
        seen.api.on("/plain", _PLAIN)
        seen.api.on("/waits", once(asyncio.Event(), _PLAIN))
        async with client_of(seen) as client:
            await often(client, "/plain")
            await client.send(request("/waits"))
            asked = await seen.api.came("/waits")
            assert (seen.passages[-1], seen.one.proxy.metrics.inflight) == (b"/waits", 1)
        # The API is still waiting for the event, and sees the end of its connection all the same.
        assert await asked.gone()
        await seen.rest()


async def test_what_comes_as_its_client_leaves_is_let_go_of(tmp_path: Path) -> None:
    async with quick(tmp_path) as seen:
        seen.api.on("/plain", _PLAIN)
        seen.api.on("/waits", once(asyncio.Event(), _PLAIN))
        chunked = answer(_DATE, "Transfer-Encoding: chunked")
        for count, data in enumerate((chunked, _HEAD + b"0123456789", b"HTTP/1.1 2", b""), 1):
            async with client_of(seen) as client:
                await often(client, "/plain")
                await client.send(request("/waits"))
                await seen.api.came("/waits", count)
                lane = seen.connection
                passage, transport = lane._passage, lane._transport
                assert passage is not None
                assert transport is not None
                # In one turn of the loop: first the client's end, then the API's first bytes, or its end.
                taken = passage._taken._connection
                transport.close()
                if data:
                    taken.data_received(data)
                else:
                    taken.connection_lost(None)
            await seen.rest()


async def test_an_answer_that_comes_while_draining_is_its_connection_s_last(tmp_path: Path) -> None:
    told = []
    for express in (True, False):
        async with quick(tmp_path, express=express) as seen, client_of(seen) as client:
            release = asyncio.Event()
            seen.api.on("/plain", _PLAIN)
            seen.api.on("/waits", once(release, _PLAIN))
            await often(client, "/plain")
            await client.send(request("/waits"))
            await seen.api.came("/waits")
            seen.one.proxy.front.draining = True
            seen.one.proxy.hits.close()
            release.set()
            told.append(await _whole(client.reader))

    assert told[0] == told[1]
    assert b"Connection: close\r\n" in told[0]
    assert told[0].endswith(b"plain<end>")


async def test_what_is_in_flight_counts_as_in_flight(tmp_path: Path) -> None:
    async with quick(tmp_path) as seen, client_of(seen) as client:
        release = asyncio.Event()
        seen.api.on("/plain", _PLAIN)
        seen.api.on("/waits", once(release, _PLAIN))
        await often(client, "/plain")
        await client.send(request("/waits"))
        await seen.api.came("/waits")
        assert (seen.passages[-1], seen.one.proxy.metrics.inflight, seen.pool.address.inflight) == (
            b"/waits",
            1,
            1,
        )
        release.set()
        await client.response()

        assert (seen.one.proxy.metrics.inflight, seen.pool.address.inflight) == (0, 0)


async def test_without_a_connection_that_is_free_a_request_waits_its_turn(tmp_path: Path) -> None:
    async with quick(tmp_path) as seen:
        release = asyncio.Event()
        seen.api.on("/plain", _PLAIN)
        seen.api.on("/waits", once(release, _PLAIN))
        async with connected(seen.port) as client, connected(seen.port) as other:
            await often(client, "/plain")
            seen.pool._paced._free = 1
            await client.send(request("/waits"))
            await seen.api.came("/waits")
            await other.send(request("/plain?other"))
            await asyncio.sleep(0.05)
            assert seen.api.of("/plain")[-1].target == "/plain"
            release.set()
            assert [(await each.response()).status for each in (client, other)] == [200, 200]


async def test_requests_that_were_sent_on_are_answered_in_their_turn(tmp_path: Path) -> None:
    async with quick(tmp_path) as seen, client_of(seen) as client:
        seen.api.on("/plain", _PLAIN)
        await often(client, "/plain")
        seen.passages.clear()
        for number in range(5):
            seen.api.on(f"/waits/{number}", in_pieces(_HEAD + b"number %03d" % number))
        await client.send(b"".join(request(f"/waits/{number}") for number in range(5)))

        assert [(await client.response()).body for _ in range(5)] == [b"number %03d" % n for n in range(5)]
        assert seen.passages == [b"/waits/%d" % number for number in range(5)]


async def test_several_addresses_take_turns(tmp_path: Path) -> None:
    async with origin() as second, quick(tmp_path) as seen, client_of(seen) as client:
        for api in (seen.api, second):
            api.on("/plain", _PLAIN)
        seen.one.config.write_text(
            "listen: 127.0.0.1:0\nadmin: {listen: '127.0.0.1:0'}\nlog: {level: error}\n"
            f"upstream: {{urls: ['{seen.api.url}', '{second.url}']}}\n"
        )
        await seen.one.proxy.reload()
        await often(client, "/plain", times=2 * OFTEN)
        before = (seen.api.count("/plain"), second.count("/plain"))
        await often(client, "/plain", times=100)

        shares = (seen.api.count("/plain") - before[0], second.count("/plain") - before[1])
        assert sum(shares) == 100
        assert min(shares) >= 40


# -- what is remembered --


async def test_what_is_remembered_of_paths_and_hosts_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.passing._MAX_KNOWN", 50)
    async with quick(tmp_path) as seen, client_of(seen) as client:
        seen.api.on("/", _PLAIN)
        await often(client, "/plain")
        for number in range(200):
            await client.ask(f"/{number}", f"Host: h{number}.test")

        passages: Passages = seen.one.proxy.passages
        assert 0 < len(passages._ways) <= 50
        assert 0 < len(passages._hosts) <= 50


@pytest.mark.parametrize("lines", [(), ("X-A: 1",)], ids=["like the first", "of another kind"])
async def test_kinds_of_answers_are_told_apart(tmp_path: Path, lines: tuple[str, ...]) -> None:
    async with quick(tmp_path) as seen, client_of(seen) as client:
        seen.api.on("/plain", _PLAIN)
        seen.api.on("/other", ok(b"other", _DATE, *lines))
        await often(client, "/plain")
        await often(client, "/other")
        seen.slowly.clear()
        bodies = [(await client.ask(path)).body for path in ("/plain", "/other") * 3]

        assert bodies == [b"plain", b"other"] * 3
        assert (seen.slowly, len(seen.one.proxy.passages._answers.made)) == ([], 2)
