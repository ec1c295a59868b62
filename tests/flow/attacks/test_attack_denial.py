"""Whoever makes the API fail has the error for himself: nobody else gets it, and what is good is cached as before."""

import asyncio
import struct
from socket import SO_LINGER, SOL_SOCKET

import pytest

from tests.claims import attack
from tests.flow.attacks.site import Site
from tests.flow.client import Response, request
from tests.flow.origin import Answer, Asked, framed, ok

pytestmark = pytest.mark.asyncio(loop_scope="module")

CPDOS = "denial by a cached error"
CACHED = ("Cache-Control: public, max-age=60", "X-Error: yes")


@pytest.fixture(scope="module")
def config() -> str:
    return """
routes:
  - {match: "/{site}/named", ttl: 1m, status_ttl: {400: 1m, 404: 1m}}
  - {match: "/{site}/swr", ttl: 1s, stale_while_revalidate: 1m, stale_if_error: 1m}
  - {match: "/**", ttl: 1m}
"""


def failing(status: str, *names: str) -> Answer:
    """An API that answers badly, and says that it may be kept, where a request has one of these fields."""

    async def answer(asked: Asked) -> None:
        odd = any(asked.get(name) for name in names)
        await (ok(b"bad", *CACHED, status=status) if odd else ok(b"good"))(asked)

    return answer


PROVOKING = [
    pytest.param(f"X-Oversized: {'x' * 5000}", "431 Too Large", id="a field larger than the API takes"),
    pytest.param(f"X-Oversized: {'x' * 8000}", "400 Bad", id="a field as large as we take"),
    pytest.param("X-Meta: \xff\x80", "400 Bad", id="bytes beyond ASCII"),
    pytest.param("X-HTTP-Method-Override: POST", "405 Not Allowed", id="another method: 405"),
    pytest.param("X-HTTP-Method-Override: NONE", "501 Not Implemented", id="another method: 501"),
    pytest.param("X-HTTP-Method: DELETE", "404 Not Found", id="another method: 404"),
    pytest.param("X-Rewrite-URL: /none", "404 Not Found", id="another URL"),
    pytest.param("X-Forwarded-Port: 1", "302 Found", id="another port"),
    pytest.param("X-Forwarded-Proto: http", "301 Moved", id="another scheme"),
    pytest.param("Range: bytes=99999-", "416 Range Not Satisfiable", id="a range"),
    pytest.param("Content-Type: x", "415 Unsupported Media Type", id="a media type of no body"),
    pytest.param("Content-Encoding: x", "415 Unsupported Media Type", id="a coding of no body"),
    pytest.param("Content-Range: bytes 0-1/2", "400 Bad", id="a part of no body"),
    pytest.param("Origin: https://evil.test", "403 Forbidden", id="an origin"),
    pytest.param("Access-Control-Request-Method: X", "403 Forbidden", id="half a preflight"),
    pytest.param("Expect: evil", "417 Expectation Failed", id="an expectation"),
    pytest.param("Accept: none/of-these", "406 Not Acceptable", id="a media type"),
    pytest.param("Accept-Encoding: none", "406 Not Acceptable", id="a coding"),
    pytest.param("Accept-Language: none", "406 Not Acceptable", id="a language"),
    pytest.param("Accept-Charset: none", "406 Not Acceptable", id="a charset"),
    pytest.param("User-Agent: sqlmap", "403 Forbidden", id="a client that a firewall bans"),
    pytest.param("Referer: https://evil.test/", "403 Forbidden", id="a referer that is banned"),
    pytest.param("X-Forwarded-For: 6.6.6.6", "403 Forbidden", id="an address that is banned"),
    pytest.param("X-Real-IP: 6.6.6.6", "429 Too Many Requests", id="an address that asks too often"),
    pytest.param("X-Any: ../../etc/passwd", "403 Forbidden", id="a value that a firewall bans"),
    pytest.param("Cookie: bad;;=", "400 Bad", id="a malformed cookie"),
    pytest.param("Authorization: Bearer none", "401 Unauthorized", id="a bad credential"),
    pytest.param("Authorization: Bearer none", "403 Forbidden", id="a credential without rights"),
    pytest.param("If-None-Match: bad", "400 Bad", id="a malformed condition"),
    pytest.param("If-Modified-Since: bad", "400 Bad", id="a malformed date"),
    pytest.param("If-Match: bad", "412 Precondition Failed", id="a condition that fails"),
    pytest.param("X-Crash: yes", "500 Internal Server Error", id="a crash: 500"),
]


@attack(
    CPDOS,
    "a field that makes the API answer with an error that may be stored, on a URL that is not stored yet",
)
@pytest.mark.parametrize(("line", "status"), PROVOKING)
async def test_an_error_is_not_stored_for_others(site: Site, line: str, status: str) -> None:
    site.answers(failing(status, line.partition(":")[0]))
    await site.get("", line)

    assert (await site.unharmed()).body == b"good"


@attack(
    CPDOS, "a field that makes the API fail, again and again, so that what is good is not cached meanwhile"
)
@pytest.mark.parametrize(("line", "status"), PROVOKING)
async def test_an_error_does_not_keep_the_good_from_being_cached(site: Site, line: str, status: str) -> None:
    site.answers(failing(status, line.partition(":")[0]))
    await site.get("", line)
    assert (await site.unharmed()).body == b"good"

    await site.unharmed_and_cached()


@attack(CPDOS, "a field that makes the API fail, with no-cache, on a URL whose good answer is stored")
@pytest.mark.parametrize(("line", "status"), PROVOKING)
async def test_an_error_does_not_push_out_what_is_good(site: Site, line: str, status: str) -> None:
    site.answers(failing(status, line.partition(":")[0]))
    await site.get()
    await site.get("", line, "Cache-Control: no-cache")

    assert (await site.unharmed()).body == b"good"
    assert (await site.unharmed()).cache.startswith("hit")


@attack(
    CPDOS, "a field that makes the API fail or crash, together with clean requests that wait for one answer"
)
@pytest.mark.parametrize(
    "status",
    [
        "400 Bad",
        "403 Forbidden",
        "431 Too Large",
        "500 Internal Server Error",
        "RST in the middle of the body",
        "nothing",
    ],
)
async def test_who_waits_behind_an_odd_request_gets_no_error(site: Site, status: str) -> None:
    async def slowly(asked: Asked) -> None:
        await asyncio.sleep(0.1)
        if not asked.get("content-type"):
            await ok(b"good")(asked)
        elif status[0].isdigit():
            await ok(b"bad", *CACHED, status=status)(asked)
        else:
            await breaking_off(asked, status)

    site.answers(slowly)
    odd = asyncio.ensure_future(site.get("", "Content-Type: x"))
    await asyncio.sleep(0.05)
    clean = await asyncio.gather(*(site.get() for _ in range(5)))
    await odd

    assert [answer.brief for answer in clean] == [(200, b"good")] * 5


async def breaking_off(asked: Asked, how: str) -> None:
    if "RST" in how:
        await asked.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\nhalf")
        await asyncio.sleep(0.02)
        socket = asked.writer.get_extra_info("socket")
        socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    asked.writer.transport.abort()


@attack(
    CPDOS,
    "a field that makes the answer one that can't be shared, so that the next ones are not cached for a while",
)
@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("X-Debug: 1", ok(b"bad", "Cache-Control: no-store")),
        ("X-Requested-With: evil", ok(b"bad", "Set-Cookie: session=1")),
        ("X-Variant: evil", ok(b"bad", "Vary: *")),
        ("X-Fields: all", ok(bytes(1_100_000))),
        ("Accept: text/event-stream", ok(b"bad", "Content-Type: text/event-stream")),
        ("X-Bad: 1", ok(b"bad", status="400 Bad")),
    ],
    ids=["no-store", "Set-Cookie", "Vary: *", "too large", "event stream", "an error without a freshness"],
)
async def test_what_cannot_be_shared_does_not_keep_the_good_from_being_cached(
    site: Site, line: str, answer: Answer
) -> None:
    async def either(asked: Asked) -> None:
        await (answer if asked.get(line.partition(":")[0]) == line.partition(": ")[2] else ok(b"good"))(asked)

    site.answers(either)
    await site.get("", line)

    await site.unharmed_and_cached()


@attack(CPDOS, "an answer that breaks off, is empty, or is reset in the middle of its body")
@pytest.mark.parametrize("how", ["RST", "nothing"])
async def test_half_an_answer_is_not_stored(site: Site, how: str) -> None:
    async def crashes(asked: Asked) -> None:
        await (breaking_off(asked, how) if asked.get("x-crash") else ok(b"good")(asked))

    site.answers(crashes)
    assert (await site.get("", "X-Crash: yes")).status == 502
    await site.unharmed_and_cached()


@attack(CPDOS, "an error to an odd request on a route that keeps such errors (`status_ttl`)")
@pytest.mark.parametrize("line", ["Content-Type: x", f"X: {'x' * 5000}", "Origin: https://evil.test"])
async def test_a_status_ttl_is_for_errors_that_everybody_gets(site: Site, line: str) -> None:
    site.answers(failing("400 Bad", line.partition(":")[0]))
    await site.get("/named", line)
    assert (await site.unharmed("/named")).body == b"good"


@attack(CPDOS, "an odd request behind a stale answer: what it gets is no news for others")
@pytest.mark.parametrize("line", ["Content-Type: x", "Origin: https://evil.test", "Cookie: bad;;="])
async def test_an_odd_request_does_not_spoil_what_is_stale(site: Site, line: str) -> None:
    site.answers(ok(b"good", "Cache-Control: max-age=1, stale-while-revalidate=60", "Age: 2"))
    await site.get("/swr")
    site.answers(failing("400 Bad", line.partition(":")[0]))
    assert (await site.get("/swr", line)).body in {b"good", b"bad"}
    await asyncio.sleep(0.05)

    assert (await site.get("/swr")).brief == (200, b"good")


@attack(CPDOS, "a redirect to another scheme, host or port, cached")
@pytest.mark.parametrize(
    "name", ["X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "Forwarded"]
)
async def test_a_redirect_by_a_field_is_its_sender_s(site: Site, name: str) -> None:
    async def redirecting(asked: Asked) -> None:
        if said := asked.get(name):
            to = f"Location: http://{said}/"
            return await asked.send(framed(b"", to, "Cache-Control: max-age=60", status="301 Moved"))
        return await ok(b"good")(asked)

    site.answers(redirecting)
    assert (await site.get("", f"{name}: proto=evil")).status == 301
    await site.unharmed_and_cached()


@attack(CPDOS, "Expect, Upgrade and HTTP/2 settings that an API refuses")
@pytest.mark.parametrize(
    "lines",
    [
        ["Expect: 100-continue"],
        ["Expect: 100-continue, evil"],
        ["Connection: Upgrade", "Upgrade: h2c"],
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"],
        ["Connection: x-crash", "X-Crash: 1"],
        ["TE: trailers, evil"],
    ],
)
async def test_what_belongs_to_a_hop_makes_no_stored_error(site: Site, lines: list[str]) -> None:
    names = ("expect", "upgrade", "http2-settings", "x-crash", "te")
    site.answers(failing("417 Expectation Failed", *names))
    answer: Response = await site.send(request(site.path, *lines))
    assert answer.status in {200, 400, 417}

    await site.unharmed()
