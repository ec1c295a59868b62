"""The process: puts the parts together, opens the ports, reloads, drains, ends.

Start: config, ports, Redis and its purge log (bounded), warm resources (bounded), ready.
End: readiness fails at once, connections are told to close, requests in flight finish, exit 0.
"""

import asyncio
import errno
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from time import monotonic, time
from typing import TypeVar

import uvloop

from proxy import config_file, logs, metrics, settings
from proxy.access import Access
from proxy.admin import Reloaded, serving
from proxy.config import Config, hostless_urls
from proxy.config_problems import BadConfig
from proxy.connection import Front, head_limits
from proxy.express import listening
from proxy.handler import Handler
from proxy.hits import Hits
from proxy.hot import Hot
from proxy.leases import Leases
from proxy.logs import Logger
from proxy.metrics import Metrics
from proxy.passing import Passages
from proxy.policy.routes import RouteTable
from proxy.policy.writes import Name, as_stored
from proxy.purge_log import PurgeLog, Reached
from proxy.store.embedded import EmbeddedError
from proxy.store.memory import Memory
from proxy.store.shared import SharedTier
from proxy.store.tiers import Copy, Tiers
from proxy.sweeper import Sweeper
from proxy.tasks import Tasks
from proxy.upstream import Upstream
from proxy.warm import Warmer

log = Logger(__name__)

_POLL_S = 1.0
_SWEEP_S = 1.0
# Whoever sets a clock right does it by more, or slowly.
_JUMP_S = 2.0
# Readiness waits so long for required warm resources: a pod that never gets ready helps nobody.
_WARM_WAIT_S = 10.0
# And so long for a purge log that is there, and is long.
_LOG_WAIT_S = 15.0
_CATCH_UP_S = 2.0
_YOUNG = 10_000
# Python's own 5 ms would be most of what a request takes at all.
_SWITCH_S = 0.0005
# 20ms: what has just been received is counted as in flight by then.
_LAST_LOOK_S = 0.02


class CannotListen(Exception):
    """A port is taken or not ours to open; the message names it and the option."""


class Proxy:
    """All parts of a running proxy, and what can be done with them from outside."""

    def __init__(self, path: str, loaded: settings.Settings) -> None:
        self.path = path
        self.tasks = Tasks()
        self.metrics = Metrics(_version())
        self.metrics.started_at = time()
        self.memory: Memory[Copy] = Memory(
            max_bytes=loaded.memory.max_size,
            max_object_bytes=loaded.memory.max_size,
            on_evict=lambda reason: self.metrics.count(metrics.EVICTIONS, reason),
        )
        self.redis = self._shared_tier(loaded.redis)
        prefix = (loaded.redis or settings.Redis()).prefix
        self.purge_log = PurgeLog(self.redis, self.metrics, self.tasks, prefix=prefix)
        self.tiers = Tiers(
            self.memory, self.redis, self.purge_log, lambda why: self.metrics.count(metrics.DAMAGED, why)
        )
        self._started_with = loaded
        self.config = self._configured(loaded)
        self.leases = Leases(self.redis, self.metrics, self.tasks)
        self.handler = Handler(
            self.config,
            self.tiers,
            self.purge_log,
            self.leases,
            self.metrics,
            tasks=self.tasks,
            clock=time,
        )
        self.access = Access(self.metrics)
        self.front = Front(begin=self.handler.begin, observer=self.access, limits=loaded.client)
        self.hits = Hits(self.handler, self.tiers, self.purge_log, self.metrics, head_limits(loaded.client))
        self.passages = Passages(self.handler, self.metrics)
        self.warmer = Warmer(self.handler, self.metrics)
        self.purge_log.heard.append(self.warmer.heard)
        self.hot = None if self.redis is None else Hot(self.tiers, self.redis, self.metrics)
        self.sweeper = None if self.redis is None else Sweeper(self.tiers, self.redis, self.metrics)
        if self.sweeper is not None:
            self.purge_log.heard.append(self.sweeper.heard)
        self.warmed = False
        self.addresses: dict[str, str] = {}
        self._warming: list[asyncio.Task[None]] = []
        self._reloading = asyncio.Lock()
        self._seen = _fingerprint(path)
        self._apply(self.config)
        for name, read in (
            (metrics.MEMORY_BYTES, lambda: self.memory.bytes),
            (metrics.MEMORY_ENTRIES, lambda: self.memory.entries),
            (metrics.CONNECTIONS, lambda: self.front.connections),
            (metrics.UPSTREAM_INFLIGHT, lambda: self.config.upstream.inflight),
            (metrics.REPLICAS, lambda: self.purge_log.replicas),
        ):
            self.metrics.gauge(name, read)

    def _shared_tier(self, wanted: settings.Redis | None) -> SharedTier | None:
        if wanted is None:
            return None
        from proxy.store.redis import RedisTier  # noqa: PLC0415 - 85 ms and 12 MB that a proxy without Redis is spared

        return RedisTier(wanted, self.metrics, self.tasks)

    # -- config --

    def _configured(self, loaded: settings.Settings) -> Config:
        routes = RouteTable.of(loaded.routes)
        return Config(
            settings=loaded,
            routes=routes,
            upstream=Upstream(loaded.upstream, self.metrics.upstream),
            hostless=hostless_urls(loaded.warm, routes),
        )

    def _apply(self, config: Config) -> None:
        loaded = config.settings
        self.config = self.handler.config = config
        self.hits.forget()
        self.front.limits = loaded.client
        self.access.enabled = loaded.log.access
        self.tiers.limits = loaded.memory
        self.purge_log.max_age_s = loaded.memory.max_age
        self.tiers.redis_limits = loaded.redis or settings.Redis()
        # Renewed at a third of its time, which takes Redis up to its own timeout.
        self.leases.lasts_s = max(self.tiers.redis_limits.lease, 3 * self.tiers.redis_limits.timeout)
        self.memory.resize(loaded.memory.max_size)
        self.metrics.reloaded_at = time()
        logs.configure(level=loaded.log.level, form=loaded.log.format)

    async def reload(self) -> Reloaded:
        """Read the file again. A bad one changes nothing."""
        # One after the other: what was read first must not be applied last.
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> Reloaded:
        try:
            # In a thread: two thousand routes take seconds to check.
            loaded = await asyncio.to_thread(config_file.load, self.path, os.environ)
        except BadConfig as error:
            self.metrics.reload_failures += 1
            problems = tuple(str(problem) for problem in error.problems)
            log.error("config not reloaded; the last good one goes on", problems=problems)  # noqa: TRY400 - no trace: a typo is no defect
            return Reloaded(problems=problems)
        old, fixed = self.config, _fixed_at_start(self._started_with, loaded)
        self._apply(self._configured(loaded))
        # What is under way at the old upstream goes on; its idle connections do not.
        old.upstream.close()
        self._keep_warm()
        log.info("config reloaded", routes=len(loaded.routes), needs_restart=fixed)
        return Reloaded(needs_restart=fixed)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            now = await asyncio.to_thread(_fingerprint, self.path)
            if now is not None and now != self._seen:
                self._seen = now
                await self.reload()

    # -- what the admin port asks for --

    async def warm(self, names: Sequence[str]) -> dict[str, str]:
        """Fetch warm resources now; all of them where no name is given. Returns `ok` or what went wrong, by name."""
        wanted = self.config.settings.warm
        chosen = [resource for resource in wanted if not names or resource.name in names]
        return await self.warmer.warm(chosen, forced=True)

    async def purge(self, names: Sequence[Name], *, soft: bool) -> bool:
        """Purge. False if the other replicas will learn of it later."""
        return await self.purge_log.purge(self._as_stored(names), soft=soft)

    async def purge_and_wait(self, names: Sequence[Name], *, soft: bool, timeout_s: float) -> Reached:
        """Purge, and wait until all replicas have applied it."""
        return await self.purge_log.purge_and_wait(self._as_stored(names), soft=soft, timeout_s=timeout_s)

    def _as_stored(self, names: Sequence[Name]) -> list[Name]:
        return [as_stored(name, self.config.routes) for name in names]

    # -- life --

    def unready(self) -> list[str]:
        """Why the proxy should get no new requests; empty if it may. Neither Redis nor the API is among them."""
        reasons = []
        if self.front.draining:
            reasons.append("draining")
        if "data" not in self.addresses:
            reasons.append("not listening")
        if not self.warmed:
            reasons.append("warming")
        return reasons

    async def start_stores(self) -> None:
        """Connect to Redis and read the purge log, for a bounded time; what is not there yet is awaited behind."""
        if self.redis is not None:
            await self.redis.start()
            await self.purge_log.catch_up(_CATCH_UP_S if self.redis.up else 0.0)
        self.tasks.spawn(self.purge_log.follow(), name="purge log")
        self.tasks.spawn(self._sweep(), name="memory sweeper")
        if self.hot is not None:
            self.tasks.spawn(self.hot.tell(), name="hot keys")
        if self.sweeper is not None:
            self.tasks.spawn(self.sweeper.sweep(), name="redis sweeper")
        self.tasks.spawn(self._watch(), name="config watcher")
        self.tasks.spawn(self.warmer.watch(), name="purged warm resources")

    async def warm_up(self) -> None:
        """Warm all resources once; required ones, and what is hot elsewhere, hold readiness back for a bounded time."""
        loaded = self.config.settings
        required = [resource for resource in loaded.warm if resource.required]
        await self._log_is_read()
        with suppress(TimeoutError):
            async with asyncio.timeout(_WARM_WAIT_S):
                if self.hot is not None and self.redis is not None and self.redis.up:
                    named = {route.name: route for route in self.config.routes.routes}
                    await self.hot.preload(named, loaded.memory)
                await self.warmer.warm(required, forced=False)
        self.warmed = True
        self._keep_warm()

    async def _log_is_read(self) -> None:
        """Until then nothing that Redis has can be used. A long log takes seconds."""
        deadline = monotonic() + _LOG_WAIT_S
        while self.redis is not None and self.redis.up and self.purge_log.is_behind:
            if monotonic() >= deadline:
                return
            await asyncio.sleep(_LAST_LOOK_S)

    def _keep_warm(self) -> None:
        for task in self._warming:
            task.cancel()
        self._warming = [
            self.tasks.spawn(self.warmer.keep_warm(resource), name=f"warm {resource.name}")
            for resource in self.config.settings.warm
        ]

    async def _sweep(self) -> None:
        offset_s = time() - monotonic()
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.tiers.sweep(time())
            jumped_s = time() - monotonic() - offset_s
            offset_s += jumped_s
            if abs(jumped_s) > _JUMP_S:
                # What is stored says itself until when it is good, and what is from the future is not used.
                log.warning("the clock jumped", by_s=round(jumped_s, 1))
                self.tiers.clock_jumped(jumped_s)
                self.handler.forget_marks()

    async def drain(self, stop_listening: Callable[[], None]) -> None:
        """Let go of the clients: tell them, then take no more, then finish what is in flight, within bounds."""
        limits = self.config.settings.drain
        self.front.draining = True
        self.hits.close()
        log.info("draining", inflight=self.access.inflight)
        await asyncio.sleep(limits.delay)
        stop_listening()
        deadline = monotonic() + limits.timeout
        await asyncio.sleep(_LAST_LOOK_S)
        while self.access.inflight and monotonic() < deadline:  # noqa: ASYNC110 - the count changes in many places
            await asyncio.sleep(_LAST_LOOK_S)
        if self.access.inflight:
            log.warning("requests were cut off", inflight=self.access.inflight)

    async def close(self) -> None:
        """End everything."""
        await self.purge_log.leave()
        await self.tasks.close(timeout_s=1.0)
        self.config.upstream.close()
        if self.redis is not None:
            await self.redis.close()


def _fixed_at_start(old: settings.Settings, new: settings.Settings) -> tuple[str, ...]:
    """Settings that changed in the file and take effect only at the next start."""
    pairs = {
        "listen": (old.listen, new.listen),
        "admin.listen": (old.admin.listen, new.admin.listen),
        "redis": (old.redis, new.redis),
        "client.express": (old.client.express, new.client.express),
        "client.max_line": (old.client.max_line, new.client.max_line),
        "client.max_field": (old.client.max_field, new.client.max_field),
        "client.max_fields": (old.client.max_fields, new.client.max_fields),
        "client.max_head": (old.client.max_head, new.client.max_head),
    }
    return tuple(name for name, (before, after) in pairs.items() if before != after)


def _fingerprint(path: str) -> tuple[str, int, int, int] | None:
    """Changes when the file does, also where a ConfigMap swaps the link that leads to it. None while it is missing."""
    try:
        real = os.path.realpath(path)
        found = os.stat(real)  # noqa: PTH116 - as cheap as it gets: it runs every second
    except OSError:
        return None
    return real, found.st_mtime_ns, found.st_size, found.st_ino


def _version() -> str:
    try:
        return version("crowdgate")
    except PackageNotFoundError:
        return "0"


@asynccontextmanager
async def running(proxy: Proxy) -> AsyncIterator[Proxy]:
    """A proxy that listens. Leaving drains and ends it. Raises CannotListen, EmbeddedError."""
    loaded = proxy.config.settings
    async with AsyncExitStack() as stack:
        stack.push_async_callback(proxy.close)
        admin = serving(proxy, *_host_and_port(loaded.admin.listen))
        proxy.addresses["admin"] = await _open(stack, admin, "admin.listen", loaded.admin.listen)
        await proxy.start_stores()
        data = listening(proxy.front, proxy.hits, proxy.passages, *_host_and_port(loaded.listen))
        server = await _open(stack, data, "listen", loaded.listen)
        proxy.addresses["data"] = server.address
        proxy.tasks.spawn(proxy.warm_up(), name="warm up")
        log.info("listening", **proxy.addresses)
        # What is alive now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        # Young objects are looked at after so many new ones: with Python's own 700 that takes a fifteenth of the time of
        # a busy process, which makes hardly any that die no other way.
        gc.set_threshold(_YOUNG, 20, 50)
        # Threads (a config being read, figures for a person) let go of the interpreter after so long when requests come.
        sys.setswitchinterval(_SWITCH_S)
        yield proxy
        await proxy.drain(server.stop_listening)


T = TypeVar("T")


async def _open(stack: AsyncExitStack, port: AbstractAsyncContextManager[T], option: str, address: str) -> T:
    try:
        return await stack.enter_async_context(port)
    except OSError as error:
        why = {errno.EADDRINUSE: "the port is taken", errno.EACCES: "the port may not be opened"}
        reason = why.get(error.errno or 0, error.strerror or "it cannot be opened")
        raise CannotListen(
            f"{option}: {address}: {reason}; choose another with `{option}:` or {_variable(option)}"
        ) from error


def _variable(option: str) -> str:
    return "CROWDGATE_" + option.upper().replace(".", "__")


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


async def serve(proxy: Proxy) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reloads. A second signal ends at once."""
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()

    def end() -> None:
        if ending.is_set():
            os._exit(1)
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, lambda: proxy.tasks.spawn(proxy.reload(), name="reload"))
    async with running(proxy):
        await ending.wait()


def run(path: str) -> int:
    """The process's exit code: 0 after a drain, 1 where it could not start, 2 for a bad config."""
    try:
        loaded = config_file.load(path, os.environ)
    except BadConfig as error:
        print(*error.problems, sep="\n", file=sys.stderr)  # noqa: T201 - before there is a log
        return 2
    logs.configure(level=loaded.log.level, form=loaded.log.format)

    async def main() -> None:
        await serve(Proxy(path, loaded))

    try:
        uvloop.run(main())
    except (CannotListen, EmbeddedError) as error:
        print(f"crowdgate-proxy: {error}", file=sys.stderr)  # noqa: T201 - for the person who started it
        return 1
    return 0
