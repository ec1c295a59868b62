"""A whole proxy in the test's own process, and a second port of it that tells which requests took the quick ways."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy import metrics
from proxy.connection import ClientServer
from proxy.connection import listening as by_aiohttp
from proxy.express import Express, Port, listening
from proxy.messages import Incoming
from proxy.upstream import _Pool
from tests.flow.client import Client, Response, connected
from tests.flow.origin import Asked, Origin
from tests.proxy.live import Live, live

OFTEN = 20
"""So many requests that look alike, and their answers, are known by then."""
_PATIENCE_S = 5.0
_PATIENCE, _IN_A_ROW = 500, 5
_FAMILIES = (metrics.REQUESTS, metrics.UPSTREAM_REQUESTS, metrics.BAD_REQUESTS)


@dataclass
class Quick:
    """Where it is reached, and what it did."""

    one: Live
    port: int
    server: Any
    slowly: list[bytes] = field(default_factory=list)
    """Targets that the handler was asked for."""
    passages: list[bytes] = field(default_factory=list)
    """Targets that were passed on without it, as far as their answers were plain."""

    @property
    def api(self) -> Origin:
        return self.one.api

    @property
    def lane(self) -> Port:
        assert isinstance(self.server, Port)
        return self.server

    @property
    def connection(self) -> Express:
        """The only one that is open."""
        (only,) = self.lane.open
        return only

    @property
    def pool(self) -> _Pool:
        (pool,) = self.one.proxy.config.upstream._pools.values()
        return pool

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way, and nothing was lost of what there is a bounded number of."""
        pool, proxy = self.pool, self.one.proxy
        slots = (pool._all._free, pool._in_use, pool.address.inflight)
        return (slots, proxy.metrics.inflight, proxy.front.connections, len(proxy.handler._flights)) == (
            (pool.limits.max_connections, 0, 0), 0, 0, 0
        )  # fmt: skip

    async def rest(self) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(_PATIENCE_S):
            while not self.at_rest:
                await asyncio.sleep(0.005)

    def counted(self) -> Counter[str]:
        """Requests, by all that is told of them."""
        samples = metrics.read(self.one.proxy.metrics.render().decode())
        counts: Counter[str] = Counter()
        for sample in samples:
            if sample.name in _FAMILIES and sample.value:
                counts[f"{sample.name}{sorted(sample.labels.items())}"] += int(sample.value)
        return counts

    def asked(self, path: str) -> list[bytes]:
        """What the API was asked for, there."""
        return [asked.head for asked in self.api.of(path)]


@asynccontextmanager
async def quick(folder: Path, more: str = "routes: []\n", *, express: bool = True) -> AsyncIterator[Quick]:
    """A proxy with a config. Without `express` all goes by aiohttp's lane, as it does where a user turns the other off."""
    folder = folder / ("express" if express else "aiohttp")
    folder.mkdir(exist_ok=True)
    async with live(folder, more) as one:
        proxy = one.proxy
        begin, pass_on = proxy.front.begin, proxy.passages.begin
        quickly = listening(proxy.front, proxy.hits, proxy.passages, "127.0.0.1", 0)
        slowly = by_aiohttp(ClientServer(proxy.front), "127.0.0.1", 0)
        async with quickly if express else slowly as listener:
            number = int(listener.address.rpartition(":")[2])
            seen = Quick(one, number, listener._server)

            def begun(incoming: Incoming) -> Any:
                seen.slowly.append(incoming.target)
                return begin(incoming)

            def passed(client: Any, shape: Any, data: bytes, values: tuple[bytes, ...]) -> Any:
                passage = pass_on(client, shape, data, values)
                if passage is not None:
                    seen.passages.append(values[0])
                return passage

            proxy.front.begin = begun
            proxy.passages.begin = passed  # type: ignore[method-assign]
            yield seen
            proxy.front.draining = False


@asynccontextmanager
async def client_of(seen: Quick) -> AsyncIterator[Client]:
    async with connected(seen.port) as client:
        yield client


async def often(
    client: Client, target: str, *lines: str, method: str = "GET", times: int = OFTEN
) -> Response:
    """The last answer of so many."""
    for _ in range(times):
        response = await client.ask(target, *lines, method=method)
    return response


async def known(seen: Quick, client: Client, target: str, *lines: str, method: str = "GET") -> Response:
    """The last answer of as many as it takes until they need the handler no more."""
    quick_ones = 0
    for _ in range(_PATIENCE):
        before = len(seen.slowly)
        response = await client.ask(target, *lines, method=method)
        quick_ones = quick_ones + 1 if len(seen.slowly) == before else 0
        if quick_ones == _IN_A_ROW:
            return response
        # What was asked for may still be on its way into Redis.
        await asyncio.sleep(0.001)
    raise AssertionError(f"{target} is never answered the quick way")


def in_pieces(*pieces: bytes, pause_s: float = 0.02) -> Any:
    """An API that writes these bytes one after the other; what is empty ends the connection."""

    async def answer(asked: Asked) -> None:
        for piece in pieces:
            if not piece:
                asked.close()
                return
            await asked.send(piece)
            await asyncio.sleep(pause_s)

    return answer
