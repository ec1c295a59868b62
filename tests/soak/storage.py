"""The Redis of a soak, one server or a cluster, and what may befall it."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import hiredis

from tests import servers

# Four times the default: the machine is busy with all of this, and only what we do to Redis shall be the matter with it.
_TIMEOUT_MS = 200


class Storage:
    """Servers with one fate: what happens, happens to one of them."""

    def __init__(self, nodes: list[servers.Server], *, is_cluster: bool) -> None:
        self.nodes = nodes
        self._is_cluster = is_cluster

    @property
    def config(self) -> str:
        urls = ",".join(node.url for node in self.nodes)
        mode = "cluster" if self._is_cluster else "standalone"
        return f"redis: {{url: '{urls}', mode: {mode}, timeout: {_TIMEOUT_MS}ms}}"

    def one(self, chance: random.Random) -> servers.Server:
        return chance.choice(self.nodes)

    def flush(self) -> None:
        """What an operator should not do: everything is gone, the purge log with it."""
        for node in self.nodes:
            node.command("FLUSHALL")

    @property
    def keys(self) -> int:
        return sum(int(node.command("DBSIZE")) for node in self.nodes)

    async def serving(self) -> None:
        """Until all nodes are of use again."""
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(self._serves):
                await asyncio.sleep(0.02)

    def _serves(self) -> bool:
        with suppress(OSError, hiredis.ReplyError):
            if not self._is_cluster:
                return bool(self.nodes[0].command("PING") == b"PONG")
            states = [node.command("CLUSTER", "INFO").splitlines() for node in self.nodes]
            return all(
                b"cluster_state:ok" in lines and b"cluster_slots_ok:16384" in lines for lines in states
            )
        return False


@contextmanager
def storage(*, is_cluster: bool) -> Iterator[Storage]:
    """A Redis of our own."""
    with ExitStack() as stack:
        nodes = (
            stack.enter_context(servers.cluster()) if is_cluster else [stack.enter_context(servers.redis())]
        )
        yield Storage(nodes, is_cluster=is_cluster)
