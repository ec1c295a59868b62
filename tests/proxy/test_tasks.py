import asyncio
import gc

import pytest

from proxy.tasks import Tasks
from tests.log_lines import capture_logs


async def _fails() -> None:
    raise RuntimeError("oh")


async def test_a_task_that_nobody_holds_runs_to_its_end() -> None:
    tasks, done = Tasks(), asyncio.Event()

    async def work() -> None:
        # Nothing but the loop's weak reference would keep the task while it waits for this future.
        waiter = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.02, waiter.set_result, None)
        del waiter
        await asyncio.sleep(0.03)
        done.set()

    tasks.spawn(work(), "work")
    gc.collect()

    await asyncio.wait_for(done.wait(), 1)
    await asyncio.sleep(0)
    assert len(tasks) == 0


async def test_an_unexpected_exception_is_logged_once_and_the_rest_goes_on() -> None:
    tasks = Tasks()

    with capture_logs() as logs:
        task = tasks.spawn(_fails(), "doomed")
        other = tasks.spawn(asyncio.sleep(0.01, "fine"), "other")
        with pytest.raises(RuntimeError):
            await task
        assert await other == "fine"

    assert [(log["event"], log["task"]) for log in logs] == [("task failed", "doomed")]


async def test_an_exception_that_nobody_awaits_is_retrieved() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    tasks = Tasks()

    with capture_logs():
        tasks.spawn(_fails(), "doomed")
        await asyncio.sleep(0.01)
    gc.collect()

    assert complaints == []


async def test_close_cancels_and_awaits_all_and_also_what_they_start_while_ending() -> None:
    tasks, ended = Tasks(), []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            if name == "first":
                tasks.spawn(work("second"), "second")
            await asyncio.sleep(0.01)
            ended.append(name)

    tasks.spawn(work("first"), "first")
    await asyncio.sleep(0)
    await tasks.close(1)

    # The second is cancelled, before or after it began.
    assert (ended[0], len(tasks)) == ("first", 0)


async def test_a_task_that_will_not_end_is_named_and_left_after_the_timeout() -> None:
    tasks, released = Tasks(), asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    tasks.spawn(stubborn(), "stubborn")
    await asyncio.sleep(0)
    with capture_logs() as logs:
        started = asyncio.get_running_loop().time()
        await tasks.close(0.05)
        waited = asyncio.get_running_loop().time() - started

    assert [log["task"] for log in logs] == ["stubborn"]
    assert waited < 0.5
    released.set()


async def test_close_from_a_task_of_its_own_does_not_wait_for_itself() -> None:
    tasks = Tasks()
    task = tasks.spawn(tasks.close(1), "closer")

    await asyncio.wait_for(task, 0.5)
