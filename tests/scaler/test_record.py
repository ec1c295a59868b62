from hypothesis import given
from hypothesis import strategies as st

from scaler.record import Record

_STEPS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), max_size=60)
"""Seconds since the one before, and replicas."""


@given(_STEPS, st.integers(0, 60), st.integers(0, 30))
def test_it_knows_the_extremes_of_any_window_that_it_keeps(
    steps: list[tuple[int, int]], window: int, replicas: int
) -> None:
    record, now, told = Record(keep_s=60), 0, list[tuple[int, int]]()
    for seconds, recommended in steps:
        now += seconds
        record.recommended(recommended, now)
        told.append((now, recommended))

    inside = [value for at, value in told if at > now - window] + [replicas]

    assert (min(inside), max(inside)) == (
        record.least(replicas, now - window),
        record.most(replicas, now - window),
    )


@given(_STEPS, st.integers(0, 60))
def test_it_knows_the_change_in_any_period_that_it_keeps(steps: list[tuple[int, int]], period: int) -> None:
    record, now, before, told = Record(keep_s=60), 0, 5, list[tuple[int, int]]()
    for seconds, after in steps:
        now += seconds
        record.scaled(before, after, now)
        told.append((now, after - before))
        before = after

    assert sum(change for at, change in told if at > now - period) == record.change(now - period)


def test_what_is_just_as_old_as_the_window_is_out_of_it() -> None:
    record = Record()
    record.recommended(9, now=100)
    record.scaled(1, 9, now=100)

    assert (1, 0) == (record.most(1, after=100), record.change(after=100))


def test_only_the_time_kept_is_remembered() -> None:
    record = Record(keep_s=60)
    for now in range(100_000):
        record.recommended(now % 1000, now)
        record.scaled(0, now % 2, now)

    kept = [len(record._highs.times), len(record._lows.times), len(record._times), len(record._before)]
    assert max(kept) <= 122


def test_a_scaling_that_changes_nothing_is_no_event() -> None:
    record = Record()
    record.scaled(4, 4, now=1)

    assert ([], 0) == (record._times, record.change(after=0))


def test_it_tells_whether_it_has_begun() -> None:
    record = Record()
    was_empty = record.is_empty
    record.recommended(3, now=0)

    assert (True, False) == (was_empty, record.is_empty)


def test_what_stays_the_same_takes_no_room() -> None:
    record = Record()
    for now in range(1000):
        record.recommended(7, now)

    assert (1, 1) == (len(record._highs.times), len(record._lows.times))
