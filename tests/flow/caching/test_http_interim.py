"""1xx answers: they reach the client before the final one, and nothing of them is kept."""

import asyncio

import pytest

from tests.claims import clause
from tests.flow.caching.stage import API, ETAG, FRESH, STALE, STORE, Stage, reply, table
from tests.flow.client import connected, request
from tests.flow.origin import Asked, framed

pytestmark = pytest.mark.asyncio(loop_scope="module")

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>;rel=preload\r\nX-Early: 1\r\n\r\n"
WAIT = b"HTTP/1.1 102 Processing\r\n\r\n"


@clause("RFC 9110", "15.2", "1xx answers are passed on, all of them, in order and with their fields")
@table(
    "early, statuses",
    {
        "102": (WAIT, [102]),
        "103": (HINTS, [103]),
        "102, then 103": (WAIT + HINTS, [102, 103]),
        "103 three times": (HINTS * 3, [103] * 3),
        "an unknown one": (b"HTTP/1.1 199 Odd\r\nX-Early: 1\r\n\r\n", [199]),
    },
)
@pytest.mark.parametrize("control", [FRESH, "Cache-Control: no-store"], ids=["stored", "not stored"])
async def test_they_are_passed_on(stage: Stage, control: str, early: bytes, statuses: list[int]) -> None:
    stage.answers_in_turn(reply(control, early=early))
    seen = await stage.ask()

    assert [one.status for one in seen.early] == statuses
    assert (seen.status, seen.body) == (200, b"1")
    for one in seen.early:
        assert one.get("x-early") == ("" if one.status == 102 else "1")


@clause("RFC 8297", "2", "Early hints reach the client while the API still works on its answer")
async def test_they_come_at_once(stage: Stage) -> None:
    done = asyncio.Event()

    async def answer(asked: Asked) -> None:
        await asked.send(HINTS)
        await done.wait()
        await asked.send(framed(b"late", FRESH))

    stage.api.on(stage.path, answer)
    async with connected(stage.proxy.port) as client:
        await client.send(request(stage.path))
        async with asyncio.timeout(2):
            early = await client.reader.readuntil(b"\r\n\r\n")
        done.set()
        response = await client.response()

    assert early.startswith(b"HTTP/1.1 103 ")
    assert b"Link: </a.css>;rel=preload\r\n" in early
    assert response.body == b"late"


@clause("RFC 9111", "3", "A 1xx is not stored, and its fields are none of the final answer's")
@pytest.mark.parametrize("early", [WAIT, HINTS, HINTS + WAIT + HINTS], ids=["102", "103", "several"])
async def test_they_are_not_stored(stage: Stage, early: bytes) -> None:
    stage.answers_in_turn(reply(FRESH, "X: 1", early=early))
    first, second = await stage.ask(), await stage.ask()

    assert (first.source, second.source, second.early) == (API, STORE, ())
    for seen in (first, second):
        assert (seen.status, seen.get("x")) == (200, "1")
        assert not seen.has("link")
        assert not seen.has("x-early")


@clause("RFC 9111", "3", "What a 1xx says of caching is not said of the final answer")
@pytest.mark.parametrize(
    "line",
    [b"Cache-Control: no-store", b"Cache-Control: max-age=0", b"Vary: *", b"Set-Cookie: a=b", b"Age: 90"],
)
async def test_their_fields_mean_nothing(stage: Stage, line: bytes) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n" + line + b"\r\n\r\n"
    stage.answers_in_turn(reply(FRESH, early=early))
    assert await stage.reuse() is STORE


@clause("RFC 9111", "3", "A 1xx makes no answer storable that is not")
async def test_they_make_nothing_storable(stage: Stage) -> None:
    early = b'HTTP/1.1 103 Early Hints\r\nCache-Control: max-age=60\r\nETag: "v1"\r\n\r\n'
    stage.answers_in_turn(reply(early=early))
    assert await stage.reuse() is API


@clause("RFC 9110", "15.2", "A client of HTTP/1.0 gets no 1xx")
@pytest.mark.parametrize("early", [WAIT, HINTS], ids=["102", "103"])
async def test_old_clients_get_none(stage: Stage, early: bytes) -> None:
    stage.answers_in_turn(reply(FRESH, early=early))
    async with connected(stage.proxy.port) as client:
        await client.send(request(stage.path, version="1.0"))
        response = await client.response()
        assert (response.body, client.early) == (b"1", [])


@clause("RFC 9110", "15.2", "Where several wait for one answer, its 1xx reach the client that asked first")
async def test_several_wait(stage: Stage) -> None:
    stage.answers_in_turn(reply(FRESH, early=HINTS, delay_s=0.1))
    seen = await asyncio.gather(*(stage.ask() for _ in range(5)))

    assert len(stage.asked) == 1
    assert {one.body for one in seen} == {b"1"}
    assert sum(len(one.early) for one in seen) >= 1


@clause("RFC 9110", "15.2", "1xx answers are passed on while a stale answer is asked about")
@pytest.mark.parametrize("status", [200, 304])
async def test_while_validating(stage: Stage, status: int) -> None:
    stage.answers_in_turn(reply(*STALE, ETAG), reply(FRESH, ETAG, status=status, early=HINTS))
    seen = await stage.second()
    assert ([one.status for one in seen.early], seen.status) == ([103], 200)


@clause("RFC 9110", "15.2", "1xx answers are passed on whatever the method is")
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS"])
async def test_other_methods(stage: Stage, method: str) -> None:
    stage.answers_in_turn(reply(FRESH, early=HINTS))
    seen = await stage.ask(method=method)
    assert ([one.status for one in seen.early], seen.status) == ([103], 200)
