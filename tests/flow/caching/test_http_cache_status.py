"""Cache-Status: how each answer came to be, in a form that programs read."""

import asyncio
from typing import Any

import http_sf
import pytest

from tests.claims import clause
from tests.flow.caching.stage import ETAG, FRESH, SILENT, STALE, Reply, Seen, Stage, reply, table

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def routes() -> str:
    return '[{match: "/kept/**"}]'


@pytest.fixture
def kept(stage: Stage) -> Stage:
    return Stage(stage.api, stage.proxy, root="/kept")


def members(seen: Seen) -> list[tuple[str, dict[str, Any]]]:
    """The field as a List of Structured Fields. Raises StructuredFieldError."""
    parsed: Any = http_sf.parse(", ".join(seen.all("cache-status")).encode("latin-1"), tltype="list")
    return [(str(item), dict(parameters)) for item, parameters in parsed]


def ours(seen: Seen) -> dict[str, Any]:
    """The parameters of our member, which is the last: the one nearest to the client."""
    name, parameters = members(seen)[-1]
    assert name == "crowdgate"
    return {
        key: str(value) if isinstance(value, http_sf.Token) else value for key, value in parameters.items()
    }


@clause("RFC 9211", "2", "Each answer has a List whose last member is ours, its parameters of their types")
@table(
    "replies, lines, method",
    {
        "stored": ([reply(FRESH)], [], "GET"),
        "not stored": ([reply()], [], "GET"),
        "private": ([reply("Cache-Control: private, max-age=60")], [], "GET"),
        "Set-Cookie": ([reply(FRESH, "Set-Cookie: a=b")], [], "GET"),
        "Vary: *": ([reply(FRESH, "Vary: *")], [], "GET"),
        "validated": ([reply(*STALE, ETAG), reply(FRESH, ETAG, status=304)], [], "GET"),
        "an error": ([reply(status=500)], [], "GET"),
        "no answer": ([SILENT], [], "GET"),
        "no-cache": ([reply(FRESH)], ["Cache-Control: no-cache"], "GET"),
        "no-store": ([reply(FRESH)], ["Cache-Control: no-store"], "GET"),
        "only-if-cached": ([reply()], ["Cache-Control: only-if-cached"], "GET"),
        "a condition": ([reply(FRESH, ETAG)], ['If-None-Match: "v1"'], "GET"),
        "a range": ([reply(FRESH, ETAG)], ["Range: bytes=0-0"], "GET"),
        "a range beyond the end": ([reply(FRESH, ETAG)], ["Range: bytes=9-"], "GET"),
        "HEAD": ([reply(FRESH)], [], "HEAD"),
        "POST": ([reply(FRESH)], [], "POST"),
        "DELETE": ([reply(status=204)], [], "DELETE"),
        "Authorization": ([reply(FRESH)], ["Authorization: Basic YTpi"], "GET"),
    },
)
async def test_it_is_a_list(kept: Stage, replies: list[Reply], lines: list[str], method: str) -> None:
    kept.answers_in_turn(*replies)
    types = {"hit": bool, "fwd": str, "fwd-status": int, "ttl": int, "stored": bool, "collapsed": bool}
    forwards = {"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}
    for _ in range(3):
        seen = await kept.ask(*lines, method=method)
        said = ours(seen)
        wrong = {name for name, kind in types.items() if name in said and type(said[name]) is not kind}
        assert (wrong, len(members(seen))) == (set(), 1)
        assert said.get("fwd", "miss") in forwards
        # Either from the store or from the API, or neither where there is no answer to be had.
        assert not ("hit" in said and "fwd" in said)
        assert (
            "stored" not in said and "collapsed" not in said and "fwd-status" not in said
        ) or "fwd" in said
        assert ("fwd" in said) == bool(seen.asked)


@clause("RFC 9211", "2.2", "fwd says why the API was asked")
@table(
    "first, replies, lines, method, forward",
    {
        "nothing is stored": (None, [reply(FRESH)], [], "GET", "uri-miss"),
        "nothing is stored, HEAD": (None, [reply(FRESH)], [], "HEAD", "uri-miss"),
        "another variant": (["X: 1"], [reply(FRESH, "Vary: X")], ["X: 2"], "GET", "vary-miss"),
        "stale": ([], [reply(*STALE, ETAG), reply(FRESH, ETAG)], [], "GET", "stale"),
        "to be validated": ([], [reply("Cache-Control: no-cache", ETAG)], [], "GET", "stale"),
        "no-cache": ([], [reply(FRESH)], ["Cache-Control: no-cache"], "GET", "request"),
        "Pragma": ([], [reply(FRESH)], ["Pragma: no-cache"], "GET", "request"),
        "max-age": ([], [reply(FRESH, "Age: 30")], ["Cache-Control: max-age=10"], "GET", "request"),
        "min-fresh": ([], [reply(FRESH, "Age: 30")], ["Cache-Control: min-fresh=50"], "GET", "request"),
        "POST": ([], [reply(FRESH)], [], "POST", "method"),
        "DELETE": ([], [reply(FRESH)], [], "DELETE", "method"),
    },
)
async def test_why_the_api_was_asked(
    kept: Stage, first: list[str] | None, replies: list[Reply], lines: list[str], method: str, forward: str
) -> None:
    kept.answers_in_turn(*replies)
    if first is not None:
        await kept.ask(*first)
    said = ours(await kept.ask(*lines, method=method))
    assert (said.get("fwd"), said.get("fwd-status"), "hit" in said) == (forward, 200, False)


@clause("RFC 9211", "2.2", "What no route caches is bypassed")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_bypass(stage: Stage, method: str) -> None:
    stage.answers(FRESH)
    for _ in range(2):
        said = ours(await stage.ask(method=method))
        assert (said.get("fwd"), said.get("fwd-status"), "stored" in said) == ("bypass", 200, False)


@clause("RFC 9211", "2.3", "fwd-status is the API's status, also where the client gets another")
@table(
    "replies, lines, forwarded, status",
    {
        "200": ([reply(FRESH)], [], 200, 200),
        "404": ([reply(status=404)], [], 404, 404),
        "500": ([reply(status=500)], [], 500, 500),
        "304, the client gets 200": ([reply(*STALE, ETAG), reply(FRESH, ETAG, status=304)], [], 304, 200),
        "500, the client gets what is stale": (
            [reply("Cache-Control: max-age=60, stale-if-error=60", "Age: 90"), reply(status=500)],
            [],
            500,
            200,
        ),
    },
)
async def test_the_api_s_status(
    kept: Stage, replies: list[Reply], lines: list[str], forwarded: int, status: int
) -> None:
    kept.answers_in_turn(*replies)
    if len(replies) > 1:
        await kept.ask()
    seen = await kept.ask(*lines)
    assert (ours(seen).get("fwd-status"), seen.status) == (forwarded, status)


@clause(
    "RFC 9211",
    "2.1",
    "hit says that the store had it; ttl how long it is still fresh, detail in which tier it was",
)
@table(
    "lines, status",
    {
        "GET": ([], 200),
        "a condition": (['If-None-Match: "v1"'], 304),
        "another condition": (['If-None-Match: "v2"'], 200),
        "a range": (["Range: bytes=0-0"], 206),
    },
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_hit(kept: Stage, method: str, lines: list[str], status: int) -> None:
    kept.answers(FRESH, "Age: 20", ETAG)
    seen = await kept.second(*lines, method=method)
    said = ours(seen)

    assert seen.status == (200 if status == 206 and method == "HEAD" else status)
    assert (said.get("hit"), said.get("detail"), "fwd" in said) == (True, "memory", False)
    assert 37 <= said["ttl"] <= 40


@clause("RFC 9211", "2.4", "ttl is what is left of the freshness; negative where there is none left")
@table(
    "control, age, ttl",
    {
        "fresh": ("max-age=60", 0, 60),
        "aged": ("max-age=60", 50, 10),
        "by s-maxage": ("s-maxage=100, max-age=60", 0, 100),
        "stale": ("max-age=60, stale-while-revalidate=600", 90, -30),
    },
)
async def test_ttl(kept: Stage, control: str, age: int, ttl: int) -> None:
    kept.answers_in_turn(
        reply(f"Cache-Control: {control}", f"Age: {age}"), reply(f"Cache-Control: {control}", delay_s=0.1)
    )
    said = ours(await kept.second())
    assert said.get("hit") is True
    assert ttl - 3 <= said["ttl"] <= ttl


@clause("RFC 9211", "2.5", "stored says that the next client will find it")
@table(
    "answer, lines, stored",
    {
        "fresh": (reply(FRESH), [], True),
        "Expires": (reply("Expires: <+60>"), [], True),
        "404": (reply(FRESH, status=404), [], True),
        "no freshness": (reply(), [], False),
        "no-store": (reply("Cache-Control: no-store"), [], False),
        "private": (reply("Cache-Control: private, max-age=60"), [], False),
        "Set-Cookie": (reply(FRESH, "Set-Cookie: a=b"), [], False),
        "Vary: *": (reply(FRESH, "Vary: *"), [], False),
        "a request's no-store": (reply(FRESH), ["Cache-Control: no-store"], False),
        "Authorization": (reply(FRESH), ["Authorization: Basic YTpi"], False),
    },
)
async def test_stored(kept: Stage, answer: Reply, lines: list[str], stored: bool) -> None:
    kept.answers_in_turn(answer)
    said = ours(await kept.ask(*lines))
    assert said.get("stored", False) is stored


@clause("RFC 9211", "2.6", "collapsed says that another client's request was waited for")
async def test_collapsed(kept: Stage) -> None:
    kept.answers_in_turn(reply(FRESH, delay_s=0.1))
    said = [ours(seen) for seen in await asyncio.gather(*(kept.ask() for _ in range(5)))]

    assert len(kept.asked) == 1
    assert sorted(one.get("collapsed", False) for one in said) == [False, True, True, True, True]
    assert {one.get("fwd") for one in said} == {"uri-miss"}


@clause("RFC 9211", "2", "What caches before us said stays, in front of ours")
@table(
    "lines, names",
    {
        "one": (["Cache-Status: origin; hit; ttl=5"], ["origin"]),
        "two": (['Cache-Status: "a b"; fwd=miss, c'], ["a b", "c"]),
        "two lines": (["Cache-Status: a; hit", "Cache-Status: b"], ["a", "b"]),
        "another crowdgate": (["Cache-Status: crowdgate; hit"], ["crowdgate"]),
    },
)
async def test_others_stay_in_front(kept: Stage, lines: list[str], names: list[str]) -> None:
    kept.answers(FRESH, *lines)
    for seen in [await kept.ask(), await kept.ask()]:
        assert [name for name, _ in members(seen)] == [*names, "crowdgate"]
