"""The endpoints to try a proxy with."""

import time

import aiohttp
import pytest
from yarl import URL

from proxy.demo.trial import BLOCK, MAX_TARGETS, OTHERS, Counts
from tests.proxy.demo.processes import Api


async def test_a_stream_ticks_once_a_second(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/stream") as answer:
        started = time.monotonic()
        ticks = [(await answer.content.readuntil(b"\n\n")).decode() for _ in range(2)]
        took_s = time.monotonic() - started

    assert (
        answer.content_type,
        ticks[1],
    ) == ("text/event-stream", 'id: 1\nevent: tick\ndata: {"tick":1}\n\n')
    assert 0.8 < took_s < 2


async def test_the_head_of_a_stream_ends(client: aiohttp.ClientSession) -> None:
    async with client.head("/api/stream") as answer:
        assert (answer.status, await answer.read()) == (200, b"")


async def test_a_socket_echoes_text_and_bytes(client: aiohttp.ClientSession) -> None:
    async with client.ws_connect("/api/ws") as socket:
        await socket.send_str("Zoë")
        await socket.send_bytes(b"\x00\xff")
        assert (await socket.receive_str(), await socket.receive_bytes()) == ("Zoë", b"\x00\xff")


@pytest.mark.parametrize("size", [0, 1, len(BLOCK), len(BLOCK) + 1, 1_000_000])
async def test_a_download_is_as_long_as_asked_and_always_the_same(
    client: aiohttp.ClientSession, size: int
) -> None:
    async with client.get(f"/api/download?bytes={size}") as answer:
        body = await answer.read()

    repeated = BLOCK * (size // len(BLOCK) + 1)
    assert (str(size), repeated[:size]) == (answer.headers["Content-Length"], body)


@pytest.mark.parametrize("text", ["-1", "many", "1e9", str(2**40 + 1)])
async def test_a_download_of_no_size_is_refused(client: aiohttp.ClientSession, text: str) -> None:
    async with client.get(f"/api/download?bytes={text}") as answer:
        assert answer.status == 400


async def test_the_api_counts_each_exact_target(client: aiohttp.ClientSession, api: Api) -> None:
    async with client.post("/_counts/reset") as reset:
        assert reset.status == 204
    for target in ("/healthz?a=%41", "/healthz?a=%41", "/healthz?a=A", "/nowhere"):
        async with client.get(URL(api.url + target, encoded=True)):
            pass
    async with client.get("/_counts") as answer:
        counts = await answer.json()

    assert counts == {"GET /healthz?a=%41": 2, "GET /healthz?a=A": 1, "GET /nowhere": 1}


def test_counting_is_bounded() -> None:
    counts = Counts()
    for number in range(MAX_TARGETS + 5):
        counts.add("GET", f"/{number}")
    counts.add("GET", "/0")

    assert (counts._seen["GET /0"], counts._seen[OTHERS], len(counts._seen)) == (2, 5, MAX_TARGETS + 1)
