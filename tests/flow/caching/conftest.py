"""A proxy per file and lane, a plain shared cache before a scripted API; a file's own `routes` make it another."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.flow.caching.stage import Stage
from tests.flow.lanes import LANES, by
from tests.flow.origin import Origin, origin
from tests.flow.processes import Proxy, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


@pytest.fixture(scope="module")
def routes() -> str:
    return '[{match: "/**"}]'


@pytest.fixture(scope="module", params=LANES)
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(api: Origin, routes: str, lane: str) -> AsyncIterator[Proxy]:
    async with running(f"upstream: {{url: {api.url}}}\nroutes: {routes}\n", **by(lane)) as started:
        yield started


@pytest.fixture
def stage(api: Origin, proxy: Proxy) -> Stage:
    return Stage(api, proxy)
