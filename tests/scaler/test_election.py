"""Whose turn it is: the rules one by one, and then hundreds of schedules in which everything is late, lost or paused."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler import election
from scaler.election import Action, Decision, Record, Terms, View

TERMS = Terms()
ME, OTHER = "me", "other"
THEIRS = Record(holder=OTHER, duration_s=15, transitions=4, acquired="t0", renewed="t1", version="7")
MINE = replace(THEIRS, holder=ME)
RELEASED = replace(THEIRS, holder="", duration_s=1)


def renewed(sent_at: float = 0.0, now: float = 0.0) -> View:
    return election.updated(looked(MINE, -100.0), MINE, sent_at, now)


def looked(record: Record | None, at: float = 0.0, view: View | None = None) -> View:
    return election.seen(view or View(), record, at, ME, TERMS)


@pytest.mark.parametrize(
    ("view", "now", "expected"),
    [
        pytest.param(looked(None), 0.0, (Action.ACQUIRE, "there is none"), id="there is none"),
        pytest.param(looked(RELEASED), 0.0, (Action.ACQUIRE, "nobody holds it"), id="released"),
        pytest.param(looked(MINE), 99.0, (Action.RENEW, "it is ours"), id="ours, however old"),
        pytest.param(looked(THEIRS), 14.9, (Action.WAIT, "other holds it"), id="theirs"),
        pytest.param(
            looked(THEIRS), 15.0, (Action.ACQUIRE, "other has not renewed it for 15 s"), id="theirs, and silent for its duration"
        ),
        pytest.param(
            looked(replace(THEIRS, duration_s=40)), 39.0, (Action.WAIT, "other holds it"), id="its own duration counts"
        ),
        pytest.param(
            looked(replace(THEIRS, duration_s=0)), 14.0, (Action.WAIT, "other holds it"), id="it says no duration: ours"
        ),
        pytest.param(
            looked(THEIRS, 10.0, looked(THEIRS)), 15.0, (Action.ACQUIRE, "other has not renewed it for 15 s"),
            id="seen again unchanged",
        ),
        pytest.param(
            looked(replace(THEIRS, renewed="t2"), 10.0, looked(THEIRS)), 24.0, (Action.WAIT, "other holds it"), id="renewed"
        ),
        pytest.param(
            looked(replace(THEIRS, version="8"), 10.0, looked(THEIRS)), 24.0, (Action.WAIT, "other holds it"),
            id="anything that changed is a sign of life",
        ),
        pytest.param(looked(None, 1.0, looked(THEIRS)), 1.0, (Action.ACQUIRE, "there is none"), id="deleted"),
    ],
)  # fmt: skip
def test_what_to_do_follows_from_what_was_seen_and_when(
    view: View, now: float, expected: tuple[Action, str]
) -> None:
    decision = election.decide(view, ME, now, TERMS)
    assert expected == (decision.action, decision.reason)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(renewed(), Action.RELEASE, id="ours"),
        pytest.param(looked(THEIRS), Action.WAIT, id="theirs"),
        pytest.param(looked(RELEASED), Action.WAIT, id="nobody's"),
        pytest.param(looked(None), Action.WAIT, id="there is none"),
        pytest.param(
            election.created(View(), MINE, 0.0, 0.0, TERMS), Action.WAIT, id="ours, but another may act still"
        ),
    ],
)
def test_whoever_leaves_releases_what_it_holds_and_nothing_else(view: View, expected: Action) -> None:
    assert expected is election.decide(view, ME, 0.0, TERMS, is_leaving=True).action


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(
            looked(THEIRS),
            Record(holder=ME, duration_s=15, transitions=5, acquired="now", renewed="now"),
            id="taken over",
        ),
        pytest.param(
            looked(MINE),
            Record(holder=ME, duration_s=15, transitions=4, acquired="t0", renewed="now"),
            id="renewed",
        ),
        pytest.param(
            looked(None),
            Record(holder=ME, duration_s=15, transitions=0, acquired="now", renewed="now"),
            id="created",
        ),
    ],
)
def test_transitions_are_counted_when_the_holder_changes(view: View, expected: Record) -> None:
    assert expected == election.next_record(view, ME, "now", TERMS)


def test_the_fence_counts_from_when_the_renewal_was_sent() -> None:
    view = renewed(sent_at=100.0, now=104.0)
    assert [True, False, False] == [election.holds(view, now, TERMS) for now in (109.9, 110.0, 114.0)]


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(View(), False, id="never ours"),
        pytest.param(looked(MINE), False, id="ours by name, but we have not renewed it"),
        pytest.param(
            election.created(View(), MINE, 0.0, 0.0, TERMS), False, id="new: another may not know of it"
        ),
        pytest.param(
            election.created(renewed(), MINE, 0.5, 0.5, TERMS), True, id="new, and ours all the time"
        ),
        pytest.param(election.unsure(renewed()), True, id="a renewal failed, the last one lasts"),
        pytest.param(looked(None, 1.0, renewed()), True, id="deleted: whoever creates it keeps away as long"),
        pytest.param(looked(MINE, 1.0, renewed()), True, id="looked at"),
        pytest.param(looked(THEIRS, 1.0, renewed()), False, id="taken from us"),
        pytest.param(election.resigned(renewed()), False, id="being released"),
    ],
)
def test_who_may_write_a_second_after_the_last_renewal(view: View, *, expected: bool) -> None:
    assert expected is election.holds(view, 1.0, TERMS)


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(election.created(looked(None, 0.0), MINE, 0.0, 1.0, TERMS), id="created"),
        pytest.param(looked(MINE, 1.0, looked(None, 0.0)), id="created without being told"),
        pytest.param(looked(MINE, 1.0, looked(THEIRS, 0.0)), id="ours all at once"),
    ],
)
def test_whoever_may_have_created_it_acts_when_another_s_time_is_over(view: View) -> None:
    early = election.updated(view, MINE, 15.9, 15.9)
    late = election.updated(early, MINE, 16.0, 16.0)
    assert (False, True) == (election.holds(early, 16.0, TERMS), election.holds(late, 16.0, TERMS))


def test_what_is_found_to_be_ours_does_not_prolong_what_we_hold() -> None:
    # Deleted, and created by us in a call whose answer was lost: nobody knows when that was.
    view = looked(MINE, 9.0, looked(None, 8.0, renewed(sent_at=0.0)))
    assert (True, False) == (election.holds(view, 9.9, TERMS), election.holds(view, 10.0, TERMS))


def test_a_new_one_is_ours_all_the_time_only_if_we_held_until_it_was_there() -> None:
    late = election.created(renewed(sent_at=0.0), MINE, 9.0, 31.0, TERMS)
    assert (-float("inf"), 46.0) == (late.renewed_at, late.acts_from)


@pytest.mark.parametrize(
    ("decision", "chance", "expected"),
    [
        pytest.param(Decision(action=Action.RENEW, reason=""), 1.0, 102.0, id="the retry period at most"),
        pytest.param(
            Decision(action=Action.RENEW, reason=""), 0.0, 100 + 2 / 1.2, id="and a sixth less at least"
        ),
        pytest.param(
            Decision(action=Action.WAIT, reason="", until=150.0), 1.0, 102.0, id="a holder with time left"
        ),
        pytest.param(
            Decision(action=Action.WAIT, reason="", until=100.5),
            1.0,
            100.5,
            id="one whose time ends: no later",
        ),
        pytest.param(
            Decision(action=Action.WAIT, reason="", until=99.0),
            1.0,
            100.0,
            id="one whose time ended meanwhile",
        ),
    ],
)
def test_the_next_look_comes_in_time(decision: Decision, chance: float, expected: float) -> None:
    assert expected == pytest.approx(election.next_at(decision, 100.0, chance, TERMS))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        pytest.param(
            {"renew_deadline_s": 15.0}, "must be less than the duration", id="a deadline after the end"
        ),
        pytest.param({"retry_s": 9.0}, "must be less than the renew deadline", id="no second try"),
        pytest.param({"retry_s": 0.0}, "must be less than the renew deadline", id="no pause"),
    ],
)
def test_terms_that_are_not_safe_are_refused(terms: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Terms(**terms)  # type: ignore[arg-type]


def test_a_call_ends_before_the_next_begins() -> None:
    assert TERMS.call_timeout_s < TERMS.retry_s / 1.2


# -- many schedules --


@dataclass
class Server:
    """Keeps one Lease, and its version."""

    record: Record | None = None
    version: int = 0

    def write(self, record: Record, guard: str | None) -> Record | None:
        """Only if it is as the guard says. None: it isn't."""
        if guard != (self.record.version if self.record else None):
            return None
        self.version += 1
        self.record = replace(record, version=str(self.version))
        return self.record


@dataclass
class Candidate:
    """One scaler, whose every wait is a `yield` of seconds. Its clock is off by anything, and as fast as the others'."""

    me: str
    server: Server
    chance: random.Random
    world: "World"
    offset: float
    view: View = field(default_factory=View)
    count: int = 0

    @property
    def now(self) -> float:
        return self.world.now + self.offset

    def late(self) -> float:
        """Mostly quick, at times slow, and seldom paused for longer than any lease."""
        kind = self.chance.random()
        return self.chance.uniform(0, 0.05 if kind < 0.8 else 4.0 if kind < 0.97 else 40.0)

    def live(self) -> Iterator[float]:
        while True:
            began = self.now
            if not (self.view.is_current and self.view.record and self.view.record.holder == self.me):
                yield self.late()
                found = self.server.record
                yield self.late()
                self.view = election.seen(self.view, found, self.now, self.me, TERMS)
            is_leaving = self.chance.random() < 0.02
            decision = election.decide(self.view, self.me, self.now, TERMS, is_leaving=is_leaving)
            if decision.action is not Action.WAIT:
                if decision.action is Action.RELEASE:
                    self.view = election.resigned(self.view)
                yield from self.write(decision.action)
            at = election.next_at(decision, began, self.chance.random(), TERMS)
            yield max(0.0, at - self.now) + (self.late() if self.chance.random() < 0.05 else 0.0)

    def write(self, action: Action) -> Iterator[float]:
        self.count += 1
        before = self.view
        record = election.next_record(before, self.me, f"{self.me}{self.count}", TERMS)
        if action is Action.RELEASE:
            record = replace(record, holder="", duration_s=1)
        self.view = election.unsure(before)
        sent_at = self.now
        yield self.late()
        written = self.server.write(record, before.record.version if before.record else None)
        yield self.late()
        is_lost = self.chance.random() < 0.1
        if written is None or is_lost or action is Action.RELEASE:
            return
        if before.record is None:
            self.view = election.created(before, written, sent_at, self.now, TERMS)
        else:
            self.view = election.updated(before, written, sent_at, self.now)
        self.world.terms += election.holds(self.view, self.now, TERMS)


class World:
    """Lets its candidates go on, in the order of their times. Between any two events, at most one may write."""

    def __init__(self, seed: int, candidates: int, deletes: bool) -> None:
        self.now = 0.0
        self.terms = 0
        self.chance = random.Random(seed)
        self.server = Server()
        self.deletes = deletes
        self.candidates = [
            Candidate(f"c{each}", self.server, self.chance, self, self.chance.uniform(-1e6, 1e6))
            for each in range(candidates)
        ]

    def holders(self) -> list[str]:
        return [each.me for each in self.candidates if election.holds(each.view, each.now, TERMS)]

    def play(self, seconds: float) -> None:
        lives = [(each, each.live()) for each in self.candidates]
        due = {each.me: self.chance.uniform(0, 3) for each in self.candidates}
        while self.now < seconds:
            candidate, life = min(lives, key=lambda pair: due[pair[0].me])
            self.now = max(self.now, due[candidate.me])
            due[candidate.me] = self.now + next(life)
            if self.deletes and self.chance.random() < 0.01:
                self.server.record = None
            assert len(self.holders()) <= 1, self.holders()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4), st.booleans())
def test_never_two_may_write_whatever_is_late_or_lost_or_paused(
    seed: int, candidates: int, deletes: bool
) -> None:
    world = World(seed, candidates, deletes=deletes)
    world.play(600)


def test_somebody_leads_most_of_the_time_and_the_lead_changes() -> None:
    world = World(7, 3, deletes=False)
    world.play(5_000)
    assert world.terms > 1_000
    assert world.server.record is not None
    assert world.server.record.transitions > 10
