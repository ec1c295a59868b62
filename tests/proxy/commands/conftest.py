"""A running proxy per test file, in a thread beside the tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy.live import ROUTES, Live, in_a_thread


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with in_a_thread(tmp_path_factory.mktemp("live")) as started:
        yield started


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One whose writes need the token `s3cret`."""
    more = "admin: {listen: '127.0.0.1:0', token: s3cret}" + ROUTES
    with in_a_thread(tmp_path_factory.mktemp("locked"), more) as started:
        yield started


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    return str(file)
