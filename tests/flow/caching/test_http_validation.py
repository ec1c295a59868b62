"""Conditional requests, both ways: is the client's copy good, and is ours?"""

from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pytest

from tests.claims import clause
from tests.flow.caching.stage import (
    API,
    ETAG,
    FRESH,
    MODIFIED,
    SILENT,
    STALE,
    STORE,
    VALIDATED,
    Reply,
    Stage,
    reply,
    table,
)
from tests.flow.origin import Asked

pytestmark = pytest.mark.asyncio(loop_scope="module")

SINCE = "If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT"


def knows(tag: str, *lines: str) -> Reply:
    return reply(f"ETag: {tag}", *lines, status=304)


# -- the client's copy, answered from the store --


@clause(
    "RFC 9110", "13.1.2", "If-None-Match is answered from the store: lists, weak comparison, and any for *"
)
@table(
    "stored, lines, status",
    {
        "the same": ('"v1"', ['"v1"'], 304),
        "another": ('"v1"', ['"v2"'], 200),
        "another case": ('"v1"', ['"V1"'], 200),
        "the first of a list": ('"v1"', ['"v1", "v2"'], 304),
        "the last of a list": ('"v1"', ['"v2", "v3", "v1"'], 304),
        "a list without white space": ('"v1"', ['"v2","v1"'], 304),
        "a list with much white space": ('"v1"', [' "v2" ,\t"v1" '], 304),
        "a list with empty members": ('"v1"', [', "v2",,"v1",'], 304),
        "not in the list": ('"v1"', ['"v2", "v3"'], 200),
        "two lines, the second": ('"v1"', ['"v2"', '"v1"'], 304),
        "two lines, neither": ('"v1"', ['"v2"', '"v3"'], 200),
        "any": ('"v1"', ["*"], 304),
        "weak asked, strong stored": ('"v1"', ['W/"v1"'], 304),
        "strong asked, weak stored": ('W/"v1"', ['"v1"'], 304),
        "weak both": ('W/"v1"', ['W/"v1"'], 304),
        "weak another": ('W/"v1"', ['W/"v2"'], 200),
        "weak in a list": ('W/"v1"', ['"v0", W/"v1"'], 304),
        "weak in lower case is none": ('"v1"', ['w/"v1"'], 200),
        "without quotes": ('"v1"', ["v1"], 200),
        "in single quotes": ('"v1"', ["'v1'"], 200),
        "without its last quote": ('"v1"', ['"v1'], 200),
        "a quoted star": ('"v1"', ['"*"'], 200),
        "empty": ('"v1"', [""], 200),
        "the empty tag, stored": ('""', ['""'], 304),
        "the empty tag, not stored": ('"v1"', ['""'], 200),
        "a tag with a comma": ('"a,b"', ['"a,b"'], 304),
        "a tag with a comma in a list": ('"a,b"', ['"c", "a,b"'], 304),
        "half of a tag with a comma": ('"a,b"', ['"a', 'b"'], 200),
        "a tag with a backslash": ('"a\\"', ['"a\\"'], 304),
        "a tag with obsolete bytes": ('"\xe4"', ['"\xe4"'], 304),
        "a part of the tag": ('"v1"', ['"v"'], 200),
    },
)
async def test_if_none_match(stage: Stage, stored: str, lines: list[str], status: int) -> None:
    stage.answers(FRESH, f"ETag: {stored}")
    seen = await stage.second(*(f"If-None-Match: {line}" for line in lines))

    assert (seen.source, seen.status, seen.body) == (STORE, status, b"1" if status == 200 else b"")
    assert seen.get("etag") == stored


@clause("RFC 9110", "13.1.2", "Where nothing has an ETag only * is a match")
@table("tag, status", {"a tag": ('"v1"', 200), "the empty tag": ('""', 200), "any": ("*", 304)})
async def test_if_none_match_without_etag(stage: Stage, tag: str, status: int) -> None:
    stage.answers(FRESH)
    seen = await stage.second(f"If-None-Match: {tag}")
    assert (seen.source, seen.status) == (STORE, status)


@clause(
    "RFC 9110",
    "13.1.3",
    "If-Modified-Since is answered from the store: in any form of date, an unreadable one ignored",
)
@table(
    "since, status",
    {
        "the same": (["Wed, 01 Jan 2020 00:00:00 GMT"], 304),
        "a second later": (["Wed, 01 Jan 2020 00:00:01 GMT"], 304),
        "a second earlier": (["Tue, 31 Dec 2019 23:59:59 GMT"], 200),
        "much later": (["Thu, 01 Jan 2026 00:00:00 GMT"], 304),
        "much earlier": (["Thu, 01 Jan 1970 00:00:00 GMT"], 200),
        "RFC 850": (["Wednesday, 01-Jan-20 00:00:00 GMT"], 304),
        "RFC 850, earlier": (["Tuesday, 31-Dec-19 23:59:59 GMT"], 200),
        "asctime": (["Wed Jan  1 00:00:00 2020"], 304),
        "asctime, earlier": (["Tue Dec 31 23:59:59 2019"], 200),
        "another zone": (["Wed, 01 Jan 2020 00:00:00 CET"], 200),
        "a number": (["1577836800"], 200),
        "ISO 8601": (["2020-01-01T00:00:00Z"], 200),
        "no date": (["yesterday"], 200),
        "empty": ([""], 200),
        "two lines": (["Wed, 01 Jan 2020 00:00:00 GMT"] * 2, 200),
    },
)
async def test_if_modified_since(stage: Stage, since: list[str], status: int) -> None:
    stage.answers(FRESH, MODIFIED)
    seen = await stage.second(*(f"If-Modified-Since: {line}" for line in since))
    assert (seen.source, seen.status) == (STORE, status)


@clause(
    "RFC 9111",
    "4.3.2",
    "If-Modified-Since is compared with Last-Modified, else Date, else the time of arrival",
)
@table(
    "lines, offset, status",
    {
        "Date before": (["Date: <-50>"], -40, 304),
        "Date the same": (["Date: <-50>"], -50, 304),
        "Date after": (["Date: <-50>"], -60, 200),
        "Last-Modified before Date": ([MODIFIED, "Date: <-50>"], -60, 304),
        "arrival before": ([], 30, 304),
        "arrival after": ([], -30, 200),
    },
)
async def test_if_modified_since_without_last_modified(
    stage: Stage, lines: list[str], offset: int, status: int
) -> None:
    stage.answers("Cache-Control: max-age=600", *lines)
    # Counted from the Date that the API sent, which the store must not change.
    date = (await stage.ask()).get("date")
    base = 50 if any(line.startswith("Date") for line in lines) else 0
    seen = await stage.ask(f"If-Modified-Since: {shifted(date, offset + base)}")

    assert (seen.source, seen.status) == (STORE, status)


def shifted(date: str, seconds: int) -> str:
    return format_datetime(parsedate_to_datetime(date) + timedelta(seconds=seconds), usegmt=True)


@clause("RFC 9110", "13.2.2", "If-None-Match goes before If-Modified-Since")
@table(
    "tag, since, status",
    {
        "both hold": ('"v1"', "Wed, 01 Jan 2020 00:00:00 GMT", 304),
        "only the tag": ('"v1"', "Thu, 01 Jan 1970 00:00:00 GMT", 304),
        "only the date": ('"v2"', "Thu, 01 Jan 2026 00:00:00 GMT", 200),
        "a malformed tag and the date": ("v1", "Thu, 01 Jan 2026 00:00:00 GMT", 200),
        "the tag and an unreadable date": ('"v1"', "x", 304),
    },
)
async def test_precedence(stage: Stage, tag: str, since: str, status: int) -> None:
    stage.answers(FRESH, ETAG, MODIFIED)
    seen = await stage.second(f"If-None-Match: {tag}", f"If-Modified-Since: {since}")
    assert (seen.source, seen.status) == (STORE, status)


@clause(
    "RFC 9110", "13.2.1", "Conditions are for what would be a 200: other stored answers are given as they are"
)
@pytest.mark.parametrize("status", [301, 404, 410, 500])
@pytest.mark.parametrize("line", ['If-None-Match: "v1"', "If-None-Match: *", SINCE])
async def test_conditions_are_for_a_200(stage: Stage, line: str, status: int) -> None:
    stage.answers(FRESH, ETAG, MODIFIED, status=status)
    seen = await stage.second(line)
    assert (seen.source, seen.status, seen.body) == (STORE, status, b"1")


@clause("RFC 9111", "4.3.2", "If-Match and If-Unmodified-Since are the API's to judge, whatever is stored")
@pytest.mark.parametrize(
    "line",
    [
        'If-Match: "v1"',
        'If-Match: "v2"',
        "If-Match: *",
        "If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT",
        "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
    ],
)
async def test_conditions_of_the_api(stage: Stage, line: str) -> None:
    stage.answers_in_turn(reply(FRESH, ETAG, MODIFIED), reply(status=412))
    seen = await stage.second(line)
    name, _, value = line.partition(": ")

    assert (seen.status, seen.asked[0].get(name)) == (412, value)
    assert await stage.reuse() is STORE


@clause("RFC 9110", "13.2.1", "Conditions of other methods than GET and HEAD are passed on")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("line", ['If-None-Match: "v1"', "If-None-Match: *", 'If-Match: "v1"', SINCE])
async def test_conditions_of_other_methods(stage: Stage, method: str, line: str) -> None:
    stage.answers_in_turn(reply(FRESH, ETAG, MODIFIED), reply())
    seen = await stage.second(line, method=method)
    name, _, value = line.partition(": ")
    assert (seen.status, seen.asked[0].get(name)) == (200, value)


@clause(
    "RFC 9110", "15.4.5", "A 304 from the store has what guides the client's cache, and nothing about a body"
)
@table(
    "line, kept",
    {
        "ETag": ('ETag: "v1"', True),
        "Date": ("Date: <-5>", True),
        "Cache-Control": ("Cache-Control: max-age=60, foo", True),
        "Expires": ("Expires: <+60>", True),
        "Vary": ("Vary: X", True),
        "Content-Location": ("Content-Location: /elsewhere", True),
        "Content-Type": ("Content-Type: text/plain", False),
        "Content-Encoding": ("Content-Encoding: x-test", False),
        "Content-Length": ("Content-Length: 1", False),
    },
)
async def test_fields_of_a_304(stage: Stage, line: str, kept: bool) -> None:
    basis = [one for one in (FRESH, ETAG) if one.partition(":")[0] != line.partition(":")[0]]
    stage.answers(*basis, line, body=b"x")
    first = await stage.ask()
    seen = await stage.ask('If-None-Match: "v1"')
    name = line.partition(":")[0]

    assert (seen.source, seen.status) == (STORE, 304)
    assert seen.all(name) == (first.all(name) if kept else [])
    assert seen.age >= 0


@clause("RFC 9110", "9.3.2", "HEAD's conditions are answered like GET's")
@table(
    "line, status",
    {
        "the same ETag": ('If-None-Match: "v1"', 304),
        "another ETag": ('If-None-Match: "v2"', 200),
        "the same date": (SINCE, 304),
    },
)
async def test_conditions_of_head(stage: Stage, line: str, status: int) -> None:
    stage.answers(FRESH, ETAG, MODIFIED)
    seen = await stage.second(line, method="HEAD")
    assert (seen.source, seen.status) == (STORE, status)


# -- our copy: the API is asked --


@clause("RFC 9111", "4.3.1", "A stale answer is asked about with the validators that it has")
@table(
    "lines, conditions",
    {
        "ETag": ([ETAG], ('"v1"', "")),
        "weak ETag": (['ETag: W/"v1"'], ('W/"v1"', "")),
        "empty ETag": (['ETag: ""'], ('""', "")),
        "ETag with a comma": (['ETag: "a,b"'], ('"a,b"', "")),
        "Last-Modified": ([MODIFIED], ("", "Wed, 01 Jan 2020 00:00:00 GMT")),
        "both": ([ETAG, MODIFIED], ('"v1"', "Wed, 01 Jan 2020 00:00:00 GMT")),
        "Last-Modified in RFC 850 form": (
            ["Last-Modified: Wednesday, 01-Jan-20 00:00:00 GMT"],
            ("", "Wednesday, 01-Jan-20 00:00:00 GMT"),
        ),
    },
)
async def test_a_stale_answer_is_asked_about(
    stage: Stage, lines: list[str], conditions: tuple[str, str]
) -> None:
    stage.answers(*STALE, *lines)
    seen = await stage.second()
    asked = seen.asked[0]

    assert (asked.method, asked.get("if-none-match"), asked.get("if-modified-since")) == ("GET", *conditions)


@clause("RFC 9111", "4.3.1", "A stale answer without validators is asked for again, not about")
async def test_no_validators(stage: Stage) -> None:
    stage.answers(*STALE)
    assert await stage.reuse() is API


@clause(
    "RFC 9111", "4.3.3", "A 304 lets the stored body be used, a 200 replaces it, another answer is passed on"
)
@table(
    "answer, status, body",
    {
        "304": (knows('"v1"', FRESH), 200, b"1"),
        "304 without validators": (reply(FRESH, status=304), 200, b"1"),
        "200": (reply(FRESH, 'ETag: "v2"'), 200, b"2"),
        "200 with the same ETag": (reply(FRESH, ETAG), 200, b"2"),
        "203": (reply(FRESH, status=203), 203, b"2"),
        "301": (reply("Location: /", status=301), 301, b"2"),
        "404": (reply(status=404), 404, b"2"),
        "410": (reply(FRESH, status=410), 410, b"2"),
        "500": (reply(status=500), 500, b"2"),
        "502": (reply(status=502), 502, b"2"),
        "503": (reply(status=503), 503, b"2"),
        "504": (reply(status=504), 504, b"2"),
    },
)
async def test_what_a_validation_brings(stage: Stage, answer: Reply, status: int, body: bytes) -> None:
    stage.answers_in_turn(reply(*STALE, ETAG), answer)
    seen = await stage.second()
    assert (seen.source, seen.status, seen.body) == (VALIDATED, status, body)


@clause("RFC 9111", "4.3.4", "What was validated or replaced is fresh for the next client")
@table(
    "answer, body",
    {"304": (knows('"v1"', FRESH), b"1"), "200": (reply(FRESH, 'ETag: "v2"', body=b"2"), b"2")},
)
async def test_a_validation_is_for_the_next_as_well(stage: Stage, answer: Reply, body: bytes) -> None:
    stage.answers_in_turn(reply(*STALE, ETAG), answer)
    await stage.second()
    seen = await stage.ask()
    assert (seen.source, seen.status, seen.body) == (STORE, 200, body)


@clause("RFC 9111", "5.2.2.4", "What has no-cache is kept, and used after a validation, each time")
@pytest.mark.parametrize(
    "control",
    [
        "no-cache",
        "NO-CACHE",
        "no-cache, max-age=60",
        "max-age=60, no-cache",
        "s-maxage=60, no-cache",
        "public, no-cache",
    ],
)
async def test_no_cache_is_validated_each_time(stage: Stage, control: str) -> None:
    line = f"Cache-Control: {control}"
    stage.answers_in_turn(reply(line, ETAG), knows('"v1"', line))
    seen = [await stage.ask() for _ in range(3)]

    assert [(one.source, one.body) for one in seen] == [(API, b"1"), (VALIDATED, b"1"), (VALIDATED, b"1")]


@clause("RFC 9111", "5.2.2.4", "no-cache goes before Expires as well")
async def test_no_cache_before_expires(stage: Stage) -> None:
    stage.answers("Cache-Control: no-cache", "Expires: <+60>", ETAG)
    assert await stage.reuse() is VALIDATED


@clause(
    "RFC 9111",
    "4.3.3",
    "A 304 about another answer than the stored one has the API asked again, without conditions",
)
@table(
    "stored, validator",
    {
        "another strong ETag": (ETAG, 'ETag: "v2"'),
        "a strong one for a weak one": ('ETag: W/"v1"', 'ETag: "v2"'),
        "another weak ETag": ('ETag: W/"v1"', 'ETag: W/"v2"'),
        "another weak one for a strong one": (ETAG, 'ETag: W/"v2"'),
        "another Last-Modified": (MODIFIED, "Last-Modified: Thu, 02 Jan 2020 00:00:00 GMT"),
    },
)
async def test_a_304_about_another_answer(stage: Stage, stored: str, validator: str) -> None:
    stage.answers_in_turn(
        reply(*STALE, stored), reply(validator, FRESH, status=304), reply(FRESH, validator, body=b"new")
    )
    seen = await stage.second()

    assert (seen.status, seen.body) == (200, b"new")
    assert [bool(one.get("if-none-match") or one.get("if-modified-since")) for one in seen.asked] == [
        True,
        False,
    ]


@clause("RFC 9111", "4.3.2", "A client's condition is judged by what the validation left in the store")
@table(
    "line, answer, status, body",
    {
        "its copy is still good": ('If-None-Match: "v1"', knows('"v1"', FRESH), 304, b""),
        "its copy is older": ('If-None-Match: "v0"', knows('"v1"', FRESH), 200, b"1"),
        "its copy is the new one": ('If-None-Match: "v2"', reply(FRESH, 'ETag: "v2"'), 304, b""),
        "its copy was good until now": ('If-None-Match: "v1"', reply(FRESH, 'ETag: "v2"'), 200, b"2"),
        "any copy, validated": ("If-None-Match: *", knows('"v1"', FRESH), 304, b""),
        "its date is good": (SINCE, knows('"v1"', FRESH), 304, b""),
        "its date is older": (
            "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
            knows('"v1"', FRESH),
            200,
            b"1",
        ),
    },
)
async def test_a_condition_and_a_validation(
    stage: Stage, line: str, answer: Reply, status: int, body: bytes
) -> None:
    def api(asked: Asked) -> Reply:
        if len(stage.asked) == 1:
            return reply(*STALE, ETAG, MODIFIED)
        # An API that keeps to its own ETag, whichever of the conditions it is sent.
        if answer.status == 304:
            return answer if '"v1"' in asked.get("if-none-match") else reply(FRESH, ETAG, body=b"1")
        return knows('"v2"', FRESH) if '"v2"' in asked.get("if-none-match") else answer

    stage.answers_by(api)
    seen = await stage.second(line)
    assert (seen.status, seen.body) == (status, body)


@clause("RFC 9110", "13.1", "While nothing is stored a client's own conditions reach the API as they are")
@pytest.mark.parametrize(
    "lines",
    [
        ['If-None-Match: "v1"'],
        ['If-None-Match: W/"a", "b"'],
        ["If-None-Match: *"],
        [SINCE],
        ['If-None-Match: "v1"', SINCE],
    ],
    ids=" / ".join,
)
async def test_a_first_conditional_request(stage: Stage, lines: list[str]) -> None:
    stage.answers_in_turn(reply(ETAG, FRESH, "X: 1", status=304), reply(ETAG, FRESH))
    first = await stage.ask(*lines)
    names = (b"if-none-match", b"if-modified-since")
    got = [f"{n.decode()}: {v.decode()}" for n, v in first.asked[0].fields if n.lower() in names]

    assert (got, first.status, first.get("x"), first.body) == (lines, 304, "1", b"")
    # The API's 304 is for who asked: it is no answer for the next, who has nothing.
    second = await stage.ask()
    assert (second.source, second.status, second.body) == (API, 200, b"2")


@clause(
    "RFC 9110",
    "13.1",
    "A first conditional request that the API answers with 200 gets that, and so does the next",
)
async def test_a_first_conditional_request_that_is_answered(stage: Stage) -> None:
    stage.answers(FRESH, ETAG)
    first, second = await stage.ask('If-None-Match: "v0"'), await stage.ask()

    assert (first.status, first.body) == (200, b"1")
    assert second.status == 200
    assert second.body == (b"1" if second.source is STORE else b"2")


@clause(
    "RFC 9111",
    "4.3.3",
    "A validation that gets no answer is an error of the gateway, or a stale answer where allowed",
)
async def test_a_validation_without_answer(stage: Stage) -> None:
    stage.answers_in_turn(reply("Cache-Control: max-age=60, must-revalidate", "Age: 90", ETAG), SILENT)
    seen = await stage.second()
    assert seen.status in (502, 504)
