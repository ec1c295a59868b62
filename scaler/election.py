"""Whose turn it is to scale, among several scalers: decided from what was seen of one Lease, and when.

Clocks of other machines are never trusted. What counts is for how long *we* have not seen the Lease change, by our own clock: a
holder promises to renew it in less than its duration. The holder in turn stops to write well before that: a renewal counts
from when it was *sent*, and for the renew deadline, which is shorter than the duration. So between the last moment of one
holder and the first of the next there are at least `duration_s - renew_deadline_s` seconds, however late answers come.
Source: client-go's tools/leaderelection, of which this keeps the terms and not the wall clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum

# Of the retry period: those who wait shall not all ask at the same moment. They ask sooner, never later, as each of these
# seconds is one without a leader.
_JITTER = 1.2
# A promise that nobody means; a Lease of another kind, say.
_LONGEST_DURATION_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """In seconds. The defaults are those of controller-runtime."""

    duration_s: int = 15
    """A holder that hasn't been seen to renew for so long has lost it."""
    renew_deadline_s: float = 10.0
    """A holder that hasn't renewed for so long doesn't write any more."""
    retry_s: float = 2.0
    """Between two renewals, or two looks."""

    def __post_init__(self) -> None:
        if not 0 < self.renew_deadline_s < self.duration_s:
            raise ValueError(
                f"renew deadline ({self.renew_deadline_s} s) must be less than the duration ({self.duration_s} s)"
            )
        if not 0 < self.retry_s * _JITTER < self.renew_deadline_s:
            raise ValueError(
                f"retry period ({self.retry_s} s) must be less than the renew deadline ({self.renew_deadline_s} s), "
                f"{_JITTER} times over"
            )

    @property
    def call_timeout_s(self) -> float:
        """A call takes less than the time until the next: the next may still save the day."""
        return self.retry_s * 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a Lease says. Its times are texts to us: they differ, or they don't."""

    holder: str
    """Empty: it was released."""
    duration_s: float = 0.0
    """0: it doesn't say."""
    transitions: int = 0
    acquired: str = ""
    renewed: str = ""
    version: str = ""
    """The object's. Anything that happens to the Lease is a sign of life: that errs on the safe side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one scaler knows. Instants are seconds of its own clock, which doesn't jump and goes on while the machine sleeps."""

    record: Record | None = None
    """As it was seen last. None: there was none."""
    since: float = -math.inf
    """When it was first seen like this: no earlier than it was written."""
    is_current: bool = False
    """Whether we know of no reason to look again before we write."""
    renewed_at: float = -math.inf
    """When our last renewal that succeeded was sent: no later than it was written."""
    acts_from: float = -math.inf
    """No renewal that is sent sooner lets us write: see `created`."""

    def holds_until(self, terms: Terms) -> float:
        """We may write before that."""
        return self.renewed_at + terms.renew_deadline_s


class Action(Enum):
    """What to do about the Lease."""

    ACQUIRE = "acquire"
    RENEW = "renew"
    WAIT = "wait"
    RELEASE = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """And why."""

    action: Action
    reason: str
    until: float = math.inf
    """WAIT: when the holder will have lost it if it isn't seen to renew until then."""


def seen(view: View, record: Record | None, now: float, me: str, terms: Terms) -> View:
    """What is known after a look that ended `now`. None: there is no Lease."""
    before = view.record
    if record is None:
        # Somebody deleted it, or it is the first day. What we hold we hold, until it is over.
        return View(is_current=True, since=now, renewed_at=view.renewed_at)
    since = view.since if record == before else now
    if record.holder != me:
        return View(record=record, since=since, is_current=True)
    if before is not None and before.holder == me:
        return replace(view, record=record, since=since, is_current=True)
    # We wrote it and were not told. It may have been a new one, and nobody knows when it was written.
    if now < view.holds_until(terms):
        return View(record=record, since=since, is_current=True, renewed_at=view.renewed_at)
    return View(record=record, since=since, is_current=True, acts_from=now + terms.duration_s)


def created(view: View, record: Record, sent_at: float, now: float, terms: Terms) -> View:
    """What is known after we have created it. Somebody may have deleted one that another holds, who doesn't know yet: until
    that one's time is over we hold it without acting. This is also the price of the very first one.
    """
    if now < view.holds_until(terms):
        # Ours all the time, until after it was written: there is nobody else.
        return View(record=record, since=now, is_current=True, renewed_at=sent_at)
    return View(record=record, since=now, is_current=True, acts_from=now + terms.duration_s)


def updated(view: View, record: Record, sent_at: float, now: float) -> View:
    """What is known after we have renewed it, or taken it over."""
    renewed_at = sent_at if sent_at >= view.acts_from else -math.inf
    return View(record=record, since=now, is_current=True, renewed_at=renewed_at, acts_from=view.acts_from)


def unsure(view: View) -> View:
    """What is known after a write that failed, or perhaps didn't: we have to look. What we hold, we hold."""
    return replace(view, is_current=False)


def resigned(view: View) -> View:
    """What is known as soon as we want to release it: that we don't write any more."""
    return replace(view, renewed_at=-math.inf)


def decide(view: View, me: str, now: float, terms: Terms, *, is_leaving: bool = False) -> Decision:
    """What to do about a Lease that was just looked at."""
    record = view.record
    is_mine = record is not None and record.holder == me
    if is_leaving:
        if not is_mine:
            return Decision(action=Action.WAIT, reason="it is not ours, and we leave")
        if now < view.acts_from:
            # Whoever follows a release acts at once.
            return Decision(
                action=Action.WAIT, reason="it is ours, but somebody else may act still: it has to run out"
            )
        return Decision(action=Action.RELEASE, reason="it is ours, and we leave")
    if record is None:
        return Decision(action=Action.ACQUIRE, reason="there is none")
    if not record.holder:
        return Decision(action=Action.ACQUIRE, reason="nobody holds it")
    if is_mine:
        return Decision(action=Action.RENEW, reason="it is ours")
    lasts_s = min(record.duration_s or terms.duration_s, _LONGEST_DURATION_S)
    until = view.since + lasts_s
    if now < until:
        return Decision(action=Action.WAIT, reason=f"{record.holder} holds it", until=until)
    return Decision(action=Action.ACQUIRE, reason=f"{record.holder} has not renewed it for {lasts_s:g} s")


def next_record(view: View, me: str, wall: str, terms: Terms) -> Record:
    """What to write to acquire or renew it. `wall`: the time, for people who look at it."""
    before = view.record
    if before is not None and before.holder == me:
        return Record(
            holder=me,
            duration_s=terms.duration_s,
            transitions=before.transitions,
            acquired=before.acquired or wall,
            renewed=wall,
        )
    transitions = before.transitions + 1 if before is not None else 0
    return Record(
        holder=me, duration_s=terms.duration_s, transitions=transitions, acquired=wall, renewed=wall
    )


def holds(view: View, now: float, terms: Terms) -> bool:
    """The fence: whether we may write, right now. To be asked right before each write, with the clock read for it."""
    return now < view.holds_until(terms)


def next_at(decision: Decision, began: float, chance: float, terms: Terms) -> float:
    """When to look or renew next, after a step that began then. `chance` is of [0, 1)."""
    least = terms.retry_s / _JITTER
    at = began + least + chance * (terms.retry_s - least)
    # A holder that died is not waited for any longer than it must be.
    return min(at, max(decision.until, began)) if decision.action is Action.WAIT else at
