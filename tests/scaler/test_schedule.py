from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.decision import Limits
from scaler.schedule import BadSchedule, Cron, Schedule, cron, limits_at, schedule

LIMITS = Limits(minimum=2, maximum=50)
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def unix(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def on(one: Schedule, times: list[str], zone: str = "UTC") -> list[bool]:
    return [one.is_on(unix(text, zone)) for text in times]


def days(text: str, year: int = 2026, month: int = 2) -> list[int]:
    """On which days of a month it comes. February 2026 begins on a Sunday and has four weeks."""
    found = cron(text)
    first = date(year, month, 1)
    return [
        day.day
        for day in (first + timedelta(days=later) for later in range(31))
        if day.month == month and found.is_on(day)
    ]


def minutes(text: str) -> list[str]:
    """When it comes on a day."""
    return [f"{minute // 60}:{minute % 60:02}" for minute in cron(text).minutes]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("30 8 * * *", ["8:30"], id="a value"),
        pytest.param("0,30 8,20 * * *", ["8:00", "8:30", "20:00", "20:30"], id="lists"),
        pytest.param("58-59 1-2 * * *", ["1:58", "1:59", "2:58", "2:59"], id="ranges"),
        pytest.param("*/20 3 * * *", ["3:00", "3:20", "3:40"], id="steps"),
        pytest.param("10-50/20 3 * * *", ["3:10", "3:30", "3:50"], id="steps of a range"),
        pytest.param("50/5 3 * * *", ["3:50", "3:55"], id="steps from a value on"),
        pytest.param(
            "0 20-23,0-1 * * *", ["0:00", "1:00", "20:00", "21:00", "22:00", "23:00"], id="over midnight"
        ),
        pytest.param("0 0/100 * * *", ["0:00"], id="a step beyond the end"),
    ],
)
def test_minutes_and_hours_are_read(text: str, expected: list[str]) -> None:
    assert expected == minutes(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("0 0 13 * *", [13], id="a day of the month"),
        pytest.param("0 0 * * 5", [6, 13, 20, 27], id="a weekday"),
        pytest.param("0 0 * * fri", [6, 13, 20, 27], id="a weekday's name"),
        pytest.param("0 0 * * SAT-sat,Sun", [1, 7, 8, 14, 15, 21, 22, 28], id="names in any case"),
        pytest.param("0 0 13 * 5", [6, 13, 20, 27], id="either: a Friday that is the 13th, once"),
        pytest.param("0 0 3 * 5", [3, 6, 13, 20, 27], id="either: the 3rd or a Friday"),
        pytest.param("0 0 3 * *", [3], id="no weekday in particular"),
        pytest.param("0 0 3 * ?", [3], id="none in particular, as Quartz writes it"),
        pytest.param("0 0 ? * 5", [6, 13, 20, 27], id="no day in particular"),
        pytest.param("0 0 */10 * 5", [1, 6, 11, 13, 20, 21, 27], id="either: each tenth day is asked for"),
        pytest.param("0 0 */1 * 5", [6, 13, 20, 27], id="each day is not"),
        pytest.param("0 0 3 feb *", [3], id="a month's name"),
        pytest.param("0 0 3 1-3 *", [3], id="months"),
        pytest.param("0 0 3 JAN,mar *", [], id="other months"),
        pytest.param("0 0 29 2 *", [], id="no leap year"),
    ],
)
def test_days_are_read(text: str, expected: list[int]) -> None:
    assert expected == days(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "0 8 * *", "`0 8 * *` has 4 fields: write 5 (minute, hour, day of month, month, ", id="four"
        ),
        pytest.param("0 0 8 * * *", "has 6 fields: write 5", id="six"),
        pytest.param("@daily", "has 1 fields: write 5", id="a name for all"),
        pytest.param("", "`` has 0 fields: write 5", id="none"),
        pytest.param("60 8 * * *", "minute `60`: write 0 to 59", id="minute"),
        pytest.param("0 8,24 * * *", "hour `24` in `8,24`: write 0 to 23", id="hour"),
        pytest.param("0 8 0 * *", "day of month `0`: write 1 to 31", id="day of month"),
        pytest.param("0 8 * 13 *", "month `13`: write 1 to 12 or jan to dec", id="month"),
        pytest.param("0 8 * january *", "month `january`: write 1 to 12 or jan to dec", id="a longer name"),
        pytest.param(
            "0 8 * * 7", "day of week `7`: write 0 to 6 or sun to sat, Sunday is 0", id="day of week"
        ),
        pytest.param("0 22-2 * * *", "hour `22-2` goes backwards: write 22-23,0-2", id="backwards"),
        pytest.param("0 8 * * fri-mon", "`fri-mon` goes backwards: write fri-6,0-mon", id="names backwards"),
        pytest.param(
            "*/0 8 * * *", "minute step `0` in `*/0`: write a whole number of at least 1", id="no step"
        ),
        pytest.param("*/x 8 * * *", "minute step `x` in `*/x`: write a whole number", id="a step's name"),
        pytest.param(
            "1,,2 8 * * *", "minute `` is not understood in `1,,2`: write values, 1-5, */2", id="gap"
        ),
        pytest.param("*-5 8 * * *", "minute `*-5` is not understood: write values", id="a star's range"),
        pytest.param("-5 8 * * *", "minute `-5` is not understood", id="negative"),
        pytest.param("1-2-3 8 * * *", "minute `1-2-3` is not understood", id="two hyphens"),
        pytest.param("1/2/3 8 * * *", "minute `1/2/3` is not understood", id="two slashes"),
        pytest.param("٥ 8 * * *", "minute `٥` is not understood", id="other digits"),
        pytest.param(
            "0 8 30 2 *", "`0 8 30 2 *` never comes: write a day of month that its months have", id="never"
        ),
        pytest.param("0 8 31 4,6 *", "never comes", id="never, in two months"),
    ],
)
def test_a_bad_expression_is_refused_with_the_field_and_the_remedy(text: str, expected: str) -> None:
    with pytest.raises(BadSchedule) as caught:
        cron(text)

    assert expected in str(caught.value)


@given(st.lists(st.text("0123459*/-,?msunfeb ", max_size=6), max_size=6).map(" ".join))
def test_any_text_is_an_expression_or_a_bad_one(text: str) -> None:
    try:
        found: object = cron(text)
    except BadSchedule as bad:
        found = bad

    assert isinstance(found, Cron | BadSchedule)


@pytest.mark.parametrize(
    ("text", "wall", "expected"),
    [
        pytest.param("0 8 * * *", (date(2026, 3, 4), 480), (date(2026, 3, 4), 480), id="that very minute"),
        pytest.param("0 8 * * *", (date(2026, 3, 4), 479), (date(2026, 3, 3), 480), id="the day before"),
        pytest.param("0 8,9 * * *", (date(2026, 3, 4), 0), (date(2026, 3, 3), 540), id="its last"),
        pytest.param("0 8 29 2 *", (date(2026, 3, 4), 0), (date(2024, 2, 29), 480), id="a leap year"),
        pytest.param("0 8 29 2 *", (date(2104, 2, 1), 0), (date(2096, 2, 29), 480), id="eight years ago"),
        pytest.param("0 8 31 2 mon", (date(2026, 2, 22), 0), (date(2026, 2, 16), 480), id="either does come"),
    ],
)
def test_it_is_known_when_it_came_last(text: str, wall: tuple[date, int], expected: tuple[date, int]) -> None:
    assert expected == cron(text).last(wall)


@pytest.mark.parametrize(
    ("start", "end", "times", "expected"),
    [
        pytest.param(
            "0 8 * * *",
            "0 20 * * *",
            ["2026-03-04T07:59:59", "2026-03-04T08:00", "2026-03-04T19:59:59", "2026-03-04T20:00"],
            [False, True, True, False],
            id="a day's",
        ),
        pytest.param(
            "0 22 * * *",
            "0 6 * * *",
            [
                "2026-03-04T21:59",
                "2026-03-04T22:00",
                "2026-03-05T00:00",
                "2026-03-05T05:59",
                "2026-03-05T06:00",
            ],
            [False, True, True, True, False],
            id="overnight",
        ),
        pytest.param(
            "0 18 * * fri",
            "0 6 * * mon",
            [
                "2026-03-06T17:59",
                "2026-03-06T18:00",
                "2026-03-08T12:00",
                "2026-03-09T05:59",
                "2026-03-09T06:00",
            ],
            [False, True, True, True, False],
            id="a weekend's",
        ),
        pytest.param(
            "0 8 * * 1-5",
            "0 18 * * 1-5",
            ["2026-03-06T09:00", "2026-03-07T09:00", "2026-03-08T09:00", "2026-03-09T09:00"],
            [True, False, False, True],
            id="working days'",
        ),
        pytest.param(
            "0 0 24 12 *",
            "0 0 27 12 *",
            ["2026-12-23T23:59", "2026-12-24T00:00", "2026-12-26T23:59", "2026-12-27T00:00"],
            [False, True, True, False],
            id="a year's",
        ),
        pytest.param(
            "0 8,12 * * *",
            "0 20 * * *",
            ["2026-03-04T07:00", "2026-03-04T09:00", "2026-03-04T13:00", "2026-03-04T21:00"],
            [False, True, True, False],
            id="two starts, one end",
        ),
        pytest.param(
            "0 8 * * *",
            "0 8,20 * * *",
            ["2026-03-04T08:00", "2026-03-04T20:00"],
            [True, False],
            id="both at once",
        ),
    ],
)
def test_it_is_on_from_a_start_to_the_next_end(
    start: str, end: str, times: list[str], expected: list[bool]
) -> None:
    assert expected == on(schedule(start, end, minimum=5), times)


_MINUTE_OF_DAY = st.integers(0, 1439)


@given(_MINUTE_OF_DAY, _MINUTE_OF_DAY, st.integers(0, 3 * 86_400))
def test_a_daily_window_is_as_keda_reads_it(start: int, end: int, second: int) -> None:
    if start == end:
        return
    now = unix("2026-03-04") + second
    one = schedule(f"{start % 60} {start // 60} * * *", f"{end % 60} {end // 60} * * *", minimum=5)

    # cron_scaler.go: the next of each, after this second; it is on where the end comes first.
    next_start, next_end = ((minute * 60 - second - 1) % 86_400 for minute in (start, end))
    assert (next_end <= next_start) == one.is_on(now)


@given(st.integers(0, 2 * 366 * 1440))
def test_in_winter_and_summer_berlins_clocks_are_followed(minute: int) -> None:
    now = unix("2026-01-01", BERLIN) + 60 * minute
    hour = datetime.fromtimestamp(now, ZoneInfo(BERLIN)).hour

    # Neither time is among those that are skipped or come twice.
    assert (8 <= hour < 20) == schedule("0 8 * * *", "0 20 * * *", BERLIN, 5).is_on(now)


GAPS = [
    pytest.param(BERLIN, "2026-03-29T01:00", id="Berlin"),
    pytest.param(NEW_YORK, "2026-03-08T07:00", id="New York"),
]
"""When clocks go from 2:00 to 3:00."""
OVERLAPS = [
    pytest.param(BERLIN, "2026-10-25T01:00", id="Berlin"),
    pytest.param(NEW_YORK, "2026-11-01T06:00", id="New York"),
]
"""When they go back by an hour: in Berlin from 3:00 to 2:00, in New York from 2:00 to 1:00."""


def transitions(one: Schedule, jump: str, hours: int = 20) -> list[tuple[int, bool]]:
    """At which minutes, counted from the jump, it turns on or off."""
    middle = unix(jump)
    states = [(minute, one.is_on(middle + 60 * minute)) for minute in range(-60 * hours, 60 * hours)]
    return [(minute, is_on) for (_, was_on), (minute, is_on) in pairwise(states) if is_on != was_on]


@pytest.mark.parametrize(("zone", "jump"), GAPS)
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param(
            "30 2", "0 5", [(0, True), (120, False)], id="a start that is skipped comes with the jump"
        ),
        pytest.param("0 1", "30 2", [(-60, True), (0, False)], id="so does an end"),
        pytest.param("0 2", "30 2", [], id="a window within the gap is not there that day"),
        pytest.param("30 2", "0 3", [], id="nor one that ends with it"),
        pytest.param("45 2", "15 2", [], id="a window over almost all day goes on"),
        pytest.param("0 1", "0 4", [(-60, True), (60, False)], id="a window around it is shorter"),
        pytest.param("0 3", "0 4", [(0, True), (60, False)], id="a window right after it is whole"),
    ],
)
def test_what_the_clocks_skip_has_come_when_they_jumped(
    zone: str, jump: str, start: str, end: str, expected: list[tuple[int, bool]]
) -> None:
    one = schedule(f"{start} * * *", f"{end} * * *", zone, 5)

    assert expected == transitions(one, jump)


@pytest.mark.parametrize(("zone", "jump"), OVERLAPS)
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param(
            30, 120, [(-30, True), (120, False)], id="a start that comes twice counts the first time"
        ),
        pytest.param(-60, 30, [(-120, True), (-30, False)], id="so does an end"),
        pytest.param(15, 45, [(-45, True), (-15, False)], id="a window that comes twice is there once"),
        pytest.param(45, 15, [(-45, False), (-15, True)], id="a window over almost all day is off once"),
        pytest.param(0, 60, [(-60, True), (60, False)], id="a window of just that hour has two"),
        pytest.param(-60, 120, [(-120, True), (120, False)], id="a window around it is longer"),
    ],
)
def test_what_the_clocks_show_twice_counts_the_first_time(
    zone: str, jump: str, start: int, end: int, expected: list[tuple[int, bool]]
) -> None:
    """Minutes from the first that comes twice, as the clocks show them."""
    first = 60 * datetime.fromtimestamp(unix(jump), UTC).astimezone(ZoneInfo(zone)).hour
    fields = [f"{(first + minute) % 60} {(first + minute) // 60} * * *" for minute in (start, end)]

    assert expected == transitions(schedule(fields[0], fields[1], zone, 5), jump)


@pytest.mark.parametrize(
    "zone", [BERLIN, NEW_YORK, "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata"]
)
@given(start=_MINUTE_OF_DAY, end=_MINUTE_OF_DAY, day=st.integers(0, 366))
def test_clocks_that_are_set_never_lose_or_repeat_a_window(zone: str, start: int, end: int, day: int) -> None:
    one = Schedule(
        start=cron(f"{start % 60} {start // 60} * * *"),
        end=cron(f"{end % 60} {end // 60} * * *"),
        zone=ZoneInfo(zone),
        minimum=5,
        maximum=None,
    )
    # From noon to noon, of a year in which Sao Paulo skipped a midnight.
    states = [one.is_on(unix("2018-01-01T12:00", zone) + 86_400 * day + 600 * step) for step in range(145)]
    flips = sum(left != right for left, right in pairwise(states))

    assert flips <= 2


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        pytest.param([], (2, 50), id="none"),
        pytest.param([("off", 9, 9)], (2, 50), id="one that is off"),
        pytest.param([("on", 9, None)], (9, 50), id="min"),
        pytest.param([("on", None, 9)], (2, 9), id="max"),
        pytest.param([("on", 0, 80)], (0, 80), id="both, wider than the general ones"),
        pytest.param([("on", 9, None), ("on", 5, None), ("off", 20, None)], (9, 50), id="the largest min"),
        pytest.param([("on", None, 9), ("on", None, 20)], (2, 20), id="the largest max"),
        pytest.param([("on", 60, None)], (50, 50), id="min does not lift max"),
        pytest.param([("on", None, 1)], (1, 1), id="the general min does not lift max either"),
    ],
)
def test_limits_are_those_of_the_schedules_that_are_on(
    windows: list[tuple[str, int | None, int | None]], expected: tuple[int, int]
) -> None:
    hours = {"on": ("0 8 * * *", "0 20 * * *"), "off": ("0 20 * * *", "0 8 * * *")}
    schedules = [schedule(*hours[when], "UTC", minimum, maximum) for when, minimum, maximum in windows]

    found = limits_at(schedules, LIMITS, unix("2026-03-04T12:00"))

    assert Limits(minimum=expected[0], maximum=expected[1]) == found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"start": "0 25 * * *"}, "start: hour `25`: write 0 to 23", id="start"),
        pytest.param({"end": "0 8"}, "end: `0 8` has 2 fields", id="end"),
        pytest.param({"end": "0  8 * * *"}, "start and end are the same", id="start is end"),
        pytest.param(
            {"timezone": "Berlin"}, "timezone `Berlin` is not known here: write a name of", id="zone"
        ),
        pytest.param({"timezone": ""}, "timezone `` is not known here", id="empty zone"),
        pytest.param({"timezone": "../x"}, "timezone `../x` is not known here", id="a path"),
        pytest.param({"minimum": None}, "min and max are both missing", id="neither"),
        pytest.param({"minimum": -1}, "min (-1) must be at least 0", id="negative min"),
        pytest.param({"minimum": 3, "maximum": 2}, "max (2) must be at least min (3)", id="crossed"),
        pytest.param(
            {"minimum": None, "maximum": -1}, "max (-1) must be at least min (0)", id="negative max"
        ),
    ],
)
def test_a_bad_schedule_is_refused_with_the_setting_and_the_remedy(
    settings: dict[str, object], expected: str
) -> None:
    good = {"start": "0 8 * * *", "end": "0 20 * * *", "timezone": BERLIN, "minimum": 3}
    with pytest.raises(BadSchedule) as caught:
        schedule(**good | settings)  # type: ignore[arg-type]

    assert expected in str(caught.value)
