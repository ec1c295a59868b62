"""What may be stored and shared, and what of it."""

import pytest

from tests.claims import clause
from tests.flow.caching.stage import (
    API,
    ETAG,
    FRESH,
    STORE,
    VALIDATED,
    Source,
    Stage,
    exactly,
    reply,
    table,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def routes() -> str:
    return '[{match: "/cookies/**", store: {set_cookie: true}}, {match: "/**"}]'


# -- statuses --


@clause("RFC 9111", "3", "Any final answer whose freshness is given is stored, known status or not")
@pytest.mark.parametrize(
    "status",
    [
        200,
        201,
        202,
        203,
        204,
        205,
        299,
        300,
        301,
        302,
        303,
        307,
        308,
        400,
        403,
        404,
        405,
        410,
        414,
        418,
        451,
        499,
        500,
        501,
        502,
        503,
        504,
        599,
    ],
)
@pytest.mark.parametrize("freshness", [FRESH, "Expires: <+60>"], ids=["max-age", "Expires"])
async def test_statuses_with_freshness(stage: Stage, freshness: str, status: int) -> None:
    stage.answers(freshness, status=status)
    assert await stage.reuse() is STORE


@clause(
    "RFC 9111",
    "5.2.2.3",
    "must-understand: what is of an unknown status is not stored, of a known one no-store is ignored",
)
@table(
    "status, control, source",
    {
        "200": (200, "max-age=60, must-understand, no-store", STORE),
        "200, in another order": (200, "no-store, must-understand, max-age=60", STORE),
        "200, in capitals": (200, "max-age=60, MUST-UNDERSTAND, no-store", STORE),
        "200, without no-store": (200, "max-age=60, must-understand", STORE),
        "204": (204, "max-age=60, must-understand, no-store", STORE),
        "301": (301, "max-age=60, must-understand, no-store", STORE),
        "404": (404, "max-age=60, must-understand, no-store", STORE),
        "410": (410, "max-age=60, must-understand, no-store", STORE),
        "299": (299, "max-age=60, must-understand, no-store", API),
        "299, without no-store": (299, "max-age=60, must-understand", API),
        "499": (499, "max-age=60, must-understand", API),
        "599": (599, "max-age=60, must-understand", API),
        "200, private": (200, "max-age=60, must-understand, no-store, private", API),
        "200, a part of the word": (200, "max-age=60, must-understands, no-store", API),
    },
)
async def test_must_understand(stage: Stage, status: int, control: str, source: Source) -> None:
    stage.answers(f"Cache-Control: {control}", status=status)
    assert await stage.reuse() is source


@clause(
    "RFC 9111", "3", "A 206 is not stored, as parts are not put together, and a 304 is no answer of its own"
)
@pytest.mark.parametrize("status", [206, 304])
async def test_statuses_that_are_not_stored(stage: Stage, status: int) -> None:
    stage.answers(FRESH, status=status)
    assert await stage.reuse() is API


# -- what forbids it --


@clause(
    "RFC 9111", "5.2.2.5", "no-store is obeyed, wherever it stands and however malformed what is around it is"
)
@table(
    "lines",
    {
        "alone": ["Cache-Control: no-store", "Expires: <+60>"],
        "in capitals": ["Cache-Control: NO-STORE, max-age=60"],
        "first": ["Cache-Control: no-store, max-age=60"],
        "last": ["Cache-Control: max-age=60, no-store"],
        "without white space": ["Cache-Control: max-age=60,no-store"],
        "with much white space": ["Cache-Control: max-age=60 ,\t no-store\t"],
        "in a second line": ["Cache-Control: max-age=60", "Cache-Control: no-store"],
        "in a first line": ["Cache-Control: no-store", "Cache-Control: max-age=60"],
        "with an argument": ["Cache-Control: max-age=60, no-store=1"],
        "with a quoted argument": ['Cache-Control: max-age=60, no-store="Set-Cookie"'],
        "after an empty member": ["Cache-Control: max-age=60,,no-store"],
        "after a malformed member": ["Cache-Control: max-age=60, @ =, no-store"],
        "after a quote without end": ['Cache-Control: max-age=60, foo="bar, no-store'],
        "after a quote without end, in a line before": [
            'Cache-Control: max-age=60, foo="bar',
            'Cache-Control: no-store, x="',
        ],
        "after an escaped quote without end": ['Cache-Control: max-age=60, foo="bar\\", no-store'],
        "after a quote within a token": ['Cache-Control: max-age=60, foo=b"ar, no-store'],
        "after a quoted comma": ['Cache-Control: max-age=60, foo="a, b", no-store'],
        "beside public": ["Cache-Control: public, max-age=60, no-store"],
        "beside s-maxage": ["Cache-Control: s-maxage=60, no-store"],
        "beside immutable": ["Cache-Control: max-age=60, immutable, no-store"],
    },
)
async def test_no_store(stage: Stage, lines: list[str]) -> None:
    stage.answers(*lines, ETAG)
    assert await stage.reuse() is API


@clause("RFC 9111", "5.2.2.7", "private is obeyed as strictly as no-store")
@table(
    "lines",
    {
        "alone": ["Cache-Control: private", "Expires: <+60>"],
        "in capitals": ["Cache-Control: PRIVATE, max-age=60"],
        "first": ["Cache-Control: private, max-age=60"],
        "last": ["Cache-Control: max-age=60, private"],
        "in a second line": ["Cache-Control: max-age=60", "Cache-Control: private"],
        "beside public": ["Cache-Control: public, private, max-age=60"],
        "beside s-maxage": ["Cache-Control: private, s-maxage=60"],
        "after a quote without end": ['Cache-Control: max-age=60, foo="bar, private'],
        "after a malformed member": ["Cache-Control: max-age=60, =, private"],
        "naming nothing": ['Cache-Control: max-age=60, private=""'],
        "naming nothing readable": ['Cache-Control: max-age=60, private="a b"'],
        "naming a field, and alone": ['Cache-Control: max-age=60, private="X", private'],
        "with a quote without end": ['Cache-Control: max-age=60, private="X'],
    },
)
async def test_private(stage: Stage, lines: list[str]) -> None:
    stage.answers(*lines, ETAG)
    assert await stage.reuse() is API


@clause(
    "RFC 9111",
    "7.3",
    "An answer with Set-Cookie is its client's own, although the standard would let it be stored",
)
@pytest.mark.parametrize(
    "control",
    [
        "max-age=60",
        "public, max-age=60",
        "s-maxage=60",
        "max-age=60, must-revalidate",
        "max-age=60, immutable",
    ],
)
async def test_set_cookie(stage: Stage, control: str) -> None:
    stage.answers(f"Cache-Control: {control}", "set-COOKIE: a=b")
    first, second = await stage.ask(), await stage.ask()

    assert (first.all("set-cookie"), second.all("set-cookie")) == (["a=b"], ["a=b"])
    assert second.source is API


@clause("RFC 9111", "7.3", "Where the operator promises that all may have the cookie, it is stored")
async def test_set_cookie_for_all(stage: Stage) -> None:
    stage = Stage(stage.api, stage.proxy, root="/cookies")
    stage.answers(FRESH, "Set-Cookie: a=b", "Set-Cookie: c=d")
    seen = await stage.second()
    assert (seen.source, seen.all("set-cookie")) == (STORE, ["a=b", "c=d"])


@clause(
    "RFC 9111",
    "3.5",
    "An answer to a request with Authorization is stored only where the API says that it is for all",
)
@table(
    "control, source",
    {
        "max-age": ("max-age=60", API),
        "public": ("public, max-age=60", STORE),
        "public, in capitals": ("PUBLIC, max-age=60", STORE),
        "s-maxage": ("s-maxage=60", STORE),
        "must-revalidate": ("must-revalidate, max-age=60", STORE),
        "proxy-revalidate": ("proxy-revalidate, max-age=60", API),
        "immutable": ("immutable, max-age=60", API),
        "private": ("private, max-age=60", API),
        "public and no-store": ("public, no-store, max-age=60", API),
        "public and private": ("public, private, max-age=60", API),
        "quoted public": ('foo="public", max-age=60', API),
        "public without freshness": ("public", API),
    },
)
@pytest.mark.parametrize("scheme", ["Basic YTpi", "Bearer a"])
async def test_authorization(stage: Stage, scheme: str, control: str, source: Source) -> None:
    stage.answers(f"Cache-Control: {control}")
    assert await stage.reuse(f"Authorization: {scheme}c", first=[f"Authorization: {scheme}"]) is source


@clause("RFC 9111", "3.5", "What was not stored for one who is authorized is nobody else's either")
async def test_authorization_and_the_rest(stage: Stage) -> None:
    stage.answers(FRESH)
    assert await stage.reuse(first=["Authorization: Basic YTpi"]) is API


@clause(
    "RFC 9111",
    "3",
    "A Cookie in the request doesn't keep an answer from the store to which the API gave freshness",
)
async def test_a_request_s_cookie(stage: Stage) -> None:
    stage.answers(FRESH)
    assert await stage.reuse("Cookie: a=2", first=["Cookie: a=1"]) is STORE


@clause("RFC 9111", "5.4", "Pragma in an answer means nothing")
async def test_pragma_in_an_answer(stage: Stage) -> None:
    stage.answers(FRESH, "Pragma: no-cache")
    assert await stage.reuse() is STORE


@clause("RFC 9111", "3", "Without freshness and validator nothing of a no-cache answer is worth keeping")
@pytest.mark.parametrize("control", ["no-cache", "no-cache, max-age=60", 'max-age=60, no-cache=""'])
async def test_no_cache_without_validator(stage: Stage, control: str) -> None:
    stage.answers(f"Cache-Control: {control}")
    assert await stage.reuse() is API


# -- fields that are not stored --


@clause(
    "RFC 9111", "5.2.2.4", "no-cache and private with names: stored without those fields, the rest is used"
)
@table(
    "argument, kept",
    {
        "one": ('"X-A"', ["X-B", "X-C"]),
        "two": ('"X-A, X-B"', ["X-C"]),
        "without white space": ('"X-A,X-B"', ["X-C"]),
        "in another case": ('"x-a"', ["X-B", "X-C"]),
        "with empty members": ('", X-A,,"', ["X-B", "X-C"]),
        "one that is not there": ('"X-Z"', ["X-A", "X-B", "X-C"]),
        "a part of a name": ('"X"', ["X-A", "X-B", "X-C"]),
        "an escaped letter": ('"X-\\A"', ["X-B", "X-C"]),
    },
)
@pytest.mark.parametrize("name", ["no-cache", "private", "No-Cache", "PRIVATE"])
async def test_named_fields(stage: Stage, name: str, argument: str, kept: list[str]) -> None:
    stage.answers(f"Cache-Control: max-age=60, {name}={argument}", "X-A: 1", "X-B: 2", "X-C: 3")
    first, second = await stage.ask(), await stage.ask()
    names = ("X-A", "X-B", "X-C")

    assert all(first.has(field) for field in names)
    assert second.source is STORE
    assert [field for field in names if second.has(field)] == kept


@clause("RFC 9111", "5.2.2.4", "Fields that no-cache names in two directives are all left out")
@pytest.mark.parametrize(
    "lines",
    [
        ['Cache-Control: max-age=60, no-cache="X-A", no-cache="X-B"'],
        ['Cache-Control: max-age=60, no-cache="X-A"', 'Cache-Control: no-cache="X-B"'],
        ['Cache-Control: max-age=60, no-cache="X-A", private="X-B"'],
    ],
    ids=["one line", "two lines", "two directives"],
)
async def test_fields_named_twice(stage: Stage, lines: list[str]) -> None:
    stage.answers(*lines, "X-A: 1", "X-B: 2", "X-C: 3")
    seen = await stage.second()
    assert seen.source is STORE
    assert [field for field in ("X-A", "X-B", "X-C") if seen.has(field)] == ["X-C"]


@clause("RFC 9111", "5.2.2.4", "no-cache beside one with names is about the whole answer")
@pytest.mark.parametrize(
    "control", ['no-cache="X", no-cache, max-age=60', 'no-cache, no-cache="X", max-age=60']
)
async def test_no_cache_beside_one_with_names(stage: Stage, control: str) -> None:
    stage.answers(f"Cache-Control: {control}", ETAG, "X: 1")
    assert await stage.reuse() is VALIDATED


@clause("RFC 9111", "5.2.2.7", "A cookie that is named private reaches its own client and nobody else")
@pytest.mark.parametrize("name", ["private", "no-cache"])
async def test_a_private_cookie(stage: Stage, name: str) -> None:
    stage.answers_in_turn(
        reply(f'Cache-Control: max-age=60, {name}="Set-Cookie"', "Set-Cookie: a=1"), reply(FRESH)
    )
    first, second = await stage.ask(), await stage.ask()
    assert (first.has("set-cookie"), second.has("set-cookie")) == (True, False)


@clause("RFC 9110", "7.6.1", "Fields of this hop are neither passed on nor stored")
@table(
    "lines, gone",
    {
        "Keep-Alive": (["Keep-Alive: timeout=5"], ["Keep-Alive"]),
        "Proxy-Connection": (["Proxy-Connection: keep-alive"], ["Proxy-Connection"]),
        "TE": (["TE: trailers"], ["TE"]),
        "Trailer": (["Trailer: X-T"], ["Trailer"]),
        "Upgrade": (["Connection: upgrade", "Upgrade: h2c"], ["Upgrade", "Connection"]),
        "Connection: keep-alive": (["Connection: keep-alive"], ["Connection"]),
        "what Connection names": (["Connection: X-A", "X-A: 1"], ["X-A", "Connection"]),
        "several in Connection": (["Connection: X-A, X-B", "X-A: 1", "X-B: 2"], ["X-A", "X-B"]),
        "two lines of Connection": (["Connection: X-A", "Connection: X-B", "X-B: 2"], ["X-B"]),
        "another case": (["connection: x-a", "X-A: 1"], ["X-A"]),
        "empty members": (["Connection: ,, X-A ,", "X-A: 1"], ["X-A"]),
    },
)
async def test_fields_of_the_hop(stage: Stage, lines: list[str], gone: list[str]) -> None:
    stage.answers(FRESH, *lines, "X-C: 3")
    first, second = await stage.ask(), await stage.ask()

    assert [second.source, second.get("x-c")] == [STORE, "3"]
    for seen in (first, second):
        assert [name for name in gone if seen.has(name)] == []


@clause("RFC 9110", "7.6.1", "The coding of the hop is undone: the stored answer has a length")
async def test_a_chunked_answer(stage: Stage) -> None:
    stage.answers_in_turn(
        exactly(
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
        )
    )
    seen = await stage.second()

    assert (seen.source, seen.body, seen.all("content-length")) == (STORE, b"abcde", ["5"])
    assert not seen.has("transfer-encoding")


@clause("RFC 9110", "6.5.1", "Trailer fields don't become header fields of what is stored")
async def test_trailers_are_no_headers(stage: Stage) -> None:
    stage.answers_in_turn(
        exactly(
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n0\r\nX-T: 1\r\nCache-Control: max-age=0\r\n\r\n"
        )
    )
    seen = await stage.second()

    assert (seen.source, seen.body, seen.has("x-t")) == (STORE, b"abc", False)
    assert seen.all("cache-control") == ["max-age=60"]


@clause("RFC 9111", "3.1", "Proxy authentication is not stored")
@pytest.mark.parametrize(
    "line",
    ["Proxy-Authenticate: Basic", 'Proxy-Authentication-Info: nextnonce="a"', "Proxy-Authorization: Basic a"],
)
async def test_proxy_authentication(stage: Stage, line: str) -> None:
    stage.answers(FRESH, line)
    seen = await stage.second()
    assert (seen.source, seen.has(line.partition(":")[0])) == (STORE, False)


@clause("RFC 9111", "3.1", "All other fields are stored and given back as they came")
@pytest.mark.parametrize(
    "line",
    [
        "Access-Control-Allow-Origin: *",
        "Accept-Ranges: bytes",
        "Allow: GET, HEAD",
        'Alt-Svc: h3=":443"',
        "Authentication-Info: a=b",
        "Clear-Site-Data: cache",
        "Content-Disposition: attachment",
        "Content-Encoding: x-test",
        "Content-Language: en",
        "Content-Location: /elsewhere",
        "Content-Security-Policy: default-src 'self'",
        "Content-Type: text/plain;charset=utf-8",
        "Content-Foo: 1",
        'ETag: W/"v1"',
        "Expires: 0",
        "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT",
        "Last-Modified: nonsense",
        'Link: </a.css>;rel="preload"',
        "Location: /elsewhere",
        "P3P: a",
        "Pragma: no-cache",
        'Public-Key-Pins: pin-sha256="a"',
        "Retry-After: 60",
        "Server: a/1 (b)",
        "Strict-Transport-Security: max-age=1",
        "Surrogate-Control: max-age=1",
        "Surrogate-Key: a b",
        "Warning: 199 a b",
        "WWW-Authenticate: Basic",
        "X-Frame-Options: deny",
        "X-XSS-Protection: 1",
        "X-Empty: ",
        "X-Latin: \xe9",
        "x-lOWER: 1",
    ],
)
@pytest.mark.parametrize("status", [200, 404])
async def test_other_fields_are_stored(stage: Stage, status: int, line: str) -> None:
    stage.answers(FRESH, line, status=status)
    seen = await stage.second()
    name, _, value = line.partition(": ")

    assert (seen.source, seen.all(name)) == (STORE, [value])
    assert name.encode() in [field for field, _ in seen.response.fields]


@clause("RFC 9110", "5.3", "Order, case and repetition of the fields are kept in the store")
async def test_order_and_repetition(stage: Stage) -> None:
    lines = ["x-B: 1", "X-A: 1", FRESH, "X-b: 2", "X-A: 2", "Date: <+0>", "X-A: 1", "Content-Length: 1"]
    stage.answers(*lines)
    seen = await stage.second()
    ours = (b"age", b"cache-status", b"via")
    names = [name.decode() for name, _ in seen.response.fields if name.lower() not in ours]

    assert seen.source is STORE
    assert names == [line.partition(":")[0] for line in lines]
    assert (seen.all("x-a"), seen.all("x-b")) == (["1", "2", "1"], ["1", "2"])


@clause("RFC 9110", "15", "Status and reason are given back as they came")
async def test_the_reason_is_kept(stage: Stage) -> None:
    stage.answers_in_turn(
        exactly(b"HTTP/1.1 200 Very \xe4 well\r\nCache-Control: max-age=60\r\nContent-Length: 0\r\n\r\n")
    )
    seen = await stage.second()
    assert (seen.source, seen.response.reason) == (STORE, b"Very \xe4 well")


# -- incomplete answers --


@clause("RFC 9111", "3.3", "An answer that broke off is not stored")
@table(
    "data",
    {
        "short of its length": b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n12345",
        "no byte of its body": b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n",
        "without its last chunk": (
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        ),
        "within a chunk": (
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc"
        ),
        "within its head": b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nConte",
    },
)
async def test_incomplete_answers(stage: Stage, data: bytes) -> None:
    stage.answers_in_turn(exactly(data, close=True))
    await stage.ask()
    stage.answers(FRESH, body=b"whole")
    seen = await stage.ask()
    assert (seen.source, seen.status, seen.body) == (API, 200, b"whole")


@clause("RFC 9111", "4", "Answers to other methods than GET are not stored")
@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "DELETE"])
async def test_other_methods_are_not_stored(stage: Stage, method: str) -> None:
    stage.answers(FRESH)
    seen = [await stage.ask(method=method), await stage.ask(method=method), await stage.ask()]
    assert [one.source for one in seen] == [API] * 3
