import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from proxy.coalesce import Flight, Flights
from proxy.tasks import Tasks

Work = Callable[[Flight[str]], Coroutine[Any, Any, None]]


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    owner = Tasks()
    yield owner
    await owner.close(1)


@pytest.fixture
def flights(tasks: Tasks) -> Flights[str]:
    return Flights(tasks, failed=lambda error: f"failed: {type(error).__name__}")


class Api:
    """Work that lands once it may; counts how often it began."""

    def __init__(self, outcome: str = "answer") -> None:
        self.calls = 0
        self.ended = 0
        self.may = asyncio.Event()
        self._outcome = outcome

    async def work(self, flight: Flight[str]) -> None:
        self.calls += 1
        await self.may.wait()
        flight.land(self._outcome)
        self.ended += 1


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_thousand_who_want_the_same_cost_one_piece_of_work(flights: Flights[str]) -> None:
    api = Api()

    async def caller() -> tuple[str, bool]:
        flight, leads = flights.join("key", 0, api.work)
        return await flight.outcome(), leads

    callers = [asyncio.ensure_future(caller()) for _ in range(1000)]
    await turns()
    api.may.set()
    outcomes = await asyncio.gather(*callers)

    assert (1, [("answer", True)] + [("answer", False)] * 999) == (api.calls, outcomes)


async def test_other_keys_do_their_own_work(flights: Flights[str]) -> None:
    api = Api()
    joined = [flights.join(key, 0, api.work)[1] for key in ("a", "b", "a")]
    await turns()

    assert ([True, True, False], 2, 2) == (joined, api.calls, len(flights))


async def test_a_client_that_leaves_cancels_nobody(flights: Flights[str]) -> None:
    api = Api()
    flight, _ = flights.join("key", 0, api.work)
    leaving, staying = (asyncio.ensure_future(flight.outcome()) for _ in range(2))
    await turns()
    leaving.cancel()
    await turns()
    waiting = flight.waiting
    api.may.set()

    assert ("answer", True, 1) == (await staying, leaving.cancelled(), waiting)


async def test_work_that_everybody_left_still_ends(flights: Flights[str]) -> None:
    api = Api()
    flight, _ = flights.join("key", 0, api.work)
    only = asyncio.ensure_future(flight.outcome())
    await turns()
    only.cancel()
    await turns()
    api.may.set()
    await turns()

    assert (1, 0, 0) == (api.ended, flight.waiting, len(flights))


async def test_a_crash_in_the_work_reaches_all_as_an_outcome(
    flights: Flights[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(flight: Flight[str]) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    waiting = [flights.join("key", 0, crash)[0].outcome() for _ in range(3)]

    assert ["failed: ZeroDivisionError"] * 3 == await asyncio.gather(*waiting)
    assert 0 == len(flights)


async def test_work_that_is_cancelled_reaches_all_as_an_outcome(flights: Flights[str], tasks: Tasks) -> None:
    flight, _ = flights.join("key", 0, Api().work)
    waiting = asyncio.ensure_future(flight.outcome())
    await turns()
    await tasks.close(1)

    assert "failed: CancelledError" == await waiting


async def test_a_crash_after_landing_changes_no_outcome(flights: Flights[str]) -> None:
    async def crash(flight: Flight[str]) -> None:
        flight.land("answer")
        raise ZeroDivisionError

    flight, _ = flights.join("key", 0, crash)
    await turns()

    assert "answer" == await flight.outcome()


async def test_only_the_first_landing_counts(flights: Flights[str]) -> None:
    async def twice(flight: Flight[str]) -> None:
        flight.land("one")
        flight.land("other")

    assert "one" == await flights.join("key", 0, twice)[0].outcome()


async def test_whoever_comes_while_landed_work_goes_on_joins_it(flights: Flights[str]) -> None:
    may_end = asyncio.Event()

    async def store(flight: Flight[str]) -> None:
        flight.land("answer")
        await may_end.wait()

    first, _ = flights.join("key", 0, store)
    await first.outcome()
    second, leads = flights.join("key", 0, store)
    may_end.set()

    assert (first, False) == (second, leads)


async def test_after_its_end_a_flight_is_joined_no_more(flights: Flights[str]) -> None:
    api = Api()
    api.may.set()
    for _ in range(2):
        flight, _ = flights.join("key", 0, api.work)
        await flight.outcome()
        await turns()

    assert (2, 0) == (api.calls, len(flights))


async def test_a_flight_from_before_a_purge_is_joined_until_it_lands(flights: Flights[str]) -> None:
    before, after = Api("before"), Api("after")
    old, _ = flights.join("key", 0, before.work)
    same, leads = flights.join("key", 1, after.work)

    assert (same, leads, same.epoch) == (old, False, 0)
    before.may.set()
    assert await old.outcome() == "before"


async def test_a_landed_flight_from_before_a_purge_is_left_to_those_on_it(flights: Flights[str]) -> None:
    after = Api("after")

    async def lands(flight: Flight[str]) -> None:
        flight.land("before")
        await after.may.wait()

    old, _ = flights.join("key", 0, lands)
    await old.outcome()
    same, _ = flights.join("key", 0, after.work)
    new, leads = flights.join("key", 1, after.work)
    later, _ = flights.join("key", 1, after.work)
    after.may.set()

    assert (same, leads, later) == (old, True, new)
    assert await new.outcome() == "after"


async def test_what_cannot_be_shared_is_claimed_once(flights: Flights[str]) -> None:
    flight, _ = flights.join("key", 0, Api().work)

    assert [True, False, False] == [flight.claim() for _ in range(3)]
