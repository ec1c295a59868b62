"""A Redis tier under test: started, watched, and closed without leaving anything behind."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.settings import Redis
from proxy.store.redis import RedisTier
from proxy.tasks import Tasks
from tests import servers
from tests.faults import FaultProxy

TIMEOUT = 0.05
# What a loaded machine may add. Where a figure is a promise, its test says a stricter one.
SLACK = 0.1

needs_redis = pytest.mark.skipif(servers.binary() is None, reason=f"no Redis: {servers.REMEDY}")


class Seen:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.ups: list[bool] = []

    def done(self, op: str, seconds: float) -> None:
        assert seconds >= 0
        self.answered[op] += 1

    def failed(self, kind: str) -> None:
        self.failures[kind] += 1

    def up(self, is_up: bool) -> None:
        self.ups.append(is_up)


@asynccontextmanager
async def tier_on(url: str | None, **settings: Any) -> AsyncIterator[tuple[RedisTier, Seen]]:
    """A started tier that leaves no task behind."""
    seen, tasks = Seen(), Tasks()
    settings = {"timeout": TIMEOUT, "probe_every": 0.2, **settings}
    tier = RedisTier(Redis(url=url, **settings), seen, tasks)
    await tier.start()
    try:
        yield tier, seen
    finally:
        await tier.close()
        left = len(tasks)
        await tasks.close(1)
    assert left == 0, "tasks are left"


def url_of(proxy: FaultProxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}"


async def seconds(work: Any) -> tuple[float, Any]:
    started = time.monotonic()
    result = await work
    return time.monotonic() - started, result


async def back_within(tier: RedisTier, limit_s: float, key: str = "k") -> float:
    """Seconds until a value is served again."""
    started = time.monotonic()
    async with asyncio.timeout(limit_s):
        while await tier.get(key) is None:
            await asyncio.sleep(0.01)
    return time.monotonic() - started
