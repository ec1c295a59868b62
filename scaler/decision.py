"""What a decision returns, and the limits that bind every one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How many replicas there should be, and why."""

    replicas: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How few replicas and how many there may be."""

    minimum: int
    maximum: int

    def __post_init__(self) -> None:
        if self.minimum < 0:
            raise ValueError(f"min ({self.minimum}) must be at least 0")
        if self.maximum < self.minimum:
            raise ValueError(f"max ({self.maximum}) must be at least min ({self.minimum})")

    def within(self, replicas: int) -> int:
        """The nearest number that is allowed."""
        return min(max(replicas, self.minimum), self.maximum)

    def why(self, replicas: int) -> str:
        """Which of the two a number that is not allowed offends."""
        return f"max is {self.maximum}" if replicas > self.maximum else f"min is {self.minimum}"
