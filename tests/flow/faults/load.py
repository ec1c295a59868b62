"""Constant load: clients that keep their connections and their pace, and note each answer."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

from tests.flow.client import Client
from tests.flow.faults.oracle import KINDS, Ask, Kind, Sample, read

# In all, and what two shared processors easily bear: an answer takes about 1 ms of all processes together.
PER_S = 250.0
_CLIENTS = 7
"""Per replica."""
_QUICK_CLIENTS = 4
PRINCIPALS = tuple(f"Bearer {number}" for number in range(6))
_PATIENCE_S = 20.0
_WITHOUT_ANSWER = (OSError, EOFError, TimeoutError, ValueError)


class Load:
    """Asks all replicas for as long as it runs."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.samples: list[Sample] = []
        self._ports = ports
        self._numbers = count(1)
        # Seeded: the same mix in every run.
        self._random = random.Random(7)
        self._asked: dict[float, str] = {}
        """Who waits for an answer: since when, to what."""

    def since(self, start: float, end: float = float("inf")) -> list[Sample]:
        """What was asked between two instants."""
        return [sample for sample in self.samples if start <= sample.at < end]

    def waiting(self, longer_than_s: float) -> list[str]:
        """Who has waited for so long, and waits."""
        now = time.monotonic()
        return [
            f"{target}: no answer after {now - since:.1f} s"
            for since, target in self._asked.items()
            if now - since > longer_than_s
        ]

    def all_asks(self) -> list[Ask]:
        """What can be asked twice and is answered without the API."""
        return [
            Ask(kind=kind.name, target=f"/{kind.name}/{key}", principal=principal)
            for kind in KINDS.values()
            if kind.outlives_the_api
            for key in range(kind.keys)
            for principal in (PRINCIPALS if kind.name == "mine" else ("",))
        ]

    def next_ask(self, kind: str) -> Ask:
        keys = KINDS[kind].keys
        number = self._random.randrange(keys) if keys else next(self._numbers)
        principal = self._random.choice(PRINCIPALS) if kind == "mine" else ""
        posted = b"posted %d" % number if kind == "passed" and number % 2 else b""
        return Ask(kind=kind, target=f"/{kind}/{number}", principal=principal, posted=posted)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        # Whoever waits for a slow API asks nothing else meanwhile, so what needs no API has clients of its own.
        quick = [kind for kind in KINDS.values() if kind.is_quick]
        rest = [kind for kind in KINDS.values() if not kind.is_quick]
        work = [
            self._client(replica, mix, _CLIENTS * len(self._ports) / PER_S)
            for replica in range(len(self._ports))
            for mix, clients in ((quick, _QUICK_CLIENTS), (rest, _CLIENTS - _QUICK_CLIENTS))
            for _ in range(clients)
        ]
        tasks = [asyncio.ensure_future(client) for client in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [end for end in ended if not isinstance(end, asyncio.CancelledError)] == []

    async def _client(self, replica: int, mix: Sequence[Kind], every_s: float) -> None:
        weights = [kind.weight for kind in mix]
        # Side by side, not all at once.
        due = time.monotonic() + self._random.random() * every_s
        client: Client | None = None
        try:
            while True:
                await asyncio.sleep(due - time.monotonic())
                (kind,) = self._random.choices(mix, weights)
                ask = self.next_ask(kind.name)
                started = time.monotonic()
                self._asked[started] = f"{ask.target} of replica {replica}"
                client, sample = await self._one(client, replica, ask)
                del self._asked[started]
                self.samples.append(sample)
                # It does not catch up, and keeps step. Whoever waits asks less: left out, what hangs would look quick.
                ended, due = sample.at + sample.took_s, due + every_s
                while due < ended:
                    self.samples.append(replace(sample, at=due, took_s=ended - due, is_missed=True))
                    due += every_s
        finally:
            if client is not None:
                client.abort()

    async def _one(self, client: Client | None, replica: int, ask: Ask) -> tuple[Client | None, Sample]:
        """A request on the client's connection, or on a new one. Returns the connection if it can be used again."""
        started = time.monotonic()
        try:
            client = client or await _connection(self._ports[replica])
            async with asyncio.timeout(_PATIENCE_S):
                method = "POST" if ask.posted else "GET"
                response = await client.ask(ask.target, *ask.fields, method=method, body=ask.posted)
        except _WITHOUT_ANSWER as error:
            if client is not None:
                client.abort()
            cut = f"no answer for {ask.target}: {error!r}"
            return None, Sample(
                at=started,
                took_s=time.monotonic() - started,
                replica=replica,
                kind=ask.kind,
                status=0,
                cut=cut,
            )
        took_s = time.monotonic() - started
        version, wrong = read(ask, response.status, response.body) if response.whole else (0, "")
        sample = Sample(
            at=started,
            took_s=took_s,
            replica=replica,
            kind=ask.kind,
            status=response.status,
            version=version,
            cut="" if response.whole else "cut off",
            wrong=wrong,
        )
        if response.whole and response.get("connection").lower() != "close":
            return client, sample
        client.abort()
        return None, sample


async def _connection(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))
