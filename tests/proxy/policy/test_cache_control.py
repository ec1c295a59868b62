from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.cache_control import (
    MAX_DELTA_S,
    applies,
    delta_seconds,
    directives,
    format_http_date,
    http_date,
    initial_age,
    named_fields,
)

# 6 November 1994, 08:49:37 UTC: the example of RFC 9110 section 5.6.7.
EXAMPLE = 784111777.0
NOW = 1_800_000_000.0


def said(*lines: bytes) -> dict[str, str | None]:
    return dict(directives(tuple((b"Cache-Control", line) for line in lines)))


# -- Cache-Control (RFC 9111 section 5.2) --


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param((), {}, id="no field"),
        pytest.param((b"",), {}, id="an empty field"),
        pytest.param((b"no-store",), {"no-store": None}, id="5.2 a directive without an argument"),
        pytest.param((b"max-age=60",), {"max-age": "60"}, id="5.2.2.1 token form"),
        pytest.param((b'max-age="60"',), {"max-age": "60"}, id="5.2 quoted-string form is accepted too"),
        pytest.param((b"Max-AGE=60",), {"max-age": "60"}, id="5.2 names have no case"),
        pytest.param(
            (b'private="set-cookie, x-id", max-age=5',),
            {"private": "set-cookie, x-id", "max-age": "5"},
            id="5.2.2.7 quoted commas separate nothing",
        ),
        pytest.param((b'ext="a\\"b\\\\c", no-store',), {"ext": 'a"b\\c', "no-store": None}, id="quoted-pair"),
        pytest.param((b'ext="no-store", max-age=1',), {"ext": "no-store", "max-age": "1"}, id="quoted only"),
        pytest.param((b'private=""',), {"private": ""}, id="an empty quoted argument"),
        pytest.param((b"max-age=",), {"max-age": ""}, id="an argument left out"),
        pytest.param((b"max-age = 60",), {"max-age": "60"}, id="white space around = is forgiven"),
        pytest.param((b"max-age=9, max-age=9",), {"max-age": "9"}, id="4.2.1 the same twice"),
        pytest.param((b"max-age=1, max-age=9",), {"max-age": ""}, id="4.2.1 two that differ: unreadable"),
        pytest.param((b"max-age=9", b"max-age"), {"max-age": ""}, id="4.2.1 on two lines as well"),
        pytest.param((b'no-cache="a", no-cache="b"',), {"no-cache": "a,b"}, id="5.2.2.4 fields add up"),
        pytest.param((b'no-cache="a", no-cache',), {"no-cache": None}, id="5.2.2.4 the whole goes first"),
        pytest.param((b"private=a",), {"private": None}, id="5.2.2.7 unquoted: the whole"),
        pytest.param(
            (b"public", b"max-age=3"), {"public": None, "max-age": "3"}, id="RFC 9110 5.3 several lines"
        ),
        pytest.param(
            (b" ,, no-cache ,\t, max-age=3,",),
            {"no-cache": None, "max-age": "3"},
            id="RFC 9110 5.6.1 empty members",
        ),
        pytest.param((b"@, no-store",), {"no-store": None}, id="a member that is no directive"),
        pytest.param((b"max age=5, no-store",), {"no-store": None}, id="white space within a name"),
        pytest.param((b"max-age=5 6, no-store",), {"no-store": None}, id="white space within an argument"),
        pytest.param((b'a="b"c, no-store',), {"no-store": None}, id="something behind a quoted argument"),
        pytest.param(
            (b'a="b, no-store, c@',), {"no-store": None}, id="a quote without its end hides nothing"
        ),
        pytest.param(
            (b'a="b, no-store\\',), {"no-store": None}, id="what follows a prohibition does not undo it"
        ),
        pytest.param((b'private="X', b"max-age=5 x"), {"private": None}, id="nor does an open quote"),
        pytest.param((b"no-stores x",), {}, id="another word is no prohibition"),
        pytest.param(
            (b'"x, y", no-store',), {"no-store": None}, id="a quoted member hides nothing behind it"
        ),
        pytest.param(
            (b'a="b', b'no-store, c="d'), {"no-store": None}, id="quotes do not reach from line to line"
        ),
        pytest.param((b"=5, no-store",), {"no-store": None}, id="an argument without a name"),
        pytest.param((b"extension=x;y",), {"extension": "x;y"}, id="5.2.3 an extension is kept"),
        pytest.param((b"\xff\xfe, no-store",), {"no-store": None}, id="bytes above ASCII"),
    ],
)
def test_directives_are_read_as_rfc_9111_section_5_2_says(
    lines: tuple[bytes, ...], expected: dict[str, str | None]
) -> None:
    assert expected == said(*lines)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'"\\' * 4000, id="escaped quotes that never end"),
        pytest.param(b'"' * 8001, id="quotes"),
        pytest.param(b'a="' + b"\\x" * 4000, id="a quoted argument that never ends"),
        pytest.param(b" ," * 4000 + b"@", id="empty members"),
        pytest.param(b"a " * 4000, id="words"),
        pytest.param(b" " * 8000 + b"\x00", id="white space"),
    ],
)
def test_a_hostile_line_of_8_kb_is_read_in_no_time(line: bytes) -> None:
    began = perf_counter()
    for _ in range(10):
        said(line)

    assert perf_counter() - began < 0.5  # About 0.01 in fact; backtracking took 5.


@given(st.lists(st.binary(max_size=80), max_size=3))
def test_no_line_makes_reading_fail(lines: list[bytes]) -> None:
    assert all(name == name.lower() and name for name in said(*lines))


TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=8)


@given(st.dictionaries(TOKENS, st.none() | TOKENS | st.text(' ,"\\=abc;', max_size=6), max_size=5))
def test_well_formed_directives_come_back_as_they_were_written(written: dict[str, str | None]) -> None:
    def member(name: str, argument: str | None) -> str:
        quoted = (argument or "").replace("\\", "\\\\").replace('"', '\\"')
        return name if argument is None else f'{name}="{quoted}"'

    line = ", ".join(member(name, argument) for name, argument in written.items())

    assert written == said(line.encode())


# -- delta-seconds (RFC 9111 section 1.2.2) --


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        pytest.param("0", 0, id="zero"),
        pytest.param("60", 60, id="plain"),
        pytest.param("007", 7, id="leading zeros"),
        pytest.param("000000000000060", 60, id="many leading zeros"),
        pytest.param("0" * 5000 + "1", 1, id="more zeros than int() reads"),
        pytest.param("0" * 5000, 0, id="nothing but zeros"),
        pytest.param(str(2**31 - 1), 2**31 - 1, id="the largest below the bound"),
        pytest.param(str(2**31), MAX_DELTA_S, id="2147483648"),
        pytest.param("9999999999", MAX_DELTA_S, id="overflow in ten digits"),
        pytest.param("9" * 5000, MAX_DELTA_S, id="overflow in more digits than int() reads"),
        pytest.param(None, None, id="no argument"),
        pytest.param("", None, id="empty"),
        pytest.param("-1", None, id="negative"),
        pytest.param("+5", None, id="signed"),
        pytest.param("1.5", None, id="fraction"),
        pytest.param("0x5", None, id="hexadecimal"),
        pytest.param("5s", None, id="unit"),
        pytest.param(" 5", None, id="white space"),
        pytest.param("\xb2", None, id="a superscript digit"),
        pytest.param("٣", None, id="an Arabic digit"),
    ],
)
def test_delta_seconds_are_non_negative_whole_numbers(argument: str | None, expected: int | None) -> None:
    assert expected == delta_seconds(argument)


# -- HTTP-date (RFC 9110 section 5.6.7) --


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE, id="IMF-fixdate"),
        pytest.param(b"Sunday, 06-Nov-94 08:49:37 GMT", EXAMPLE, id="RFC 850"),
        pytest.param(b"Sun Nov  6 08:49:37 1994", EXAMPLE, id="asctime"),
        pytest.param(b"Sun Nov 16 08:49:37 1994", EXAMPLE + 864000, id="asctime with two digits"),
        pytest.param(b"sun, 06 nov 1994 08:49:37 gmt", EXAMPLE, id="in lower case"),
        pytest.param(b"  Sun, 06 Nov 1994 08:49:37 GMT ", EXAMPLE, id="white space around"),
        pytest.param(b"Mon, 06 Nov 1994 08:49:37 GMT", EXAMPLE, id="a wrong day name is not checked"),
        pytest.param(b"Sat, 31 Dec 2016 23:59:60 GMT", 1483228799.0, id="a leap second"),
        pytest.param(b"Thu, 01 Jan 1970 00:00:00 GMT", 0.0, id="the epoch"),
        pytest.param(b"Fri, 31 Dec 9999 23:59:59 GMT", 253402300799.0, id="far ahead"),
        pytest.param(b"Sat, 31 Dec 2016 23:59:61 GMT", None, id="no second 61"),
        pytest.param(b"Sun, 06 Nov 1994 24:00:00 GMT", None, id="no hour 24"),
        pytest.param(b"Sun, 06 Nov 1994 08:60:00 GMT", None, id="no minute 60"),
        pytest.param(b"Wed, 30 Feb 1994 08:49:37 GMT", None, id="no 30 February"),
        pytest.param(b"Sun, 06 Foo 1994 08:49:37 GMT", None, id="no such month"),
        pytest.param(b"Sun, 06 Nov 0000 08:49:37 GMT", None, id="no year 0"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 UTC", None, id="not GMT"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 +0000", None, id="an offset"),
        pytest.param(b"Sun, 6 Nov 1994 08:49:37 GMT", None, id="one digit in IMF-fixdate"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 GMT, x", None, id="two values"),
        pytest.param(b"0", None, id="5.3 zero is invalid"),
        pytest.param(b"-1", None, id="minus one"),
        pytest.param(b"", None, id="empty"),
        pytest.param(None, None, id="absent"),
    ],
)
def test_an_http_date_is_read_in_any_of_its_three_forms(value: bytes | None, expected: float | None) -> None:
    assert expected == http_date(value, now=NOW)


def at(year: int) -> float:
    instant = http_date(b"Mon, 01 Jun %d 00:00:00 GMT" % year, now=NOW)
    assert instant is not None
    return instant


@pytest.mark.parametrize(
    ("this_year", "short", "expected"),
    [
        pytest.param(2027, 27, 2027, id="this year"),
        pytest.param(2027, 77, 2077, id="50 years ahead is the future"),
        pytest.param(2027, 78, 1978, id="more than 50 years ahead is the past"),
        pytest.param(2027, 99, 1999, id="the last century"),
        pytest.param(2099, 1, 2101, id="the next century"),
        pytest.param(2000, 51, 1951, id="at the turn of the century"),
    ],
)
def test_a_two_digit_year_is_no_more_than_50_years_ahead(this_year: int, short: int, expected: int) -> None:
    read = http_date(b"Monday, 01-Jun-%02d 00:00:00 GMT" % short, now=at(this_year))

    assert at(expected) == read


@given(st.integers(0, 253402300799))
def test_a_written_date_is_read_as_the_same_instant(instant: int) -> None:
    assert float(instant) == http_date(format_http_date(instant), now=NOW)


@given(st.binary(max_size=40))
def test_no_bytes_make_reading_a_date_fail(value: bytes) -> None:
    assert http_date(value, now=NOW) is None or value


def test_a_date_is_written_in_its_preferred_form_and_in_whole_seconds() -> None:
    assert format_http_date(EXAMPLE + 0.9) == b"Sun, 06 Nov 1994 08:49:37 GMT"


# -- age (RFC 9111 section 4.2.3) --


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param((), 2.0, id="neither Date nor Age: response_delay"),
        pytest.param(((b"Age", b"30"),), 32.0, id="corrected_age_value = age_value + response_delay"),
        pytest.param(((b"Date", format_http_date(NOW - 20)),), 20.0, id="apparent_age"),
        pytest.param(((b"Date", format_http_date(NOW + 20)),), 2.0, id="a Date ahead is no negative age"),
        pytest.param(((b"Date", b"yesterday"),), 2.0, id="a Date that is none"),
        pytest.param(
            ((b"Date", format_http_date(NOW - 20)), (b"Age", b"30")), 32.0, id="the greater: corrected"
        ),
        pytest.param(
            ((b"Date", format_http_date(NOW - 50)), (b"Age", b"30")), 50.0, id="the greater: apparent"
        ),
        pytest.param(((b"Age", b"30, 99"),), 32.0, id="5.1 the first of a list"),
        pytest.param(((b"Age", b"30"), (b"Age", b"99")), 32.0, id="5.1 the first of two lines"),
        pytest.param(((b"Age", b"soon"),), 2.0, id="5.1 an invalid Age is ignored"),
        pytest.param(((b"Age", b"-5"),), 2.0, id="5.1 a negative Age is ignored"),
        pytest.param(((b"Age", b"0"),), 2.0, id="an Age of zero still took its way"),
        pytest.param(((b"Age", b"9" * 30),), MAX_DELTA_S + 2.0, id="1.2.2 an Age too large to hold"),
    ],
)
def test_the_age_of_an_answer_is_what_rfc_9111_section_4_2_3_makes_it(
    fields: tuple[tuple[bytes, bytes], ...], expected: float
) -> None:
    assert expected == initial_age(fields, requested_at=NOW - 2, received_at=NOW)


def test_a_date_within_the_same_second_is_no_age() -> None:
    fields = ((b"Date", format_http_date(NOW)),)

    assert initial_age(fields, requested_at=NOW + 0.9, received_at=NOW + 0.9) == 0.0


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        pytest.param('no-cache="A, b"', {b"a", b"b"}, id="names"),
        pytest.param('no-cache=" a ,, "', {b"a"}, id="empty members"),
        pytest.param("no-cache", set(), id="none: the whole answer"),
        pytest.param('no-cache=""', set(), id="an empty list: the whole answer"),
        pytest.param('no-cache="a b, c"', set(), id="a list that can't be read: the whole answer"),
        pytest.param("max-age=5", set(), id="not said at all"),
    ],
)
def test_no_cache_and_private_may_name_fields(argument: str, expected: set[bytes]) -> None:
    said = directives(((b"Cache-Control", argument.encode()),))

    assert (frozenset(expected), "no-cache" in said and not expected) == (
        named_fields(said, "no-cache"),
        applies(said, "no-cache"),
    )
