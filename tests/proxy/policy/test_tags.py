from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.tags import response_tags, too_many
from proxy.wire.fields import Fields


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param((), (), id="none"),
        pytest.param(((b"Surrogate-Key", b" a  b\tc "),), ("a", "b", "c"), id="Surrogate-Key by spaces"),
        pytest.param(((b"Cache-Tag", b"a, b c ,,d"),), ("a", "b c", "d"), id="Cache-Tag by commas"),
        pytest.param(
            ((b"Cache-Groups", b'"a", "b c"'),),
            ("a", "b c", "a@h", "b c@h"),
            id="RFC 9875 2 a list of strings",
        ),
        pytest.param(
            ((b"Cache-Groups", b'"a, b" , "c"'),),
            ("a, b", "c", "a, b@h", "c@h"),
            id="RFC 9875 a comma in a string",
        ),
        pytest.param(((b"Cache-Groups", b'"a\\"b\\\\"'),), ('a"b\\', 'a"b\\@h'), id="RFC 9651 3.3.3 escapes"),
        pytest.param(
            ((b"Cache-Groups", b'"a";x=1;y, "b"'),),
            ("a", "b", "a@h", "b@h"),
            id="RFC 9875 parameters are ignored",
        ),
        pytest.param(((b"Cache-Groups", b'"a", b, "c"'),), (), id="RFC 9651 4.2 one that is no string: none"),
        pytest.param(((b"Cache-Groups", b'"a'),), (), id="a string without its end"),
        pytest.param(((b"Cache-Groups", b'"a"b'),), (), id="something behind a string"),
        pytest.param(((b"cache-tag", b"a"), (b"CACHE-TAG", b"b")), ("a", "b"), id="several lines"),
        pytest.param(
            ((b"Cache-Groups", b'"a"'), (b"Cache-Tag", b"a"), (b"Surrogate-Key", b"a b a")),
            ("a", "b", "a@h"),
            id="without doubles",
        ),
        pytest.param(((b"Surrogate-Key", "é".encode()),), ("é",), id="UTF-8"),
        pytest.param(((b"Surrogate-Key", b"\xff"),), ("\ufffd",), id="not UTF-8"),
    ],
)
def test_tags_are_those_that_the_api_names(fields: Fields, expected: tuple[str, ...]) -> None:
    assert expected == response_tags(fields, b"H")


@given(st.binary(max_size=60))
def test_no_line_makes_reading_tags_fail(line: bytes) -> None:
    fields = ((b"Surrogate-Key", line), (b"Cache-Tag", line), (b"Cache-Groups", line))

    assert all(response_tags(fields, b"H"))


def test_a_hostile_line_of_64_kb_is_read_in_no_time() -> None:
    began = perf_counter()
    response_tags(((b"Cache-Groups", b'"' + b'\\"' * 32000), (b"Cache-Groups", b" " * 64000)), b"h")

    assert perf_counter() - began < 0.5


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(b" ".join(b"%d" % n for n in range(128)), False, id="128 tags"),
        pytest.param(b" ".join(b"%d" % n for n in range(129)), True, id="129 tags"),
        pytest.param(b"x" * 256, False, id="a tag of 256 characters"),
        pytest.param(b"a " + b"x" * 257, True, id="a longer one"),
    ],
)
def test_more_tags_than_an_entry_may_have_are_too_many(line: bytes, *, expected: bool) -> None:
    assert expected == too_many(((b"Surrogate-Key", line),))
