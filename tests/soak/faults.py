"""What befalls a fleet, one thing after another, and whether it was well again in time."""

import asyncio
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf

from tests.fleet.clients import FAILURES
from tests.fleet.replicas import Fleet, Replica
from tests.soak.figures import Counts
from tests.soak.oracle import Oracle
from tests.soak.storage import Storage
from tests.soak.world import Api

# A Service notices a pod that is silent by its readiness probe.
_NOTICED_S = 1.0
# So long after a fault its traces may still show, in what takes longer and in what is waited for.
_TRACES_S = 1.0
# A replica that is gone is waited for until it has been silent for three seconds; one that has slept has to catch up.
_TRACES_OF_REPLICA_S = 4.0


class Faults:
    """Each kind once in every round, in an order that the seed decides."""

    def __init__(
        self,
        fleet: Fleet,
        storage: Storage,
        api: Api,
        oracle: Oracle,
        counts: Counts,
        chance: random.Random,
    ) -> None:
        self._fleet = fleet
        self._storage = storage
        self._api = api
        self._oracle = oracle
        self._counts = counts
        self._chance = chance
        self._began = asyncio.get_running_loop().time()
        self._api_failed_at = -1.0
        self._calm_from = self._purges_calm_from = 0.0
        self._stopped: set[int] = set()
        self._gone: set[int] = set()

    # -- what others need to know --

    def running(self) -> frozenset[int]:
        """The places whose replica can hear of a purge."""
        places = {replica.place for replica in self._fleet.replicas}
        return frozenset(places - self._stopped - self._gone)

    def api_failed_since(self, instant: float) -> bool:
        return self._api.failing or self._api_failed_at >= instant

    def calm_since(self, instant: float) -> bool:
        """Whether nothing has been the matter since."""
        return self._calm_from <= instant

    def purges_calm_since(self, instant: float) -> bool:
        """Whether nothing has been the matter that a purge needs: Redis, and every replica."""
        return self._purges_calm_from <= instant

    def since(self, instant: float) -> str:
        return f"{instant - self._began:.2f} s"

    # -- the course of things --

    async def run(self, over: asyncio.Event) -> None:
        """Until it is over; whatever has begun is ended."""
        kinds: list[Callable[[], Awaitable[None]]] = []
        while not over.is_set():
            if not kinds:
                kinds = [
                    *(self.replica_killed, self.replica_stopped, self.api_failing, self.api_hanging),
                    *(self.redis_stopped, self.redis_killed, self.redis_flushed),
                ]
                self._chance.shuffle(kinds)
            fault = kinds.pop()
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), self._chance.uniform(1, 4))
            if over.is_set():
                return
            await self._befall(fault)

    async def _befall(self, fault: Callable[[], Awaitable[None]]) -> None:
        name = fault.__name__.replace("_", " ")
        self._counts.faults[name] += 1
        print(f"{self.since(self._now()):>10}  {name}", file=sys.stderr, flush=True)
        concerns_purges = not name.startswith("api")
        self._calm_from, self._purges_calm_from = inf, inf if concerns_purges else self._purges_calm_from
        try:
            await fault()
        finally:
            traces_s = _TRACES_OF_REPLICA_S if name.startswith("replica") else _TRACES_S
            self._calm_from = self._now() + traces_s
            if concerns_purges:
                self._purges_calm_from = self._calm_from

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # -- replicas --

    async def replica_killed(self) -> None:
        # The first is spared, so that one lives through it all.
        replica = self._chance.choice(self._fleet.replicas[1:])
        self._gone.add(replica.place)
        await self._fleet.kill(replica)
        await asyncio.sleep(self._chance.uniform(0, 1))
        await self._fleet.fill(replica)
        self._gone.discard(replica.place)

    async def replica_stopped(self) -> None:
        replica = self._chance.choice(self._fleet.replicas)
        seconds = self._chance.uniform(0.5, 5)
        window = self._oracle.stopped(replica.place, self._now())
        self._stopped.add(replica.place)
        replica.proxy.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(min(seconds, _NOTICED_S))
            replica.in_service = False
            await asyncio.sleep(max(0.0, seconds - _NOTICED_S))
        finally:
            replica.proxy.send(signal.SIGCONT)
            window.ended = self._now()
            replica.in_service = True
            self._stopped.discard(replica.place)

    # -- the API --

    async def api_failing(self) -> None:
        self._api.failing = True
        await asyncio.sleep(1)
        self._api.failing = False
        self._api_failed_at = self._now()

    async def api_hanging(self) -> None:
        with self._api.hanging():
            await asyncio.sleep(1)

    # -- Redis --

    async def redis_stopped(self) -> None:
        node, window = self._storage.one(self._chance), self._oracle.redis_away(self._now())
        node.pause()
        try:
            await asyncio.sleep(self._chance.uniform(0.1, 4))
        finally:
            node.resume()
        await self._storage.serving()
        window.ended = self._now()
        await self._recovered(window.ended)

    async def redis_killed(self) -> None:
        node, window = self._storage.one(self._chance), self._oracle.redis_away(self._now())
        await asyncio.to_thread(node.kill)
        # Long enough to see that memory is trusted for `max_age` and no longer.
        await asyncio.sleep(self._chance.uniform(0.5, 9))
        await asyncio.to_thread(node.start)
        await self._storage.serving()
        window.ended = self._now()
        await self._recovered(window.ended)

    async def redis_flushed(self) -> None:
        window = self._oracle.redis_away(self._now())
        await asyncio.to_thread(self._storage.flush)
        window.ended = self._now()
        await self._recovered(window.ended)

    async def _recovered(self, cured: float) -> None:
        """Wait until every replica uses Redis, and until nothing is allowed any more because it was away."""
        for replica in self._fleet.replicas:
            while not await _uses_redis(replica):
                await asyncio.sleep(0.05)
        self._counts.recoveries.append(self._now() - cured)
        await asyncio.sleep(max(0.0, cured + self._oracle.bounds.recovery_s - self._now()))


async def _uses_redis(replica: Replica) -> bool:
    try:
        said = (await replica.proxy.asked("/readyz?verbose")).body.decode()
        return "purge log: read to its end" in said and await replica.proxy.metric("crowdgate_redis_up") == 1
    except FAILURES:
        return False
