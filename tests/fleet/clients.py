"""Clients of a fleet: kept connections, a steady pace, and what became of each request."""

import asyncio
from asyncio import IncompleteReadError
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.fleet.replicas import Replica
from tests.flow.client import Client, Response

_OPENED_AT_ONCE = 100
FAILURES = (OSError, IncompleteReadError, TimeoutError)
"""What a client sees of a replica that dies, or never answers."""


class Connections:
    """Kept connections to every replica."""

    def __init__(self) -> None:
        self._idle: dict[int, list[Client]] = defaultdict(list)

    async def ask(self, replica: Replica, target: str, *lines: str) -> Response:
        """A GET. One that fails on a kept connection before any answer is sent once more, as every HTTP client does."""
        idle = self._idle[replica.port]
        if idle:
            client = idle.pop()
            try:
                return await self._ask(client, idle, target, *lines)
            except (ConnectionError, IncompleteReadError) as error:
                if getattr(error, "partial", b""):
                    raise
        return await self._ask(await _opened(replica.port), self._idle[replica.port], target, *lines)

    async def _ask(self, client: Client, idle: list[Client], target: str, *lines: str) -> Response:
        kept = False
        try:
            response = await client.ask(target, *lines)
            kept = response.whole and response.get("connection").lower() != "close"
        finally:
            if kept:
                idle.append(client)
            else:
                client.abort()
        return response

    def close(self) -> None:
        for idle in self._idle.values():
            for client in idle:
                client.abort()
        self._idle.clear()


async def _opened(port: int) -> Client:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    return Client(reader, writer)


@asynccontextmanager
async def crowd(ports: list[int]) -> AsyncIterator[list[Client]]:
    """A connection for each port in the list, open and idle."""
    clients: list[Client] = []
    try:
        # Some at a time: a backlog is not endless.
        for start in range(0, len(ports), _OPENED_AT_ONCE):
            opening = map(_opened, ports[start : start + _OPENED_AT_ONCE])
            clients += await asyncio.gather(*opening)
        yield clients
    finally:
        for client in clients:
            client.abort()


async def paced(per_s: float, work: Callable[[], Awaitable[None]], over: asyncio.Event) -> None:
    """Start some work so often until it is over, whether what was started has ended or not; then wait for the rest.

    What a busy machine was late with is made up for, so that a stall shows in the answers and not in their number.
    """
    loop = asyncio.get_running_loop()
    began, started = loop.time(), 0
    async with asyncio.TaskGroup() as group:
        while not over.is_set():
            # At most a tenth of a second's worth at once: a stalled machine must not be met by an avalanche.
            due = int((loop.time() - began) * per_s)
            if due - started > max(1.0, per_s / 10):
                began, due, started = loop.time(), 1, 0
            for _ in range(due - started):
                group.create_task(_run(work))
            started = max(due, started)
            await asyncio.sleep(1 / per_s)


async def _run(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def quantile(values: list[float], share: float) -> float:
    """The nearest-rank quantile: one of the values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
