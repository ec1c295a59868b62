"""Limits that depend on the time: from one cron expression to another, min and max are others.

As KEDA's cron scaler has them: 5 fields, a timezone, from each `start` to the next `end`, the end excluded. A window may pass
midnight or last for days. Where two starts follow one another, the window goes on: KEDA would take the time before the second one
for outside (it asks which of the two comes next).

Clocks that are set: every time that a clock shows comes once. One that is skipped has come when the clocks have jumped over it;
one that comes twice counts the first time. So no window is lost or begun twice, and none is turned inside out.

Source: robfig/cron 3 (spec.go, parser.go), which KEDA and CronJobs use; crontab(5).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from scaler.decision import Limits

Wall = tuple[date, int]
"""What a clock on the wall shows: the day, and the minute of the day."""

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
# February has its 29th.
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class BadSchedule(ValueError):
    """A schedule that can't be understood; the message says which part, and what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """When something happens, again and again."""

    minutes: tuple[int, ...]
    """Of the day, ascending."""
    days: frozenset[int]
    """Of the month."""
    months: frozenset[int]
    weekdays: frozenset[int]
    """Sunday is 0."""
    either: bool
    """A day of the month and a weekday are both asked for: either is enough."""

    def is_on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_month or by_week if self.either else by_month and by_week

    def last(self, wall: Wall) -> Wall:
        """When it happened last, that minute itself included."""
        day, minute = wall
        place = bisect_right(self.minutes, minute)
        if place and self.is_on(day):
            return day, self.minutes[place - 1]
        day -= _DAY
        while not self.is_on(day):
            day -= _DAY
        return day, self.minutes[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Other limits between two times; None: as they are otherwise. Make one with `schedule`."""

    start: Cron
    end: Cron
    zone: ZoneInfo
    minimum: int | None
    maximum: int | None

    def is_on(self, now: float) -> bool:
        """Whether it is between a start and an end; `now` in Unix seconds."""
        wall = _shown(now, self.zone)
        return self.start.last(wall) >= self.end.last(wall)


def schedule(
    start: str, end: str, timezone: str = "UTC", minimum: int | None = None, maximum: int | None = None
) -> Schedule:
    """A schedule as it is written in settings. Raises BadSchedule."""
    if start.split() == end.split():
        raise BadSchedule(f"start and end are the same (`{start}`): let the end come later")
    if minimum is None and maximum is None:
        raise BadSchedule("min and max are both missing: write at least one of them")
    if minimum is not None and minimum < 0:
        raise BadSchedule(f"min ({minimum}) must be at least 0")
    if maximum is not None and maximum < (minimum or 0):
        raise BadSchedule(f"max ({maximum}) must be at least min ({minimum or 0})")
    return Schedule(
        start=_named("start", start),
        end=_named("end", end),
        zone=_zone(timezone),
        minimum=minimum,
        maximum=maximum,
    )


def limits_at(schedules: Iterable[Schedule], limits: Limits, now: float) -> Limits:
    """The limits at a time, in Unix seconds: those of the schedules that are on replace the general ones.

    Of several that are on the largest counts, as with KEDA's triggers: rather too many pods than too few. A min above max does
    not lift it, whichever schedule either is from: max protects what is behind the pods.
    """
    on = [one for one in schedules if one.is_on(now)]
    maximum = max((one.maximum for one in on if one.maximum is not None), default=limits.maximum)
    minimum = max((one.minimum for one in on if one.minimum is not None), default=limits.minimum)
    return Limits(minimum=min(minimum, maximum), maximum=maximum)


def _shown(now: float, zone: ZoneInfo) -> Wall:
    """The latest that the clocks there have shown."""
    local = datetime.fromtimestamp(now, UTC).astimezone(zone)
    if local.fold:
        # Set back, they show for the second time what they have shown already, and more than that.
        while _comes_twice(local):
            local += _MINUTE
        local -= _MINUTE
    return local.date(), local.hour * 60 + local.minute


def _comes_twice(local: datetime) -> bool:
    first, second = local.replace(fold=0).utcoffset(), local.replace(fold=1).utcoffset()
    return first is not None and second is not None and first > second


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    name: str
    least: int
    most: int
    names: Sequence[str] = ()
    """Of the values, from the least on."""
    hint: str = ""

    def values(self, text: str) -> tuple[frozenset[int], bool]:
        """Which values it takes, and whether it asks for none in particular. Raises BadSchedule."""
        parts = [self._part(part, text) for part in text.split(",")]
        return frozenset().union(*(values for values, _ in parts)), any(is_any for _, is_any in parts)

    def _part(self, part: str, text: str) -> tuple[range, bool]:
        found = re.fullmatch(r"([*?]|\w+)(?:-(\w+))?(?:/(\w+))?", part, re.ASCII)
        if found is None or (found[1] in "*?" and found[2]):
            raise self._bad(
                f"`{part}` is not understood", text, "write values, 1-5, */2 or a list of them such as 1,3,5"
            )
        step = 1
        if found[3] is not None:
            if not re.fullmatch("[0-9]{1,9}", found[3]) or not int(found[3]):
                raise self._bad(f"step `{found[3]}`", text, "write a whole number of at least 1 after the /")
            step = int(found[3])
        if found[1] in "*?":
            # As robfig/cron has it: every second day is asked for, every day is not.
            return range(self.least, self.most + 1, step), step == 1
        first = self._value(found[1], text)
        last = self._value(found[2], text) if found[2] else self.most if found[3] else first
        if first > last:
            raise self._bad(
                f"`{part}` goes backwards", text, f"write {found[1]}-{self.most},{self.least}-{found[2]}"
            )
        return range(first, last + 1, step), False

    def _value(self, text: str, whole: str) -> int:
        if text.lower() in self.names:
            return self.least + self.names.index(text.lower())
        if re.fullmatch("[0-9]{1,9}", text) and self.least <= int(text) <= self.most:
            return int(text)
        named = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        raise self._bad(f"`{text}`", whole, f"write {self.least} to {self.most}{named}{self.hint}")

    def _bad(self, what: str, text: str, remedy: str) -> BadSchedule:
        place = "" if f"`{text}`" in what else f" in `{text}`"
        return BadSchedule(f"{self.name} {what}{place}: {remedy}")


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MINUTES = _Field(name="minute", least=0, most=59)
_HOURS = _Field(name="hour", least=0, most=23)
_DAYS = _Field(name="day of month", least=1, most=31)
_MONTH = _Field(name="month", least=1, most=12, names=_MONTHS)
_WEEKDAYS = _Field(
    name="day of week",
    least=0,
    most=6,
    names=("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
    hint=", Sunday is 0",
)


def cron(text: str) -> Cron:
    """A cron expression of 5 fields. Raises BadSchedule."""
    fields = text.split()
    if len(fields) != 5:
        raise BadSchedule(
            f"`{text}` has {len(fields)} fields: write 5 (minute, hour, day of month, month, day of week), such as `0 8 * * 1-5`"
        )
    minutes, _ = _MINUTES.values(fields[0])
    hours, _ = _HOURS.values(fields[1])
    days, any_day = _DAYS.values(fields[2])
    months, _ = _MONTH.values(fields[3])
    weekdays, any_weekday = _WEEKDAYS.values(fields[4])
    either = not any_day and not any_weekday
    if not either and min(days) > max(_LONGEST[month - 1] for month in months):
        raise BadSchedule(f"`{text}` never comes: write a day of month that its months have")
    return Cron(
        minutes=tuple(sorted(60 * hour + minute for hour in hours for minute in minutes)),
        days=days,
        months=months,
        weekdays=weekdays,
        either=either,
    )


def _named(key: str, text: str) -> Cron:
    try:
        return cron(text)
    except BadSchedule as bad:
        raise BadSchedule(f"{key}: {bad}") from None


def _zone(key: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    # What a key can look like decides which of them it is: no file, a folder, a path that leads elsewhere.
    except (LookupError, ValueError, OSError):
        raise BadSchedule(
            f"timezone `{key}` is not known here: write a name of the IANA database such as Europe/Berlin (package tzdata)"
        ) from None
