"""What the rest of the proxy knows of the tier that replicas share.

Apart from the tier itself, which loads redis-py (85 ms, 12 MB): a proxy without Redis need not.
"""

from typing import Protocol


class RedisDown(Exception):
    """A stream could not be read or written; the text is the kind of failure."""


class SharedTier(Protocol):
    """Values and streams in Redis; see `store.redis.RedisTier`."""

    @property
    def up(self) -> bool:
        """Whether all of it is in use."""

    async def start(self) -> None:
        """Look whether it is there. Raises nothing."""

    async def get_with_ttl(self, key: str) -> tuple[bytes, float] | None:
        """A value and the seconds that it will be kept. Raises nothing: a failure is a miss."""

    async def put(self, key: str, value: bytes, ttl_s: float) -> bool:
        """Store a value. Raises nothing."""

    async def delete(self, *keys: str) -> int:
        """Drop values. Raises nothing."""

    async def stream_add(self, key: str, fields: dict[bytes, bytes], *, keep_after_ms: int) -> str:
        """Append a record; returns its id. Raises RedisDown."""

    async def stream_last_id(self, key: str) -> str:
        """The id of the last record. Raises RedisDown."""

    async def stream_after(
        self, key: str, last_id: str, *, block_ms: int, count: int
    ) -> list[tuple[str, dict[bytes, bytes]]]:
        """Records after an id. Raises RedisDown."""

    async def close(self) -> None:
        """Let go of it."""
