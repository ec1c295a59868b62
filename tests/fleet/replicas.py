"""Several proxies with one config, that come and go as pods do."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.flow.processes import Proxy, running


@dataclass(eq=False, slots=True)
class Replica:
    """A place in the fleet, and the process that fills it now."""

    place: int
    proxy: Proxy
    _life: AsyncExitStack
    in_service: bool = True
    """Whether it gets requests, as an endpoint of a Service does while its pod is ready."""
    died_at: list[float] = field(default_factory=list)
    """When it was killed, by the loop's clock: what it was asked for then may have gone with it."""

    @property
    def port(self) -> int:
        return self.proxy.port


class Fleet:
    """The replicas, by place."""

    def __init__(self, config: str, *, defects: bool = False) -> None:
        self.config = config
        self.replicas: list[Replica] = []
        self._defects = defects
        self.logged: list[str] = []
        """Errors that were logged by those that are gone, where `defects` are to be told of instead of raised."""

    @property
    def serving(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.in_service]

    async def start(self, count: int) -> None:
        starting = await asyncio.gather(*(self._started() for _ in range(count)), return_exceptions=True)
        # Those that have started are known, and so ended, also where another has not.
        started = [one for one in starting if not isinstance(one, BaseException)]
        self.replicas = [Replica(place, *one) for place, one in enumerate(started)]
        for failed in starting:
            if isinstance(failed, BaseException):
                raise failed

    async def kill(self, replica: Replica) -> None:
        """kill -9, and nothing in its place."""
        replica.in_service = False
        replica.died_at.append(asyncio.get_running_loop().time())
        replica.proxy.process.kill()
        await replica.proxy.ended()
        await self._closed(replica)

    async def fill(self, replica: Replica) -> None:
        """Put a new process in the place of one that is gone."""
        replica.proxy, replica._life = await self._started()
        replica.in_service = True

    async def roll(self, *, unseen_s: float) -> None:
        """A rolling restart: each is told to end and the next comes when its successor is ready.

        As in Kubernetes, requests still come for `unseen_s` after SIGTERM: endpoints are withdrawn a little later.
        """
        for replica in self.replicas:
            replica.proxy.send(signal.SIGTERM)
            await asyncio.sleep(unseen_s)
            replica.in_service = False
            await replica.proxy.ended()
            await self._closed(replica)
            await self.fill(replica)

    async def close(self) -> None:
        # One by one, so that what one has logged does not hide the end of the others.
        async with AsyncExitStack() as stack:
            for replica in self.replicas:
                stack.push_async_callback(self._closed, replica)

    async def _closed(self, replica: Replica) -> None:
        if self._defects and replica.proxy.config.exists():
            errors = [line for line in replica.proxy.log() if line.get("level") == "error"]
            self.logged += [f"replica {replica.place}: {line}" for line in errors]
        await replica._life.aclose()

    async def _started(self) -> tuple[Proxy, AsyncExitStack]:
        life = AsyncExitStack()
        return await life.enter_async_context(running(self.config, defects=self._defects)), life


@asynccontextmanager
async def fleet(config: str, count: int, *, defects: bool = False) -> AsyncIterator[Fleet]:
    """A fleet whose replicas are ready."""
    replicas = Fleet(config, defects=defects)
    try:
        await replicas.start(count)
        yield replicas
    finally:
        await replicas.close()
