"""The one owner of background tasks: none is lost to the garbage collector, none fails in silence."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from proxy.logs import Logger

_log = Logger(__name__)
T = TypeVar("T")


class Tasks:
    """Starts tasks, keeps hold of them, and ends them together."""

    def __init__(self) -> None:
        # The loop itself keeps only weak references to its tasks.
        self._running: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The one in which all of them run. To ask asyncio for it is a system call with Python 3.11 (getpid)."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Starts the work. An exception that it ends with is logged once, whether or not anybody awaits the task."""
        task = self.loop.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self, timeout_s: float) -> None:
        """Cancels all tasks and waits for them to end, also for those that they start while ending.
        One that does not end within `timeout_s` is logged and left.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        # The caller may be a task of ours: it cannot wait for itself.
        me = asyncio.current_task()
        while others := {task for task in self._running if task is not me}:
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=max(0.0, deadline - loop.time()))
            if loop.time() >= deadline:
                break
        for task in self._running - {me}:
            _log.error("task does not end", task=task.get_name())

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.error("task failed", task=task.get_name(), exc_info=error)
