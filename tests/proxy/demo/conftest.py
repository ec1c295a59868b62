"""One running sample API per database, for all tests of the demo."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.mariadb import Server, mariadb_server  # noqa: F401 - fixtures are found by name
from tests.proxy.demo.processes import Api, running


@pytest.fixture(scope="session", autouse=True)
def no_stray_loop() -> None:
    """looptime's plugin asks for the current event loop even in tests without one; Python 3.11 would make one for it
    that nobody closes, and the warning would hit some later test."""
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the samples of this run are built, so that no earlier run's is met."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", params=["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def api(request: pytest.FixtureRequest, cache: Path) -> Iterator[Api]:
    if request.param == "sqlite":
        with running(cache) as started:
            yield started
        return
    server = request.getfixturevalue("mariadb_server")
    assert isinstance(server, Server)
    # It may be there: with another sample in between, this one is asked for twice.
    server.run("CREATE DATABASE IF NOT EXISTS sample_api")
    with running(cache, "--dsn", server.dsn("sample_api")) as started:
        yield started


@pytest.fixture
async def client(api: Api) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(api.url) as session:
        yield session
