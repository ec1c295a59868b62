"""One Redis of its own for a test, and a fault proxy before it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests import servers
from tests.faults import FaultProxy, fault_proxy


@pytest.fixture
def server() -> Iterator[servers.Server]:
    with servers.redis() as one:
        yield one


@pytest.fixture
async def faulty(server: servers.Server) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(server.port) as proxy:
        yield proxy
