"""Which of several addresses of the API gets a request, and when a failing one is left out."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Address:
    """One address of the API, as far as choosing goes."""

    host: str
    port: int
    inflight: int = 0
    failures: int = 0
    """In a row."""
    ejected_until: float = 0.0

    @property
    def text(self) -> str:
        """As `host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def succeeded(self) -> None:
        """It answered."""
        self.failures = 0

    def failed(self, *, now: float, eject_after: int, eject_for: float) -> None:
        """No connection, no answer, or one of 502 to 504."""
        self.failures += 1
        if self.failures >= eject_after:
            self.ejected_until = now + eject_for


def order(addresses: Sequence[Address], *, now: float, turn: int) -> list[Address]:
    """The addresses in the order in which to try them: least requests in flight, ejected ones last.

    Where all are ejected they are still tried: a wrong guess must not take the API away. `turn` rotates equals.
    """
    count = len(addresses)
    rotated = [addresses[(turn + step) % count] for step in range(count)]
    return sorted(rotated, key=lambda address: (address.ejected_until > now, address.inflight))
