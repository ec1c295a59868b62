import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.balance import Address, order


def address(host: str, **kwargs: float) -> Address:
    return Address(host=host, port=80, **kwargs)  # type: ignore[arg-type]


def hosts(addresses: list[Address], *, now: float = 0.0, turn: int = 0) -> str:
    return "".join(one.host for one in order(addresses, now=now, turn=turn))


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        pytest.param([address("a", inflight=2), address("b", inflight=1)], "ba", id="least in flight first"),
        pytest.param([address("a", ejected_until=5), address("b", inflight=9)], "ba", id="ejected ones last"),
        pytest.param(
            [address("a", ejected_until=5, inflight=2), address("b", ejected_until=9)],
            "ba",
            id="where all are ejected they are still tried",
        ),
        pytest.param([address("a", ejected_until=1), address("b", inflight=1)], "ab", id="until its time"),
        pytest.param([address("a")], "a", id="a single one"),
        pytest.param([], "", id="none"),
    ],
)
def test_addresses_are_tried_in_order_of_health_and_load(addresses: list[Address], expected: str) -> None:
    assert expected == hosts(addresses, now=1.0)


def test_equals_take_turns() -> None:
    addresses = [address(host) for host in "abc"]

    assert ["abc", "bca", "cab", "abc"] == [hosts(addresses, turn=turn) for turn in range(4)]


@given(
    st.lists(st.builds(Address, host=st.text(), port=st.just(1), inflight=st.integers(0, 9))), st.integers()
)
def test_every_address_is_tried_exactly_once(addresses: list[Address], turn: int) -> None:
    tried = order(addresses, now=0, turn=turn)

    assert sorted(map(id, addresses)) == sorted(map(id, tried))


def test_failures_in_a_row_eject_for_a_time() -> None:
    one = address("a")
    for now in (1.0, 2.0, 3.0):
        one.failed(now=now, eject_after=3, eject_for=10)

    assert (3, 13.0) == (one.failures, one.ejected_until)


def test_a_success_between_begins_the_row_anew() -> None:
    one = address("a")
    one.failed(now=1, eject_after=2, eject_for=10)
    one.succeeded()
    one.failed(now=2, eject_after=2, eject_for=10)

    assert one.ejected_until == 0.0


@pytest.mark.parametrize(
    ("host", "expected"),
    [pytest.param("10.0.0.1", "10.0.0.1:80", id="IPv4"), pytest.param("::1", "[::1]:80", id="IPv6")],
)
def test_an_address_is_written_as_host_and_port(host: str, expected: str) -> None:
    assert expected == address(host).text
