"""Bytes that two readers could take for different requests are nobody's request: what the API sees is what was meant.

Every test sends real bytes to a real proxy, and looks at what came back, at what the API was asked, and at what a client
that did nothing wrong gets afterwards.
"""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.claims import attack
from tests.flow.client import Client, Response, connected, fetch, request
from tests.flow.origin import Asked, Origin, cut_off, framed, ok, origin
from tests.flow.processes import Proxy, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: api.test\r\n\r\n"
UPLOAD = b"POST /upload HTTP/1.1\r\nHost: api.test\r\n"
GET = b"GET /a HTTP/1.1\r\n"
HOST = b"Host: api.test\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        started.on("/clean", ok(b"clean"))
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(api: Origin) -> AsyncIterator[Proxy]:
    # Transparent: the heads that the API gets are the clients', to the byte.
    config = f"""
upstream: {{url: {api.url}}}
transparent: true
routes: [{{match: "/kept/**", ttl: 1m}}]
"""
    async with running(config) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def unharmed(api: Origin, proxy: Proxy) -> AsyncIterator[None]:
    """Whatever the test does: a client that does nothing wrong is answered, and nobody asked for what was hidden."""
    api.asked.clear()
    yield
    assert (await fetch(proxy.port, "/clean")).brief == (200, b"clean")
    assert api.count("/hidden") == 0


async def answers(client: Client) -> list[Response]:
    """All that come until the proxy closes."""
    seen = []
    while True:
        try:
            seen.append(await client.response())
        except asyncio.IncompleteReadError:
            return seen


async def statuses(proxy: Proxy, data: bytes) -> list[int]:
    """Of the answers to these bytes. The last must be a refusal of ours that closes the connection."""
    async with connected(proxy.port) as client:
        await client.send(data)
        seen = await answers(client)
    last = seen[-1]
    assert (last.get("connection"), last.get("content-type")) == ("close", "application/problem+json")
    assert last.whole
    return [answer.status for answer in seen]


def targets(api: Origin) -> list[str]:
    return [asked.target for asked in api.asked]


# -- whose end is where --


@attack("request smuggling", "Content-Length beside Transfer-Encoding (CL.TE, TE.CL)")
@pytest.mark.parametrize("length", [b"0", b"4", b"44", b"+5", b"x"])
@pytest.mark.parametrize("first", ["length", "coding"])
async def test_two_framings(api: Origin, proxy: Proxy, unharmed: None, length: bytes, first: str) -> None:
    lines = [b"Content-Length: %b\r\n" % length, b"Transfer-Encoding: chunked\r\n"]
    lines = lines if first == "length" else lines[::-1]
    data = UPLOAD + b"".join(lines) + b"\r\n0\r\n\r\n" + HIDDEN

    assert (await statuses(proxy, data), targets(api)) == ([400], [])


@attack("request smuggling", "a disguised Transfer-Encoding (TE.TE)")
@pytest.mark.parametrize(
    ("line", "status"),
    [
        pytest.param(b"Transfer-Encoding : chunked", 400, id="space before the colon"),
        pytest.param(b"Transfer-Encoding\t: chunked", 400, id="tab before the colon"),
        pytest.param(b"Transfer-Encoding\x0b: chunked", 400, id="VT before the colon"),
        pytest.param(b"Transfer-Encoding: \x0bchunked", 400, id="VT before the value"),
        pytest.param(b"Transfer-Encoding: \x0cchunked", 400, id="FF before the value"),
        pytest.param(b"Transfer-Encoding: \x00chunked", 400, id="NUL before the value"),
        pytest.param(b"Transfer-Encoding: \xa0chunked", 400, id="a space above ASCII"),
        pytest.param(b"Transfer-Encoding: chunked\x0b", 400, id="VT after the value"),
        pytest.param(b"Transfer-Encoding: xchunked", 400, id="xchunked"),
        pytest.param(b"Transfer-Encoding: chunkedx", 400, id="chunkedx"),
        pytest.param(b"Transfer-Encoding: chunk", 400, id="chunk"),
        pytest.param(b'Transfer-Encoding: "chunked"', 400, id="quoted"),
        pytest.param(b"Transfer-Encoding: 'chunked'", 400, id="quoted by apostrophes"),
        pytest.param(b"Transfer-Encoding: chunked;q=1", 400, id="a parameter"),
        pytest.param(b"Transfer-Encoding: identity", 400, id="identity"),
        pytest.param(b"Transfer-Encoding: chunked, identity", 400, id="chunked, identity"),
        pytest.param(b"Transfer-Encoding: chunked, chunked", 400, id="twice in a line"),
        pytest.param(b"Transfer-Encoding: chunked,", 400, id="an empty member"),
        pytest.param(b"Transfer-Encoding:", 400, id="empty"),
        pytest.param(b"Transfer-Encoding: gzip", 400, id="another"),
        pytest.param(b"Transfer-Encoding: gzip, chunked", 501, id="another and chunked"),
        pytest.param(b"Transfer-Encoding: identity, chunked", 501, id="identity, chunked"),
        pytest.param(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, id="two lines"),
        pytest.param(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400, id="two that differ"),
        pytest.param(b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", 400, id="two, chunked last"),
        pytest.param(b"Transfer-Encoding:\r\n chunked", 400, id="on a folded line"),
        pytest.param(b"X: y\r\n Transfer-Encoding: chunked", 400, id="as a folded line"),
        pytest.param(b"X: y\rTransfer-Encoding: chunked", 400, id="behind a bare CR"),
        pytest.param(b"X: y\nTransfer-Encoding: chunked", 400, id="behind a bare LF"),
        pytest.param(b"Transfer_Encoding: chunked", 400, id="an underscore"),
        pytest.param(b"Transfer-Encoding chunked", 400, id="no colon"),
        pytest.param(b"\xefTransfer-Encoding: chunked", 400, id="a byte before the name"),
    ],
)
@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n"], ids=["alone", "beside a length"])
async def test_a_disguised_coding(
    api: Origin, proxy: Proxy, unharmed: None, line: bytes, status: int, length: bytes
) -> None:
    data = UPLOAD + length + line + b"\r\n\r\n0\r\n\r\n" + HIDDEN

    assert (await statuses(proxy, data), targets(api)) == ([400 if length else status], [])


@attack("request smuggling", "Transfer-Encoding on HTTP/1.0")
async def test_a_coding_of_http_1_0(api: Origin, proxy: Proxy, unharmed: None) -> None:
    head = b"POST /upload HTTP/1.0\r\nConnection: keep-alive\r\n" + HOST
    data = head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN

    assert (await statuses(proxy, data), targets(api)) == ([400], [])


@attack("request smuggling", "a Content-Length that is no plain number, or not the only one")
@pytest.mark.parametrize(
    "value",
    [
        *(
            b"+5",
            b"-1",
            b"-0",
            b"0x5",
            b"5 5",
            b"5,5",
            b"5, 5",
            b"5, 6",
            b"5;",
            b"5.0",
            b"5e0",
            b"1_0",
            b"",
            b'"5"',
        ),
        *(b"five", b"\xb2", b"5\x0b", b"\x0b5", b"5\x00", b"99999999999999999999", b"1" * 5000, b"5\r\n 5"),
        *(
            b"5\r\nContent-Length: 5",
            b"5\r\nContent-Length: 6",
            b"0\r\ncontent-length: 5",
            b"5\r\nContent_Length: 6",
        ),
    ],
)
async def test_a_length_that_is_not_certain(api: Origin, proxy: Proxy, unharmed: None, value: bytes) -> None:
    data = UPLOAD + b"Content-Length: " + value + b"\r\n\r\nhello" + HIDDEN

    assert (await statuses(proxy, data), targets(api)) == ([400], [])


@attack("request smuggling", "a request as the body of a GET, or behind a body of nothing (CL.0)")
async def test_a_request_in_a_body_is_a_body(api: Origin, proxy: Proxy) -> None:
    api.asked.clear()
    length = f"Content-Length: {len(HIDDEN)}"
    async with connected(proxy.port) as client:
        for path in ("/get", "/kept/get"):
            await client.send(request(path, length) + HIDDEN + request("/after"))
            assert [(await client.response()).status for _ in range(2)] == [200, 200]
        # What follows a body of nothing is a request, and the API sees it as one.
        await client.send(request("/nothing", "Content-Length: 0", method="POST") + HIDDEN)
        assert [(await client.response()).status for _ in range(2)] == [200, 200]

    assert [(asked.target, asked.body) for asked in api.asked] == [
        ("/get", HIDDEN),
        ("/after", b""),
        ("/kept/get", HIDDEN),
        ("/after", b""),
        ("/nothing", b""),
        ("/hidden", b""),
    ]
    assert api.asked[0].head == request("/get", length)
    assert (await fetch(proxy.port, "/clean")).brief == (200, b"clean")


@attack("request smuggling", "a length with leading zeros is what every reader takes it for: a decimal")
async def test_leading_zeros(api: Origin, proxy: Proxy, unharmed: None) -> None:
    body = b"0123456789"
    async with connected(proxy.port) as client:
        await client.send(UPLOAD + b"Content-Length: 0010\r\n\r\n" + body + request("/after"))
        assert [(await client.response()).status for _ in range(2)] == [200, 200]

    assert [(asked.target, asked.body) for asked in api.asked] == [("/upload", body), ("/after", b"")]


@attack("request smuggling", "a bad request behind good ones: those are answered, nothing after it is served")
async def test_what_follows_a_refused_request(api: Origin, proxy: Proxy, unharmed: None) -> None:
    bad = UPLOAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = request("/one") + request("/two", method="POST", body=b"body") + bad + HIDDEN * 3

    assert (await statuses(proxy, data), targets(api)) == ([200, 200, 400], ["/one", "/two"])


# -- the chunked coding --

CHUNKED = UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n"


@attack("chunked coding", "a chunk whose size or end is malformed: the API never sees that body whole")
@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"0x5\r\nhello\r\n", id="0x"),
        pytest.param(b"+5\r\nhello\r\n", id="a sign"),
        pytest.param(b"-5\r\nhello\r\n", id="a negative size"),
        pytest.param(b" 5\r\nhello\r\n", id="a space first"),
        pytest.param(b"5 \r\nhello\r\n", id="a space after"),
        pytest.param(b"5\t\r\nhello\r\n", id="a tab after"),
        pytest.param(b"5 5\r\nhello\r\n", id="two sizes"),
        pytest.param(b"5,5\r\nhello\r\n", id="a list"),
        pytest.param(b"1_0\r\nhello\r\n", id="an underscore"),
        pytest.param(b"g\r\nhello\r\n", id="no digit"),
        pytest.param(b"\r\nhello\r\n", id="no size"),
        pytest.param(b"10000000000000005\r\nhello\r\n", id="64 bits and more"),
        pytest.param(b"0" * 300 + b"5\r\nhello\r\n", id="300 zeros"),
        pytest.param(b"5\nhello\r\n", id="a bare LF after the size"),
        pytest.param(b"5\rhello\r\n", id="a bare CR after the size"),
        pytest.param(b"5\r\r\nhello\r\n", id="two CR"),
        pytest.param(b"5\x00\r\nhello\r\n", id="NUL"),
        pytest.param(b"5;a\nb\r\nhello\r\n", id="a bare LF in an extension"),
        pytest.param(b"5;a\x00\r\nhello\r\n", id="NUL in an extension"),
        pytest.param(b"5;" + b"a" * 300 + b"\r\nhello\r\n", id="a long extension"),
        pytest.param(b"5\r\nhello", id="no end of line after the data"),
        pytest.param(b"5\r\nhello\n", id="a bare LF after the data"),
        pytest.param(b"5\r\nhello!\r\n", id="more data than it says"),
        pytest.param(b"5\r\nhell\r\n", id="less data than it says"),
        pytest.param(b"5\r\nhello\r\n0\n\n", id="a bare LF at the end"),
        pytest.param(b"5\r\nhello\r\n0\r\nX : y\r\n\r\n", id="a malformed trailer"),
        pytest.param(b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n", id="a folded trailer"),
        pytest.param(b"5\r\nhello\r\n0\r\nX: \x00\r\n\r\n", id="NUL in a trailer"),
        pytest.param(b"5\r\nhello\r\n0\r\n" + b"X: yyyyyy\r\n" * 2000, id="trailers without end"),
    ],
)
async def test_a_malformed_chunk(api: Origin, proxy: Proxy, unharmed: None, chunks: bytes) -> None:
    cut = asyncio.Event()
    api.on("/upload", cut_off(cut))
    try:
        assert await statuses(proxy, CHUNKED + chunks + b"0\r\n\r\n" + HIDDEN) == [400]
        async with asyncio.timeout(2):
            while not cut.is_set() and api.asked:
                await asyncio.sleep(0.005)
    finally:
        api.on("/upload", ok())

    # Where all came at once, the API may not even have been asked.
    assert targets(api) in ([], ["/upload"])


@attack(
    "chunked coding", "Trailers that would be fields: Host, Content-Length, Transfer-Encoding, Authorization"
)
async def test_trailers_are_dropped(api: Origin, proxy: Proxy, unharmed: None) -> None:
    trailers = b"Host: evil\r\nContent-Length: 50\r\nTransfer-Encoding: gzip\r\nAuthorization: x\r\nX_Forwarded_Host: evil\r\n"
    async with connected(proxy.port) as client:
        await client.send(CHUNKED + b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n" + request("/after"))
        assert [(await client.response()).status for _ in range(2)] == [200, 200]

    assert [(asked.head, asked.body) for asked in api.asked] == [
        (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n", b"hello"),
        (request("/after"), b""),
    ]


@attack("chunked coding", "more chunk extensions than data")
async def test_a_flood_of_extensions(api: Origin, proxy: Proxy, unharmed: None) -> None:
    chunk = b"1;" + b"a" * 200 + b"\r\nx\r\n"

    assert await statuses(proxy, CHUNKED + chunk * 1000 + b"0\r\n\r\n" + HIDDEN) == [400]
    assert targets(api) in ([], ["/upload"])


@attack("chunked coding", "a body of very many tiny chunks costs little more than one chunk")
async def test_a_flood_of_tiny_chunks(api: Origin, proxy: Proxy, unharmed: None) -> None:
    before, started = proxy.rss, time.monotonic()
    async with connected(proxy.port) as client:
        await client.send(CHUNKED + b"1\r\nx\r\n" * 200_000 + b"0\r\n\r\n" + request("/after"))
        assert [(await client.response()).status for _ in range(2)] == [200, 200]

    assert [len(asked.body) for asked in api.asked] == [200_000, 0]
    assert time.monotonic() - started < 3
    assert proxy.rss - before < 16 * MIB


@attack("chunked coding", "a body that breaks off behind an answer that came early ends its connection")
async def test_a_malformed_chunk_behind_an_early_answer(api: Origin, proxy: Proxy, unharmed: None) -> None:
    async def early(asked: Asked) -> None:
        await asked.send(framed(b"early", status="413 Content Too Large"))

    api.on("/early", early)
    async with connected(proxy.port) as client:
        await client.send(request("/early", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello\r\n")
        assert (await client.response()).brief == (413, b"early")
        await client.send(b"oops\r\n" + HIDDEN)
        seen = await answers(client)

    assert ([answer.status for answer in seen], targets(api)) in (([], ["/early"]), ([400], ["/early"]))


# -- what is no head --


@attack(
    "malformed head",
    "A request line that is not one: spaces, tabs, versions, HTTP/0.9, the preface of HTTP/2",
)
@pytest.mark.parametrize(
    ("line", "status"),
    [
        *(
            (line, 400)
            for line in (b"GET  /a HTTP/1.1", b"GET /a  HTTP/1.1", b" GET /a HTTP/1.1", b"GET /a HTTP/1.1 ")
        ),
        *(
            (line, 400)
            for line in (
                b"GET\t/a HTTP/1.1",
                b"GET /a\tHTTP/1.1",
                b"GET\x0b/a HTTP/1.1",
                b"GET /a\x0cHTTP/1.1",
            )
        ),
        *(
            (line, 400)
            for line in (b"GET /a b HTTP/1.1", b"GET /a", b"GET", b"/a HTTP/1.1", b"GET HTTP/1.1", b"garbage")
        ),
        *(
            (line, 400)
            for line in (
                b"GET /a http/1.1",
                b"GET /a HTTP/1",
                b"GET /a HTTP/1.1.1",
                b"GET /a HTTP/11",
                b"G(T /a HTTP/1.1",
            )
        ),
        *(
            (line, 505)
            for line in (b"GET /a HTTP/1.2", b"GET /a HTTP/2.0", b"GET /a HTTP/0.9", b"GET /a HTTP/9.9")
        ),
        (b"M" * 200 + b" /a HTTP/1.1", 501),
        (b"PRI * HTTP/2.0\r\n\r\nSM", 505),
    ],
)
async def test_a_line_that_is_none(
    api: Origin, proxy: Proxy, unharmed: None, line: bytes, status: int
) -> None:
    assert (await statuses(proxy, line + b"\r\n" + HOST + b"\r\n" + HIDDEN), targets(api)) == ([status], [])


@attack("malformed head", "a target in no form, with a fragment, or with a space or control character")
@pytest.mark.parametrize(
    "target",
    [
        *(b"a", b"*", b"?a", b"a:80", b"\\a", b".", b"//\x00", b"/a#b", b"/a\x01", b"/a\x7f", b"/#"),
        *(
            b"http:/a",
            b"http://",
            b"http:///a",
            b"ftp://api.test/a",
            b"file:///etc/passwd",
            b"http://u:p@api.test/",
        ),
        *(
            b"http://api.test\\@evil/",
            b"http://a b/",
            b"javascript:1",
            b"http://api.test:x/",
            b"//http://a b/",
        ),
    ],
)
async def test_a_target_that_is_none(api: Origin, proxy: Proxy, unharmed: None, target: bytes) -> None:
    data = b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN

    assert (await statuses(proxy, data), targets(api)) == ([400], [])


PLAIN = b"POST /a?b HTTP/1.1\r\nHost: api.test\r\nX-Field: a value\r\nContent-Length: 0\r\n\r\n"


@attack("malformed head", "a bare LF or CR in the place of any end of line")
@pytest.mark.parametrize("mark", [b"\n", b"\r", b"\n\r", b"\r\r\n", b"\x0b\n"], ids=repr)
async def test_an_end_of_line_that_is_none(api: Origin, proxy: Proxy, unharmed: None, mark: bytes) -> None:
    lines = PLAIN.split(b"\r\n")
    variants = [mark.join(lines)]
    variants += [b"\r\n".join(lines[:n]) + mark + b"\r\n".join(lines[n:]) for n in range(1, len(lines))]
    # A CR at the very end may be the first half of one: only what follows shows that it isn't.
    seen = [await statuses(proxy, variant + HIDDEN) for variant in variants]

    assert (seen, targets(api)) == ([[400]] * len(variants), [])


@attack("malformed head", "NUL or another control character at any place")
@pytest.mark.parametrize("mark", [b"\0", b"\x01", b"\x08", b"\x0b", b"\x1b", b"\x7f"], ids=repr)
async def test_a_control_character(api: Origin, proxy: Proxy, unharmed: None, mark: bytes) -> None:
    for place in range(len(PLAIN) - 1):
        assert await statuses(proxy, PLAIN[:place] + mark + PLAIN[place:] + HIDDEN) == [400], place

    assert targets(api) == []


@attack(
    "malformed head",
    "A field with a space before its colon, without a name, folded, or with a name that is no token",
)
@pytest.mark.parametrize(
    "line",
    [
        *(
            b"X : y",
            b"X\t: y",
            b": y",
            b" X: y",
            b"\tX: y",
            b"X y",
            b"X",
            b"X(: y",
            b"X\xe9: y",
            b'"X": y',
            b"X,Y: z",
        ),
        *(
            b"X: y\r\n z",
            b"X: y\r\n\tz",
            b"X: y\r\n : z",
            b"X: y\r\n  Host: evil",
            b"Host : evil",
            b"X: y\r\n \r\nZ: z",
        ),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["before Host", "after it"])
async def test_a_field_that_is_none(
    api: Origin, proxy: Proxy, unharmed: None, line: bytes, first: bool
) -> None:
    lines = line + b"\r\n" + HOST if first else HOST + line + b"\r\n"

    assert (await statuses(proxy, GET + lines + b"\r\n" + HIDDEN), targets(api)) == ([400], [])


@attack("malformed head", "a field that WSGI and CGI take for another: Content_Length, X_Forwarded_Host")
@pytest.mark.parametrize(
    "name",
    [b"Content_Length", b"Transfer_Encoding", b"X_Forwarded_Host", b"X-Forwarded_For", b"Cache_Control"],
)
async def test_an_underscored_name(api: Origin, proxy: Proxy, unharmed: None, name: bytes) -> None:
    assert (await statuses(proxy, GET + HOST + name + b": 5\r\n\r\n" + HIDDEN), targets(api)) == ([400], [])


@attack("malformed head", "more than one empty line before a request")
async def test_empty_lines(api: Origin, proxy: Proxy, unharmed: None) -> None:
    assert await statuses(proxy, b"\r\n\r\n" + HIDDEN) == [400]
    assert await statuses(proxy, request("/one") + b"\r\n" + request("/two") + b"\r\n\r\n" + HIDDEN) == [
        200,
        200,
        400,
    ]

    assert targets(api) == ["/one", "/two"]


@attack("malformed head", "CONNECT, to any target")
@pytest.mark.parametrize("target", [b"api.test:443", b"/", b"127.0.0.1:22", b"http://api.test/"])
async def test_connect(api: Origin, proxy: Proxy, unharmed: None, target: bytes) -> None:
    data = b"CONNECT " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN

    assert (await statuses(proxy, data), targets(api)) == ([405], [])


@attack("malformed head", "Upgrade to h2c: it is not passed on, and what follows is HTTP/1.1")
async def test_h2c_is_no_tunnel(api: Origin, proxy: Proxy, unharmed: None) -> None:
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    async with connected(proxy.port) as client:
        await client.send(request("/h2c", *upgrade) + request("/after"))
        assert [(await client.response()).status for _ in range(2)] == [200, 200]

    assert [asked.head for asked in api.asked] == [request("/h2c"), request("/after")]


@attack("malformed head", "Upgrade to h2c whose API switches all the same")
async def test_an_api_that_switches_unasked(api: Origin, proxy: Proxy, unharmed: None) -> None:
    async def switching(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")

    api.on("/switching", switching)
    answer = await fetch(proxy.port, "/switching", "Connection: Upgrade", "Upgrade: h2c")

    assert (answer.status, api.count("/switching")) == (502, 1)


# -- whose site --


@attack("host confusion", "Host missing, repeated, empty, or no host")
@pytest.mark.parametrize(
    "lines",
    [
        *(b"", b"Host:\r\n", b"Host: \r\n", HOST + HOST, HOST + b"host: evil\r\n", b"X-Host: api.test\r\n"),
        *(
            b"Host: " + host + b"\r\n"
            for host in (
                *(
                    b"a b",
                    b"a,b",
                    b"api.test, evil",
                    b"a/b",
                    b"me@api.test",
                    b"u:p@api.test",
                    b"http://api.test",
                ),
                *(
                    b":80",
                    b"api.test:x",
                    b"api.test:99999",
                    b"api.test:80:80",
                    b"[::1",
                    b"::1",
                    b"[x]",
                ),
                *(
                    b"api.test?a",
                    b"api.test#a",
                    b"\\evil",
                    b"api.test\\evil",
                    b"\xe9.test",
                    b'"api.test"',
                    b"a%zz",
                ),
            )
        ),
    ],
)
@pytest.mark.parametrize("target", [b"/a", b"http://api.test/a"], ids=["path", "absolute"])
async def test_a_host_that_is_none(
    api: Origin, proxy: Proxy, unharmed: None, lines: bytes, target: bytes
) -> None:
    data = b"GET " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + HIDDEN

    assert (await statuses(proxy, data), targets(api)) == ([400], [])


@attack(
    "host confusion", "A target in absolute form that disagrees with Host: the API is told the target's, once"
)
async def test_an_absolute_target_s_host_counts(api: Origin, proxy: Proxy, unharmed: None) -> None:
    async def whose(asked: Asked) -> None:
        await ok(asked.get("host").encode())(asked)

    api.on("/kept/whose", whose)
    api.on("/whose", whose)
    seen = [
        (await fetch(proxy.port, before + path)).body
        for path in ("/whose", "/kept/whose")
        for before in ("http://evil.test", "HTTPS://evil.test:81", "")
    ]

    assert seen == [b"evil.test", b"evil.test:81", b"api.test"] * 2
    assert [asked.head for asked in api.asked[:3]] == [
        b"GET /whose HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"GET /whose HTTP/1.1\r\nHost: evil.test:81\r\n\r\n",
        request("/whose"),
    ]


@attack("host confusion", "a target in absolute form without a path")
async def test_an_absolute_target_without_a_path(api: Origin, proxy: Proxy, unharmed: None) -> None:
    for target, method in (
        ("http://b.test", "GET"),
        ("http://b.test?x", "GET"),
        ("http://b.test", "OPTIONS"),
    ):
        api.on("*", ok())
        assert (await fetch(proxy.port, target, method=method)).status == 200

    assert [asked.head.split(b"\r\n")[0] for asked in api.asked] == [
        b"GET / HTTP/1.1",
        b"GET /?x HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
    ]


@attack("hop-by-hop abuse", "Connection that names a field which the next hop must have")
@pytest.mark.parametrize(
    "name",
    [
        *(
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "Authorization",
            "Cookie",
            "Cache-Control",
            "Forwarded",
            "Via",
        ),
        *(
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "x-forwarded-anything",
            "X-Real-IP",
            "Accept-Encoding",
            "Range",
        ),
    ],
)
async def test_a_field_that_must_not_be_named(api: Origin, proxy: Proxy, unharmed: None, name: str) -> None:
    for connection in (name, f"close, {name.lower()}", f"keep-alive\r\nConnection: {name.upper()}"):
        data = request("/kept/hop", f"Connection: {connection}", f"X-{name}: 1") + HIDDEN
        assert await statuses(proxy, data) == [400]

    assert targets(api) == []


@attack("hop-by-hop abuse", "Connection that names another field: it is dropped, and nothing is stored")
async def test_a_field_of_this_hop_is_not_in_what_is_stored(
    api: Origin, proxy: Proxy, unharmed: None
) -> None:
    async def whose(asked: Asked) -> None:
        await ok(asked.get("x-tenant").encode() or b"nobody", "Vary: X-Tenant")(asked)

    api.on("/kept/tenant", whose)
    dropped = await fetch(proxy.port, "/kept/tenant", "Connection: X-Tenant", "X-Tenant: a")
    own = await fetch(proxy.port, "/kept/tenant", "X-Tenant: a")

    assert [dropped.body, own.body] == [b"nobody", b"a"]


# -- too much --


@attack(
    "malformed head",
    "A head that is too large, or has too many fields: the refusal arrives though more is sent",
)
@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET /" + b"a" * 2 * MIB, 414, id="a target"),
        pytest.param(b"A" * 2 * MIB, 414, id="a method"),
        pytest.param(GET + HOST + b"X: " + b"y" * 2 * MIB, 431, id="a field"),
        pytest.param(GET + HOST + b"X" * 2 * MIB, 431, id="a name"),
        pytest.param(GET + HOST + b"X: y\r\n" * 300_000, 431, id="fields"),
        pytest.param(GET + HOST + (b"X: " + b"y" * 8000 + b"\r\n") * 250, 431, id="large fields"),
        pytest.param(GET + HOST + b"X: " + b"y" * 9000 + b"\r\n\r\n", 431, id="a field that is whole"),
        pytest.param(GET + HOST + b"X: y\r\n" * 128 + b"\r\n", 431, id="fields that are whole"),
    ],
)
async def test_a_head_that_is_too_large(
    api: Origin, proxy: Proxy, unharmed: None, data: bytes, status: int
) -> None:
    before = proxy.rss
    async with connected(proxy.port) as client:
        client.writer.write(data)
        seen = await answers(client)

    assert ([answer.status for answer in seen], targets(api)) == ([status], [])
    assert proxy.rss - before < 4 * MIB


@attack("malformed head", "a head by the byte: it is read once, and is a request like any other")
async def test_a_head_by_the_byte(api: Origin, proxy: Proxy, unharmed: None) -> None:
    data = request("/slowly", "X: " + "y" * 500) + request("/after", method="POST", body=b"hello")
    async with connected(proxy.port) as client:
        for byte in data:
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert [(await client.response()).status for _ in range(2)] == [200, 200]

    assert [(asked.target, asked.body) for asked in api.asked] == [("/slowly", b""), ("/after", b"hello")]


@attack("malformed head", "a flood of pipelined requests behind one that waits: they wait with the client")
async def test_a_flood_of_pipelined_requests(api: Origin, proxy: Proxy, unharmed: None) -> None:
    release = asyncio.Event()

    async def waiting(asked: Asked) -> None:
        await release.wait()
        await ok(b"first")(asked)

    api.on("/waiting", waiting)
    api.on("/kept/flood", ok(b"flood"))
    await fetch(proxy.port, "/kept/flood")
    before, count = proxy.rss, 30_000
    async with connected(proxy.port) as client:
        client.writer.write(request("/waiting") + request("/kept/flood") * count)
        await api.came("/waiting")
        await asyncio.sleep(0.3)
        grown = proxy.rss - before
        release.set()
        first = await client.response()
        others = [(await client.response()).body for _ in range(count)]

    assert (first.body, set(others), grown < 8 * MIB) == (b"first", {b"flood"}, True)
    assert targets(api) == ["/kept/flood", "/waiting"]
