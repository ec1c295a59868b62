"""What the scaler asks Kubernetes: one target, the pods behind it, and who else scales it.

A read that fails raises `Refused`, a write says what came of it (`Written`): what next is the caller's to decide, on fresh
figures.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec

from scaler.api import (
    FIELD_MANAGER,
    JSON_PATCH,
    Api,
    Call,
    Outcome,
    Refused,
    Written,
    refusal,
    shortened,
    status_of,
)
from scaler.objects import (
    BUDGETS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    HPAS,
    METRICS,
    PODS,
    SCALED_OBJECTS,
    SCALES,
    Budget,
    ConfigMap,
    Deployment,
    Kind,
    Metadata,
    Page,
    Pod,
    PodUsage,
    Rival,
    Scale,
    TargetRef,
    WatchLine,
    micro_time,
)

T = TypeVar("T")
# 500 pods of a full list are 5 MiB at most; a page has no more.
_PAGE = 500
# A watch ends, and everything is listed again: what was missed, however it was missed, is old by so much.
RESYNC_S = 300.0
# Bookmarks come about once a minute; a connection on which nothing comes for longer may be dead.
_SILENCE_S = 90.0
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 30.0
# A watch that ends sooner, without having said anything, is broken.
_SHORTEST_WATCH_S = 1.0
# As client-go: the same again within so long is counted, not told anew.
_SERIES_S = 360.0
_MAX_SERIES = 64
# events.k8s.io/v1 refuses longer notes.
_LONGEST_NOTE = 1024

_MERGE_PATCH = "application/merge-patch+json"


class Change(Enum):
    """What a watch tells."""

    LISTED = "listed"
    """These are all there are: whatever else was known is gone."""
    CHANGED = "changed"
    """Is new, or not as it was."""
    REMOVED = "removed"
    ALIVE = "alive"
    """Nothing changed until now: what is known isn't old."""
    LOST = "lost"
    """From now on what is known grows old, until the next LISTED, CHANGED, REMOVED or ALIVE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Generic[T]):
    """One thing that a watch tells."""

    change: Change
    objects: tuple[T, ...] = ()
    reason: str = ""
    """Why it was lost."""


_RELIST = (Outcome.EXPIRED, Outcome.GONE, Outcome.REFUSED)
_RELIST_AFTER = 4


@dataclass(slots=True)
class _Position:
    """Where a watch is."""

    version: str = ""
    """Empty: nothing is known, so list first."""
    listed_at: float = 0.0
    failures: int = 0
    """Since something came last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an Event tells about the target. Reason and action are words in CamelCase."""

    reason: str
    action: str
    note: str
    target_uid: str = ""
    is_warning: bool = False


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    at: float


class Cluster:
    """What the scaler asks and tells about one Deployment."""

    def __init__(self, api: Api, deployment: str, instance: str) -> None:
        """`instance`: which scaler tells (its pod's name)."""
        self.api = api
        self.name = deployment
        self._instance = instance[:128]
        self._told: dict[Told, _Series] = {}
        self._last_event = 0

    async def scale(self) -> Scale:
        """Raises Refused, as every question does."""
        return await self._get(SCALES, self.name)

    async def set_replicas(self, expected: int, wanted: int, *, dry_run: bool = False) -> Written:
        """Sets the replicas if they still are as expected. CONFLICT: they aren't, so read and decide again.

        Whoever else changes the Deployment isn't in the way: only the one number is compared. After UNREACHABLE or BUSY it may
        have been done.
        """
        if expected <= 0 or wanted <= 0:
            # 0 replicas are a person's way to switch it off; and the field isn't there to be tested.
            return Written(
                outcome=Outcome.REFUSED, reason=f"from {expected} to {wanted} replicas: 0 means hands off"
            )
        patch = [
            {"op": "test", "path": "/spec/replicas", "value": expected},
            {"op": "replace", "path": "/spec/replicas", "value": wanted},
        ]
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return await self.api.write(
            Call(
                verb="patch",
                kind=SCALES,
                name=self.name,
                query=query,
                body=msgspec.json.encode(patch),
                content_type=JSON_PATCH,
            )
        )

    async def deployment(self) -> Deployment:
        """The target."""
        return await self._get(DEPLOYMENTS, self.name)

    async def pods(self, selector: str) -> tuple[Pod, ...]:
        """Those with such labels, also those that are done or being deleted."""
        return (await self._list(PODS, {"labelSelector": selector}))[0]

    async def pod_usages(self, selector: str) -> tuple[PodUsage, ...]:
        """What the metrics server knows. GONE, BUSY: there is none, or it is away."""
        return (await self._list(METRICS, {"labelSelector": selector}))[0]

    async def hpas(self) -> tuple[Rival, ...]:
        """HorizontalPodAutoscalers of the same target."""
        return self._same_target((await self._list(HPAS))[0])

    async def scaled_objects(self) -> tuple[Rival, ...]:
        """KEDA's of the same target: none where KEDA isn't installed."""
        try:
            return self._same_target((await self._list(SCALED_OBJECTS))[0])
        except Refused as refused:
            if refused.outcome is Outcome.GONE:
                return ()
            raise

    async def pdbs(self) -> tuple[Budget, ...]:
        """All of the namespace."""
        return (await self._list(BUDGETS))[0]

    async def config_map(self, name: str) -> ConfigMap | None:
        """None if there is none."""
        try:
            return await self._get(CONFIG_MAPS, name)
        except Refused as refused:
            if refused.outcome is Outcome.GONE:
                return None
            raise

    async def annotate_pod(self, name: str, annotations: Mapping[str, str]) -> Written:
        """Other annotations stay as they are."""
        return await self._merge(PODS, name, {"metadata": {"annotations": dict(annotations)}})

    async def event(self, told: Told) -> Written:
        """Tells whoever looks at the target. The same again within some minutes is counted."""
        now = self.api.clocks.wall()
        series = self._told.get(told)
        if series is not None and now - series.at <= _SERIES_S:
            series.count, series.at = series.count + 1, now
            counted = {"series": {"count": series.count, "lastObservedTime": micro_time(now)}}
            written = await self._merge(EVENTS, series.name, counted)
            if written.outcome is not Outcome.GONE:
                return written
        return await self._new_event(told, now)

    async def watch(
        self, kind: Kind[T], *, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[Seen[T], None]:
        """What there is and how it changes, for ever. It raises nothing: whatever goes wrong is told, and tried again later.

        Close it (`contextlib.aclosing`) when it is done with.
        """
        where = {name: text for name, text in (("labelSelector", labels), ("fieldSelector", fields)) if text}
        position, clocks = _Position(), self.api.clocks
        while True:
            try:
                if not position.version or clocks.now() - position.listed_at >= RESYNC_S:
                    objects, position.version = await self._list(kind, where)
                    position.listed_at = clocks.now()
                    yield Seen(change=Change.LISTED, objects=objects)
                async with aclosing(self._followed(kind, where, position)) as followed:
                    async for seen in followed:
                        position.failures = 0
                        yield seen
            except Refused as refused:
                position.failures += 1
                # One object that can't be read would come again and again from where we are: a list is a new beginning.
                if refused.outcome in _RELIST or position.failures % _RELIST_AFTER == 0:
                    position.version = ""
                if refused.outcome is not Outcome.EXPIRED:
                    yield Seen(change=Change.LOST, reason=refused.reason)
                await clocks.pause(
                    max(refused.retry_after_s or 0.0, _backoff_s(position.failures, clocks.chance()))
                )

    async def _followed(
        self, kind: Kind[T], where: Mapping[str, str], position: _Position
    ) -> AsyncGenerator[Seen[T], None]:
        """One watch, until the server ends it in time. Raises Refused."""
        began = self.api.clocks.now()
        left_s = max(1, int(position.listed_at + RESYNC_S - began))
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": position.version,
            "timeoutSeconds": str(left_s),
        }
        call = Call(
            verb="watch",
            kind=kind,
            name=_name_in(where),
            query={**where, **query},
            # The server ends it; this is for one that doesn't.
            timeout_s=left_s + 10,
            silence_s=_SILENCE_S,
        )
        is_silent = True
        async with aclosing(self.api.lines(call)) as lines:
            async for line in lines:
                if line.strip():
                    seen, position.version = _seen(line, call, self.api.namespace)
                    is_silent = False
                    yield seen
        if is_silent and self.api.clocks.now() - began < min(_SHORTEST_WATCH_S, left_s):
            raise Refused(Outcome.UNREACHABLE, f"watch {call.what}: it ended at once")

    async def _get(self, kind: Kind[T], name: str) -> T:
        call = Call(verb="get", kind=kind, name=name)
        return _understood(kind, await self.api.ask(call), call)

    async def _list(self, kind: Kind[T], where: Mapping[str, str] | None = None) -> tuple[tuple[T, ...], str]:
        """All pages, and the version that they are of."""
        objects: list[T] = []
        more = ""
        while True:
            query = {**(where or {}), "limit": str(_PAGE)} | ({"continue": more} if more else {})
            call = Call(verb="list", kind=kind, name=_name_in(where or {}), query=query)
            page = _understood(_PAGES, await self.api.ask(call), call)
            objects += (_understood(kind, item, call) for item in page.items or ())
            if not page.metadata.more:
                return tuple(objects), page.metadata.resource_version
            if page.metadata.more == more:
                raise Refused(Outcome.UNREACHABLE, f"list {call.what}: the same page again")
            more = page.metadata.more

    async def _merge(self, kind: Kind[Any], name: str, patch: object) -> Written:
        query = {"fieldManager": FIELD_MANAGER}
        body = msgspec.json.encode(patch)
        return await self.api.write(
            Call(verb="patch", kind=kind, name=name, query=query, body=body, content_type=_MERGE_PATCH)
        )

    async def _new_event(self, told: Told, now: float) -> Written:
        namespace = self.api.namespace
        # As client-go names them; no two have the same name.
        self._last_event = max(int(now * 1e9), self._last_event + 1)
        name = f"{self.name}.{self._last_event:x}"
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": micro_time(now),
            "reportingController": FIELD_MANAGER,
            "reportingInstance": self._instance,
            "action": told.action,
            "reason": told.reason,
            "type": "Warning" if told.is_warning else "Normal",
            "note": told.note.encode()[:_LONGEST_NOTE].decode(errors="ignore"),
            "regarding": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": self.name,
                "namespace": namespace,
                "uid": told.target_uid,
            },
        }
        written = await self.api.write(Call(verb="create", kind=EVENTS, body=msgspec.json.encode(event)))
        self._told.pop(told, None)
        if written.outcome is Outcome.DONE:
            if len(self._told) >= _MAX_SERIES:
                del self._told[next(iter(self._told))]
            self._told[told] = _Series(name, 1, now)
        return written

    def _same_target(self, found: tuple[tuple[TargetRef, Rival], ...]) -> tuple[Rival, ...]:
        return tuple(
            rival
            for ref, rival in found
            if ref.name == self.name
            and ref.kind == "Deployment"
            and ref.api_version.partition("/")[0] == "apps"
        )


def _seen(line: bytes, call: Call, namespace: str) -> tuple[Seen[Any], str]:
    """A watch's line, and the version that it is of. Raises Refused."""
    said = _understood(_WATCH_LINES, line, call)
    if said.type == "ERROR":
        status = status_of(said.object)
        raise refusal(status.code, status, call, namespace)
    version = _understood(_OBJECTS, said.object, call).metadata.resource_version
    match said.type:
        case "BOOKMARK":
            return Seen(change=Change.ALIVE), version
        case "ADDED" | "MODIFIED":
            return Seen(change=Change.CHANGED, objects=(_understood(call.kind, said.object, call),)), version
        case "DELETED":
            return Seen(change=Change.REMOVED, objects=(_understood(call.kind, said.object, call),)), version
        case _:
            raise Refused(Outcome.UNREACHABLE, f"watch {call.what}: a line of type {shortened(said.type)!r}")


def _understood(kind: Kind[T], raw: bytes | msgspec.Raw, call: Call) -> T:
    """Raises Refused where that isn't what was asked for: nothing is made up in its place."""
    try:
        return kind.read(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:
        reason = f"{call.verb} {call.what}: not an answer of an API server ({shortened(str(error))})"
        raise Refused(Outcome.UNREACHABLE, reason) from error


def _name_in(where: Mapping[str, str]) -> str:
    """A list of one object, by its name, is allowed by a rule that has this name."""
    return where.get("fieldSelector", "").removeprefix("metadata.name=")


def _backoff_s(failures: int, chance: float) -> float:
    """Half of it by chance: those who lost the same server shall not come back together."""
    longest = min(_FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 16), _LONGEST_BACKOFF_S)
    return longest * (0.5 + chance / 2)


def _page(raw: bytes | msgspec.Raw) -> Page:
    return msgspec.json.decode(raw, type=Page)


def _watch_line(raw: bytes | msgspec.Raw) -> WatchLine:
    return msgspec.json.decode(raw, type=WatchLine)


def _object(raw: bytes | msgspec.Raw) -> Metadata:
    return msgspec.json.decode(raw, type=Metadata)


_PAGES = Kind("", "", "", _page)
_WATCH_LINES = Kind("", "", "", _watch_line)
_OBJECTS = Kind("", "", "", _object)
