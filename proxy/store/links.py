"""How Redis is reached: one server, the master that sentinels name, or a cluster.

Sentinels and the topology of a cluster are redis-py's. Its cluster client is not used, because there a request waits for
what is none of its business: after any error the next command reads the topology anew, CLUSTERDOWN closes every connection
and sleeps, and ASKING may go to another connection than the command it is for. Here the topology is read in the
background, never by a request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.asyncio.connection import Connection, ConnectionPool
from redis.cluster import PRIMARY
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterError, MovedError, RedisClusterException, SlotNotCoveredError

from proxy.store.lanes import ERRORS, Command, Lanes, Reply, Request, Spawn, WaitingConnection, look

# MOVED, then ASK, and once more: more is a loop.
_MAX_REDIRECTS = 4
_ASKING = Command(("ASKING",))


class Link(Protocol):
    """A way to Redis. A *shard* is the part of Redis that fails on its own: a cluster's node, else there is one, "".

    Coroutines raise ERRORS.
    """

    def shard(self, key: bytes) -> str: ...

    def shards(self) -> set[str]: ...

    def batches(self, keys: Sequence[bytes]) -> list[list[bytes]]:
        """Keys that one command may name together."""
        ...

    def send(self, request: Request) -> None:
        """Has the request answered, soon or late: its `ended` is called once."""
        ...

    async def wait(self, key: bytes, command: Command) -> Reply:
        """A command that blocks, on a connection of its own and without a timeout: the caller cancels."""
        ...

    async def prepare(self) -> None:
        """Starts what is ours to start. Of the errors above it raises ConnectionError alone."""
        ...

    async def probe(self, shard: str, key: bytes) -> None:
        """Returns if the shard answers on a fresh connection; on a cluster, if it answers for the key."""
        ...

    async def mend(self, shard: str) -> None:
        """After a failure: closes connections that may be dead without knowing it, looks where the shard went."""
        ...

    async def close(self) -> None: ...


class ServerLink:
    """One server, or the master of a sentinel's pool. The pool makes connections, and keeps none."""

    def __init__(
        self,
        pool: ConnectionPool,
        max_connections: int,
        spawn: Spawn,
        *,
        revive: Callable[[], Awaitable[None]] | None = None,
        closing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._pool = pool
        self._revive = revive
        self._closing = closing
        self._lanes = Lanes(pool.make_connection, max_connections, spawn)
        self._waiting = WaitingConnection()

    def shard(self, key: bytes) -> str:  # noqa: ARG002 - there is only one
        return ""

    def shards(self) -> set[str]:
        return {""}

    def batches(self, keys: Sequence[bytes]) -> list[list[bytes]]:
        return [list(keys)]

    def send(self, request: Request) -> None:
        self._lanes.send(request)

    async def wait(self, key: bytes, command: Command) -> Reply:  # noqa: ARG002
        pool = self._pool
        return await self._waiting.exchange("", pool.connection_class, pool.connection_kwargs, command)

    async def prepare(self) -> None:
        if self._revive is not None:
            await self._revive()

    async def probe(self, shard: str, key: bytes) -> None:  # noqa: ARG002
        await self.prepare()
        await look(self._pool.connection_class, self._pool.connection_kwargs, Command(("PING",)))

    async def mend(self, shard: str) -> None:  # noqa: ARG002
        await self._lanes.drop_idle()

    async def close(self) -> None:
        await self._waiting.close()
        await self._lanes.close()
        if self._closing is not None:
            await self._closing()


class ClusterLink:
    """A cluster: its nodes and who owns which slot, from redis-py; following redirections and looking anew are ours."""

    def __init__(self, addresses: Sequence[dict[str, Any]], max_connections: int, spawn: Spawn) -> None:
        self._addresses = addresses
        self._max_connections = max_connections
        self._spawn = spawn
        self._lanes: dict[str, Lanes] = {}
        self._topology = self._from_settings()
        self._waiting = WaitingConnection()

    def shard(self, key: bytes) -> str:
        owners = self._topology.slots_cache.get(key_slot(key))
        return owners[0].name if owners else ""

    def shards(self) -> set[str]:
        return {"", *(node.name for node in self._topology.get_nodes_by_server_type(PRIMARY))}

    def batches(self, keys: Sequence[bytes]) -> list[list[bytes]]:
        slots: dict[int, list[bytes]] = {}
        for key in keys:
            slots.setdefault(key_slot(key), []).append(key)
        return list(slots.values())

    def send(self, request: Request) -> None:
        try:
            node = self._owner(request.key)
        except SlotNotCoveredError as error:
            request.ended(error)
            return
        self._send_to(node, request, asking=False)

    async def wait(self, key: bytes, command: Command) -> Reply:
        node = self._owner(key)
        reply = await self._waiting.exchange(
            node.name, node.connection_class, node.connection_kwargs, command
        )
        if isinstance(reply, AskError):
            await self._follow(reply, node)
        return reply

    async def prepare(self) -> None:
        pass

    async def probe(self, shard: str, key: bytes) -> None:
        node = self._topology.get_node(node_name=shard) if shard else None
        if node is None:
            await self._look_anew(shard)
            return
        # PING is answered by a node that serves no keys, too.
        command = Command(("EXISTS", key), int) if key else Command(("PING",))
        try:
            await look(node.connection_class, node.connection_kwargs, command)
        except AskError as redirect:
            # Well, but the key is elsewhere.
            await self._follow(redirect, node)

    async def mend(self, shard: str) -> None:
        node = self._topology.get_node(node_name=shard) if shard else None
        if node is None:
            return
        if shard in self._lanes:
            await self._lanes[shard].drop_idle()
        # Another node may have taken its slots over.
        await self._look_anew(shard)

    async def close(self) -> None:
        await self._waiting.close()
        for lanes in self._lanes.values():
            await lanes.close()
        await _close_topology(self._topology)

    def _owner(self, key: bytes) -> ClusterNode:
        owners = self._topology.slots_cache.get(key_slot(key))
        if not owners:
            raise SlotNotCoveredError("no node is known to own the key's slot")
        return owners[0]

    def _send_to(self, node: ClusterNode, request: Request, *, asking: bool) -> None:
        lanes = self._lanes.get(node.name)
        if lanes is None:
            lanes = self._lanes[node.name] = Lanes(
                lambda: node.connection_class(**node.connection_kwargs), self._max_connections, self._spawn
            )

        def ended(outcome: list[Reply] | Exception) -> None:
            if isinstance(outcome, Exception):
                request.ended(outcome)
                return
            replies = outcome[1::2] if asking else outcome
            redirect = next((reply for reply in replies if isinstance(reply, AskError)), None)
            if redirect is None:
                request.ended(replies)
            else:
                self._spawn(self._redirect(request, redirect, node), "redis redirect")

        # ASKING holds for the next command alone.
        commands = request.commands
        if asking:
            commands = tuple(sent for command in commands for sent in (_ASKING, command))
        lanes.send(Request(request.key, commands, ended, request.size))

    async def _redirect(self, request: Request, redirect: AskError, node: ClusterNode) -> None:
        request.redirects += 1
        if request.redirects > _MAX_REDIRECTS:
            request.ended(ClusterError("redirected in circles"))
            return
        try:
            target = await self._follow(redirect, node)
        except ERRORS as error:
            request.ended(error)
            return
        self._send_to(target, request, asking=not isinstance(redirect, MovedError))

    async def _follow(self, redirect: AskError, node: ClusterNode) -> ClusterNode:
        # A node that does not know its own name answers with the port alone.
        redirect.host = redirect.host or node.host
        if isinstance(redirect, MovedError):
            await self._topology.move_slot(redirect)
        known = self._topology.get_node(redirect.host, redirect.port)
        if known is None:
            # It is about to get its first slot.
            known = ClusterNode(redirect.host, redirect.port, PRIMARY, **self._topology.connection_kwargs)
            self._topology.nodes_cache[known.name] = known
        return known

    async def _look_anew(self, failed: str) -> None:
        """Reads the topology from a node that is known, or else from the addresses of the settings."""
        if self._topology.nodes_cache:
            try:
                await self._topology.initialize(last_failed_node_name=failed or None)
            except (RedisClusterException, LookupError):
                pass
            else:
                await self._forget_lanes()
                return
        found = self._from_settings()
        try:
            await found.initialize()
        except BaseException:
            await _close_topology(found)
            raise
        lost, self._topology = self._topology, found
        await _close_topology(lost)
        await self._forget_lanes()

    async def _forget_lanes(self) -> None:
        for name in self._lanes.keys() - self._topology.nodes_cache.keys():
            await self._lanes.pop(name).close()

    def _from_settings(self) -> NodesManager:
        # Every node is asked with what the first address brings beside host and port.
        common = {
            name: value for name, value in self._addresses[0].items() if name not in {"host", "port", "db"}
        }
        common.setdefault("connection_class", Connection)
        nodes = [ClusterNode(address["host"], address["port"], **common) for address in self._addresses]
        # A part of the slots is better than none.
        return NodesManager(nodes, require_full_coverage=False, connection_kwargs=common)


async def _close_topology(topology: NodesManager) -> None:
    # Two nodes of the same name are equal, and yet each has connections.
    nodes = (*topology.nodes_cache.values(), *topology.startup_nodes.values())
    await asyncio.gather(*(node.disconnect() for node in nodes), return_exceptions=True)
