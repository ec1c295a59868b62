"""The sample in a MySQL schema: built once, rebuilt when it is another, never over somebody's tables."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from proxy.demo import build_mysql, mysql, schema
from proxy.demo.database import UnfitError
from tests.mariadb import Server

pytestmark = pytest.mark.mariadb

SCALE = 0.001

Opened = Callable[[str], AbstractAsyncContextManager[mysql.MySQL]]


@pytest.fixture
def opened(mariadb_server: Server) -> Opened:
    @asynccontextmanager
    async def opened(name: str) -> AsyncIterator[mysql.MySQL]:
        mariadb_server.run(f"CREATE DATABASE {name}")
        database = mysql.MySQL(mysql.parse(mariadb_server.dsn(name)))
        await database.open()
        yield database
        await database.close()

    return opened


async def test_a_sample_that_is_there_keeps_what_was_written(opened: Opened, mariadb_server: Server) -> None:
    async with opened("kept") as database:
        await build_mysql.build(database, SCALE)
        mariadb_server.run("DELETE FROM checkins", schema="kept")
        await build_mysql.build(database, SCALE)

    assert mariadb_server.run("SELECT COUNT(*) FROM checkins", schema="kept") == [(0,)]


async def test_a_build_that_was_cut_short_is_begun_anew(opened: Opened, mariadb_server: Server) -> None:
    async with opened("cut_short") as database:
        await build_mysql.build(database, SCALE)
        mariadb_server.run("DELETE FROM crowdgate_demo", "DELETE FROM events", schema="cut_short")
        await build_mysql.build(database, SCALE)

    assert mariadb_server.run("SELECT COUNT(*) FROM events", schema="cut_short") == [(2000,)]
    assert mariadb_server.run(schema.SELECT_MARKER, schema="cut_short") == [(1, "0.001")]


async def test_a_sample_of_another_scale_is_built_anew(opened: Opened, mariadb_server: Server) -> None:
    async with opened("another") as database:
        await build_mysql.build(database, SCALE)
        await build_mysql.build(database, 0.002)

    assert mariadb_server.run("SELECT COUNT(*) FROM participants", schema="another") == [(400,)]


async def test_somebody_elses_tables_are_refused_and_left_alone(
    opened: Opened, mariadb_server: Server
) -> None:
    async with opened("foreign_land") as database:
        mariadb_server.run(
            "CREATE TABLE users (id INT)", "INSERT INTO users VALUES (7)", schema="foreign_land"
        )
        with pytest.raises(UnfitError, match=r"tables of somebody else's \(users\)"):
            await build_mysql.build(database, SCALE)

    assert mariadb_server.run("SELECT id FROM users", schema="foreign_land") == [(7,)]


async def test_there_is_no_index_but_primary_keys(opened: Opened, mariadb_server: Server) -> None:
    async with opened("bare") as database:
        await build_mysql.build(database, SCALE)

    indexes = mariadb_server.run(
        "SELECT DISTINCT index_name FROM information_schema.statistics WHERE table_schema = 'bare'"
    )
    assert indexes == [("PRIMARY",)]
