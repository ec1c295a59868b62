"""Configuration, and permissions that differ by who asks."""

import aiohttp
import pytest


def _bearer(user: int) -> dict[str, str]:
    return {"Authorization": f"Bearer user-{user}"}


async def test_the_configuration_has_a_validator(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/config") as first:
        document = await first.json()
    async with client.get("/api/config", headers={"If-None-Match": first.headers["ETag"]}) as again:
        assert (again.status, await again.read()) == (304, b"")

    assert (document["currency"], len(document)) == ("EUR", 10)


async def test_a_user_sees_their_own_permissions_privately(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/users/17/permissions", headers=_bearer(17)) as answer:
        document = await answer.json()

    assert (answer.status, answer.headers["Cache-Control"]) == (200, "private")
    assert (
        document["user"],
        document["viewer"],
    ) == ({"id": 17, "name": "Elif Tanaka", "role": "organiser"}, 17)
    assert {"event_id", "title", "action", "granted_at"} == document["permissions"][0].keys()


async def test_an_admin_sees_anybodys_and_the_answer_says_who_asked(client: aiohttp.ClientSession) -> None:
    documents = []
    for viewer in (17, 1, 2):
        async with client.get("/api/users/17/permissions", headers=_bearer(viewer)) as answer:
            documents.append(await answer.json())

    assert [document.pop("viewer") for document in documents] == [17, 1, 2]
    assert documents[0] == documents[1] == documents[2]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        pytest.param("Bearer user-18", 403, id="somebody else"),
        pytest.param("Bearer user-99999", 401, id="nobody"),
        pytest.param("Bearer user-", 401, id="no number"),
        pytest.param("Bearer user-17x", 401, id="more than a number"),
        pytest.param("Basic user-17", 401, id="another scheme"),
        pytest.param("bearer user-17", 200, id="schemes have no case"),
    ],
)
async def test_others_see_nothing(client: aiohttp.ClientSession, authorization: str, status: int) -> None:
    async with client.get("/api/users/17/permissions", headers={"Authorization": authorization}) as answer:
        assert status == answer.status


async def test_who_brings_no_token_is_told_the_scheme(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/users/17/permissions") as answer:
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="demo"')


async def test_an_admin_is_told_that_there_is_no_such_user(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/users/99999/permissions", headers=_bearer(1)) as answer:
        assert answer.status == 404
