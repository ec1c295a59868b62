"""What the platform asks of a database, whichever it is."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

Value = int | str
# A row on its way to JSON, by column name. Instants are text: `2025-09-20 18:00:00`.
Row = dict[str, Any]


class UnavailableError(Exception):
    """The database did not answer: it is away, busy or refused us."""


class UnfitError(Exception):
    """The database cannot be the sample's: the sentence says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a write did: rows matched, and the id of the row inserted."""

    rows: int
    new_id: int


class Transaction(Protocol):
    async def rows(self, sql: str, *values: Value) -> list[Row]: ...

    async def write(self, sql: str, *values: Value) -> Done: ...


class Database(Protocol):
    """Every method raises `UnavailableError` where the database does not answer."""

    async def rows(self, sql: str, *values: Value) -> list[Row]: ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Commits at the end, rolls back on any exception. Others see all of it or nothing."""

    async def close(self) -> None: ...
