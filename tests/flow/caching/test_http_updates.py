"""What a 304 changes of the stored answer's fields, and what it leaves."""

import asyncio

import pytest

from tests.claims import clause
from tests.flow.caching.stage import (
    API,
    ETAG,
    FRESH,
    MODIFIED,
    STALE,
    STORE,
    VALIDATED,
    Seen,
    Source,
    Stage,
    reply,
    table,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def updated(stage: Stage, stored: list[str], update: list[str]) -> tuple[Seen, Seen]:
    """The answer that a 304 validated, and the next one, from the store."""
    stage.answers_in_turn(reply(*STALE, ETAG, *stored), reply(FRESH, ETAG, *update, status=304))
    validated = await stage.second()
    reused = await stage.ask()
    assert (validated.source, reused.source) == (VALIDATED, STORE)
    assert (validated.status, validated.body) == (reused.status, reused.body) == (200, b"1")
    return validated, reused


@clause("RFC 9111", "3.2", "A 304's fields replace the stored ones of their name")
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("X-Version", "1", "2"),
        ("x-version", "1", "2"),
        ("Content-Type", "text/plain", "text/plain;charset=utf-8"),
        ("Content-Language", "en", "de"),
        ("Content-Location", "/1", "/2"),
        ("Content-Disposition", "inline", "attachment"),
        ("Content-Security-Policy", "default-src 'none'", "default-src 'self'"),
        ("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A==", "N7UdGUp1E+RbVvZSTy1R8g=="),
        ("Content-Foo", "1", "2"),
        ("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT", "Thu, 02 Jan 2020 00:00:00 GMT"),
        ("Expires", "Fri, 01 Jan 2021 00:00:00 GMT", "Sat, 02 Jan 2021 00:00:00 GMT"),
        ("Server", "a/1", "a/2"),
        ("Link", "</a>", "</b>"),
        ("Allow", "GET", "GET, HEAD"),
        ("Access-Control-Allow-Origin", "http://a.test", "*"),
        ("Strict-Transport-Security", "max-age=1", "max-age=2"),
        ("X-Frame-Options", "deny", "sameorigin"),
        ("X-Empty", "1", ""),
        ("X-Was-Empty", "", "1"),
        ("Cache-Groups", '"a"', '"b"'),
        ("Surrogate-Control", "max-age=1", "max-age=2"),
    ],
)
async def test_fields_are_replaced(stage: Stage, name: str, old: str, new: str) -> None:
    for seen in await updated(stage, [f"{name}: {old}"], [f"{name}: {new}"]):
        assert seen.all(name) == [new]


@clause(
    "RFC 9111", "3.2", "A 304's fields replace all stored lines of their name, in any case; the others stay"
)
@table(
    "stored, update, name, values",
    {
        "two lines by one": (["X: 1", "X: 2"], ["X: 3"], "X", ["3"]),
        "one line by two": (["X: 1"], ["X: 2", "X: 3"], "X", ["2", "3"]),
        "two lines by two": (["X: 1", "X: 2"], ["X: 3", "X: 4"], "X", ["3", "4"]),
        "the name in another case": (["X-Abc: 1"], ["x-aBC: 2"], "X-Abc", ["2"]),
        "added": ([], ["X: 2"], "X", ["2"]),
        "added in two lines": ([], ["X: 2", "X: 3"], "X", ["2", "3"]),
        "not named": (["X: 1"], [], "X", ["1"]),
        "not named, in two lines": (["X: 1", "X: 2"], ["Y: 1"], "X", ["1", "2"]),
        "a part of the name": (["X: 1"], ["X-Abc: 2"], "X", ["1"]),
        "Content-Type not named": (["Content-Type: text/plain"], [], "Content-Type", ["text/plain"]),
        "Last-Modified not named": ([MODIFIED], [], "Last-Modified", [MODIFIED.partition(": ")[2]]),
        "ETag": ([], [], "ETag", ['"v1"']),
        "Cache-Control": ([], [], "Cache-Control", ["max-age=60"]),
    },
)
async def test_lines_of_a_name(
    stage: Stage, stored: list[str], update: list[str], name: str, values: list[str]
) -> None:
    for seen in await updated(stage, stored, update):
        assert seen.all(name) == values


@clause(
    "RFC 9111", "3.2", "Fields about the stored body's bytes, and those of the hop, are not taken from a 304"
)
@table(
    "stored, update, name, values",
    {
        "Content-Length": ([], ["Content-Length: 999"], "Content-Length", ["1"]),
        "Content-Length: 0": ([], ["Content-Length: 0"], "Content-Length", ["1"]),
        "Content-Encoding": (
            ["Content-Encoding: x-a"],
            ["Content-Encoding: x-b"],
            "Content-Encoding",
            ["x-a"],
        ),
        "Content-Encoding, new": ([], ["Content-Encoding: x-b"], "Content-Encoding", []),
        "Content-Range": ([], ["Content-Range: bytes 0-0/9"], "Content-Range", []),
        "Transfer-Encoding": ([], ["Transfer-Encoding: chunked"], "Transfer-Encoding", []),
        "Keep-Alive": ([], ["Keep-Alive: timeout=5"], "Keep-Alive", []),
        "Proxy-Connection": ([], ["Proxy-Connection: keep-alive"], "Proxy-Connection", []),
        "what Connection names, new": ([], ["Connection: X", "X: 2"], "X", []),
        "what Connection names, stored": (["X: 1"], ["Connection: X", "X: 2"], "X", ["1"]),
    },
)
async def test_fields_that_stay(
    stage: Stage, stored: list[str], update: list[str], name: str, values: list[str]
) -> None:
    for seen in await updated(stage, stored, update):
        assert seen.all(name) == values


@clause("RFC 9111", "3.1", "Proxy authentication in a 304 is not stored")
@pytest.mark.parametrize(
    "line",
    ["Proxy-Authenticate: Basic", 'Proxy-Authentication-Info: nextnonce="a"', "Proxy-Authorization: Basic a"],
)
async def test_proxy_authentication_is_not_stored(stage: Stage, line: str) -> None:
    _, reused = await updated(stage, [], [line])
    assert not reused.has(line.partition(":")[0])


@clause("RFC 9111", "7.3", "Set-Cookie in a 304 is for the client that asked, and not stored")
async def test_a_cookie_in_a_304(stage: Stage) -> None:
    validated, reused = await updated(stage, [], ["Set-Cookie: a=1", "Set-Cookie: b=2"])
    assert (validated.all("set-cookie"), reused.all("set-cookie")) == (["a=1", "b=2"], [])


@clause("RFC 9111", "7.3", "Set-Cookie in a 304 that several wait for reaches one of them at most")
async def test_a_cookie_in_a_304_for_several(stage: Stage) -> None:
    stage.answers_in_turn(
        reply(*STALE, ETAG),
        reply(FRESH, ETAG, "Set-Cookie: a=1", status=304, delay_s=0.1),
        reply(FRESH, ETAG),
    )
    await stage.ask()
    seen = await asyncio.gather(*(stage.ask() for _ in range(5)))

    assert [answer.status for answer in seen] == [200] * 5
    assert sum(answer.has("set-cookie") for answer in seen) <= 1


@clause("RFC 9111", "4.3.4", "A 304 gives the stored answer the freshness that its fields now have")
@table(
    "stored, update, source",
    {
        "max-age": (["max-age=60"], ["Cache-Control: max-age=3600"], STORE),
        "a longer max-age, as old": (["max-age=60"], ["Cache-Control: max-age=3600", "Age: 90"], STORE),
        "the same, as old": (["max-age=60"], ["Cache-Control: max-age=60", "Age: 90"], VALIDATED),
        "max-age=0": (["max-age=60"], ["Cache-Control: max-age=0"], VALIDATED),
        "nothing": (["max-age=60"], [], STORE),
        "nothing but Date": (["max-age=60"], ["Date: <+0>"], STORE),
        "nothing but an old Date": (["max-age=60"], ["Date: <-90>"], VALIDATED),
        "no-cache": (["max-age=60"], ["Cache-Control: no-cache"], VALIDATED),
        "s-maxage=0": (["max-age=60"], ["Cache-Control: s-maxage=0, max-age=60"], VALIDATED),
        "a future Expires": (["no-cache"], ["Cache-Control: public", "Expires: <+60>"], STORE),
        "no more no-cache": (["no-cache"], ["Cache-Control: max-age=60"], STORE),
        "no more must-revalidate": (
            ["max-age=60, must-revalidate"],
            ["Cache-Control: max-age=60"],
            STORE,
        ),
    },
)
async def test_freshness_after_a_304(
    stage: Stage, stored: list[str], update: list[str], source: Source
) -> None:
    control = f"Cache-Control: {stored[0]}"
    stage.answers_in_turn(reply(control, "Age: 90", ETAG), reply(ETAG, *update, status=304))
    validated, later = await stage.second(), await stage.ask()

    assert (validated.source, validated.body) == (VALIDATED, b"1")
    assert (later.source, later.body) == (source, b"1")


@clause("RFC 9111", "4.3.4", "A 304 that forbids storing ends the stored answer")
@pytest.mark.parametrize("control", ["no-store", "private", "max-age=60, no-store", "private, max-age=60"])
async def test_a_304_that_forbids_storing(stage: Stage, control: str) -> None:
    stage.answers_in_turn(
        reply(*STALE, ETAG),
        reply(ETAG, f"Cache-Control: {control}", status=304),
        reply(FRESH, ETAG, body=b"3"),
    )
    validated, later = await stage.second(), await stage.ask()

    assert (validated.status, validated.body) == (200, b"1")
    assert later.source is not STORE


@clause("RFC 9111", "3.2", "A 304 updates the answer that was validated, not its neighbours")
async def test_neighbours_stay(stage: Stage) -> None:
    other = Stage(stage.api, stage.proxy)
    other.answers(FRESH, ETAG, "X: 1")
    await other.ask()
    await updated(stage, ["X: 1"], ["X: 2"])
    seen = await other.ask()

    assert (seen.source, seen.get("x")) == (STORE, "1")


@clause("RFC 9111", "3.2", "The API's own ETag stays what it is asked about, validation after validation")
async def test_validations_go_on(stage: Stage) -> None:
    stage.answers_in_turn(
        reply(*STALE, ETAG),
        reply(*STALE, ETAG, "X: 2", status=304),
        reply(*STALE, ETAG, "X: 3", status=304),
        reply(FRESH, 'ETag: "v2"', body=b"new"),
    )
    seen = [await stage.ask() for _ in range(5)]

    assert [(one.source, one.body, one.get("x")) for one in seen] == [
        (API, b"1", ""),
        (VALIDATED, b"1", "2"),
        (VALIDATED, b"1", "3"),
        (VALIDATED, b"new", ""),
        (STORE, b"new", ""),
    ]
