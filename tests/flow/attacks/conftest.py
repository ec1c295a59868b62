"""A proxy per file before an API that tells all that it was asked; a file's own `config` adds to it."""

from collections.abc import AsyncIterator
from itertools import count

import pytest
import pytest_asyncio

from tests.flow.attacks.site import Site, telling
from tests.flow.origin import Origin, origin
from tests.flow.processes import Proxy, running

_numbers = count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        started.on("/", telling())
        yield started


@pytest.fixture(scope="module")
def config() -> str:
    return 'routes: [{match: "/**", ttl: 1m}]\n'


@pytest.fixture(scope="module")
def upstream() -> str:
    """More about the API, as YAML."""
    return "keepalive: 4s"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(api: Origin, config: str, upstream: str) -> AsyncIterator[Proxy]:
    async with running(f"upstream: {{url: {api.url}, {upstream}}}\n{config}") as started:
        yield started


@pytest.fixture
def site(api: Origin, proxy: Proxy) -> Site:
    """A path of its own for each test; none begins as another does."""
    return Site(api=api, proxy=proxy, path=f"/site-{next(_numbers):04}")
