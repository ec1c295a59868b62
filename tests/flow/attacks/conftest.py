"""A proxy per file and lane before an API that tells all that it was asked; a file's own `config` adds to it."""

from collections.abc import AsyncIterator
from itertools import count

import pytest
import pytest_asyncio

from tests.flow.attacks.site import Site, telling
from tests.flow.lanes import LANES, by
from tests.flow.origin import Origin, origin
from tests.flow.processes import Proxy, running

_numbers = count(1)
# They go by all lanes, each in a second or three. The others take longer, and are about what both lanes share, or about
# more than a lane: what slow clients, costs and floods of variants do is tried by the lane that is the default.
_BY_ALL = {f"test_attack_{name}" for name in ("addresses", "answers", "denial", "keys", "leaks", "unkeyed")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Which lanes a file goes by."""
    if "lane" in metafunc.fixturenames:
        name = metafunc.module.__name__.rpartition(".")[2]
        metafunc.parametrize("lane", LANES if name in _BY_ALL else LANES[:1], scope="module", indirect=True)


@pytest.fixture(scope="module")
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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
async def proxy(api: Origin, config: str, upstream: str, lane: str) -> AsyncIterator[Proxy]:
    async with running(f"upstream: {{url: {api.url}, {upstream}}}\n{config}", **by(lane)) as started:
        yield started


@pytest.fixture
def site(api: Origin, proxy: Proxy) -> Site:
    """A path of its own for each test; none begins as another does."""
    return Site(api=api, proxy=proxy, path=f"/site-{next(_numbers):04}")
