"""Who may use the admin port, and for how long: its middleware, its errors, its listener.

Reads are open, but what they tell is not for the pages that a browser has open: those reach this port under a name of their
own (DNS rebinding), so that a Host that is neither an address nor localhost nor in `admin.hosts` may read health and metrics
alone. Writes need the token, or a caller on loopback where no token is set. A browser on that machine is no such caller:
requests that carry Origin, and any name but localhost in Host, are refused. Nor is whoever comes through a proxy on that
machine.
"""

import asyncio
import hmac
import ipaddress
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from proxy import settings
from proxy.admin_input import BadInput
from proxy.logs import Logger

# 1 MiB: some ten thousand URLs to purge.
_MAX_BODY = 1024 * 1024
_BODY_S = 10.0
# Also the time that a first request's head gets. 20s: above the 15s at which Prometheus is often told to come.
_IDLE_S = 20.0
# A client that does not read its answer is cut off after so long, by the kernel.
_UNREAD_S = 20.0
# Scrapers, probes and people are a few dozen; more is an accident or an attack.
_MAX_CONNECTIONS = 256

# For probes and scrapers, which call this port by whatever name it has in their cluster. It tells no client's request.
_FOR_ALL_NAMES = frozenset({"/livez", "/readyz", "/metrics"})
_PROXIED = frozenset({"forwarded", "x-real-ip", "via"})


def _is_a_proxys(name: str) -> bool:
    """Whether only a proxy before us adds such a field."""
    return name.lower() in _PROXIED or name.lower().startswith(("x-forwarded-", "x-envoy-"))


log = Logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def may_write(request: web.BaseRequest, token: str | None) -> str:
    """Why a write is refused; nothing if it may be done."""
    headers = request.headers
    if token is not None:
        return "" if _gives(request, token) else "writes need `Authorization: Bearer <admin.token>`"
    if not _is_loopback(request.remote) or any(map(_is_a_proxys, headers)):
        return "without admin.token only loopback may write; set admin.token or admin.token_file"
    if "Origin" in headers or not _names_an_address(headers.get("Host", "")):
        return "without admin.token browsers, and hosts called by name, may not write; use http://127.0.0.1"
    return ""


def may_read(request: web.BaseRequest, rules: settings.Admin) -> str:
    """Why a read is refused; nothing if it may be done."""
    host = request.headers.get("Host", "")
    # No browser comes without a Host.
    if request.path in _FOR_ALL_NAMES or not host or _names_an_address(host):
        return ""
    if _name(host) in {name.lower() for name in rules.hosts} or _gives(request, rules.token):
        return ""
    return "called by a name that admin.hosts does not list; use an address or localhost, or list the name"


def is_operator(request: web.BaseRequest, token: str | None) -> bool:
    """Whether it comes from somebody who may see what clients sent: with the token, or from the machine itself."""
    return any(not may_write(request, known) for known in (token, None))


def _gives(request: web.BaseRequest, token: str | None) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), (token or "").encode())
    return token is not None and right and scheme.lower() == "bearer"


def _is_loopback(host: str | None) -> bool:
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    # Not all of 127.0.0.0/8: a mesh's sidecar delivers what comes from other pods from its addresses.
    return str(mapped or address) in {"127.0.0.1", "::1"}


def _name(host: str) -> str:
    """Host without its port, in lower case."""
    return (host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host).lower()


def _names_an_address(host: str) -> bool:
    name = _name(host)
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost"
    return True


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error, as RFC 9457 has it."""
    body = orjson.dumps({"status": status, "detail": detail}) + b"\n"
    return web.Response(status=status, body=body, headers=headers, content_type="application/problem+json")


async def body_of(request: web.Request) -> bytes:
    """The request's body. Raises BadInput where it does not come, HTTPRequestEntityTooLarge where it is too large."""
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.read()
    except TimeoutError as error:
        raise BadInput(f"the body did not come within {_BODY_S:g}s") from error


def _guard(rules: Callable[[], settings.Admin], paths: list[str]) -> Any:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = _refusal(request, rules()) or await handler(request)
        except BadInput as error:
            response = problem(400, str(error))
        except web.HTTPException as error:
            response = _told(error, paths)
        except Exception as error:
            log.error("defect of the admin port", exc_info=error, method=request.method)  # noqa: TRY400 - our own
            response = problem(500, "a defect of the proxy; its log has the details")
        return _hardened(response)

    return guard


def _refusal(request: web.Request, rules: settings.Admin) -> web.Response | None:
    # What is unknown is told to everybody: it says nothing that this source does not.
    if request.match_info.http_exception is not None:
        return None
    if request.method in {"GET", "HEAD"}:
        refusal = may_read(request, rules)
        return problem(403, refusal) if refusal else None
    refusal = may_write(request, rules.token)
    if not refusal:
        return None
    if rules.token is None:
        return problem(403, refusal)
    return problem(401, refusal, {"WWW-Authenticate": 'Bearer realm="crowdgate admin"'})


def _told(error: web.HTTPException, paths: list[str]) -> web.Response:
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = error.headers["Allow"]
            return problem(405, f"this path takes {allowed.replace(',', ', ')} only", {"Allow": allowed})
        case web.HTTPNotFound():
            return problem(404, f"there is nothing here; there are: {', '.join(paths)}")
        case web.HTTPRequestEntityTooLarge():
            return problem(413, f"the body is larger than {_MAX_BODY} bytes")
        case _:
            return problem(error.status, error.reason)


def _hardened(response: web.StreamResponse) -> web.StreamResponse:
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    response.headers["Server"] = "crowdgate"
    return response


@asynccontextmanager
async def listening(
    routes: list[web.RouteDef], rules: Callable[[], settings.Admin], host: str, port: int
) -> AsyncIterator[str]:
    """The port, open; yields its address. `rules` are asked for at each request. Raises OSError where the port is taken."""
    paths = [route.path for route in routes]
    app = web.Application(middlewares=[_guard(rules, paths)], client_max_size=_MAX_BODY)
    app.add_routes(routes)
    runner = web.AppRunner(
        app, access_log=None, keepalive_timeout=_IDLE_S, lingering_time=2.0, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        server = await asyncio.get_running_loop().create_server(_bounded(runner), host or None, port)
        try:
            _bound_unread(server)
            yield _address(server)
        finally:
            server.close()
    finally:
        await runner.cleanup()


def _bounded(runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
    def connection() -> asyncio.Protocol:
        server = runner.server
        if server is None or len(server.connections) >= _MAX_CONNECTIONS:
            return _Refused()
        return server()

    return connection


class _Refused(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP's are
        transport.abort()


def _bound_unread(server: asyncio.Server) -> None:
    # Connections inherit it from the listener. Other systems than Linux have no such option.
    if sys.platform == "linux":
        for listener in server.sockets:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_UNREAD_S * 1000))


def _address(server: asyncio.Server) -> str:
    name, number, *_ = server.sockets[0].getsockname()
    return f"[{name}]:{number}" if ":" in name else f"{name}:{number}"
