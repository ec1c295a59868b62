"""Proxies over one Redis and before one API, under load: where faults happen."""

import asyncio
import gc
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import FaultProxy
from tests.flow.client import connected, fetch
from tests.flow.faults.api import Api
from tests.flow.faults.load import Load
from tests.flow.faults.machine import Window
from tests.flow.faults.oracle import KINDS, MAX_AGE_S, TAG, Ask, Change, read, routes
from tests.flow.processes import Proxy, running
from tests.servers import Server

API_TIMEOUT_S = 0.5
# Every key is asked for several times, and what has a connection has it.
_WARM_S = 1.5
_UP = re.compile(rb"^crowdgate_redis_up (\S+)$", re.MULTILINE)
# What only the API can answer, and what of it shows that it does.
_FRESH = ("brief", "lenient", "renewed", "cold", "passed")


def config(api: Api, redis: str, more: str = "") -> str:
    """A proxy's. `redis` is the section without timings: the defaults are what is promised to do."""
    return f"""
upstream: {{url: {api.url}, timeout: {API_TIMEOUT_S}s, read_timeout: {API_TIMEOUT_S}s}}
memory: {{max_size: 8MiB, max_age: {MAX_AGE_S}s}}
redis: {redis}
{more}
{routes()}"""


@dataclass(slots=True, kw_only=True)
class Stage:
    """What faults are made on. The first proxy is the one that is told to purge."""

    name: str
    proxies: list[Proxy]
    api: Api
    servers: Sequence[Server]
    """Redis."""
    ways: Sequence[FaultProxy] = ()
    """Before each of `servers`, if there are any."""
    clock: Path | None = None
    """The file that says how wrong the first proxy's clock is."""
    log_reader: subprocess.Popen[bytes] | None = None
    """Who reads the last proxy's log. If there is one, requests are logged."""
    calm: Window | None = None
    """When it was last measured without a fault."""
    load: Load = field(init=False)

    def __post_init__(self) -> None:
        self.load = Load([proxy.port for proxy in self.proxies])

    async def change(self, *, purge: bool) -> Change:
        """The API changes its mind, and the first replica is told."""
        change = Change(version=await self.api.change(), at=time.monotonic(), graces=[])
        if purge:
            body = json.dumps({"tags": [TAG]}).encode()
            answer = await self.proxies[0].asked("/api/purge", method="POST", body=body)
            assert answer.status == 200, answer.body
            change.purged_at = time.monotonic()
        return change

    async def fill(self) -> None:
        """Have all that can be stored stored."""
        for proxy in self.proxies:
            async with connected(proxy.port) as client:
                for ask in self.load.all_asks():
                    await client.ask(ask.target, *ask.fields)

    def errors(self) -> list[str]:
        """What the proxies have logged as errors: each is a defect of theirs, whatever happened to them."""
        lines = [line for log in self._logs for line in log.read_text(errors="replace").splitlines()]
        return [line for line in lines if '"level":"error"' in line]

    @property
    def _logs(self) -> list[Path]:
        return [proxy.config.with_name("log") for proxy in self.proxies]

    def rss_mib(self) -> list[float]:
        return [proxy.rss / 2**20 for proxy in self.proxies]

    async def ups(self) -> list[bool]:
        """Whether each replica uses Redis, all of it."""
        texts = await asyncio.gather(*(proxy.asked("/metrics") for proxy in self.proxies))
        found = [_UP.search(text.body) for text in texts]
        return [match is not None and match[1] == b"1.0" for match in found]

    async def is_well(self) -> bool:
        """Whether Redis is used by all, what one stores others serve, what the API now says is served, and logged."""
        sizes = [log.stat().st_size for log in self._logs]
        uses_redis = all(await self.ups()) and await self._reads_redis()
        if not (uses_redis and await self._shares() and await self._is_fresh()):
            return False
        grown = [log.stat().st_size > size for log, size in zip(self._logs, sizes, strict=True)]
        return self.log_reader is None or all(grown)

    async def _reads_redis(self) -> bool:
        targets = [f"/shared/{key}" for key in range(KINDS["shared"].keys)]
        answers = [await fetch(proxy.port, target) for proxy in self.proxies for target in targets]
        return all("detail=redis" in answer.cache for answer in answers)

    async def _shares(self) -> bool:
        """Enough keys to be on every node of a cluster."""
        first, *others = self.proxies
        asks = [self.load.next_ask("cold") for _ in range(8)]
        await asyncio.gather(*(fetch(first.port, ask.target) for ask in asks))
        # It is stored behind the client's back.
        await asyncio.sleep(0.02)
        answers = [await fetch(proxy.port, ask.target) for proxy in others for ask in asks]
        return all("detail=redis" in answer.cache for answer in answers)

    async def _is_fresh(self) -> bool:
        asks = [self.load.next_ask(kind) for kind in _FRESH]
        versions = [await _version(proxy, ask) for proxy in self.proxies for ask in asks]
        return set(versions) == {self.api.version}


async def _version(proxy: Proxy, ask: Ask) -> int:
    method = "POST" if ask.posted else "GET"
    answer = await fetch(proxy.port, ask.target, method=method, body=ask.posted)
    return read(ask, answer.status, answer.body)[0]


@asynccontextmanager
async def api_running() -> AsyncIterator[Api]:
    api = Api()
    try:
        await api.start()
        yield api
    finally:
        api.kill()


@asynccontextmanager
async def opened(
    name: str, redis: str, servers: Sequence[Server], ways: Sequence[FaultProxy] = ()
) -> AsyncIterator[Stage]:
    """A stage of two replicas, with its load. `redis` is the proxies' section, as YAML."""
    async with api_running() as api, AsyncExitStack() as stack:
        text = config(api, redis)
        proxies = [await stack.enter_async_context(running(text, defects=True)) for _ in range(2)]
        stage = Stage(name=name, proxies=proxies, api=api, servers=servers, ways=ways)
        yield await stack.enter_async_context(under_load(stage))


@asynccontextmanager
async def under_load(stage: Stage) -> AsyncIterator[Stage]:
    # What a test run has imported by now is looked through for tens of milliseconds by every full collection.
    gc.collect()
    gc.freeze()
    try:
        async with stage.load.running():
            await asyncio.sleep(_WARM_S)
            yield stage
    finally:
        gc.unfreeze()
