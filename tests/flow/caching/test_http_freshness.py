"""How long an answer is fresh: what the API says in Cache-Control and Expires, however it says it."""

import pytest

from tests.claims import clause
from tests.flow.caching.stage import API, STORE, Source, Stage, table
from tests.flow.origin import Origin
from tests.flow.processes import running

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Thursday; far enough away to be fresh, whatever the day is.
FAR = "Thu, 01 Jan 2037 09:00:00 GMT"


@clause(
    "RFC 9111", "5.2.2.1", "max-age is how many seconds an answer is fresh, in either form of its argument"
)
@table(
    "lines",
    {
        "token": ["Cache-Control: max-age=60"],
        "capitals": ["Cache-Control: MAX-AGE=60"],
        "mixed case": ["Cache-Control: Max-Age=60"],
        "field name in lower case": ["cache-control: max-age=60"],
        "quoted": ['Cache-Control: max-age="60"'],
        "leading zero": ["Cache-Control: max-age=060"],
        "many leading zeros": ["Cache-Control: max-age=00000000000000000060"],
        "after another": ["Cache-Control: public, max-age=60"],
        "before another": ["Cache-Control: max-age=60, public"],
        "without white space": ["Cache-Control: public,max-age=60,no-transform"],
        "with much white space": ["Cache-Control:  public \t,\t max-age=60  "],
        "in a second line": ["Cache-Control: public", "Cache-Control: max-age=60"],
        "in a first line": ["Cache-Control: max-age=60", "Cache-Control: public"],
        "beside the same": ["Cache-Control: max-age=60, max-age=60"],
        "without Date": ["Cache-Control: max-age=60"],
        "with Date": ["Cache-Control: max-age=60", "Date: <+0>"],
    },
)
async def test_max_age_makes_fresh(stage: Stage, lines: list[str]) -> None:
    stage.answers(*lines)
    assert await stage.reuse() is STORE


@clause("RFC 9111", "1.2.2", "A number too large to hold is 2^31, and never wraps")
@pytest.mark.parametrize(
    "seconds",
    [
        "2147483647",
        "2147483648",
        "2147483649",
        "4294967296",
        "4294967295",
        "9223372036854775808",
        "99999999999999999999",
        "9" * 400,
    ],
    ids=lambda seconds: f"{len(seconds)} digits, {seconds[:10]}",
)
@pytest.mark.parametrize("name", ["max-age", "s-maxage"])
async def test_large_numbers_are_large(stage: Stage, name: str, seconds: str) -> None:
    stage.answers(f"Cache-Control: {name}={seconds}", "Age: 1000000")
    assert await stage.reuse() is STORE


@clause("RFC 9111", "5.2.3", "Unknown directives are passed over, whatever their arguments look like")
@pytest.mark.parametrize(
    "control",
    [
        "foo, max-age=60",
        "max-age=60, foo",
        "foo=bar, max-age=60",
        'foo="bar", max-age=60',
        'foo="bar, baz", max-age=60',
        'foo="bar\\"baz", max-age=60',
        'foo="bar\\\\", max-age=60',
        'foo="", max-age=60',
        'community="UCI", max-age=60',
        'max-age=60, foo="max-age=0"',
        'max-age=60, foo="a, max-age=0, b"',
        'max-age=60, foo="no-store"',
        'max-age=60, foo="a, no-store, b"',
        'max-age=60, foo="private"',
        "max-age=60, x-no-store",
        "max-age=60, no-storex",
        "max-age=60, privately",
        "max-age=60, foo=no-store",
        "s-max-age=0, max-age=60",
        "x-max-age=0, max-age=60",
        "!#$%&'*+.^_`|~=1, max-age=60",
    ],
)
async def test_unknown_directives_change_nothing(stage: Stage, control: str) -> None:
    stage.answers(f"Cache-Control: {control}")
    assert await stage.reuse() is STORE


@clause(
    "RFC 9110", "5.6.1.2", "Empty list members are none; a malformed one is passed over, its neighbours count"
)
@pytest.mark.parametrize(
    "control",
    [
        ", max-age=60",
        "max-age=60,",
        ",,max-age=60,,",
        "public, , ,max-age=60",
        "=, max-age=60",
        "=5, max-age=60",
        "max-age=60, @",
        "foo bar, max-age=60",
        "max-age=60, foo bar=baz",
        "max-age=60, (a)",
    ],
)
async def test_malformed_members_leave_their_neighbours(stage: Stage, control: str) -> None:
    stage.answers(f"Cache-Control: {control}")
    assert await stage.reuse() is STORE


@clause(
    "RFC 9111", "4.2.1", "Freshness that can't be read is none: the answer is stale, whatever Expires says"
)
@pytest.mark.parametrize("name", ["max-age", "s-maxage"])
@pytest.mark.parametrize(
    "argument",
    [
        "=0",
        '="0"',
        "=00",
        "=-1",
        "=-60",
        "=+60",
        "=60.0",
        "=60.5",
        "=.5",
        "=1e3",
        "=0x3c",
        "=60s",
        "=sixty",
        "='60'",
        "=\xb2",
        "=6\xb9",
        '="-60"',
        '="60.5"',
        '="60s"',
        '=" 60"',
        '=""',
        "",
        "=60;x",
    ],
)
async def test_unreadable_freshness_is_none(stage: Stage, name: str, argument: str) -> None:
    stage.answers(f"Cache-Control: {name}{argument}", "Expires: <+60>")
    assert await stage.reuse() is API


@clause("RFC 9111", "5.2", "What is no directive of this name gives no freshness")
@pytest.mark.parametrize(
    "control",
    [
        'x="max-age=60"',
        'x="a, max-age=60, b"',
        'x="\\", max-age=60, y=\\""',
        "xmax-age=60",
        "max_age=60",
        "max-agex=60",
        "maxage=60",
        "s-max-age=60",
        "max-age:60",
        "max-age=6 0",
        'max-age="60" x',
        'max-age="60"0',
        'max-age="60',
        'max-age=60"',
        "public;max-age=60",
        "public max-age=60",
        "public",
        "immutable",
        "must-revalidate",
        "no-transform",
        "stale-while-revalidate=60",
        "",
    ],
)
async def test_other_words_give_no_freshness(stage: Stage, control: str) -> None:
    stage.answers(f"Cache-Control: {control}")
    assert await stage.reuse() is API


@clause("RFC 9111", "4.2.1", "s-maxage goes before max-age, and max-age before Expires")
@table(
    "lines, source",
    {
        "s-maxage alone": (["Cache-Control: s-maxage=60"], STORE),
        "S-MaxAge": (["Cache-Control: S-MaxAge=60"], STORE),
        "long s-maxage, short max-age": (["Cache-Control: s-maxage=60, max-age=0"], STORE),
        "short max-age, long s-maxage": (["Cache-Control: max-age=0, s-maxage=60"], STORE),
        "short s-maxage, long max-age": (["Cache-Control: s-maxage=0, max-age=60"], API),
        "long max-age, short s-maxage": (["Cache-Control: max-age=60, s-maxage=0"], API),
        "two lines": (["Cache-Control: max-age=60", "Cache-Control: s-maxage=0"], API),
        "s-maxage, past Expires": (["Cache-Control: s-maxage=60", "Expires: <-60>"], STORE),
        "s-maxage=0, future Expires": (["Cache-Control: s-maxage=0", "Expires: <+60>"], API),
        "max-age, past Expires": (["Cache-Control: max-age=60", "Expires: <-60>"], STORE),
        "max-age, Expires: 0": (["Cache-Control: max-age=60", "Expires: 0"], STORE),
        "Expires: 0, max-age": (["Expires: 0", "Cache-Control: max-age=60"], STORE),
        "max-age=0, future Expires": (["Cache-Control: max-age=0", "Expires: <+60>"], API),
        "unreadable s-maxage, max-age": (["Cache-Control: s-maxage=a, max-age=60"], API),
        "s-maxage, unreadable max-age": (["Cache-Control: s-maxage=60, max-age=a"], STORE),
        "no freshness in Cache-Control, Expires": (["Cache-Control: public", "Expires: <+60>"], STORE),
    },
)
async def test_the_more_specific_freshness_wins(stage: Stage, lines: list[str], source: Source) -> None:
    stage.answers(*lines)
    assert await stage.reuse() is source


@clause("RFC 9111", "4.2.1", "Freshness that is given twice and differs makes the answer stale")
@table(
    "lines",
    {
        "max-age": ["Cache-Control: max-age=60, max-age=120"],
        "max-age, one of them 0": ["Cache-Control: max-age=60, max-age=0"],
        "max-age in two lines": ["Cache-Control: max-age=0", "Cache-Control: max-age=60"],
        "max-age, one of them unreadable": ["Cache-Control: max-age=60, max-age=a"],
        "s-maxage": ["Cache-Control: s-maxage=60, s-maxage=0"],
        "Expires": ["Expires: <+60>", "Expires: <+3600>"],
        "Expires, the first past": ["Expires: <-60>", "Expires: <+60>"],
        "Expires, the second past": ["Expires: <+60>", "Expires: <-60>"],
        "Expires, the second unreadable": ["Expires: <+60>", "Expires: 0"],
    },
)
async def test_contradictions_are_stale(stage: Stage, lines: list[str]) -> None:
    stage.answers(*lines)
    assert await stage.reuse() is API


@clause("RFC 9110", "5.6.7", "Expires is read in all three forms of an HTTP-date")
@table(
    "date, source",
    {
        "IMF-fixdate, future": ("<+3600>", STORE),
        "IMF-fixdate, past": ("<-3600>", API),
        "RFC 850, future": ("<+3600|%A, %d-%b-%y %H:%M:%S GMT>", STORE),
        "RFC 850, past": ("<-3600|%A, %d-%b-%y %H:%M:%S GMT>", API),
        "asctime, future": ("<+3600|%a %b %e %H:%M:%S %Y>", STORE),
        "asctime, past": ("<-3600|%a %b %e %H:%M:%S %Y>", API),
        "asctime, one-digit day": ("Thu Jan  1 09:00:00 2037", STORE),
        "a fixed far one": (FAR, STORE),
        "beyond 32 bits": ("Thu, 01 Jan 2195 09:00:00 GMT", STORE),
        "year 9999": ("Fri, 31 Dec 9999 23:59:59 GMT", STORE),
        "the epoch": ("Thu, 01 Jan 1970 00:00:00 GMT", API),
        "before the epoch": ("Tue, 01 Jan 1952 00:00:00 GMT", API),
        "RFC 850 of the last century": ("Sunday, 06-Nov-94 08:49:37 GMT", API),
        "a leap day": ("Tue, 29 Feb 2028 00:00:00 GMT", STORE),
        "a leap second": ("Wed, 31 Dec 2036 23:59:60 GMT", STORE),
    },
)
async def test_all_forms_of_a_date(stage: Stage, date: str, source: Source) -> None:
    stage.answers(f"Expires: {date}")
    assert await stage.reuse() is source


@clause("RFC 9111", "4.2", "Dates are compared without regard to case")
@pytest.mark.parametrize("date", [FAR.lower(), FAR.upper(), "thu jan  1 09:00:00 2037"])
async def test_dates_in_any_case(stage: Stage, date: str) -> None:
    stage.answers(f"Expires: {date}")
    assert await stage.reuse() is STORE


@clause("RFC 9111", "5.3", "An Expires that is no HTTP-date is in the past")
@pytest.mark.parametrize(
    "date",
    [
        "0",
        "-1",
        "",
        "now",
        "never",
        "2114384400",
        "2037-01-01T09:00:00Z",
        "01 Jan 2037 09:00:00 GMT",
        "Thu 01 Jan 2037 09:00:00 GMT",
        "Thu, 01 Jan 2037 09:00:00",
        "Thu, 01 Jan 2037 09:00 GMT",
        "Thu, 01 Jan 2037 9:00:00 GMT",
        "Thu, 01 Jan 2037 09:0:00 GMT",
        "Thu, 01 Jan 2037 09:00:0 GMT",
        "Thu, 1 Jan 2037 09:00:00 GMT",
        "Thu, 01 Jan 37 09:00:00 GMT",
        "Thu, 01-Jan-2037 09:00:00 GMT",
        "Thu, 01-Jan-37 09:00:00 GMT",
        "Thu, 01 January 2037 09:00:00 GMT",
        "Thu, 01 01 2037 09:00:00 GMT",
        "Thu, 32 Jan 2037 09:00:00 GMT",
        "Thu, 00 Jan 2037 09:00:00 GMT",
        "Mon, 30 Feb 2037 09:00:00 GMT",
        "Thu, 01 Jam 2037 09:00:00 GMT",
        "Thu, 01 Jan 2037 24:00:00 GMT",
        "Thu, 01 Jan 2037 09:60:00 GMT",
        "Thu, 01 Jan 2037 09:00:61 GMT",
        "Thu, 01 Jan 2037 09:00:00 GMTX",
        "Thu, 01 Jan 2037 09:00:00 GMT x",
        "Thu, 01 Jan 2037  09:00:00 GMT",
        "Thu,01 Jan 2037 09:00:00 GMT",
        "Thu, 01 Jan +037 09:00:00 GMT",
        "Thu, 01 Jan 02037 09:00:00 GMT",
        '"Thu, 01 Jan 2037 09:00:00 GMT"',
        "Thu, 01 Jan 2037 09:00:00 GMT, 0",
    ],
)
async def test_an_unreadable_expires_is_past(stage: Stage, date: str) -> None:
    stage.answers(f"Expires: {date}")
    assert await stage.reuse() is API


@clause("RFC 9111", "4.2", "A date of another zone than GMT is no date")
@pytest.mark.parametrize("zone", ["UTC", "Z", "EST", "CET", "+0000", "-0500", "GMT+1", "UT"])
async def test_only_gmt_is_a_zone(stage: Stage, zone: str) -> None:
    stage.answers(f"Expires: {FAR.replace('GMT', zone)}")
    assert await stage.reuse() is API


@clause("RFC 9111", "4.2", "The time zone of this machine has no say")
async def test_the_machine_s_time_zone(api: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-14")
    async with running(f'upstream: {{url: {api.url}}}\nroutes: [{{match: "/**"}}]') as proxy:
        for date, source in (
            ("<+3600>", STORE),
            ("<-3600>", API),
            ("<+3600|%a %b %e %H:%M:%S %Y>", STORE),
            ("<-3600|%A, %d-%b-%y %H:%M:%S GMT>", API),
        ):
            stage = Stage(api, proxy)
            stage.answers(f"Expires: {date}")
            assert await stage.reuse() is source, date


@clause("RFC 9111", "4.2.1", "Expires counts from the answer's own Date, not from this machine's clock")
@table(
    "lines, source",
    {
        "a minute after Date, which is now": (["Date: <+0>", "Expires: <+60>"], STORE),
        "the same as Date": (["Date: <+0>", "Expires: <+0>"], API),
        "before Date": (["Date: <+0>", "Expires: <-1>"], API),
        "of a slow clock, still fresh": (["Date: <-50>", "Expires: <+50>"], STORE),
        "of a slow clock, by now stale": (["Date: <-100>", "Expires: <-40>"], API),
        "of a fast clock": (["Date: <+3600>", "Expires: <+3660>"], STORE),
        "of a fast clock, before its Date": (["Date: <+3600>", "Expires: <+1800>"], API),
        "a day after an old Date": (["Date: <-3600>", "Expires: <+82800>"], STORE),
        "without Date, future": (["Expires: <+60>"], STORE),
        "without Date, past": (["Expires: <-60>"], API),
        "with an RFC 850 Date": (
            ["Date: <+0|%A, %d-%b-%y %H:%M:%S GMT>", "Expires: <+60>"],
            STORE,
        ),
    },
)
async def test_expires_counts_from_date(stage: Stage, lines: list[str], source: Source) -> None:
    stage.answers(*lines)
    assert await stage.reuse() is source


@clause("RFC 9111", "3", "What says nothing of its freshness is not stored, unless the operator wishes")
@table(
    "lines",
    {
        "nothing": [],
        "Last-Modified": ["Last-Modified: <-86400>"],
        "ETag": ['ETag: "v1"'],
        "public": ["Cache-Control: public"],
        "public and validators": ["Cache-Control: public", 'ETag: "v1"', "Last-Modified: <-86400>"],
        "Date alone": ["Date: <-10>"],
        "Age alone": ["Age: 10"],
    },
)
@pytest.mark.parametrize("status", [200, 301, 404, 500])
async def test_no_freshness_is_not_stored(stage: Stage, status: int, lines: list[str]) -> None:
    stage.answers(*lines, status=status)
    assert await stage.reuse() is API
