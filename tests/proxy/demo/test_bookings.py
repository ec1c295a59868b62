"""Writing, and seeing what was written."""

import asyncio
import itertools
from typing import Any

import aiohttp
import pytest

# Each test writes to an event of its own, so that none sees another's.
_EVENTS = itertools.count(100)


@pytest.fixture
def event() -> int:
    return next(_EVENTS)


async def _get(client: aiohttp.ClientSession, target: str) -> Any:
    async with client.get(target) as answer:
        return await answer.json()


async def _register(client: aiohttp.ClientSession, event: int, name: str = "Ada") -> int:
    body = {"name": name, "email": f"{name}.{event}@example.com"}
    async with client.post(f"/api/events/{event}/participants", json=body) as answer:
        assert answer.status == 201, await answer.text()
        person: int = (await answer.json())["participant_id"]
        return person


async def test_who_registers_is_found_where_location_says(client: aiohttp.ClientSession, event: int) -> None:
    body = {"name": "Zoë 🎟", "email": f"zoe.{event}@example.com"}
    async with client.post(f"/api/events/{event}/participants", json=body) as answer:
        location = answer.headers["Location"]
    found = await _get(client, location)

    assert (201, "Zoë 🎟", event, "standard") == (
        answer.status,
        found["name"],
        found["event_id"],
        found["ticket"],
    )


async def test_a_registration_is_seen_at_once_everywhere(client: aiohttp.ClientSession, event: int) -> None:
    before = await _get(client, f"/api/events/{event}")
    person = await _register(client, event)

    after = await _get(client, f"/api/events/{event}")
    people = await _get(client, f"/api/events/{event}/participants")
    stats = await _get(client, f"/api/events/{event}/stats")
    assert before["registered"] + 1 == after["registered"] == people["total"] == stats["registered"]
    assert (person, True) == (people["participants"][0]["id"], after["updated_at"] > before["updated_at"])


async def test_a_registration_changes_both_validators(client: aiohttp.ClientSession, event: int) -> None:
    async with client.get(f"/api/events/{event}") as before:
        headers = {"If-None-Match": before.headers["ETag"]}
    await _register(client, event)
    async with client.get(f"/api/events/{event}", headers=headers) as after:
        assert (
            after.status,
            before.headers["Last-Modified"] != after.headers["Last-Modified"],
        ) == (200, True)


async def test_nobody_registers_twice(client: aiohttp.ClientSession, event: int) -> None:
    await _register(client, event)
    body = {"name": "Ada again", "email": f"ADA.{event}@example.com"}
    async with client.post(f"/api/events/{event}/participants", json=body) as answer:
        assert answer.status == 409


async def test_of_many_who_register_the_same_at_once_one_succeeds(
    client: aiohttp.ClientSession, event: int
) -> None:
    async def status() -> int:
        body = {"name": "Eve", "email": f"eve.{event}@example.com"}
        async with client.post(f"/api/events/{event}/participants", json=body) as answer:
            return answer.status

    assert sorted(await asyncio.gather(*(status() for _ in range(8)))) == [201] + [409] * 7


async def test_many_who_register_at_once_all_do(client: aiohttp.ClientSession, event: int) -> None:
    before = await _get(client, f"/api/events/{event}")
    await asyncio.gather(*(_register(client, event, f"guest{number}") for number in range(20)))

    assert before["registered"] + 20 == (await _get(client, f"/api/events/{event}"))["registered"]


@pytest.mark.parametrize("way", ["path", "query", "body"])
async def test_a_registration_is_cancelled_whichever_way_names_it(
    client: aiohttp.ClientSession, event: int, way: str
) -> None:
    before = await _get(client, f"/api/events/{event}")
    person = await _register(client, event)
    target = f"/api/events/{event}/participants"
    path = {"path": f"{target}/{person}", "query": f"{target}?participant_id={person}", "body": target}[way]
    body = {"participant_id": person} if way == "body" else None
    async with client.delete(path, json=body) as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    after = await _get(client, f"/api/events/{event}")
    assert before["registered"] == after["registered"]


async def test_a_cancelled_registration_takes_its_check_in_along(
    client: aiohttp.ClientSession, event: int
) -> None:
    before = await _get(client, f"/api/events/{event}/stats")
    person = await _register(client, event)
    async with client.post("/api/checkins", json={"event_id": event, "participant_id": person}) as answer:
        assert answer.status == 201
    async with client.delete(f"/api/events/{event}/participants/{person}"):
        pass
    after = await _get(client, f"/api/events/{event}/stats")

    assert before == after


async def test_a_check_in_is_seen_at_once(client: aiohttp.ClientSession, event: int) -> None:
    before = await _get(client, f"/api/events/{event}/stats")
    person = await _register(client, event)
    async with client.post("/api/checkins", json={"event_id": event, "participant_id": person}) as answer:
        document = await answer.json()
    after = await _get(client, f"/api/events/{event}/stats")

    assert (201, event, person) == (answer.status, document["event_id"], document["participant_id"])
    assert before["checked_in"] + 1 == after["checked_in"]


async def test_nobody_arrives_twice_or_without_a_registration(
    client: aiohttp.ClientSession, event: int
) -> None:
    arrival = {"event_id": event, "participant_id": await _register(client, event)}
    statuses = []
    for document in (
        arrival,
        arrival,
        {**arrival, "participant_id": 2_000_000_000},
        {**arrival, "event_id": 9999},
    ):
        async with client.post("/api/checkins", json=document) as answer:
            statuses.append(answer.status)

    assert statuses == [201, 409, 404, 404]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"", 400, id="nothing"),
        pytest.param(b"name=Ada", 400, id="no JSON"),
        pytest.param(b'{"name":"\xff","email":"a@b"}', 400, id="no UTF-8"),
        pytest.param(b"[]", 422, id="no object"),
        pytest.param(b'{"name":"Ada"}', 422, id="no address"),
        pytest.param(b'{"name":"","email":"a@b"}', 422, id="no name"),
        pytest.param(b'{"name":"Ada","email":"ada"}', 422, id="half an address"),
        pytest.param(b'{"name":7,"email":"a@b"}', 422, id="a number for a name"),
    ],
)
async def test_a_bad_registration_is_refused(client: aiohttp.ClientSession, body: bytes, status: int) -> None:
    async with client.post("/api/events/1/participants", data=body) as answer:
        assert (status, "application/problem+json") == (answer.status, answer.content_type)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        pytest.param("/api/events/9999/participants?participant_id=1", 404, id="no event"),
        pytest.param("/api/events/1/participants?participant_id=2000000000", 404, id="no registration"),
        pytest.param("/api/events/1/participants?participant_id=-1", 400, id="no number"),
        pytest.param("/api/events/1/participants?participant_id=99999999999999999999", 400, id="too large"),
        pytest.param("/api/events/1/participants", 400, id="nobody"),
    ],
)
async def test_what_is_not_there_is_not_cancelled(
    client: aiohttp.ClientSession, target: str, status: int
) -> None:
    async with client.delete(target) as answer:
        assert status == answer.status
