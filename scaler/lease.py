"""Takes part in the election of the one scaler that acts: reads and writes the Lease that `scaler.election` decides about.

A write is guarded by the object's version, so of two who try one succeeds. The fence (`holds`) has to be asked right before each
write to the cluster, and that write must not take longer than `duration_s - renew_deadline_s`: then no two scalers ever act in
the same moment, whatever is late, paused or cut off.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from scaler import election
from scaler.api import FIELD_MANAGER, Call, Outcome, Refused
from scaler.election import Action, Decision, Record, Terms, View
from scaler.objects import Kind, micro_time

if TYPE_CHECKING:
    from scaler.api import Api


def boot_clock() -> float:
    """Seconds that go on while the machine sleeps, unlike those of `time.monotonic`: others don't sleep along."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def identity(name: str) -> str:
    """Of this process: one that is started anew under the same name doesn't hold what the last one held."""
    return f"{name}_{uuid.uuid4()}"


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _Read(msgspec.Struct, frozen=True):
    metadata: msgspec.Raw
    spec: _Spec = msgspec.field(default_factory=_Spec)


class _Write(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"
    metadata: msgspec.Raw
    """As it was read: labels and owners are others' business. The version in it is what guards the write."""
    spec: _Spec


def _read(raw: bytes | msgspec.Raw) -> _Read:
    return msgspec.json.decode(raw, type=_Read)


LEASES = Kind("coordination.k8s.io", "v1", "leases", _read)


class Elector:
    """One scaler's part. Only one task at a time may call it, but for `holds`."""

    def __init__(
        self, api: Api, name: str, me: str, terms: Terms, now: Callable[[], float] = boot_clock
    ) -> None:
        """`me` is no other process' identity (see `identity`)."""
        self.now = now
        self.me = me
        self.view = View()
        self.why = ""
        """Why the last step brought nothing: one sentence."""
        self._api = api
        self._name = name
        self._terms = terms
        self._metadata = msgspec.Raw(b"{}")

    def holds(self, now: float) -> bool:
        """Whether we may write; `now` is a reading of `self.now`, taken right before that write."""
        return election.holds(self.view, now, self._terms)

    @property
    def holds_until(self) -> float:
        """By `self.now`. Whatever is decided must be done by then, unless it is renewed."""
        return self.view.holds_until(self._terms)

    @property
    def leader(self) -> str:
        """Who held it when we looked last. Empty: nobody."""
        return self.view.record.holder if self.view.record is not None else ""

    async def run(self) -> None:
        """Takes part until it is cancelled; `release` comes after that. Raises nothing: whatever fails is tried again."""
        clocks = self._api.clocks
        while True:
            began = self.now()
            decision = await self.step()
            at = election.next_at(decision, began, clocks.chance(), self._terms)
            await clocks.pause(max(0.0, at - self.now()))

    async def step(self) -> Decision:
        """Looks, unless we hold it and know how it is; then does what is to be done."""
        self.why = ""
        try:
            await self._look()
            decision = election.decide(self.view, self.me, self.now(), self._terms)
            if decision.action in (Action.ACQUIRE, Action.RENEW):
                await self._take()
        except Refused as refused:
            self.view = election.unsure(self.view)
            self.why = refused.reason
            decision = Decision(action=Action.WAIT, reason=refused.reason)
        return decision

    async def release(self) -> None:
        """Lets the next one have it at once. Whoever calls this has stopped to act; it doesn't hold from here on.
        Where it fails, the others wait until it runs out.
        """
        self.view = election.resigned(self.view)
        try:
            await self._look()
            if (
                election.decide(self.view, self.me, self.now(), self._terms, is_leaving=True).action
                is not Action.RELEASE
            ):
                return
            before = self.view.record
            transitions = before.transitions if before is not None else 0
            wall = micro_time(self._api.clocks.wall())
            # As client-go leaves it: a duration has to be positive.
            await self._put(
                Record(holder="", duration_s=1, transitions=transitions, acquired=wall, renewed=wall)
            )
        except Refused as refused:
            self.why = refused.reason
        finally:
            self.view = View()

    async def _look(self) -> None:
        view = self.view
        if view.is_current and view.record is not None and view.record.holder == self.me:
            return
        try:
            said = await self._asked(
                Call(verb="get", kind=LEASES, name=self._name, timeout_s=self._terms.call_timeout_s)
            )
        except Refused as refused:
            if refused.outcome is not Outcome.GONE:
                raise
            self.view = election.seen(view, None, self.now(), self.me, self._terms)
            return
        self._metadata = said.metadata
        self.view = election.seen(view, _record(said), self.now(), self.me, self._terms)

    async def _take(self) -> None:
        """Raises Refused: somebody else was first, or nobody knows."""
        record = election.next_record(self.view, self.me, micro_time(self._api.clocks.wall()), self._terms)
        before = self.view
        # Whoever is cancelled or fails from here on doesn't know whether it was written.
        self.view = election.unsure(before)
        sent_at = self.now()
        if before.record is None:
            record = replace(record, version=await self._create(record))
            self.view = election.created(before, record, sent_at, self.now(), self._terms)
        else:
            record = replace(record, version=await self._put(record))
            self.view = election.updated(before, record, sent_at, self.now())

    async def _put(self, record: Record) -> str:
        return await self._send("update", self._metadata, record)

    async def _create(self, record: Record) -> str:
        metadata = {"name": self._name, "namespace": self._api.namespace}
        return await self._send("create", msgspec.Raw(msgspec.json.encode(metadata)), record)

    async def _send(self, verb: str, metadata: msgspec.Raw, record: Record) -> str:
        spec = _Spec(
            holder_identity=record.holder,
            lease_duration_seconds=int(record.duration_s),
            acquire_time=record.acquired,
            renew_time=record.renewed,
            lease_transitions=record.transitions,
        )
        call = Call(
            verb=verb,
            kind=LEASES,
            name=self._name,
            query={"fieldManager": FIELD_MANAGER},
            body=msgspec.json.encode(_Write(metadata=metadata, spec=spec)),
            timeout_s=self._terms.call_timeout_s,
        )
        said = await self._asked(call)
        self._metadata = said.metadata
        return msgspec.json.decode(said.metadata, type=_Version).resource_version

    async def _asked(self, call: Call) -> _Read:
        body = await self._api.ask(call)
        try:
            said = _read(body)
            if msgspec.json.decode(said.metadata, type=_Version).resource_version:
                return said
            reason = "no version"
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            reason = str(error)
        raise Refused(
            Outcome.UNREACHABLE, f"{call.verb} {call.what}: not an answer of an API server ({reason})"
        )


def _record(said: _Read) -> Record:
    spec = said.spec
    return Record(
        holder=spec.holder_identity or "",
        duration_s=float(spec.lease_duration_seconds or 0),
        transitions=spec.lease_transitions or 0,
        acquired=spec.acquire_time or "",
        renewed=spec.renew_time or "",
        version=msgspec.json.decode(said.metadata, type=_Version).resource_version,
    )
