"""How Redis is reached: one server, the master that sentinels name, or a cluster.

Sentinels are redis-py's. Its cluster client is not used, because there a request waits for what is none of its business:
after any error the next command reads the topology anew, CLUSTERDOWN closes every connection and sleeps, and ASKING may go to
another connection than the command it is for. Here the topology is read in the background, never by a request.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from redis.asyncio.connection import Connection, ConnectionPool
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterError,
    MovedError,
    RedisClusterException,
    SlotNotCoveredError,
)

from proxy.store.lanes import ERRORS, Apart, Command, Lanes, Request, Spawn, ask
from proxy.store.replies import HandshakeParser, Limits, Reply
from proxy.store.topology import NO_HOST, SLOTS, Node, Topology, topology_of

# MOVED, then ASK, and once more: more is a loop.
_MAX_REDIRECTS = 4
# After a redirection all owners are looked up, but so often at most.
_LOOK_EVERY_S = 1.0
_ASKING = Command(("ASKING",))
_PING = Command(("PING",))
_CLUSTER_SLOTS = Command(("CLUSTER", "SLOTS"), list)


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

    async def wait(self, key: bytes, *commands: Command) -> list[Reply]:
        """Commands of which one blocks, on a connection of their own and without a timeout: the caller cancels."""
        ...

    async def aside(self, shard: str, *commands: Command) -> list[Reply]:
        """Commands to a shard, whatever they are about, where they take no turn from others. The caller cancels."""
        ...

    async def prepare(self) -> None:
        """Starts what is ours to start. Of the errors above it raises ConnectionError alone."""
        ...

    async def probe(self, shard: str, key: bytes, *, patient: bool = False) -> None:
        """Returns if the shard answers on a fresh connection for the key, if one is given; in a busy process, where `patient`."""
        ...

    def is_connected(self, shard: str) -> bool:
        """Whether there is a connection for requests to the shard."""
        ...

    async def answers(self, shard: str) -> bool:
        """Whether the shard answers on a connection that there is, for requests."""
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
        lanes: Lanes,
        *,
        revive: Callable[[], Awaitable[None]] | None = None,
        closing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._pool = pool
        self._lanes = lanes
        self._revive = revive
        self._closing = closing
        self._waiting = Apart(lanes.limits)
        self._aside = Apart(lanes.limits)

    def shard(self, key: bytes) -> str:  # noqa: ARG002 - there is only one
        return ""

    def shards(self) -> set[str]:
        return {""}

    def batches(self, keys: Sequence[bytes]) -> list[list[bytes]]:
        return [list(keys)]

    def send(self, request: Request) -> None:
        self._lanes.send(request)

    async def wait(self, key: bytes, *commands: Command) -> list[Reply]:  # noqa: ARG002
        pool = self._pool
        return await self._waiting.exchange("", pool.connection_class, pool.connection_kwargs, commands)

    async def aside(self, shard: str, *commands: Command) -> list[Reply]:
        pool = self._pool
        return await self._aside.exchange(shard, pool.connection_class, pool.connection_kwargs, commands)

    async def prepare(self) -> None:
        if self._revive is not None:
            await self._revive()

    async def probe(self, shard: str, key: bytes, *, patient: bool = False) -> None:  # noqa: ARG002
        await self.prepare()
        pool = self._pool
        await ask(pool.connection_class, pool.connection_kwargs, _about(key), patient=patient)

    def is_connected(self, shard: str) -> bool:  # noqa: ARG002
        return self._lanes.is_connected

    async def answers(self, shard: str) -> bool:  # noqa: ARG002
        return await self._lanes.answers()

    async def mend(self, shard: str) -> None:  # noqa: ARG002
        self._lanes.renew()

    async def close(self) -> None:
        try:
            await self._waiting.close()
            await self._aside.close()
            await self._lanes.close()
        finally:
            # Also where the caller's patience has ended: what is ours must not outlive us.
            if self._closing is not None:
                await self._closing()


class _Place(Protocol):
    @property
    def host(self) -> str: ...


class ClusterLink:
    """A cluster: follows redirections, and looks in the background who owns what."""

    def __init__(
        self,
        addresses: Sequence[dict[str, Any]],
        max_connections: int,
        spawn: Spawn,
        *,
        limits: Limits = HandshakeParser.LIMITS,
    ) -> None:
        # Every node is asked with what the first address brings beside host and port.
        self._common = {
            name: value for name, value in addresses[0].items() if name not in {"host", "port", "db"}
        }
        self._kind = self._common.pop("connection_class", Connection)
        self._seeds = [Node(address["host"], address["port"]) for address in addresses]
        self._max_connections = max_connections
        self._spawn = spawn
        self._limits = limits
        self._topology = Topology()
        self._lanes: dict[str, Lanes] = {}
        self._waiting = Apart(limits)
        self._aside = Apart(limits)
        self._looking = asyncio.Lock()
        self._looks = 0
        self._looked_at = float("-inf")
        self._look_due: asyncio.TimerHandle | None = None

    def shard(self, key: bytes) -> str:
        owner = self._topology.owner(key_slot(key))
        return owner.name if owner is not None else ""

    def shards(self) -> set[str]:
        return {"", *self._topology.primaries}

    def batches(self, keys: Sequence[bytes]) -> list[list[bytes]]:
        slots: dict[int, list[bytes]] = {}
        for key in keys:
            slots.setdefault(key_slot(key), []).append(key)
        return list(slots.values())

    def send(self, request: Request) -> None:
        node = self._topology.owner(key_slot(request.key))
        if node is None:
            request.ended(SlotNotCoveredError("no node is known to own the key's slot"))
            return
        self._lanes_to(node).send(request)

    async def wait(self, key: bytes, *commands: Command) -> list[Reply]:
        node = self._topology.owner(key_slot(key))
        if node is None:
            raise SlotNotCoveredError("no node is known to own the key's slot")
        replies = await self._wait_at(node, commands)
        redirect = _redirect_in(replies)
        if redirect is None:
            return replies
        target = await self._follow(redirect, node)
        if isinstance(redirect, MovedError):
            return await self._wait_at(target, commands)
        return (await self._wait_at(target, _after_asking(commands)))[1::2]

    async def _wait_at(self, node: Node, commands: Sequence[Command]) -> list[Reply]:
        return await self._waiting.exchange(node.name, self._kind, self._kwargs(node), commands)

    async def aside(self, shard: str, *commands: Command) -> list[Reply]:
        node = self._topology.nodes.get(shard)
        if node is None:
            raise RedisClusterException("no such node any more")
        return await self._aside.exchange(shard, self._kind, self._kwargs(node), commands)

    async def prepare(self) -> None:
        pass

    async def probe(self, shard: str, key: bytes, *, patient: bool = False) -> None:
        node = self._topology.nodes.get(shard)
        if node is None:
            await self._look_anew(shard, patient=patient)
            return
        try:
            await ask(self._kind, self._kwargs(node), _about(key), patient=patient)
        except AskError as redirect:
            # Well, but the key is elsewhere.
            await self._follow(redirect, node)

    def is_connected(self, shard: str) -> bool:
        return shard in self._lanes and self._lanes[shard].is_connected

    async def answers(self, shard: str) -> bool:
        return shard in self._lanes and await self._lanes[shard].answers()

    async def mend(self, shard: str) -> None:
        if shard not in self._topology.nodes:
            return
        if shard in self._lanes:
            self._lanes[shard].renew()
        # Another node may have taken its slots over.
        await self._look_anew(shard)

    async def close(self) -> None:
        if self._look_due is not None:
            self._look_due.cancel()
        await self._waiting.close()
        await self._aside.close()
        await asyncio.gather(*(lanes.close() for lanes in self._lanes.values()))

    def _kwargs(self, node: Node) -> dict[str, Any]:
        return {**self._common, "host": node.host, "port": node.port}

    def _lanes_to(self, node: Node) -> Lanes:
        lanes = self._lanes.get(node.name)
        if lanes is None:
            lanes = self._lanes[node.name] = Lanes(
                lambda: self._kind(**self._kwargs(node)),
                self._max_connections,
                self._spawn,
                limits=self._limits,
                ended=partial(self._ended, node),
            )
        return lanes

    def _ended(self, node: Node, request: Request, replies: list[Reply]) -> None:
        redirect = _redirect_in(replies)
        if redirect is None:
            request.ended(replies)
        else:
            self._spawn(self._redirect(request, redirect, node), "redis redirect")

    async def _redirect(self, request: Request, redirect: AskError, node: Node) -> None:
        request.redirects += 1
        if request.redirects > _MAX_REDIRECTS:
            request.ended(ClusterError("redirected in circles"))
            return
        try:
            target = await self._follow(redirect, node)
        except ERRORS as error:
            request.ended(error)
            return
        if isinstance(redirect, MovedError):
            self._lanes_to(target).send(request)
        else:
            self._lanes_to(target).send(_asking(request))

    async def _follow(self, redirect: AskError, asked: _Place) -> Node:
        """Where a redirection leads; one for good is remembered. Raises ERRORS if it makes no sense."""
        # A node that does not know its own name answers with the port alone.
        host = asked.host if redirect.host in NO_HOST else redirect.host
        target = self._topology.known(host, redirect.port)
        if isinstance(redirect, MovedError):
            self._topology.own(redirect.slot_id, redirect.slot_id, target)
            self._look_soon(target)
        return target

    def _look_soon(self, owner: Node) -> None:
        """Where one slot has moved, more have: all of them, if a replica has taken over from its primary."""
        if self._look_due is None:
            loop = asyncio.get_running_loop()
            at = max(loop.time(), self._looked_at + _LOOK_EVERY_S)
            self._look_due = loop.call_at(at, self._look_now, owner)

    def _look_now(self, owner: Node) -> None:
        self._look_due = None
        self._spawn(self._look_quietly(owner), "redis look anew")

    async def _look_quietly(self, owner: Node) -> None:
        with suppress(*ERRORS):
            await self._look_anew("", first=owner.name)

    async def _look_anew(self, failed: str, *, first: str = "", patient: bool = False) -> None:
        """Reads the topology from a node that is known, or else from the addresses of the settings. One at a time."""
        looks = self._looks
        async with self._looking:
            if self._looks != looks:
                return
            self._looked_at = asyncio.get_running_loop().time()
            self._topology = await self._found(failed, first, patient=patient)
            self._looks += 1
        for name in self._lanes.keys() - self._topology.nodes.keys():
            await self._lanes.pop(name).close()

    async def _found(self, failed: str, first: str, *, patient: bool) -> Topology:
        # The new owner of a slot knows best, others may not have heard of it yet; and one that failed is asked last.
        known = sorted(
            self._topology.nodes.values(),
            key=lambda node: (node.name == failed, node.name != first, random.random()),  # noqa: S311
        )
        best: Topology | None = None
        last: Exception | None = None
        for node in (*known, *(seed for seed in self._seeds if seed not in known)):
            try:
                slots = await ask(self._kind, self._kwargs(node), _CLUSTER_SLOTS, patient=patient)
                found = topology_of(slots, node)
            except ERRORS as error:
                last = error
                continue
            if best is None or found.covered > best.covered:
                best = found
            if best.covered == SLOTS:
                break
        if best is None:
            raise RedisClusterException(f"no node of the cluster answers: {last}") from last
        return best


def _about(key: bytes) -> Command:
    # PING is answered by a node that serves no keys, too, and by a proxy whose Redis is gone.
    return Command(("EXISTS", key), int) if key else _PING


def _redirect_in(replies: list[Reply]) -> AskError | None:
    for reply in replies:
        if isinstance(reply, AskError):
            return reply
    return None


def _asking(request: Request) -> Request:
    """As it is asked of a node that has not taken the slot over yet: ASKING holds for the next command alone."""

    def ended(outcome: list[Reply] | Exception) -> None:
        request.ended(outcome if isinstance(outcome, Exception) else outcome[1::2])

    return Request(
        request.key,
        _after_asking(request.commands),
        ended,
        is_dropped=request.is_dropped,
        redirects=request.redirects,
    )


def _after_asking(commands: Sequence[Command]) -> tuple[Command, ...]:
    return tuple(sent for command in commands for sent in (_ASKING, command))
