"""Those who use the fleet in a soak: readers whose every answer is judged, writers, and operators who purge."""

import asyncio
import json
import random
from dataclasses import dataclass
from typing import Any

from tests.fleet.clients import FAILURES, Connections
from tests.fleet.replicas import Fleet, Replica
from tests.flow.client import Response, fetch
from tests.soak.faults import Faults
from tests.soak.figures import Counts
from tests.soak.oracle import Change, Oracle, Verdict
from tests.soak.world import RESOURCES, SOFT_S, Api, Ask, Resource, ask_for, version_in

# One request in so many writes.
_WRITES = 33


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything that clients deal with, and where what they see is counted."""

    fleet: Fleet
    api: Api
    oracle: Oracle
    faults: Faults
    counts: Counts


def _now() -> float:
    return asyncio.get_running_loop().time()


class Readers:
    """Ask for something, some replica, now and then to change it."""

    def __init__(self, stage: Stage, chance: random.Random) -> None:
        self._stage = stage
        self._chance = chance
        self._connections = Connections()

    async def one(self) -> None:
        """One request. What is popular is asked for more often."""
        index = min(int(self._chance.paretovariate(0.4)) - 1, 10**6) * 7 % len(RESOURCES)
        resource = RESOURCES[index]
        replica = self._chance.choice(self._stage.fleet.serving)
        if resource.family != "search" and self._chance.randrange(_WRITES) == 0:
            await self._write(replica, resource)
        else:
            await self._read(replica, ask_for(resource, self._chance))

    async def _read(self, replica: Replica, ask: Ask) -> None:
        counts, started = self._stage.counts, _now()
        counts.requests += 1
        try:
            response = await self._connections.ask(replica, ask.target, *ask.lines)
        except FAILURES as error:
            self._missed(replica, f"{type(error).__name__} for {ask.target}", started)
            return
        counts.by_cache[_word(response)] += 1
        if self._stage.faults.calm_since(started):
            counts.seconds.append(_now() - started)
        if response.status != 200:
            self._missed(replica, f"{response.status} for {ask.target}: {response.cache}", started)
            return
        self._judge(replica, ask, response, started)

    def _judge(self, replica: Replica, ask: Ask, response: Response, started: float) -> None:
        stage, version = self._stage, version_in(response, ask)
        asked = f"replica {replica.place}: {ask.target} {ask.who}{ask.language}"
        if version is None:
            stage.counts.found_wrong(f"{asked}: another's body: {response.body[:80]!r} ({response.cache})")
            return
        name = ask.resource.name
        verdict = stage.oracle.verdict(name, replica.place, version=version, started=started)
        if verdict is Verdict.WRONG or version > stage.api.versions[name]:
            now = f"version {version}, now {stage.api.versions[name]}"
            lately = stage.oracle.lately(name, started)
            stage.counts.found_wrong(
                f"at {stage.faults.since(started)}: {asked}: {now} ({response.cache}); {lately}"
            )
        if verdict is Verdict.LATE:
            stage.counts.late += 1

    def _missed(self, replica: Replica, what: str, started: float) -> None:
        """A request without the answer that it should have had."""
        counts = self._stage.counts
        if any(started <= died for died in replica.died_at):
            counts.lost_with_replica += 1
        elif self._stage.faults.api_failed_since(started) and what.startswith("50"):
            counts.failed_with_api += 1
        else:
            counts.found_failed(f"at {self._stage.faults.since(started)}: replica {replica.place}: {what}")

    async def _write(self, replica: Replica, resource: Resource) -> None:
        begun = _now()
        self._stage.counts.requests += 1
        try:
            # On a connection of its own: a write that fails is not sent again by itself.
            response = await fetch(replica.port, resource.name, method="POST", body=b"x")
        except FAILURES as error:
            self._missed(replica, f"{type(error).__name__} for POST {resource.name}", begun)
            return
        if response.status != 201:
            self._missed(replica, f"{response.status} for POST {resource.name}", begun)
            return
        self._stage.counts.writes += 1
        change = Change(
            version=int(response.body),
            begun=begun,
            acked=_now(),
            by=replica.place,
            heard=frozenset({replica.place}),
        )
        self._stage.oracle.changed(resource.name, change)

    def close(self) -> None:
        self._connections.close()


def _word(response: Response) -> str:
    """How it was answered, without the numbers."""
    parts = response.cache.split("; ")
    return " ".join(part for part in parts if not part.startswith(("ttl=", "fwd-status=")))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Purge:
    """What is purged, and how."""

    field: str
    value: str
    resources: tuple[Resource, ...]
    soft: bool
    wait: bool


class Operators:
    """Change things at the API and purge them: by tag, URL, route and pattern, hard and soft, waited for and not."""

    def __init__(self, stage: Stage, chance: random.Random) -> None:
        self._stage = stage
        self._chance = chance

    async def one(self) -> None:
        stage, purge = self._stage, self._chosen()
        for resource in self._chance.sample(purge.resources, min(3, len(purge.resources))):
            stage.api.bump(resource)
        versions = {resource.name: stage.api.versions[resource.name] for resource in purge.resources}
        replica, begun = self._chance.choice(stage.fleet.serving), _now()
        alive = stage.faults.running()
        body = json.dumps({purge.field: [purge.value], "soft": purge.soft, "wait": purge.wait}).encode()
        try:
            answer = await replica.proxy.asked("/api/purge", method="POST", body=body)
        except FAILURES as error:
            if not any(begun <= died for died in replica.died_at):
                stage.counts.found_failed(f"purge at replica {replica.place}: {type(error).__name__}")
            return
        if answer.status not in {200, 202}:
            stage.counts.found_failed(f"purge at replica {replica.place}: {answer.status} {answer.body!r}")
            return
        heard = {replica.place}
        if purge.wait:
            # Those that ran all the time; whoever was killed or came meanwhile has read the log from its start.
            heard |= self._waited(json.loads(answer.body), alive & stage.faults.running(), begun)
        stage.counts.purges[f"{purge.field} {'soft' if purge.soft else 'hard'}"] += 1
        acked, soft_s = _now(), SOFT_S if purge.soft else 0.0
        for name, version in versions.items():
            change = Change(
                version=version,
                begun=begun,
                acked=acked,
                by=replica.place,
                heard=frozenset(heard),
                soft_s=soft_s,
            )
            stage.oracle.changed(name, change)

    def _chosen(self) -> _Purge:
        chance = self._chance
        resource = chance.choice(RESOURCES)
        family = resource.family
        ways = [
            ("tags", family, _of(family)),
            ("urls", resource.name, (resource,)),
            ("routes", family, _of(family)),
            ("patterns", f"/{family}*", _of(family)),
            ("patterns", f"{resource.name}*", _with(resource.name)),
        ]
        if family != "search":
            ways += [("tags", resource.tag, (resource,))] * 3
        if family != "soft":
            ways.append(("tags", resource.shelf, _on(resource.shelf)))
        field, value, resources = chance.choice(ways)
        return _Purge(
            field=field,
            value=value,
            resources=resources,
            soft=family == "soft" and chance.random() < 0.7,
            wait=chance.random() < 0.5,
        )

    def _waited(self, told: dict[str, Any], alive: frozenset[int], begun: float) -> frozenset[int]:
        """The places that must have applied it, by what the answer says."""
        stage = self._stage
        # One that was killed is missing for a while; those who have applied it are as many as live all the same.
        if told.get("replicas", 0) >= len(alive):
            stage.counts.waits += 1
            if stage.faults.purges_calm_since(begun):
                stage.counts.wait_seconds.append(_now() - begun)
            return alive
        if stage.faults.purges_calm_since(begun):
            stage.counts.waited_in_vain(f"at {stage.faults.since(begun)}: {json.dumps(told)}")
        else:
            stage.counts.waits_alone += 1
        return frozenset()


def _of(family: str) -> tuple[Resource, ...]:
    return tuple(resource for resource in RESOURCES if resource.family == family)


def _with(prefix: str) -> tuple[Resource, ...]:
    return tuple(resource for resource in RESOURCES if resource.name.startswith(prefix))


def _on(shelf: str) -> tuple[Resource, ...]:
    return tuple(resource for resource in RESOURCES if resource.shelf == shelf)
