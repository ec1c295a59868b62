"""A soak: a fleet under constant load for a long time, while everything that can fail fails, and every answer is judged."""

import asyncio
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fleet.clients import FAILURES, paced
from tests.fleet.replicas import Fleet, fleet
from tests.flow.origin import origin
from tests.soak.clients import Operators, Readers, Stage
from tests.soak.faults import Faults
from tests.soak.figures import Counts, Sizes, told
from tests.soak.oracle import Bounds, Oracle
from tests.soak.storage import storage
from tests.soak.world import MAX_AGE_S, Api, config

# 1.5s: a record that Redis was too slow to take is sent again after a second.
BOUNDS = Bounds(spread_s=1.5, max_age_s=MAX_AGE_S, recovery_s=5.0, wake_s=2.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do for how long. The same seed chooses the same things in the same order."""

    seconds: float
    seed: int
    replicas: int = 3
    requests_per_s: float = 300.0
    purges_per_s: float = 2.0
    reload_every_s: float = 5.0
    is_cluster: bool = False
    has_faults: bool = True
    config: Callable[..., str] = field(default=config)

    def chance(self, purpose: str) -> random.Random:
        """Its own source of chance for each part, so that one part's pace changes nothing for the others."""
        return random.Random(f"{self.seed}:{purpose}")


async def soak(plan: Plan) -> dict[str, Any]:
    """The figures of a soak."""
    loop = asyncio.get_running_loop()
    counts, sizes, oracle = Counts(), Sizes(), Oracle(BOUNDS)
    with storage(is_cluster=plan.is_cluster) as redis:
        async with origin() as started:
            api = Api(started, plan.chance("api"))
            texts = [plan.config(started.url, redis.config, variant=variant) for variant in (0, 1)]
            async with fleet(texts[0], plan.replicas, defects=True) as replicas:
                faults = Faults(replicas, redis, api, oracle, counts, plan.chance("faults"))
                stage = Stage(fleet=replicas, api=api, oracle=oracle, faults=faults, counts=counts)
                began = loop.time()
                await _all_of(plan, stage, sizes, texts)
                seconds, keys = loop.time() - began, redis.keys
        counts.logged += replicas.logged
    return told(
        counts,
        sizes.growths(),
        seed=plan.seed,
        seconds=seconds,
        replicas=plan.replicas,
        cluster=plan.is_cluster,
        api_requests=api.requests,
        slowest_purge_unwaited_s=oracle.slowest_s,
        slowest_purge_unwaited=oracle.slowest,
        redis_keys=keys,
    )


async def _all_of(plan: Plan, stage: Stage, sizes: Sizes, texts: list[str]) -> None:
    over = asyncio.Event()
    readers = Readers(stage, plan.chance("readers"))
    operators = Operators(stage, plan.chance("operators"))
    reloader = _Reloader(stage, plan.chance("reloads"), texts)
    async with asyncio.TaskGroup() as group:
        group.create_task(paced(plan.requests_per_s, readers.one, over))
        group.create_task(paced(plan.purges_per_s, operators.one, over))
        group.create_task(paced(1 / plan.reload_every_s, reloader.one, over))
        group.create_task(_every_second(lambda: _measure(stage.fleet, sizes), over))
        if plan.has_faults:
            group.create_task(stage.faults.run(over))
        await asyncio.sleep(plan.seconds)
        over.set()
    readers.close()


async def _every_second(work: Callable[[], Awaitable[None]], over: asyncio.Event) -> None:
    while not over.is_set():
        await work()
        await asyncio.sleep(1)


async def _measure(replicas: Fleet, sizes: Sizes) -> None:
    now = asyncio.get_running_loop().time()
    for replica in replicas.serving:
        sizes.add(replica.place, replica.proxy.process.pid, now, replica.proxy.rss)


class _Reloader:
    """Changes the config of a replica now and then, and has it noticed in each of the ways there are."""

    def __init__(self, stage: Stage, chance: random.Random, texts: list[str]) -> None:
        self._stage = stage
        self._chance = chance
        self._texts = texts

    async def one(self) -> None:
        replica = self._chance.choice(self._stage.fleet.serving)
        replica.proxy.write(self._chance.choice(self._texts))
        way = self._chance.choice(("by itself", "signal", "admin"))
        self._stage.counts.reloads += 1
        if way == "signal":
            replica.proxy.send(signal.SIGHUP)
        elif way == "admin":
            began = asyncio.get_running_loop().time()
            try:
                answer = await replica.proxy.asked("/api/reload", method="POST")
            except FAILURES as error:
                if not any(began <= died for died in replica.died_at):
                    self._stage.counts.found_failed(f"reload: {type(error).__name__}")
            else:
                if answer.status != 200:
                    self._stage.counts.found_failed(f"reload: {answer.status} {answer.body!r}")


def verdict(figures: dict[str, Any], *, growth_mib: float) -> list[str]:
    """What is not as it should be; empty for a soak that was passed."""
    limits = {
        "wrong": 0,
        "failed": 0,
        "slowest_recovery_s": BOUNDS.recovery_s,
        "growth_max_mib": growth_mib,
    }
    problems = [
        f"{name} is {figures[name]:g}, more than {limit:g}"
        for name, limit in limits.items()
        if figures[name] > limit
    ]
    problems += [f"{name}: {figures[name]}" for name in _TO_BE_EMPTY if figures[name]]
    return problems


_TO_BE_EMPTY = ("waits_incomplete_unexplained", "logged_errors")


def announce(plan: Plan) -> None:
    """Before it begins: what to type to have it again."""
    again = f"python -m tests.soak --minutes {plan.seconds / 60:g} --seed {plan.seed}"
    print(again + (" --cluster" if plan.is_cluster else ""), file=sys.stderr, flush=True)
