"""What has been purged: an append-only log, and whether an entry is still good after all of it.

A purge is one record, however many entries it concerns. A fill notes the last record seen *before* it asked the API and
keeps it in the entry as `born`; the entry is good only while no later record matches it. So an answer that was under
way when its purge came can't bring the old state back, on any replica. `epoch` grows with every record: an entry that
was found good at this epoch need not be looked at again.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import msgspec

from proxy.policy.storable import MAX_KEEP_S


class Kind(Enum):
    """What a purge names."""

    TAG = "tag"
    URL = "url"
    """Path and query as in the key: all hosts, variants and principals."""
    ROUTE = "route"
    PATTERN = "pattern"
    """A URL in which `*` stands for anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One purge. `at` is its id as a number (see `record_id`)."""

    at: int
    kind: Kind
    value: str
    soft: bool
    made: float = 0.0
    """When, by the clock of whoever made it (Unix seconds): long before its id, if Redis was away. 0: as its id says."""
    waited: bool = False
    """Whether somebody waits until every replica has applied it."""
    by: str = ""
    """Which replica appended it."""
    again: str = ""
    """The id under which the log had it before, if it was lost there."""

    @property
    def instant(self) -> float:
        """When it was made, in Unix seconds; never 0."""
        return max(self.made or instant(self.at), _FIRST_INSTANT)


# An id as a number: 42 bits of milliseconds since 1970 (until the year 2109), 12 of Redis' sequence number within one, and 10
# for purges made here that Redis has not numbered: they come after every record that is known, and before any that is not.
_LOCAL_BITS = 10
_SEQUENCE_BITS = 12
_TIME_BITS = _SEQUENCE_BITS + _LOCAL_BITS
_MAX_SEQUENCE = (1 << _SEQUENCE_BITS) - 1
MAX_AT = (1 << 64) - 1
"""Entries keep such numbers in 64 bits."""
_FIRST_INSTANT = 0.001


_ID = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")
_SECONDS = re.compile(rb"[0-9]{1,12}(\.[0-9]{1,3})?")


def record_id(text: str) -> int:
    """A Redis stream id such as `1700000000000-3` as one number that orders alike."""
    milliseconds, _, sequence = text.partition("-")
    return number_of(int(milliseconds), int(sequence or 0))


def number_of(milliseconds: int, sequence: int) -> int:
    """The two parts of a stream id as one number. Beyond 4095 in a millisecond all have the same."""
    return (milliseconds << _TIME_BITS) | (min(sequence, _MAX_SEQUENCE) << _LOCAL_BITS)


def stream_id(at: int) -> str:
    """The reverse of `record_id`: the last record that is not later."""
    return f"{at >> _TIME_BITS}-{sequence_of(at)}"


def logged(at: int) -> int:
    """Of a number, what it means to all replicas: the record that it is, or that it comes after.

    Each numbers its own purges while Redis has not; what it stores for others must not bear such a number.
    """
    return at >> _LOCAL_BITS << _LOCAL_BITS


def sequence_of(at: int) -> int:
    """Its place within its millisecond."""
    return (at >> _LOCAL_BITS) & _MAX_SEQUENCE


def milliseconds_of(at: int) -> int:
    """Milliseconds since 1970."""
    return at >> _TIME_BITS


def instant(at: int) -> float:
    """When a record was appended, in Unix seconds."""
    return milliseconds_of(at) / 1000


def next_id(last: int, now: float) -> int:
    """The id of a purge made here, where no Redis gives one: later than `last` even if the clock stepped back."""
    return max(last + 1, int(now * 1000) << _TIME_BITS)


def to_fields(kind: Kind, value: str, *, soft: bool) -> dict[bytes, bytes]:
    """A purge as the fields of a stream record."""
    return {
        b"k": kind.value.encode(),
        b"v": value.encode("utf-8", "surrogateescape"),
        b"s": b"1" if soft else b"0",
    }


def fields_of(record: Record) -> dict[bytes, bytes]:
    """A record as the fields of a stream record, with what is worth saying of it beside what it names."""
    fields = to_fields(record.kind, record.value, soft=record.soft)
    if record.made:
        fields[b"t"] = b"%.3f" % record.made
    if record.waited:
        fields[b"w"] = b"1"
    if record.by:
        fields[b"r"] = record.by.encode()
    if record.again:
        fields[b"o"] = record.again.encode()
    return fields


def from_fields(at: int, fields: Mapping[bytes, bytes]) -> Record | None:
    """A stream record's purge; None if it isn't one of ours (a newer version's, or damaged)."""
    try:
        kind = Kind(fields[b"k"].decode())
        return Record(
            at=at,
            kind=kind,
            value=fields[b"v"].decode("utf-8", "surrogateescape"),
            soft=fields.get(b"s") == b"1",
            made=_seconds(fields.get(b"t", b"")),
            waited=fields.get(b"w") == b"1",
            by=fields.get(b"r", b"").decode(),
            again=_id(fields.get(b"o", b"")),
        )
    except (KeyError, ValueError):
        return None


def _id(text: bytes) -> str:
    return text.decode() if text and _ID.fullmatch(text) else ""


def _seconds(text: bytes) -> float:
    # Sixteen characters are more than any instant of ours has.
    return float(text) if _SECONDS.fullmatch(text) else 0.0


class Concerned(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What of an entry a purge can name."""

    born: int
    route: str
    url: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the log says about an entry: purged for good, or softly at an instant (Unix seconds), or neither."""

    purged: bool = False
    soft_at: float = 0.0


GOOD = Standing()
PURGED = Standing(purged=True)
# More patterns than this are not kept apart: the oldest is taken to mean everything.
MAX_PATTERNS = 1000
# More tags, URLs and routes than this likewise; about 20 MB.
MAX_NAMES = 100_000


# Nothing that was asked for before such a record is kept any more; an hour more than anything is kept.
RECORDS_KEPT_S = MAX_KEEP_S + 3600
_KEPT = int(RECORDS_KEPT_S * 1000) << _TIME_BITS


_Name = tuple[Kind, str, bool]
"""What a purge names, and whether softly."""


class Purges:
    """All purges that may still concern an entry. Bounded: what it forgets it takes to mean everything."""

    def __init__(self) -> None:
        self.epoch = 0
        self.last = 0
        """Id of the last record applied."""
        self._floor = 0
        # Each in the order of the ids, as far as they came in it: the first is the oldest.
        self._hard: OrderedDict[tuple[Kind, str], int] = OrderedDict()
        self._soft: OrderedDict[tuple[Kind, str], Record] = OrderedDict()
        self._patterns: OrderedDict[tuple[str, bool], tuple[Glob, Record]] = OrderedDict()
        self._afloat: dict[_Name, Record] = {}
        self._afloat_globs: dict[_Name, Glob] = {}
        self._afloat_from = 0
        """The lowest number of the log that one of them came after."""

    def apply(self, *records: Record) -> None:
        """Take in records, of which the later have the higher ids. Repeating one changes nothing."""
        for record in records:
            if record.kind is Kind.PATTERN:
                self._apply_pattern(record)
            elif record.soft:
                self._apply_soft(record)
            else:
                self._apply_hard(record)
            self.last = max(self.last, record.at)
        self._let_go()
        self.epoch += 1

    def hold(self, *records: Record) -> None:
        """Purges that are applied and that the log has not numbered, or has lost: they are afloat until they are `numbered`.

        Others read on and store meanwhile, so whatever these name is purged although it bears a later number.
        """
        for record in records:
            name = _name(record)
            from_ = logged(record.at)
            self._afloat_from = min(self._afloat_from, from_) if self._afloat else from_
            self._afloat[name] = record
            if record.kind is Kind.PATTERN:
                self._afloat_globs[name] = Glob.of(record.value)

    def numbered(self, record: Record) -> None:
        """The log has it."""
        name = _name(record)
        held = self._afloat.get(name)
        # Not another one of the same name.
        if held is not None and held.made == record.made and (record.again or held.by == record.by):
            del self._afloat[name]
            self._afloat_globs.pop(name, None)

    def forget_before(self, at: int) -> None:
        """Everything born before is taken for purged: the log has a gap there."""
        self._floor = max(self._floor, at)
        self.saw(at)
        self.epoch += 1

    @property
    def floor(self) -> int:
        """What was born before is taken for purged, whatever it is."""
        return self._floor

    def saw(self, at: int) -> None:
        """The log has come so far; it need not have been a purge."""
        self.last = max(self.last, at)

    def standing(self, entry: Concerned) -> Standing:
        """Whether an entry is still good after everything that has been purged."""
        born = entry.born
        if born < self._floor:
            return PURGED
        if born >= self.last and not self._afloat:
            return GOOD
        names = [(Kind.ROUTE, entry.route), (Kind.URL, entry.url), *((Kind.TAG, tag) for tag in entry.tags)]
        hard, soft = self._hard, self._soft
        soft_at = 0.0
        for name in names:
            if hard.get(name, -1) > born:
                return PURGED
            softly = soft.get(name)
            if softly is not None and softly.at > born:
                soft_at = max(soft_at, softly.instant)
        for record in self._matching(entry, names):
            if not record.soft:
                return PURGED
            soft_at = max(soft_at, record.instant)
        return Standing(soft_at=soft_at) if soft_at else GOOD

    def _matching(self, entry: Concerned, names: Iterable[tuple[Kind, str]]) -> Iterator[Record]:
        """Patterns that concern an entry, and those afloat that do although it bears a later number."""
        for pattern, record in reversed(self._patterns.values()):
            # The rest is older still.
            if record.at <= entry.born:
                break
            if pattern.matches(entry.url):
                yield record
        born = logged(entry.born)
        if self._afloat and born > self._afloat_from:
            named = [(*name, is_soft) for name in names for is_soft in (False, True)]
            named += [name for name, glob in self._afloat_globs.items() if glob.matches(entry.url)]
            for name in named:
                held = self._afloat.get(name)
                if held is not None and born > logged(held.at):
                    yield held

    def _apply_hard(self, record: Record) -> None:
        name = (record.kind, record.value)
        # Taken out and put in again, so that the first is the oldest.
        self._hard[name] = max(self._hard.pop(name, 0), record.at)
        if len(self._hard) > MAX_NAMES:
            self._forget(self._hard.popitem(last=False)[1])

    def _apply_soft(self, record: Record) -> None:
        name = (record.kind, record.value)
        self._soft[name] = _later(self._soft.pop(name, None), record)
        if len(self._soft) > MAX_NAMES:
            self._forget(self._soft.popitem(last=False)[1].at)

    def _apply_pattern(self, record: Record) -> None:
        key = (record.value, record.soft)
        glob, before = self._patterns.pop(key, (None, None))
        latest = next(reversed(self._patterns.values()), None)
        self._patterns[key] = (glob or Glob.of(record.value), _later(before, record))
        if latest is not None and latest[1].at > record.at:
            self._patterns = OrderedDict(sorted(self._patterns.items(), key=_at))
        if len(self._patterns) > MAX_PATTERNS:
            self._forget(self._patterns.popitem(last=False)[1][1].at)

    def _let_go(self) -> None:
        """Forget what nothing that is kept can be concerned by."""
        oldest = self.last - _KEPT
        while self._hard and next(iter(self._hard.values())) < oldest:
            self._forget(self._hard.popitem(last=False)[1])
        while self._soft and next(iter(self._soft.values())).at < oldest:
            self._forget(self._soft.popitem(last=False)[1].at)
        while self._patterns and next(iter(self._patterns.values()))[1].at < oldest:
            self._forget(self._patterns.popitem(last=False)[1][1].at)

    def _forget(self, at: int) -> None:
        self._floor = max(self._floor, at)


def _name(record: Record) -> _Name:
    return record.kind, record.value, record.soft


def _later(before: Record | None, record: Record) -> Record:
    return before if before is not None and before.at > record.at else record


def _at(item: tuple[tuple[str, bool], tuple["Glob", Record]]) -> int:
    return item[1][1].at


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern in which `*` stands for any run of characters and all else for itself."""

    head: str
    middle: tuple[str, ...]
    tail: str | None
    """What the text ends with; None where the pattern has no `*`, so that `head` is all of it."""

    @classmethod
    def of(cls, pattern: str) -> "Glob":
        head, *rest = re.split(r"\*+", pattern)
        return cls(head, tuple(rest[:-1]), rest[-1] if rest else None)

    def matches(self, text: str) -> bool:
        """In time that grows with the text, whatever the pattern: each piece is taken where it first fits."""
        if self.tail is None:
            return text == self.head
        if not text.startswith(self.head):
            return False
        place = len(self.head)
        for piece in self.middle:
            found = text.find(piece, place)
            if found < 0:
                return False
            place = found + len(piece)
        return len(text) - len(self.tail) >= place and text.endswith(self.tail)
