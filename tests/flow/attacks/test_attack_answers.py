"""An API that is broken, hostile or made to say what it should not: its answer is refused, and the next client is served."""

import asyncio

import pytest

from tests.claims import attack
from tests.flow.attacks.site import Site
from tests.flow.client import connected, request
from tests.flow.origin import Answer, Asked, framed, numbered, ok, raw

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPLITTING = "response splitting"
BROKEN = "broken answers"
PURGING = "purging by answers"
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nCache-Control: max-age=60\r\n\r\nforged"
START = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n"


@pytest.fixture(scope="module")
def config() -> str:
    return """
routes:
  - {match: "/{site}/kept/{id}", ttl: 1m, tags: ["kept:{id}"]}
  - {match: "/**", ttl: 1m}
"""


@pytest.fixture(scope="module")
def upstream() -> str:
    return "timeout: 400ms, read_timeout: 400ms, max_connections: 4"


async def refused(site: Site, data: bytes, *, close: bool = False) -> None:
    """An answer is a 502 or breaks off; nothing of it is stored, and its connection is nobody else's."""
    site.answers(raw(data, close=close))
    got = await site.get()
    assert got.status == 502 or not got.whole
    assert b"forged" not in got.body

    await good_again(site)


async def good_again(site: Site) -> None:
    site.answers(ok(b"good"))
    await site.unharmed_and_cached()
    await site.unharmed_and_cached("/other")


@attack(SPLITTING, "bare CR, bare LF, NUL, folded lines or an end of head in a field or in the reason")
@pytest.mark.parametrize(
    "head",
    [
        b"X: a\nSet-Cookie: evil=1\r\n",
        b"X: a\rSet-Cookie: evil=1\r\n",
        b"X: a\r\r\nSet-Cookie: evil=1\r\n",
        b"X: a\x00b\r\n",
        b"X: a\x0bb\r\n",
        b"X: a\r\n folded\r\n",
        b" X: a\r\n",
        b"X : a\r\n b\r\n",
        b"X\r\n",
        b": a\r\n",
        b"X\xc4\x8d: a\r\n",
        b"X: a\n\nHTTP/1.1 200 OK\r\n",
    ],
)
async def test_a_malformed_field_is_refused(site: Site, head: bytes) -> None:
    await refused(site, START + head + b"Content-Length: 2\r\n\r\nok")


@attack(SPLITTING, "a status line that holds a second line, or is none")
@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 200 OK\rX: evil",
        b"HTTP/1.1 200 OK\nX: evil",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/2 200",
        b"HTTP/1.2 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b" HTTP/1.1 200 OK",
        b"\r\nHTTP/1.1 200 OK",
    ],
)
async def test_a_malformed_status_line_is_refused(site: Site, line: bytes) -> None:
    await refused(site, line + b"\r\nContent-Length: 2\r\n\r\nok")


@attack(BROKEN, "no HTTP/1.x at all: HTTP/0.9, HTTP/2, TLS, SSH, nothing")
@pytest.mark.parametrize(
    "data",
    [
        b"<html>hello</html>",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18),
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"SSH-2.0-x\r\n",
        b"",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5",
    ],
)
async def test_what_is_no_answer_is_refused(site: Site, data: bytes) -> None:
    await refused(site, data, close=True)


@attack(BROKEN, "two lengths, a length beside chunks, codings beside chunked, lengths that are no number")
@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"Content-Length: 2, 2\r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: -2\r\n",
        b"Content-Length: 0x2\r\n",
        b"Content-Length: 2 2\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: \xb2\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: identity\r\n",
    ],
)
async def test_an_unclear_end_of_the_body_is_refused(site: Site, lines: bytes) -> None:
    await refused(site, START + lines + b"\r\n2\r\nok\r\n0\r\n\r\n" + FORGED)


@attack(BROKEN, "chunks whose sizes are negative, huge, odd or missing, or whose ends are")
@pytest.mark.parametrize(
    "body",
    [
        b"-2\r\nok\r\n0\r\n\r\n",
        b"+2\r\nok\r\n0\r\n\r\n",
        b"0x2\r\nok\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\nok\r\n0\r\n\r\n",
        b"\r\nok\r\n0\r\n\r\n",
        b" 2\r\nok\r\n0\r\n\r\n",
        b"2_0\r\nok\r\n0\r\n\r\n",
        b"2\nok\n0\n\n",
        b"2\r\nokX\r\n0\r\n\r\n",
        b"2\r\nok0\r\n\r\n",
        b"2\r\nok\r\n0\r\nX : a\r\n\r\n",
        b"2\r\nok\r\n0\r\nX: a\n\r\n\r\n",
        b"2;" + b"x" * 300 + b"\r\nok\r\n0\r\n\r\n",
        b"2\r\nok\r\n0\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
    ],
)
async def test_malformed_chunks_are_refused(site: Site, body: bytes) -> None:
    await refused(site, START + b"Transfer-Encoding: chunked\r\n\r\n" + body + FORGED)


@attack(BROKEN, "a body that breaks off: short of its length, in a chunk, before the last chunk")
@pytest.mark.parametrize(
    "data",
    [
        START + b"Content-Length: 100\r\n\r\nhalf",
        START + b"Transfer-Encoding: chunked\r\n\r\n64\r\nhalf",
        START + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    ],
)
async def test_a_truncated_body_is_not_stored(site: Site, data: bytes) -> None:
    await refused(site, data, close=True)


# -- a second answer behind the first: the queue of the connection --

FIRSTS = {
    "behind a body": START + b"Content-Length: 5\r\n\r\nfirst",
    "behind chunks": START + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n",
    "behind an empty body": START + b"Content-Length: 0\r\n\r\n",
    "behind 204": b"HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\n\r\n",
    "behind 204 with a length": b"HTTP/1.1 204 No Content\r\nContent-Length: 80\r\n\r\n",
    "behind 304 with a length": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 80\r\n\r\n",
}


@attack(
    BROKEN,
    "a forged second answer behind the first, at once or a moment later, for the connection's next request",
)
@pytest.mark.parametrize("delay_s", [0.0, 0.03])
@pytest.mark.parametrize("first", FIRSTS.values(), ids=FIRSTS)
async def test_a_second_answer_is_nobody_s(site: Site, first: bytes, delay_s: float) -> None:
    async def both(asked: Asked) -> None:
        await asked.send(first if delay_s else first + FORGED)
        if delay_s:
            await asyncio.sleep(delay_s)
            await asked.send(FORGED)

    site.answers(both)
    site.answers(ok(b"good"), "/next")
    assert b"forged" not in (await site.get()).body
    await asyncio.sleep(2 * delay_s)
    for _ in range(3):
        assert (await site.get("/next?x", "Cache-Control: no-store")).body == b"good"
    await site.unharmed_and_cached("/next")


@attack(BROKEN, "a body behind the answer to HEAD, read as the next answer")
@pytest.mark.parametrize("delay_s", [0.0, 0.03])
async def test_a_body_behind_head_is_nobody_s(site: Site, delay_s: float) -> None:
    async def bodied(asked: Asked) -> None:
        await asked.send(START + b"Content-Length: %d\r\n\r\n" % len(FORGED))
        await asyncio.sleep(delay_s)
        await asked.send(FORGED)

    site.answers(bodied)
    assert (await site.get(method="HEAD")).status == 200
    await asyncio.sleep(2 * delay_s)
    await good_again(site)


@attack(BROKEN, "an unasked 101, with a forged answer in what would be its tunnel")
async def test_an_unasked_switch_is_refused(site: Site) -> None:
    await refused(
        site, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + FORGED
    )


@attack(BROKEN, "endless 1xx answers, and one as large as a head may be")
@pytest.mark.parametrize(
    "early", [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
async def test_a_flood_of_early_answers_ends(site: Site, early: bytes) -> None:
    await refused(site, early * 3000 + START + b"Content-Length: 6\r\n\r\nforged")


@attack(BROKEN, "an endless head, in one field, in many, or by the byte")
@pytest.mark.parametrize("piece", [b"x" * 65536, b"X: y\r\n" * 10_000, b"x"])
async def test_an_endless_head_ends(site: Site, piece: bytes) -> None:
    async def endless(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            await asked.send(piece)
            await asyncio.sleep(0.001)

    site.answers(endless)
    assert (await site.get()).status in {502, 504}
    await good_again(site)


@attack(BROKEN, "an endless body, in chunks, to the connection's end, or within an absurd length")
@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked\r\n", b"", b"Content-Length: 99999999999999999\r\n"]
)
async def test_an_endless_body_takes_no_memory_and_is_not_stored(site: Site, framing: bytes) -> None:
    async def endless(asked: Asked) -> None:
        await asked.send(START + framing + b"\r\n")
        piece = b"10000\r\n" + bytes(65536) + b"\r\n" if b"chunked" in framing else bytes(65536)
        while True:
            await asked.send(piece)

    site.answers(endless)
    before, read = site.proxy.rss, 0
    async with connected(site.proxy.port) as client:
        await client.send(request(site.path))
        while read < 30_000_000:
            read += len(await client.reader.read(2**20))
    assert site.proxy.rss - before < 16_000_000
    site.answers(ok(b"good"))
    await site.unharmed()
    await site.unharmed_and_cached("/other")


@attack(BROKEN, "thousands of chunks of one byte, and an answer that comes by the byte")
async def test_tiny_pieces_are_put_together(site: Site) -> None:
    chunks = b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
    site.answers(raw(START + b"Transfer-Encoding: chunked\r\n\r\n" + chunks))
    assert (await site.get()).body == b"x" * 20_000
    assert (await site.get()).cache.startswith("hit")

    async def dripping(asked: Asked) -> None:
        for byte in framed(b"drip"):
            await asked.send(bytes([byte]))
            await asyncio.sleep(0)

    site.answers(dripping, "/drip")
    await site.unharmed_and_cached("/drip")


@attack(BROKEN, "a body so slow that a crowd would wait for it for ever")
async def test_a_slow_body_keeps_only_its_own_client(site: Site) -> None:
    async def dripping(asked: Asked) -> None:
        if not asked.get("x-slow"):
            return await ok(b"good")(asked)
        await asked.send(START + b"Content-Length: 100000\r\n\r\n")
        while True:
            await asked.send(b"x")
            await asyncio.sleep(0.05)

    site.answers(dripping)
    async with connected(site.proxy.port) as slow:
        await slow.send(request(site.path, "X-Slow: yes"))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(3):
            assert (await site.get()).body == b"good"


@attack(SPLITTING, "Set-Cookie, Content-Length or Vary in a trailer")
async def test_a_trailer_is_no_field(site: Site) -> None:
    trailers = (
        b"Set-Cookie: evil=1\r\nContent-Length: 1\r\nVary: *\r\nCache-Control: no-store\r\nX-Evil: 1\r\n"
    )
    site.answers(raw(START + b"Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n" + trailers + b"\r\n"))
    for _ in range(2):
        got = await site.get()
        assert (got.body, got.get("set-cookie"), got.get("x-evil"), got.get("vary")) == (b"good", "", "", "")
    assert got.cache.startswith("hit")


@attack(SPLITTING, "a value that the client chose, echoed by the API in every byte that it may have")
async def test_an_echoed_value_stays_one_value(site: Site) -> None:
    async def echo(asked: Asked) -> None:
        await ok(b"good", f"X-Echo: {asked.get('x-say')}")(asked)

    site.answers(echo)
    odd = "%0d%0aSet-Cookie: a=b \u00e5\u2028".encode().decode("latin-1").replace("\x85", "") + '\xff\t;,:"\\'
    async with connected(site.proxy.port) as client:
        got = await client.ask(site.path, f"X-Say: {odd}")
    assert [got.get("x-echo"), got.get("set-cookie"), len(got.fields)] == [odd, "", len(got.fields)]


# -- purging by what an answer says --


@attack(PURGING, "Cache-Group-Invalidation, Location and Content-Location in an answer to GET or in an error")
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_an_answer_to_a_safe_request_purges_nothing(site: Site, method: str) -> None:
    await purges(site, method, ok(b"x", *invalidating(site), status="201 Created"), purged=False)


@attack(PURGING, "Cache-Group-Invalidation, Location and Content-Location in an error to a write")
@pytest.mark.parametrize("status", ["400 Bad", "401 No", "404 None", "500 Fail"])
async def test_an_error_purges_nothing(site: Site, status: str) -> None:
    await purges(site, "POST", ok(b"x", *invalidating(site), status=status), purged=False)


@attack(PURGING, "Location and Content-Location that lead to another site, or nowhere")
@pytest.mark.parametrize(
    "place",
    [
        "http://other.test{}",
        "//other.test{}",
        "http://api.test@other.test{}",
        "http://api.test:81{}",
        "http://api.test.other.test{}",
        "ftp://api.test{}",
        "javascript:{}",
        "http://[{}",
        "http:{}",
    ],
)
async def test_a_location_elsewhere_purges_nothing(site: Site, place: str) -> None:
    where = place.format(f"{site.path}/kept/1")
    lines = [f"Location: {where}", f"Content-Location: {where}"]
    await purges(site, "POST", ok(b"x", *lines, status="201 Created"), purged=place == "http:{}")


@attack(PURGING, "a Location of the request's own site, in every spelling: that one does purge")
@pytest.mark.parametrize("place", ["{}", "http://api.test{}", "//API.test{}", "https://api.test{}"])
async def test_a_location_here_purges(site: Site, place: str) -> None:
    line = f"Location: {place.format(f'{site.path}/kept/1')}"
    await purges(site, "POST", ok(b"x", line, status="201 Created"), purged=True)


def invalidating(site: Site) -> tuple[str, ...]:
    place = f"{site.path}/kept/1"
    return 'Cache-Group-Invalidation: "kept:1"', f"Location: {place}", f"Content-Location: {place}"


async def purges(site: Site, method: str, answer: Answer, *, purged: bool) -> None:
    site.answers(numbered(), "/kept/1")
    await site.get("/kept/1")
    site.answers(answer, "/act")
    await site.get("/act", method=method)

    assert (await site.get("/kept/1")).body == (b"2" if purged else b"1")


@attack(BROKEN, "Vary: *, Vary with a thousand names, and names that are none")
@pytest.mark.parametrize("names", ["*", "*, Accept", "Accept, *"])
async def test_what_varies_by_everything_is_not_stored(site: Site, names: str) -> None:
    site.answers(numbered(f"Vary: {names}", "Cache-Control: max-age=60"))
    assert [(await site.get()).body for _ in range(3)] == [b"1", b"2", b"3"]


@attack(BROKEN, "Vary with a thousand names: told apart by each of them")
async def test_a_thousand_names_of_vary_are_all_looked_at(site: Site) -> None:
    names = ", ".join(f"X-{number}" for number in range(1000))
    site.answers(numbered(f"Vary: {names}", "Cache-Control: max-age=60"))
    lines = ["X-0: a", "X-999: a", "X-999: b", "X-500: "]
    first = [(await site.get("", line)).body for line in lines]
    assert (len(set(first)), [(await site.get("", line)).body for line in lines]) == (4, first)
