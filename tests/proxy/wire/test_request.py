import asyncio
from itertools import pairwise
from time import perf_counter
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.wire.chunked import BadChunks, ChunkReader
from proxy.wire.fields import Fields
from proxy.wire.request import BadRequest, HeadReader, Limits, RequestHead, parse_head, with_host
from proxy.wire.response import Body

LIMITS = Limits(max_line=100, max_field=100, max_fields=10, max_head=400)
GET = b"GET / HTTP/1.1\r\n"
HOST = b"Host: a\r\n"


def read(raw: bytes) -> RequestHead:
    """The head of which these are the lines, without the empty one."""
    whole = parse_head(raw, LIMITS)
    assert (whole, len(raw) + 2) == HeadReader(LIMITS).feed(raw + b"\r\nrest")
    return whole


def refusal(raw: bytes) -> tuple[int, str]:
    with pytest.raises(BadRequest) as refused:
        parse_head(raw, LIMITS)
    return refused.value.status, str(refused.value)


def test_a_plain_head_is_read() -> None:
    expected = RequestHead(
        method="POST",
        target=b"/a?b",
        http_1_0=False,
        fields=(
            (b"hOST", b"a:1"),
            (b"Content-length", b"5"),
            (b"X", b"a: b\tc"),
            (b"X", b"\xe9"),
            (b"E", b""),
        ),
        body=Body.LENGTH,
        length=5,
        keep_alive=True,
        expects_continue=False,
        websocket=False,
    )

    assert expected == read(
        b"POST /a?b HTTP/1.1\r\nhOST: a:1\r\nContent-length:5\r\nX: \t a: b\tc \t\r\nX:\xe9\r\nE: \r\n"
    )


# -- the corpus of hostile heads --

LINE = "malformed request line"
FIELD = "malformed header field"
TARGET = "malformed request target"
NO_HOST = "a request needs one Host"
BAD_HOST = "the request's Host is no host"
LENGTH = "malformed or repeated Content-Length"
CODING = "malformed Transfer-Encoding"
BESIDE = "Transfer-Encoding beside Content-Length or on HTTP/1.0"
NAMED = "Connection names a field that is not of this hop"
DISGUISED = "a field's name would be taken for another's"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(b"", (400, LINE), id="RFC 9112 2.2 nothing"),
        pytest.param(b"GET / HTTP/1.1 ", (400, LINE), id="3 a space at the end"),
        pytest.param(b" GET / HTTP/1.1", (400, LINE), id="2.2 a space before it"),
        pytest.param(b"GET  / HTTP/1.1", (400, LINE), id="3 two spaces"),
        pytest.param(b"GET /  HTTP/1.1", (400, LINE), id="3 two spaces after the target"),
        pytest.param(b"GET\t/ HTTP/1.1", (400, LINE), id="3 a tab"),
        pytest.param(b"GET /\tHTTP/1.1", (400, LINE), id="3 a tab after the target"),
        pytest.param(b"GET /\x0bHTTP/1.1", (400, LINE), id="3 a vertical tab"),
        pytest.param(b"GET /\xa0HTTP/1.1", (400, LINE), id="3 a space above ASCII"),
        pytest.param(b"GET / /b HTTP/1.1", (400, LINE), id="3.2 a space in the target"),
        pytest.param(b"GET /", (400, LINE), id="HTTP/0.9"),
        pytest.param(b"GET / http/1.1", (400, LINE), id="2.3 HTTP in lower case"),
        pytest.param(b"GET / HTTP/1", (400, LINE), id="2.3 HTTP/1"),
        pytest.param(b"GET / HTTP/1.10", (400, LINE), id="2.3 HTTP/1.10"),
        pytest.param(b"GET / HTTP/01.1", (400, LINE), id="2.3 HTTP/01.1"),
        pytest.param(b"GET / HTTP /1.1", (400, LINE), id="2.3 HTTP /1.1"),
        pytest.param(b"GET / HTTP/\xb9.1", (400, LINE), id="2.3 a digit above ASCII"),
        pytest.param(b"GET / ICAP/1.0", (400, LINE), id="another protocol"),
        pytest.param(b"GET / HTTP/1.2", (505, ""), id="RFC 9110 2.5 HTTP/1.2"),
        pytest.param(b"GET / HTTP/2.0", (505, ""), id="2.5 HTTP/2.0"),
        pytest.param(b"GET / HTTP/0.9", (505, ""), id="2.5 HTTP/0.9"),
        pytest.param(b"PRI * HTTP/2.0", (505, ""), id="the preface of HTTP/2"),
        pytest.param(b"G(T / HTTP/1.1", (400, LINE), id="9.1 a method that is no token"),
        pytest.param(b"G\xc9T / HTTP/1.1", (400, LINE), id="9.1 a method above ASCII"),
        pytest.param(b"/ HTTP/1.1", (400, LINE), id="no method"),
        pytest.param(b"M" * 33 + b" / HTTP/1.1", (501, ""), id="3 a method that is too long"),
        pytest.param(b"CONNECT a:443 HTTP/1.1", (405, ""), id="CONNECT"),
        pytest.param(b"CONNECT / HTTP/1.1", (405, ""), id="CONNECT to a path"),
        pytest.param(b"GET /\x00 HTTP/1.1", (400, LINE), id="NUL in the target"),
        pytest.param(b"GET /\x7f HTTP/1.1", (400, LINE), id="DEL in the target"),
        pytest.param(b"GET /a#b HTTP/1.1", (400, LINE), id="3.2.1 a fragment"),
        pytest.param(b"GET a HTTP/1.1", (400, TARGET), id="3.2.1 no slash"),
        pytest.param(b"GET ?a HTTP/1.1", (400, TARGET), id="3.2.1 a query alone"),
        pytest.param(b"GET \\a HTTP/1.1", (400, TARGET), id="3.2.1 a backslash"),
        pytest.param(b"GET * HTTP/1.1", (400, TARGET), id="3.2.4 * of another method"),
        pytest.param(b"OPTIONS ** HTTP/1.1", (400, TARGET), id="3.2.4 **"),
        pytest.param(b"GET a:443 HTTP/1.1", (400, TARGET), id="3.2.3 authority form"),
        pytest.param(b"GET ftp://a/ HTTP/1.1", (400, TARGET), id="another scheme"),
        pytest.param(b"GET http:/a HTTP/1.1", (400, TARGET), id="3.2.2 one slash"),
        pytest.param(b"GET http://me@a/ HTTP/1.1", (400, TARGET), id="RFC 9110 4.2.4 user information"),
        pytest.param(b"GET http:///a HTTP/1.1", (400, TARGET), id="4.2.1 no authority"),
        pytest.param(b"GET http://:80/a HTTP/1.1", (400, TARGET), id="4.2.1 a port alone"),
        pytest.param(b"GET http://a\\@b/ HTTP/1.1", (400, TARGET), id="a backslash in the authority"),
        pytest.param(b"GET http://a,b/ HTTP/1.1", (400, TARGET), id="a comma in the authority"),
        pytest.param(b"GET http://\xe9/ HTTP/1.1", (400, TARGET), id="an authority above ASCII"),
    ],
)
def test_a_request_line_that_two_readers_could_understand_differently_is_refused(
    line: bytes, expected: tuple[int, str]
) -> None:
    status, detail = refusal(line + b"\r\n" + HOST)

    assert expected == (status, expected[1] and detail)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(b"A: b\nC: d\r\n", FIELD, id="RFC 9112 2.2 a bare LF between fields"),
        pytest.param(b"A: b\rC: d\r\n", FIELD, id="2.2 a bare CR between fields"),
        pytest.param(b"A: b\r\r\n", FIELD, id="2.2 a bare CR at the end"),
        pytest.param(b"A: b\n", FIELD, id="2.2 a bare LF at the end"),
        pytest.param(b"A: b\0c\r\n", FIELD, id="RFC 9110 5.5 NUL in a value"),
        pytest.param(b"A\0: b\r\n", FIELD, id="NUL in a name"),
        pytest.param(b"A: \x1b[0m\r\n", FIELD, id="5.5 a control character"),
        pytest.param(b"A: \x7f\r\n", FIELD, id="DEL"),
        pytest.param(b"A: b\r\n c\r\n", FIELD, id="5.2 obs-fold"),
        pytest.param(b"A: b\r\n\tc: d\r\n", FIELD, id="5.2 obs-fold by a tab"),
        pytest.param(b"A : b\r\n", FIELD, id="5.1 a space before the colon"),
        pytest.param(b"A\t: b\r\n", FIELD, id="5.1 a tab before the colon"),
        pytest.param(b": b\r\n", FIELD, id="no name"),
        pytest.param(b"A b\r\n", FIELD, id="no colon"),
        pytest.param(b"A(b): c\r\n", FIELD, id="5.1 a name that is no token"),
        pytest.param(b"\xc3\xa9: c\r\n", FIELD, id="a name above ASCII"),
        pytest.param(b"\r\n", FIELD, id="an empty line within"),
        *(
            pytest.param(name + b": b\r\n", DISGUISED, id=f"a disguise {name.decode()}")
            for name in (
                b"Content_Length",
                b"content_LENGTH",
                b"Transfer_Encoding",
                b"X_Forwarded_Host",
                b"X-Forwarded_Proto",
                b"X_Real_IP",
                b"Accept_Encoding",
                b"If_None-Match",
            )
        ),
        *(
            pytest.param(b"Connection: " + names + b"\r\n", NAMED, id=f"7.6.1 Connection {names.decode()}")
            for names in (
                b"host",
                b"close, Host",
                b"Content-Length",
                b"transfer-encoding",
                b"keep-alive,Authorization",
                b"cookie",
                b"cache-control",
                b"X-Forwarded-For",
                b"x-forwarded-anything",
                b"forwarded",
                b"via",
                b"x-real-ip",
                b"accept-encoding",
                b"close\r\nConnection: cookie",
            )
        ),
    ],
)
def test_a_field_that_two_readers_could_understand_differently_is_refused(
    lines: bytes, expected: str
) -> None:
    assert (400, expected) == refusal(GET + HOST + lines)


HOSTS = (
    "a",
    "a:",
    "a:80",
    "a:65535",
    "A.b-c_d~e",
    "1.2.3.4:8080",
    "[::1]",
    "[1::2]:443",
    "[::1.2.3.4]",
    "a%41",
)
NO_HOSTS = (
    *(
        "",
        ":80",
        "a b",
        "a/b",
        "a,b",
        "a, b",
        "me@a",
        "a:b",
        "a:80:80",
        "a:65536",
        "a:100000",
        "a:-1",
        "http://a",
    ),
    *(
        "[::1",
        "::1",
        "[::1]a",
        "[::g]",
        "[1.2.3.4]",
        "[]",
        "[:]",
        "[::1%25a]",
        "a%4",
        "a?b",
        "a#b",
        "a\\b",
        "\xe9",
    ),
    *('"a"', "<a>", "a\tb", "a|b", "a^b"),
)


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_with_its_port_is_one(host: str) -> None:
    raw = host.encode("latin-1")

    assert ((b"Host", raw),) == read(GET + b"Host: " + raw + b"\r\n").fields
    assert ((b"Host", raw),) == read(b"GET http://%b HTTP/1.1\r\n" % raw + HOST).fields


@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_no_host_is_refused(host: str) -> None:
    assert (400, BAD_HOST) == refusal(GET + b"Host: " + host.encode("latin-1") + b"\r\n")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(GET, NO_HOST, id="3.2 none"),
        pytest.param(GET + HOST + HOST, NO_HOST, id="3.2 two"),
        pytest.param(GET + HOST + b"hOST: b\r\n", NO_HOST, id="3.2 two that differ"),
        pytest.param(b"GET / HTTP/1.0\r\n" + HOST + HOST, NO_HOST, id="3.2 two of HTTP/1.0"),
        pytest.param(b"GET / HTTP/1.0\r\nHost:\r\n", BAD_HOST, id="3.2 an empty one of HTTP/1.0"),
        pytest.param(b"GET http://a/ HTTP/1.1\r\n", NO_HOST, id="3.2 none, in absolute form"),
        pytest.param(
            b"GET http://a/ HTTP/1.1\r\nHost: a/b\r\n", BAD_HOST, id="3.2 a bad one, in absolute form"
        ),
    ],
)
def test_a_request_has_one_host(raw: bytes, expected: str) -> None:
    assert (400, expected) == refusal(raw)


POST = b"POST / HTTP/1.1\r\n" + HOST


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        *(
            pytest.param(b"Content-Length: " + length + b"\r\n", (400, LENGTH), id=f"RFC 9110 8.6 CL {label}")
            for label, length in {
                "+5": b"+5",
                "-5": b"-5",
                "0x5": b"0x5",
                "5.0": b"5.0",
                "5 5": b"5 5",
                "a list": b"5, 6",
                "a list of equals": b"5, 5",
                "two": b"5\r\nContent-Length: 6",
                "two equals": b"5\r\ncontent-length: 5",
                "empty": b"",
                "words": b"five",
                "with an underscore": b"1_0",
                "19 digits": b"1" * 19,
                "above ASCII": b"\xb2",
                "quoted": b'"5"',
            }.items()
        ),
        *(
            pytest.param(b"Transfer-Encoding: " + coding + b"\r\n", (status, detail), id=f"6.1 TE {label}")
            for label, coding, status, detail in (
                ("gzip", b"gzip", 400, CODING),
                ("identity", b"identity", 400, CODING),
                ("chunked, identity", b"chunked, identity", 400, CODING),
                ("chunked twice", b"chunked, chunked", 400, CODING),
                ("gzip and chunked twice", b"gzip, chunked, chunked", 400, CODING),
                ("empty", b"", 400, CODING),
                ("a comma", b",", 400, CODING),
                ("an empty member", b"chunked,", 400, CODING),
                ("an empty member first", b", chunked", 400, CODING),
                ("a parameter", b"chunked;q=1", 400, CODING),
                ("xchunked", b"xchunked", 400, CODING),
                ("quoted", b'"chunked"', 400, CODING),
                ("in single quotes", b"'chunked'", 400, CODING),
                ("above ASCII", b"chun\xe8ed", 400, CODING),
                ("an end above ASCII", b"chunked\xa0", 400, CODING),
                ("gzip, chunked", b"gzip, chunked", 501, ""),
                ("gzip,chunked", b"gzip,Chunked", 501, ""),
                ("three", b"gzip\t,\tdeflate , chunked", 501, ""),
                ("two lines", b"chunked\r\nTransfer-Encoding: chunked", 400, "repeated Transfer-Encoding"),
                ("two that differ", b"gzip\r\nTransfer-Encoding: chunked", 400, "repeated Transfer-Encoding"),
            )
        ),
        pytest.param(
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", (400, BESIDE), id="6.3 CL and TE"
        ),
        pytest.param(
            b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", (400, BESIDE), id="6.3 TE and CL"
        ),
        pytest.param(
            b"Transfer-Encoding: x\r\nContent-Length: 0\r\n", (400, BESIDE), id="6.3 another TE and CL"
        ),
    ],
)
def test_a_body_whose_end_is_not_certain_is_refused(lines: bytes, expected: tuple[int, str]) -> None:
    status, detail = refusal(POST + lines)

    assert expected == (status, expected[1] and detail)


def test_http_1_0_knows_no_chunked_coding() -> None:
    assert (400, BESIDE) == refusal(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(b"", (Body.NONE, 0), id="6.3.7 none"),
        pytest.param(b"Transfer-Encoding: chunked\r\n", (Body.CHUNKED, 0), id="6.3.4 chunked"),
        pytest.param(b"TRANSFER-encoding:\tChunked \r\n", (Body.CHUNKED, 0), id="7 in any case"),
        pytest.param(b"Content-Length: 5\r\n", (Body.LENGTH, 5), id="6.3.6 Content-Length"),
        pytest.param(b"Content-Length: 0\r\n", (Body.LENGTH, 0), id="6.3.6 of zero"),
        pytest.param(b"Content-Length: 005\r\n", (Body.LENGTH, 5), id="8.6 with leading zeros"),
        pytest.param(b"Content-Length: " + b"9" * 18 + b"\r\n", (Body.LENGTH, 10**18 - 1), id="the largest"),
    ],
)
def test_the_end_of_a_body_is_known_as_rfc_9112_section_6_3_says(
    lines: bytes, expected: tuple[Body, int]
) -> None:
    head = read(POST + lines)

    assert expected == (head.body, head.length)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(GET + HOST, True, id="9.3 HTTP/1.1"),
        pytest.param(GET + HOST + b"Connection: Close\r\n", False, id="9.3 close"),
        pytest.param(
            GET + HOST + b"Connection: a\r\nConnection: b, close\r\n", False, id="9.3 close among others"
        ),
        pytest.param(b"GET / HTTP/1.0\r\n", False, id="9.3 HTTP/1.0"),
        pytest.param(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", True, id="9.3 HTTP/1.0, asked"),
        pytest.param(
            b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n", False, id="9.3 close goes first"
        ),
    ],
)
def test_a_connection_is_kept_as_rfc_9112_section_9_3_says(raw: bytes, expected: bool) -> None:
    assert expected == read(raw).keep_alive


WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(GET + HOST + WEBSOCKET, True, id="a WebSocket"),
        pytest.param(
            GET + HOST + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", True, id="among others"
        ),
        pytest.param(POST + WEBSOCKET, False, id="another method"),
        pytest.param(b"GET / HTTP/1.0\r\n" + WEBSOCKET, False, id="RFC 9110 7.8 HTTP/1.0"),
        pytest.param(GET + HOST + WEBSOCKET + b"Content-Length: 0\r\n", False, id="a body of nothing"),
        pytest.param(GET + HOST + WEBSOCKET + b"Transfer-Encoding: chunked\r\n", False, id="a body"),
        pytest.param(GET + HOST + b"Upgrade: websocket\r\n", False, id="7.8 not in Connection"),
        pytest.param(GET + HOST + b"Connection: upgrade\r\n", False, id="to nothing"),
        pytest.param(GET + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n", False, id="HTTP/2"),
        pytest.param(GET + HOST + b"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n", False, id="either"),
    ],
)
def test_only_what_asks_for_a_websocket_and_nothing_else_may_become_one(raw: bytes, expected: bool) -> None:
    assert expected == read(raw).websocket


def test_whoever_expects_100_is_told_but_for_http_1_0() -> None:
    said = [b"Expect: 100-Continue\r\n", b"Expect: a, 100-continue\r\n", b"Expect: 200-ok\r\n", b""]

    assert [True, True, False, False] == [read(POST + line).expects_continue for line in said]
    assert not read(b"POST / HTTP/1.0\r\n" + said[0]).expects_continue


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/",
            "/a?",
            "//",
            "//evil/a",
            "/%2F",
            "/%zz",
            "/%00",
            "/a;b",
            "/a/../b",
            "/./",
            "/a\\b",
            "/a?b|c",
            "/\xe9\xff",
        ),
        *('/"<>^`{}', "/http://a/", "/@a", "/*", "/a:80", "/?a?b/c", "/~"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "get", "PURGE", "M-SEARCH", "A!#$%&'*+-.^_`|~0", "M" * 32])
def test_a_target_and_a_method_pass_as_they_are(method: str, target: str) -> None:
    raw = target.encode("latin-1")
    head = read(b"%b %b HTTP/1.1\r\n" % (method.encode(), raw) + HOST)

    assert (method, raw) == (head.method, head.target)


@pytest.mark.parametrize(
    ("method", "target", "expected", "host"),
    [
        pytest.param(b"GET", b"http://api/a?b", b"/a?b", b"api", id="absolute form"),
        pytest.param(b"GET", b"https://api/a", b"/a", b"api", id="https"),
        pytest.param(b"GET", b"HTTP://api:81//x", b"//x", b"api:81", id="scheme in capitals"),
        pytest.param(b"GET", b"http://api", b"/", b"api", id="RFC 9112 3.2.1 no path"),
        pytest.param(b"GET", b"http://api?x/y", b"/?x/y", b"api", id="3.2.1 a query and no path"),
        pytest.param(b"OPTIONS", b"http://api:81", b"*", b"api:81", id="3.2.4 OPTIONS without a path"),
        pytest.param(b"OPTIONS", b"http://api/", b"/", b"api", id="3.2.4 OPTIONS of the root"),
        pytest.param(b"OPTIONS", b"http://api?x", b"/?x", b"api", id="3.2.4 OPTIONS with a query"),
        pytest.param(b"OPTIONS", b"*", b"*", b"client", id="3.2.4 asterisk form"),
        pytest.param(b"GET", b"/http://api/", b"/http://api/", b"client", id="3.2.1 origin form"),
    ],
)
def test_an_absolute_target_is_the_same_request_as_its_path(
    method: bytes, target: bytes, expected: bytes, host: bytes
) -> None:
    head = read(method + b" " + target + b" HTTP/1.1\r\nA: 1\r\nhOST: client\r\n")

    assert (expected, [host]) == (
        head.target,
        [value for name, value in head.fields if name.lower() == b"host"],
    )


def test_fields_that_only_look_dangerous_pass() -> None:
    lines = (
        b"X_Custom: 1\r\nHost_Name: 2\r\nConnection: X-Hop, TE, keep-alive\r\nTE: trailers\r\nX-Hop: 1\r\n"
    )

    assert 6 == len(read(GET + HOST + lines).fields)


# -- limits --


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(b"GET /" + b"a" * 86 + b" HTTP/1.1\r\n" + HOST, 0, id="the longest line"),
        pytest.param(b"GET /" + b"a" * 87 + b" HTTP/1.1\r\n" + HOST, 414, id="a line that is too long"),
        pytest.param(GET + HOST + b"A: " + b"b" * 97 + b"\r\n", 0, id="the longest field"),
        pytest.param(GET + HOST + b"A: " + b"b" * 98 + b"\r\n", 431, id="a field that is too long"),
        pytest.param(GET + HOST + b"A: " + b"b" * 98 + b"\r\nC: d\r\n", 431, id="one that is not the last"),
        pytest.param(GET + HOST + b"A:\r\n" * 9, 0, id="the most fields"),
        pytest.param(GET + HOST + b"A:\r\n" * 10, 431, id="too many fields"),
        pytest.param(
            GET + HOST + (b"A: " + b"b" * 90 + b"\r\n") * 3 + b"A: " + b"b" * 83 + b"\r\n", 0, id="400 bytes"
        ),
        pytest.param(
            GET + HOST + (b"A: " + b"b" * 90 + b"\r\n") * 3 + b"A: " + b"b" * 84 + b"\r\n", 431, id="401"
        ),
    ],
)
def test_what_is_too_large_is_refused_to_the_byte(raw: bytes, status: int) -> None:
    for size in (1, 7, len(raw) + 4):
        seen = read_all(raw + b"\r\n", size)
        assert ([status] if status else [[parse_head(raw, LIMITS), b""]]) == seen


def read_all(data: bytes, size: int) -> list[Any]:
    """All requests and bodies, in pieces of `size`; the status of a refusal, without what it broke off, comes last."""
    return messages(data[place : place + size] for place in range(0, len(data), size))


def messages(pieces: Any) -> list[Any]:
    heads = HeadReader(LIMITS)
    found: list[Any] = []
    left, chunks = 0, None
    try:
        for piece in pieces:
            place = 0
            while place < len(piece):
                if chunks is not None:
                    got, place = chunks.feed(piece, place)
                    found[-1][1] += b"".join(got)
                    chunks = None if chunks.done else chunks
                elif left:
                    got_one = piece[place : place + left]
                    found[-1][1] += got_one
                    left, place = left - len(got_one), place + len(got_one)
                else:
                    head, place = heads.feed(piece, place)
                    if head is not None:
                        found.append([head, b""])
                        left = head.length
                        chunks = ChunkReader() if head.body is Body.CHUNKED else None
    except BadRequest as refused:
        found.append(refused.status)
    except BadChunks:
        found[-1] = 400
    return found


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"\x16\x03\x01", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\n", id="a bare LF"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\n", id="a bare LF after a field"),
        pytest.param(b"GET / HTTP/1.1\rH", id="a bare CR"),
        pytest.param(b"\rG", id="a bare CR first of all"),
        pytest.param(b"\n", id="a bare LF first of all"),
        pytest.param(b"GET /\r\n", id="HTTP/0.9"),
        pytest.param(b"garbage\r\n", id="garbage"),
        pytest.param(GET + b"A: \0", id="NUL"),
        pytest.param(b"\r\n\r\n", id="2.2 two empty lines"),
        pytest.param(b"\r\n\r\n" + GET + HOST + b"\r\n", id="2.2 two empty lines and a request"),
    ],
)
def test_what_will_never_be_a_request_is_refused_before_its_end(begun: bytes) -> None:
    assert ([400], [400]) == (read_all(begun, 1), read_all(begun, len(begun)))


def test_one_empty_line_before_a_request_is_passed_over() -> None:
    data = b"\r\n" + GET + HOST + b"\r\n"
    plain = [read(GET + HOST), b""]
    reader = HeadReader(LIMITS)
    reader.feed(b"\r\n")

    assert [[plain, plain]] * 3 == [read_all(data * 2, size) for size in (1, 2, 100)]
    assert not reader.begun


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET /" + b"a" * 97, 414, id="a line without end"),
        pytest.param(GET + b"A: " + b"b" * 99, 431, id="a field without end"),
        pytest.param(GET + b"A:\r\n" * 11, 431, id="fields without end"),
        pytest.param(GET + (b"A: " + b"b" * 90 + b"\r\n") * 5, 431, id="a head without end"),
    ],
)
def test_a_head_that_never_ends_is_cut_off(data: bytes, status: int) -> None:
    assert [[status]] * 3 == [read_all(data, size) for size in (1, 50, len(data))]


def test_a_head_that_is_too_large_is_so_behind_an_empty_line_in_pieces() -> None:
    data = b"\r\n" + GET + HOST + (b"A: " + b"b" * 80 + b"\r\n") * 10 + b"\r\n" + GET + HOST + b"\r\n"

    assert [431] == messages([data[:1], data[1:]])


# -- whatever comes --

GOOD = [
    GET + HOST + b"\r\n",
    b"\r\n" + GET + HOST + b"\r\n",
    b"PUT /a HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
    POST + b"Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n1\r\nd\r\n0\r\nA: b\r\n\r\n",
    POST + b"Content-Length: 2\r\nA: b \r\n\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET http://b/c HTTP/1.1\r\n" + HOST + b"\r\n",
]
STREAMS = st.lists(st.sampled_from(GOOD), max_size=4).map(b"".join)
DAMAGED = st.builds(
    lambda data, at, byte: data[: at % (len(data) + 1)] + byte + data[at % (len(data) + 1) + 1 :],
    STREAMS,
    st.integers(0, 400),
    st.sampled_from([b"", b"\n", b"\r", b"\0", b"0", b" ", b":", b"\t", b"\r\n", b"_", b"#", b"\xff"]),
)


@given(STREAMS | DAMAGED, st.sets(st.integers(1, 400), max_size=9))
@example(GOOD[0] + b"\r", {1})
@example(b"\r\n" * 3, {1, 3})
def test_bytes_mean_the_same_however_they_are_split(data: bytes, cuts: set[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    whole = messages([data])

    assert whole == _same(whole, messages(data[start:end] for start, end in pairwise(places)))
    assert whole == _same(whole, read_all(data, 1))


def _same(whole: list[Any], split: list[Any]) -> list[Any]:
    """A refusal is a refusal: with which status may depend on how far the reader had come."""
    if whole and split and isinstance(whole[-1], int) and isinstance(split[-1], int):
        return [*split[:-1], whole[-1]]
    return split


@given(st.binary(max_size=60))
@example(b"Host: a\r\n\r\n")
def test_any_bytes_are_refused_or_read(raw: bytes) -> None:
    for text in (raw, GET + raw, GET + b"Host: " + raw, POST + raw, POST + b"Content-Length: " + raw):
        for end in (b"", b"\r\n", b"\r\n\r\n"):
            messages([text + end])


HEADS = st.builds(
    lambda method, target, version, lines: (
        b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version, b"".join(lines))
    ),
    st.sampled_from([b"GET", b"POST", b"OPTIONS", b"PURGE", b"HEAD", b"DELETE"]),
    st.sampled_from([b"/", b"/a?b", b"*", b"//", b"/%zz", b"http://c/d", b"a"]) | st.binary(max_size=6),
    st.sampled_from([b"1.1", b"1.0", b"1.2"]),
    st.lists(
        st.sampled_from(
            [
                *(
                    b"Host: a\r\n",
                    b"Host: a\r\n",
                    b"Host:b:80\r\n",
                    b"Content-Length: 3\r\n",
                    b"Content-Length: 0\r\n",
                ),
                *(b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n"),
                *(b"Expect: 100-continue\r\n", b"X: \xe9 \t\r\n", b"X:\r\n"),
            ]
        )
        | st.binary(max_size=8).map(lambda raw: b"A: " + raw + b"\r\n"),
        max_size=5,
    ),
)


@given(HEADS, st.sampled_from([b"abc", b"3\r\nabc\r\n0\r\n\r\n", b""]))
@example(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n")
@example(POST + b"Content-Length: 3\r\n\r\n", b"abc")
def test_what_is_accepted_another_parser_that_accepts_it_reads_in_the_same_way(
    head: bytes, body: bytes
) -> None:
    ours = messages([head + body])
    if not ours or not isinstance(ours[0], list):
        return
    theirs = by_aiohttp(head + body)
    if theirs is None:
        return
    mine, content = ours[0]
    absolute = head.split(b" ")[1].lower().startswith(b"http")

    assert (mine.method, mine.body is Body.CHUNKED, content) == (
        theirs["method"],
        theirs["chunked"],
        theirs["body"],
    )
    # To llhttp, keep-alive beside close keeps an HTTP/1.0 connection; to RFC 9112 section 9.3 it doesn't.
    assert theirs["keep_alive"] or not mine.keep_alive
    if not absolute:
        assert (mine.target, mine.fields) == (theirs["target"], theirs["fields"])


def by_aiohttp(data: bytes) -> dict[str, Any] | None:
    """The first request as llhttp reads it; None if it doesn't."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        found, _, _ = parser.feed_data(data)
        if not found:
            return None
        message, payload = found[0]
        return {
            "method": message.method,
            "target": message.path.encode("utf-8", "surrogateescape"),
            "fields": tuple((bytes(name), bytes(value)) for name, value in message.raw_headers),
            "keep_alive": not message.should_close,
            "chunked": bool(message.chunked),
            "body": payload.read_nowait(),
        }
    except HttpProcessingError:
        return None
    finally:
        loop.close()


# -- what it costs --

LARGE = Limits(max_line=8190, max_field=8190, max_fields=128, max_head=64 * 1024)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(GET + b"A:" + b" " * 64000 + b"\0\r\n", id="white space"),
        pytest.param(GET + b"A: b" + b" " * 64000 + b"\0\r\n", id="white space at the end"),
        pytest.param(GET + b"A: " + b"b " * 32000 + b"\0\r\n", id="words"),
        pytest.param(GET + b"a" * 64000 + b"\r\n", id="a name"),
        pytest.param(GET + b"A:\r\n" * 16000, id="fields"),
        pytest.param(b"GET /" + b"a" * 64000, id="a target"),
        pytest.param(b"A" * 64000, id="a method"),
        pytest.param(GET + b"Host: " + b"%41" * 2700 + b"%\r\n", id="a host"),
        pytest.param(GET + HOST + b"Connection: " + b"a," * 4000 + b"host\r\n", id="options"),
        pytest.param(GET + HOST + b"Transfer-Encoding: " + b"a," * 4000 + b"\r\n", id="codings"),
    ],
)
def test_a_hostile_head_of_64_kb_is_refused_in_no_time(raw: bytes) -> None:
    for limits in (LARGE, Limits(max_line=2**20, max_field=2**20, max_fields=2**20, max_head=2**20)):
        began = perf_counter()
        with pytest.raises(BadRequest):
            parse_head(raw, limits)
        # 0.002 in fact.
        assert perf_counter() - began < 0.2


def test_a_head_that_comes_by_the_byte_is_not_read_from_its_start_each_time() -> None:
    raw = GET + HOST + (b"A: " + b"b" * 1000 + b"\r\n") * 60
    reader = HeadReader(LARGE)
    began = perf_counter()
    for byte in raw:
        reader.feed(bytes([byte]))
    assert reader.feed(b"\r\n")[0] is not None

    # 0.1 in fact; from the start each time it would be 60,000 times 30 KB.
    assert perf_counter() - began < 1.0


# -- Host --

PLAIN: Fields = ((b"A", b"1"), (b"Host", b"client"))


def test_host_is_added_only_where_there_is_none() -> None:
    assert PLAIN == with_host(PLAIN, b"api")
    assert ((b"Host", b"api"), (b"A", b"1")) == with_host(((b"A", b"1"),), b"api")
