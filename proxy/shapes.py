"""The requests that clients send again and again, but for some values: known by what they look like (`wire.shape`)."""

from collections import Counter
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Generic, TypeVar

from proxy.wire.fields import Fields
from proxy.wire.shape import MAX_FIELDS, Kept, passed_on, request_like

T = TypeVar("T")

# Some browsers and apps, each with and without a cookie, an origin, a copy of its own.
_MAX_SHAPES = 32
# Messages that look alike before an expression is made for them, and how many kinds are counted meanwhile.
_SEEN_OFTEN = 8
_MAX_COUNTED = 1000
# Making one takes a millisecond: nobody must be able to keep us at it.
_PAUSE_S = 0.02

Names = tuple[bytes, ...]


class Often(Generic[T]):
    """Something made for each kind of message that comes often, by the names of its fields. The least used make room."""

    def __init__(self, make: Callable[[Names], T]) -> None:
        self._make = make
        self.made: dict[Names, T] = {}
        self._uses: Counter[Names] = Counter()
        self._seen: Counter[Names] = Counter()
        self._made_at = -inf

    def of(self, names: Names) -> T | None:
        """What was made for messages with these names; None until they have come often. To be called for each of some."""
        found = self.made.get(names)
        if found is not None:
            self._uses[names] += 1
            return found
        if len(self._seen) >= _MAX_COUNTED:
            self._seen.clear()
        self._seen[names] += 1
        now = monotonic()
        if self._seen[names] < _SEEN_OFTEN or now - self._made_at < _PAUSE_S or len(names) > MAX_FIELDS:
            return None
        self._made_at = now
        self._make_room()
        made = self.made[names] = self._make(names)
        return made

    def _make_room(self) -> None:
        if len(self.made) < _MAX_SHAPES:
            return
        least = min(self.made, key=lambda names: self._uses[names])
        del self.made[least]
        self._uses = Counter({names: uses // 2 for names, uses in self._uses.items() if names in self.made})

    def forget(self) -> None:
        """All of it."""
        self.made.clear()
        self._uses.clear()
        self._seen.clear()


class Shape:
    """Requests that look alike."""

    __slots__ = ("blank", "counts", "host_at", "kept", "match")

    def __init__(self, method: bytes, names: Names, counts: Callable[[bytes], bool]) -> None:
        self.match = request_like(method, names, counts).fullmatch
        self.blank: Fields = tuple((name, b"") for name in names)
        """The fields, without their values."""
        self.counts = tuple(map(counts, names))
        """Whose values count."""
        lower = [name.lower() for name in names if counts(name)]
        # Behind the target.
        self.host_at = lower.index(b"host") + 1 if b"host" in lower else 0
        """Which of the values that count is Host."""
        self.kept: Kept | None = passed_on(method, names) if method == b"GET" else None
