import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.fields import Fields, block, combined, end_to_end, from_block, members, values, without

FIELDS: Fields = ((b"Via", b"a"), (b"X", b"1"), (b"VIA", b"b, C ,,"), (b"via2", b"c"))


def test_values_are_found_in_any_case_and_in_their_order() -> None:
    assert [b"a", b"b, C ,,"] == values(FIELDS, b"via")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(b"via", b"a, b, C ,,", id="RFC 9110 5.3 joined by commas"),
        pytest.param(b"x", b"1", id="a single line"),
        pytest.param(b"y", None, id="none"),
    ],
)
def test_lines_are_combined(name: bytes, expected: bytes | None) -> None:
    assert expected == combined(FIELDS, name)


def test_members_are_lower_case_and_empty_ones_dropped() -> None:
    assert [b"a", b"b", b"c"] == members(FIELDS, b"via")


def test_fields_are_left_out_by_name_and_the_others_keep_their_order() -> None:
    assert FIELDS[1::2] == without(FIELDS, [b"via"])


KEPT: Fields = ((b"Host", b"h"), (b"Content-Length", b"3"), (b"Proxy-Authorization", b"p"), (b"X", b"1"))


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(((b"Connection", b"close"),), id="RFC 9110 7.6.1 Connection itself"),
        pytest.param(((b"Keep-Alive", b"timeout=5"),), id="Keep-Alive"),
        pytest.param(((b"Proxy-Connection", b"close"),), id="Proxy-Connection"),
        pytest.param(((b"TE", b"trailers"),), id="TE"),
        pytest.param(((b"Trailer", b"X"),), id="Trailer"),
        pytest.param(((b"Transfer-Encoding", b"chunked"),), id="Transfer-Encoding"),
        pytest.param(((b"Upgrade", b"h2c"),), id="Upgrade"),
        pytest.param(((b"connection", b"a, B"), (b"A", b"1"), (b"b", b"2")), id="what Connection names"),
        pytest.param(((b"Connection", b"a"), (b"A", b"1"), (b"Connection", b"c"), (b"c", b"2")), id="twice"),
        pytest.param(((b"Connection", b"content-length"),), id="never the length: it ends the body"),
        pytest.param(((b"Connection", b"Host"),), id="never the host: it names the site"),
    ],
)
def test_only_what_is_meant_for_the_other_end_passes(ending: Fields) -> None:
    assert KEPT == end_to_end((*ending, *KEPT))


NAMES = st.binary(min_size=1, max_size=8).filter(lambda name: not set(name) & set(b":\r\n "))
VALUES = st.binary(max_size=12).filter(lambda value: not set(value) & set(b"\r\n"))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6).map(tuple))
def test_a_block_is_read_back_as_the_fields_it_was_made_of(fields: Fields) -> None:
    assert fields == from_block(block(fields))


@given(st.binary(max_size=40))
def test_no_bytes_make_reading_a_block_fail(lines: bytes) -> None:
    assert all(len(field) == 2 for field in from_block(lines))
