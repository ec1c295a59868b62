"""Freshness that nobody gave, where the operator wishes it: a tenth of the time since Last-Modified."""

import pytest

from tests.claims import clause
from tests.flow.caching.stage import API, ETAG, STORE, VALIDATED, Source, Stage, table

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A tenth of it is 1000 s.
CHANGED = "Last-Modified: <-10000>"


@pytest.fixture(scope="module")
def routes() -> str:
    return '[{match: "/**", heuristic: 1h}]'


@clause(
    "RFC 9111",
    "4.2.2",
    "Where the operator wishes, freshness is guessed: a tenth of the time since Last-Modified",
)
@table(
    "lines, source",
    {
        "changed long ago": ([CHANGED], STORE),
        "with Date": ([CHANGED, "Date: <+0>"], STORE),
        "by now somewhat old": ([CHANGED, "Age: 900"], STORE),
        "by now too old": ([CHANGED, "Age: 1100"], VALIDATED),
        "old by its Date": (["Last-Modified: <-10900>", "Date: <-900>"], STORE),
        "too old by its Date": (["Last-Modified: <-11100>", "Date: <-1100>"], VALIDATED),
        "changed just now": (["Last-Modified: <+0>", "Age: 5"], VALIDATED),
        "changed in the future": (["Last-Modified: <+3600>"], VALIDATED),
        "RFC 850": (["Last-Modified: <-10000|%A, %d-%b-%y %H:%M:%S GMT>", "Age: 900"], STORE),
        "asctime": (["Last-Modified: <-10000|%a %b %e %H:%M:%S %Y>", "Age: 900"], STORE),
        "public": ([CHANGED, "Cache-Control: public"], STORE),
        "an unknown directive": ([CHANGED, "Cache-Control: foo"], STORE),
    },
)
async def test_a_tenth(stage: Stage, lines: list[str], source: Source) -> None:
    stage.answers(*lines)
    assert await stage.reuse() is source


@clause("RFC 9111", "4.2.2", "Guessed freshness is no longer than the operator wishes")
@table("age, source", {"within": (3500, STORE), "after": (3700, VALIDATED)})
async def test_the_bound(stage: Stage, age: int, source: Source) -> None:
    stage.answers("Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT", f"Age: {age}")
    assert await stage.reuse() is source


@clause("RFC 9111", "4.2.2", "Without a Last-Modified that can be read no freshness is guessed")
@pytest.mark.parametrize(
    "lines", [[], ["Last-Modified: yesterday"], ["Last-Modified: 0"], ["Cache-Control: public"]], ids=str
)
async def test_nothing_to_guess_from(stage: Stage, lines: list[str]) -> None:
    stage.answers(*lines)
    assert await stage.reuse() is not STORE


@clause("RFC 9111", "4.2.2", "Where the API gives freshness none is guessed, also where that can't be read")
@table(
    "lines",
    {
        "max-age=0": ["Cache-Control: max-age=0"],
        "s-maxage=0": ["Cache-Control: s-maxage=0"],
        "unreadable max-age": ["Cache-Control: max-age=a"],
        "max-age twice": ["Cache-Control: max-age=60, max-age=600"],
        "past Expires": ["Expires: <-60>"],
        "Expires: 0": ["Expires: 0"],
        "Expires: -1": ["Expires: -1"],
        "an empty Expires": ["Expires: "],
        "no-cache": ["Cache-Control: no-cache"],
        "no-store": ["Cache-Control: no-store"],
        "private": ["Cache-Control: private"],
        "Set-Cookie": ["Set-Cookie: a=b"],
        "Vary: *": ["Vary: *"],
        "stale max-age": ["Cache-Control: max-age=60", "Age: 90"],
    },
)
async def test_explicit_freshness_comes_first(stage: Stage, lines: list[str]) -> None:
    stage.answers(CHANGED, *lines)
    assert await stage.reuse() is not STORE


@clause("RFC 9110", "15.1", "Freshness is guessed for the statuses of which the standard allows it")
@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
async def test_statuses(stage: Stage, status: int) -> None:
    stage.answers(CHANGED, status=status)
    assert await stage.reuse() is STORE


@clause("RFC 9111", "4.2.2", "For other statuses freshness is guessed only where the answer says public")
@pytest.mark.parametrize(
    "status", [201, 202, 302, 303, 307, 400, 403, 418, 429, 500, 502, 503, 504, 299, 599]
)
@table("control, source", {"silent": ("foo", API), "public": ("public", STORE)})
async def test_other_statuses(stage: Stage, control: str, source: Source, status: int) -> None:
    stage.answers(CHANGED, f"Cache-Control: {control}", status=status)
    assert await stage.reuse() is source


@clause("RFC 9111", "3.5", "For a request with Authorization no freshness is guessed")
async def test_authorization(stage: Stage) -> None:
    stage.answers(CHANGED)
    line = "Authorization: Basic YTpi"
    assert await stage.reuse(line, first=[line]) is API


@clause("RFC 9111", "4.2.2", "An answer of guessed freshness ages like any other")
async def test_it_ages(stage: Stage) -> None:
    stage.answers(CHANGED, ETAG, "Age: 100")
    seen = await stage.second()
    assert seen.source is STORE
    assert 100 <= seen.age <= 102
