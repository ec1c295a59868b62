"""Both databases keep the same promises."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.demo import build, build_mysql, mysql
from proxy.demo.database import Database
from proxy.demo.sqlite import SQLite
from tests.mariadb import Server

SCALE = 0.001


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
async def database(
    request: pytest.FixtureRequest, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        build.copy_to(tmp_path / "demo.sqlite3", SCALE)
        on_file = SQLite(tmp_path / "demo.sqlite3")
        await on_file.open()
        yield on_file
        await on_file.close()
        return
    server = request.getfixturevalue("mariadb_server")
    assert isinstance(server, Server)
    server.run("CREATE DATABASE IF NOT EXISTS promises")
    on_server = mysql.MySQL(mysql.parse(server.dsn("promises")))
    await on_server.open()
    await build_mysql.build(on_server, SCALE)
    yield on_server
    await on_server.close()


async def test_rows_come_by_column_name_with_instants_as_text(database: Database) -> None:
    rows = await database.rows("SELECT id, starts_at, DATE(starts_at) AS day FROM events WHERE id = ?", 1)

    assert rows == [{"id": 1, "starts_at": "2025-09-20 15:16:00", "day": "2025-09-20"}]


async def test_sums_are_integers(database: Database) -> None:
    [row] = await database.rows("SELECT SUM(id) AS total FROM event_types")

    assert repr({"total": 78}) == repr(row)


async def test_what_a_transaction_wrote_is_seen_after_it(database: Database) -> None:
    async with database.transaction() as transaction:
        done = await transaction.write(
            "INSERT INTO users (name, email, role) VALUES (?, ?, ?)", "Zoë 🎟", "z@x", "new"
        )

    rows = await database.rows("SELECT id, name FROM users WHERE role = 'new' ORDER BY id DESC LIMIT 1")
    assert [{"id": done.new_id, "name": "Zoë 🎟"}] == rows


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    async def failing() -> None:
        async with database.transaction() as transaction:
            await transaction.write("UPDATE events SET title = ? WHERE id = ?", "Lost", 2)
            raise KeyError

    with pytest.raises(KeyError):
        await failing()

    assert await database.rows("SELECT id FROM events WHERE title = 'Lost'") == []


async def test_a_caller_that_leaves_in_a_transaction_leaves_nothing_and_stops_nobody(
    database: Database,
) -> None:
    begun = asyncio.Event()

    async def leaver() -> None:
        async with database.transaction() as transaction:
            await transaction.write("UPDATE events SET title = ? WHERE id = ?", "Left", 3)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(leaver())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    async with database.transaction() as transaction:
        done = await transaction.write("UPDATE events SET updated_at = updated_at WHERE id = ?", 3)

    assert (done.rows, await database.rows("SELECT id FROM events WHERE title = 'Left'")) == (1, [])


async def test_callers_that_leave_at_any_moment_stop_nobody(database: Database) -> None:
    async def writer() -> None:
        async with database.transaction() as transaction:
            await transaction.write("UPDATE events SET title = title WHERE id = ?", 4)

    for steps in range(12):
        task = asyncio.create_task(writer())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await writer()

    assert await database.rows("SELECT id FROM events WHERE id = ?", 4) == [{"id": 4}]


async def test_many_callers_at_once_are_all_answered(database: Database) -> None:
    answers = await asyncio.gather(
        *(database.rows("SELECT id FROM events WHERE id = ?", n) for n in range(1, 101))
    )

    assert [[{"id": n}] for n in range(1, 101)] == answers
