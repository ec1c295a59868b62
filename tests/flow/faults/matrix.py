"""The fault matrix: which faults happen on which stage."""

import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import servers
from tests.flow.faults.api_faults import OF_THE_API
from tests.flow.faults.host_faults import CLOCKS, LOGS, another_clock, libfaketime, running_with_reader
from tests.flow.faults.redis_faults import ABSENT, OF_A_CLUSTER, OF_A_SERVER, SLOW_LOADING
from tests.flow.faults.stage import Stage, api_running, config, opened, under_load
from tests.flow.faults.trial import Fault
from tests.flow.faults.way_faults import ON_THE_WAY, ways_before
from tests.flow.processes import running
from tests.servers import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A stage, and the faults that happen on it, in this order."""

    opened: Callable[[], AbstractAsyncContextManager[Stage]]
    faults: Sequence[Fault]


def _of_cluster(nodes: Sequence[Server]) -> str:
    return f"{{url: '{','.join(node.url for node in nodes[:3])}', mode: cluster}}"


@asynccontextmanager
async def _server() -> AsyncIterator[Stage]:
    with servers.redis(*SLOW_LOADING) as server:
        async with opened("server", f"{{url: '{server.url}'}}", [server]) as stage:
            yield stage


@asynccontextmanager
async def _server_absent() -> AsyncIterator[Stage]:
    with servers.redis() as server:
        server.kill()
        async with opened("server", f"{{url: '{server.url}'}}", [server]) as stage:
            yield stage


@asynccontextmanager
async def _cluster() -> AsyncIterator[Stage]:
    with servers.cluster(replicas=1) as nodes:
        async with opened("cluster", _of_cluster(nodes), nodes) as stage:
            yield stage


@asynccontextmanager
async def _cluster_absent() -> AsyncIterator[Stage]:
    with servers.cluster() as nodes:
        for node in nodes:
            node.kill()
        async with opened("cluster", _of_cluster(nodes), nodes) as stage:
            yield stage


@asynccontextmanager
async def _way() -> AsyncIterator[Stage]:
    with servers.cluster() as nodes:
        async with ways_before(nodes) as ways:
            url = ",".join(f"redis://127.0.0.1:{way.port}" for way in ways)
            async with opened(
                "cluster, on the way", f"{{url: '{url}', mode: cluster}}", nodes, ways
            ) as stage:
                yield stage


@asynccontextmanager
async def _api() -> AsyncIterator[Stage]:
    with servers.cluster() as nodes:
        async with opened("API", _of_cluster(nodes), nodes) as stage:
            yield stage


@asynccontextmanager
async def _clock() -> AsyncIterator[Stage]:
    """The first replica has a clock of its own."""
    library = libfaketime()
    assert library is not None
    with tempfile.TemporaryDirectory(prefix="clock-") as folder, servers.redis() as server:
        clock = Path(folder) / "clock"
        async with api_running() as api, AsyncExitStack() as stack:
            text = config(api, f"{{url: '{server.url}'}}")
            with another_clock(library, clock):
                odd = await stack.enter_async_context(running(text, defects=True))
            even = await stack.enter_async_context(running(text, defects=True))
            stage = Stage(name="clock", proxies=[odd, even], api=api, servers=[server], clock=clock)
            yield await stack.enter_async_context(under_load(stage))


@asynccontextmanager
async def _logs() -> AsyncIterator[Stage]:
    """Requests are logged: by the first replica into a file, by the last one into a pipe."""
    with servers.redis() as server:
        async with api_running() as api, AsyncExitStack() as stack:
            text = config(api, f"{{url: '{server.url}'}}", "log: {access: true}")
            filed = await stack.enter_async_context(running(text, defects=True))
            piped, reader = await stack.enter_async_context(running_with_reader(text))
            stage = Stage(name="logs", proxies=[filed, piped], api=api, servers=[server], log_reader=reader)
            yield await stack.enter_async_context(under_load(stage))


MATRIX = {
    "server absent": Row(opened=_server_absent, faults=(ABSENT,)),
    "server": Row(opened=_server, faults=OF_A_SERVER),
    "cluster absent": Row(opened=_cluster_absent, faults=(ABSENT,)),
    "cluster": Row(opened=_cluster, faults=OF_A_CLUSTER),
    "way": Row(opened=_way, faults=ON_THE_WAY),
    "api": Row(opened=_api, faults=OF_THE_API),
    "clock": Row(opened=_clock, faults=CLOCKS),
    "logs": Row(opened=_logs, faults=LOGS),
}
