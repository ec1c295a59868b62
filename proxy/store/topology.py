"""Which node of a cluster owns which slot, as its nodes tell.

redis-py's own map is not used: it makes an object for every node and goes through all slots in Python whenever it looks, which
holds the event loop for 6 to 15 ms, once a second for as long as a node is out.
"""

from dataclasses import dataclass, field
from typing import Any

SLOTS = 16384


@dataclass(frozen=True, slots=True)
class Node:
    """One process of a cluster."""

    host: str
    port: int
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.host}:{self.port}")


class Topology:
    """A cluster as one of its nodes sees it, and what redirections have told since."""

    def __init__(self) -> None:
        self._owners: list[Node | None] = [None] * SLOTS
        self.nodes: dict[str, Node] = {}
        """Also replicas, and those that redirections named."""
        self.primaries: set[str] = set()

    @property
    def covered(self) -> int:
        """Slots that have an owner."""
        return SLOTS - self._owners.count(None)

    def owner(self, slot: int) -> Node | None:
        return self._owners[slot]

    def known(self, host: str, port: int) -> Node:
        node = Node(host, port)
        return self.nodes.setdefault(node.name, node)

    def own(self, first: int, last: int, node: Node) -> None:
        """Raises ValueError for slots that there are not."""
        if not 0 <= first <= last < SLOTS:
            raise ValueError(f"no slots: {first} to {last}")
        self._owners[first : last + 1] = [node] * (last + 1 - first)
        self.primaries.add(node.name)


def topology_of(reply: Any, asked: Node) -> Topology:
    """What CLUSTER SLOTS answered: [[first, last, [host, port, ..], replica, ..], ..]. Raises ValueError for anything else."""
    found = Topology()
    try:
        for first, last, *nodes in reply:
            # A node that does not know its own address, or shall not tell, is where it was asked.
            places = [
                found.known((host or b"").decode() or asked.host, int(port)) for host, port, *_ in nodes
            ]
            found.own(first, last, places[0])
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError("slots that make no sense") from error
    return found
