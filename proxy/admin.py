"""The admin port: health, metrics, what is stored, and the few things an operator may do.

Reads are open; writes need the token, or a caller on loopback where no token is set. A browser on that machine is no such
caller: requests that carry Origin, and names other than an address or localhost in Host, are refused (DNS rebinding).
"""

import asyncio
import hmac
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from time import time
from typing import Any, Protocol

import msgspec
import orjson
from aiohttp import web

from proxy.config import Config
from proxy.config_shown import redacted
from proxy.metrics import Metrics
from proxy.policy.purges import Kind
from proxy.policy.writes import Name
from proxy.store.memory import Memory
from proxy.store.tiers import Copy

# 1 MiB: some ten thousand URLs to purge.
_MAX_BODY = 1024 * 1024
_MAX_LISTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What a reload did. `problems` is empty where it took; what needs a restart kept its old value."""

    problems: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


class Controls(Protocol):
    """A running proxy, as far as this port needs it."""

    config: Config
    memory: Memory[Copy]
    metrics: Metrics

    def unready(self) -> list[str]:
        """Why it should get no requests."""

    async def reload(self) -> Reloaded:
        """Read the config again."""

    async def warm(self, names: Sequence[str]) -> dict[str, str]:
        """Fetch warm resources."""

    async def purge(self, names: Sequence[Name], *, soft: bool) -> bool:
        """Purge."""


class _Purge(msgspec.Struct, forbid_unknown_fields=True):
    tags: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    soft: bool = False
    wait: bool = False


class _Warm(msgspec.Struct, forbid_unknown_fields=True):
    names: tuple[str, ...] = ()


class _BadInput(Exception):
    """A request to the admin port that cannot be carried out; the text says why and what to send."""


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Admin:
    """Answers the admin port's requests."""

    def __init__(self, proxy: Controls) -> None:
        self._proxy = proxy

    def routes(self) -> list[web.RouteDef]:
        """Everything that this port knows."""
        return [
            web.get("/", self.dashboard),
            web.get("/livez", self.live),
            web.get("/readyz", self.ready),
            web.get("/metrics", self.show_metrics),
            web.get("/api/routes", self.show_routes),
            web.get("/api/entries", self.show_entries),
            web.get("/api/config", self.show_config),
            web.get("/api/stats", self.show_stats),
            web.post("/api/purge", self.purge),
            web.post("/api/warm", self.warm),
            web.post("/api/reload", self.reload),
        ]

    # -- reads --

    async def dashboard(self, _request: web.Request) -> web.Response:
        page = files("proxy").joinpath("dashboard.html").read_text("utf-8")
        headers = {"Content-Security-Policy": "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"}
        return web.Response(text=page, content_type="text/html", headers=headers)

    async def live(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(self, _request: web.Request) -> web.Response:
        reasons = self._proxy.unready()
        if reasons:
            return web.Response(status=503, text=f"not ready: {', '.join(reasons)}\n")
        return web.Response(text="ok\n")

    async def show_metrics(self, _request: web.Request) -> web.Response:
        # In a thread, so that a long text holds no request up for its whole length.
        text = await asyncio.to_thread(self._proxy.metrics.render)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def show_routes(self, _request: web.Request) -> web.Response:
        shown = redacted(self._proxy.config.settings)["routes"]
        return _json({"routes": shown})

    async def show_config(self, _request: web.Request) -> web.Response:
        return _json(redacted(self._proxy.config.settings))

    async def show_entries(self, request: web.Request) -> web.Response:
        route, limit = request.query.get("route"), _limit(request)
        listed: list[dict[str, Any]] = []
        now, matching = time(), 0
        for key, copy in self._proxy.memory.items():
            entry = copy.entry
            if entry.status == 0 or (route is not None and entry.route != route):
                continue
            matching += 1
            if len(listed) < limit:
                listed.append(
                    {
                        "key": key,
                        "route": entry.route,
                        "url": entry.url.encode("utf-8", "backslashreplace").decode(),
                        "status": entry.status,
                        "bytes": entry.size,
                        "age_seconds": round(now - entry.generated, 1),
                        "ttl_seconds": round(entry.fresh_until - now, 1),
                        "tags": entry.tags,
                    }
                )
        return _json({"entries": listed, "matching": matching, "limit": limit})

    async def show_stats(self, _request: web.Request) -> web.Response:
        proxy = self._proxy
        return _json(
            {
                "requests": proxy.metrics.totals(),
                "inflight": proxy.metrics.inflight,
                "redis_up": proxy.metrics.redis_up,
                "memory_bytes": proxy.memory.bytes,
                "memory_entries": proxy.memory.entries,
                "ready": not proxy.unready(),
            }
        )

    # -- writes --

    async def purge(self, request: web.Request) -> web.Response:
        asked = await self._asked(request, _Purge)
        known = {route.name for route in self._proxy.config.routes.routes}
        unknown = sorted(set(asked.routes) - known)
        if unknown:
            raise _BadInput(f"unknown route {unknown[0]!r}; there are: {', '.join(sorted(known)) or 'none'}")
        names: list[Name] = [
            *((Kind.TAG, tag) for tag in asked.tags),
            *((Kind.URL, url) for url in asked.urls),
            *((Kind.ROUTE, route) for route in asked.routes),
            *((Kind.PATTERN, pattern) for pattern in asked.patterns),
        ]
        if not names:
            raise _BadInput('nothing to purge: send {"tags": [..]}, "urls", "patterns" or "routes"')
        for kind, value in names:
            if not value or (kind in {Kind.URL, Kind.PATTERN} and value[0] not in "/*"):
                raise _BadInput(f"{kind.value} {value!r} must begin with `/` (or `*`)")
        shared = await self._proxy.purge(names, soft=asked.soft)
        return _json({"purged": len(names), "soft": asked.soft, "shared": shared})

    async def warm(self, request: web.Request) -> web.Response:
        asked = await self._asked(request, _Warm)
        known = [resource.name for resource in self._proxy.config.settings.warm]
        unknown = sorted(set(asked.names) - set(known))
        if unknown:
            raise _BadInput(f"unknown resource {unknown[0]!r}; there are: {', '.join(known) or 'none'}")
        results = await self._proxy.warm(asked.names)
        failed = any(result != "ok" for result in results.values())
        return _json({"warmed": results}, status=502 if failed else 200)

    async def reload(self, request: web.Request) -> web.Response:
        await self._asked(request, _Warm)
        done = await self._proxy.reload()
        if done.problems:
            return _json({"reloaded": False, "problems": done.problems}, status=422)
        return _json({"reloaded": True, "needs_restart": done.needs_restart})

    async def _asked(self, request: web.Request, shape: type[Any]) -> Any:
        body = await request.read()
        try:
            return msgspec.json.decode(body or b"{}", type=shape)
        except msgspec.ValidationError as error:
            raise _BadInput(str(error)) from error
        except msgspec.DecodeError as error:
            raise _BadInput(f"the body is not JSON: {error}") from error


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", "100")
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _MAX_LISTED:
        raise _BadInput(f"limit must be 1 to {_MAX_LISTED}, not {text!r}")
    return int(text)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value) + b"\n", content_type="application/json")


def _problem(status: int, detail: str) -> web.Response:
    body = orjson.dumps({"status": status, "detail": detail})
    return web.Response(status=status, body=body + b"\n", content_type="application/problem+json")


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _names_an_address(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost"
    return True


def may_write(request: web.BaseRequest, token: str | None) -> str:
    """Why a write is refused; nothing if it may be done."""
    if token is not None:
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        right = hmac.compare_digest(given, b"Bearer " + token.encode())
        return "" if right else "writes need `Authorization: Bearer <admin.token>`"
    if not _is_loopback(request.remote):
        return "without admin.token only loopback may write"
    if "Origin" in request.headers or not _names_an_address(request.headers.get("Host", "")):
        return "without admin.token browsers and named hosts may not write"
    return ""


def _guard(proxy: Controls) -> Any:
    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            if request.method not in {"GET", "HEAD"}:
                refusal = may_write(request, proxy.config.settings.admin.token)
                if refusal:
                    return _problem(403 if proxy.config.settings.admin.token is None else 401, refusal)
            return await handler(request)
        except _BadInput as error:
            return _problem(400, str(error))
        except web.HTTPException as error:
            return _problem(error.status, error.reason)

    return guard


@asynccontextmanager
async def serving(proxy: Controls, host: str, port: int) -> AsyncIterator[str]:
    """The admin port, open; yields its address. Raises OSError where it is taken."""
    app = web.Application(middlewares=[_guard(proxy)], client_max_size=_MAX_BODY)
    app.add_routes(Admin(proxy).routes())
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=30.0, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host or None, port)
        await site.start()
        name, number, *_ = runner.addresses[0]
        yield f"[{name}]:{number}" if ":" in name else f"{name}:{number}"
    finally:
        await runner.cleanup()
