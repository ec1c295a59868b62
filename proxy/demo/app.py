"""The sample API as an aiohttp application."""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from proxy.demo import accounts, bookings, events
from proxy.demo.answers import ProblemError, problem
from proxy.demo.database import Database, UnavailableError
from proxy.demo.trial import Counts, Live, download

log = logging.getLogger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Names and addresses; nobody registers with more.
MAX_BODY = 64 * 1024


def application(database: Database) -> web.Application:
    counts, live = Counts(), Live()
    app = web.Application(middlewares=[_counting(counts), _telling], client_max_size=MAX_BODY)
    app[events.DATABASE] = database
    app.on_shutdown.append(live.close)
    event = "/api/events/{event_id:[0-9]{1,9}}"
    person = event + "/participants/{participant_id:[0-9]{1,9}}"
    app.add_routes(
        [
            web.get("/api/events", events.event_list),
            web.get(event, events.event),
            web.get(event + "/participants", events.participants),
            web.post(event + "/participants", bookings.register),
            web.delete(event + "/participants", bookings.cancel),
            web.get(person, events.participant),
            web.delete(person, bookings.cancel),
            web.get(event + "/stats", events.stats),
            web.get("/api/event-types/popular", events.popular_types),
            web.post("/api/checkins", bookings.check_in),
            web.get("/api/config", accounts.config),
            web.get("/api/users/{user_id:[0-9]{1,9}}/permissions", accounts.permissions),
            web.get("/api/stream", live.stream),
            web.get("/api/ws", live.socket, allow_head=False),
            web.get("/api/download", download),
            web.get("/healthz", _healthy),
            web.get("/_counts", counts.show),
            web.post("/_counts/reset", counts.reset),
        ]
    )
    return app


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _counting(counts: Counts) -> Middleware:
    @web.middleware
    async def counting(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if not request.path.startswith("/_counts"):
            counts.add(request.method, request.raw_path)
        return await handler(request)

    return counting


@web.middleware
async def _telling(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Tells every error as a problem document, and caches to keep no answer to a POST."""
    try:
        response = await handler(request)
    except ProblemError as error:
        response = problem(error)
    except UnavailableError as error:
        log.warning("the database does not answer: %s", error)
        response = problem(ProblemError(503, "the database does not answer", {"Retry-After": "1"}))
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        response = problem(ProblemError(error.status, error.reason, allow))
    except Exception:
        log.exception("%s %s failed", request.method, request.rel_url)
        response = problem(ProblemError(500, "an error of ours; it is in the log"))
    if request.method == "POST" and not response.prepared:
        response.headers.setdefault("Cache-Control", "no-store")
    return response
