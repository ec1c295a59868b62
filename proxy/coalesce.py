"""One piece of work for everybody who wants the same thing at the same time.

A flight is a task of its own: whoever joins waits for its outcome, and a client that leaves cancels nobody. If all have
left it still ends, is stored, and its outcome is let go of.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from proxy.tasks import Tasks

T = TypeVar("T")


class Flight(Generic[T]):
    """Work under way and its outcome."""

    def __init__(self, epoch: int, loop: asyncio.AbstractEventLoop) -> None:
        self.epoch = epoch
        """Of the purge log when it started: what was purged since must not be joined by later requests."""
        self._loop = loop
        self._outcome: list[T] = []
        """None or one."""
        self._waiters: dict[asyncio.Future[T], None] = {}
        self.forward = ""
        """Why the API is asked, once that is known (RFC 9211 section 2.2)."""
        self.claimed = False

    @property
    def waiting(self) -> int:
        """How many wait for the outcome at this moment."""
        return len(self._waiters)

    def land(self, outcome: T) -> None:
        """The outcome is there; the work itself may go on (storing it, say)."""
        if self._outcome:
            return
        self._outcome.append(outcome)
        for waiter in tuple(self._waiters):
            if not waiter.done():
                waiter.set_result(outcome)

    @property
    def has_landed(self) -> bool:
        """Whether the outcome is there."""
        return bool(self._outcome)

    async def outcome(self) -> T:
        """Wait for it. Cancelling the wait leaves the flight alone."""
        if self._outcome:
            return self._outcome[0]
        # One of its own for each: asyncio.shield makes as many, and more than that.
        waiter: asyncio.Future[T] = self._loop.create_future()
        self._waiters[waiter] = None
        try:
            return await waiter
        finally:
            del self._waiters[waiter]

    def claim(self) -> bool:
        """True for the first who asks: what can't be shared is theirs."""
        claimed, self.claimed = self.claimed, True
        return not claimed


class Flights(Generic[T]):
    """All flights of this process, by what they are for."""

    def __init__(self, tasks: Tasks, failed: Callable[[BaseException], T]) -> None:
        self._tasks = tasks
        self._failed = failed
        """Turns a defect in the work into an outcome, so that no one waits for ever."""
        self._flights: dict[str, Flight[T]] = {}

    def join(
        self,
        key: str,
        epoch: int,
        work: Callable[[Flight[T]], Coroutine[Any, Any, None]],
        *,
        late: bool = True,
    ) -> tuple[Flight[T], bool]:
        """The flight for `key`, and whether it was started by this call.

        Whoever joins one that started before the last purge must look, when it lands, whether that purge concerned what
        it brings. One that has landed and only finishes its work is joined only if `late`, and no purge came since.
        """
        flight = self._flights.get(key)
        if flight is not None and (not flight.has_landed or (late and flight.epoch == epoch)):
            return flight, False
        flight = self._flights[key] = Flight(epoch, self._tasks.loop)
        self._tasks.spawn(self._fly(key, flight, work), name=f"flight {key}")
        return flight, True

    async def _fly(
        self, key: str, flight: Flight[T], work: Callable[[Flight[T]], Coroutine[Any, Any, None]]
    ) -> None:
        try:
            await work(flight)
        except BaseException as error:
            flight.land(self._failed(error))
            raise
        else:
            # Does nothing if it has landed; work that forgot to must not leave anybody waiting.
            flight.land(self._failed(RuntimeError("no outcome")))
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def __len__(self) -> int:
        return len(self._flights)
