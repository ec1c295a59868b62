"""Numbers and durations as Kubernetes writes them: `250m` of a core, `1536Ki` of memory, a window of `15.022s`."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_SCALES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
# `1E` is an exa, `1E3` a thousand: an exponent has digits.
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE](?P<exponent>[+-]?[0-9]{1,4})|(?P<suffix>[numkMGTPE]|[KMGTPE]i)?)"
)
_DURATION = re.compile(r"(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:h|ms|m|s|us|µs|μs|ns))+")
_PART = re.compile(r"([0-9.]+)(h|ms|m|s|us|µs|μs|ns)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
# No number that anybody means is longer.
_LONGEST = 64


def quantity(text: str) -> float:
    """The nearest number: cores, bytes, or whatever it counts. Raises ValueError for what is no quantity.
    Source: apimachinery/pkg/api/resource/quantity.go.
    """
    found = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(f"not a quantity: {text[:_LONGEST]!r}")
    number = Decimal(found["number"])
    if found["exponent"] is not None:
        value = float(number.scaleb(int(found["exponent"])))
    else:
        value = float(number * _SCALES[found["suffix"] or ""])
    if not math.isfinite(value):
        raise ValueError(f"not a quantity: {text!r} is too large")
    return value


def duration_s(text: str) -> float:
    """Seconds of a duration as Go writes it. Raises ValueError for anything else, also for a negative one."""
    if text == "0":
        return 0.0
    if len(text) > _LONGEST or not _DURATION.fullmatch(text):
        raise ValueError(f"not a duration: {text[:_LONGEST]!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
