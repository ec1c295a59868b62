"""What an attacker found in review: each was real once."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.claims import attack
from tests.flow.client import connected, fetch, request
from tests.flow.origin import Answer, Asked, Origin, framed, numbered, ok, origin
from tests.flow.processes import Proxy, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
CPDOS = "denial by a cached error"
ETAG = 'ETag: "v1"'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(api: Origin) -> AsyncIterator[Proxy]:
    config = f"""
upstream: {{url: {api.url}, max_connections: 8}}
redis: {{mode: embedded}}
routes:
  - {{match: "/kept/**", ttl: 1m}}
  - {{match: "/short/**", ttl: 1s}}
  - {{match: "/busy/**", ttl: 1m, status_ttl: {{503: 1m}}}}
  - {{match: "/**"}}
"""
    async with running(config) as started:
        yield started


@attack(
    "slow clients",
    "HEAD whose client resets as the API answers, again and again: no connection to the API is lost",
)
async def test_a_head_that_is_broken_off_holds_no_connection(api: Origin, proxy: Proxy) -> None:
    api.on("/kept/head", ok(b"body", ETAG))
    await fetch(proxy.port, "/kept/head")
    for _ in range(40):
        async with connected(proxy.port) as client:
            await client.send(request("/kept/head", "Cache-Control: no-cache", method="HEAD"))
            await asyncio.sleep(0.002)
            client.abort()
    async with asyncio.timeout(5):
        while await proxy.metric("crowdgate_upstream_inflight"):
            await asyncio.sleep(0.01)

    assert (await fetch(proxy.port, "/kept/head", method="POST")).status == 200


@attack("cache poisoning", "a HEAD without a validator: it renews nothing, and plants no field")
@pytest.mark.parametrize("length", [[], ["Content-Length: 0"]])
async def test_a_head_without_a_validator_says_nothing(api: Origin, proxy: Proxy, length: list[str]) -> None:
    async def answer(asked: Asked) -> None:
        if asked.method == "HEAD":
            head = "\r\n".join(("HTTP/1.1 200 OK", "Content-Type: text/html", *length, "", ""))
            return await asked.send(head.encode())
        return await ok(b"{}", "Content-Type: application/json")(asked)

    path = f"/kept/type{len(length)}"
    api.on(path, answer)
    await fetch(proxy.port, path)
    await fetch(proxy.port, path, "Cache-Control: no-cache", method="HEAD")

    stored = await fetch(proxy.port, path)
    assert (stored.get("content-type"), stored.cache[:3]) == ("application/json", "hit")


@attack("needless load", "what can't be stored keeps its 304s: a client's own conditions reach the API")
@pytest.mark.parametrize(
    "lines",
    [["Cache-Control: private"], [], ["Cache-Control: no-store"]],
    ids=["private", "no freshness", "no-store"],
)
async def test_what_cannot_be_stored_keeps_its_304s(api: Origin, proxy: Proxy, lines: list[str]) -> None:
    async def answer(asked: Asked) -> None:
        if asked.get("if-none-match") == '"v1"':
            return await asked.send(framed(b"", *lines, ETAG, status="304 Not Modified"))
        return await ok(b"body", *lines, ETAG)(asked)

    path = f"/own/{len(''.join(lines))}"
    api.on(path, answer)
    statuses = [(await fetch(proxy.port, path, 'If-None-Match: "v1"')).status for _ in range(8)]

    assert statuses.count(200) <= 1


@attack("needless load", "a crowd with as many different copies as clients, on a cold key")
async def test_conditions_do_not_split_a_crowd(api: Origin, proxy: Proxy) -> None:
    async def slowly(asked: Asked) -> None:
        await asyncio.sleep(0.2)
        await ok(b"body", ETAG)(asked)

    api.on("/kept/crowd", slowly)
    crowd = [fetch(proxy.port, "/kept/crowd", f'If-None-Match: "{number}"') for number in range(60)]
    answers = await asyncio.gather(*crowd)

    assert {answer.brief for answer in answers} == {(200, b"body")}
    assert api.count("/kept/crowd") <= 2


@attack("needless load", "writes to other resources while a crowd waits: they still wait for one fetch")
async def test_writes_elsewhere_do_not_split_a_crowd(api: Origin, proxy: Proxy) -> None:
    async def slowly(asked: Asked) -> None:
        await asyncio.sleep(0.6)
        await ok(b"body")(asked)

    api.on("/kept/cold", slowly)
    waiting = []
    for number in range(20):
        waiting.append(asyncio.ensure_future(fetch(proxy.port, "/kept/cold")))
        await fetch(proxy.port, f"/kept/other-{number}", method="POST", body=b"x")
    await asyncio.gather(*waiting)

    assert api.count("/kept/cold") == 1


@attack(CPDOS, "an overloaded API is protected by what it says, whatever its clients send")
async def test_an_overloaded_api_is_asked_once(api: Origin, proxy: Proxy) -> None:
    api.on("/busy/now", ok(b"busy", status="503 Busy"))
    for number in range(20):
        await fetch(proxy.port, "/busy/now", f"User-Agent: {number} agents", f"CF-Ray: {number}-FRA")

    assert api.count("/busy/now") == 1


@attack("cache poisoning", "stale-if-error of one client gives nothing stale to those who wait with it")
async def test_one_client_s_stale_if_error_is_its_own(api: Origin, proxy: Proxy) -> None:
    path, failing = "/stale/one", asyncio.Event()

    async def answer(asked: Asked) -> None:
        if failing.is_set():
            await asyncio.sleep(0.2)
            return await ok(b"ill", status="503 Ill")(asked)
        return await ok(b"old", "Cache-Control: max-age=60", "Age: 61", ETAG)(asked)

    api.on(path, answer)
    await fetch(proxy.port, path)
    failing.set()
    lenient = asyncio.ensure_future(fetch(proxy.port, path, "Cache-Control: stale-if-error=600"))
    await asyncio.sleep(0.05)
    strict = await fetch(proxy.port, path)

    assert ((await lenient).brief, strict.status) == ((200, b"old"), 503)


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.2"])
async def test_clients_that_offer_an_upgrade_are_served_from_the_store(
    api: Origin, proxy: Proxy, upgrade: str
) -> None:
    api.on("/kept/java", ok(b"body"))
    lines = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAMAAABk")
    await fetch(proxy.port, "/kept/java", *lines)

    assert (await fetch(proxy.port, "/kept/java", *lines)).cache.startswith("hit")


def no_cors(answer: Answer) -> Answer:
    """An API that adds CORS fields for whoever sends Origin, and says no Vary."""

    async def answering(asked: Asked) -> None:
        said = asked.get("origin")
        await (ok(b"cors", f"Access-Control-Allow-Origin: {said}")(asked) if said else answer(asked))

    return answering


@attack(
    "cache poisoning", "a client without Origin takes the CORS fields from those with one, or the other way"
)
async def test_cors_fields_are_for_those_who_need_them(api: Origin, proxy: Proxy) -> None:
    api.on("/kept/cors", no_cors(numbered()))
    allowed = [
        (await fetch(proxy.port, "/kept/cors", *lines)).get("access-control-allow-origin")
        for lines in ([], ["Origin: http://a.test"], [], ["Origin: http://b.test"], ["Origin: http://a.test"])
    ]

    assert allowed == ["", "http://a.test", "", "http://b.test", "http://a.test"]
