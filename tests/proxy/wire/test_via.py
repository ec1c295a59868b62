import pytest

from proxy.wire.fields import Fields
from proxy.wire.via import hops, hops_left, one_hop_less, with_via


def test_our_hop_comes_after_those_before_it() -> None:
    fields: Fields = ((b"Via", b"1.1 edge"), (b"Accept", b"x"))

    assert with_via(fields) == (*fields, (b"Via", b"1.1 crowdgate"))
    assert with_via((), http_1_0=True) == ((b"Via", b"1.0 crowdgate"),)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param((), 0, id="none"),
        pytest.param((b"1.1 edge, 1.0 other (crowdgate)",), 0, id="others"),
        pytest.param((b"1.1 crowdgate", b"1.1 edge, 1.1  crowdgate (x)"), 2, id="ours, on two lines"),
        pytest.param((b",,crowdgate, 1.1",), 0, id="malformed"),
    ],
)
def test_our_own_hops_are_counted(lines: tuple[bytes, ...], expected: int) -> None:
    assert expected == hops(tuple((b"via", line) for line in lines))


@pytest.mark.parametrize(
    ("method", "lines", "expected"),
    [
        pytest.param("OPTIONS", (b"3",), 3, id="OPTIONS"),
        pytest.param("TRACE", (b"0",), 0, id="TRACE"),
        pytest.param("GET", (b"3",), None, id="RFC 9110 7.6.2 may be ignored elsewhere"),
        pytest.param("TRACE", (), None, id="none"),
        pytest.param("TRACE", (b"-1",), None, id="no number"),
        pytest.param("TRACE", (b"1", b"2"), None, id="two of them"),
        pytest.param("TRACE", (b"9" * 5000,), None, id="a number nobody means"),
    ],
)
def test_max_forwards_is_heeded_where_it_must_be(
    method: str, lines: tuple[bytes, ...], expected: int | None
) -> None:
    assert expected == hops_left(method, tuple((b"Max-Forwards", line) for line in lines))


def test_the_next_hop_has_one_less() -> None:
    fields: Fields = ((b"max-forwards", b"3"), (b"Accept", b"x"))

    assert one_hop_less(fields, 3) == ((b"Accept", b"x"), (b"Max-Forwards", b"2"))
