"""Whether Redis is asked at all: a circuit breaker, fed with what happened and when."""

from enum import Enum

# Requests share connections: what ends together is one misfortune.
_TOGETHER_S = 0.01


class Change(Enum):
    """What an event asks of the caller."""

    NONE = "none"
    LOOK = "look"
    """Look at once whether the server is alive, and tell `looked`."""
    OPENED = "opened"
    CLOSED = "closed"


class Breaker:
    """Closed: ask. Open: don't, until a probe succeeds.

    One failure may be bad luck, so it asks for a look at the server; `max_failures` in a row need none, where failures
    within 10 ms are one. Only a probe that began while open closes it: a look that succeeds says that the server pings,
    which a server whose commands hang may do, too. `now` is in seconds of any clock that only moves forward.
    """

    __slots__ = ("_failed_at", "_failures", "_looking", "_max_failures", "is_open")

    def __init__(self, max_failures: int) -> None:
        self._max_failures = max_failures
        self._failures = 0
        self._failed_at = float("-inf")
        self._looking = False
        self.is_open = False

    def failed(self, now: float) -> Change:
        if self.is_open:
            return Change.NONE
        if now - self._failed_at >= _TOGETHER_S or not self._failures:
            self._failures += 1
            self._failed_at = now
        if self._failures >= self._max_failures:
            return self._open()
        return self.suspected()

    def suspected(self) -> Change:
        """Something went wrong that may not be the server's fault: a look tells, and nothing is counted."""
        if self.is_open or self._looking:
            return Change.NONE
        self._looking = True
        return Change.LOOK

    @property
    def has_doubts(self) -> bool:
        """Whether it is open, or something has failed since anything succeeded."""
        return self.is_open or self._failures > 0

    def succeeded(self) -> None:
        # An answer to something asked before it opened says nothing about now.
        if not self.is_open:
            self._failures = 0

    def looked(self, *, alive: bool) -> Change:
        self._looking = False
        return Change.NONE if alive or self.is_open else self._open()

    def probed(self, *, alive: bool) -> Change:
        if not alive or not self.is_open:
            return Change.NONE
        self.is_open = False
        return Change.CLOSED

    def _open(self) -> Change:
        self.is_open = True
        self._failures = 0
        return Change.OPENED
