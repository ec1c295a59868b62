"""What Cache-Control, Expires, Date and Age say, read as RFC 9110 and RFC 9111 tell."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from proxy.wire.fields import Fields, first, values

Directives = Mapping[str, str | None]
"""Directives by lower-case name; None where a directive has no argument."""

# These may name fields, and then concern those alone (RFC 9111 sections 5.2.2.4 and 5.2.2.7).
_NAMES_FIELDS = frozenset({"no-cache", "private"})
# Whatever stands behind these, they were meant.
_PROHIBITIONS = _NAMES_FIELDS | {"no-store", "must-revalidate", "proxy-revalidate"}
_BEGUN = re.compile(r"[A-Za-z-]+(?![!#$%&'*+.^_`|~0-9A-Za-z-])")
# An argument that nobody can read: what contradicts itself counts as that.
UNREADABLE = ""

# RFC 9111 section 1.2.2: a number too large to hold means this much.
MAX_DELTA_S = 2**31

# Clients write these lines, and backtracking over a long one would cost seconds: each turn of a loop begins with what
# the turn before it can't hold. (`*+` stands on single characters alone: on groups Python before 3.11.5 gets it wrong.)
_QUOTED = r'"([^"\\]*+(?:\\.[^"\\]*+)*)"'
_MEMBER = re.compile(rf'[^",]*+(?:{_QUOTED}[^",]*+)*', re.DOTALL)
_DIRECTIVE = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)"
    rf"(?:[ \t]*=[ \t]*(?:{_QUOTED}|([^\s,\"]*)))?\Z",
    re.DOTALL,
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


def directives(fields: Fields, name: bytes = b"cache-control") -> Directives:
    """The directives of a Cache-Control field, all its lines together.

    A malformed member is passed over, unless it begins like a prohibition; those beside it count. One that is given
    twice with different arguments is unreadable, which is the strictest that it can mean. Raises nothing.
    Source: RFC 9111 sections 4.2.1 and 5.2.
    """
    found: dict[str, str | None] = {}
    for line in values(fields, name):
        for text in _members(line.decode("latin-1")):
            if read := _directive(text.strip()):
                key, argument = read
                found[key] = _both(key, found[key], argument) if key in found else argument
    return found


def _directive(text: str) -> tuple[str, str | None] | None:
    if member := _DIRECTIVE.match(text):
        name = member[1].lower()
        return name, _argument(name, member)
    begun = _BEGUN.match(text)
    name = begun[0].lower() if begun else ""
    return (name, None) if name in _PROHIBITIONS else None


def _argument(name: str, member: re.Match[str]) -> str | None:
    quoted, token = member[2], member[3]
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted)
    # As a token it may have been meant for the whole answer: caches differ, so the stricter meaning counts.
    return None if name in _NAMES_FIELDS else token


def _both(name: str, one: str | None, other: str | None) -> str | None:
    if one == other:
        return one
    if name in _NAMES_FIELDS:
        return None if one is None or other is None else f"{one},{other}"
    return UNREADABLE


def applies(said: Directives, name: str) -> bool:
    """Whether the whole answer is meant by `no-cache` or `private`, and not some of its fields."""
    return name in said and not named_fields(said, name)


def named_fields(said: Directives, name: str) -> frozenset[bytes]:
    """The fields, in lower case, that `no-cache` or `private` names. Of a list that can't be read, nothing: it means all."""
    names = [piece.strip().lower() for piece in (said.get(name) or "").split(",")]
    names = [piece for piece in names if piece]
    if not all(_TOKEN.match(piece) for piece in names):
        return frozenset()
    return frozenset(piece.encode() for piece in names)


def _members(line: str) -> Iterator[str]:
    """What stands between the commas that are not quoted.

    A quote that never ends quotes nothing: a `no-store` behind it must not be missed.
    """
    position = 0
    while position < len(line):
        member = _MEMBER.match(line, position)
        end = member.end() if member else position
        if line[end : end + 1] == '"':
            yield from line[position:].split(",")
            return
        yield line[position:end]
        position = end + 1


def delta_seconds(argument: str | None) -> int | None:
    """An argument's seconds; None if it isn't a non-negative whole number. Source: RFC 9111 section 1.2.2."""
    if argument is None or not argument.isascii() or not argument.isdigit():
        return None
    digits = argument.lstrip("0") or "0"
    return MAX_DELTA_S if len(digits) > 10 else min(int(digits), MAX_DELTA_S)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = r"(\d\d):(\d\d):(\d\d)"
_IMF = re.compile(rf"(?:mon|tue|wed|thu|fri|sat|sun), (\d\d) ([a-z]{{3}}) (\d{{4}}) {_TIME} gmt\Z")
_RFC850 = re.compile(rf"(?:mon|tues|wednes|thurs|fri|satur|sun)day, (\d\d)-([a-z]{{3}})-(\d\d) {_TIME} gmt\Z")
_ASCTIME = re.compile(rf"(?:mon|tue|wed|thu|fri|sat|sun) ([a-z]{{3}}) ([ \d]\d) {_TIME} (\d{{4}})\Z")


def http_date(value: bytes | None, *, now: float) -> float | None:
    """Unix seconds of an HTTP-date in any of its three forms; None if it is none.

    `now` places the two-digit year of the obsolete form. Source: RFC 9110 section 5.6.7.
    """
    text = (value or b"").decode("latin-1").strip().lower()
    if imf := _IMF.match(text):
        day, month, year, hour, minute, second = imf.groups()
    elif old := _RFC850.match(text):
        day, month, short, hour, minute, second = old.groups()
        latest = datetime.fromtimestamp(now, UTC).year + 50
        year = str(latest - (latest - int(short)) % 100)
    elif asc := _ASCTIME.match(text):
        month, day, hour, minute, second, year = asc.groups()
    else:
        return None
    return _instant(f"{year} {day.strip()} {hour} {minute} {second}", month)


def _instant(numbers: str, month: str) -> float | None:
    year, day, hour, minute, second = (int(number) for number in numbers.split())
    try:
        # A leap second is taken for the second before it.
        return datetime(
            year, _MONTHS.index(month) + 1, day, hour, minute, 59 if second == 60 else second, tzinfo=UTC
        ).timestamp()
    except ValueError:
        return None


def format_http_date(instant: float) -> bytes:
    """Unix seconds as an HTTP-date."""
    return format_datetime(datetime.fromtimestamp(int(instant), UTC), usegmt=True).encode()


def initial_age(fields: Fields, *, requested_at: float, received_at: float) -> float:
    """Seconds that an answer was old when it came (`corrected_initial_age` of RFC 9111 section 4.2.3)."""
    date = http_date(first(fields, b"date"), now=received_at)
    # HTTP-dates have whole seconds: what is less than one may be nothing.
    apparent = max(0.0, int(received_at) - date) if date is not None else 0.0
    ages = values(fields, b"age")
    age = delta_seconds(ages[0].decode("latin-1").split(",")[0].strip()) if ages else None
    return max(apparent, (age or 0) + max(0.0, received_at - requested_at))
