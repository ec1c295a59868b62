"""HEAD: answered from a stored GET, and what one that is passed on says about it."""

import pytest

from tests.claims import clause
from tests.flow.caching.stage import API, ETAG, FRESH, MODIFIED, STALE, STORE, Source, Stage, reply, table

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORCED = "Cache-Control: no-cache"


@clause("RFC 9110", "9.3.2", "HEAD is answered from a stored GET, with its fields and without its body")
@pytest.mark.parametrize("status", [200, 203, 301, 404, 410, 500])
async def test_head_from_a_stored_get(stage: Stage, status: int) -> None:
    stage.answers(FRESH, ETAG, "X: 1", "Content-Type: text/plain", status=status, body=b"four")
    get = await stage.ask()
    head = await stage.ask(method="HEAD")
    names = ("content-length", "content-type", "etag", "x", "cache-control", "date")

    assert (head.source, head.status, head.body) == (STORE, status, b"")
    assert [head.all(name) for name in names] == [get.all(name) for name in names]
    assert head.age >= 0


@clause("RFC 9110", "9.3.2", "What HEAD brought is no answer to GET")
@pytest.mark.parametrize("lines", [[FRESH], [FRESH, ETAG], [FRESH, "Content-Length: 4"]])
async def test_head_is_not_stored_as_a_get(stage: Stage, lines: list[str]) -> None:
    stage.answers(*lines, body=b"body")
    head = await stage.ask(method="HEAD")
    get = await stage.ask()

    assert (head.status, head.body, head.asked[0].method) == (200, b"", "HEAD")
    assert (get.source, get.body, get.asked[0].method) == (API, b"body", "GET")


@clause("RFC 9110", "9.3.2", "The length of a HEAD that is passed on is the API's word")
@pytest.mark.parametrize("length", ["0", "4", "123456789"])
async def test_the_length_of_a_head(stage: Stage, length: str) -> None:
    stage.answers(FRESH, f"Content-Length: {length}")
    assert (await stage.ask(method="HEAD")).all("content-length") == [length]


@clause("RFC 9111", "4.1", "HEAD gets the variant that its fields select")
async def test_head_selects_a_variant(stage: Stage) -> None:
    stage.answers_by(lambda asked: reply(FRESH, "Vary: X", f"Y: {asked.get('x')}"))
    await stage.ask("X: a")
    await stage.ask("X: b")
    seen = [await stage.ask("X: a", method="HEAD"), await stage.ask("X: b", method="HEAD")]
    assert [(one.source, one.get("y")) for one in seen] == [(STORE, "a"), (STORE, "b")]


@clause("RFC 9111", "5.2.1.4", "HEAD's own no-cache is obeyed")
async def test_head_with_no_cache(stage: Stage) -> None:
    stage.answers(FRESH, ETAG)
    seen = await stage.second(FORCED, method="HEAD")
    assert seen.source is not STORE


@clause(
    "RFC 9111", "4.3.5", "A HEAD that agrees with the stored GET freshens it, with the fields that it brings"
)
@table(
    "stored, head",
    {
        "ETag": ([ETAG], [ETAG]),
        "ETag and length": ([ETAG], [ETAG, "Content-Length: 4"]),
        "weak ETag": (['ETag: W/"v1"'], ['ETag: W/"v1"']),
        "Last-Modified": ([MODIFIED], [MODIFIED]),
        "both": ([ETAG, MODIFIED], [ETAG, MODIFIED]),
        "both, with the length": ([ETAG, MODIFIED], [ETAG, MODIFIED, "Content-Length: 4"]),
    },
)
async def test_a_head_that_agrees_freshens(stage: Stage, stored: list[str], head: list[str]) -> None:
    stage.answers_in_turn(
        reply(*STALE, *stored, "X: 1", "Y: 1", body=b"body"),
        reply(FRESH, *head, "X: 2", body=b"body"),
        reply(status=500),
    )
    passed = await stage.second(method="HEAD")
    get = await stage.ask()

    assert (passed.status, passed.get("x"), passed.asked[0].method) == (200, "2", "HEAD")
    assert (get.source, get.status, get.body) == (STORE, 200, b"body")
    assert (get.get("x"), get.get("y"), get.get("content-length")) == ("2", "1", "4")


@clause("RFC 9111", "4.3.5", "A HEAD that differs from the stored GET makes it stale")
@table(
    "stored, head",
    {
        "another ETag": ([ETAG], ['ETag: "v2"']),
        "another weak ETag": (['ETag: W/"v1"'], ['ETag: W/"v2"']),
        "another Last-Modified": ([MODIFIED], ["Last-Modified: Thu, 02 Jan 2020 00:00:00 GMT"]),
        "another length": ([], ["Content-Length: 5"]),
        "the same ETag, another length": ([ETAG], [ETAG, "Content-Length: 5"]),
        "the same ETag, another Last-Modified": (
            [ETAG, MODIFIED],
            [ETAG, "Last-Modified: Thu, 02 Jan 2020 00:00:00 GMT"],
        ),
        "another ETag, the same Last-Modified": ([ETAG, MODIFIED], ['ETag: "v2"', MODIFIED]),
    },
)
async def test_a_head_that_differs_makes_stale(stage: Stage, stored: list[str], head: list[str]) -> None:
    stage.answers_in_turn(
        reply(FRESH, *stored, body=b"body"), reply(FRESH, *head, body=b"body"), reply(FRESH, body=b"new")
    )
    await stage.second(FORCED, method="HEAD")
    get = await stage.ask()

    assert get.source is not STORE
    assert get.body == b"new"


@clause("RFC 9111", "4.3.5", "A HEAD that got no 200 says nothing about a fresh stored GET")
@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
async def test_a_head_without_200(stage: Stage, status: int) -> None:
    stage.answers_in_turn(reply(FRESH, ETAG), reply(status=status))
    passed = await stage.second(FORCED, method="HEAD")
    get = await stage.ask()

    assert (passed.status, get.source, get.body) == (status, STORE, b"1")


@clause("RFC 9111", "4.2", "HEAD gets a stored GET only while that is fresh")
@table(
    "lines, source",
    {"fresh": ([FRESH], STORE), "stale": ([*STALE], API), "no-cache": (["Cache-Control: no-cache"], API)},
)
async def test_head_needs_freshness(stage: Stage, lines: list[str], source: Source) -> None:
    stage.answers(*lines)
    assert (await stage.second(method="HEAD")).source is source
