"""Reading events: lists, one event, its participants, its statistics."""

from aiohttp import web

from proxy.demo import queries
from proxy.demo.answers import PAGE_SIZE, ProblemError, json, page_asked, page_shown, validated
from proxy.demo.database import Database, Row
from proxy.demo.schema import instant

DATABASE: web.AppKey[Database] = web.AppKey("database")

STATUSES = ("running", "upcoming", "past")


async def event_list(request: web.Request) -> web.Response:
    page = page_asked(request)
    status = request.query.get("status")
    kind = request.query.get("type")
    if status is not None and status not in STATUSES:
        raise ProblemError(400, f"status is one of {', '.join(STATUSES)}, not {status!r}")
    database = request.app[DATABASE]
    some, number = queries.events(by_status=status is not None, by_type=kind is not None)
    filters = [value for value in (status, kind) if value is not None]
    [total] = await database.rows(number, *filters)
    events = await database.rows(some, *filters, PAGE_SIZE, PAGE_SIZE * (page - 1))
    await _add_registered(database, events)
    return json({**page_shown(page, total["total"]), "events": events})


async def _add_registered(database: Database, events: list[Row]) -> None:
    if not events:
        return
    ids = [event["id"] for event in events]
    rows = await database.rows(queries.registered_of_each(len(ids)), *ids)
    registered = {row["event_id"]: row["registered"] for row in rows}
    for event in events:
        event["registered"] = registered.get(event["id"], 0)


async def event(request: web.Request) -> web.Response:
    number = int(request.match_info["event_id"])
    rows = await request.app[DATABASE].rows(queries.EVENT, number)
    if not rows:
        raise ProblemError(404, f"there is no event {number}")
    return validated(request, rows[0], changed=instant(rows[0]["updated_at"]))


async def participants(request: web.Request) -> web.Response:
    page = page_asked(request)
    number = await _existing(request)
    database = request.app[DATABASE]
    [total] = await database.rows(queries.PARTICIPANT_TOTAL, number)
    people = await database.rows(queries.PARTICIPANTS, number, PAGE_SIZE, PAGE_SIZE * (page - 1))
    return json({**page_shown(page, total["total"]), "event_id": number, "participants": people})


async def participant(request: web.Request) -> web.Response:
    number = int(request.match_info["event_id"])
    person = int(request.match_info["participant_id"])
    rows = await request.app[DATABASE].rows(queries.PARTICIPANT, number, person)
    if not rows:
        raise ProblemError(404, f"participant {person} is not registered for event {number}")
    return json({**rows[0], "event_id": number})


async def stats(request: web.Request) -> web.Response:
    number = await _existing(request)
    database = request.app[DATABASE]
    [crowd] = await database.rows(queries.STATS, number)
    [doors] = await database.rows(queries.STATS_CHECKED_IN, number)
    countries = await database.rows(queries.STATS_BY_COUNTRY, number)
    days = await database.rows(queries.STATS_BY_DAY, number)
    return json({"event_id": number, **crowd, **doors, "top_countries": countries, "last_days": days})


async def popular_types(request: web.Request) -> web.Response:
    """The event types that draw most people this season."""
    database = request.app[DATABASE]
    [season] = await database.rows(queries.SEASON)
    types = await database.rows(queries.POPULAR_TYPES, season["value"])
    return json({"since": season["value"], "event_types": types})


async def _existing(request: web.Request) -> int:
    number = int(request.match_info["event_id"])
    if not await request.app[DATABASE].rows(queries.EVENT_EXISTS, number):
        raise ProblemError(404, f"there is no event {number}")
    return number
