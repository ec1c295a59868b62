"""The platform on SQLite: threads keep its waits off the event loop."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from proxy.demo.database import Done, Row, UnavailableError, Value

_T = TypeVar("_T")

# One per core answers as fast as the disk cache can; two more keep the cores busy while Python holds its lock.
READERS = (os.cpu_count() or 1) + 2

# Writers of other processes hold the file for milliseconds: one that waits five seconds is stuck.
BUSY_TIMEOUT_S = 5.0


class Connection:
    """One connection and the one thread that ever uses it.

    Jobs run in the order they came, so a caller that leaves in the middle of a query cannot mix it with the next one's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        await self._run(self._open)

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        return await self._run(lambda: self._rows(sql, values))

    async def write(self, sql: str, *values: Value) -> Done:
        return await self._run(lambda: self._write(sql, values))

    async def roll_back(self) -> None:
        """Undoes what is not committed. Also right for a caller that left while BEGIN or COMMIT was under way."""
        await self._run(self._roll_back)

    async def close(self) -> None:
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, job: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, job)
        except sqlite3.Error as error:
            raise UnavailableError(str(error)) from error

    def _open(self) -> None:
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        # isolation_level=None: transactions begin where we say so.
        self._connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def _cursor(self, sql: str, values: Sequence[Value]) -> sqlite3.Cursor:
        if self._connection is None:
            raise UnavailableError("the database is closed")
        return self._connection.execute(sql, values)

    def _rows(self, sql: str, values: Sequence[Value]) -> list[Row]:
        cursor = self._cursor(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def _write(self, sql: str, values: Sequence[Value]) -> Done:
        cursor = self._cursor(sql, values)
        return Done(rows=cursor.rowcount, new_id=cursor.lastrowid or 0)

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SQLite:
    """Some connections for reading and one for writing: SQLite has one writer at a time anyhow."""

    def __init__(self, path: Path) -> None:
        self._all = [Connection(path) for _ in range(READERS + 1)]
        self._readers: asyncio.Queue[Connection] = asyncio.Queue()
        self._writer: asyncio.Queue[Connection] = asyncio.Queue()

    async def open(self) -> None:
        for connection in self._all:
            await connection.open()
        for reader in self._all[1:]:
            self._readers.put_nowait(reader)
        self._writer.put_nowait(self._all[0])

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        reader = await self._readers.get()
        try:
            return await reader.rows(sql, *values)
        finally:
            self._readers.put_nowait(reader)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        writer = await self._writer.get()
        try:
            # IMMEDIATE: takes the write lock now, since a lock taken halfway can fail without waiting.
            await writer.write("BEGIN IMMEDIATE")
            yield writer
            await writer.write("COMMIT")
        except BaseException:
            await writer.roll_back()
            raise
        finally:
            self._writer.put_nowait(writer)

    async def close(self) -> None:
        for connection in self._all:
            await connection.close()
