"""What a client may ask of the cache: Cache-Control and Pragma in requests."""

import pytest

from tests.claims import clause
from tests.flow.caching.stage import API, ETAG, FRESH, STALE, STORE, VALIDATED, Source, Stage, reply, table

pytestmark = pytest.mark.asyncio(loop_scope="module")

HALF = ("Cache-Control: max-age=60", "Age: 30")


@clause("RFC 9111", "5.2.1.4", "no-cache in a request has the API asked, however fresh the stored answer is")
@pytest.mark.parametrize(
    "lines",
    [
        ["Cache-Control: no-cache"],
        ["Cache-Control: NO-CACHE"],
        ["cache-control: No-Cache"],
        ["Cache-Control: max-age=60, no-cache"],
        ["Cache-Control: max-age=60", "Cache-Control: no-cache"],
        ["Cache-Control: foo, no-cache, bar=baz"],
        ["Cache-Control: max-stale, no-cache"],
        ["Cache-Control: no-cache", "Pragma: no-cache"],
    ],
    ids=" / ".join,
)
async def test_no_cache_asks_the_api(stage: Stage, lines: list[str]) -> None:
    stage.answers(FRESH)
    assert await stage.reuse(*lines) is API


@clause("RFC 9111", "5.2.1.4", "What no-cache brought is what the next client gets")
async def test_no_cache_renews(stage: Stage) -> None:
    stage.answers(FRESH)
    seen = [await stage.ask(), await stage.ask("Cache-Control: no-cache"), await stage.ask()]
    assert [answer.body for answer in seen] == [b"1", b"2", b"2"]


@clause("RFC 9111", "5.2.1.4", "no-cache is satisfied by a validation of what is stored")
@pytest.mark.parametrize("line", ["Cache-Control: no-cache", "Cache-Control: max-age=0", "Pragma: no-cache"])
async def test_no_cache_validates(stage: Stage, line: str) -> None:
    stage.answers_in_turn(reply(FRESH, ETAG), reply(FRESH, ETAG, status=304))
    seen = await stage.second(line)

    assert (seen.source, seen.status, seen.body) == (VALIDATED, 200, b"1")
    assert seen.asked[0].get("if-none-match") == '"v1"'


@clause("RFC 9111", "5.4", "Pragma: no-cache counts as no-cache where the request has no Cache-Control")
@table(
    "lines, source",
    {
        "alone": (["Pragma: no-cache"], API),
        "in capitals": (["Pragma: NO-CACHE"], API),
        "among others": (["Pragma: foo, no-cache"], API),
        "beside Cache-Control": (["Pragma: no-cache", "Cache-Control: max-age=60"], STORE),
        "another pragma": (["Pragma: foo"], STORE),
        "as part of a word": (["Pragma: no-caches"], STORE),
        "an empty one": (["Pragma: "], STORE),
    },
)
async def test_pragma(stage: Stage, lines: list[str], source: Source) -> None:
    stage.answers(FRESH)
    assert await stage.reuse(*lines) is source


@clause("RFC 9111", "5.2.1.1", "A client gets nothing older than its max-age")
@table(
    "control, source",
    {
        "0": ("max-age=0", API),
        "less than the age": ("max-age=10", API),
        "just less than the age": ("max-age=29", API),
        "more than the age": ("max-age=45", STORE),
        "more than the freshness": ("max-age=3600", STORE),
        "very large": ("max-age=99999999999999999999", STORE),
        "quoted": ('max-age="10"', API),
        "in capitals": ("MAX-AGE=10", API),
        "beside others": ("foo, max-age=10, bar", API),
    },
)
async def test_max_age(stage: Stage, control: str, source: Source) -> None:
    stage.answers(*HALF)
    assert await stage.reuse(f"Cache-Control: {control}") is source


@clause("RFC 9111", "5.2.1.3", "A client gets nothing that is fresh for less than its min-fresh")
@table(
    "control, source",
    {
        "0": ("min-fresh=0", STORE),
        "less than what is left": ("min-fresh=10", STORE),
        "more than what is left": ("min-fresh=35", API),
        "more than the whole freshness": ("min-fresh=3600", API),
        "very large": ("min-fresh=99999999999999999999", API),
        "with a max-age that is kept to": ("max-age=45, min-fresh=10", STORE),
        "with a max-age that is not": ("max-age=10, min-fresh=10", API),
    },
)
async def test_min_fresh(stage: Stage, control: str, source: Source) -> None:
    stage.answers(*HALF)
    assert await stage.reuse(f"Cache-Control: {control}") is source


@clause("RFC 9111", "5.2.1.2", "max-stale takes what is stale for no longer than that")
@table(
    "control, source",
    {
        "without it": ("foo", VALIDATED),
        "without argument": ("max-stale", STORE),
        "in capitals": ("MAX-STALE", STORE),
        "longer than it is stale": ("max-stale=60", STORE),
        "quoted": ('max-stale="60"', STORE),
        "shorter than it is stale": ("max-stale=10", VALIDATED),
        "0": ("max-stale=0", VALIDATED),
        "very large": ("max-stale=99999999999999999999", STORE),
        "with a max-age beyond its age": ("max-age=120, max-stale=60", STORE),
        "with a max-age below its age": ("max-age=70, max-stale=60", VALIDATED),
        "a max-age beyond its age alone": ("max-age=120", VALIDATED),
    },
)
async def test_max_stale(stage: Stage, control: str, source: Source) -> None:
    stage.answers(*STALE, ETAG)
    assert await stage.reuse(f"Cache-Control: {control}") is source


@clause("RFC 9111", "4.2.4", "No client's max-stale goes before the API's word that stale is not good enough")
@pytest.mark.parametrize(
    "control",
    [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "s-maxage=60",
        "s-maxage=60, max-age=3600",
        "no-cache",
        "max-age=60, no-cache",
        "max-age=60, Must-Revalidate",
    ],
)
@pytest.mark.parametrize("asked", ["max-stale", "max-stale=3600"])
async def test_max_stale_is_not_above_the_api(stage: Stage, control: str, asked: str) -> None:
    stage.answers(f"Cache-Control: {control}", "Age: 90", ETAG)
    assert await stage.reuse(f"Cache-Control: {asked}") is VALIDATED


@clause("RFC 9111", "5.1", "A stale answer says how old it is")
async def test_a_stale_answer_has_its_age(stage: Stage) -> None:
    stage.answers(*STALE, ETAG)
    seen = await stage.second("Cache-Control: max-stale")

    assert seen.source is STORE
    assert 90 <= seen.age <= 92


@clause("RFC 9111", "5.2.1.5", "The answer to a request with no-store is not stored")
@pytest.mark.parametrize(
    "control", ["no-store", "NO-STORE", "no-store, max-age=60", "foo, no-store", 'foo="x, no-store']
)
async def test_a_request_s_no_store_is_not_stored(stage: Stage, control: str) -> None:
    stage.answers(FRESH)
    assert await stage.reuse(first=[f"Cache-Control: {control}"]) is API


@clause("RFC 9111", "5.2.1.5", "A request with no-store is the API's, and leaves what is stored alone")
async def test_a_request_s_no_store_passes_by_the_store(stage: Stage) -> None:
    stage.answers(FRESH)
    seen = [await stage.ask(), await stage.ask("Cache-Control: no-store"), await stage.ask()]
    assert [answer.body for answer in seen] == [b"1", b"2", b"1"]


@clause(
    "RFC 9111", "5.2.1.7", "only-if-cached is answered from the store or with 504, and never asks the API"
)
@table(
    "stored, control, status",
    {
        "nothing is stored": (None, "only-if-cached", 504),
        "in capitals": (None, "ONLY-IF-CACHED", 504),
        "fresh": ([FRESH], "only-if-cached", 200),
        "too old for the client": (HALF, "only-if-cached, max-age=10", 504),
        "young enough for the client": (HALF, "only-if-cached, max-age=45", 200),
        "not fresh enough for the client": (HALF, "only-if-cached, min-fresh=45", 504),
        "stale": ([*STALE, ETAG], "only-if-cached", 504),
        "stale, and good enough for the client": ([*STALE, ETAG], "only-if-cached, max-stale", 200),
        "to be validated": (["Cache-Control: no-cache", ETAG], "only-if-cached", 504),
        "fresh, but no-cache": ([FRESH], "only-if-cached, no-cache", 504),
        "another variant": ([FRESH, "Vary: Cache-Control"], "only-if-cached", 504),
    },
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_only_if_cached(
    stage: Stage, stored: list[str] | None, control: str, status: int, method: str
) -> None:
    if stored is not None:
        stage.answers(*stored)
        await stage.ask()
    seen = await stage.ask(f"Cache-Control: {control}", method=method)

    assert (seen.source, seen.status) == (STORE, status)


@clause(
    "RFC 8246",
    "2",
    "A fresh immutable answer is not asked about because a client reloads; no-cache still counts",
)
@table(
    "stored, control, source",
    {
        "reload": ("max-age=60, immutable", "max-age=0", STORE),
        "reload, in capitals": ("max-age=60, IMMUTABLE", "max-age=0", STORE),
        "its argument means nothing": ("max-age=60, immutable=0", "max-age=0", STORE),
        "its quoted argument means nothing": ('max-age=60, immutable="no"', "max-age=0", STORE),
        "twice": ("immutable, max-age=60, immutable", "max-age=0", STORE),
        "by s-maxage": ("s-maxage=60, immutable", "max-age=0", STORE),
        "no-cache": ("max-age=60, immutable", "no-cache", API),
        "no-cache beside max-age=0": ("max-age=60, immutable", "max-age=0, no-cache", API),
        "not immutable": ("max-age=60", "max-age=0", API),
        "as part of a word": ("max-age=60, immutables", "max-age=0", API),
        "in the request, where it has no effect": ("max-age=60", "immutable, max-age=0", API),
        "without freshness": ("immutable", "max-age=3600", API),
    },
)
async def test_immutable(stage: Stage, stored: str, control: str, source: Source) -> None:
    stage.answers(f"Cache-Control: {stored}")
    assert await stage.reuse(f"Cache-Control: {control}") is source


@clause("RFC 8246", "2", "A stale immutable answer is validated like any other")
@pytest.mark.parametrize("lines", [[], ["Cache-Control: max-age=0"]], ids=["plain", "reload"])
async def test_a_stale_immutable_answer(stage: Stage, lines: list[str]) -> None:
    stage.answers("Cache-Control: max-age=60, immutable", "Age: 90", ETAG)
    assert await stage.reuse(*lines) is VALIDATED


@clause("RFC 9111", "5.2.1", "Other words in a request's Cache-Control change nothing")
@pytest.mark.parametrize(
    "control",
    [
        "",
        "foo",
        "foo=bar",
        'foo="no-cache"',
        'foo="a, no-store, b"',
        "no-transform",
        "public",
        "must-revalidate",
        "stale-if-error=60",
        "no-caches",
        "s-maxage=0",
        "@",
    ],
)
async def test_other_words(stage: Stage, control: str) -> None:
    stage.answers(FRESH)
    assert await stage.reuse(f"Cache-Control: {control}") is STORE


@clause("RFC 9111", "5.2", "The API gets the client's Cache-Control and Pragma as they were sent")
@pytest.mark.parametrize(
    "lines",
    [
        ["Cache-Control: no-cache"],
        ["Cache-Control: max-age=0, foo=bar"],
        ["Cache-Control: no-store"],
        ["Pragma: no-cache"],
        ["Cache-Control: a", "Cache-Control: b"],
    ],
    ids=" / ".join,
)
async def test_the_api_gets_what_the_client_said(stage: Stage, lines: list[str]) -> None:
    stage.answers(FRESH)
    seen = await stage.ask(*lines)
    names = (b"cache-control", b"pragma")
    got = [f"{n.decode()}: {v.decode()}" for n, v in seen.asked[0].fields if n.lower() in names]

    assert lines == got
