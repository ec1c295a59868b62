from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.store.topology import SLOTS, Node, Topology, topology_of

ASKED = Node("10.0.0.1", 7000)
REPLY = [
    [0, 8191, [b"10.0.0.1", 7000, b"id1", []], [b"10.0.0.3", 7000, b"id3", [b"hostname", b"c"]]],
    [8192, 16382, [b"10.0.0.2", 7001, b"id2", []]],
]


def test_who_owns_what_is_as_the_node_tells() -> None:
    topology = topology_of(REPLY, ASKED)
    owners = [topology.owner(slot) for slot in (0, 8191, 8192, 16382, 16383)]
    first, second = Node("10.0.0.1", 7000), Node("10.0.0.2", 7001)
    assert owners == [first, first, second, second, None]
    assert topology.nodes.keys() == {"10.0.0.1:7000", "10.0.0.2:7001", "10.0.0.3:7000"}
    assert (topology.primaries, topology.covered) == ({"10.0.0.1:7000", "10.0.0.2:7001"}, 16383)


@pytest.mark.parametrize("host", [b"", None], ids=["empty", "null"])
def test_a_node_that_does_not_tell_its_address_is_where_it_was_asked(host: Any) -> None:
    topology = topology_of([[0, 16383, [host, 7002, b"id"]]], ASKED)
    assert topology.owner(5) == Node("10.0.0.1", 7002)


@pytest.mark.parametrize(
    ("more", "host"),
    [
        pytest.param([b"id", [b"ip", b"10.0.0.9"]], "10.0.0.9", id="with its address"),
        pytest.param([b"id", []], "10.0.0.1", id="without"),
        pytest.param([b"id"], "10.0.0.1", id="of before Redis 7"),
    ],
)
def test_a_node_that_has_no_name_is_at_its_address(more: list[Any], host: str) -> None:
    topology = topology_of([[0, 16383, [b"?", 7002, *more]]], ASKED)
    assert topology.owner(5) == Node(host, 7002)


def test_what_moves_has_a_new_owner_that_is_known() -> None:
    topology = topology_of(REPLY, ASKED)
    third = topology.known("10.0.0.3", 7000)
    topology.own(5, 5, third)
    assert (topology.owner(4), topology.owner(5)) == (ASKED, third)
    assert "10.0.0.3:7000" in topology.primaries


@pytest.mark.parametrize(("first", "last"), [(-1, -1), (5, 4), (SLOTS, SLOTS), (0, SLOTS)], ids=str)
def test_slots_that_there_are_not_are_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="no slots"):
        Topology().own(first, last, ASKED)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"OK", id="no list"),
        pytest.param([b"OK"], id="no ranges"),
        pytest.param([[0, 1]], id="no owner"),
        pytest.param([[0, 99999, [b"h", 1]]], id="too many slots"),
        pytest.param([[b"0", b"1", [b"h", 1]]], id="text for numbers"),
        pytest.param([[0, 1, [b"h"]]], id="no port"),
        pytest.param([[0, 1, [b"\xff", 1]]], id="no name"),
        pytest.param([[0, 1, [b"h", b"p"]]], id="no number for a port"),
        pytest.param([[0, 1, [5, 1]]], id="a number for a name"),
        pytest.param([[0, 1, None]], id="null"),
    ],
)
def test_what_makes_no_sense_is_refused(reply: Any) -> None:
    with pytest.raises(ValueError, match="make no sense"):
        topology_of(reply, ASKED)


replies = st.recursive(
    st.none() | st.integers(-2, SLOTS + 2) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=20,
)


@given(replies)
def test_whatever_is_answered_is_a_topology_or_refused(reply: Any) -> None:
    with suppress(ValueError):
        assert 0 <= topology_of(reply, ASKED).covered <= SLOTS
