"""A proxy per test, a Redis per test, and the proof that nothing is left of either."""

import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.flow.origin import Origin, origin

_MARK = "FLOW_TEST_MODULE"


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every process that a module starts has its mark, and all its files have one place: in the end there are none."""
    mark, place = uuid.uuid4().hex, tmp_path_factory.mktemp("flow")
    before = tempfile.tempdir
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_MARK, mark)
        patch.setenv("TMPDIR", str(place))
        patch.setattr(tempfile, "tempdir", str(place))
        yield
    assert tempfile.tempdir == before
    deadline = time.monotonic() + 5
    while (left := _processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (left, list(place.iterdir())) == ([], [])


def _processes(mark: str) -> list[int]:
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            marked = f"{_MARK}={mark}".encode() in environ.read_bytes()
        except OSError:
            continue
        if marked and int(environ.parent.name) != os.getpid():
            found.append(int(environ.parent.name))
    return found


@pytest.fixture
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


@pytest.fixture
def redis_server() -> Iterator[servers.Server]:
    if servers.binary() is None:
        pytest.skip(f"no Redis: {servers.REMEDY}")
    with servers.redis() as server:
        yield server
