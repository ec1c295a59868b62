"""The election over a real socket: what is written to the Lease, what every failure does, and that never two may write."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from scaler import lease
from scaler.api import Api, Clocks
from scaler.election import Action, Terms
from scaler.lease import Elector
from tests.scaler.kube_api import Asked, Failure, Fault, KubeApi, credentials_for, kube_api

TERMS = Terms()
WALL = 1_767_225_600.0
LEASE = ("coordination.k8s.io", "leases", "scaler")


class Time:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def clocks(self) -> Clocks:
        return Clocks(
            now=lambda: self.now, wall=lambda: WALL + self.now, pause=self.pause, chance=lambda: 1.0
        )

    async def pause(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
async def server() -> AsyncIterator[KubeApi]:
    async with kube_api() as running:
        yield running


@pytest.fixture
async def hall(server: KubeApi) -> AsyncIterator["Hall"]:
    async with AsyncExitStack() as stack:
        yield Hall(server, stack)


class Hall:
    """Where they are elected."""

    def __init__(self, server: KubeApi, stack: AsyncExitStack) -> None:
        self.server = server
        self.time = Time()
        self._stack = stack

    async def elector(self, me: str, terms: Terms = TERMS) -> Elector:
        api = await self._stack.enter_async_context(
            Api(credentials_for(self.server.url), "shop", "1.2.3", self.time.clocks())
        )
        return Elector(api, "scaler", me, terms, lambda: self.time.now)

    async def leader(self, me: str) -> Elector:
        """One that holds it."""
        elector = await self.elector(me)
        await elector.step()
        self.time.now += TERMS.duration_s
        await elector.step()
        assert elector.holds(self.time.now)
        return elector

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.server.objects[LEASE]["spec"]
        return spec


async def test_the_first_creates_it_and_acts_when_nobody_else_can(hall: Hall) -> None:
    first = await hall.elector("a")
    decision = await first.step()
    at_once = first.holds(hall.time.now)
    hall.time.now += TERMS.duration_s
    await first.step()
    body = json.loads(next(each.body for each in hall.server.asked if each.verb == "create"))

    assert (Action.ACQUIRE, False, True) == (decision.action, at_once, first.holds(hall.time.now))
    assert body == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "scaler", "namespace": "shop"},
        "spec": {
            "holderIdentity": "a",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-01T00:16:40.000000Z",
            "renewTime": "2026-01-01T00:16:40.000000Z",
            "leaseTransitions": 0,
        },
    }


async def test_a_renewal_is_one_call_guarded_by_the_version(hall: Hall) -> None:
    holder = await hall.leader("a")
    hall.server.asked.clear()
    version = hall.server.objects[LEASE]["metadata"]["resourceVersion"]
    await holder.step()
    sent = [(each.verb, json.loads(each.body)["metadata"]["resourceVersion"]) for each in hall.server.asked]

    assert [("update", version)] == sent


async def test_a_holder_that_died_is_followed_by_another_after_its_duration(hall: Hall) -> None:
    await hall.leader("a")
    other = await hall.elector("b")
    first = await other.step()
    hall.time.now += TERMS.duration_s - 0.1
    early = await other.step()
    hall.time.now += 0.1
    late = await other.step()

    assert [Action.WAIT, Action.WAIT, Action.ACQUIRE] == [each.action for each in (first, early, late)]
    assert (True, "b", 1) == (
        other.holds(hall.time.now),
        hall.spec["holderIdentity"],
        hall.spec["leaseTransitions"],
    )


async def test_a_holder_that_was_paused_knows_that_it_may_not_write_and_learns_who_may(hall: Hall) -> None:
    paused, other = await hall.leader("a"), await hall.elector("b")
    await other.step()
    hall.time.now += TERMS.duration_s
    await other.step()
    before = paused.holds(hall.time.now)
    refused = await paused.step()
    then = await paused.step()

    assert (False, Action.WAIT, "somebody else was first") == (
        before,
        refused.action,
        paused_reason(refused.reason),
    )
    assert (Action.WAIT, "b holds it", "b") == (then.action, then.reason, paused.leader)


def paused_reason(reason: str) -> str:
    return reason.removeprefix('update leases "scaler": ').partition(" (")[0]


async def test_whoever_leaves_hands_it_over_at_once(hall: Hall) -> None:
    leaving, other = await hall.leader("a"), await hall.elector("b")
    await other.step()
    await leaving.release()
    released = (hall.spec["holderIdentity"], leaving.holds(hall.time.now))
    await other.step()

    assert ("", False) == released
    assert (True, "b", 1) == (
        other.holds(hall.time.now),
        hall.spec["holderIdentity"],
        hall.spec["leaseTransitions"],
    )


async def test_whoever_does_not_hold_it_releases_nothing(hall: Hall) -> None:
    await hall.leader("a")
    other = await hall.elector("b")
    await other.release()
    assert "a" == hall.spec["holderIdentity"]


async def test_it_does_not_hold_while_it_is_releasing(hall: Hall) -> None:
    leaving = await hall.leader("a")
    held: list[bool] = []

    async def look(_: Asked) -> None:
        held.append(leaving.holds(hall.time.now))

    hall.server.gate = look
    await leaving.release()
    assert [False, False] == held


async def test_a_release_that_fails_leaves_it_to_run_out(hall: Hall) -> None:
    leaving = await hall.leader("a")
    hall.server.faults = [Fault(code=503)]
    await leaving.release()
    assert ("a", False) == (hall.spec["holderIdentity"], leaving.holds(hall.time.now))
    assert "503" in leaving.why


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(code=503), id="503"),
        pytest.param(Fault(code=429, headers={"Retry-After": "7"}), id="429"),
        pytest.param(Fault(code=403), id="403"),
        pytest.param(Fault(code=200, body=b"<html>"), id="garbage"),
        pytest.param(Fault(code=200, body=b'{"metadata": {}}'), id="no version"),
        pytest.param(Fault(code=200, body=b'{"metadata": 3, "spec": {}}'), id="no object"),
        pytest.param(Fault(is_reset=True), id="connection lost"),
        pytest.param(Fault(is_reset_after=True), id="its answer lost"),
    ],
)
async def test_a_renewal_that_fails_costs_nothing_but_time(hall: Hall, fault: Fault) -> None:
    holder = await hall.leader("a")
    # aiohttp itself tries a PUT again where the connection was lost.
    hall.server.faults = [fault, fault]
    hall.time.now += 2
    failed = await holder.step()
    holds = [holder.holds(hall.time.now + more) for more in (0, 7.9, 8.0)]
    hall.server.faults = []
    await holder.step()

    assert (Action.WAIT, [True, True, False]) == (failed.action, holds)
    assert holder.holds(hall.time.now + 9)


async def test_a_call_that_hangs_is_given_up_before_the_next(hall: Hall) -> None:
    holder = await hall.elector("a", Terms(duration_s=1, renew_deadline_s=0.5, retry_s=0.1))
    hall.server.faults = [Fault(delay_s=5)]
    began = asyncio.get_running_loop().time()
    await holder.step()
    assert asyncio.get_running_loop().time() - began < 1
    assert 'get leases "scaler": no answer in time' == holder.why


async def test_what_others_keep_in_the_object_stays(hall: Hall) -> None:
    await hall.server.put(*LEASE, {"metadata": {"labels": {"by": "helm"}}, "spec": {}})
    elector = await hall.elector("a")
    await elector.step()
    assert ({"by": "helm"}, "a") == (
        hall.server.objects[LEASE]["metadata"]["labels"],
        hall.spec["holderIdentity"],
    )


async def test_a_lease_deleted_under_its_holder_is_made_anew_and_never_held_twice(hall: Hall) -> None:
    holder, other = await hall.leader("a"), await hall.elector("b")
    await hall.server.delete(*LEASE)
    await other.step()
    both = (holder.holds(hall.time.now), other.holds(hall.time.now))
    hall.time.now += TERMS.duration_s
    await other.step()

    assert (True, False) == both
    assert (False, True) == (holder.holds(hall.time.now), other.holds(hall.time.now))


async def test_run_renews_within_the_retry_period_until_it_is_cancelled(hall: Hall) -> None:
    elector = await hall.leader("a")
    times: list[float] = []

    async def gate(_: Asked) -> None:
        times.append(hall.time.now)

    hall.server.gate = gate
    running = asyncio.create_task(elector.run())
    while len(times) < 8:
        await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await elector.release()

    assert ([0.0, 2.0, 4.0, 6.0], "") == (
        [each - times[0] for each in times[:8:2]],
        hall.spec["holderIdentity"],
    )


def test_no_two_processes_have_the_same_identity() -> None:
    one, other = lease.identity("scaler-0"), lease.identity("scaler-0")
    assert one != other
    assert one.startswith("scaler-0_")


def test_the_clock_goes_on() -> None:
    assert lease.boot_clock() <= lease.boot_clock()


@pytest.mark.parametrize("seed", range(12))
async def test_never_two_may_write_however_calls_are_late_lost_or_refused(hall: Hall, seed: int) -> None:
    """The electors' own code, on a clock that leaps while their calls are on the way, before the server and behind it."""
    chance = random.Random(seed)
    electors = [await hall.elector(name) for name in "abc"]
    most: list[list[str]] = []

    def holders() -> list[str]:
        return [each.me for each in electors if each.holds(hall.time.now)]

    async def gate(_asked: Asked) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        kind = chance.random()
        hall.time.now += chance.uniform(0, 0.05 if kind < 0.8 else 5.0 if kind < 0.97 else 30.0)
        most.append(holders())
        if chance.random() < 0.05:
            raise Failure(503, "ServiceUnavailable", "etcd has no leader")

    hall.server.gate = gate
    for _ in range(60):
        # Those that aren't chosen are paused.
        chosen = chance.sample(electors, chance.randint(1, 3))
        await asyncio.gather(*(each.step() for each in chosen))
        most.append(holders())
        if chance.random() < 0.05:
            await chance.choice(electors).release()
        if chance.random() < 0.03 and LEASE in hall.server.objects:
            await hall.server.delete(*LEASE)
        hall.time.now += chance.uniform(0, 4)
    assert 1 == max(len(each) for each in most)
