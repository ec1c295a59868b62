"""What would become of a request: the policy's own functions, asked without a proxy, a store or an API."""

from dataclasses import dataclass, replace

from proxy import settings
from proxy.config import hostless_urls
from proxy.policy.asked import asked, bypass_reason, request_directives, wishes
from proxy.policy.freshness import Wanted
from proxy.policy.key import ANY_HOST, Key, key_of
from proxy.policy.routes import Match, Route, RouteTable, unsafe, url_of
from proxy.policy.storable import Asked, Lifetime, judge
from proxy.policy.writes import purged_by
from proxy.wire.fields import Fields, values

# Their values are nobody's business, whatever key they are in.
_SECRET = frozenset({b"authorization", b"cookie", b"proxy-authorization"})

# What APIs answer, and what the policy makes of it for this request.
_ANSWERS: tuple[tuple[int, Fields], ...] = (
    (200, ()),
    (200, ((b"Cache-Control", b"max-age=60"),)),
    (200, ((b"Cache-Control", b"public, max-age=60"),)),
    (200, ((b"Cache-Control", b"private"),)),
    (200, ((b"Cache-Control", b"no-store"),)),
    (200, ((b"Set-Cookie", b"session=1"),)),
    (404, ()),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTaken:
    """The first route that matches."""

    name: str
    match: str
    params: dict[str, str]
    ttl_seconds: float | None
    force_ttl: bool
    stale_while_revalidate_seconds: float
    stale_if_error_seconds: float
    status_ttl_seconds: dict[str, float]
    tiers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMade:
    """What two requests must share to share an answer."""

    text: str
    host: str
    url: str
    vary: dict[str, str]
    """Values of the route's `vary` headers; `(hidden)` for credentials."""
    principal_header: str | None
    principal_present: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerJudged:
    """What becomes of one kind of answer."""

    status: int
    header: str
    stored: bool
    reason: str
    """Why it is not stored."""
    fresh_seconds: float
    stale_while_revalidate_seconds: float
    stale_if_error_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything there is to say about a request. Without a key it is passed on, and nothing of it is stored."""

    method: str
    target: str
    route: RouteTaken | None
    reason: str
    from_store: bool = False
    """Whether a fresh stored answer would do."""
    key: KeyMade | None = None
    tags: tuple[str, ...] = ()
    warmed_as: tuple[str, ...] = ()
    answers: tuple[AnswerJudged, ...] = ()
    purges: tuple[dict[str, str], ...] = ()
    """What a 2xx or 3xx purges."""
    advice: tuple[str, ...] = ()


def explain(
    loaded: settings.Settings, method: str, target: bytes, fields: Fields, *, now: float
) -> Explanation:
    """What the proxy would do with a request without a body."""
    routes = RouteTable.of(loaded.routes)
    match = routes.find(method, _text(target.partition(b"?")[0]))
    refusal = _refusal(method, target, match, fields, routes)
    purged = purged_by(method, target, match, routes)
    passed_on = Explanation(
        method=method,
        target=_text(target),
        route=_route(match, loaded) if match else None,
        reason=refusal,
        purges=tuple({"kind": kind.value, "value": _text_of(value)} for kind, value in purged),
    )
    if match is None or refusal:
        return passed_on
    said = request_directives(fields, match.route.settings)
    wanted = wishes(fields, said, match.route.settings)
    personal = asked(fields, said, match.route.settings, now=now)
    key = key_of(match.route, target, fields, hostless=hostless_urls(loaded.warm, routes))
    obstacle = _obstacle(wanted, personal)
    return replace(
        passed_on,
        from_store=not obstacle,
        reason=obstacle or "a fresh stored answer is served; else one request asks the API for all who wait",
        key=_key(key, match.route, fields),
        tags=tuple(map(_text_of, match.tags)),
        warmed_as=_warmed_as(key, loaded, routes),
        answers=tuple(_judged(personal, match.route.settings, *answer, now=now) for answer in _ANSWERS),
        advice=tuple(_advice(personal, match.route, fields)),
    )


def _refusal(method: str, target: bytes, match: Match | None, fields: Fields, routes: RouteTable) -> str:
    """Why the request goes to the API as it is and nothing of it is stored; nothing if it may be stored."""
    path = _text(target.partition(b"?")[0])
    if match is None:
        others = _elsewhere(path, routes)
        return f"no route matches {method} {path}" + (f", but {' and '.join(others)}" if others else "")
    if not match.route.caches or method not in {"GET", "HEAD"}:
        kind = "may change something" if unsafe(method) else "is not GET or HEAD"
        return f"{method} {kind}: it always reaches the API" if method != "GET" else "the route has no GET"
    bypass = bypass_reason(target, fields, has_body=False)
    return f"the request's `{bypass}` makes its answer one of a kind" if bypass else ""


def _elsewhere(path: str, routes: RouteTable) -> list[str]:
    """Routes that match the path with other methods."""
    methods = sorted({method for route in routes.routes for method in route.settings.methods})
    found = [(method, match) for method in methods if (match := routes.find(method, path))]
    return [f"{match.route.name} matches it with {method}" for method, match in found]


def _obstacle(wanted: Wanted, personal: Asked) -> str:
    """Why a fresh stored answer would not do, whatever it is."""
    if personal.no_store:
        return "the request's no-store has the API answer it alone"
    if wanted.no_cache:
        return "the request's no-cache asks the API first; its answer is stored for the others"
    if wanted.max_age == 0:
        return "the request's max-age=0 asks the API first; its answer is stored for the others"
    if personal.authorization:
        return (
            "the request carries Authorization: only what the API gives to everybody is served from the store"
        )
    if personal.cookie:
        return "the request carries Cookie: only what the API itself calls fresh is served from the store"
    return ""


def _route(match: Match, loaded: settings.Settings) -> RouteTaken:
    route = match.route.settings
    tiers = (("memory", route.memory), ("redis", route.redis and loaded.redis is not None))
    return RouteTaken(
        name=match.route.name,
        match=route.match,
        params={name: _text_of(value) for name, value in match.params.items()},
        ttl_seconds=route.ttl,
        force_ttl=route.force_ttl,
        stale_while_revalidate_seconds=route.stale_while_revalidate or 0.0,
        stale_if_error_seconds=route.stale_if_error or 0.0,
        status_ttl_seconds={str(status): ttl for status, ttl in route.status_ttl.items()},
        tiers=tuple(name for name, used in tiers if used),
    )


def _key(key: Key, route: Route, fields: Fields) -> KeyMade:
    return KeyMade(
        text=key.text,
        host="(any)" if key.host == ANY_HOST else _text(key.host),
        url=_text(key.url),
        vary={
            _text(name): "(hidden)" if name in _SECRET | {route.per} else _shown(fields, name)
            for name in route.vary
        },
        principal_header=_text(route.per) if route.per else None,
        principal_present=bool(key.principal),
    )


def _warmed_as(key: Key, loaded: settings.Settings, routes: RouteTable) -> tuple[str, ...]:
    names = []
    for warm in loaded.warm:
        match = routes.find("GET", warm.path.partition("?")[0])
        target = warm.path.encode("utf-8", "surrogateescape")
        if match is not None and match.route is key.route and url_of(match.route, target) == key.url:
            names.append(warm.name)
    return tuple(names)


def _shown(fields: Fields, name: bytes) -> str:
    lines = values(fields, name)
    return ", ".join(map(_text, lines)) if lines else "(absent)"


def _judged(
    personal: Asked, route: settings.Route, status: int, fields: Fields, *, now: float
) -> AnswerJudged:
    verdict = judge(personal, status, fields, route, now)
    stored = isinstance(verdict, Lifetime)
    return AnswerJudged(
        status=status,
        header=", ".join(f"{_text(name)}: {_text(value)}" for name, value in fields),
        stored=stored,
        reason="" if isinstance(verdict, Lifetime) else verdict.reason,
        fresh_seconds=round(verdict.fresh_until - now, 3) if isinstance(verdict, Lifetime) else 0.0,
        stale_while_revalidate_seconds=verdict.revalidate_s if isinstance(verdict, Lifetime) else 0.0,
        stale_if_error_seconds=verdict.error_s if isinstance(verdict, Lifetime) else 0.0,
    )


def _advice(personal: Asked, route: Route, fields: Fields) -> list[str]:
    """What prevents sharing, and what to set."""
    advice = []
    if personal.authorization:
        advice.append(
            "Authorization: the answer is shared only where the API says public, s-maxage or must-revalidate. "
            "Set `per: authorization` to keep one answer per principal, "
            "or `store: {authorization: true}` if answers do not depend on it"
        )
    if personal.cookie:
        advice.append(
            "Cookie: the answer is shared only where the API itself says how long it is fresh. "
            "Set `store: {cookie: true}` if answers do not depend on it, or `per: cookie` if they do"
        )
    if route.per and not values(fields, route.per):
        advice.append(f"{_text(route.per)} is not sent: all requests without it share one answer")
    if personal.no_store:
        advice.append("the request's no-store keeps its answer out of the store")
    if route.settings.ttl is None and not route.settings.status_ttl:
        advice.append("the route has no `ttl`: only what the API itself calls fresh is stored")
    return advice


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _text_of(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
