"""What Cache-Control, Expires, Date and Age say, read as RFC 9110 and RFC 9111 tell."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from proxy.wire.fields import Fields, values

Directives = Mapping[str, str | None]
"""Directives by lower-case name, the first of each; None where a directive has no argument."""

# RFC 9111 section 1.2.2: a number too large to hold means this much.
MAX_DELTA_S = 2**31

# Possessive (`*+`) where it can be: clients write these lines, and backtracking over a long one would cost seconds.
_MEMBER = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*+")*+', re.DOTALL)
_DIRECTIVE = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)"
    r"(?:[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*+)\"|([^\s,\"]*)))?\Z",
    re.DOTALL,
)


def directives(fields: Fields, name: bytes = b"cache-control") -> Directives:
    """The directives of a Cache-Control field, all its lines together.

    A malformed member is passed over; those beside it count. Raises nothing. Source: RFC 9111 section 5.2.
    """
    found: dict[str, str | None] = {}
    for line in values(fields, name):
        for text in _members(line.decode("latin-1")):
            if member := _DIRECTIVE.match(text.strip()):
                quoted, token = member[2], member[3]
                argument = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
                found.setdefault(member[1].lower(), argument)
    return found


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
    date = http_date(next(iter(values(fields, b"date")), None), now=received_at)
    apparent = max(0.0, received_at - date) if date is not None else 0.0
    ages = values(fields, b"age")
    age = delta_seconds(ages[0].decode("latin-1").split(",")[0].strip()) if ages else None
    if age is None:
        # Below a second `apparent` is only what HTTP-dates cannot say.
        return apparent if apparent >= 1 else 0.0
    return max(apparent, age + (received_at - requested_at))
