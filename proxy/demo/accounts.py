"""What the platform's staff see: the configuration and, each for themselves, their permissions."""

from aiohttp import web

from proxy.demo import queries
from proxy.demo.answers import LAST_ID, ProblemError, json, number, validated
from proxy.demo.database import Row
from proxy.demo.events import DATABASE


async def config(request: web.Request) -> web.Response:
    rows = await request.app[DATABASE].rows(queries.CONFIG)
    return validated(request, {row["name"]: row["value"] for row in rows})


async def permissions(request: web.Request) -> web.Response:
    """A user's permissions, for that user and for admins. The answer names who asked, so no two may share it."""
    viewer = await _principal(request)
    user = int(request.match_info["user_id"])
    if user != viewer["id"] and viewer["role"] != "admin":
        raise ProblemError(403, "only an admin sees the permissions of others")
    database = request.app[DATABASE]
    users = await database.rows(queries.USER, user)
    if not users:
        raise ProblemError(404, f"there is no user {user}")
    rows = await database.rows(queries.PERMISSIONS, user)
    document = {"user": users[0], "viewer": viewer["id"], "permissions": rows}
    return json(document, headers={"Cache-Control": "private"})


async def _principal(request: web.Request) -> Row:
    """Who asks. The token of user 17 is `user-17`: it is a sample, not a lock."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" user-")
    user = number(token, at_most=LAST_ID) if scheme.lower() == "bearer" else None
    for row in await request.app[DATABASE].rows(queries.USER, user or 0):
        return row
    raise ProblemError(
        401, "Authorization: Bearer user-<id> is needed", {"WWW-Authenticate": 'Bearer realm="demo"'}
    )
