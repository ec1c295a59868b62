"""What one replica knows of the purge log that all share, and what it makes of what it reads there.

The log is a stream to which Redis gives ids that grow. It keeps its records for longer than anything is stored. What may
happen to it all the same, and how it is noticed:

- *It is lost*: FLUSHALL, eviction, an empty replacement; or this replica was away for so long that what it read last has been
  let go of. The record that was read last is not there any more, nor is any other that is known. Purges may have been made
  that nobody will ever read, so everything from before is taken for purged. Where the new log could be mistaken for the old
  one's continuation, or is empty, it is begun: a record that says the same to whoever reads it.
- *Its end is lost*: a failover to a Redis that had not got the last records yet. Some that are known are there, the later
  ones are not. Whoever knows those appends them again. Nothing need be dropped: what a replica has read it has applied, and a
  purge that only a dead one knew is lost as if that one had died before it made it.
- *Ids go back*: the clock of the new Redis is behind. Entries would bear a later number than purges that come after them. So
  the log is lifted: a record that means nothing is appended under an id above all that is known, and Redis goes on from there.
  What came in between is appended again.

No clock, no chance, no IO: `proxy.purge_log` brings those.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from enum import Enum

from proxy.policy.purges import (
    MAX_AT,
    RECORDS_KEPT_S,
    Purges,
    Record,
    fields_of,
    from_fields,
    instant,
    logged,
    milliseconds_of,
    next_id,
    record_id,
    sequence_of,
)

NO_RECORD = "0-0"
"""The id before the first."""

Raw = tuple[str, Mapping[bytes, bytes]]
"""A record as Redis has it: its id and its fields."""

# So many are looked for after a failover: seconds of a storm, hours of a normal day.
MAX_RECENT = 1000
# The log is this long at most, however many purges there are: 500,000 are some 50 MB, and read in seconds at a start.
MAX_RECORDS = 500_000
# Redis would number more than this within a millisecond only while its clock is behind its own ids.
_CROWDED = 2048
_LAST_SEQUENCE = 2**64 - 1
# Half of what the log keeps: older records may have been let go of.
_YOUNG = record_id(f"{int(RECORDS_KEPT_S * 500)}-0")


class Sign(Enum):
    """Records that name nothing."""

    BEGIN = "begin"
    """Whatever was purged before may not be in the log."""
    MARK = "mark"
    """The log has come so far."""

    def fields(self, *, made: float, by: str) -> dict[bytes, bytes]:
        """As the fields of a stream record; when and by whom, so that no two are alike."""
        return {b"k": self.value.encode(), b"t": b"%.3f" % made, b"r": by.encode()}


class BadLog(Exception):
    """An id that no clock could have brought about."""


_Lost = tuple[str, float]
"""A record by its id, and when its purge was made: an id may be given again."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A record as it was read or appended, and what it means here."""

    fields: Mapping[bytes, bytes]
    what: Record | Sign


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A look into the log, at what comes after a record."""

    records: Sequence[Raw]
    intact: bool
    """Whether that record was there."""
    due: Set[str] = frozenset()
    """What had been appended here, and not read, when the look began: it must be among the records."""
    whole: bool = True
    """Whether these are all records that there were."""


class KnownLog:
    """One replica's knowledge. `purges` is what follows from it."""

    def __init__(self) -> None:
        self.purges = Purges()
        self.cursor = NO_RECORD
        """Id of the last record read."""
        self._again: dict[_Lost, Record] = {}
        """What the log has lost, or has under a number that is too low: to be appended again."""
        self._recent: OrderedDict[str, _Known] = OrderedDict()
        """What is known to be in the log, by id: of what was read the latest, and what was appended here."""
        self._unread: dict[str, None] = {}
        """Ids of what was appended here and not read yet."""
        self._gone: OrderedDict[str, None] = OrderedDict()
        """Ids that the log has lost."""
        self._repeated: OrderedDict[_Lost, str] = OrderedDict()
        """The ids of records that repeat others, by those."""
        self._top = 0
        """The highest number that the log is known to have given."""
        self._at = 0
        """The number of the last record read."""
        self._own = 0
        """Entries may bear any number up to this one, whether or not the log gave it."""
        self._lost = -1
        """Since the log was lost: the highest number before; else -1."""
        self._begun = False
        """Since it was lost: whether what was read says so to everybody."""
        self._begin = NO_RECORD
        """Id of the last record read that stands for all purges before."""
        self._count = 0
        self._milestones: deque[int] = deque(maxlen=MAX_RECORDS // MAX_RECENT)
        """The number of every thousandth record read."""

    # -- what is done here --

    def made(self, *records: Record) -> None:
        """Purges of this replica, numbered by `next_id`. They hold here from now on."""
        self.purges.apply(*records)
        self._own = max(self._own, *(record.at for record in records))
        self.purges.hold(*records)

    def dropped(self, records: Iterable[Record]) -> None:
        """Purges made here will not be appended: another stands for them."""
        for record in records:
            self.purges.numbered(record)

    @property
    def top(self) -> int:
        """The highest number in the log, as far as is known."""
        return max(self._top, logged(self.purges.last))

    def appended(self, record: Record, id_: str, top: int) -> bool:
        """A record has got its id; `top` is what was known when it was sent. False if it must be appended again.

        Raises BadLog.
        """
        fields = fields_of(record)
        if self._is(id_, fields):
            # It was read before the answer came.
            return True
        at = _number(id_)
        if at <= top or id_ in self._recent:
            self._repeat(record, id_)
            return False
        numbered = replace(record, at=at)
        self._unread[id_] = None
        self._keep(id_, _Known(fields, numbered))
        self.purges.apply(numbered)
        self._top = max(self._top, at)
        self.purges.numbered(record)
        return True

    def _is(self, id_: str, fields: Mapping[bytes, bytes]) -> bool:
        """Whether this record is known: another Redis may give an id again."""
        known = self._recent.get(id_)
        return known is not None and known.fields == fields

    def _may_be(self, id_: str, fields: Mapping[bytes, bytes]) -> bool:
        """The same, where what it was may not be known any more."""
        return id_ not in self._recent or self._is(id_, fields)

    def lifted(self, id_: str) -> None:
        """A record that names nothing has got its id: what comes after it has higher ones. Raises BadLog."""
        self._top = max(self._top, _number(id_))

    def due(self) -> Set[str]:
        """What a look that begins now must find."""
        return frozenset(self._unread)

    # -- what is read --

    def read(self, look: Look) -> list[Record] | None:
        """Take in what comes after `cursor`. Returns what others purged; None if something is missing. Raises BadLog.

        Then nothing has been taken in, and what there is from `anchor` on is to be looked at.
        """
        there = dict(look.records)
        last = _number(look.records[-1][0]) if look.records else 0
        due = [id_ for id_ in look.due if id_ in self._unread and (look.whole or record_id(id_) <= last)]
        if not look.intact or not all(id_ in there and self._may_be(id_, there[id_]) for id_ in due):
            return None
        if self.cursor == NO_RECORD and look.records:
            self._open(_number(look.records[0][0]))
        return self._take(look.records, self._recent.keys() & self._unread.keys())

    @property
    def anchor(self) -> str:
        """The oldest record that is known, from which on the log is looked at where something may be missing."""
        young = min(self.purges.last - _YOUNG, self._at)
        return next((id_ for id_ in self._recent if record_id(id_) >= young), self.cursor)

    @property
    def before_anchor(self) -> str:
        """An id after which `anchor` comes first, if it's there."""
        return _id_before(self.anchor)

    def look_back(self, look: Look) -> list[Record] | None:
        """Compare what is known with what comes after `before_anchor`. Returns what others purged; None if all is lost.

        Then nothing has been taken in, and `lose` is to be called. Raises BadLog.
        """
        anchor, known = self.anchor, self._recent
        first = record_id(anchor)
        # What was appended meanwhile may have taken the place of the oldest that were known.
        records = [record for record in look.records if record_id(record[0]) >= first]
        if not records or records[0][0] != anchor or not self._is(*records[0]):
            return None
        there = {id_ for id_, fields in records if self._is(id_, fields)}
        # What was appended after the look began is not missing.
        late = self._unread.keys() - look.due
        for id_ in [id_ for id_ in known if id_ not in there and id_ not in late]:
            self._unread.pop(id_, None)
            if record_id(id_) > first:
                self._put_back(id_, known[id_].what)
        self.cursor, self._at = anchor, first
        self._top = max((first, *(record_id(id_) for id_ in self._unread)))
        # Of what is not known there, any number up to now may be one that entries bear already.
        self._own = max(self._own, self.purges.last)
        self._recent = OrderedDict((id_, known[id_]) for id_ in known if id_ in there)
        fresh = self._take(records, there)
        for id_ in late - there:
            self._keep(id_, known[id_])
        return fresh

    def _put_back(self, id_: str, lost: Record | Sign) -> None:
        if isinstance(lost, Record):
            self._repeat(lost, id_)
            return
        self._lack(id_)
        if lost is Sign.BEGIN:
            # Whoever has not read it must still learn that everything before is unknown.
            self._lost, self._begun = max(self._lost, self.purges.last), False

    def _lack(self, id_: str) -> None:
        self._gone[id_] = None
        if len(self._gone) > MAX_RECENT:
            self._gone.popitem(last=False)

    def _repeat(self, record: Record, id_: str) -> None:
        self._lack(id_)
        lost = (id_, record.made)
        if lost not in self._repeated:
            self._again[lost] = replace(record, again=id_, waited=False)
            self.purges.hold(record)

    def lose(self) -> None:
        """All is lost: everything until now is taken for purged, and the log is read from its beginning."""
        self._own = next_id(self.purges.last, 0.0)
        self.purges.forget_before(self._own)
        self._lost, self._begun = max(self._lost, self._own), False
        self.cursor, self._at, self._top = NO_RECORD, 0, 0
        for id_ in self._recent:
            self._lack(id_)
        self._recent.clear()
        self._unread.clear()
        self._forget_again()

    def _forget_again(self) -> None:
        """Something says that all was purged."""
        self.dropped(self._again.values())
        self._again.clear()

    def _open(self, first: int) -> None:
        """Begin with the first record of a log."""
        # What was purged before the first is not known here.
        self.purges.forget_before(first)
        self._begun = first > self._lost

    def _take(self, records: Sequence[Raw], known: Set[str]) -> list[Record]:
        """Take in records, some of which are known."""
        fresh: list[Record] = []
        for id_, fields in records:
            self._unread.pop(id_, None)
            if id_ in known and self._is(id_, fields):
                what = self._recent[id_].what
            else:
                what = self._meet(id_, fields)
                if isinstance(what, Record):
                    fresh.append(what)
            self._read_on(id_, fields, what)
        if fresh:
            self.purges.apply(*fresh)
        self.purges.saw(self._top)
        return fresh

    def _meet(self, id_: str, fields: Mapping[bytes, bytes]) -> Record | Sign:
        """A record that was not known; under a number of ours where its own is too low."""
        at = _number(id_)
        # Entries may bear such a number already: by purges made here, or by records that the log has lost.
        is_low = at <= max(self._own, self._at)
        if is_low:
            at = self._own = next_id(max(self.purges.last, self._own), 0.0)
        if fields.get(b"k") == Sign.MARK.value.encode():
            return Sign.MARK
        record = from_fields(at, fields)
        if record is not None:
            # One of ours may be read before Redis' answer says that it was appended.
            self.purges.numbered(record)
            if is_low:
                self._repeat(record, id_)
            return record
        # A log that was begun; or a newer version's record: not knowing what it names, take it for everything.
        self.purges.forget_before(at)
        self._begin = id_
        if is_low:
            self._lost, self._begun = max(self._lost, at), False
        else:
            self._begun = self._begun or at > self._lost
            self._forget_again()
        return Sign.BEGIN

    def _read_on(self, id_: str, fields: Mapping[bytes, bytes], what: Record | Sign) -> None:
        at = _number(id_)
        self.cursor, self._at = id_, at
        self._top = max(self._top, at)
        self._keep(id_, _Known(fields, what))
        # A repetition has the higher id; else one could lead back to itself.
        if isinstance(what, Record) and what.again and record_id(what.again) < at:
            self._repeated[what.again, what.made] = id_
            if len(self._repeated) > MAX_RECENT:
                self._repeated.popitem(last=False)
        self._count += 1
        if self._count % MAX_RECENT == 0:
            self._milestones.append(at)

    def _keep(self, id_: str, known: _Known) -> None:
        self._recent[id_] = known
        while len(self._recent) > MAX_RECENT:
            oldest = next(iter(self._recent))
            if oldest == self.cursor or oldest in self._unread:
                # The log is looked back at from what was read last, and what it loses of ours is put back: until that is read.
                break
            del self._recent[oldest]

    # -- what is to be done about it --

    def place_of(self, record: Record, id_: str) -> str:
        """Where the log has a purge: under its id, under that of one that repeats it, or of one that stands for all.

        Empty if it has it no more, and not again.
        """
        while (again := self._repeated.get((id_, record.made))) is not None:
            id_ = again
        if id_ not in self._gone:
            return id_
        return self._begin if record_id(self._begin) > record_id(id_) else ""

    def holds(self, id_: str) -> bool:
        """Whether the log has this record, as far as it has been read."""
        if id_ in self._recent:
            return True
        oldest = next(iter(self._recent), NO_RECORD)
        return id_ not in self._gone and record_id(id_) < record_id(oldest)

    @property
    def lacks_some(self) -> bool:
        """Whether anything is to be appended again."""
        return bool(self._again)

    def missing(self) -> list[Record]:
        """What is to be appended again and nobody has yet. It is told once."""
        missing = [record for lost, record in self._again.items() if lost not in self._repeated]
        self._again.clear()
        return missing

    @property
    def must_begin(self) -> bool:
        """Whether a log that was read to its end is to be begun: an empty one; one that may be taken for another."""
        return self.cursor == NO_RECORD or (self._lost >= 0 and not self._begun)

    def begun(self) -> None:
        """The log was read to its end and needs no beginning."""
        self._lost = -1

    @property
    def is_low(self) -> bool:
        """Whether Redis may number what comes next as if it had been before, or has no numbers left in its millisecond."""
        return self._top < self.top or sequence_of(self._top) >= _CROWDED

    def id_above(self, jump_ms: int, sequence: int) -> str:
        """An id above all that is known; `*` where nothing is.

        Far enough, and by chance, so that it is not one that the lost log had, and that somebody else has read.
        """
        last = max(self.purges.last, self._top)
        if last == 0:
            return "*"
        return f"{milliseconds_of(last) + max(1, jump_ms)}-{sequence}"

    def keep_after_ms(self, now: float) -> int:
        """Records from before may go (Unix milliseconds): by the log's own clock or ours, whichever is behind."""
        by_time = int((min(now, instant(self.purges.last)) - RECORDS_KEPT_S) * 1000)
        is_long = len(self._milestones) == self._milestones.maxlen
        return max(0, by_time, milliseconds_of(self._milestones[0]) if is_long else 0)


def _number(id_: str) -> int:
    at = record_id(id_)
    if at > MAX_AT:
        raise BadLog(id_)
    return at


def _id_before(id_: str) -> str:
    milliseconds, _, sequence = id_.partition("-")
    if sequence != "0":
        return f"{milliseconds}-{int(sequence) - 1}"
    return f"{max(0, int(milliseconds) - 1)}-{_LAST_SEQUENCE}"
