"""How old an answer is: what Age, Date and the API's slowness add up to, and what clients are told of it."""

import asyncio
from email.utils import parsedate_to_datetime
from time import time

import pytest

from tests.claims import clause
from tests.flow.caching.stage import API, ETAG, FRESH, STALE, STORE, Source, Stage, reply, table

pytestmark = pytest.mark.asyncio(loop_scope="module")


@clause("RFC 9111", "4.2.3", "The Age that an answer comes with counts against its freshness")
@table(
    "age, source",
    {
        "0": ("0", STORE),
        "50 of 60": ("50", STORE),
        "050 of 60": ("050", STORE),
        "60 of 60": ("60", API),
        "61 of 60": ("61", API),
        "an hour": ("3600", API),
        "2^31 - 1": ("2147483647", API),
        "2^31": ("2147483648", API),
        "2^32": ("4294967296", API),
        "2^32 + 5, which must not wrap": ("4294967301", API),
        "2^64 + 5, which must not wrap": ("18446744073709551621", API),
        "twenty digits": ("9" * 20, API),
        "four hundred digits": ("9" * 400, API),
    },
)
@pytest.mark.parametrize("freshness", ["Cache-Control: max-age=60", "Expires: <+60>"])
async def test_age_counts(stage: Stage, freshness: str, age: str, source: Source) -> None:
    stage.answers(freshness, "Date: <+0>", f"Age: {age}")
    assert await stage.reuse() is source


@clause(
    "RFC 9111", "5.1", "Of a list the first Age counts; one that is no number of seconds doesn't count at all"
)
@table(
    "lines, source",
    {
        "old, then young": (["Age: 7200, 0"], API),
        "young, then old": (["Age: 0, 7200"], STORE),
        "old, then nonsense": (["Age: 7200, x"], API),
        "two lines, old first": (["Age: 7200", "Age: 0"], API),
        "two lines, young first": (["Age: 0", "Age: 7200"], STORE),
        "negative": (["Age: -1"], STORE),
        "negative and old": (["Age: -7200"], STORE),
        "with a sign": (["Age: +7200"], STORE),
        "decimal": (["Age: 7200.5"], STORE),
        "decimal, without a rest": (["Age: 7200.0"], STORE),
        "with a parameter": (["Age: 7200;x"], STORE),
        "after a letter": (["Age: a7200"], STORE),
        "before a letter": (["Age: 7200s"], STORE),
        "quoted": (['Age: "7200"'], STORE),
        "hexadecimal": (["Age: 0x1c20"], STORE),
        "two numbers": (["Age: 72 00"], STORE),
        "a digit that is none in ASCII": (["Age: \xb2"], STORE),
        "empty": (["Age: "], STORE),
    },
)
async def test_which_age_counts(stage: Stage, lines: list[str], source: Source) -> None:
    stage.answers(FRESH, *lines)
    assert await stage.reuse() is source


@clause("RFC 9111", "4.2.3", "An answer is as old as its Age or its Date says, whichever is more")
@table(
    "lines, age",
    {
        "neither": ([], 0),
        "Age": (["Age: 40"], 40),
        "Date": (["Date: <-30>"], 30),
        "Age beyond Date": (["Date: <-30>", "Age: 40"], 40),
        "Date beyond Age": (["Date: <-40>", "Age: 30"], 40),
        "Date of a fast clock": (["Date: <+1000>"], 0),
        "Date of a fast clock, Age": (["Date: <+1000>", "Age: 40"], 40),
        "Date in RFC 850 form": (["Date: <-30|%A, %d-%b-%y %H:%M:%S GMT>"], 30),
        "Date in asctime form": (["Date: <-30|%a %b %e %H:%M:%S %Y>"], 30),
    },
)
async def test_what_a_reused_answer_says_of_its_age(stage: Stage, lines: list[str], age: int) -> None:
    stage.answers(FRESH, *lines)
    seen = await stage.second()

    assert seen.source is STORE
    # A second for the clock to turn over, and one for a busy machine.
    assert age <= seen.age <= age + 2


@clause("RFC 9111", "4.2.3", "An old Date makes an answer stale on arrival")
@table(
    "lines",
    {
        "max-age": ["Date: <-61>", "Cache-Control: max-age=60"],
        "s-maxage": ["Date: <-61>", "Cache-Control: s-maxage=60"],
        "Expires": ["Date: <-61>", "Expires: <-1>"],
        "with a young Age": ["Date: <-61>", "Cache-Control: max-age=60", "Age: 1"],
    },
)
async def test_an_old_date_is_stale(stage: Stage, lines: list[str]) -> None:
    stage.answers(*lines)
    assert await stage.reuse() is API


@clause("RFC 9111", "5.1", "An answer that the API gave just now has no Age of ours")
async def test_a_new_answer_has_no_age(stage: Stage) -> None:
    stage.answers(FRESH)
    assert (await stage.ask()).age == -1


@clause("RFC 9111", "5.1", "An Age that the API sent reaches the client of a first answer as well")
@pytest.mark.parametrize("control", [FRESH, "Cache-Control: no-store"])
async def test_the_api_s_age_is_kept(stage: Stage, control: str) -> None:
    stage.answers(control, "Age: 40")
    assert 40 <= (await stage.ask()).age <= 42


@clause("RFC 9111", "4", "An answer from the store says its Age in seconds, once, and grows older")
async def test_age_grows(stage: Stage) -> None:
    stage.answers(FRESH, "Age: 10")
    first = await stage.second()
    await asyncio.sleep(1.05)
    later = await stage.ask()

    assert (first.source, later.source) == (STORE, STORE)
    assert 1 <= later.age - first.age <= 3


@clause("RFC 9111", "4.2.3", "The time that the API took counts as age")
async def test_a_slow_answer_is_older(stage: Stage) -> None:
    fast = Stage(stage.api, stage.proxy)
    stage.answers_in_turn(reply("Cache-Control: max-age=1", delay_s=1.1))
    fast.answers_in_turn(reply("Cache-Control: max-age=60", delay_s=1.1))
    expired, fresh = await asyncio.gather(stage.reuse(), fast.second())

    assert (expired, fresh.source) == (API, STORE)
    assert 1 <= fresh.age <= 3


@clause("RFC 9111", "4.2.3", "A validated answer is as old as the validation says")
async def test_validation_makes_young(stage: Stage) -> None:
    stage.answers_in_turn(reply(ETAG, *STALE), reply(ETAG, FRESH, status=304), reply("X: never", status=500))
    await stage.second()
    seen = await stage.ask()

    assert (seen.source, seen.status) == (STORE, 200)
    assert 0 <= seen.age <= 2


@clause("RFC 9110", "6.6.1", "Date is the API's own, and never changes while an answer is reused")
@pytest.mark.parametrize("date", ["<+0>", "<-30>", "<+100>", "<-30|%A, %d-%b-%y %H:%M:%S GMT>"])
async def test_date_stays(stage: Stage, date: str) -> None:
    stage.answers_in_turn(reply(FRESH, f"Date: {date}"), reply(status=500))
    first, second = await stage.ask(), await stage.ask()

    assert second.source is STORE
    assert first.all("date") == second.all("date")
    assert len(first.all("date")) == 1


@clause("RFC 9110", "6.6.1", "An answer without Date gets the time at which it came, and keeps that")
async def test_a_missing_date_is_added(stage: Stage) -> None:
    stage.answers(FRESH)
    first = await stage.ask()
    await asyncio.sleep(1.05)
    second = await stage.ask()

    assert second.source is STORE
    assert first.all("date") == second.all("date")
    assert abs(parsedate_to_datetime(first.get("date")).timestamp() - time()) < 5
