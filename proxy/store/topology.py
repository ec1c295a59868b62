"""Which node of a cluster owns which slot, as its nodes tell.

redis-py's own map is not used: it makes an object for every node and goes through all slots in Python whenever it looks, which
holds the event loop for 6 to 15 ms, once a second for as long as a node is out.
"""

from dataclasses import dataclass, field
from typing import Any

SLOTS = 16384
NO_HOST = frozenset({"", "?"})
"""What nodes say in place of a host: where they were asked, or a name that they do not have."""


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


def _host(told: bytes | None, more: list[Any]) -> str:
    """Empty for a node that does not know its address, or shall not tell: it is where it was asked.

    `more` is an id and, since Redis 7, its other names in pairs: [b"ip", b"10.0.0.1"].
    """
    host = (told or b"").decode()
    if host not in NO_HOST:
        return host
    others = dict(zip(more[1][::2], more[1][1::2], strict=True)) if len(more) > 1 else {}
    return others.get(b"ip", b"").decode() if host == "?" else ""


def topology_of(reply: Any, asked: Node) -> Topology:
    """What CLUSTER SLOTS answered: [[first, last, [host, port, ..], replica, ..], ..]. Raises ValueError for anything else."""
    found = Topology()
    try:
        for first, last, *nodes in reply:
            places = [found.known(_host(host, more) or asked.host, int(port)) for host, port, *more in nodes]
            found.own(first, last, places[0])
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError("slots that make no sense") from error
    return found
