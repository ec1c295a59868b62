"""What only SQLite can do wrong."""

from pathlib import Path

import pytest

from proxy.demo.database import UnavailableError
from proxy.demo.sqlite import SQLite


async def test_a_missing_file_is_told_and_not_created(tmp_path: Path) -> None:
    database = SQLite(tmp_path / "nowhere.sqlite3")

    with pytest.raises(UnavailableError, match="unable to open"):
        await database.open()
    await database.close()
    assert not (tmp_path / "nowhere.sqlite3").exists()


async def test_a_statement_that_fails_names_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.sqlite3").touch()
    database = SQLite(tmp_path / "empty.sqlite3")
    await database.open()

    with pytest.raises(UnavailableError, match="no such table"):
        await database.rows("SELECT 1 FROM nowhere")
    await database.close()


async def test_a_closed_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.sqlite3").touch()
    database = SQLite(tmp_path / "empty.sqlite3")
    await database.open()
    reader = database._all[1]
    await database.close()

    with pytest.raises(UnavailableError, match="closed"):
        reader._cursor("SELECT 1", ())
