"""What makes two requests one: host, path and query."""

import pytest

from tests.claims import clause
from tests.flow.caching.stage import API, FRESH, STORE, Source, Stage, exactly, table

pytestmark = pytest.mark.asyncio(loop_scope="module")


@clause("RFC 9111", "2", "Another path or query is another answer; the same one is the same")
@table(
    "first, second, source",
    {
        "the same": ("?a=1", "?a=1", STORE),
        "the same path": ("/a", "/a", STORE),
        "another value": ("?a=1", "?a=2", API),
        "another name": ("?a=1", "?b=1", API),
        "without a query": ("?a=1", "", API),
        "with a query": ("", "?a=1", API),
        "without a value": ("?a", "?a=1", API),
        "one more": ("?a=1", "?a=1&b=2", API),
        "the same twice": ("?a=1", "?a=1&a=1", API),
        "repeated, in another order": ("?a=1&a=2", "?a=2&a=1", API),
        "another case of the name": ("?a=1", "?A=1", API),
        "another case of the value": ("?a=b", "?a=B", API),
        "another path": ("/a", "/b", API),
        "another case of the path": ("/a", "/A", API),
        "a slash at the end": ("/a", "/a/", API),
        "two slashes": ("/a/b", "/a//b", API),
        "an escaped slash": ("/a/b", "/a%2Fb", API),
        "an escaped question mark": ("/a?b", "/a%3Fb", API),
        "a parameter of the path": ("/a", "/a;b=1", API),
        "an escaped ampersand": ("?a=1&b=2", "?a=1%26b=2", API),
        "a plus": ("?a=1+2", "?a=1%2B2", API),
        "a very long one that ends alike": (f"?a={'x' * 2000}1", f"?a={'x' * 2000}2", API),
    },
)
async def test_paths_and_queries(stage: Stage, first: str, second: str, source: Source) -> None:
    stage.answers(FRESH)
    one = await stage.ask(at=first)
    other = await stage.ask(at=second)

    assert (other.source, other.body) == (source, b"1" if source is STORE else b"2")
    assert one.body == b"1"


@clause("RFC 9110", "7.2", "Another Host is another answer; its case doesn't matter")
@table(
    "first, second, source",
    {
        "the same": ("api.test", "api.test", STORE),
        "another case": ("api.test", "API.Test", STORE),
        "another host": ("api.test", "other.test", API),
        "another port": ("api.test", "api.test:8080", API),
        "a subdomain": ("api.test", "a.api.test", API),
        "another port of two": ("api.test:8080", "api.test:8081", API),
    },
)
async def test_hosts(stage: Stage, first: str, second: str, source: Source) -> None:
    stage.answers(FRESH)
    assert await stage.reuse(f"Host: {second}", first=[f"Host: {first}"]) is source


@clause("RFC 9111", "4", "What a client says of itself makes no other answer, unless Vary says so")
@pytest.mark.parametrize(
    "line",
    [
        "Accept: text/html",
        "Accept-Language: de",
        "Accept-Encoding: br",
        "User-Agent: a",
        "Referer: http://a.test/",
        "X-Forwarded-For: 192.0.2.1",
        "X-Request-Id: 1",
        "Traceparent: 00-1",
        "DNT: 1",
    ],
)
async def test_what_a_client_says_of_itself(stage: Stage, line: str) -> None:
    stage.answers(FRESH)
    assert await stage.reuse(line) is STORE


@clause(
    "RFC 9111",
    "4.1",
    "Requests with and without Origin share nothing: many an API answers them otherwise, and says no Vary",
)
async def test_cross_origin_requests(stage: Stage) -> None:
    stage.answers(FRESH)
    sources = [
        (await stage.ask(*lines)).source
        for lines in ([], ["Origin: http://a.test"], [], ["Origin: http://b.test"])
    ]
    assert sources == [API, API, STORE, STORE]


@clause("RFC 9112", "5.1", "White space before a colon is taken away from the API's answer")
async def test_space_before_a_colon(stage: Stage) -> None:
    stage.answers_by(lambda _: exactly(b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length \t: 2\r\n\r\nok"))
    seen = await stage.ask()
    assert (seen.get("x"), seen.body) == ("a", b"ok")
