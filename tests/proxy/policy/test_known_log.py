"""What a replica makes of what it reads in the log; what several make of it together is in test_purges_model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from proxy.policy import known_log
from proxy.policy.known_log import NO_RECORD, BadLog, KnownLog, Look, Raw, Sign
from proxy.policy.purges import (
    PURGED,
    RECORDS_KEPT_S,
    Concerned,
    Kind,
    Record,
    fields_of,
    instant,
    next_id,
    record_id,
)


def fields(value: str, *, by: str = "another", again: str = "") -> Mapping[bytes, bytes]:
    record = Record(at=0, kind=Kind.TAG, value=value, soft=False, made=7.0, by=by, again=again)
    return fields_of(record)


def sign(kind: Sign, made: float = 1.0) -> Mapping[bytes, bytes]:
    return kind.fields(made=made, by="another")


BEGIN: Raw = ("10-0", sign(Sign.BEGIN))


def look(*records: Raw, due: Sequence[str] = (), intact: bool = True, whole: bool = True) -> Look:
    return Look(records=records, intact=intact, due=frozenset(due), whole=whole)


def entry(born: str, tag: str = "t") -> Concerned:
    return Concerned(born=record_id(born), route="r", url="/", tags=(tag,))


def make(log: KnownLog, value: str = "t") -> Record:
    at = next_id(log.purges.last, 0.0)
    record = Record(at=at, kind=Kind.TAG, value=value, soft=False, made=7.0, by="me")
    log.made(record)
    return record


@pytest.fixture
def log() -> KnownLog:
    log = KnownLog()
    log.read(look(BEGIN))
    return log


def test_what_others_purged_is_told_and_what_was_made_here_is_not_told_again(log: KnownLog) -> None:
    record = make(log)
    assert log.appended(record, "12-0", log.top)
    fresh = log.read(look(("11-0", fields("u")), ("12-0", fields_of(record)), due=["12-0"]))

    assert fresh == [replace(record, at=record_id("11-0"), value="u", by="another")]
    assert (log.cursor, log.purges.last, log.due()) == ("12-0", record_id("12-0"), frozenset())


def test_what_is_read_before_redis_says_that_it_was_appended_is_appended(log: KnownLog) -> None:
    record = make(log)
    fresh = log.read(look(("11-0", fields_of(record))))

    assert fresh == [replace(record, at=record_id("11-0"))]
    assert (log.appended(record, "11-0", record_id("10-0")), log.due()) == (True, frozenset())


def test_of_a_batch_that_is_not_all_what_comes_later_may_be_missing(log: KnownLog) -> None:
    record = make(log)
    log.appended(record, "13-0", log.top)
    first = log.read(look(("11-0", fields("u")), due=["13-0"], whole=False))

    assert (len(first or ()), log.read(look(due=["13-0"]))) == (1, None)


@pytest.mark.parametrize("id_", ["4398046511104-0", "99999999999999999999-0"])
def test_an_id_that_no_clock_could_give_is_refused(log: KnownLog, id_: str) -> None:
    with pytest.raises(BadLog):
        log.read(look((id_, fields("t"))))
    with pytest.raises(BadLog):
        log.appended(make(log), id_, log.top)


def test_a_newer_versions_record_is_taken_for_everything(log: KnownLog) -> None:
    fresh = log.read(look(("11-0", {b"k": b"host", b"v": b"x"})))

    assert (fresh, log.purges.standing(entry("10-0")), log.must_begin) == ([], PURGED, False)


def test_what_was_appended_while_it_looked_back_is_not_missing(log: KnownLog) -> None:
    due, record = log.due(), make(log)
    log.appended(record, "11-0", log.top)
    fresh = log.look_back(Look(records=[BEGIN], intact=True, due=due))

    assert (fresh, log.due(), log.lacks_some, log.holds("11-0")) == ([], frozenset({"11-0"}), False, True)


def append(log: KnownLog, id_: str) -> Raw:
    record, top = make(log), log.top
    assert log.appended(record, id_, top)
    return id_, fields_of(record)


def test_appends_that_push_out_the_oldest_while_it_looks_back_do_not_make_the_log_look_lost(
    log: KnownLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_log, "MAX_RECENT", 3)
    there = [append(log, f"{number}-0") for number in (11, 12)]
    log.read(look(*there, due=[id_ for id_, _ in there]))
    due = log.due()
    there.append(append(log, "13-0"))

    assert log.look_back(look(BEGIN, *there, due=list(due))) == []
    assert (log.cursor, log.lacks_some) == ("13-0", False)


@pytest.mark.parametrize("number", [1, 5])
def test_what_others_purged_before_what_was_appended_here_is_read_however_much_that_is(
    log: KnownLog, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(known_log, "MAX_RECENT", 3)
    theirs = ("11-0", fields("u"))
    ours = [append(log, f"{12 + count}-0") for count in range(number)]

    records = [one for one in (BEGIN, theirs, *ours) if record_id(one[0]) >= record_id(log.anchor)]
    fresh = log.look_back(look(*records, due=list(log.due())))

    assert "u" in [record.value for record in fresh or ()]


def test_what_was_appended_here_and_lost_before_it_was_read_is_put_back_however_much_that_is(
    log: KnownLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_log, "MAX_RECENT", 3)
    ours = [append(log, f"{11 + count}-0")[0] for count in range(6)]
    due = log.due()

    assert log.look_back(look(BEGIN, due=list(due))) == []
    assert [record.again for record in log.missing()] == ours
    assert log.due() == frozenset()


def test_a_mark_that_was_lost_is_not_put_back(log: KnownLog) -> None:
    log.read(look(("11-0", sign(Sign.MARK))))
    log.look_back(look(BEGIN))

    # But the log is lifted to where it was.
    assert (log.missing(), log.must_begin, log.is_low) == ([], False, True)


def test_a_log_with_no_numbers_left_in_a_millisecond_is_lifted(log: KnownLog) -> None:
    log.read(look(("11-2047", fields("t"))))
    before = log.is_low
    log.read(look(("11-2048", fields("t"))))

    assert (before, log.is_low, log.id_above(1, 5)) == (False, True, "12-5")


def test_records_beyond_the_last_number_of_a_millisecond_are_put_back(log: KnownLog) -> None:
    log.read(look(("11-4095", fields("t"))))
    log.read(look(("11-4096", fields("u"))))

    assert log.purges.standing(entry("11-4095", "u")) == PURGED
    assert [(record.value, record.again) for record in log.missing()] == [("u", "11-4096")]


def test_nothing_known_is_no_reason_for_an_id_of_its_own() -> None:
    assert KnownLog().id_above(100, 7) == "*"


def test_what_is_to_be_appended_again_is_told_once_unless_another_has(log: KnownLog) -> None:
    log.read(look(("11-0", fields("t")), ("12-0", fields("u"))))
    log.look_back(look(BEGIN))
    log.read(look(("13-0", fields("t", again="11-0"))))

    assert [(record.value, record.again) for record in log.missing()] == [("u", "12-0")]
    assert log.missing() == []


# -- where a purge is that is waited for --


def test_a_purge_is_where_it_was_appended_or_repeated_or_where_all_was_purged(log: KnownLog) -> None:
    record = make(log)
    log.appended(record, "11-0", log.top)
    log.read(look(("11-0", fields_of(record)), due=["11-0"]))
    places = [log.place_of(record, "11-0")]
    log.look_back(look(BEGIN))
    places.append(log.place_of(record, "11-0"))
    (again,) = log.missing()
    log.appended(again, "12-0", log.top)
    log.read(look(("12-0", fields_of(again)), due=["12-0"]))
    places.append(log.place_of(record, "11-0"))
    log.lose()
    places.append(log.place_of(record, "11-0"))
    log.read(look(("13-0", sign(Sign.BEGIN, 2.0))))
    places.append(log.place_of(record, "11-0"))

    assert places == ["11-0", "", "12-0", "", "13-0"]


def test_a_repetition_leads_back_to_nothing_later_than_itself(log: KnownLog) -> None:
    record = make(log)
    log.read(look(("11-0", fields("t", again="11-0")), ("12-0", fields("t", again="99-0"))))

    assert [log.place_of(record, id_) for id_ in ("11-0", "99-0")] == ["11-0", "99-0"]


def test_the_log_holds_what_was_read_however_long_ago_and_not_what_it_lost(
    log: KnownLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_log, "MAX_RECENT", 3)
    log.read(look(*((f"{ms}-0", fields(str(ms))) for ms in range(11, 20))))
    log.look_back(look(("17-0", fields("17")), ("18-0", fields("18"))))

    assert [log.holds(id_) for id_ in ("11-0", "18-0", "19-0", "20-0")] == [True, True, False, False]


def test_what_is_remembered_of_lost_records_is_bounded(
    log: KnownLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_log, "MAX_RECENT", 3)
    for ms in range(11, 40, 2):
        log.read(look((f"{ms}-0", fields(str(ms)))))
        log.read(look((f"{ms + 1}-0", fields(str(ms), again=f"{ms}-0"))))
        log.lose()

    assert (len(log._gone), len(log._repeated), len(log._recent)) == (3, 3, 0)


# -- how long records are kept --


def test_records_are_kept_by_the_clock_that_is_behind() -> None:
    log, day = KnownLog(), 86_400_000
    log.read(look((f"{10 * day}-0", sign(Sign.BEGIN))))
    now = instant(log.purges.last)
    kept_ms = int(RECORDS_KEPT_S * 1000)

    by_clocks = [log.keep_after_ms(clock) for clock in (now - 100, now, now + 10**6)]
    assert by_clocks == [10 * day - kept_ms - 100_000, 10 * day - kept_ms, 10 * day - kept_ms]
    assert KnownLog().keep_after_ms(now) == 0


def test_a_long_log_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_log, "MAX_RECENT", 10)
    monkeypatch.setattr(known_log, "MAX_RECORDS", 30)
    log = KnownLog()
    for ms in range(1, 56):
        log.read(look((f"{ms}-0", fields("t"))))

    assert log.keep_after_ms(0.055) == 30


def test_what_is_looked_back_from_is_not_so_old_that_it_may_have_been_let_go_of() -> None:
    log, hour = KnownLog(), 3_600_000
    log.read(look(*((f"{hours * hour}-0", fields("t")) for hours in (1, 30, 36))))
    assert (log.anchor, log.before_anchor) == (f"{30 * hour}-0", f"{30 * hour - 1}-{2**64 - 1}")
    log.purges.saw(record_id(f"{99 * hour}-0"))
    assert log.anchor == f"{36 * hour}-0"


def test_before_an_id_comes_the_one_before() -> None:
    log = KnownLog()
    log.read(look(("7-5", fields("t"))))

    assert (log.before_anchor, KnownLog().cursor) == ("7-4", NO_RECORD)
