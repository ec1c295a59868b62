"""However many keys somebody makes up, memory and Redis stay within their bounds, and what is asked for often is served."""

import asyncio
import json
import random
import re

import pytest

from tests import servers
from tests.claims import attack
from tests.flow.attacks.site import Site, telling
from tests.flow.client import connected, request
from tests.flow.origin import Origin, ok
from tests.flow.processes import Proxy, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXPLOSION = "invented keys"
MAX_VARIANTS = 64
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
MAX_BYTES = 2 * 1024 * 1024


@pytest.fixture(scope="module")
def config() -> str:
    return """
memory: {max_size: 2MiB}
routes: [{match: "/**", ttl: 5m}]
"""


async def flood(port: int, requests: list[bytes], connections: int = 2) -> list[bytes]:
    """All of them, some at a time, on few connections; the statuses. No body may look like an answer."""

    async def some(mine: list[bytes]) -> list[bytes]:
        statuses: list[bytes] = []
        async with connected(port) as client:
            for start in range(0, len(mine), 32):
                batch, got, found = mine[start : start + 32], b"", list[bytes]()
                await client.send(b"".join(batch))
                while len(found) < len(batch):
                    piece = await client.reader.read(2**20)
                    assert piece, "closed"
                    got += piece
                    found = _STATUS.findall(got)
                statuses += found
        return statuses

    answers = await asyncio.gather(*(some(requests[number::connections]) for number in range(connections)))
    return [status for statuses in answers for status in statuses]


async def entries(proxy: Proxy, path: str) -> int:
    listed = json.loads((await proxy.asked("/api/entries?limit=1000")).body)["entries"]
    return sum(entry["url"].startswith(path) for entry in listed)


@attack(EXPLOSION, "10,000 values of Accept-Language on one URL that varies by it")
async def test_invented_languages_stay_within_max_variants(site: Site) -> None:
    site.answers(ok(b"x" * 500, "Vary: Accept-Language"))
    before = site.proxy.rss
    made_up = [request(site.path, f"Accept-Language: x-{random.random()}") for _ in range(10_000)]
    assert set(await flood(site.proxy.port, made_up)) == {b"200"}

    assert await entries(site.proxy, site.path) <= MAX_VARIANTS
    assert site.proxy.rss - before < 24 * 1024 * 1024
    await site.unharmed_and_cached("", "Accept-Language: de")


@attack(EXPLOSION, "invented variants while real ones are asked for: these stay")
async def test_a_variant_that_is_asked_for_works_amid_invented_ones(site: Site) -> None:
    site.answers(telling("Vary: Accept-Language", of="accept-language"))
    for round_ in range(5):
        made_up = [request(site.path, f"Accept-Language: x-{round_}-{number}") for number in range(200)]
        await flood(site.proxy.port, made_up)
        for language in ("de", "en"):
            await site.unharmed_and_cached("", f"Accept-Language: {language}")


@attack(EXPLOSION, "thousands of query strings and of Host names: memory stays within memory.max_size")
@pytest.mark.parametrize("kind", ["query", "host", "path", "forwarded"])
async def test_invented_urls_and_hosts_stay_within_max_size(site: Site, kind: str) -> None:
    site.answers(ok(b"x" * 4000))
    made_up = []
    for number in range(1000):
        target = (
            f"{site.path}?{number}"
            if kind == "query"
            else f"{site.path}/{number}"
            if kind == "path"
            else site.path
        )
        lines = {"host": [f"Host: h{number}.test"], "forwarded": [f"X-Forwarded-Host: h{number}.test"]}.get(
            kind, []
        )
        made_up.append(request(target, *lines))
    assert set(await flood(site.proxy.port, made_up)) == {b"200"}

    assert await site.proxy.metric("crowdgate_memory_bytes") <= MAX_BYTES
    await site.unharmed_and_cached()


@attack(
    EXPLOSION,
    "hundreds of URLs and conditions whose answers can't be shared: what is remembered of them is bounded",
)
async def test_marks_that_are_kept_per_request_are_bounded(site: Site) -> None:
    site.answers(ok(b"x" * 100, "Cache-Control: no-store"))
    before = site.proxy.rss
    made_up = [request(f"{site.path}?{number}", f'If-None-Match: "{number}"') for number in range(1500)]
    assert set(await flood(site.proxy.port, made_up)) == {b"200"}

    assert site.proxy.rss - before < 16 * 1024 * 1024


@attack(EXPLOSION, "metrics by invented methods, paths and statuses")
async def test_metrics_do_not_grow_with_what_clients_make_up(site: Site) -> None:
    async def size() -> int:
        return len((await site.proxy.asked("/metrics")).body.splitlines())

    await flood(site.proxy.port, [request(site.path, method=f"M{number}") for number in range(3)])
    before = await size()
    await flood(
        site.proxy.port, [request(f"{site.path}/{number}", method=f"M{number}") for number in range(200)]
    )

    assert await size() <= before + 2


@attack(EXPLOSION, "invented languages with Redis: no more variants of one URL there than in memory")
async def test_invented_languages_do_not_fill_redis(api: Origin, redis_server: servers.Server) -> None:
    api.on("/shared", ok(b"x" * 500, "Vary: Accept-Language"))
    config = f"""
upstream: {{url: {api.url}}}
redis: {{url: '{redis_server.url}', timeout: 1s}}
routes: [{{match: "/**", ttl: 5m}}]
"""
    async with running(config) as proxy:
        made_up = [request("/shared", f"Accept-Language: x-{number}") for number in range(600)]
        assert set(await flood(proxy.port, made_up)) == {b"200"}
        # Beside them are leases, for seconds.
        keys = len(redis_server.command("KEYS", "crowdgate:e:*"))
        # One signpost; the purge log is a key or two.
        assert keys <= MAX_VARIANTS + 4
        shared = Site(api=api, proxy=proxy, path="/shared")
        await shared.unharmed_and_cached("", "Accept-Language: de")
