"""The requests that clients send again and again, but for some values: known by what they look like (`wire.shape`)."""

import re
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
# A browser's are 400 bytes. What is made grows with them, and is no use for who sends such names once.
_MAX_NAMES = 1024
# Making one takes some milliseconds: nobody must be able to keep us at it for more than a twentieth of our time.
_PAUSES = 20

Names = tuple[bytes, ...]


class Often(Generic[T]):
    """Something made for each kind of message that comes often, by the names of its fields. The least used make room."""

    def __init__(self, make: Callable[[Names], T], uses: Callable[[T], int] = lambda _: 0) -> None:
        """`uses` tells how often what was made has been of use, beside the times that it was asked for here."""
        self._make = make
        self._used = uses
        self.made: dict[Names, T] = {}
        self._uses: Counter[Names] = Counter()
        self._seen: Counter[Names] = Counter()
        self._rests_until = -inf

    def of(self, names: Names) -> T | None:
        """What was made for messages with these names; None until they have come often. To be called for each of some."""
        if names in self.made:
            self._uses[names] += 1
            return self.made[names]
        if len(names) > MAX_FIELDS or sum(map(len, names)) > _MAX_NAMES:
            return None
        if len(self._seen) >= _MAX_COUNTED:
            self._seen.clear()
        self._seen[names] += 1
        began = monotonic()
        if self._seen[names] < _SEEN_OFTEN or began < self._rests_until:
            return None
        self._make_room()
        made = self.made[names] = self._make(names)
        # It keeps the last 512 expressions, of which each may be a megabyte.
        re.purge()
        ended = monotonic()
        self._rests_until = ended + _PAUSES * (ended - began)
        return made

    def _make_room(self) -> None:
        if len(self.made) < _MAX_SHAPES:
            return
        least = min(self.made, key=lambda names: self._uses[names] + self._used(self.made[names]))
        del self.made[least]
        self._uses = Counter({names: uses // 2 for names, uses in self._uses.items() if names in self.made})

    def forget(self) -> None:
        """All of it."""
        self.made.clear()
        self._uses.clear()
        self._seen.clear()


class Shape:
    """Requests that look alike."""

    __slots__ = ("blank", "counts", "host_at", "kept", "lines", "match", "uses")

    def __init__(self, method: bytes, names: Names, counts: Callable[[bytes], bool]) -> None:
        self.match = request_like(method, names, counts).fullmatch
        self.blank: Fields = tuple((name, b"") for name in names)
        """The fields, without their values."""
        self.lines = len(names) + 2
        """Of such a head, the request line and the empty one among them."""
        self.uses = 0
        self.counts = tuple(map(counts, names))
        """Whose values count."""
        lower = [name.lower() for name in names if counts(name)]
        # Behind the target.
        self.host_at = lower.index(b"host") + 1 if b"host" in lower else 0
        """Which of the values that count is Host."""
        self.kept: Kept | None = passed_on(method, names) if method == b"GET" else None
