"""Whose answer it is: what Vary names must be alike in both requests."""

import asyncio

import pytest

from tests.claims import clause
from tests.flow.caching.stage import (
    API,
    ETAG,
    FRESH,
    STALE,
    STORE,
    VALIDATED,
    Reply,
    Source,
    Stage,
    reply,
    table,
)
from tests.flow.origin import Asked

pytestmark = pytest.mark.asyncio(loop_scope="module")


def echo(asked: Asked) -> Reply:
    """An answer whose body says by what it varies."""
    return reply(FRESH, "Vary: X", body=f"for {asked.get('x')}".encode())


@clause("RFC 9111", "4.1", "A stored answer is used where all that its Vary names is alike, and nowhere else")
@table(
    "vary, first, second, source",
    {
        "the same value": (["Vary: X"], ["X: 1"], ["X: 1"], STORE),
        "another value": (["Vary: X"], ["X: 1"], ["X: 2"], API),
        "another case of the value": (["Vary: X"], ["X: a"], ["X: A"], API),
        "a longer value": (["Vary: X"], ["X: 1"], ["X: 11"], API),
        "absent in both": (["Vary: X"], [], [], STORE),
        "absent, then present": (["Vary: X"], [], ["X: 1"], API),
        "present, then absent": (["Vary: X"], ["X: 1"], [], API),
        "absent, then empty": (["Vary: X"], [], ["X: "], API),
        "empty in both": (["Vary: X"], ["X: "], ["X: "], STORE),
        "one that Vary does not name": (["Vary: X"], ["X: 1", "Y: 1"], ["X: 1", "Y: 2"], STORE),
        "another case of the name": (["Vary: X-Abc"], ["x-aBC: 1"], ["X-ABC: 1"], STORE),
        "Vary in capitals": (["VARY: X-ABC"], ["x-abc: 1"], ["x-abc: 2"], API),
        "both names alike": (["Vary: X, Y"], ["X: 1", "Y: 2"], ["X: 1", "Y: 2"], STORE),
        "fields in another order": (["Vary: X, Y"], ["X: 1", "Y: 2"], ["Y: 2", "X: 1"], STORE),
        "the first name differs": (["Vary: X, Y"], ["X: 1", "Y: 2"], ["X: 2", "Y: 2"], API),
        "the last name differs": (["Vary: X, Y"], ["X: 1", "Y: 2"], ["X: 1", "Y: 1"], API),
        "values change places": (["Vary: X, Y"], ["X: 1", "Y: 2"], ["X: 2", "Y: 1"], API),
        "three names alike": (["Vary: X, Y, Z"], ["X: 1", "Z: 3"], ["Z: 3", "X: 1"], STORE),
        "the third of three differs": (["Vary: X, Y, Z"], ["Z: 3"], ["Z: 4"], API),
        "names without white space": (["Vary: X,Y"], ["Y: 2"], ["Y: 3"], API),
        "two lines, alike": (["Vary: X", "Vary: Y"], ["X: 1", "Y: 2"], ["X: 1", "Y: 2"], STORE),
        "two lines, the first differs": (["Vary: X", "Vary: Y"], ["X: 1"], ["X: 2"], API),
        "two lines, the second differs": (["Vary: X", "Vary: Y"], ["Y: 1"], ["Y: 2"], API),
        "a name twice": (["Vary: X, x"], ["X: 1"], ["X: 1"], STORE),
        "empty members": (["Vary: , X,,"], ["X: 1"], ["X: 2"], API),
        "empty members, alike": (["Vary: , X,,"], ["X: 1"], ["X: 1"], STORE),
        "an empty Vary": (["Vary: "], ["X: 1"], ["X: 2"], STORE),
        "no Vary": ([], ["X: 1"], ["X: 2"], STORE),
        "Accept-Encoding": (
            ["Vary: Accept-Encoding"],
            ["Accept-Encoding: gzip"],
            ["Accept-Encoding: br"],
            API,
        ),
        "Accept-Language": (
            ["Vary: Accept-Language"],
            ["Accept-Language: de"],
            ["Accept-Language: en"],
            API,
        ),
        "Accept": (["Vary: Accept"], ["Accept: text/html"], ["Accept: application/json"], API),
        "User-Agent": (["Vary: User-Agent"], ["User-Agent: a/1"], ["User-Agent: a/2"], API),
        "Origin": (["Vary: Origin"], ["Origin: http://a.test"], ["Origin: http://b.test"], API),
        "Cookie, another value": (["Vary: Cookie"], ["Cookie: a=b"], ["Cookie: a=B"], API),
        "Cookie, the same": (["Vary: Cookie"], ["Cookie: a=b"], ["Cookie: a=b"], STORE),
        "obsolete bytes": (["Vary: X"], ["X: \xe4"], ["X: \xf6"], API),
    },
)
async def test_what_vary_names_must_be_alike(
    stage: Stage, vary: list[str], first: list[str], second: list[str], source: Source
) -> None:
    stage.answers(FRESH, *vary)
    assert await stage.reuse(*second, first=first) is source


@clause("RFC 9111", "4.1", "Vary: * fits no request, wherever the star stands")
@table(
    "vary",
    {
        "alone": ["Vary: *"],
        "after a name": ["Vary: X, *"],
        "before a name": ["Vary: *, X"],
        "between names": ["Vary: X,*,Y"],
        "in a second line": ["Vary: X", "Vary: *"],
        "in a first line": ["Vary: *", "Vary: X"],
        "after an empty member": ["Vary: ,*"],
        "with white space": ["Vary:  * "],
    },
)
@pytest.mark.parametrize("lines", [[], ["X: 1"]], ids=["without the field", "with the field"])
async def test_a_star_fits_nobody(stage: Stage, vary: list[str], lines: list[str]) -> None:
    stage.answers(FRESH, *vary)
    assert await stage.reuse(*lines, first=lines) is API


@clause(
    "RFC 9111",
    "4.1",
    "Requests are alike where their syntax says so: lines combined, white space, case of codings",
)
@table(
    "name, first, second, source",
    {
        "lines combined": ("X", ["X: 1", "X: 2"], ["X: 1, 2"], STORE),
        "lines parted": ("X", ["X: 1, 2"], ["X: 1", "X: 2"], STORE),
        "white space after a comma": ("X", ["X: 1,2"], ["X: 1, 2"], STORE),
        "white space around commas": ("X", ["X: 1 ,\t2"], ["X: 1, 2"], STORE),
        "white space around the value": ("X", ["X:  1 "], ["X: 1"], STORE),
        "another order": ("X", ["X: 1, 2"], ["X: 2, 1"], API),
        "lines in another order": ("X", ["X: 1", "X: 2"], ["X: 2", "X: 1"], API),
        "fewer members": ("X", ["X: 1, 2"], ["X: 1"], API),
        "more members": ("X", ["X: 1"], ["X: 1, 2"], API),
        "white space within a value": ("X", ["X: 1 2"], ["X: 12"], API),
        "Accept-Encoding in capitals": (
            "Accept-Encoding",
            ["Accept-Encoding: gzip, br"],
            ["Accept-Encoding: GZIP,BR"],
            STORE,
        ),
        "Accept-Encoding in two lines": (
            "Accept-Encoding",
            ["Accept-Encoding: gzip", "Accept-Encoding: br"],
            ["Accept-Encoding: gzip, br"],
            STORE,
        ),
        "Accept-Language in capitals": (
            "Accept-Language",
            ["Accept-Language: en-gb, de"],
            ["Accept-Language: en-GB,DE"],
            STORE,
        ),
        "Accept-Charset in capitals": (
            "Accept-Charset",
            ["Accept-Charset: utf-8"],
            ["Accept-Charset: UTF-8"],
            STORE,
        ),
        "a coding that is refused": (
            "Accept-Encoding",
            ["Accept-Encoding: gzip"],
            ["Accept-Encoding: gzip;q=0"],
            API,
        ),
        "a language less": (
            "Accept-Language",
            ["Accept-Language: en, de"],
            ["Accept-Language: en"],
            API,
        ),
        "weights exchanged": (
            "Accept-Language",
            ["Accept-Language: en;q=0.1, de;q=0.9"],
            ["Accept-Language: en;q=0.9, de;q=0.1"],
            API,
        ),
        "Authorization in capitals": (
            "Authorization",
            ["Authorization: Basic YTpi"],
            ["Authorization: Basic yTPI"],
            API,
        ),
        "quoted commas": ("X", ['X: "1,2"'], ['X: "1, 2"'], API),
    },
)
async def test_alike_by_syntax(
    stage: Stage, name: str, first: list[str], second: list[str], source: Source
) -> None:
    stage.answers("Cache-Control: public, max-age=60", f"Vary: {name}")
    assert await stage.reuse(*second, first=first) is source


@clause("RFC 9111", "4.1", "Variants are stored side by side; each client gets its own")
async def test_variants_live_side_by_side(stage: Stage) -> None:
    stage.answers_by(echo)
    values = [str(value) for value in range(10)]
    seen = [await stage.ask(f"X: {value}") for _ in range(3) for value in values]

    assert [answer.body for answer in seen] == [f"for {value}".encode() for value in values] * 3
    assert len(stage.asked) == len(values)


@clause("RFC 9111", "4.1", "Who varies gets no other's answer, also while all wait for the API at once")
async def test_variants_asked_for_at_once(stage: Stage) -> None:
    def slowly(asked: Asked) -> Reply:
        return reply(FRESH, "Vary: X", body=asked.get("x").encode(), delay_s=0.05)

    stage.answers_by(slowly)
    values = ["a", "b", "c"] * 4
    seen = await asyncio.gather(*(stage.ask(f"X: {value}") for value in values))

    assert [answer.body.decode() for answer in seen] == values


@clause("RFC 9111", "4.1", "One variant's validation is about that variant alone")
async def test_variants_are_validated_apart(stage: Stage) -> None:
    def answer(asked: Asked) -> Reply:
        tag = f'"{asked.get("x")}"'
        if asked.get("if-none-match") == tag:
            return reply(f"ETag: {tag}", "Vary: X", status=304)
        return reply(f"ETag: {tag}", "Vary: X", *STALE, body=asked.get("x").encode())

    stage.answers_by(answer)
    await stage.ask("X: a")
    await stage.ask("X: b")
    seen = [await stage.ask("X: a"), await stage.ask("X: b")]

    assert [(answer.source, answer.body) for answer in seen] == [(VALIDATED, b"a"), (VALIDATED, b"b")]
    assert [answer.asked[0].get("if-none-match") for answer in seen] == ['"a"', '"b"']


@clause("RFC 9110", "12.5.5", "Vary reaches the client, on a stored answer and on a 304 made from it")
async def test_vary_is_passed_on(stage: Stage) -> None:
    stage.answers(FRESH, ETAG, "Vary: X, Accept-Encoding")
    seen = [await stage.ask(), await stage.ask(), await stage.ask('If-None-Match: "v1"')]

    assert [(answer.status, answer.get("vary")) for answer in seen] == [
        (200, "X, Accept-Encoding"),
        (200, "X, Accept-Encoding"),
        (304, "X, Accept-Encoding"),
    ]
