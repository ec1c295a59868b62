"""Reading events."""

from typing import Any

import aiohttp
import pytest

from proxy.demo import words
from proxy.demo.generate import sample
from proxy.demo.schema import columns


async def _get(client: aiohttp.ClientSession, target: str) -> Any:
    async with client.get(target) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_300_events_run_at_once(client: aiohttp.ClientSession) -> None:
    document = await _get(client, "/api/events?status=running")

    assert (
        document["page"],
        document["pages"],
        document["total"],
        len(document["events"]),
    ) == (1, 15, 300, 20)
    assert {"running"} == {event["status"] for event in document["events"]}


async def test_pages_in_order_hold_every_event_once(client: aiohttp.ClientSession) -> None:
    seen = []
    for page in range(1, 16):
        seen += (await _get(client, f"/api/events?status=running&page={page}"))["events"]

    assert len({event["id"] for event in seen}) == 300
    assert sorted(seen, key=lambda event: (event["starts_at"], event["id"])) == seen


@pytest.mark.parametrize("status", [None, "running", "past"], ids=str)
@pytest.mark.parametrize("kind", [None, "concert", "food", "karaoke"], ids=str)
async def test_filters_narrow_the_list(
    client: aiohttp.ClientSession, status: str | None, kind: str | None
) -> None:
    kinds = list(words.EVENT_TYPES)
    type_at, status_at = (columns("events").index(name) for name in ("type_id", "status"))
    expected = [
        event[0]
        for event in dict(sample(0.01).tables)["events"]()
        if status in {None, event[status_at]} and kind in {None, kinds[int(event[type_at]) - 1]}
    ]
    query = "&".join(f"{name}={value}" for name, value in (("status", status), ("type", kind)) if value)
    document = await _get(client, f"/api/events?{query}")

    assert document["total"] == len(expected)
    assert {event["id"] for event in document["events"]} <= set(expected)


async def test_a_page_after_the_last_is_empty(client: aiohttp.ClientSession) -> None:
    document = await _get(client, "/api/events?status=running&page=16")

    assert document == {"page": 16, "pages": 15, "total": 300, "events": []}


async def test_an_event_tells_all_of_itself(client: aiohttp.ClientSession) -> None:
    document = await _get(client, "/api/events/1")

    assert document == {
        "id": 1,
        "title": "Blue Bridges No. 1",
        "description": document["description"],
        "status": "running",
        "type": "concert",
        "venue": "Vienna Hall 111",
        "city": "Vienna",
        "country": "AT",
        "capacity": 52300,
        "price_cents": 11500,
        "starts_at": "2025-09-20 15:16:00",
        "ends_at": "2025-09-20 19:17:00",
        "updated_at": "2025-09-03 07:20:24",
        "registered": 489,
    }


@pytest.mark.parametrize(
    "validators", [("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")], ids=str
)
async def test_an_event_that_did_not_change_is_not_sent_again(
    client: aiohttp.ClientSession, validators: tuple[str, str]
) -> None:
    theirs, ours = validators
    async with client.get("/api/events/2") as first:
        validator = first.headers[theirs]
    async with client.get("/api/events/2", headers={ours: validator}) as again:
        body = await again.read()

    assert (304, b"", validator) == (again.status, body, again.headers[theirs])


async def test_participants_come_latest_first(client: aiohttp.ClientSession) -> None:
    document = await _get(client, "/api/events/1/participants?page=2")

    times = [person["registered_at"] for person in document["participants"]]
    assert (document["page"], document["pages"], document["total"], len(times)) == (2, 25, 489, 20)
    assert sorted(times, reverse=True) == times


async def test_a_list_of_participants_tells_no_addresses(client: aiohttp.ClientSession) -> None:
    document = await _get(client, "/api/events/1/participants")

    assert {"id", "name", "country", "ticket", "registered_at"} == document["participants"][0].keys()


async def test_statistics_add_up(client: aiohttp.ClientSession) -> None:
    tables = dict(sample(0.01).tables)
    booked = [
        row for row in tables["registrations"]() if row[columns("registrations").index("event_id")] == 1
    ]
    arrived = [row for row in tables["checkins"]() if row[columns("checkins").index("event_id")] == 1]
    document = await _get(client, "/api/events/1/stats")

    assert document == {
        "event_id": 1,
        "registered": len(booked),
        "countries": document["countries"],
        "revenue_cents": sum(int(row[4]) for row in booked),
        "first_registered_at": booked[0][5],
        "last_registered_at": booked[-1][5],
        "checked_in": len(arrived),
        "top_countries": document["top_countries"],
        "last_days": document["last_days"],
    }
    assert (len(document["top_countries"]), len(document["last_days"])) == (5, 7)
    assert len(booked) / 2 < sum(country["registered"] for country in document["top_countries"]) < len(booked)


async def test_popular_types_come_most_registered_first(client: aiohttp.ClientSession) -> None:
    document = await _get(client, "/api/event-types/popular")

    registered = [kind["registered"] for kind in document["event_types"]]
    assert (len(registered), document["event_types"][0]["type"]) == (10, "concert")
    assert sorted(registered, reverse=True) == registered


@pytest.mark.parametrize("of", ["participants", "stats", "participants/1"])
async def test_an_event_that_is_not_there_has_nothing(client: aiohttp.ClientSession, of: str) -> None:
    async with client.get(f"/api/events/9999/{of}") as answer:
        assert answer.status == 404
