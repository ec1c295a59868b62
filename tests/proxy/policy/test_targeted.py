import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.cache_control import Directives
from proxy.policy.targeted import strings, targeted
from proxy.wire.fields import Fields

NAME = b"cdn-cache-control"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param((b"max-age=60",), {"max-age": "60"}, id="an integer"),
        pytest.param((b"max-age=60;x=1, no-store;y",), {"max-age": "60", "no-store": None}, id="parameters"),
        pytest.param((b"max-age=60", b"private"), {"max-age": "60", "private": None}, id="several lines"),
        pytest.param((b"max-age=1, max-age=9",), {"max-age": "9"}, id="RFC 9651 4.2.2 the last counts"),
        pytest.param((b'private="a, b"',), {"private": "a, b"}, id="a string"),
        pytest.param((b"private=a",), {"private": None}, id="a token names no fields"),
        pytest.param((b'max-age="60"',), {"max-age": ""}, id="2.1 a string is no number"),
        pytest.param((b"max-age=60.5",), {"max-age": ""}, id="2.1 nor is a decimal"),
        pytest.param((b"max-age",), {"max-age": ""}, id="2.1 nor is true"),
        pytest.param((b"foo=(1 2)",), {"foo": None}, id="an inner list"),
        pytest.param((b"no-store=?0, foo",), {"foo": None}, id="false is not said"),
        pytest.param((b"",), None, id="2.1 empty"),
        pytest.param((b"MAX-AGE=60",), None, id="2.1 an upper-case key is invalid"),
        pytest.param((b"max-age = 60",), None, id="2.1 white space around ="),
        pytest.param((b"max-age=60,",), None, id="2.1 a trailing comma"),
        pytest.param((b"max-age=60", b"&"), None, id="2.1 an invalid line makes all invalid"),
        pytest.param((b"max-age=\xff",), None, id="not ASCII"),
        pytest.param((), None, id="not there"),
    ],
)
def test_a_targeted_field_is_read_as_a_dictionary(
    lines: tuple[bytes, ...], expected: Directives | None
) -> None:
    assert expected == targeted(tuple((b"CDN-Cache-Control", line) for line in lines), (NAME,))


def test_the_first_valid_field_of_the_list_counts() -> None:
    fields: Fields = ((b"B", b"max-age=2"), (b"A", b"x y"), (b"C", b"max-age=3"))

    assert targeted(fields, (b"a", b"b", b"c")) == {"max-age": "2"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param((b'"a", "b c"',), ["a", "b c"], id="strings"),
        pytest.param((b'"a"', b'"b";x=1'), ["a", "b"], id="lines and parameters"),
        pytest.param((b'"a", b',), [], id="a token makes it no list of strings"),
        pytest.param((b'"a',), [], id="a string without its end"),
        pytest.param((b'("a")',), [], id="an inner list"),
        pytest.param((), [], id="not there"),
    ],
)
def test_a_list_of_strings_is_that_or_nothing(lines: tuple[bytes, ...], expected: list[str]) -> None:
    assert expected == strings(tuple((b"Cache-Groups", line) for line in lines), b"cache-groups")


@given(st.binary(max_size=40))
def test_no_bytes_make_reading_fail(line: bytes) -> None:
    assert targeted(((NAME, line),), (NAME,)) is None or line
    assert isinstance(strings(((NAME, line),), NAME), list)
