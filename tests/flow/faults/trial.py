"""One fault on one stage: what is promised, what was found."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from math import inf

from tests.flow.faults import machine
from tests.flow.faults.machine import Window, window
from tests.flow.faults.oracle import (
    KINDS,
    MAX_AGE_S,
    PROMPTLY_S,
    Change,
    Sample,
    outdated,
    p99_ms,
)
from tests.flow.faults.stage import API_TIMEOUT_S, Stage

ADDED_MS = 5.0
REDIS_TIMEOUT_MS = 50.0
RECOVERY_S = 5.0
# Docs: a hung Redis is out within a second.
OUT_S = 1.0
# What new ways through the code and a bad minute's buffers may leave behind in an allocator.
FLAT_MIB = 8.0
_GIVEN_UP_S = 15.0
_CALM_S = 1.0
_SETTLE_S = 0.3
# What two busy processors may add to one request; a Redis whose own timeouts counted would add seconds.
_SLACK_MS = 200.0
# Windows of measuring, at most, until the machine is ours.
_TRIES = 3
# The same for all of it.
_TRIALS = 3
_LOOK_EVERY_S = 0.05
# Whoever has waited for so long in the end was forgotten.
_LEFT_S = 1.0

Inject = Callable[[Stage], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Begins when `inject` is entered, is cured when it is left."""

    name: str
    inject: Inject
    hold_s: float = 1.5
    lasts: bool = True
    """Until it is cured: it can be measured again where the machine was not ours."""
    opens: bool = False
    """All replicas stop using Redis; what is promised of latency is promised from then on."""
    added_ms: float = ADDED_MS
    """What it may add to the 99th percentile."""
    is_told: bool = True
    """Other replicas learn of a purge meanwhile, or know that they might not."""
    of_api: bool = False
    purges: bool = True
    """The API changes its mind meanwhile; whether the first replica is told to purge, or time has to tell."""
    statuses: frozenset[int] = frozenset()
    """What the API answers instead, or what a proxy says of it, to what nothing stored can stand in for."""
    cuts: bool = False
    """The API's bodies end early, and so may answers that are only passed on."""
    is_begun: bool = False
    """It was there before the proxies were: there is nothing to compare with but afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a fault did. Seconds are infinite for what did not happen in time."""

    fault: str
    stage: str
    requests: int
    api_requests: int
    """What the API was asked, since it was last started."""
    failed: tuple[str, ...]
    """Requests that the API itself would have answered, or that something stored should have."""
    wrong: tuple[str, ...]
    """Bodies that belong to somebody or something else."""
    outdated: tuple[str, ...]
    defects: tuple[str, ...]
    """Errors that the proxies logged: these are about themselves."""
    open_s: float
    """Until all replicas stopped asking Redis; 0 where they need not."""
    p99_before_ms: float
    """Without the fault: before it began and after it was cured."""
    p99_during_ms: float
    max_ms: float
    """From the fault's beginning until long after its cure."""
    others: float
    """The share of the machine that others used while latency was measured, at worst."""
    recovered_s: float
    rss_growth_mib: float
    trials: int = 1
    """How often it was tried: the first ones took too long on a machine that others used."""

    @property
    def added_ms(self) -> float:
        return self.p99_during_ms - self.p99_before_ms


def broken_promises(fault: Fault, finding: Finding, *, slack_ms: float = 0.0) -> list[str]:
    """What was promised and did not hold. `slack_ms` more is forgiven where it is about time."""
    said = [
        f"{len(found)} {what}, first: {found[0]}"
        for what, found in (
            ("failed", finding.failed),
            ("wrong", finding.wrong),
            ("outdated", finding.outdated),
            ("defects", finding.defects),
        )
        if found
    ]
    if finding.recovered_s > RECOVERY_S:
        said.append(f"recovered after {finding.recovered_s:.1f} s")
    if finding.rss_growth_mib > FLAT_MIB:
        said.append(f"grew by {finding.rss_growth_mib:.1f} MiB")
    return said + _too_slow(fault, finding, slack_ms)


def _too_slow(fault: Fault, finding: Finding, slack_ms: float) -> list[str]:
    said = []
    if finding.open_s > OUT_S + slack_ms / 1000:
        said.append(f"Redis was still asked after {finding.open_s:.1f} s")
    if not fault.of_api and finding.max_ms > REDIS_TIMEOUT_MS + _SLACK_MS + 10 * slack_ms:
        said.append(f"a request took {finding.max_ms:.0f} ms")
    if not finding.added_ms <= fault.added_ms + slack_ms:
        said.append(f"{finding.added_ms:.1f} ms added at p99, of {fault.added_ms:g}")
    if said and finding.others > machine.DISTURBED:
        said.append(f"others used {finding.others:.0%} of the machine")
    return said


async def under(stage: Stage, fault: Fault) -> Finding:
    """Let the fault happen, and see. Again where all that was wrong is how long it took, and others used the machine."""
    trials = 0
    while True:
        trials += 1
        finding = replace(await _trial(stage, fault), trials=trials)
        only_slow = broken_promises(fault, finding) == _too_slow(fault, finding, 0.0) != []
        is_last = trials == _TRIALS or fault.is_begun or finding.others <= machine.DISTURBED
        if is_last or not only_slow:
            return finding


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """Monotonic seconds."""

    started: float
    begun: float
    cured: float
    over: float
    open_s: float
    recovered_s: float
    calm: tuple[Window, ...]
    during: Window
    changes: tuple[Change, ...]


async def _trial(stage: Stage, fault: Fault) -> Finding:
    rss, logged, asked = stage.rss_mib(), len(stage.errors()), await stage.api.asked()
    times = await _happened(stage, fault)
    finding = _found(stage, fault, times)
    return replace(
        finding,
        api_requests=((await stage.api.asked()) - asked).total(),
        failed=(*finding.failed, *stage.load.waiting(_LEFT_S)),
        defects=tuple(stage.errors()[logged:]),
        rss_growth_mib=max(now - before for now, before in zip(stage.rss_mib(), rss, strict=True)),
    )


async def _happened(stage: Stage, fault: Fault) -> _Times:
    started, calm = time.monotonic(), stage.calm
    if calm is None and not fault.is_begun:
        calm = await window(_CALM_S, tries=_TRIES)
    if fault.of_api:
        await stage.fill()
    begun = time.monotonic()
    async with fault.inject(stage):
        open_s = await _seconds_until_out(stage) if fault.opens else 0.0
        changes = [] if fault.of_api else [await stage.change(purge=fault.purges)]
        await asyncio.sleep(_SETTLE_S)
        during = await window(fault.hold_s, tries=_TRIES if fault.lasts else 1)
    cured = time.monotonic()
    for change in changes:
        change.graces += _graces(fault, change, cured)
    if fault.of_api:
        changes.append(await stage.change(purge=False))
    recovered_s = await _seconds_until_well(stage, cured)
    changes.append(await stage.change(purge=True))
    changes[-1].graces.append((changes[-1].at, changes[-1].purged_at + PROMPTLY_S))
    await asyncio.sleep(PROMPTLY_S)
    await _all_answered(stage)
    stage.calm = await window(_CALM_S, tries=_TRIES)
    return _Times(
        started=started,
        begun=begun,
        cured=cured,
        over=time.monotonic(),
        open_s=open_s,
        recovered_s=recovered_s,
        calm=(stage.calm,) if calm is None else (calm, stage.calm),
        during=during,
        changes=tuple(changes),
    )


def _graces(fault: Fault, change: Change, cured: float) -> list[tuple[float, float]]:
    """When the others may not know of a purge that was made during a fault of Redis."""
    recovering = cured + RECOVERY_S
    if not fault.is_told:
        return [(change.at, recovering)]
    return [(change.at, change.purged_at + MAX_AGE_S + PROMPTLY_S), (cured, recovering)]


async def _seconds_until_out(stage: Stage) -> float:
    started = time.monotonic()
    while time.monotonic() - started < _GIVEN_UP_S:
        if not any(await stage.ups()):
            return time.monotonic() - started
        await asyncio.sleep(_LOOK_EVERY_S)
    return inf


async def _seconds_until_well(stage: Stage, cured: float) -> float:
    while time.monotonic() - cured < _GIVEN_UP_S:
        asked = time.monotonic()
        if await stage.is_well():
            return asked - cured
        await asyncio.sleep(_LOOK_EVERY_S)
    return inf


async def _all_answered(stage: Stage) -> None:
    """Until nobody waits any more for what was asked during the fault, or has waited for too long to be waited for."""
    since = time.monotonic()
    while stage.load.waiting(2 * _LOOK_EVERY_S) and time.monotonic() - since < RECOVERY_S:
        await asyncio.sleep(_LOOK_EVERY_S)


def _found(stage: Stage, fault: Fault, times: _Times) -> Finding:
    load = stage.load
    calm = [sample for each in times.calm for sample in load.since(each.start, each.end)]
    during = load.since(times.during.start, times.during.end)
    seen = load.since(times.started, times.over)
    # What has just failed is not asked for again at once.
    ill = (times.begun, times.cured + RECOVERY_S) if fault.of_api else (inf, inf)
    return Finding(
        fault=fault.name,
        stage=stage.name,
        requests=sum(not sample.is_missed for sample in seen),
        api_requests=0,
        failed=tuple(_failures(seen, fault, times)),
        wrong=tuple(sample.wrong for sample in seen if sample.wrong and not sample.is_missed),
        outdated=tuple(outdated(seen, times.changes, ill)),
        defects=(),
        open_s=times.open_s,
        p99_before_ms=p99_ms(_served(calm, fault)),
        p99_during_ms=p99_ms(_served(during, fault)),
        max_ms=1000 * max(sample.took_s for sample in load.since(times.begun, times.over)),
        others=max(each.others for each in (*times.calm, times.during)),
        recovered_s=times.recovered_s,
        rss_growth_mib=0.0,
    )


def _served(samples: Sequence[Sample], fault: Fault) -> list[Sample]:
    """Those whose latency is promised: of a fault of the API, what needs no API."""
    if not fault.of_api:
        return list(samples)
    return [sample for sample in samples if KINDS[sample.kind].is_quick]


def _failures(samples: Sequence[Sample], fault: Fault, times: _Times) -> list[str]:
    said = []
    for sample in samples:
        if sample.is_missed or sample.wrong or (sample.status == 200 and not sample.cut):
            continue
        ill = fault.of_api and times.begun - API_TIMEOUT_S <= sample.at <= times.cured + _SETTLE_S
        is_the_apis = sample.status in fault.statuses or (fault.cuts and sample.status == 200)
        if ill and is_the_apis and not KINDS[sample.kind].outlives_the_api:
            continue
        after_s = sample.at - times.begun
        said.append(
            f"{sample.kind} at {after_s:.2f} s of replica {sample.replica}: {sample.status} {sample.cut}".rstrip()
        )
    return said
