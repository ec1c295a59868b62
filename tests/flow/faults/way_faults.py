"""What happens between the proxies and Redis: a proxy before each node makes bytes late, cuts them off, replaces them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from typing import Any

from tests import servers
from tests.faults import NONE, FaultProxy, fault_proxy
from tests.flow.faults.stage import Stage
from tests.flow.faults.trial import ADDED_MS, Fault, Inject
from tests.servers import Server

# Of other types, of absurd sizes, no RESP at all, without end, more than was asked for.
ABSURD = (
    b"garbage\r\n",
    b"HTTP/1.1 400 Bad Request\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    bytes(100_000),
    b"$1099511627776\r\nx",
    b"*1000000000\r\n",
    b"*1\r\n" * 100_000,
    b"*2\r\n:1\r\n:2\r\n",
    b"$-1\r\n",
    b":" + b"9" * 10_000 + b"\r\n",
    b"+OK\r\n" * 1000,
    b"-ERR none of your business\r\n",
    b"-MOVED 1 127.0.0.1:1\r\n",
)
# Each once while it is measured.
_ABSURD_EVERY_S = 0.12


@asynccontextmanager
async def ways_before(nodes: Sequence[Server]) -> AsyncIterator[list[FaultProxy]]:
    """A fault proxy before each node of a cluster, which names it as its own address."""
    async with AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(fault_proxy(node.port)) for node in nodes]
        for node, way in zip(nodes, ways, strict=True):
            node.command("CONFIG", "SET", "cluster-announce-port", way.port)
        ports = {way.port for way in ways}
        await asyncio.to_thread(
            servers.until, lambda: all(_named(node) == ports for node in nodes), "the nodes to be renamed"
        )
        yield ways


def _named(node: Server) -> set[int]:
    """Under which ports a node knows the nodes of its cluster."""
    return {port for _, _, *owners in node.command("CLUSTER", "SLOTS") for _, port, *_ in owners}


def harmed(**fault: Any) -> Inject:
    """All that comes from Redis."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        for way in stage.ways:
            way.set(**fault)
        try:
            yield
        finally:
            for way in stage.ways:
                way.fault = NONE

    return inject


@asynccontextmanager
async def _absurd(stage: Stage) -> AsyncIterator[None]:
    async def change() -> None:
        for answer in cycle(ABSURD):
            for way in stage.ways:
                way.set(answer=answer)
            await asyncio.sleep(_ABSURD_EVERY_S)

    changing = asyncio.ensure_future(change())
    try:
        yield
    finally:
        changing.cancel()
        for way in stage.ways:
            way.fault = NONE


ON_THE_WAY = (
    # Within `redis.timeout` it is used: one round trip for all that is not in memory, and one or two more for whoever waits
    # for what another replica fetches, and looks now and then.
    Fault(name="slow by 30 ms", inject=harmed(delay_s=0.03), added_ms=3 * 30 + ADDED_MS),
    Fault(name="slow by 2 s", inject=harmed(delay_s=2.0), opens=True),
    Fault(name="connections reset mid-reply", inject=harmed(cut_after=9)),
    Fault(name="truncated replies", inject=harmed(cut_after=9, reset=False)),
    Fault(name="absurd replies", inject=_absurd),
    Fault(name="corrupt replies", inject=harmed(corrupt=True), opens=True),
)
