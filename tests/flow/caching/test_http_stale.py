"""Stale answers: when they may be served, how long, and what forbids it."""

import asyncio

import pytest

from tests.claims import clause
from tests.flow.caching.stage import (
    API,
    ETAG,
    SILENT,
    STORE,
    VALIDATED,
    Reply,
    Seen,
    Source,
    Stage,
    exactly,
    reply,
    table,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ERRORS = {
    "500": reply(status=500),
    "502": reply(status=502),
    "503": reply(status=503),
    "504": reply(status=504),
    "closed": SILENT,
    "closed within the head": exactly(b"HTTP/1.1 200 OK\r\nCont", close=True),
    "no HTTP": exactly(b"nonsense\r\n\r\n", close=True),
}
# Before all of these, stale is not good enough (RFC 9111 section 4.2.4).
STRICT = ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=60", "Must-Revalidate"]
# But an API that gives s-maxage and a window of its own means both (docs/http-caching.md).
WHATEVER_WINDOW = [word for word in STRICT if word != "s-maxage=60"]


@pytest.fixture(scope="module")
def routes() -> str:
    return """
  - {match: "/swr/**", stale_while_revalidate: 1m}
  - {match: "/sie/**", stale_if_error: 1m}
  - {match: "/**"}
"""


async def stale(stage: Stage, control: str, then: Reply, *, age: int, lines: tuple[str, ...] = ()) -> Seen:
    """The second answer, asked for with `lines` when the first is `age` seconds old and the API says `then`."""
    stage.answers_in_turn(reply(f"Cache-Control: {control}", f"Age: {age}", ETAG), then)
    return await stage.second(*lines)


async def renewed(stage: Stage, *, within_s: float = 3.0) -> Seen:
    """The first answer that is no longer the old one."""
    async with asyncio.timeout(within_s):
        while (seen := await stage.ask()).body == b"1":
            await asyncio.sleep(0.01)
    return seen


NEW = reply("Cache-Control: max-age=60", body=b"new")


@clause("RFC 9111", "4.2.4", "A stale answer is not served where nobody allows it")
@pytest.mark.parametrize("control", ["max-age=60", "max-age=60, public", "max-age=60, immutable"])
async def test_stale_is_not_served_unasked(stage: Stage, control: str) -> None:
    seen = await stale(stage, control, NEW, age=61)
    assert (seen.source, seen.body) == (VALIDATED, b"new")


@clause(
    "RFC 5861",
    "3",
    "stale-while-revalidate serves the stale answer at once, and the next client gets the new one",
)
@table(
    "control, age",
    {
        "just stale": ("max-age=60, stale-while-revalidate=60", 61),
        "stale for long": ("max-age=60, stale-while-revalidate=60", 115),
        "in capitals": ("MAX-AGE=60, STALE-WHILE-REVALIDATE=60", 90),
        "quoted": ('max-age=60, stale-while-revalidate="60"', 90),
        "in another order": ("stale-while-revalidate=60, max-age=60", 90),
        "never fresh": ("max-age=0, stale-while-revalidate=60", 30),
        "very long": ("max-age=60, stale-while-revalidate=99999999999999999999", 3600),
        "immutable": ("max-age=60, immutable, stale-while-revalidate=60", 90),
    },
)
async def test_stale_while_revalidate(stage: Stage, control: str, age: int) -> None:
    seen = await stale(stage, control, NEW, age=age)

    assert (seen.status, seen.body) == (200, b"1")
    assert age <= seen.age <= age + 2
    assert (await renewed(stage)).body == b"new"


@clause("RFC 5861", "3", "Nobody waits for the revalidation, however long it takes, and it is one for all")
async def test_the_revalidation_is_nobody_s_wait(stage: Stage) -> None:
    control = "Cache-Control: max-age=60, stale-while-revalidate=60"
    stage.answers_in_turn(
        reply(control, "Age: 90"), reply("Cache-Control: max-age=60", body=b"new", delay_s=0.6)
    )
    await stage.ask()
    async with asyncio.timeout(0.5):
        seen = await asyncio.gather(*(stage.ask() for _ in range(10)))

    assert {one.body for one in seen} == {b"1"}
    assert (await renewed(stage)).body == b"new"
    assert len(stage.asked) == 2


@clause("RFC 5861", "3", "The revalidation behind stale-while-revalidate asks about what is stored")
async def test_the_revalidation_is_conditional(stage: Stage) -> None:
    fresh = reply("Cache-Control: max-age=60", ETAG, "X: 2", status=304)
    seen = await stale(stage, "max-age=60, stale-while-revalidate=60", fresh, age=90)
    assert seen.body == b"1"
    async with asyncio.timeout(3):
        while (seen := await stage.ask()).get("x") != "2":
            await asyncio.sleep(0.01)
    later = await stage.ask()

    assert (later.source, later.body, stage.asked[1].get("if-none-match")) == (STORE, b"1", '"v1"')


@clause("RFC 5861", "3", "stale-while-revalidate ends when its window does; one that can't be read is none")
@table(
    "control, age",
    {
        "over": ("max-age=60, stale-while-revalidate=60", 121),
        "long over": ("max-age=60, stale-while-revalidate=60", 3600),
        "0": ("max-age=60, stale-while-revalidate=0", 61),
        "without argument": ("max-age=60, stale-while-revalidate", 61),
        "negative": ("max-age=60, stale-while-revalidate=-60", 61),
        "decimal": ("max-age=60, stale-while-revalidate=60.5", 61),
        "a word": ("max-age=60, stale-while-revalidate=long", 61),
        "an empty argument": ("max-age=60, stale-while-revalidate=", 61),
        "two that differ": ("max-age=60, stale-while-revalidate=0, stale-while-revalidate=60", 61),
    },
)
async def test_the_window_ends(stage: Stage, control: str, age: int) -> None:
    seen = await stale(stage, control, NEW, age=age)
    assert (seen.source, seen.body) == (VALIDATED, b"new")


@clause(
    "RFC 9111",
    "4.2.4",
    "must-revalidate, proxy-revalidate and no-cache forbid stale-while-revalidate",
)
@pytest.mark.parametrize("strict", WHATEVER_WINDOW)
async def test_strict_words_forbid_stale_while_revalidate(stage: Stage, strict: str) -> None:
    seen = await stale(stage, f"max-age=60, {strict}, stale-while-revalidate=600", NEW, age=90)
    assert (seen.source, seen.body) == (VALIDATED, b"new")


@clause(
    "RFC 9111",
    "4.2.4",
    "must-revalidate, proxy-revalidate, no-cache and s-maxage forbid the operator's windows too",
)
@pytest.mark.parametrize("strict", STRICT)
@pytest.mark.parametrize("root", ["/swr", "/sie"])
async def test_strict_words_forbid_the_operator_s(stage: Stage, root: str, strict: str) -> None:
    stage = Stage(stage.api, stage.proxy, root=root)
    seen = await stale(stage, f"max-age=60, {strict}", reply(status=500), age=90)
    assert (seen.status, seen.body) == (500, b"2")


@clause("RFC 5861", "3", "The operator's stale-while-revalidate has its window too")
@table("age, body", {"within": (90, b"1"), "after": (121, b"new")})
async def test_the_operator_s_stale_while_revalidate(stage: Stage, age: int, body: bytes) -> None:
    stage = Stage(stage.api, stage.proxy, root="/swr")
    assert (await stale(stage, "max-age=60", NEW, age=age)).body == body


@clause(
    "RFC 5861",
    "4",
    "stale-if-error serves the stale answer where the API fails: 500, 502, 503, 504, or no answer",
)
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@table(
    "control, age",
    {
        "just stale": ("max-age=60, stale-if-error=60", 61),
        "stale for long": ("max-age=60, stale-if-error=60", 115),
        "never fresh": ("max-age=0, stale-if-error=60", 30),
    },
)
async def test_stale_if_error(stage: Stage, control: str, age: int, error: Reply) -> None:
    seen = await stale(stage, control, error, age=age)

    assert (seen.status, seen.body, len(seen.asked) >= 1) == (200, b"1", True)
    assert age <= seen.age <= age + 2


@clause("RFC 5861", "4", "stale-if-error is read in any case, order and form")
@pytest.mark.parametrize(
    "control",
    [
        "STALE-IF-ERROR=60, max-age=60",
        'max-age=60, stale-if-error="60"',
        "max-age=60, stale-if-error=99999999999999999999",
        "max-age=60, stale-while-revalidate=10, stale-if-error=60",
    ],
)
async def test_stale_if_error_s_forms(stage: Stage, control: str) -> None:
    assert (await stale(stage, control, reply(status=503), age=90)).body == b"1"


@clause("RFC 5861", "4", "Without stale-if-error, or after its window, the API's error is passed on")
@table(
    "control, age",
    {
        "not allowed": ("max-age=60", 61),
        "over": ("max-age=60, stale-if-error=60", 121),
        "0": ("max-age=60, stale-if-error=0", 61),
        "without argument": ("max-age=60, stale-if-error", 61),
        "negative": ("max-age=60, stale-if-error=-60", 61),
        "a word": ("max-age=60, stale-if-error=long", 61),
    },
)
@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_errors_are_passed_on(stage: Stage, status: int, control: str, age: int) -> None:
    seen = await stale(stage, control, reply(status=status), age=age)
    assert (seen.status, seen.body) == (status, b"2")


@clause("RFC 5861", "4", "Other statuses are no errors that stale-if-error hides")
@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 410, 429, 501, 505])
async def test_what_is_no_error(stage: Stage, status: int) -> None:
    seen = await stale(stage, "max-age=60, stale-if-error=600", reply(status=status), age=90)
    assert (seen.status, seen.body) == (status, b"2")


@clause("RFC 5861", "4", "A fresh answer needs no stale-if-error, and the API recovers as soon as it answers")
async def test_the_api_recovers(stage: Stage) -> None:
    control = "Cache-Control: max-age=60, stale-if-error=600"
    stage.answers_in_turn(reply(control, "Age: 90"), reply(status=500), NEW)
    seen = [await stage.ask(), await stage.ask()]
    assert [one.body for one in seen] == [b"1", b"1"]
    assert (await renewed(stage)).body == b"new"


@clause("RFC 9111", "4.2.4", "must-revalidate, proxy-revalidate and no-cache forbid stale-if-error")
@pytest.mark.parametrize("strict", WHATEVER_WINDOW)
@pytest.mark.parametrize("status", [500, 503])
async def test_strict_words_forbid_stale_if_error(stage: Stage, status: int, strict: str) -> None:
    error = reply(status=status)
    seen = await stale(stage, f"max-age=60, {strict}, stale-if-error=600", error, age=90)
    assert (seen.status, seen.body) == (status, b"2")


@clause(
    "RFC 9111",
    "5.2.2.2",
    "With must-revalidate an API that can't be reached is an error of the gateway, never stale",
)
@pytest.mark.parametrize("strict", WHATEVER_WINDOW)
@pytest.mark.parametrize("more", ["", ", stale-if-error=600", ", stale-while-revalidate=600"])
async def test_must_revalidate_and_no_api(stage: Stage, strict: str, more: str) -> None:
    seen = await stale(stage, f"max-age=60, {strict}{more}", SILENT, age=90)
    assert seen.status in (502, 504)


@clause("RFC 9111", "5.2.2.10", "s-maxage alone is proxy-revalidate")
async def test_s_maxage_and_no_api(stage: Stage) -> None:
    assert (await stale(stage, "s-maxage=60", SILENT, age=90)).status in (502, 504)


@clause("RFC 5861", "3", "Beside s-maxage the API's own windows count: it gave both")
@pytest.mark.parametrize("window", ["stale-while-revalidate=600", "stale-if-error=600"])
async def test_s_maxage_with_a_window(stage: Stage, window: str) -> None:
    seen = await stale(stage, f"s-maxage=60, {window}", SILENT, age=90)
    assert (seen.status, seen.body) == (200, b"1")


@clause("RFC 9111", "5.2.2.2", "While it is fresh, must-revalidate changes nothing")
@pytest.mark.parametrize("strict", ["must-revalidate", "proxy-revalidate", "s-maxage=60"])
async def test_strict_words_while_fresh(stage: Stage, strict: str) -> None:
    seen = await stale(stage, f"max-age=60, {strict}", reply(status=500), age=30)
    assert (seen.source, seen.body) == (STORE, b"1")


@clause("RFC 9111", "5.2.2.2", "No client's word allows stale where the API forbids it")
@pytest.mark.parametrize("asked", ["max-stale", "max-stale=600", "stale-if-error=600"])
@pytest.mark.parametrize("strict", STRICT)
async def test_clients_don_t_loosen(stage: Stage, strict: str, asked: str) -> None:
    lines = (f"Cache-Control: {asked}",)
    seen = await stale(stage, f"max-age=60, {strict}", reply(status=500), age=90, lines=lines)
    assert (seen.status, seen.body) == (500, b"2")


@clause("RFC 5861", "4", "A client may ask for stale-if-error itself")
@table("asked, status", {"longer": ("stale-if-error=600", 200), "shorter": ("stale-if-error=10", 500)})
async def test_a_client_s_stale_if_error(stage: Stage, asked: str, status: int) -> None:
    lines = (f"Cache-Control: {asked}",)
    seen = await stale(stage, "max-age=60", reply(status=500), age=90, lines=lines)
    assert seen.status == status


@clause("RFC 9111", "5.2.1", "Who asks for something fresh gets nothing stale, whatever the API allows")
@pytest.mark.parametrize("asked", ["no-cache", "max-age=0", "max-age=10", "min-fresh=10"])
async def test_clients_who_want_fresh(stage: Stage, asked: str) -> None:
    lines = (f"Cache-Control: {asked}",)
    seen = await stale(stage, "max-age=60, stale-while-revalidate=600", NEW, age=90, lines=lines)
    assert (seen.source, seen.body) == (VALIDATED, b"new")


@clause(
    "RFC 5861", "3", "HEAD, conditions and ranges get the stale answer that stale-while-revalidate allows"
)
@table(
    "method, lines, status",
    {
        "HEAD": ("HEAD", (), 200),
        "the same ETag": ("GET", ('If-None-Match: "v1"',), 304),
        "another ETag": ("GET", ('If-None-Match: "v2"',), 200),
        "a range": ("GET", ("Range: bytes=0-0",), 206),
    },
)
async def test_other_requests_get_stale(
    stage: Stage, method: str, lines: tuple[str, ...], status: int
) -> None:
    control = "Cache-Control: max-age=60, stale-while-revalidate=60"
    stage.answers_in_turn(reply(control, "Age: 90", ETAG), reply(control, ETAG, body=b"2", delay_s=0.05))
    seen = await stage.second(*lines, method=method)

    assert (seen.status, seen.get("etag")) == (status, '"v1"')
    assert seen.age >= 90


@clause("RFC 5861", "3", "stale-while-revalidate ends with an answer that is not to be stored")
@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_gone_is_gone(stage: Stage, status: int) -> None:
    seen = await stale(stage, "max-age=60, stale-while-revalidate=600", reply(status=status), age=90)
    assert seen.body == b"1"
    assert (await renewed(stage)).status == status


@clause("RFC 9111", "4.2", "Fresh, stale but usable, over: by age alone")
@table(
    "age, source",
    {"fresh": (30, STORE), "usable where the API fails": (90, VALIDATED), "over": (190, VALIDATED)},
)
async def test_by_age_alone(stage: Stage, age: int, source: Source) -> None:
    seen = await stale(stage, "max-age=60, stale-if-error=60", NEW, age=age)
    assert (seen.source, seen.body) == (source, b"1" if source is STORE else b"new")


@clause("RFC 9111", "4.2.4", "Without anything stored an API that can't be reached is 502 or 504")
async def test_nothing_stored_and_no_api(stage: Stage) -> None:
    stage.answers_in_turn(SILENT)
    seen = await stage.ask()
    assert (seen.source, seen.status in (502, 504)) == (API, True)
