"""Several replicas, one log, one store: no entry is served after a purge that its replica has applied, whatever Redis does.

The machine drives the real rules (`policy.purges`, `policy.known_log`) through a Redis that loses its log, or its end, or its
sense of time; what stands around them in `purge_log`, `fill` and `tiers` is here in a few synchronous lines. Truth is not told by
ids, but by the order in which things happened: a purge that was made after the API was asked concerns the answer.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.policy import known_log, purges
from proxy.policy.known_log import KnownLog, Look, Raw, Sign
from proxy.policy.purges import Glob, Kind, Purges, Record, fields_of, logged, next_id, record_id
from proxy.policy.routes import prepare
from proxy.policy.writes import Name
from proxy.settings import Route
from proxy.store.entry import Entry
from proxy.store.memory import Memory
from proxy.store.tiers import Copy, Tiers
from tests.entries import an_entry

KEYS = ("/a", "/b")
NAMES = [(Kind.TAG, "/a"), (Kind.URL, "/b"), (Kind.ROUTE, "r"), (Kind.PATTERN, "/a*"), (Kind.PATTERN, "*a")]
# So many answers are watched; those from before have been fetched anew since.
WATCHED = 12


ROUTE = prepare(Route(match="/**", name="r"))
NOW = 1_000_000.0


def answer(key: str, *, born: int, asked: int) -> Entry:
    """A stored answer; `asked` is the moment of the machine at which the API was asked."""
    return an_entry(
        NOW,
        key=key,
        route="r",
        url=key,
        tags=(key,),
        born=born,
        asked=asked,
        revalidate_s=60.0,
        error_s=60.0,
        keep_until=NOW + 600,
    )


@dataclass(frozen=True)
class Purge:
    """What really happened, and when."""

    moment: int
    name: Name
    soft: bool
    by: "Node"

    def concerns(self, key: str) -> bool:
        kind, value = self.name
        if kind is Kind.PATTERN:
            return Glob.of(value).matches(key)
        return kind is Kind.ROUTE or value == key


class Redis:
    """A stream as Redis keeps it: ids grow, even where its clock does not."""

    def __init__(self) -> None:
        self.records: list[Raw] = []
        self.given: list[str] = []
        """All ids that it and those before it ever gave."""
        self.lost: set[int] = set()
        """Their numbers that were lost."""
        self.last = (0, 0)
        self.now_ms = 1_000_000

    def add(self, fields: Mapping[bytes, bytes], at: str = "*") -> str | None:
        """None where the id is refused."""
        if at == "*":
            new = max((self.now_ms, 0), (self.last[0], self.last[1] + 1))
        else:
            ms, _, sequence = at.partition("-")
            new = (int(ms), int(sequence))
        if new <= self.last:
            return None
        self.last = new
        self.records.append((f"{new[0]}-{new[1]}", fields))
        self.given.append(self.records[-1][0])
        return self.given[-1]

    def after(self, cursor: str, due: Any) -> Look:
        def parts(id_: str) -> tuple[int, int]:
            ms, _, sequence = id_.partition("-")
            return int(ms), int(sequence)

        later = [one for one in self.records if parts(one[0]) > parts(cursor)]
        intact = cursor == known_log.NO_RECORD or any(id_ == cursor for id_, _ in self.records)
        return Look(records=later, intact=intact, due=due)

    def fail_over(self, lost: int) -> None:
        """Another becomes the master that had not got the last records yet."""
        kept = max(0, len(self.records) - lost)
        self.lost |= {record_id(id_) for id_, _ in self.records[kept:]}
        self.records = self.records[:kept]
        ms, _, sequence = (self.records[-1][0] if self.records else "0-0").partition("-")
        self.last = (int(ms), int(sequence))


class Node:
    """A replica."""

    def __init__(self) -> None:
        self.known = KnownLog()
        self.purges = self.known.purges
        self.readable = False
        self.in_doubt = False
        memory: Memory[Copy] = Memory(max_bytes=2**20, max_object_bytes=2**20)
        self.tiers = Tiers(memory, None, self, lambda _: None)
        self.has: list[Entry] = []
        """Answers that it has or had in memory, and would serve if their purges were not seen."""
        self.pending: list[Record] = []
        self.sent: list[tuple[Record, int, str]] = []
        """Records that Redis has taken, and whose ids have not come yet; with what was known when they were sent."""
        self.look: Look | None = None
        """What Redis answered to a read, not here yet."""
        self.is_stale = False
        """Whether the connection that it reads from leads to a Redis that is no more."""
        self.alive = True
        self.applied: set[int] = set()
        """Moments of the purges that it knows of."""

    def standing(self, entry: Entry) -> purges.Standing:
        return self.purges.standing(entry.concerned)

    def keep(self, entry: Entry) -> bool:
        before = self.tiers.recall(entry.key, (), NOW)
        kept = self.tiers.keep(entry, entry.key, ROUTE, NOW)
        found = self.tiers.recall(entry.key, (), NOW)
        # Of two good answers the one that was asked for later stays.
        if kept and before is not None:
            assert found is not None
            assert found.entry.asked >= before.entry.asked
        if kept:
            self.has = [*self.has, entry][-WATCHED:]
        return kept


@dataclass(eq=False)
class Fill:
    """An answer under way."""

    node: Node
    key: str
    born: int
    asked: int


WHO = st.integers(0, 2)
JUMP = st.tuples(st.integers(1, 1000), st.integers(0, 255))


class Fleet(RuleBasedStateMachine):
    """Three replicas, each with its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.redis = Redis()
        self.nodes = [Node(), Node(), Node()]
        self.moment = 0
        self.purges: list[Purge] = []
        self.fills: list[Fill] = []
        self.asked_by: dict[int, Node] = {}
        self.is_overtaken = False
        """Whether answers to what was sent come while the log is looked through."""
        self.shared: list[Entry] = []
        """Answers that are in Redis, or on the way to it, or were: any replica may find them at any time."""
        for node in self.nodes:
            self.sync(node, (1, 0))

    def tick(self) -> int:
        self.moment += 1
        return self.moment

    # -- what purge_log does --

    def took(self, node: Node, fresh: list[Record]) -> None:
        node.applied |= {int(record.made) for record in fresh}

    def read(self, node: Node, look: Look) -> None:
        fresh = node.known.read(look)
        if fresh is None:
            self.look_back(node)
        else:
            self.took(node, fresh)

    def look_back(self, node: Node) -> None:
        fresh = node.known.look_back(self.slow_look(node))
        if fresh is None:
            node.known.lose()
            node.readable = False
        else:
            self.took(node, fresh)

    def slow_look(self, node: Node) -> Look:
        """While it is under way, the ids of what was sent come."""
        due, after = node.known.due(), node.known.before_anchor
        while self.is_overtaken and node.sent:
            self.answered(node, 0)
        return self.redis.after(after, due)

    def read_to_end(self, node: Node) -> None:
        for _ in range(6):
            look = self.redis.after(node.known.cursor, node.known.due())
            self.read(node, look)
            if look.intact and not look.records:
                return

    def sign(self, node: Node, sign: Sign, jump: tuple[int, int]) -> None:
        fields = sign.fields(made=float(self.tick()), by="")
        id_ = self.redis.add(fields, node.known.id_above(*jump))
        if id_ is not None:
            node.known.lifted(id_)

    def sync(self, node: Node, jump: tuple[int, int]) -> None:
        if node.known.cursor != known_log.NO_RECORD:
            self.look_back(node)
        self.read_to_end(node)
        if node.known.must_begin:
            self.sign(node, Sign.BEGIN, jump)
            self.read_to_end(node)
        node.readable = True

    def send(self, node: Node, record: Record) -> None:
        top = node.known.top
        id_ = self.redis.add(fields_of(record))
        assert id_ is not None
        node.sent.append((record, top, id_))

    def cut_off(self, node: Node) -> None:
        node.readable = node.is_stale = False
        node.look = None
        # Whether they were appended is not known: they will be again.
        node.pending += [record for record, _, _ in node.sent]
        node.sent.clear()

    def mend_now(self, node: Node, jump: tuple[int, int]) -> None:
        if node.known.must_begin:
            self.sign(node, Sign.BEGIN, jump)
            self.read_to_end(node)
        if node.known.is_low:
            self.sign(node, Sign.MARK, jump)
        if node.known.is_low:
            return
        node.pending += node.known.missing()
        pending, node.pending = node.pending, []
        for record in pending:
            self.send(node, record)

    def answered(self, node: Node, index: int) -> None:
        record, top, id_ = node.sent.pop(index % len(node.sent))
        node.known.appended(record, id_, top)

    # -- what replicas do --

    @rule(
        who=WHO,
        name=st.sampled_from(NAMES),
        soft=st.booleans(),
        acked=st.booleans(),
        later_ms=st.integers(0, 2),
    )
    def purge(self, who: int, name: Name, *, soft: bool, acked: bool, later_ms: int) -> None:
        """By a write, say."""
        node = self.nodes[who]
        self.redis.now_ms += later_ms
        moment = self.tick()
        self.purges.append(Purge(moment, name, soft, node))
        at = next_id(node.purges.last, 0.0)
        record = Record(at=at, kind=name[0], value=name[1], soft=soft, made=float(moment))
        node.known.made(record)
        node.applied.add(moment)
        if not node.readable:
            node.pending.append(record)
            return
        self.send(node, record)
        if acked:
            self.answered(node, -1)

    @rule(who=WHO, index=st.integers(0, 3), lost=st.booleans())
    def answer_to_append(self, who: int, index: int, *, lost: bool) -> None:
        node = self.nodes[who]
        if node.sent and lost:
            node.pending.append(node.sent.pop(index % len(node.sent))[0])
        elif node.sent:
            self.answered(node, index)

    @rule(who=WHO, slowly=st.booleans())
    def read_on(self, who: int, *, slowly: bool) -> None:
        """Or get what was read before; or let it be on its way for a while."""
        node = self.nodes[who]
        if not node.readable or node.is_stale:
            return
        if node.look is None:
            node.look = self.redis.after(node.known.cursor, node.known.due())
        if not slowly:
            look, node.look = node.look, None
            self.read(node, look)

    @rule(is_it=st.booleans())
    def appends_overtake_looks(self, *, is_it: bool) -> None:
        self.is_overtaken = is_it

    @rule(who=WHO, jump=JUMP)
    def mend(self, who: int, jump: tuple[int, int]) -> None:
        node = self.nodes[who]
        if node.readable and node.look is None and not node.is_stale:
            self.mend_now(node, jump)

    @rule(who=WHO, key=st.sampled_from(KEYS))
    def ask_the_api(self, who: int, key: str) -> None:
        node = self.nodes[who]
        self.fills.append(Fill(node, key, node.purges.last, self.tick()))
        self.asked_by[self.moment] = node

    @precondition(lambda self: self.fills)
    @rule(index=st.integers(0, 9))
    def the_api_answers(self, index: int) -> None:
        fill = self.fills.pop(index % len(self.fills))
        entry = answer(fill.key, born=fill.born, asked=fill.asked)
        if fill.node.keep(entry):
            shared = msgspec.structs.replace(entry, born=logged(entry.born))
            self.shared = [*self.shared, shared][-WATCHED:]

    @rule(who=WHO, key=st.sampled_from(KEYS))
    def fetch(self, who: int, key: str) -> None:
        """Both at once."""
        self.ask_the_api(who, key)
        self.the_api_answers(-1)

    @precondition(lambda self: self.shared)
    @rule(who=WHO, index=st.integers(0, 9))
    def take(self, who: int, index: int) -> None:
        """What another has stored."""
        entry = self.shared[index % len(self.shared)]
        if self.may_take(self.nodes[who], entry):
            self.nodes[who].keep(entry)

    def may_take(self, node: Node, entry: Entry) -> bool:
        return node.readable and entry.born <= node.purges.last and not node.standing(entry).purged

    # -- what happens to Redis, and on the way to it --

    @rule(who=WHO, jump=JUMP)
    def connect(self, who: int, jump: tuple[int, int]) -> None:
        """Or lose the connection."""
        node = self.nodes[who]
        if node.readable:
            self.cut_off(node)
        else:
            self.sync(node, jump)

    @rule(
        what=st.sampled_from(["a failover", "a silent one", "a replacement", "a flush", "a trim", "a death"]),
        who=WHO,
        count=st.integers(1, 3),
        back_ms=st.integers(-1, 4),
        jump=JUMP,
    )
    def trouble(self, what: str, who: int, count: int, back_ms: int, jump: tuple[int, int]) -> None:
        match what:
            case "a failover":
                # To a Redis that lacks the last records, and whose clock may be behind. Entries are on other nodes.
                self.redis.fail_over(count)
                self.another_redis(back_ms)
            case "a silent one":
                # Who reads on as if nothing had happened has at least a Redis whose clock has moved.
                self.redis.fail_over(count)
                self.redis.now_ms = max(self.redis.now_ms, self.latest_ms) + 1
            case "a replacement":
                # By an empty one, whose clock may be behind; or only of the node that had the log.
                self.redis.fail_over(len(self.redis.records))
                self.another_redis(back_ms)
                self.shared = self.shared[: count - 1]
            case "a flush":
                # Or the log was evicted: all connections stay. That takes more than a millisecond.
                self.redis.fail_over(len(self.redis.records))
                self.redis.now_ms = max(self.redis.now_ms, self.latest_ms) + 1
                self.shared = self.shared[: count - 1]
            case "a trim":
                self.trim(count)
            case _:
                self.die(self.nodes[who])
                self.nodes[who] = Node()
                self.sync(self.nodes[who], jump)

    def another_redis(self, back_ms: int) -> None:
        self.redis.now_ms -= back_ms
        # A connection leads to one Redis. Whoever waits there for more does not know yet; others append to the new one.
        for node in self.nodes:
            node.is_stale, node.look = True, None

    @property
    def latest_ms(self) -> int:
        """Of all ids that ever were."""
        return max(int(id_.partition("-")[0]) for id_ in self.redis.given)

    def trim(self, count: int) -> None:
        """Redis lets go of what all have read: of the old, or of what are too many."""
        read = min(record_id(node.known.cursor) for node in self.nodes)
        while count and len(self.redis.records) > 1 and record_id(self.redis.records[0][0]) < read:
            self.redis.records.pop(0)
            count -= 1

    def die(self, node: Node) -> None:
        node.alive = False
        self.fills = [fill for fill in self.fills if fill.node is not node]

    # -- what must hold --

    def wrong(self, node: Node, purge: Purge) -> list[Entry]:
        """Entries that it would serve as if this purge had not been."""
        shared = [entry for entry in self.shared if self.may_take(node, entry)]
        return [
            entry
            for entry in (*node.has, *shared)
            if purge.moment > entry.asked
            and purge.concerns(entry.key)
            and not _respects(node.standing(entry), purge)
        ]

    @invariant()
    def nothing_is_served_that_its_replica_knows_to_be_purged(self) -> None:
        for node in self.nodes:
            for purge in self.purges:
                if purge.moment in node.applied:
                    assert [entry for entry in self.wrong(node, purge) if self.is_sound(node, entry)] == []

    def is_sound(self, node: Node, entry: Entry) -> bool:
        """Whether what it was born after is known to it, or in the log.

        After a failover to a Redis whose clock is behind, others may have stored what bears numbers that the log has lost, and
        gives again. Whoever did not know those can't tell, until one who did has appended again what came since (`settle`).
        """
        return self.asked_by[entry.asked] is node or logged(entry.born) not in self.redis.lost

    @rule(jump=JUMP)
    def settle(self, jump: tuple[int, int]) -> None:
        """In the end, whatever anybody purged holds everywhere: unless only the dead knew of it."""
        for number in range(8):
            for node in self.nodes:
                node.look = None
                while node.sent:
                    self.answered(node, 0)
                if node.is_stale:
                    self.cut_off(node)
                if not node.readable:
                    self.sync(node, (jump[0] + number, jump[1]))
                self.read_to_end(node)
                if node.readable:
                    self.mend_now(node, (jump[0] + number, jump[1]))
        for node in self.nodes:
            assert (node.readable, node.sent, node.pending, node.known.lacks_some) == (True, [], [], False)
            for purge in self.purges:
                if purge.by.alive or any(purge.moment in other.applied for other in self.nodes):
                    assert self.wrong(node, purge) == []

    def teardown(self) -> None:
        self.settle((1000, 7))


def _respects(standing: purges.Standing, purge: Purge) -> bool:
    return standing.purged or (purge.soft and standing.soft_at > 0)


class SmallFleet(Fleet):
    """The same with room for one name and one pattern, and a short recollection of the log."""

    def __init__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(purges, "MAX_NAMES", 1)
        self.patch.setattr(purges, "MAX_PATTERNS", 1)
        self.patch.setattr(known_log, "MAX_RECENT", 3)
        super().__init__()

    def teardown(self) -> None:
        super().teardown()
        self.patch.undo()


_SETTINGS = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestFleet = Fleet.TestCase
TestFleet.settings = _SETTINGS
TestSmallFleet = SmallFleet.TestCase
TestSmallFleet.settings = _SETTINGS


# -- races by name, and what each rule is for --

A, B, EVERY_A, EVERY_A_TOO = (Kind.TAG, "/a"), (Kind.URL, "/b"), (Kind.PATTERN, "/a*"), (Kind.PATTERN, "*a")


class Stage(Fleet):
    """The machine, in the hands of a script."""

    def purges_(self, who: int, name: Name = A, *, acked: bool = True, later_ms: int = 0) -> None:
        self.done(lambda: self.purge(who, name, soft=False, acked=acked, later_ms=later_ms))

    def reads(self, who: int) -> None:
        self.done(lambda: self.read_on(who, slowly=False))

    def fetches(self, who: int) -> None:
        self.done(lambda: self.fetch(who, "/a"))

    def reconnects(self, who: int) -> None:
        self.cut_off(self.nodes[who])
        self.done(lambda: self.connect(who, (700, 7)))

    def troubled(self, what: str, count: int = 3, back_ms: int = 0, who: int = 2) -> None:
        self.done(lambda: self.trouble(what, who, count, back_ms, (500, 5)))

    def done(self, step: Callable[[], None]) -> None:
        step()
        self.nothing_is_served_that_its_replica_knows_to_be_purged()


def an_answer_under_way_when_its_purge_comes(stage: Stage) -> None:
    stage.ask_the_api(1, "/a")
    stage.purges_(0)
    stage.reads(1)
    stage.done(lambda: stage.the_api_answers(0))


def a_flush_loses_a_purge_that_one_replica_has_not_read(stage: Stage) -> None:
    stage.fetches(1)
    stage.purges_(0)
    stage.reads(0)
    stage.troubled("a flush")


def a_failover_loses_a_purge_that_one_replica_has_not_read(stage: Stage) -> None:
    stage.fetches(1)
    stage.purges_(0)
    stage.reads(0)
    stage.troubled("a failover", 1)


def a_silent_failover_loses_what_was_just_appended(stage: Stage) -> None:
    stage.fetches(1)
    stage.purges_(0)
    stage.troubled("a silent one", 1)


def a_purge_made_on_a_redis_whose_clock_is_behind(stage: Stage) -> None:
    stage.purges_(0, B, later_ms=5)
    stage.reads(0)
    stage.fetches(0)
    stage.troubled("a failover", 1, back_ms=4)
    stage.purges_(1)
    stage.reconnects(0)


def a_purge_that_gets_an_id_from_the_past(stage: Stage) -> None:
    stage.purges_(0, B, later_ms=5)
    stage.reads(0)
    stage.fetches(0)
    stage.troubled("a failover", 1, back_ms=4)
    stage.purges_(0)


def two_purges_at_once_of_which_the_second_is_known_first(stage: Stage) -> None:
    stage.purges_(1, EVERY_A)
    stage.fetches(1)
    stage.purges_(0, EVERY_A_TOO)
    stage.reads(0)


def an_answer_stored_by_one_who_had_read_on_before_it_was_purged(stage: Stage) -> None:
    stage.purges_(1, B)
    stage.reads(1)
    stage.fetches(1)
    stage.purges_(0)
    stage.reads(0)


def the_same_while_redis_has_not_answered(stage: Stage) -> None:
    stage.purges_(1, B)
    stage.fetches(1)
    stage.purges_(0, acked=False)
    stage.purges_(0, B)


def two_replicas_purge_at_once_and_neither_has_a_number(stage: Stage) -> None:
    stage.cut_off(stage.nodes[0])
    stage.purges_(0, B)
    stage.fetches(0)
    stage.purges_(1, acked=False)
    stage.done(lambda: stage.take(1, 0))


def a_purge_made_while_others_are_appended_in_the_same_millisecond(stage: Stage) -> None:
    stage.purges_(0, B, acked=False)
    stage.fetches(0)
    stage.redis.records.pop()
    stage.redis.last = (stage.redis.last[0], 0)
    stage.nodes[0].sent.clear()
    stage.purges_(1)
    stage.reads(0)


def one_starts_with_a_log_that_was_cut_short(stage: Stage) -> None:
    stage.fetches(0)
    stage.purges_(0)
    stage.purges_(0, B)
    for who in range(3):
        stage.reads(who)
    stage.troubled("a trim", 2)
    stage.troubled("a death")


def a_log_is_lost_and_goes_on_as_if_it_was_not(stage: Stage) -> None:
    stage.purges_(0, B, later_ms=5)
    stage.reads(0)
    stage.fetches(0)
    stage.purges_(0)
    stage.reads(0)
    stage.troubled("a replacement", 3, back_ms=5)
    stage.purges_(1, B)
    stage.reconnects(0)
    stage.troubled("a death")


def a_log_that_was_begun_loses_its_beginning(stage: Stage) -> None:
    stage.purges_(0, B, later_ms=5)
    stage.reads(0)
    stage.fetches(0)
    stage.purges_(0)
    stage.reads(0)
    stage.troubled("a replacement", 3, back_ms=5)
    stage.troubled("a death", who=1)
    stage.troubled("a death", who=2)
    stage.reconnects(0)
    stage.troubled("a failover", 1)
    stage.reconnects(0)


def an_id_that_was_lost_is_given_again(stage: Stage) -> None:
    stage.fetches(1)
    stage.purges_(0)
    stage.reads(0)
    stage.troubled("a failover", 1)
    stage.purges_(2, B)


RACES: list[Callable[[Stage], None]] = [
    an_answer_under_way_when_its_purge_comes,
    a_flush_loses_a_purge_that_one_replica_has_not_read,
    a_failover_loses_a_purge_that_one_replica_has_not_read,
    a_silent_failover_loses_what_was_just_appended,
    a_purge_made_on_a_redis_whose_clock_is_behind,
    a_purge_that_gets_an_id_from_the_past,
    two_purges_at_once_of_which_the_second_is_known_first,
    an_answer_stored_by_one_who_had_read_on_before_it_was_purged,
    the_same_while_redis_has_not_answered,
    two_replicas_purge_at_once_and_neither_has_a_number,
    a_purge_made_while_others_are_appended_in_the_same_millisecond,
    one_starts_with_a_log_that_was_cut_short,
    a_log_is_lost_and_goes_on_as_if_it_was_not,
    a_log_that_was_begun_loses_its_beginning,
    an_id_that_was_lost_is_given_again,
]


def play(race: Callable[[Stage], None]) -> None:
    stage = Stage()
    race(stage)
    stage.settle((1000, 7))


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
def test_nothing_purged_is_served_in_this_race(race: Callable[[Stage], None]) -> None:
    play(race)


def without(source: object, old: str, new: str) -> Any:
    """A function with a piece of its text replaced."""
    text = textwrap.dedent(inspect.getsource(source))  # type: ignore[arg-type]
    assert old in text
    names = dict(vars(inspect.getmodule(source)))
    exec(text.replace(old, new), names)
    return names[source.__name__]  # type: ignore[attr-defined]


def ignored(*_: Any) -> None:
    """Instead of something that matters."""


K, P = KnownLog, Purges
# What is left out of the rules, and the race that shows what it is for.
OMISSIONS: dict[str, tuple[Callable[[Stage], None], object, str, Callable[[], Any]]] = {
    "born when it lands": (RACES[0], Stage, "the_api_answers", lambda: born_when_it_lands),
    "intact": (RACES[1], K, "read", lambda: without(K.read, "not look.intact or", "")),
    "putting back": (RACES[2], K, "missing", lambda: lambda self: (self._again.clear(), [])[1]),
    "due": (RACES[3], K, "read", lambda: without(K.read, "in look.due if", "in () if")),
    "low numbers": (RACES[4], K, "_meet", lambda: without(K._meet, "is_low = at <=", "is_low = at < 0 * ")),
    "explicit ids": (RACES[4], K, "id_above", lambda: lambda *_: "*"),
    "low ids": (RACES[5], K, "appended", lambda: without(K.appended, "at <= top", "False")),
    "lifting": (RACES[5], K, "is_low", lambda: property(lambda _: False)),
    "order of patterns": (
        RACES[6],
        P,
        "_apply_pattern",
        lambda: without(P._apply_pattern, "latest[1].at > record.at", "False"),
    ),
    "own ids": (RACES[7], K, "appended", lambda: without(K.appended, "self.purges.apply(numbered)", "pass")),
    "purges afloat": (RACES[8], P, "hold", lambda: ignored),
    "what a number means to others": (RACES[9], sys.modules[__name__], "logged", lambda: lambda at: at),
    "room for own numbers": (
        RACES[10],
        sys.modules[__name__],
        "next_id",
        lambda: lambda last, _: logged(last) + (1 << 10),
    ),
    "the first record": (
        RACES[11],
        K,
        "_open",
        lambda: without(K._open, "self.purges.forget_before(first)", "pass"),
    ),
    "beginning": (RACES[12], K, "must_begin", lambda: property(lambda _: False)),
    "a begin's meaning": (
        RACES[12],
        K,
        "_meet",
        lambda: without(K._meet, "self.purges.forget_before(at)", "pass"),
    ),
    "beginning again": (
        RACES[13],
        K,
        "_put_back",
        lambda: without(K._put_back, "if lost is Sign.BEGIN", "if False"),
    ),
    "what a record says": (RACES[14], K, "_is", lambda: lambda self, id_, _: id_ in self._recent),
}


def born_when_it_lands(self: Stage, index: int) -> None:
    fill = self.fills[index]
    fill.born = fill.node.purges.last
    Fleet.the_api_answers(self, index)


@pytest.mark.parametrize("omission", OMISSIONS)
def test_without_it_something_purged_is_served(omission: str, monkeypatch: pytest.MonkeyPatch) -> None:
    race, where, what, instead = OMISSIONS[omission]
    monkeypatch.setattr(where, what, instead())

    with pytest.raises(AssertionError):
        play(race)
