"""What this proxy remembers in its own memory, within a budget of bytes.

The tier knows no clock: `get` answers whatever is still stored, and whether that may be served is for the value's own
freshness to say. `until` only lets `sweep` give back early what nobody may serve any more; S3-FIFO decides the rest.

The budget counts what an entry really takes: the value as its caller sized it, the key, and the tier's own share.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from sys import getsizeof
from typing import TYPE_CHECKING, Generic, TypeVar

from proxy.store.s3fifo import MAX_USES, S3FIFO, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

V = TypeVar("V")
_Shared = TypeVar("_Shared", str, int, float)

# The node 80, `until` 24, a slot in the dict (which grows in leaps) and one in the ghost; the rest is what allocators round up,
# and by what a process grows beyond what it uses.
ENTRY_BYTES = 192


class Evicted(StrEnum):
    """Why a value left. A newer one in its place is no eviction."""

    SIZE = "size"
    EXPIRED = "expired"
    PURGED = "purged"


def _nobody(_reason: str) -> None:
    pass


def _by_none(_value: object) -> bool:
    return False


def _rounded(size: int) -> int:
    """A size of which there are few: a number takes 32 bytes, so entries share them."""
    rounded: int = one(size + -size % 64)
    return rounded


@lru_cache(maxsize=4096, typed=True)
def one(value: _Shared) -> _Shared:
    """The same value, of which there is one for all who have it: a tag, a number."""
    return value


class Memory(Generic[V]):
    """Values by key. `on_evict` hears the reason, an `Evicted`, once for every value that left."""

    def __init__(
        self, *, max_bytes: int, max_object_bytes: int, on_evict: Callable[[str], None] = _nobody
    ) -> None:
        self.max_object_bytes = max_object_bytes
        self._on_evict = on_evict
        self._cache: S3FIFO[str, V] = S3FIFO(max_bytes)
        # Bound once: the cache keeps this one dict for life.
        self._find = self._cache.nodes.get

    def get(self, key: str) -> V | None:
        # S3FIFO's own lookup, written out: every request that hits comes through here.
        node = self._find(key)
        if node is None:
            return None
        if node.uses < MAX_USES:
            node.uses += 1
        return node.value

    def peek(self, key: str) -> V | None:
        """What is stored; no use."""
        node = self._find(key)
        return None if node is None else node.value

    def node(self, key: str) -> Node[str, V] | None:
        """Where a value is kept, for whoever looks at it often; no use."""
        return self._find(key)

    def __contains__(self, key: str) -> bool:
        """Whether it is stored; no use."""
        return self._find(key) is not None

    def put(self, key: str, value: V, *, size: int, until: float) -> bool:
        """Store a value of `size` bytes that may be dropped after `until` (Unix seconds).

        Returns False when it is too large: nothing is stored then, and an older value under the key is dropped.
        """
        cost = _rounded(size + getsizeof(key) + ENTRY_BYTES)
        if size > self.max_object_bytes or cost > self._cache.maxsize:
            self._drop(key, Evicted.SIZE)
            return False
        self._report(Evicted.SIZE, self._cache.admit(key, value, cost, until))
        return True

    def pop(self, key: str) -> V | None:
        """Remove and return a value, because it was purged."""
        return self._drop(key, Evicted.PURGED)

    def sweep(self, now: float, is_purged: Callable[[V], bool] = _by_none, limit: int = 1000) -> int:
        """Drop what `until` has passed, or a purge concerns, of the next `limit` entries; returns how many.

        Goes on where the last call stopped, so that calls of bounded length see everything in turn.
        """
        seen = list(self._cache.walk(limit))
        expired = [node.key for node in seen if node.until < now]
        purged = [node.key for node in seen if node.until >= now and is_purged(node.value)]
        for key in expired + purged:
            del self._cache[key]
        self._report(Evicted.EXPIRED, len(expired))
        self._report(Evicted.PURGED, len(purged))
        return len(expired) + len(purged)

    def resize(self, max_bytes: int) -> None:
        self._report(Evicted.SIZE, self._cache.resize(max_bytes))

    def clear(self) -> None:
        entries = self.entries
        self._cache.clear()
        self._report(Evicted.PURGED, entries)

    def items(self) -> Iterator[tuple[str, V]]:
        """What is stored now, without counting as a use. The tier may change while this is read."""
        return iter([(node.key, node.value) for node in self._cache.nodes.values()])

    @property
    def bytes(self) -> int:
        return self._cache.currsize

    @property
    def entries(self) -> int:
        return len(self._cache)

    def _drop(self, key: str, reason: Evicted) -> V | None:
        node = self._find(key)
        if node is None:
            return None
        value = node.value
        del self._cache[key]
        self._on_evict(reason)
        return value

    def _report(self, reason: Evicted, count: int) -> None:
        for _ in range(count):
            self._on_evict(reason)
