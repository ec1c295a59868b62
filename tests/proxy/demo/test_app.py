"""What holds for every endpoint: problems, HEAD, no caching of POST."""

from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from proxy.demo.app import application
from proxy.demo.database import UnavailableError


class Away:
    """A database that has gone."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def rows(self, *_: object) -> list[dict[str, Any]]:
        raise self._error

    def transaction(self) -> Any:
        raise self._error

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("method", "target", "status", "detail"),
    [
        pytest.param("GET", "/nowhere", 404, "Not Found", id="no route"),
        pytest.param("GET", "/api/events/abc", 404, "Not Found", id="no number"),
        pytest.param("GET", "/api/events/2001", 404, "there is no event 2001", id="no event"),
        pytest.param("PUT", "/api/events/1", 405, "Method Not Allowed", id="no method"),
        pytest.param("GET", "/api/events?status=active", 400, "status is one of", id="no status"),
        pytest.param("GET", "/api/events?page=0", 400, "page is a number", id="no page"),
    ],
)
async def test_an_error_is_a_problem_document(
    client: aiohttp.ClientSession, method: str, target: str, status: int, detail: str
) -> None:
    async with client.request(method, target) as answer:
        document = await answer.json(content_type="application/problem+json")

    assert (status, status, "about:blank") == (answer.status, document["status"], document["type"])
    assert document["detail"].startswith(detail)


async def test_a_refused_method_is_told_which_are_allowed(client: aiohttp.ClientSession) -> None:
    async with client.put("/api/events/1") as answer:
        assert answer.headers["Allow"] == "GET,HEAD"


@pytest.mark.parametrize(
    "target",
    [
        "/api/events?status=running",
        "/api/events/1",
        "/api/events/1/participants",
        "/api/events/1/stats",
        "/api/event-types/popular",
        "/api/config",
        "/api/download?bytes=100000",
        "/healthz",
    ],
)
async def test_head_has_the_headers_of_get_and_no_body(client: aiohttp.ClientSession, target: str) -> None:
    async with client.get(target) as got, client.head(target) as head:
        expected = {name: value for name, value in got.headers.items() if name != "Date"}
        actual = {name: value for name, value in head.headers.items() if name != "Date"}

        assert (200, expected, b"") == (head.status, actual, await head.read())
        assert len(await got.read()) == int(got.headers["Content-Length"])


@pytest.mark.parametrize("target", ["/api/checkins", "/api/events/1/participants", "/nowhere"])
async def test_no_answer_to_a_post_may_be_stored(client: aiohttp.ClientSession, target: str) -> None:
    async with client.post(target, data=b"{}") as answer:
        assert (answer.status >= 400, answer.headers["Cache-Control"]) == (True, "no-store")


@pytest.mark.parametrize(
    "target", ["/api/events", "/api/events/1", "/api/config", "/api/event-types/popular"]
)
async def test_no_get_says_how_long_it_may_be_kept(client: aiohttp.ClientSession, target: str) -> None:
    async with client.get(target) as answer:
        assert not {"Cache-Control", "Expires"} & set(answer.headers)


async def test_a_body_that_is_too_large_is_refused(client: aiohttp.ClientSession) -> None:
    async with client.post("/api/checkins", data=b" " * 100_000) as answer:
        assert (answer.status, answer.content_type) == (413, "application/problem+json")


@pytest.mark.parametrize(
    ("error", "status"),
    [pytest.param(UnavailableError("gone"), 503, id="away"), pytest.param(KeyError("bug"), 500, id="bug")],
)
async def test_an_error_behind_the_api_is_a_problem_that_tells_no_secrets(
    error: Exception, status: int
) -> None:
    app: web.Application = application(Away(error))
    async with TestClient(TestServer(app)) as client, client.get("/api/config") as answer:
        text = await answer.text()

    assert (status, False) == (answer.status, "gone" in text or "bug" in text)
