"""What the client sent is what the API gets, and what the API answered is what the client gets: bytes, order and case."""

import asyncio
from collections.abc import AsyncIterator
from email.utils import formatdate

import pytest
import pytest_asyncio

from tests.flow.client import connected, fetch, request
from tests.flow.origin import Asked, Origin, after, framed, ok, origin, raw
from tests.flow.processes import Proxy, running

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(api: Origin) -> AsyncIterator[Proxy]:
    config = f"""
upstream: {{url: {api.url}}}
transparent: true
routes: [{{match: "/kept/**", ttl: 1m}}]
"""
    async with running(config) as started:
        yield started


LINES = (
    "Host: Api.Test:81",
    "x-odd-CASE: 1",
    "Accept: a",
    "X-Twice: one",
    "User-Agent: test  with   spaces",
    "accept: b",
    "X-Twice: two",
    "X-Empty: ",
    "X-Latin: \xe9",
)


@pytest.mark.parametrize("path", ["/kept/fields", "/passed/fields"])
async def test_fields_keep_their_order_case_repetition_and_bytes(
    api: Origin, proxy: Proxy, path: str
) -> None:
    answer = (
        b"HTTP/1.1 200 Sehr \xe4hm gut\r\nx-LOWER: 1\r\nSERVER: mine\r\nX-Twice: one\r\nX-Empty: \r\n"
        b"X-Twice: two\r\nx-latin: \xe9\r\nContent-Length: 4\r\nDate: %b\r\n\r\nbody"
    ) % formatdate(usegmt=True).encode()
    api.on(path, raw(answer))
    async with connected(proxy.port) as client:
        await client.send(request(path, *LINES))
        raw_answer = await client.reader.readexactly(len(answer))
        assert raw_answer == answer
        # A second time from wherever it is by now; Age says how old it is.
        await client.send(request(path, *LINES))
        response = await client.response()

    assert [f for f in response.fields if f[0] != b"Age"] == [
        (name, value)
        for name, _, value in (
            line.partition(b": ") for line in answer.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        )
    ]
    expected = "\r\n".join((f"GET {path} HTTP/1.1", *LINES, "", "")).encode("latin-1")
    assert api.of(path)[0].head == expected


@pytest.mark.parametrize(
    "target",
    [
        "/a?",
        "//",
        "//evil.test/a",
        "/%2F",
        "/%zz",
        "/a;b=c",
        "/a/../b",
        "/./a",
        "/a?b=c&&d=%26+;e",
        "/a?b=?c",
        "/~{}|^",
    ],
)
@pytest.mark.parametrize("root", ["/kept", ""], ids=["stored", "passed"])
async def test_a_target_is_passed_on_as_it_was_sent(
    api: Origin, proxy: Proxy, root: str, target: str
) -> None:
    api.asked.clear()
    assert (await fetch(proxy.port, root + target)).status == 200
    assert [asked.target for asked in api.asked] == [root + target]


async def test_bodies_of_all_kinds_arrive_as_they_were_framed(api: Origin, proxy: Proxy) -> None:
    async def echo(asked: Asked) -> None:
        body = await asked.content()
        await asked.send(framed(asked.get("transfer-encoding").encode() + b"|" + body))

    api.on("/passed/echo", echo)
    chunks = b"4\r\nsome\r\n5;ext=1\r\nthing\r\n0\r\nTrailer: x\r\n\r\n"
    async with connected(proxy.port) as client:
        bodies = [(await client.ask("/passed/echo", method=m, body=b"x" * 9)).body for m in ("PUT", "PATCH")]
        await client.send(request("/passed/echo", "Transfer-Encoding: chunked", method="POST") + chunks)
        bodies.append((await client.response()).body)
        bodies.append((await client.ask("/passed/echo", "Content-Length: 0", method="POST")).body)

    assert bodies == [b"|xxxxxxxxx", b"|xxxxxxxxx", b"chunked|something", b"|"]
    assert [a.get("content-length") for a in api.of("/passed/echo")] == ["9", "9", "", "0"]


async def test_answers_without_a_body_have_none_and_the_connection_goes_on(api: Origin, proxy: Proxy) -> None:
    api.on("/passed/204", raw(b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n"))
    api.on("/passed/304", raw(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 4\r\n\r\n'))
    api.on("/passed/head", ok(b"body"))
    async with connected(proxy.port) as client:
        seen = [
            await client.ask("/passed/204"),
            await client.ask("/passed/304", 'If-None-Match: "a"'),
            await client.ask("/passed/head", method="HEAD"),
            await client.ask("/passed/head"),
            await client.ask("/passed/204", method="DELETE"),
            await client.ask("/passed/head", method="OPTIONS"),
        ]

    assert [(r.status, r.body, r.get("content-length")) for r in seen] == [
        (204, b"", ""),
        (304, b"", "4"),
        (200, b"", "4"),
        (200, b"body", "4"),
        (204, b"", ""),
        (200, b"body", "4"),
    ]


async def test_a_chunked_answer_is_passed_on_whole(api: Origin, proxy: Proxy) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
    api.on("/passed/chunked", raw(data))
    api.on("/kept/chunked", raw(data))
    passed, kept = await fetch(proxy.port, "/passed/chunked"), await fetch(proxy.port, "/kept/chunked")

    assert [(r.body, r.whole) for r in (passed, kept)] == [(b"abcde", True)] * 2
    assert (passed.get("transfer-encoding"), kept.get("content-length")) == ("chunked", "5")


async def test_an_answer_that_ends_with_its_connection_is_passed_on_whole(api: Origin, proxy: Proxy) -> None:
    for head in (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\n"):
        api.on("/passed/close", raw(head + b"to the end", close=True))
        response = await fetch(proxy.port, "/passed/close")
        assert (response.brief, response.whole) == ((200, b"to the end"), True)


async def test_early_hints_come_early(api: Origin, proxy: Proxy) -> None:
    async def hinting(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-a: 1\r\n\r\n")
        await asyncio.sleep(0.3)
        await ok(b"late")(asked)

    api.on("/passed/hints", hinting)
    async with connected(proxy.port) as client:
        await client.send(request("/passed/hints"))
        async with asyncio.timeout(0.25):
            early = await client.reader.readuntil(b"\r\n\r\n")
        assert early == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-a: 1\r\n\r\n"
        assert (await client.response()).body == b"late"
        # HTTP/1.0 knows no 1xx.
        await client.send(request("/passed/hints", version="1.0"))
        assert ((await client.response()).body, client.early) == (b"late", [])


async def test_an_http_1_0_client_gets_a_body_that_ends_with_the_connection(
    api: Origin, proxy: Proxy
) -> None:
    api.on("/passed/old", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
    async with connected(proxy.port) as client:
        await client.send(b"GET /passed/old HTTP/1.0\r\n\r\n")
        response = await client.response()

        assert (response.body, response.get("transfer-encoding")) == (b"abc", "")
        assert response.get("connection") == "close"
        assert api.of("/passed/old")[0].get("host") == f"127.0.0.1:{api.port}"


async def test_an_http_1_0_client_may_keep_its_connection(api: Origin, proxy: Proxy) -> None:
    api.on("/kept/old", ok(b"abc"))
    async with connected(proxy.port) as client:
        for _ in range(2):
            await client.send(request("/kept/old", "Connection: keep-alive", version="1.0"))
            response = await client.response()
            assert (response.body, response.get("connection")) == (b"abc", "keep-alive")


async def test_requests_sent_all_at_once_are_answered_in_order(api: Origin, proxy: Proxy) -> None:
    api.on("/passed/slow", after(0.2, ok(b"slow")))
    api.on("/passed/quick", ok(b"quick"))
    api.on("/kept/pipelined", ok(b"kept"))
    await fetch(proxy.port, "/kept/pipelined")
    wanted = ["/passed/slow", "/kept/pipelined", "/passed/quick", "/kept/pipelined"] * 3
    async with connected(proxy.port) as client:
        post = request("/passed/quick", method="POST", body=b"x" * 100)
        await client.send(b"".join(map(request, wanted)) + post + request(wanted[0]))
        bodies = [(await client.response()).body for _ in range(len(wanted) + 2)]

    assert bodies == [b"slow", b"kept", b"quick", b"kept"] * 3 + [b"quick", b"slow"]


async def test_expect_100_continue_is_asked_of_the_api(api: Origin, proxy: Proxy) -> None:
    async def expecting(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await ok(await asked.content())(Asked(b"", asked.reader, asked.writer))

    path = "/passed/expect"
    api.on(path, expecting)
    async with connected(proxy.port) as client:
        await client.send(request(path, "Expect: 100-continue", "Content-Length: 4", method="POST"))
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"body")
        assert (await client.response()).body == b"body"
    assert api.of(path)[0].get("expect") == "100-continue"


async def test_what_the_api_refuses_at_the_expect_is_never_sent(api: Origin, proxy: Proxy) -> None:
    async def refusing(asked: Asked) -> None:
        await asked.send(framed(b"too much", status="413 Content Too Large"))

    path = "/passed/refusing"
    api.on(path, refusing)
    async with connected(proxy.port) as client:
        await client.send(request(path, "Expect: 100-continue", "Content-Length: 4", method="POST"))
        response = await client.response()

        assert (response.status, response.body, client.early) == (413, b"too much", [])
        # Whether the body still comes is for the client to say: no next request could be told from it.
        assert response.get("connection") == "close"


async def test_fields_of_this_hop_end_here(api: Origin, proxy: Proxy) -> None:
    path = "/passed/hop"
    answer = (
        b"HTTP/1.1 200 OK\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n"
        b"X-Yours: 2\r\nDate: Tue, 01 Sep 2026 10:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
    )
    api.on(path, raw(answer))
    lines = ("Connection: X-Hop, keep-alive", "X-Hop: 1", "TE: trailers", "Keep-Alive: 5", "X-End: 2")
    response = await fetch(proxy.port, path, *lines)

    assert api.of(path)[0].fields == ((b"Host", b"api.test"), (b"X-End", b"2"))
    assert [name for name, _ in response.fields] == [b"X-Yours", b"Date", b"Content-Length"]


async def test_paths_that_mean_something_elsewhere_belong_to_the_api(api: Origin, proxy: Proxy) -> None:
    for target, method in (("/metrics", "GET"), ("/livez", "GET"), ("/kept/a", "PURGE"), ("*", "OPTIONS")):
        api.on(target, ok(b"the API's"))
        assert (await fetch(proxy.port, target, method=method)).body == b"the API's"
