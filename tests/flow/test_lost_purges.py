"""Redis loses the purge log, or its end, while a replica looks away: nothing that was purged is served for it."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.crc import key_slot

from tests import servers
from tests.faults import FaultProxy, fault_proxy
from tests.flow.client import fetch
from tests.flow.origin import Asked, Origin, ok
from tests.flow.processes import Proxy, running

LOG = "crowdgate:purges"
# Until a lost log, or a lost end of it, is noticed and mended: the longest wait for a record, a rest, a spread.
NOTICED_S = 4.0


def config(api: Origin, redis: str) -> str:
    return f"""
upstream: {{url: {api.url}}}
redis: {{{redis}}}
routes:
  - {{match: "/events", ttl: 10m, tags: [events]}}
  - {{match: "/kept", ttl: 10m, tags: [kept]}}
"""


class State:
    def __init__(self, api: Origin) -> None:
        self.number = 0
        api.on("/events", self.answer)
        api.on("/kept", self.answer)

    async def answer(self, asked: Asked) -> None:
        await ok(b"%d" % self.number)(asked)


async def purge(proxy: Proxy, tag: str = "events", **more: Any) -> dict[str, Any]:
    body = json.dumps({"tags": [tag], **more}).encode()
    done: dict[str, Any] = json.loads((await proxy.asked("/api/purge", method="POST", body=body)).body)
    return done


async def body_of(proxy: Proxy, target: str = "/events") -> bytes:
    return (await fetch(proxy.port, target)).body


async def readable(proxy: Proxy, *, wanted: bool = True) -> None:
    async with asyncio.timeout(10):
        while json.loads((await proxy.asked("/api/stats")).body)["purges"]["log_readable"] is not wanted:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def one_away(api: Origin, server: servers.Server) -> AsyncIterator[tuple[Proxy, Proxy, FaultProxy]]:
    """Two replicas, of which the second reaches Redis through something that can fail."""
    async with (
        fault_proxy(server.port) as between,
        running(config(api, f"url: '{server.url}'")) as a,
        running(config(api, f"url: 'redis://127.0.0.1:{between.port}'")) as b,
    ):
        yield a, b, between


LOSSES: dict[str, Callable[[servers.Server], Any]] = {
    "killed and started empty": lambda server: server.restart(),
    "FLUSHALL": lambda server: server.command("FLUSHALL"),
    "the log evicted": lambda server: server.command("DEL", LOG),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
async def test_a_replica_that_was_away_while_the_log_was_lost_and_purges_were_made_serves_nothing_old(
    api: Origin, redis_server: servers.Server, lose: Callable[[servers.Server], Any]
) -> None:
    state = State(api)
    async with one_away(api, redis_server) as (a, b, between):
        assert [await body_of(proxy) for proxy in (a, b)] == [b"0", b"0"]
        between.set(refuse=True)
        between.reset_all()
        await readable(b, wanted=False)
        state.number += 1
        # One that the log loses, one that the next log has, and one more.
        await purge(a)
        lose(redis_server)
        await a.until("crowdgate_purge_log_losses_total", 1)
        await readable(a)
        for tag in ("another", "and another"):
            await purge(a, tag)
        # For as long as memory may be served while the log can't be read.
        assert await body_of(b) == b"0"
        between.set()
        await readable(b)

        assert [await body_of(proxy) for proxy in (a, b)] == [b"1", b"1"]
        assert await b.metric("crowdgate_purge_log_losses_total") == 1


async def test_a_replica_that_starts_after_the_log_was_evicted_trusts_nothing_from_before(
    api: Origin, redis_server: servers.Server
) -> None:
    state = State(api)
    async with running(config(api, f"url: '{redis_server.url}'")) as a:
        before = await a.metric("crowdgate_redis_seconds_count", op="put")
        await body_of(a)
        await a.until("crowdgate_redis_seconds_count", before + 1, op="put")
        state.number += 1
        await purge(a)
        redis_server.command("DEL", LOG)
        async with running(config(api, f"url: '{redis_server.url}'")) as late:
            assert await body_of(late) == b"1"


@pytest.fixture(scope="module")
def needs_server() -> None:
    if servers.binary() is None:
        pytest.skip(f"no Redis: {servers.REMEDY}")


async def test_purges_that_a_clusters_failover_lost_are_put_back_by_those_who_know_them(
    api: Origin, needs_server: None
) -> None:
    state = State(api)
    with servers.cluster(replicas=3) as nodes:
        owner = next(node for node in nodes[:3] if _serves_log(node))
        spare = nodes[3 + nodes.index(owner)]
        urls = ",".join(node.url for node in nodes[:3])
        text = config(api, f"mode: cluster, url: '{urls}'")
        async with AsyncExitStack() as stack:
            a, b, c = [await stack.enter_async_context(running(text)) for _ in range(3)]
            await a.until("crowdgate_replicas", 3)
            for target in ("/events", "/kept"):
                assert [await body_of(proxy, target) for proxy in (a, b, c)] == [b"0"] * 3
            # A replica's first copy of everything takes seconds.
            await asyncio.to_thread(servers.until, lambda: _has_log(spare), "replication")
            # The third replica and the second server look away; the log's end is in the first server alone.
            c.send(signal.SIGSTOP)
            owner.command("ACL", "SETUSER", "default", "-psync")
            owner.command("CLIENT", "KILL", "TYPE", "replica")
            state.number += 1
            await purge(a)
            await b.until("crowdgate_purges_total", 1)
            (lost, _) = owner.command("XREVRANGE", LOG, "+", "-", "COUNT", "1")[0]
            owner.kill()
            await asyncio.to_thread(servers.until, lambda: _is_master(spare), "the failover")
            (last, _) = spare.command("XREVRANGE", LOG, "+", "-", "COUNT", "1")[0]
            assert last != lost
            c.send(signal.SIGCONT)
            for proxy in (a, b, c):
                await readable(proxy)
            async with asyncio.timeout(NOTICED_S):
                while await body_of(c) != b"1":
                    await asyncio.sleep(0.02)

            assert [await body_of(proxy) for proxy in (a, b, c)] == [b"1"] * 3
            # What was not purged was not dropped.
            assert [await body_of(proxy, "/kept") for proxy in (a, b, c)] == [b"0"] * 3
            assert [await proxy.metric("crowdgate_purge_log_losses_total") for proxy in (a, b, c)] == [0] * 3


def _serves_log(node: servers.Server) -> bool:
    slots = node.command("CLUSTER", "SLOTS")
    slot = key_slot(LOG.encode())
    return any(first <= slot <= last and int(master[1]) == node.port for first, last, master, *_ in slots)


def _has_log(node: servers.Server) -> bool:
    with node.session() as session:
        session.command("READONLY")
        return bool(session.command("XLEN", LOG))


def _is_master(node: servers.Server) -> bool:
    return node.info("replication")["role"] == "master"
