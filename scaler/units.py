"""Durations as people write them."""

from __future__ import annotations

import re

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_DURATION = re.compile(r"(?=[0-9])" + "".join(f"(?:({_NUMBER}){unit})?" for unit in _UNITS_S))


def parse_duration(text: str) -> float:
    """Seconds of `250ms`, `30s` or `1h30m`. Raises ValueError with a message that says what to write."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"`{text}` is no duration: write it as 250ms, 30s, 5m or 1h30m")
    numbers = zip(found.groups(), _UNITS_S.values(), strict=True)
    return sum(float(number) * unit_s for number, unit_s in numbers if number)
