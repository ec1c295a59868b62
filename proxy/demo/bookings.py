"""Writing: registering, cancelling and checking in. What is written is seen by the next reader."""

import time
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web

from proxy.demo import queries
from proxy.demo.answers import LAST_ID, ProblemError, json, number
from proxy.demo.database import Transaction
from proxy.demo.events import DATABASE
from proxy.demo.schema import stamp

Number = Annotated[int, msgspec.Meta(ge=1, le=LAST_ID)]

# Where somebody is from is not asked at the door: `ZZ` is ISO 3166's "unknown".
UNKNOWN_COUNTRY = "ZZ"


class Applicant(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    email: Annotated[str, msgspec.Meta(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]


class Leaver(msgspec.Struct, frozen=True, kw_only=True):
    participant_id: Number


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    event_id: Number
    participant_id: Number


_Body = TypeVar("_Body", Applicant, Leaver, Arrival)


async def register(request: web.Request) -> web.Response:
    applicant = _parsed(await request.read(), Applicant)
    event = int(request.match_info["event_id"])
    now = stamp(time.time())
    async with request.app[DATABASE].transaction() as transaction:
        await _touch(transaction, event, now)
        person = await _person(transaction, applicant, now)
        if await transaction.rows(queries.REGISTRATION, event, person):
            raise ProblemError(409, f"{applicant.email} is registered for event {event} already")
        [price] = await transaction.rows(queries.EVENT_PRICE, event)
        await transaction.write(queries.REGISTER, event, person, "standard", price["price_cents"], now)
    return json(
        {"event_id": event, "participant_id": person, "registered_at": now},
        status=201,
        headers={"Location": f"/api/events/{event}/participants/{person}"},
    )


async def cancel(request: web.Request) -> web.Response:
    """Cancels a registration, whether the path, the query or a JSON body names the participant."""
    event = int(request.match_info["event_id"])
    person = await _leaver(request)
    now = stamp(time.time())
    async with request.app[DATABASE].transaction() as transaction:
        await _touch(transaction, event, now)
        registration = await _registration(transaction, event, person)
        await transaction.write(queries.CANCEL, registration)
        for checkin in await transaction.rows(queries.CHECKIN, event, person):
            await transaction.write(queries.CANCEL_CHECKIN, checkin["id"])
    return web.Response(status=204)


async def check_in(request: web.Request) -> web.Response:
    arrival = _parsed(await request.read(), Arrival)
    event, person = arrival.event_id, arrival.participant_id
    now = stamp(time.time())
    async with request.app[DATABASE].transaction() as transaction:
        await _touch(transaction, event, now)
        await _registration(transaction, event, person)
        if await transaction.rows(queries.CHECKIN, event, person):
            raise ProblemError(409, f"participant {person} is at event {event} already")
        done = await transaction.write(queries.CHECK_IN, event, person, now)
    return json(
        {"id": done.new_id, "event_id": event, "participant_id": person, "checked_in_at": now}, status=201
    )


def _parsed(body: bytes, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise ProblemError(422, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError(400, f"the body is not JSON: {error}") from error


async def _leaver(request: web.Request) -> int:
    named = request.match_info.get("participant_id") or request.query.get("participant_id")
    if named is None:
        return _parsed(await request.read(), Leaver).participant_id
    person = number(named, at_most=LAST_ID)
    if person is None:
        raise ProblemError(400, f"participant_id is a number, not {named!r}")
    return person


async def _touch(transaction: Transaction, event: int, now: str) -> None:
    if not (await transaction.write(queries.TOUCH_EVENT, now, event)).rows:
        raise ProblemError(404, f"there is no event {event}")


async def _person(transaction: Transaction, applicant: Applicant, now: str) -> int:
    email = applicant.email.lower()
    for known in await transaction.rows(queries.PARTICIPANT_BY_EMAIL, email):
        return int(known["id"])
    done = await transaction.write(queries.ADD_PARTICIPANT, applicant.name, email, UNKNOWN_COUNTRY, now)
    return done.new_id


async def _registration(transaction: Transaction, event: int, person: int) -> int:
    for registration in await transaction.rows(queries.REGISTRATION, event, person):
        return int(registration["id"])
    raise ProblemError(404, f"participant {person} is not registered for event {event}")
