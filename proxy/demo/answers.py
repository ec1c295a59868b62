"""How the API answers: JSON, problems (RFC 9457) and "you have it already" (RFC 9110 §13)."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

# More than anybody turns; the bound keeps offsets within what databases count to.
LAST_PAGE = 1_000_000
PAGE_SIZE = 20

# The last key that an INTEGER holds.
LAST_ID = 2**31 - 1


class ProblemError(Exception):
    """Ends a request with a problem document: `status`, and one sentence on what is wrong."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def json(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(document), status=status, headers=headers, content_type="application/json"
    )


def problem(error: ProblemError) -> web.Response:
    title = HTTPStatus(error.status).phrase
    document = {"type": "about:blank", "title": title, "status": error.status, "detail": error.detail}
    return web.Response(
        body=orjson.dumps(document),
        status=error.status,
        headers=error.headers,
        content_type="application/problem+json",
    )


def validated(request: web.Request, document: Any, *, changed: datetime | None = None) -> web.Response:
    """The document with its validators, or 304 where the client's copy still stands."""
    body = orjson.dumps(document)
    etag = blake2b(body, digest_size=8).hexdigest()
    if _has_it(request, etag, changed):
        response = web.Response(status=304)
    else:
        response = web.Response(body=body, content_type="application/json")
    response.etag = etag
    response.last_modified = changed
    return response


def number(text: str, *, at_most: int) -> int | None:
    """A number of plain digits; Python's own `int` also takes signs, spaces, underscores and every script's digits."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(at_most))):
        return None
    return int(text) if int(text) <= at_most else None


def page_asked(request: web.Request) -> int:
    text = request.query.get("page", "1")
    page = number(text, at_most=LAST_PAGE)
    if not page:
        raise ProblemError(400, f"page is a number from 1 to {LAST_PAGE}, not {text!r}")
    return page


def page_shown(page: int, total: int) -> dict[str, int]:
    return {"page": page, "pages": -(-total // PAGE_SIZE), "total": total}


def _has_it(request: web.Request, etag: str, changed: datetime | None) -> bool:
    """If-None-Match decides alone where it is sent. Source: RFC 9110 §13.2.2."""
    if "If-None-Match" in request.headers:
        return any(tag.value in {etag, "*"} for tag in request.if_none_match or ())
    since = request.if_modified_since
    return changed is not None and since is not None and changed <= since
