from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.tags import response_tags
from proxy.wire.fields import Fields


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param((), (), id="none"),
        pytest.param(((b"Surrogate-Key", b" a  b\tc "),), ("a", "b", "c"), id="Surrogate-Key by spaces"),
        pytest.param(((b"Cache-Tag", b"a, b c ,,d"),), ("a", "b c", "d"), id="Cache-Tag by commas"),
        pytest.param(((b"Cache-Groups", b'"a", "b c"'),), ("a", "b c"), id="RFC 9875 2 a list of strings"),
        pytest.param(((b"Cache-Groups", b'"a, b" , "c"'),), ("a, b", "c"), id="RFC 9875 a comma in a string"),
        pytest.param(((b"Cache-Groups", b'"a\\"b\\\\"'),), ('a"b\\',), id="RFC 9651 3.3.3 escapes"),
        pytest.param(
            ((b"Cache-Groups", b'"a";x=1;y, "b"'),), ("a", "b"), id="RFC 9875 parameters are ignored"
        ),
        pytest.param(((b"Cache-Groups", b'"a", b, "c"'),), ("a",), id="a token is no group"),
        pytest.param(((b"Cache-Groups", b'"a'),), (), id="a string without its end"),
        pytest.param(((b"Cache-Groups", b'"a"b'),), (), id="something behind a string"),
        pytest.param(((b"cache-tag", b"a"), (b"CACHE-TAG", b"b")), ("a", "b"), id="several lines"),
        pytest.param(
            ((b"Cache-Groups", b'"a"'), (b"Cache-Tag", b"a"), (b"Surrogate-Key", b"a b a")),
            ("a", "b"),
            id="without doubles",
        ),
        pytest.param(((b"Surrogate-Key", "é".encode()),), ("é",), id="UTF-8"),
        pytest.param(((b"Surrogate-Key", b"\xff"),), ("\ufffd",), id="not UTF-8"),
        pytest.param(((b"Surrogate-Key", b"x" * 256),), ("x" * 256,), id="a tag of 256 bytes"),
        pytest.param(((b"Surrogate-Key", b"a " + b"x" * 257),), ("a",), id="a longer one is left out"),
        pytest.param(((b"Surrogate-Key", "é".encode() * 129),), (), id="bytes count, not characters"),
        pytest.param(
            ((b"Surrogate-Key", b" ".join(b"%d" % n for n in range(200))),),
            tuple(str(n) for n in range(128)),
            id="the first 128",
        ),
    ],
)
def test_tags_are_those_that_the_api_names(fields: Fields, expected: tuple[str, ...]) -> None:
    assert expected == response_tags(fields)


@given(st.binary(max_size=60))
def test_no_line_makes_reading_tags_fail(line: bytes) -> None:
    fields = ((b"Surrogate-Key", line), (b"Cache-Tag", line), (b"Cache-Groups", line))

    assert all(response_tags(fields))


def test_a_hostile_line_of_64_kb_is_read_in_no_time() -> None:
    began = perf_counter()
    response_tags(((b"Cache-Groups", b'"' + b'\\"' * 32000), (b"Cache-Groups", b" " * 64000)))

    assert perf_counter() - began < 0.5
