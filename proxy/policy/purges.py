"""What has been purged: an append-only log, and whether an entry is still good after all of it.

A purge is one record, however many entries it concerns. A fill notes the last record seen *before* it asked the API and
keeps it in the entry as `born`; the entry is good only while no later record matches it. So an answer that was under
way when its purge came can't bring the old state back, on any replica. `epoch` grows with every record: an entry that
was found good at this epoch need not be looked at again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


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
    """One purge. `at` is its id as a number: milliseconds since 1970, then a sequence number (see `record_id`)."""

    at: int
    kind: Kind
    value: str
    soft: bool


# Sequence numbers within one millisecond; Redis' ids are `milliseconds-sequence`.
_SEQUENCE_BITS = 20


def record_id(text: str) -> int:
    """A Redis stream id such as `1700000000000-3` as one number that orders alike."""
    milliseconds, _, sequence = text.partition("-")
    return (int(milliseconds) << _SEQUENCE_BITS) + min(int(sequence or 0), (1 << _SEQUENCE_BITS) - 1)


def stream_id(at: int) -> str:
    """The reverse of `record_id`."""
    return f"{at >> _SEQUENCE_BITS}-{at & ((1 << _SEQUENCE_BITS) - 1)}"


def instant(at: int) -> float:
    """When a record was made, in Unix seconds."""
    return (at >> _SEQUENCE_BITS) / 1000


def next_id(last: int, now: float) -> int:
    """The id of a record made here, where no Redis gives one: later than `last` even if the clock stepped back."""
    return max(last + 1, int(now * 1000) << _SEQUENCE_BITS)


def to_fields(kind: Kind, value: str, *, soft: bool) -> dict[bytes, bytes]:
    """A purge as the fields of a stream record."""
    return {
        b"k": kind.value.encode(),
        b"v": value.encode("utf-8", "surrogateescape"),
        b"s": b"1" if soft else b"0",
    }


def from_fields(at: int, fields: Mapping[bytes, bytes]) -> Record | None:
    """A stream record's purge; None if it isn't one of ours (a newer version's, or damaged)."""
    try:
        kind = Kind(fields[b"k"].decode())
        return Record(
            at=at,
            kind=kind,
            value=fields[b"v"].decode("utf-8", "surrogateescape"),
            soft=fields.get(b"s") == b"1",
        )
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Concerned:
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


class Purges:
    """All purges that may still concern an entry. Bounded: what it forgets it takes to mean everything."""

    def __init__(self) -> None:
        self.epoch = 0
        self.last = 0
        """Id of the last record applied."""
        self._floor = 0
        self._hard: dict[tuple[Kind, str], int] = {}
        self._soft: dict[tuple[Kind, str], int] = {}
        self._patterns: dict[tuple[str, bool], tuple[Glob, int]] = {}

    def apply(self, record: Record) -> None:
        """Take in a record. Repeating one changes nothing; they come in the order of their ids."""
        if record.kind is Kind.PATTERN:
            self._apply_pattern(record)
        else:
            self._apply_name(record)
        self.last = max(self.last, record.at)
        self.epoch += 1

    def forget_before(self, at: int) -> None:
        """Everything born before is taken for purged: the log has a gap there."""
        self._floor = max(self._floor, at)
        self.last = max(self.last, at)
        self.epoch += 1

    def standing(self, entry: Concerned) -> Standing:
        """Whether an entry is still good after everything that has been purged."""
        if entry.born < self._floor:
            return PURGED
        names = [(Kind.ROUTE, entry.route), (Kind.URL, entry.url), *((Kind.TAG, tag) for tag in entry.tags)]
        hard, soft = self._hard, self._soft
        soft_at = 0
        for name in names:
            if hard.get(name, -1) > entry.born:
                return PURGED
            soft_at = max(soft_at, soft.get(name, -1))
        for (_, is_soft), (pattern, at) in self._patterns.items():
            if at > entry.born and pattern.matches(entry.url):
                if not is_soft:
                    return PURGED
                soft_at = max(soft_at, at)
        return Standing(soft_at=instant(soft_at)) if soft_at > entry.born else GOOD

    def _apply_name(self, record: Record) -> None:
        names = self._soft if record.soft else self._hard
        name = (record.kind, record.value)
        # Taken out and put in again, so that the dict stays in the order of the ids and its first is its oldest.
        at = max(names.pop(name, 0), record.at)
        names[name] = at
        if len(names) > MAX_NAMES:
            self._floor = max(self._floor, names.pop(next(iter(names))))

    def _apply_pattern(self, record: Record) -> None:
        key = (record.value, record.soft)
        _, before = self._patterns.pop(key, (None, 0))
        self._patterns[key] = (Glob.of(record.value), max(before, record.at))
        if len(self._patterns) > MAX_PATTERNS:
            _, oldest = self._patterns.pop(next(iter(self._patterns)))
            self._floor = max(self._floor, oldest)


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
