"""What happens at the same moment on several replicas, or while Redis is far away: found by review, one test each."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests import servers
from tests.faults import FaultProxy, fault_proxy
from tests.flow.client import Response, connected, fetch
from tests.flow.origin import Asked, Origin, after, framed, numbered, ok
from tests.flow.processes import Proxy, running

FAR_S = 0.03


def config(api: Origin, url: str, routes: str = '  - {match: "/**", ttl: 1m}', more: str = "") -> str:
    return (
        f"upstream: {{url: {api.url}}}\nredis: {{url: '{url}', timeout: 400ms}}\nroutes:\n{routes}\n{more}\n"
    )


@asynccontextmanager
async def replicas(*texts: str) -> AsyncIterator[list[Proxy]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(text)) for text in texts]


async def purged(proxy: Proxy, target: str) -> None:
    body = json.dumps({"urls": [target], "wait": True}).encode()
    answer = await proxy.asked("/api/purge", method="POST", body=body)
    assert (answer.status, json.loads(answer.body)["waited"]) == (200, True)


def far(way: FaultProxy) -> str:
    return f"redis://127.0.0.1:{way.port}"


async def learn(way: FaultProxy, *proxies: Proxy) -> None:
    """Redis is far away from now on, and they know."""
    way.set(delay_s=FAR_S)
    for number in range(10):
        await asyncio.gather(*(fetch(proxy.port, f"/learn/{proxy.port}/{number}") for proxy in proxies))


async def asking(proxy: Proxy, target: str, until: float) -> list[Response]:
    """One client, again and again."""
    responses = []
    async with connected(proxy.port) as client:
        while time.monotonic() < until:
            responses.append(await client.ask(target))
            await asyncio.sleep(0.01)
    return responses


async def test_what_was_purged_while_a_lease_was_asked_for_does_not_come_back_by_a_304(
    api: Origin, redis_server: servers.Server
) -> None:
    async def revalidated(asked: Asked) -> None:
        fields = ('ETag: "v1"', "Cache-Control: max-age=60")
        if asked.get("if-none-match"):
            await asked.send(framed(b"", *fields, status="304 Not Modified", of=0))
            return
        body = b"old" if api.count("/e") == 1 else b"new"
        await asked.send(framed(body, 'ETag: "v1"', "Cache-Control: max-age=1, stale-if-error=60"))

    api.on("/e", revalidated)
    patient, near_by = (
        config(api, url).replace("timeout: 400ms", "timeout: 3s") for url in ("FAR", redis_server.url)
    )
    async with (
        fault_proxy(redis_server.port) as way,
        replicas(patient.replace("FAR", far(way)), near_by) as (slow, near),
    ):
        assert (await fetch(slow.port, "/e")).body == b"old"
        await asyncio.sleep(1.1)
        # Evicted there: only this replica has it, and only stale.
        redis_server.command("DEL", *redis_server.command("KEYS", "crowdgate:e:*"))
        # The log tells of the purge before the lease is there, which is asked for when the lookup is answered.
        way.set(delay_s=0.8)
        asked = asyncio.ensure_future(fetch(slow.port, "/e"))
        await asyncio.sleep(0.1)
        await purged(near, "/e")
        way.set()
        # Where this machine is so slow that Redis seems far away, the lease came with the lookup, and the API was asked.
        was_asked = api.count("/e") == 2

        assert (await asked).body == (b"old" if was_asked else b"new")
        await asyncio.sleep(0.3)
        assert [(await fetch(proxy.port, "/e")).body for proxy in (slow, near)] == [b"new"] * 2


async def test_what_was_purged_while_the_api_was_asked_does_not_stand_in_when_that_fails(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/e", ok(b"old", "Cache-Control: max-age=1, stale-if-error=600"))
    async with replicas(config(api, redis_server.url)) as (proxy,):
        await fetch(proxy.port, "/e")
        await asyncio.sleep(1.1)
        api.on("/e", after(0.6, ok(b"ill", status="503 Ill")))
        asked = asyncio.ensure_future(fetch(proxy.port, "/e"))
        await asyncio.sleep(0.2)
        await purged(proxy, "/e")

        assert (await asked).brief == (503, b"ill")


async def test_a_purge_of_what_is_under_way_costs_the_api_one_more_request(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/e", after(0.4, numbered()))
    text = config(api, redis_server.url)
    async with replicas(text, text, text) as proxies:
        before = [asyncio.ensure_future(fetch(proxy.port, "/e")) for proxy in proxies * 3]
        await asyncio.sleep(0.2)
        await purged(proxies[0], "/e")
        responses = await asyncio.gather(*(fetch(proxy.port, "/e") for proxy in proxies * 3))
        await asyncio.gather(*before)

        assert ({response.body for response in responses}, api.count("/e")) == ({b"2"}, 2)


async def test_a_storm_of_purges_does_not_queue_the_replicas_up(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/e", after(0.4, numbered()))
    text = config(api, redis_server.url)
    async with replicas(*[text] * 5) as proxies:

        async def storm() -> None:
            while True:
                await proxies[0].asked("/api/purge", method="POST", body=b'{"urls": ["/e"]}')
                await asyncio.sleep(0.15)

        raging = asyncio.ensure_future(storm())
        began = time.monotonic()
        await asyncio.gather(*(fetch(proxy.port, "/e") for proxy in proxies))
        took_s = time.monotonic() - began
        raging.cancel()

        # Two that are waited for, and then its own; of five replicas the last would wait for four.
        assert took_s < 3 * 0.4 + 0.4


async def test_a_lease_of_another_variants_key_is_not_held_while_the_api_is_asked(
    api: Origin, redis_server: servers.Server
) -> None:
    slow = asyncio.Event()

    async def answer(asked: Asked) -> None:
        language = asked.get("accept-language")
        if language == "slow":
            await slow.wait()
        await ok(language.encode(), "Vary: Accept-Language")(asked)

    api.on("/e", answer)
    async with fault_proxy(redis_server.port) as way:
        text = config(api, far(way))
        async with replicas(text, text) as (one, other):
            await learn(way, one, other)
            await fetch(other.port, "/e", "Accept-Language: de")
            await asyncio.sleep(0.3)
            waiting = asyncio.ensure_future(fetch(one.port, "/e", "Accept-Language: slow"))
            await asyncio.sleep(0.4)
            await purged(other, "/e")
            began = time.monotonic()
            await fetch(other.port, "/e", "Accept-Language: en")
            took_s = time.monotonic() - began
            slow.set()
            await waiting

            # The other replica's patience with a holder is four seconds.
            assert took_s < 1.0


async def test_a_popular_answer_that_expires_while_another_replica_refreshes_it_sends_no_crowd_to_the_api(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/e", ok(b"1", "Cache-Control: max-age=1"))
    async with fault_proxy(redis_server.port) as way:
        text = config(api, far(way))
        async with replicas(text, text) as proxies:
            await learn(way, *proxies)
            # It is due before it expires, and here after.
            api.on("/e", after(0.7, ok(b"2", "Cache-Control: max-age=1")))
            until = time.monotonic() + 5
            found = await asyncio.gather(
                *(asking(proxy, "/e", until) for proxy in proxies for _ in range(20))
            )

            assert not [
                response.cache for each in found for response in each if "not-fresh" in response.cache
            ]
            assert api.count("/e") <= 2 + 5 / 1.0
            # Whoever finds that another is at it does not ask Redis with every request.
            lost = sum([await proxy.metric("crowdgate_leases_total", turn="lost") for proxy in proxies])
            assert lost < 150


async def test_what_is_warm_and_never_in_memory_is_refreshed_ahead_under_load(
    api: Origin, redis_server: servers.Server
) -> None:
    api.on("/w", after(0.1, numbered("Cache-Control: max-age=2")))
    warm = "warm: [{name: w, path: /w, required: true}]"
    text = config(api, redis_server.url, '  - {match: "/**", ttl: 2s, memory: false}', warm)
    async with replicas(text, text) as proxies:
        until = time.monotonic() + 7
        found = await asyncio.gather(*(asking(proxy, "/w", until) for proxy in proxies for _ in range(4)))

        assert {response.cache.split(";")[0] for each in found for response in each} == {"hit"}
        assert api.count("/w") <= 6


async def test_many_warm_resources_of_many_replicas_are_fetched_once_each_and_redis_stays_in_use(
    api: Origin, redis_server: servers.Server
) -> None:
    count = 1000
    api.on("/", after(0.1, ok(b"x", "Cache-Control: max-age=600")))
    names = "\n".join(f"  - {{name: w{n}, path: '/w/{n}', required: true}}" for n in range(count))
    text = config(api, redis_server.url, more=f"warm:\n{names}").replace(", timeout: 400ms", "")
    async with replicas(text, text, text) as proxies:
        up = [await proxy.metric("crowdgate_redis_up") for proxy in proxies]

        assert (len(api.asked), up) == (count, [1.0] * 3)


async def test_a_replica_is_ready_when_it_has_read_a_long_log_and_can_use_what_redis_has(
    api: Origin, redis_server: servers.Server
) -> None:
    add = (
        "for i=1,10000 do redis.call('XADD',KEYS[1],'*','k','tag','v','t'..i,'s','0','t',ARGV[1],'r','x') end"
    )
    warm = "warm: [{name: w, path: /w, required: true}]"
    text = config(api, redis_server.url, more=warm).replace(", timeout: 400ms", "")
    async with replicas(text) as (proxy,):
        for _ in range(12):
            redis_server.command("EVAL", add, 1, "crowdgate:purges", f"{time.time():.3f}")
        await purged(proxy, "/w")
        await asyncio.gather(*(fetch(proxy.port, target) for target in ("/w", "/y")))
        await asyncio.sleep(0.2)
        asked = len(api.asked)
        async with replicas(text) as (new,):
            found = [(await fetch(new.port, target)).cache.split(";")[0] for target in ("/w", "/y")]

    assert (found, len(api.asked)) == (["hit", "hit"], asked)


async def test_a_log_that_nobody_may_read_holds_up_no_start(
    api: Origin, redis_server: servers.Server
) -> None:
    redis_server.command("ACL", "SETUSER", "blind", "on", ">pw", "~*", "&*", "+@all", "-xread")
    began = time.monotonic()
    async with replicas(config(api, redis_server.url.replace("redis://", "redis://blind:pw@"))) as (proxy,):
        took_s = time.monotonic() - began
        assert (await fetch(proxy.port, "/e")).status == 200

    assert took_s < 6


async def test_many_new_keys_at_once_are_asked_for_once_each_however_busy_the_replicas_are(
    api: Origin, redis_server: servers.Server
) -> None:
    count = 600
    api.on("/", after(0.05, ok(b"x" * 200, "Cache-Control: max-age=600")))
    text = config(api, redis_server.url).replace(", timeout: 400ms", "")
    async with replicas(text, text) as proxies:
        asking = (fetch(proxy.port, f"/x/{number}") for number in range(count) for proxy in proxies)
        responses = await asyncio.gather(*asking)
        up = [await proxy.metric("crowdgate_redis_up") for proxy in proxies]

        assert ({response.status for response in responses}, up) == ({200}, [1.0] * 2)
        # Of those that were stored between a look and a lease some are asked for again.
        assert len(api.asked) <= 1.05 * count
