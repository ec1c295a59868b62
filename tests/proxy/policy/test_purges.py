import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from time import perf_counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.policy import purges
from proxy.policy.purges import (
    GOOD,
    MAX_AT,
    PURGED,
    RECORDS_KEPT_S,
    Concerned,
    Glob,
    Kind,
    Purges,
    Record,
    Standing,
    fields_of,
    from_fields,
    instant,
    logged,
    next_id,
    record_id,
    stream_id,
    to_fields,
)

SECOND = 1000 << 22
"""A record's id grows by so much in a second."""


def record(at: int, kind: Kind, value: str, *, soft: bool = False) -> Record:
    return Record(at=at, kind=kind, value=value, soft=soft)


def entry(born: int, *, url: str = "/a?b=1", tags: tuple[str, ...] = ("t", "u")) -> Concerned:
    return Concerned(born=born, route="r", url=url, tags=tags)


def after(*records: Record) -> Purges:
    log = Purges()
    for one in records:
        log.apply(one)
    return log


# -- one purge --


@pytest.mark.parametrize(
    ("kind", "value", "concerns"),
    [
        pytest.param(Kind.TAG, "u", True, id="a tag"),
        pytest.param(Kind.TAG, "v", False, id="another tag"),
        pytest.param(Kind.TAG, "r", False, id="a tag named like the route"),
        pytest.param(Kind.URL, "/a?b=1", True, id="the URL"),
        pytest.param(Kind.URL, "/a", False, id="the URL without its query"),
        pytest.param(Kind.URL, "/a*", False, id="a URL is no pattern"),
        pytest.param(Kind.ROUTE, "r", True, id="the route"),
        pytest.param(Kind.ROUTE, "s", False, id="another route"),
        pytest.param(Kind.PATTERN, "/a*", True, id="a pattern"),
        pytest.param(Kind.PATTERN, "/b*", False, id="another pattern"),
        pytest.param(Kind.PATTERN, "/a", False, id="a pattern without a star is the whole URL"),
    ],
)
@pytest.mark.parametrize("soft", [pytest.param(False, id="hard"), pytest.param(True, id="soft")])
def test_a_purge_concerns_what_it_names(kind: Kind, value: str, *, concerns: bool, soft: bool) -> None:
    purged = Standing(soft_at=7.0) if soft else PURGED

    assert (purged if concerns else GOOD) == after(record(7 * SECOND, kind, value, soft=soft)).standing(
        entry(5)
    )


@pytest.mark.parametrize(
    ("born", "expected"),
    [
        pytest.param(9, PURGED, id="born before"),
        pytest.param(10, GOOD, id="born when it was known"),
        pytest.param(11, GOOD, id="born after"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "value"),
    [pytest.param(Kind.TAG, "t", id="tag"), pytest.param(Kind.PATTERN, "*", id="pattern")],
)
def test_a_purge_concerns_only_what_was_born_before(
    born: int, expected: Standing, kind: Kind, value: str
) -> None:
    assert expected == after(record(10, kind, value)).standing(entry(born))


# -- several --

T, PATTERN = Kind.TAG, Kind.PATTERN


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        pytest.param((), GOOD, id="none"),
        pytest.param((record(2 * SECOND, T, "t"), record(1, T, "t")), PURGED, id="an earlier one, late"),
        pytest.param((record(2 * SECOND, T, "t"),) * 2, PURGED, id="the same twice"),
        pytest.param(
            (record(2 * SECOND, T, "t", soft=True), record(3 * SECOND, T, "u", soft=True)),
            Standing(soft_at=3.0),
            id="the last of two soft ones",
        ),
        pytest.param(
            (record(3 * SECOND, T, "t", soft=True), record(2 * SECOND, T, "t", soft=True)),
            Standing(soft_at=3.0),
            id="the last of two soft ones, out of order",
        ),
        pytest.param(
            (record(2 * SECOND, T, "t", soft=True), record(3 * SECOND, PATTERN, "*", soft=True)),
            Standing(soft_at=3.0),
            id="a soft tag and a soft pattern",
        ),
        pytest.param(
            (record(2 * SECOND, T, "t"), record(3 * SECOND, T, "t", soft=True)), PURGED, id="hard, then soft"
        ),
        pytest.param(
            (record(2 * SECOND, T, "t", soft=True), record(3 * SECOND, T, "t")), PURGED, id="soft, then hard"
        ),
        pytest.param(
            (record(2 * SECOND, PATTERN, "*", soft=True), record(3 * SECOND, PATTERN, "*")),
            PURGED,
            id="a pattern, soft, then hard",
        ),
        pytest.param(
            (record(2 * SECOND, PATTERN, "*"), record(1, PATTERN, "*")), PURGED, id="a pattern, late"
        ),
        pytest.param((record(1, T, "t", soft=True),), GOOD, id="soft, but before it was born"),
    ],
)
def test_of_several_purges_the_hardest_and_latest_counts(
    records: tuple[Record, ...], expected: Standing
) -> None:
    assert expected == after(*records).standing(entry(SECOND))


def test_every_record_makes_a_new_epoch_and_last_never_goes_back() -> None:
    log = after(record(5, T, "t"), record(3, T, "u"))
    log.forget_before(4)

    assert (3, 5) == (log.epoch, log.last)


def test_what_was_born_before_a_gap_is_purged_and_nothing_else() -> None:
    log = Purges()
    log.forget_before(10)

    assert ([PURGED, GOOD], 10) == ([log.standing(entry(9)), log.standing(entry(10))], log.last)


# -- bounds --


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purges, "MAX_NAMES", 2)
    monkeypatch.setattr(purges, "MAX_PATTERNS", 2)


@pytest.mark.parametrize(
    ("kind", "soft"),
    [
        pytest.param(Kind.TAG, False, id="names"),
        pytest.param(Kind.TAG, True, id="soft names"),
        pytest.param(Kind.PATTERN, False, id="patterns"),
        pytest.param(Kind.PATTERN, True, id="soft patterns"),
    ],
)
def test_a_purge_that_is_forgotten_is_taken_to_mean_everything(two: None, kind: Kind, *, soft: bool) -> None:
    log = after(*(record(at, kind, f"/x{at}", soft=soft) for at in (10, 20, 30)))

    assert [PURGED, GOOD] == [log.standing(entry(born, tags=())) for born in (9, 10)]


@pytest.mark.parametrize(
    "kind", [pytest.param(Kind.TAG, id="names"), pytest.param(Kind.PATTERN, id="patterns")]
)
def test_the_same_purge_again_takes_no_more_room(two: None, kind: Kind) -> None:
    log = after(*(record(at, kind, f"/x{at % 2}") for at in range(10, 20)))

    assert log.standing(entry(0, tags=())) == GOOD


@pytest.mark.parametrize(
    "kind", [pytest.param(Kind.TAG, id="names"), pytest.param(Kind.PATTERN, id="patterns")]
)
def test_the_oldest_purge_is_forgotten_first(two: None, kind: Kind) -> None:
    log = after(*(record(at, kind, value) for at, value in ((10, "/a"), (20, "/b"), (30, "/a"), (40, "/c"))))

    assert [PURGED, GOOD] == [log.standing(entry(born, url="/z", tags=())) for born in (19, 20)]


KEPT = int(RECORDS_KEPT_S) * SECOND


@pytest.mark.parametrize("kind", [pytest.param(T, id="names"), pytest.param(PATTERN, id="patterns")])
@pytest.mark.parametrize("soft", [pytest.param(False, id="hard"), pytest.param(True, id="soft")])
def test_a_purge_from_before_anything_that_is_kept_is_let_go_of(kind: Kind, *, soft: bool) -> None:
    log = after(record(10, kind, "/x", soft=soft), record(KEPT + 10, kind, "/y", soft=soft))
    kept = log.standing(entry(9, url="/x", tags=("/x",)))
    log.apply(record(KEPT + 11, kind, "/y", soft=soft))

    assert (kept == PURGED) != soft
    assert [PURGED, GOOD] == [log.standing(entry(born, url="/z", tags=())) for born in (9, 10)]
    assert 1 == len(log._hard) + len(log._soft) + len(log._patterns)


def test_patterns_that_come_out_of_order_are_all_looked_at() -> None:
    log = after(record(30, PATTERN, "/a*"), record(20, PATTERN, "/b*"), record(10, PATTERN, "/c*"))

    assert [PURGED, PURGED, PURGED] == [
        log.standing(entry(born, url=url)) for born, url in ((29, "/a"), (19, "/b"), (9, "/c"))
    ]


def test_many_records_at_once_are_one_epoch() -> None:
    log = after()
    log.apply(*(record(at, T, f"t{at}") for at in range(1, 100)))

    assert (1, 99) == (log.epoch, log.last)


def test_a_storm_of_purges_costs_little_each() -> None:
    """A thousand a second, among as many patterns and names as there is room for."""
    log = Purges()
    storm = [record(at, (T, PATTERN)[at % 10 == 0], f"/x{at}*") for at in range(1, 120_000)]
    began = perf_counter()
    for one in storm:
        log.apply(one)
    applying = (perf_counter() - began) / len(storm)
    old, new = entry(log._floor, url="/" + "y" * 100), entry(log.last - 10, url="/" + "y" * 100)
    began = perf_counter()
    for _ in range(100):
        log.standing(old)
    looking_at_old = (perf_counter() - began) / 100
    began = perf_counter()
    for _ in range(1000):
        log.standing(new)
    looking_at_new = (perf_counter() - began) / 1000

    # 4 µs, 170 µs and 3 µs of a processor in fact.
    assert (applying < 0.0003, looking_at_old < 0.005, looking_at_new < 0.0003) == (True, True, True)


# -- afloat: applied here, and not numbered by the log --


@pytest.mark.parametrize(
    ("kind", "value"), [pytest.param(T, "t", id="a name"), pytest.param(PATTERN, "/a*", id="a pattern")]
)
@pytest.mark.parametrize("soft", [pytest.param(False, id="hard"), pytest.param(True, id="soft")])
def test_what_others_stored_since_is_purged_too_until_the_log_has_a_purge(
    kind: Kind, value: str, *, soft: bool
) -> None:
    last = record_id("5-0")
    made = Record(at=next_id(last, 0.0), kind=kind, value=value, soft=soft, made=7.0, by="me")
    log = after(record(last, T, "other"), made)
    log.hold(made)
    own, others = entry(made.at), entry(record_id("6-0"))
    log.apply(record(record_id("6-0"), T, "other"))
    afloat = [log.standing(own), log.standing(others)]
    log.numbered(replace(made, at=record_id("7-0"), by="somebody else"))
    still = log.standing(others)
    log.numbered(replace(made, at=record_id("7-0")))

    purged = Standing(soft_at=7.0) if soft else PURGED
    assert ([GOOD, purged], purged, GOOD) == (afloat, still, log.standing(others))


def test_a_hard_purge_that_is_afloat_is_not_softened_by_a_soft_one_of_the_same_name() -> None:
    at = record_id("5-0") + 1
    hard, soft = (Record(at=at, kind=T, value="t", soft=is_soft, made=7.0) for is_soft in (False, True))
    log = after(hard, soft)
    log.hold(hard, soft)
    log.saw(record_id("6-0"))
    log.numbered(soft)

    assert log.standing(entry(record_id("6-0"))) == PURGED


# -- patterns --


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        pytest.param("*", "", True, id="everything"),
        pytest.param("/a", "/a", True, id="without a star"),
        pytest.param("/a", "/ab", False, id="without a star, more"),
        pytest.param("/a*", "/a", True, id="a star may be nothing"),
        pytest.param("/a*", "/a/b?c\nd", True, id="a star is anything"),
        pytest.param("*b", "/ab", True, id="at the beginning"),
        pytest.param("*b", "/abc", False, id="at the beginning, more behind"),
        pytest.param("/*/b", "/a/c/b", True, id="in the middle, over slashes"),
        pytest.param("/*b*c", "/ab-bc", True, id="the end may come again"),
        pytest.param("/a*a", "/a", False, id="two pieces never share a byte"),
        pytest.param("*aa*a", "aa", False, id="nor do three"),
        pytest.param("/***b", "/ab", True, id="several stars are one"),
        pytest.param("/a.b?c[d]*", "/a.b?c[d]e", True, id="all else stands for itself"),
        pytest.param("/a.b", "/axb", False, id="a dot is a dot"),
        pytest.param("/a\\*", "/a\\x", True, id="a backslash is one"),
    ],
)
def test_a_star_stands_for_anything_and_all_else_for_itself(pattern: str, url: str, *, matches: bool) -> None:
    assert matches == Glob.of(pattern).matches(url)


def plainly(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(".*" if char == "*" else re.escape(char) for char in pattern), re.DOTALL)


@given(st.text("ab*?.\n", max_size=10), st.text("ab?.\n", max_size=12))
def test_a_pattern_matches_what_trying_everything_would(pattern: str, url: str) -> None:
    assert (plainly(pattern).fullmatch(url) is None) == (not Glob.of(pattern).matches(url))


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("*a" * 40 + "b", id="stars and letters"),
        pytest.param("*a*" * 100, id="many stars"),
        pytest.param("*" * 8000 + "b", id="nothing but stars"),
        pytest.param("*aaaaaaaaaab*" * 10, id="pieces that nearly fit"),
    ],
)
def test_no_pattern_is_slow_on_a_url_of_8_kb(pattern: str) -> None:
    matcher = Glob.of(pattern)
    began = perf_counter()
    matcher.matches("/" + "a" * 8000)

    assert perf_counter() - began < 0.1  # 0.001 in fact; backtracking would never end


# -- ids --


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("0-0", 0, id="zero"),
        pytest.param("1-0", 1 << 22, id="a millisecond"),
        pytest.param("1-3", (1 << 22) + (3 << 10), id="with a sequence number"),
        pytest.param("1", 1 << 22, id="without one"),
        pytest.param(
            "1-99999999", (2 << 22) - (1 << 10), id="a sequence number too large stays in its millisecond"
        ),
    ],
)
def test_a_stream_id_is_a_number(text: str, expected: int) -> None:
    assert expected == record_id(text)


IDS = st.tuples(st.integers(0, 2**42 - 1), st.integers(0, 2**12 - 1))


@given(IDS, IDS)
def test_ids_order_alike_as_text_and_as_numbers(one: tuple[int, int], other: tuple[int, int]) -> None:
    numbers = [record_id(f"{ms}-{sequence}") for ms, sequence in (one, other)]

    assert (one < other, one == other) == (numbers[0] < numbers[1], numbers[0] == numbers[1])


@given(IDS)
def test_a_number_is_the_stream_id_again(one: tuple[int, int]) -> None:
    text = f"{one[0]}-{one[1]}"

    assert (text, one[0] / 1000) == (stream_id(record_id(text)), instant(record_id(text)))


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        pytest.param(0, 1.0, SECOND, id="by the clock"),
        pytest.param(SECOND, 1.0, SECOND + 1, id="later than one of the same moment"),
        pytest.param(5 * SECOND, 1.0, 5 * SECOND + 1, id="later although the clock stepped back"),
        pytest.param(5 * SECOND, 0.0, 5 * SECOND + 1, id="without a clock"),
    ],
)
def test_an_id_made_here_is_later_than_the_last(last: int, now: float, expected: int) -> None:
    assert expected == next_id(last, now)


@given(IDS, IDS, st.integers(1, 1023))
def test_a_purge_made_here_comes_after_every_record_known_and_before_any_to_come(
    known: tuple[int, int], to_come: tuple[int, int], made: int
) -> None:
    known, to_come = sorted((known, to_come))
    assume(known < to_come)
    last, next_ = record_id(f"{known[0]}-{known[1]}"), record_id(f"{to_come[0]}-{to_come[1]}")
    own = list(accumulate(range(made), lambda number, _: next_id(number, 0.0), initial=next_id(last, 0.0)))[
        :made
    ]

    assert last < own[0] <= own[-1] < next_ <= MAX_AT
    assert {logged(number) for number in own} == {last}


# -- records --


@given(st.sampled_from(Kind), st.text() | st.just("/\udcff"), st.booleans())
def test_a_purge_comes_back_from_the_stream_as_it_was(kind: Kind, value: str, soft: bool) -> None:
    assert record(7, kind, value, soft=soft) == from_fields(7, to_fields(kind, value, soft=soft))


@given(
    st.builds(
        Record,
        at=st.just(7),
        kind=st.sampled_from(Kind),
        value=st.text(),
        soft=st.booleans(),
        made=st.integers(0, 10**12).map(lambda ms: ms / 1000),
        waited=st.booleans(),
        by=st.from_regex(r"[a-z-]{0,9}", fullmatch=True),
        again=st.from_regex(r"(?:[0-9]{1,13}-[0-9]{1,4})?", fullmatch=True),
    )
)
def test_what_is_said_of_a_purge_beside_what_it_names_comes_back_too(made: Record) -> None:
    assert made == from_fields(7, fields_of(made))


@pytest.mark.parametrize(
    ("said", "instant_"),
    [
        pytest.param({}, 2.0, id="nothing"),
        pytest.param({b"t": b"1.5"}, 1.5, id="when"),
        pytest.param({b"t": b"-1"}, 2.0, id="nonsense"),
        pytest.param({b"t": b"1e9"}, 2.0, id="another notation"),
        pytest.param({b"t": b"nan"}, 2.0, id="no number"),
        pytest.param({b"t": b"9" * 400}, 2.0, id="too long"),
        pytest.param({b"t": b"0"}, 2.0, id="zero"),
        pytest.param({b"o": b"../7"}, 2.0, id="a place that is none"),
    ],
)
def test_a_purge_was_made_when_it_says_or_else_when_its_id_does(
    said: dict[bytes, bytes], instant_: float
) -> None:
    found = from_fields(2 * SECOND, {b"k": b"tag", b"v": b"x", **said})

    assert found is not None
    assert (instant_, "") == (found.instant, found.again)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, None, id="empty"),
        pytest.param({b"k": b"tag"}, None, id="no value"),
        pytest.param({b"v": b"x"}, None, id="no kind"),
        pytest.param({b"k": b"host", b"v": b"x"}, None, id="a newer version's kind"),
        pytest.param({b"k": b"\xff", b"v": b"x"}, None, id="a damaged kind"),
        pytest.param({b"k": b"tag", b"v": b"x"}, record(7, T, "x"), id="not said to be soft is hard"),
        pytest.param({b"k": b"tag", b"v": b"x", b"s": b"?"}, record(7, T, "x"), id="said unclearly is hard"),
        pytest.param({b"k": b"tag", b"v": b"x", b"n": b"1"}, record(7, T, "x"), id="a field more"),
    ],
)
def test_a_record_that_is_not_understood_is_none(fields: dict[bytes, bytes], expected: Record | None) -> None:
    assert expected == from_fields(7, fields)


# -- several replicas --


@dataclass
class Replica:
    log: Purges = field(default_factory=Purges)
    read: int = 0
    """Records of the stream, read in order."""
    applied: set[int] = field(default_factory=set)
    gaps: bool = False


@dataclass(frozen=True)
class Fill:
    asked: int
    """Records in the stream when the API was asked."""
    concerned: Concerned


NAMES = st.sampled_from(
    [(kind, value) for kind in (Kind.TAG, Kind.URL, Kind.ROUTE, Kind.PATTERN) for value in "abc"]
    + [(Kind.PATTERN, "*"), (Kind.PATTERN, "a*")]
)
WHO = st.integers(0, 2)


class ReplicasModel(RuleBasedStateMachine):
    """Three replicas on one stream: what is delivered late or twice, and fills that race with purges."""

    def __init__(self) -> None:
        super().__init__()
        self.stream: list[Record] = []
        self.replicas = [Replica(), Replica(), Replica()]
        self.under_way: list[Fill] = []
        self.stored: list[Fill] = []

    def apply(self, replica: Replica, index: int) -> None:
        replica.log.apply(self.stream[index])
        replica.applied.add(index)

    @rule(who=WHO, name=NAMES, soft=st.booleans(), gap_ms=st.integers(0, 2))
    def purge(self, who: int, name: tuple[Kind, str], *, soft: bool, gap_ms: int) -> None:
        """Whoever purges knows of it at once, though perhaps not yet of what others purged before."""
        last = self.stream[-1].at if self.stream else SECOND
        self.stream.append(record(last + max(1, gap_ms << 20), *name, soft=soft))
        self.apply(self.replicas[who], len(self.stream) - 1)

    @rule(who=WHO, count=st.integers(1, 4))
    def deliver(self, who: int, count: int) -> None:
        replica = self.replicas[who]
        for index in range(replica.read, min(replica.read + count, len(self.stream))):
            self.apply(replica, index)
            replica.read = index + 1

    @rule(who=WHO, back=st.integers(1, 5))
    def deliver_again(self, who: int, back: int) -> None:
        replica = self.replicas[who]
        if replica.read >= back:
            self.apply(replica, replica.read - back)

    @rule(who=WHO)
    def find_a_gap(self, who: int) -> None:
        replica = self.replicas[who]
        replica.log.forget_before(replica.log.last)
        replica.gaps = True

    @rule(
        who=WHO,
        route=st.sampled_from("abc"),
        url=st.sampled_from(["a", "b", "ab"]),
        tags=st.sets(st.sampled_from("abc")),
    )
    def ask_the_api(self, who: int, route: str, url: str, tags: set[str]) -> None:
        born = self.replicas[who].log.last
        concerned = Concerned(born=born, route=route, url=url, tags=tuple(tags))
        self.under_way.append(Fill(asked=len(self.stream), concerned=concerned))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def store(self, data: st.DataObject) -> None:
        """In Redis, where every replica may find it."""
        self.stored.append(self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1))))

    def concerning(self, replica: Replica, fill: Fill) -> Iterator[tuple[int, Record]]:
        for index in replica.applied:
            one = self.stream[index]
            entry = fill.concerned
            named = {
                Kind.TAG: one.value in entry.tags,
                Kind.URL: one.value == entry.url,
                Kind.ROUTE: one.value == entry.route,
                Kind.PATTERN: plainly(one.value).fullmatch(entry.url) is not None,
            }
            if named[one.kind]:
                yield index, one

    @invariant()
    def nothing_purged_is_served(self) -> None:
        for replica in self.replicas:
            for fill in self.stored:
                standing = replica.log.standing(fill.concerned)
                for index, one in self.concerning(replica, fill):
                    # What was purged after the API was asked: its answer may be of before.
                    if index >= fill.asked:
                        assert standing.purged or (one.soft and standing.soft_at >= instant(one.at))

    @invariant()
    def nothing_else_is_purged(self) -> None:
        for replica in self.replicas:
            for fill in self.stored:
                later = [one for _, one in self.concerning(replica, fill) if one.at > fill.concerned.born]
                if not later and not replica.gaps and not self.bounded:
                    assert replica.log.standing(fill.concerned) == GOOD

    bounded = False


class BoundedModel(ReplicasModel):
    """The same with room for two names and two patterns: what is forgotten must not be served either."""

    bounded = True

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(purges, "MAX_NAMES", 2)
        self.patch.setattr(purges, "MAX_PATTERNS", 2)

    def teardown(self) -> None:
        self.patch.undo()


TestReplicas = ReplicasModel.TestCase
TestReplicas.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBoundedReplicas = BoundedModel.TestCase
TestBoundedReplicas.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
