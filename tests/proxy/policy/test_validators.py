import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.cache_control import format_http_date
from proxy.policy.validators import (
    Comparison,
    Condition,
    compared,
    entity_tags,
    evaluate,
    for_304,
    freshened,
    revalidation,
    selects,
)
from proxy.wire.fields import Fields

NOW = 1_800_000_000.0
MODIFIED = NOW - 1000
NOT_MODIFIED, HOLDS, NONE = Condition.NOT_MODIFIED, Condition.HOLDS, Condition.NONE


def none_match(*lines: bytes) -> Fields:
    return tuple((b"If-None-Match", line) for line in lines)


def since(*lines: bytes) -> Fields:
    return tuple((b"If-Modified-Since", line) for line in lines)


@pytest.mark.parametrize(
    ("request_fields", "etag", "expected"),
    [
        pytest.param((), b'"a"', NONE, id="no condition"),
        pytest.param(none_match(b'"a"'), b'"a"', NOT_MODIFIED, id="13.1.2 the same"),
        pytest.param(none_match(b'"b"'), b'"a"', HOLDS, id="13.1.2 another"),
        pytest.param(none_match(b'W/"a"'), b'"a"', NOT_MODIFIED, id="8.8.3.2 weak against strong"),
        pytest.param(none_match(b'"a"'), b'W/"a"', NOT_MODIFIED, id="8.8.3.2 strong against weak"),
        pytest.param(none_match(b'W/"a"'), b'W/"a"', NOT_MODIFIED, id="8.8.3.2 weak against weak"),
        pytest.param(none_match(b'w/"a"'), b'"a"', HOLDS, id="8.8.3 W/ has a case"),
        pytest.param(none_match(b'"A"'), b'"a"', HOLDS, id="8.8.3 so have tags"),
        pytest.param(none_match(b"*"), b'"a"', NOT_MODIFIED, id="13.1.2 any"),
        pytest.param(none_match(b" * "), b"", NOT_MODIFIED, id="13.1.2 any, without a tag of ours"),
        pytest.param(none_match(b'"b", "a"'), b'"a"', NOT_MODIFIED, id="a list"),
        pytest.param(none_match(b'"b"', b'W/"a"'), b'"a"', NOT_MODIFIED, id="several lines"),
        pytest.param(none_match(b', ,"b",,"a",'), b'"a"', NOT_MODIFIED, id="5.6.1.2 empty members"),
        pytest.param(none_match(b'"b,a", "c"'), b'"a"', HOLDS, id="a comma within a tag"),
        pytest.param(none_match(b'"a,b"'), b'"a,b"', NOT_MODIFIED, id="the same comma within a tag"),
        pytest.param(none_match(b'""'), b'""', NOT_MODIFIED, id="an empty tag is one"),
        pytest.param(none_match(b'""'), b"", HOLDS, id="no tag is not the empty tag"),
        pytest.param(none_match(b"a"), b'"a"', HOLDS, id="without its quotes it is none"),
        pytest.param(none_match(b'x, "a"'), b'"a"', HOLDS, id="what follows a malformed one is not read"),
        pytest.param(none_match(b'"a" "b"'), b'"a"', HOLDS, id="no comma between"),
        pytest.param(none_match(b'"a'), b'"a"', HOLDS, id="a quote without its end"),
        pytest.param(none_match(b""), b'"a"', HOLDS, id="an empty condition"),
        pytest.param(
            none_match(b'"b"') + since(format_http_date(NOW)), b'"a"', HOLDS, id="13.2.2 goes before the date"
        ),
    ],
)
def test_if_none_match_is_compared_weakly_and_goes_first(
    request_fields: Fields, etag: bytes, expected: Condition
) -> None:
    modified = format_http_date(MODIFIED)

    assert expected == evaluate(request_fields, etag=etag, last_modified=modified, now=NOW)


@pytest.mark.parametrize(
    ("request_fields", "modified", "expected"),
    [
        pytest.param(since(format_http_date(MODIFIED)), format_http_date(MODIFIED), NOT_MODIFIED, id="equal"),
        pytest.param(since(format_http_date(NOW)), format_http_date(MODIFIED), NOT_MODIFIED, id="later"),
        pytest.param(since(format_http_date(MODIFIED - 1)), format_http_date(MODIFIED), HOLDS, id="earlier"),
        pytest.param(since(b"yesterday"), format_http_date(MODIFIED), HOLDS, id="13.1.3 no valid date"),
        pytest.param(since(format_http_date(NOW)), b"", HOLDS, id="nothing to compare with"),
        pytest.param(since(format_http_date(NOW)), b"long ago", HOLDS, id="nothing valid to compare with"),
        pytest.param(
            since(format_http_date(NOW), format_http_date(NOW)), format_http_date(MODIFIED), HOLDS, id="twice"
        ),
    ],
)
def test_if_modified_since_is_compared_by_dates(
    request_fields: Fields, modified: bytes, expected: Condition
) -> None:
    assert expected == evaluate(request_fields, etag=b"", last_modified=modified, now=NOW)


@given(st.binary(max_size=60))
def test_no_bytes_make_a_list_of_tags_fail(line: bytes) -> None:
    assert all(tag.startswith(b'"') and tag.endswith(b'"') for tag in entity_tags(line))


@pytest.mark.parametrize(
    ("etag", "modified", "expected"),
    [
        pytest.param(b"", b"", (), id="no validator"),
        pytest.param(b'W/"a"', b"", ((b"If-None-Match", b'W/"a"'),), id="an entity tag as it came"),
        pytest.param(b"", b"x", ((b"If-Modified-Since", b"x"),), id="a date as it came"),
        pytest.param(
            b'"a"', b"x", ((b"If-None-Match", b'"a"'), (b"If-Modified-Since", b"x")), id="4.3.1 both of them"
        ),
    ],
)
def test_the_api_is_asked_with_the_validators_that_it_gave(
    etag: bytes, modified: bytes, expected: Fields
) -> None:
    assert expected == revalidation(etag, modified)


STORED: Fields = (
    (b"Date", b"1"),
    (b"Content-Type", b"text/html"),
    (b"Link", b"a"),
    (b"X-Keep", b"k"),
    (b"link", b"b"),
    (b"Content-Length", b"5"),
)


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        pytest.param((), STORED, id="nothing new"),
        pytest.param(((b"date", b"2"),), ((b"date", b"2"), *STORED[1:]), id="replaced where it stood"),
        pytest.param(
            ((b"LINK", b"x"),),
            (*STORED[:2], (b"LINK", b"x"), STORED[3], STORED[5]),
            id="several by one, in the place of the first",
        ),
        pytest.param(
            ((b"X-Keep", b"1"), (b"x-keep", b"2")),
            (*STORED[:3], (b"X-Keep", b"1"), (b"x-keep", b"2"), *STORED[4:]),
            id="one by several",
        ),
        pytest.param(
            ((b"Expires", b"9"), (b"ETag", b'"b"')),
            (*STORED, (b"Expires", b"9"), (b"ETag", b'"b"')),
            id="new ones at the end, in their order",
        ),
        pytest.param(
            (
                (b"Content-Length", b"0"),
                (b"Content-Encoding", b"gzip"),
                (b"Content-Range", b"bytes 0-1/2"),
                (b"Transfer-Encoding", b"chunked"),
            ),
            STORED,
            id="3.2 what describes the stored body stays",
        ),
    ],
)
def test_a_304_updates_fields_and_keeps_their_order(update: Fields, expected: Fields) -> None:
    assert expected == freshened(STORED, update)


def test_a_304_of_ours_keeps_what_rfc_9110_section_15_4_5_demands_and_describes_no_body() -> None:
    demanded: Fields = tuple(
        (name, b"x")
        for name in (b"Cache-Control", b"Content-Location", b"Date", b"ETag", b"Expires", b"Vary")
    )
    body: Fields = tuple(
        (name, b"x") for name in (b"Content-Length", b"content-type", b"Content-Encoding", b"Content-Range")
    )

    assert demanded == for_304(body + demanded)


@pytest.mark.parametrize(
    ("fields", "selected"),
    [
        pytest.param((), True, id="no validator"),
        pytest.param(((b"ETag", b'"a"'),), True, id="the stored one"),
        pytest.param(((b"ETag", b'W/"a"'),), True, id="a weak one that looks the same"),
        pytest.param(((b"ETag", b'W/"b"'),), False, id="another weak one"),
        pytest.param(((b"etag", b'"b"'),), False, id="another strong one"),
        pytest.param(((b"Last-Modified", b"then"),), True, id="the stored date"),
        pytest.param(((b"Last-Modified", b"now"),), False, id="another date"),
        pytest.param(((b"ETag", b'"a"'), (b"Last-Modified", b"now")), True, id="the ETag goes first"),
    ],
)
def test_a_304_is_about_the_stored_answer_unless_it_names_another(fields: Fields, selected: bool) -> None:
    assert selected is selects(fields, etag=b'"a"', last_modified=b"then")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param((), Comparison.UNKNOWN, id="nothing said"),
        pytest.param(((b"Content-Length", b"4"),), Comparison.UNKNOWN, id="the length alone is no proof"),
        pytest.param(((b"Content-Length", b"0"),), Comparison.UNKNOWN, id="no length at all"),
        pytest.param(((b"Content-Length", b"5"),), Comparison.OTHER, id="another length"),
        pytest.param(((b"ETag", b'"a"'), (b"Content-Length", b"4")), Comparison.SAME, id="all the same"),
        pytest.param(((b"ETag", b'"a"'), (b"Content-Length", b"5")), Comparison.OTHER, id="but the length"),
        pytest.param(((b"ETag", b'"b"'),), Comparison.OTHER, id="another ETag"),
        pytest.param(((b"Last-Modified", b"x"),), Comparison.OTHER, id="a date that the stored one lacks"),
    ],
)
def test_a_head_is_about_the_stored_answer_if_all_that_it_says_fits(
    fields: Fields, expected: Comparison
) -> None:
    assert expected is compared(fields, ((b"ETag", b'"a"'),), 4)
