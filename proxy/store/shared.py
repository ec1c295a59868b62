"""What the rest of the proxy knows of the tier that replicas share.

Apart from the tier itself, which loads redis-py (85 ms, 12 MB): a proxy without Redis need not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class RedisDown(Exception):
    """A stream or a table could not be read or written; the text is the kind of failure."""


class Refused(Exception):
    """Redis does not do that for us, now or later; the text says what it says."""


class Put(IntEnum):
    """How storing an entry ended. Whatever is not FAILED is there for the other replicas."""

    FAILED = 0
    STORED = 1
    NEWER = 2
    """One that was asked for later is there, and stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who has the lease of an entry, at what time by Redis' own clock."""

    holder: bytes
    """The holder's token: the caller's own where the lease was won. Empty if it ended this very moment."""
    has_entry: bool
    """Whether anything is stored under the entry's key."""
    at_us: int
    """Microseconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What a stream holds after a record."""

    records: list[tuple[str, dict[bytes, bytes]]]
    intact: bool
    """Whether that record is still there. A stream loses its oldest records or all of them, so nothing is missing then."""


class SharedTier(Protocol):
    """Values and streams in Redis; see `store.redis.RedisTier`."""

    @property
    def up(self) -> bool:
        """Whether all of it is in use."""

    async def start(self) -> None:
        """Look whether it is there. Raises nothing."""

    async def get_with_ttl(self, key: str) -> tuple[bytes, float] | None:
        """A value and the seconds that it will be kept. Raises nothing: a failure is a miss."""

    def look(self, key: str, told: Callable[[tuple[bytes, float] | None], None], *, with_ttl: bool) -> None:
        """As `get_with_ttl`, for whoever awaits nothing. Without `with_ttl` the seconds mean nothing."""

    async def put(self, key: str, value: bytes, ttl_s: float, *, asked: int) -> Put:
        """Store an entry, unless one that was asked for later is there. Raises nothing."""

    async def claim(self, key: str, kind: str, token: bytes, ttl_s: float) -> Claim | None:
        """Ask for an entry's lease. `kind`: several are apart. Raises nothing: None is a failure."""

    async def swap(self, key: str, kind: str, token: bytes, value: bytes, ttl_s: float) -> bool | None:
        """Replace the token of a lease; drop it where the value is empty. False if it is another's. None is a failure."""

    async def delete(self, *keys: str) -> int:
        """Drop values. Raises nothing."""

    async def stream_add(
        self, key: str, fields: dict[bytes, bytes], *, keep_after_ms: int, at: str = "*"
    ) -> str:
        """Append a record, under an id of its own if `at` is one; returns its id. Raises RedisDown."""

    async def stream_last_id(self, key: str) -> str:
        """The id of the last record. Raises RedisDown."""

    async def stream_after(self, key: str, last_id: str, *, block_ms: int, count: int) -> Tail:
        """Records after an id. Raises RedisDown."""

    def shards(self) -> list[str]:
        """The parts of Redis that hold values."""

    async def sweep(
        self, shard: str, cursor: int, is_gone: Callable[[str, bytes], bool]
    ) -> tuple[int | None, int]:
        """Look at some of a shard's entries, and drop those whose beginning says that they are gone.

        Returns where to go on, None if that was all, and how many were dropped. Raises RedisDown, Refused.
        """

    async def table_set(self, key: str, field: str, value: bytes) -> None:
        """Set a field of a table. Raises RedisDown."""

    async def table(self, key: str) -> dict[str, bytes]:
        """All fields of a table. Raises RedisDown."""

    async def table_drop(self, key: str, *fields: str) -> None:
        """Remove fields of a table. Raises RedisDown."""

    async def close(self) -> None:
        """Let go of it."""
