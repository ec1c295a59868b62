"""The admin port: health, metrics, what is stored, and the few things an operator may do."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from time import monotonic, time
from typing import Any, Protocol

import msgspec
import orjson
from aiohttp import web

from proxy import settings
from proxy.admin_guard import body_of, is_operator, listening
from proxy.admin_input import entries_asked, purge_asked, warm_asked
from proxy.config import Config
from proxy.config_shown import redacted
from proxy.exposition import CONTENT_TYPE
from proxy.figures import Figures, State, figures
from proxy.metrics import Metrics
from proxy.policy.writes import Name
from proxy.purge_log import PurgeLog, Reached
from proxy.store.memory import Memory
from proxy.store.shared import SharedTier
from proxy.store.tiers import Copy

# So many entries are looked at before requests get their turn again: about 0.2 ms.
_AT_ONCE = 200
_TURN_S = 0.00025


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
    purge_log: PurgeLog

    @property
    def redis(self) -> SharedTier | None:
        """The second tier, where there is one."""

    def unready(self) -> list[str]:
        """Why it should get no requests."""

    async def reload(self) -> Reloaded:
        """Read the config again."""

    async def warm(self, names: Sequence[str]) -> dict[str, str]:
        """Fetch warm resources."""

    async def purge(self, names: Sequence[Name], *, soft: bool) -> bool:
        """Purge."""

    async def purge_and_wait(self, names: Sequence[Name], *, soft: bool, timeout_s: float) -> Reached:
        """Purge, and wait for the other replicas."""


class Admin:
    """Answers the admin port's requests."""

    def __init__(self, proxy: Controls) -> None:
        self._proxy = proxy
        self._page = files("proxy").joinpath("dashboard.html").read_text("utf-8")
        self._policy = _content_policy(self._page)

    def routes(self) -> list[web.RouteDef]:
        """Everything that this port knows. HEAD goes with GET."""
        return [
            web.get("/", self.dashboard),
            web.get("/livez", self.live),
            web.get("/readyz", self.ready),
            web.get("/metrics", self.show_metrics),
            web.get("/api/stats", self.show_stats),
            web.get("/api/entries", self.show_entries),
            web.get("/api/routes", self.show_routes),
            web.get("/api/config", self.show_config),
            web.post("/api/purge", self.purge),
            web.post("/api/warm", self.warm),
            web.post("/api/reload", self.reload),
        ]

    # -- reads --

    async def dashboard(self, _request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": self._policy, "Referrer-Policy": "no-referrer"}
        return web.Response(text=self._page, content_type="text/html", headers=headers)

    async def live(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(self, request: web.Request) -> web.Response:
        reasons = self._proxy.unready()
        text = f"not ready: {', '.join(reasons)}\n" if reasons else "ok\n"
        if "verbose" in request.query:
            text += _verbose(await self._figures())
        return web.Response(status=503 if reasons else 200, text=text)

    async def show_metrics(self, request: web.Request) -> web.Response:
        """All families, or those that `name[]` names, as the client libraries of Prometheus have it."""
        names = request.query.getall("name[]", None)
        text = await _unhurried(self._proxy.metrics.pieces(names))
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def show_stats(self, _request: web.Request) -> web.Response:
        return _json(msgspec.to_builtins(await self._figures()))

    async def show_routes(self, _request: web.Request) -> web.Response:
        return _json({"routes": redacted(self._proxy.config.settings)["routes"]})

    async def show_config(self, request: web.Request) -> web.Response:
        shown = redacted(self._proxy.config.settings)
        if not self._sees_queries(request):
            shown["warm"] = [{**each, "path": _without_query(each["path"])} for each in shown["warm"]]
        return _json(shown)

    def _sees_queries(self, request: web.Request) -> bool:
        # A query may be a secret between a client and the API.
        return is_operator(request, self._proxy.config.settings.admin.token)

    async def show_entries(self, request: web.Request) -> web.Response:
        """Entries in memory that may still be served; the first ones, and how many there are."""
        proxy, queries = self._proxy, self._sees_queries(request)
        asked = entries_asked(request.query.items(), self._route_names())
        listed: list[dict[str, Any]] = []
        now, matching = time(), 0
        for number, (_, copy) in enumerate(proxy.memory.items()):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            if asked.route not in {None, copy.entry.route} or not self._is_good(copy, now):
                continue
            matching += 1
            if len(listed) < asked.limit:
                listed.append(_shown(copy, now, queries=queries))
        return _json({"entries": listed, "matching": matching, "limit": asked.limit})

    def _is_good(self, copy: Copy, now: float) -> bool:
        # Status 0: a signpost to variants. What was purged leaves memory only when it is next asked for.
        purges = self._proxy.purge_log.purges
        if copy.epoch != purges.epoch:
            copy.standing, copy.epoch = purges.standing(copy.entry.concerned), purges.epoch
        return copy.entry.status != 0 and now < copy.until and not copy.standing.purged

    def _route_names(self) -> list[str]:
        return [route.name for route in self._proxy.config.routes.routes]

    async def _figures(self) -> Figures:
        proxy = self._proxy
        state = State(
            unready=tuple(proxy.unready()),
            memory_max_bytes=proxy.config.settings.memory.max_size,
            has_redis=proxy.redis is not None,
            log_readable=proxy.purge_log.readable,
        )
        # In a thread, for the same reason as the metrics.
        return await asyncio.to_thread(lambda: figures(proxy.metrics.samples(), state))

    # -- writes --

    async def purge(self, request: web.Request) -> web.Response:
        asked = purge_asked(await body_of(request), self._route_names())
        done: dict[str, Any] = {"purged": len(asked.names), "soft": asked.soft}
        if asked.wait_s is None:
            shared = await self._proxy.purge(asked.names, soft=asked.soft)
            return _json(done | self._shared(shared) | {"waited": None})
        reached = await self._proxy.purge_and_wait(asked.names, soft=asked.soft, timeout_s=asked.wait_s)
        done |= self._shared(reached.shared) | {
            "waited": reached.everywhere,
            "replicas": reached.replicas,
            "missing": [
                {"replica": one.replica, "for_seconds": round(one.for_s, 1)} for one in reached.missing
            ],
            "seconds": round(reached.seconds, 6),
        }
        if reached.missing:
            done["note"] = "those that are missing may serve what they have for so long, unless they are dead"
        return _json(done, status=200 if reached.everywhere else 202)

    def _shared(self, shared: bool) -> dict[str, Any]:  # noqa: FBT001 - one caller's one fact
        if shared and self._proxy.redis is not None:
            return {"shared": True}
        if self._proxy.redis is None:
            why = "no Redis: other replicas, if there are any, keep what they have"
        else:
            why = "Redis does not take it now: the other replicas learn of it when it does"
        return {"shared": False, "note": why}

    async def warm(self, request: web.Request) -> web.Response:
        known = [resource.name for resource in self._proxy.config.settings.warm]
        names = warm_asked(await body_of(request), known)
        results = await self._proxy.warm(names)
        failed = any(result != "ok" for result in results.values())
        return _json({"warmed": results}, status=502 if failed else 200)

    async def reload(self, _request: web.Request) -> web.Response:
        done = await self._proxy.reload()
        if done.problems:
            return _json({"reloaded": False, "problems": done.problems}, status=422)
        return _json({"reloaded": True, "needs_restart": done.needs_restart})


def _content_policy(page: str) -> str:
    """What the page may do: run its own script and style, which their hashes name, and ask this port."""
    hashes = {
        tag: " ".join(f"'sha256-{_digest(text)}'" for text in re.findall(f"(?s)<{tag}>(.*?)</{tag}>", page))
        for tag in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


async def _unhurried(pieces: Iterable[str]) -> str:
    """All of them, made in so many turns of the event loop that nobody notices. A thread would hold it up for longer."""
    text, until = [], monotonic() + _TURN_S
    for piece in pieces:
        text.append(piece)
        if monotonic() >= until:
            await asyncio.sleep(0)
            until = monotonic() + _TURN_S
    return "".join(text)


def _shown(copy: Copy, now: float, *, queries: bool) -> dict[str, Any]:
    entry = copy.entry
    fresh_until = entry.times(copy.standing.soft_at).effective_fresh_until
    return {
        "key": entry.key,
        "route": entry.route,
        "url": _printable(entry.url if queries else _without_query(entry.url)),
        "status": entry.status,
        "bytes": entry.size,
        "age_seconds": round(now - entry.generated, 1),
        "ttl_seconds": round(fresh_until - now, 1),
        "tags": [_printable(tag) for tag in entry.tags],
        "vary": entry.vary,
    }


def _without_query(url: str) -> str:
    path, mark, _ = url.partition("?")
    return f"{path}?…" if mark else path


def _printable(text: str) -> str:
    """Bytes of a URL that are no UTF-8, made visible: JSON has no way to say them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _verbose(now: Figures) -> str:
    reloaded = datetime.fromtimestamp(now.reload.succeeded_at, UTC).isoformat(timespec="seconds")
    log_state = "read to its end" if now.purges.log_readable else "not readable"
    return (
        f"redis: {now.redis.state} (does not count)\n"
        f"purge log: {log_state} (does not count)\n"
        f"config: loaded {reloaded}, {now.reload.failures} failed reloads (do not count)\n"
    )


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value) + b"\n", content_type="application/json")


@asynccontextmanager
async def serving(proxy: Controls, host: str, port: int) -> AsyncIterator[str]:
    """The admin port, open; yields its address. Raises OSError where it is taken."""

    def rules() -> settings.Admin:
        return proxy.config.settings.admin

    async with listening(Admin(proxy).routes(), rules, host, port) as address:
        yield address
