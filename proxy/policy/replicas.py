"""Who else is alive, and how far each has read the purge log.

Each replica writes a line into a table that all share, about once a second, and looks at the others' lines. There is no
common clock: a line that has not changed for a while, by the clock of whoever looks, is that of a replica that is silent. It
may be dead, asleep, or cut off from Redis; then it may serve what it has for `max_age` more.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from proxy.policy.purges import record_id
from proxy.policy.storable import MAX_KEEP_S

# Three lines that did not come.
SILENT_S = 3.0
# So long a silent one is reported; after that it's taken to be dead, and its line is removed.
_GONE_S = 60.0
# Between two looks there is a second. What could not be looked at was not silent.
_BLIND_S = 2.0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica says of itself."""

    applied: str
    """Id of the last record that it has read."""
    max_age_s: float
    """So long it serves what is in its memory while it can't read the log."""
    beat: int
    """Another one each time, so that the line changes."""
    has_left: bool = False
    """It serves nobody any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A replica that has not said that it applied a purge."""

    replica: str
    for_s: float
    """It may serve what it had for so long yet, at most."""
    is_silent: bool
    """So that there is no use in waiting for it."""


@dataclass(slots=True)
class _Other:
    line: bytes
    said: Line
    changed: float
    """When its line did, in the seconds of our clock that we looked."""


# Not understood: a newer version's. Whatever it is, it may serve what was purged.
_UNKNOWN = Line(applied="0-0", max_age_s=_GONE_S, beat=0)


@dataclass(slots=True)
class Replicas:
    """What one replica knows of the others. `now` is monotonic seconds."""

    own: str
    _others: dict[str, _Other] = field(default_factory=dict)
    _looked: float = 0.0

    def look(self, table: Mapping[str, bytes], now: float) -> None:
        """Take in the table as it is now."""
        blind_s = now - self._looked if now - self._looked > _BLIND_S else 0.0
        self._looked = now
        for name, line in table.items():
            if name == self.own:
                continue
            other = self._others.get(name)
            if other is None or other.line != line:
                self._others[name] = _Other(line, _read(line), now)
            else:
                other.changed += blind_s
        for name in self._others.keys() - table.keys():
            # A table that was lost is no sign that anybody is gone: those who live will write again.
            self._others[name].changed += blind_s
            if self._is_gone(self._others[name], now):
                del self._others[name]

    def missing(self, at: int, holds: Callable[[str], bool], now: float) -> list[Missing]:
        """Those who have not applied the record with this number; `holds` tells whether the log has a record.

        An id that the log has not: it has been lost, and what that replica has read is not what stands there now.
        """
        missing = []
        for name, other in self._others.items():
            said = other.said
            if said.has_left or (record_id(said.applied) >= at and holds(said.applied)):
                continue
            left_s = SILENT_S - (now - other.changed)
            for_s = max(0.0, left_s) + said.max_age_s
            missing.append(Missing(replica=name, for_s=for_s, is_silent=left_s <= 0))
        return missing

    def gone(self, now: float) -> list[str]:
        """Whose lines may be removed."""
        return [name for name, other in self._others.items() if self._is_gone(other, now)]

    def alive(self, now: float) -> int:
        """How many there are, this one among them."""
        return 1 + sum(
            not other.said.has_left and now - other.changed < SILENT_S for other in self._others.values()
        )

    def present(self) -> int:
        """How many may serve, this one among them, the silent ones too."""
        return 1 + sum(not other.said.has_left for other in self._others.values())

    @staticmethod
    def _is_gone(other: _Other, now: float) -> bool:
        return now - other.changed >= max(_GONE_S, other.said.max_age_s)


_decoder = msgspec.json.Decoder(Line)


def _read(line: bytes) -> Line:
    try:
        said = _decoder.decode(line)
        record_id(said.applied)
    except (msgspec.DecodeError, ValueError):
        return _UNKNOWN
    # Nobody keeps anything for longer, whatever a line says.
    return msgspec.structs.replace(said, max_age_s=min(said.max_age_s, MAX_KEEP_S))
