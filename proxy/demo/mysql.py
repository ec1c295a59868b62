"""The platform on MySQL or MariaDB."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomysql
import pymysql
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.converters import conversions

from proxy.demo.database import Done, Row, UnavailableError, UnfitError, Value

# A young platform's pool: MySQL allows 151 connections, and several replicas share them.
POOL = 10

CONNECT_TIMEOUT_S = 5.0

# Instants stay the text they are stored as; the only decimals are sums of integers.
_DECODERS = {
    **conversions,
    FIELD_TYPE.DATETIME: str,
    FIELD_TYPE.DATE: str,
    FIELD_TYPE.DECIMAL: int,
    FIELD_TYPE.NEWDECIMAL: int,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dsn:
    """Where a schema is and who we are there. Its text never holds the password."""

    user: str
    password: str = field(repr=False)
    host: str
    port: int
    schema: str

    def __str__(self) -> str:
        return f"mysql://{self.user}@{self.host}:{self.port}/{self.schema}"


def parse(text: str, password: str = "") -> Dsn:
    """`mysql://user:password@host:port/schema`; `password` is used where the text has none.
    Raises ValueError with a sentence that names what is missing, never the password.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"mysql", "mariadb"}:
        raise ValueError("a DSN looks like mysql://user:password@host:port/schema")
    schema = unquote(parts.path.strip("/"))
    if not (parts.username and parts.hostname and schema):
        raise ValueError("a DSN names a user, a host and a schema: mysql://user:password@host:port/schema")
    try:
        port = parts.port or 3306
    except ValueError:
        raise ValueError("a DSN's port is a number from 1 to 65535") from None
    return Dsn(
        user=unquote(parts.username),
        password=unquote(parts.password) if parts.password is not None else password,
        host=parts.hostname,
        port=port,
        schema=schema,
    )


@cache
def _translated(sql: str) -> str:
    """Question marks are SQLite's placeholders; MySQL's client wants its own."""
    return sql.strip().replace("?", "%s")


@contextmanager
def _unavailable() -> Iterator[None]:
    # RuntimeError is what aiomysql makes of some connections that broke under it.
    try:
        yield
    except (pymysql.err.MySQLError, OSError, RuntimeError, EOFError) as error:
        raise UnavailableError(str(error)) from error


class Session:
    """One connection for as long as a transaction or a build lasts."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        with _unavailable():
            async with self._connection.cursor(aiomysql.DictCursor) as cursor:
                await cursor.execute(_translated(sql), values)
                rows: list[Row] = await cursor.fetchall()
                return list(rows)

    async def write(self, sql: str, *values: Value) -> Done:
        with _unavailable():
            async with self._connection.cursor() as cursor:
                await cursor.execute(_translated(sql), values)
                return Done(rows=cursor.rowcount, new_id=cursor.lastrowid or 0)

    async def write_many(self, sql: str, rows: list[tuple[Value, ...]]) -> None:
        with _unavailable():
            async with self._connection.cursor() as cursor:
                await cursor.executemany(_translated(sql), rows)


class MySQL:
    """A pool of connections, each statement committed on its own outside of `transaction`."""

    def __init__(self, dsn: Dsn) -> None:
        self._dsn = dsn
        self._pool: Any = None

    async def open(self) -> None:
        """Raises UnfitError where the server cannot be reached or the schema is not there."""
        dsn = self._dsn
        try:
            self._pool = await aiomysql.create_pool(
                minsize=1,
                maxsize=POOL,
                host=dsn.host,
                port=dsn.port,
                user=dsn.user,
                password=dsn.password,
                db=dsn.schema,
                charset="utf8mb4",
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                conv=_DECODERS,
                # An UPDATE that finds its row but changes nothing has still found it, as in SQLite.
                client_flag=CLIENT.FOUND_ROWS,
            )
        except (pymysql.err.MySQLError, OSError, RuntimeError) as error:
            raise UnfitError(f"cannot use {dsn}: {error}") from error

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        with _unavailable():
            connection = await self._pool.acquire()
        try:
            yield Session(connection)
        except BaseException:
            # A caller that left in the middle of a query left half an answer in the connection.
            connection.close()
            raise
        finally:
            await self._pool.release(connection)

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        async with self.session() as session:
            return await session.rows(sql, *values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        async with self.session() as session:
            await session.write("BEGIN")
            # Without COMMIT the session ends by closing its connection, and the server rolls back.
            yield session
            await session.write("COMMIT")

    async def close(self) -> None:
        self._pool.close()
        await self._pool.wait_closed()
