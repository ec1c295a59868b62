import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.cache_control import format_http_date
from proxy.policy.ranges import Part, Whole, content_range, part_of, part_of_part, said_part
from proxy.wire.fields import Fields

NOW = 1_800_000_000.0
CHANGED, MADE = format_http_date(NOW - 60), format_http_date(NOW)
STORED: Fields = ((b"ETag", b'"a"'), (b"Last-Modified", CHANGED), (b"Date", MADE))


def part(first: int, last: int) -> Part:
    return Part(first=first, last=last)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(b"bytes=0-3", part(0, 3), id="14.1.2 first and last"),
        pytest.param(b"BYTES= 0-3", part(0, 3), id="14.1 units have no case"),
        pytest.param(b"bytes=7-", part(7, 9), id="14.1.2 to the end"),
        pytest.param(b"bytes=-3", part(7, 9), id="14.1.2 the last three"),
        pytest.param(b"bytes=-99", part(0, 9), id="14.1.2 a suffix longer than all"),
        pytest.param(b"bytes=9-99", part(9, 9), id="14.1.2 a last beyond the end"),
        pytest.param(b"bytes=10-", Whole.UNSATISFIABLE, id="14.1.2 beyond the end"),
        pytest.param(b"bytes=-0", Whole.UNSATISFIABLE, id="14.1.2 the last none"),
        pytest.param(b"bytes=3-2", Whole.WHOLE, id="14.1.2 last before first is invalid"),
        pytest.param(b"bytes=0-1,3-4", Whole.WHOLE, id="14.2 several may be ignored"),
        pytest.param(b"bytes=-", Whole.WHOLE, id="nothing"),
        pytest.param(b"bytes=a-b", Whole.WHOLE, id="no numbers"),
        pytest.param(b"lines=0-1", Whole.WHOLE, id="14.2 an unknown unit"),
        pytest.param(b"bytes=" + b"9" * 41 + b"-", Whole.WHOLE, id="a number nobody means"),
        pytest.param("bytes=٣-".encode(), Whole.WHOLE, id="digits of another script"),
    ],
)
def test_a_part_is_what_rfc_9110_section_14_makes_it(line: bytes, expected: Part | Whole) -> None:
    assert expected == part_of(((b"Range", line),), STORED, 10, now=NOW)


@pytest.mark.parametrize(
    ("condition", "stored", "expected"),
    [
        pytest.param(b'"a"', STORED, part(0, 1), id="the same strong ETag"),
        pytest.param(b'"b"', STORED, Whole.WHOLE, id="another ETag"),
        pytest.param(b'W/"a"', ((b"ETag", b'W/"a"'),), Whole.WHOLE, id="a weak ETag is never enough"),
        pytest.param(CHANGED, STORED, part(0, 1), id="the same date"),
        pytest.param(MADE, STORED, Whole.WHOLE, id="another date, though later"),
        pytest.param(
            MADE, ((b"Last-Modified", MADE), (b"Date", MADE)), Whole.WHOLE, id="8.8.2.2 a date that is weak"
        ),
        pytest.param(b"yesterday", STORED, Whole.WHOLE, id="no date at all"),
    ],
)
def test_if_range_needs_exactly_what_is_stored(
    condition: bytes, stored: Fields, expected: Part | Whole
) -> None:
    assert expected == part_of(((b"Range", b"bytes=0-1"), (b"If-Range", condition)), stored, 10, now=NOW)


def test_without_range_or_with_two_it_is_the_whole() -> None:
    assert part_of((), STORED, 10, now=NOW) is Whole.WHOLE
    assert part_of(((b"Range", b"bytes=0-1"),) * 2, STORED, 10, now=NOW) is Whole.WHOLE


def test_content_range_tells_the_part_and_the_whole() -> None:
    assert content_range(part(2, 4), 10) == b"bytes 2-4/10"
    assert content_range(None, 10) == b"bytes */10"


def of(said: bytes) -> Fields:
    return ((b"Content-Range", said),)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(of(b"bytes 2-4/10"), (part(2, 4), 10), id="a part"),
        pytest.param(of(b"bytes 2-4/*"), None, id="of nobody knows how much"),
        pytest.param(of(b"bytes 2-4/4"), None, id="beyond the whole"),
        pytest.param(of(b"bytes 4-2/10"), None, id="last before first"),
        pytest.param(of(b"lines 2-4/10"), None, id="of another unit"),
        pytest.param(of(b"bytes 2-4/10") * 2, None, id="said twice"),
        pytest.param((), None, id="not said"),
    ],
)
def test_a_part_says_which_it_is_or_is_not_stored(answer: Fields, expected: tuple[Part, int] | None) -> None:
    assert expected == said_part(answer)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(b"bytes=5-7", (part(5, 7), 10), id="all of it"),
        pytest.param(b"bytes=6-6", (part(6, 6), 10), id="a part of it"),
        pytest.param(b"bytes=4-6", None, id="one that begins before it"),
        pytest.param(b"bytes=7-", None, id="one that ends behind it"),
        pytest.param(b"bytes=-3", None, id="a suffix that it does not hold"),
        pytest.param(b"bytes=a-", None, id="what is no range"),
        pytest.param(b"bytes=12-", None, id="one that nothing holds"),
    ],
)
def test_a_stored_part_answers_for_what_it_holds_and_no_more(
    line: bytes, expected: tuple[Part, int] | None
) -> None:
    assert expected == part_of_part(((b"Range", line),), of(b"bytes 5-7/10"), now=NOW)


@given(st.binary(max_size=20), st.integers(0, 20))
def test_a_part_is_always_within_the_whole(line: bytes, size: int) -> None:
    found = part_of(((b"Range", b"bytes=" + line),), (), size, now=NOW)

    assert isinstance(found, Whole) or 0 <= found.first <= found.last < size
