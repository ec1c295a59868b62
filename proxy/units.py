"""Durations and sizes as the config file writes them."""

import re
from collections.abc import Mapping
from decimal import Decimal

_UNITS_S = {
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_UNITS_B = {
    "GiB": 1024**3,
    "GB": 1000**3,
    "MiB": 1024**2,
    "MB": 1000**2,
    "KiB": 1024,
    "kB": 1000,
    "B": 1,
}
_NUMBER = r"[0-9]{1,16}(?:\.[0-9]{1,30})?"
DURATION_PATTERN = r"(?=[0-9])" + "".join(f"(?:({_NUMBER}){unit})?" for unit in _UNITS_S)
SIZE_PATTERN = f"({_NUMBER})({'|'.join(_UNITS_B)})"
_MAX_SECONDS = 3650 * 86400  # ten years: beyond it timers overflow
_MAX_BYTES = 1024**5

# What people write instead, in lower case and singular.
_MEANT = {
    **dict.fromkeys(("ms", "msec", "millisecond"), "ms"),
    **dict.fromkeys(("s", "sec", "second"), "s"),
    **dict.fromkeys(("m", "min", "minute"), "m"),
    **dict.fromkeys(("h", "hr", "hour"), "h"),
    **dict.fromkeys(("d", "day"), "d"),
}
_MEANT_SIZE = {
    **dict.fromkeys(("b", "byte"), "B"),
    "kb": "kB",
    **dict.fromkeys(("k", "ki", "kib"), "KiB"),
    "mb": "MB",
    **dict.fromkeys(("m", "mi", "mib"), "MiB"),
    "gb": "GB",
    **dict.fromkeys(("g", "gi", "gib"), "GiB"),
}


def parse_duration(text: str) -> float:
    """Seconds of `250ms`, `30s`, `1h30m` or `0`. Raises ValueError with a message that says what to write."""
    if text == "0":
        return 0.0
    if re.fullmatch(_NUMBER, text):
        raise ValueError(f"has no unit: write {text}s, {text}ms or {text}m")
    found = re.fullmatch(DURATION_PATTERN, text)
    if not found:
        raise ValueError(
            f"must be a duration such as 250ms, 30s, 5m or 1h30m{instead_of(text)}{_unit_meant(text, _MEANT)}"
        )
    pairs = zip(found.groups(), _UNITS_S.values(), strict=True)
    total = sum((Decimal(number) * unit for number, unit in pairs if number), Decimal(0))
    if total > _MAX_SECONDS:
        raise ValueError("is longer than ten years (3650d)")
    return float(total)


def render_duration(seconds: float) -> str:
    """As the file writes it, in the largest unit that leaves no fraction: `90m`, `1h`, `250ms`, `0s`."""
    exact = Decimal(repr(float(seconds)))
    if not exact:
        return "0s"
    unit = next((unit for unit, unit_s in _UNITS_S.items() if exact % unit_s == 0), "ms")
    text = f"{exact / _UNITS_S[unit]:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + unit


def parse_size(text: str) -> int:
    """Bytes of `64MiB`, `10kB`, `512B` or `0`. Raises ValueError with a message that says what to write."""
    if text == "0":
        return 0
    if re.fullmatch(_NUMBER, text):
        raise ValueError(f"has no unit: write {text}MiB, {text}KiB or {text}B")
    found = re.fullmatch(SIZE_PATTERN, text)
    if not found:
        raise ValueError(
            f"must be a size such as 512B, 10kB, 64KiB or 1MiB{instead_of(text)}{_unit_meant(text, _MEANT_SIZE)}"
        )
    size = Decimal(found[1]) * _UNITS_B[found[2]]
    if size > _MAX_BYTES:
        raise ValueError("is larger than 1 PiB")
    if size != int(size):
        raise ValueError("must come to whole bytes")
    return int(size)


def render_size(size: int) -> str:
    """As the file writes it: `64MiB`, `10kB`, `8190B`."""
    unit = next(unit for unit, bytes_ in _UNITS_B.items() if size % bytes_ == 0 and (size or unit == "B"))
    return f"{size // _UNITS_B[unit]}{unit}"


def instead_of(text: str) -> str:
    return f", not `{text if len(text) <= 40 else text[:40] + '…'}`"


def _unit_meant(text: str, meant: Mapping[str, str]) -> str:
    found = re.fullmatch(rf"\s*({_NUMBER})[\s_]*([A-Za-z]{{1,12}})\s*", text)
    if not found:
        return ""
    word = found[2].lower()
    unit = meant.get(word) or meant.get(word.removesuffix("s"))
    return f"; did you mean {found[1]}{unit}?" if unit else ""
