"""CDN-Cache-Control: what the API says to caches like this one alone."""

import pytest

from tests.claims import clause
from tests.flow.caching.stage import API, ETAG, FRESH, STORE, VALIDATED, Source, Stage, reply, table

pytestmark = pytest.mark.asyncio(loop_scope="module")


@clause("RFC 9213", "2.2", "A valid CDN-Cache-Control counts, and Cache-Control and Expires don't")
@table(
    "target, others, source",
    {
        "alone": ("max-age=60", [], STORE),
        "longer than max-age": ("max-age=60", ["Cache-Control: max-age=0"], STORE),
        "longer than s-maxage": ("max-age=60", ["Cache-Control: s-maxage=0"], STORE),
        "beside no-store": ("max-age=60", ["Cache-Control: no-store"], STORE),
        "beside private": ("max-age=60", ["Cache-Control: private"], STORE),
        "beside no-cache": ("max-age=60", ["Cache-Control: no-cache"], STORE),
        "beside must-understand": ("max-age=60", ["Cache-Control: must-understand, no-store"], STORE),
        "beside a past Expires": ("max-age=60", ["Expires: <-60>"], STORE),
        "beside Expires: 0": ("max-age=60", ["Expires: 0"], STORE),
        "after Cache-Control's contradiction": (
            "max-age=60",
            ["Cache-Control: max-age=0, max-age=5"],
            STORE,
        ),
        "max-age=0": ("max-age=0", [FRESH], API),
        "no-store": ("no-store", [FRESH], API),
        "no-store and max-age": ("max-age=60, no-store", [FRESH], API),
        "private": ("private", [FRESH], API),
        "private and max-age": ("private, max-age=60", [FRESH], API),
        "no-store=?1, which is the same": ("no-store=?1, max-age=60", [FRESH], API),
        "s-maxage": ("s-maxage=60", ["Cache-Control: max-age=0"], STORE),
        "s-maxage goes before max-age": ("s-maxage=60, max-age=0", ["Cache-Control: max-age=0"], STORE),
        "s-maxage=0 goes before max-age": ("s-maxage=0, max-age=60", [FRESH], API),
        "no freshness, max-age": ("public", [FRESH], API),
        "no freshness, Expires": ("public", ["Expires: <+60>"], API),
        "an unknown word": ("foo", [FRESH], API),
    },
)
async def test_the_target_s_own_word(stage: Stage, target: str, others: list[str], source: Source) -> None:
    stage.answers(*others, f"CDN-Cache-Control: {target}")
    assert await stage.reuse() is source


@clause(
    "RFC 9213",
    "2.1",
    "CDN-Cache-Control is a Dictionary of Structured Fields: what else is in it changes nothing",
)
@pytest.mark.parametrize(
    "target",
    [
        "max-age=60, foo",
        "foo, max-age=60",
        "foo=bar, max-age=60",
        'foo="bar, baz", max-age=60',
        'foo="max-age=0", max-age=60',
        "foo=(a b), max-age=60",
        "foo=:YQ==:, max-age=60",
        "foo=1.5, max-age=60",
        "foo=?0, max-age=60",
        "max-age=60;x",
        "max-age=60;x=1;y=?0",
        'max-age=60;x="max-age=0"',
        "foo;max-age=0, max-age=60",
        "max-age=60,foo",
        "max-age=60 , foo",
        "max-age=60\t,\tfoo",
        " max-age=60 ",
        "max-age=060",
        "max-age=999999999999999",
        "*a=1, max-age=60",
        "a.b_c-d*e=1, max-age=60",
    ],
)
async def test_what_else_is_in_it(stage: Stage, target: str) -> None:
    stage.answers("Cache-Control: no-store", f"CDN-Cache-Control: {target}")
    assert await stage.reuse() is STORE


@clause("RFC 9651", "3.2", "Of a key that is given twice the last counts; lines are one field")
@table(
    "lines, source",
    {
        "the last is longer": (["max-age=0, max-age=60"], STORE),
        "the last is shorter": (["max-age=60, max-age=0"], API),
        "two lines": (["public", "max-age=60"], STORE),
        "two lines, the last is longer": (["max-age=0", "max-age=60"], STORE),
        "two lines, the last is shorter": (["max-age=60", "max-age=0"], API),
        "two lines, no-store": (["max-age=60", "no-store"], API),
        "two lines, one malformed": (["max-age=60", "Foo"], API),
        "two lines, the first empty": (["", "max-age=60"], API),
    },
)
async def test_keys_and_lines(stage: Stage, lines: list[str], source: Source) -> None:
    stage.answers("Cache-Control: no-store", *(f"CDN-Cache-Control: {line}" for line in lines))
    assert await stage.reuse() is source


MALFORMED = [
    "Max-Age={}",
    "MAX-AGE={}",
    "max-age = {}",
    "max-age= {}",
    "max-age ={}",
    "max-age={},",
    "max-age={}, ",
    ",max-age={}",
    "max-age={},,foo",
    "max-age={} foo",
    "max-age={};",
    "max-age={}; ;x",
    "max-age={};X=1",
    "max-age={}, Foo",
    "max-age={}, =1",
    "max-age={}, foo=",
    "max-age={}, foo=(a",
    'max-age={}, foo="bar',
    'max-age={}, foo="\\x"',
    "max-age={}, foo=1.",
    "max-age={}, foo=1.2345",
    "max-age={}, foo=1234567890123456",
    "max-age={}, foo=?2",
    "max-age={}, foo=\xe4",
    'max-age={}, foo="\xe4"',
    "max-age={}x",
    "max-age={}s",
    "1max-age={}",
    "max-age:{}",
    "{}",
    '"max-age={}"',
    "@!",
    "",
]


@clause("RFC 9213", "2.1", "A CDN-Cache-Control that is no Dictionary, or empty, counts as absent, all of it")
@pytest.mark.parametrize("target", MALFORMED)
@table(
    "seconds, control, source", {"it allows": (60, "no-store", API), "it forbids": (0, "max-age=60", STORE)}
)
async def test_malformed_fields_are_absent(
    stage: Stage, target: str, seconds: int, control: str, source: Source
) -> None:
    stage.answers(f"Cache-Control: {control}", f"CDN-Cache-Control: {target.format(seconds)}")
    assert await stage.reuse() is source


@clause("RFC 9213", "2.1", "A malformed CDN-Cache-Control forbids nothing either")
@pytest.mark.parametrize(
    "target", ["no-store,", "No-Store", "no-store, Foo", "no-store max-age=0", "private;"]
)
async def test_malformed_fields_forbid_nothing(stage: Stage, target: str) -> None:
    stage.answers(FRESH, f"CDN-Cache-Control: {target}")
    assert await stage.reuse() is STORE


@clause("RFC 9213", "2.1", "Freshness of a wrong type in CDN-Cache-Control is none")
@pytest.mark.parametrize("name", ["max-age", "s-maxage"])
@pytest.mark.parametrize(
    "value",
    [
        '="60"',
        "=60.5",
        "=60.0",
        "=?1",
        "=?0",
        "",
        "=sixty",
        "=(60)",
        "=(1 60)",
        "=:NjA=:",
        "=-60",
        "=-1",
        "=@60",
    ],
)
async def test_freshness_of_a_wrong_type(stage: Stage, name: str, value: str) -> None:
    stage.answers(FRESH, f"CDN-Cache-Control: public, {name}{value}")
    assert await stage.reuse() is API


@clause("RFC 9213", "2.3", "Age counts against its freshness")
@table("age, source", {"young": (30, STORE), "old": (61, API)})
async def test_age_counts(stage: Stage, age: int, source: Source) -> None:
    stage.answers("Cache-Control: max-age=3600", "CDN-Cache-Control: max-age=60", f"Age: {age}")
    assert await stage.reuse() is source


@clause("RFC 9213", "2.2", "no-cache and staleness by CDN-Cache-Control have the API asked")
@table(
    "target, age, status, source",
    {
        "no-cache": ("no-cache", 0, 200, VALIDATED),
        "no-cache and max-age": ("no-cache, max-age=60", 0, 200, VALIDATED),
        "stale": ("max-age=60", 90, 200, VALIDATED),
        "stale, the API fails": ("max-age=60", 90, 500, VALIDATED),
    },
)
async def test_other_directives(stage: Stage, target: str, age: int, status: int, source: Source) -> None:
    stage.answers_in_turn(
        reply(FRESH, f"CDN-Cache-Control: {target}", f"Age: {age}", ETAG), reply(status=status)
    )
    seen = await stage.second()
    assert (seen.source, seen.status) == (source, status)


@clause(
    "RFC 9213",
    "2.2",
    "Stale windows are taken from the field that counts, CDN-Cache-Control or Cache-Control",
)
@table(
    "target, control, status, body",
    {
        "its own": ("max-age=60, stale-if-error=60", "max-age=60", 200, b"1"),
        "Cache-Control's": ("max-age=60", "max-age=60, stale-if-error=60", 500, b"2"),
        "its own, forbidden": (
            "max-age=60, stale-if-error=60, must-revalidate",
            "max-age=60, stale-if-error=60",
            500,
            b"2",
        ),
        "its own, forbidden by Cache-Control": (
            "max-age=60, stale-if-error=60",
            "max-age=60, must-revalidate",
            200,
            b"1",
        ),
        "its own, of a wrong type": ('max-age=60, stale-if-error="60"', "max-age=60", 500, b"2"),
    },
)
async def test_stale_windows(stage: Stage, target: str, control: str, status: int, body: bytes) -> None:
    stage.answers_in_turn(
        reply(f"Cache-Control: {control}", f"CDN-Cache-Control: {target}", "Age: 90"), reply(status=500)
    )
    seen = await stage.second()
    assert (seen.status, seen.body) == (status, body)


@clause(
    "RFC 9213",
    "2.2",
    "CDN-Cache-Control says too whether an answer to a request with Authorization is for all",
)
@table(
    "target, control, source",
    {
        "public": ("public, max-age=60", "max-age=60", STORE),
        "only in Cache-Control": ("max-age=60", "public, max-age=60", API),
    },
)
async def test_authorization(stage: Stage, target: str, control: str, source: Source) -> None:
    stage.answers(f"Cache-Control: {control}", f"CDN-Cache-Control: {target}")
    assert await stage.reuse(first=["Authorization: Basic YTpi"]) is source


@clause("RFC 9213", "3.1", "CDN-Cache-Control is passed on to the caches behind, as it came")
@pytest.mark.parametrize("target", ["max-age=60", "max-age=60 , foo;x=1", "Max-Age=60", "no-store", ""])
async def test_it_is_passed_on(stage: Stage, target: str) -> None:
    stage.answers(FRESH, f"CDN-Cache-Control: {target}")
    seen = [await stage.ask(), await stage.ask()]
    assert [one.all("cdn-cache-control") for one in seen] == [[target]] * 2
    assert [one.all("cache-control") for one in seen] == [["max-age=60"]] * 2


@clause(
    "RFC 9213", "2.2", "Fields for other targets are not for us; CDN-Cache-Control in a request means nothing"
)
@table(
    "answer, asked, source",
    {
        "another target": (["Foo-Cache-Control: max-age=60"], [], API),
        "another target forbids": ([FRESH, "Foo-CDN-Cache-Control: no-store"], [], STORE),
        "in a request": ([FRESH], ["CDN-Cache-Control: no-cache"], STORE),
    },
)
async def test_other_targets(stage: Stage, answer: list[str], asked: list[str], source: Source) -> None:
    stage.answers(*answer)
    assert await stage.reuse(*asked) is source


@clause("RFC 9213", "2.2", "Freshness by CDN-Cache-Control stores neither Set-Cookie nor Vary: *")
@pytest.mark.parametrize("line", ["Set-Cookie: a=b", "Vary: *"])
async def test_what_else_forbids_storing(stage: Stage, line: str) -> None:
    stage.answers("CDN-Cache-Control: max-age=60", line)
    assert await stage.reuse() is API
