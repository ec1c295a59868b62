"""May an answer be stored and shared, and how long is it good?

Freshness is worked out once, here, when the answer comes; it is kept as instants, so that a hit is a comparison.
"""

from dataclasses import dataclass

from proxy import settings
from proxy.policy.cache_control import (
    Directives,
    delta_seconds,
    directives,
    http_date,
    initial_age,
)
from proxy.wire.fields import Fields, members, values

# What a route's plain `ttl` is for. Redirects and errors need `status_ttl` or the API's own word:
# a redirect or a 404 that is kept by mistake hurts for as long as the good answer would have helped.
TTL_STATUSES = frozenset({200, 203, 204})
# With a validator a stale answer is still worth keeping: a 304 costs the API less than a 200.
KEEP_FOR_VALIDATION_S = 600.0
# Nothing is kept longer, however long it is fresh: the purge log is kept a little longer than this, so that whatever
# concerns a living entry is still in it. A day's refetching of the rest costs nothing.
MAX_KEEP_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of the request decides whether its answer may be shared."""

    authorization: bool
    """Carries Authorization, and neither `per` nor `store.authorization` accounts for it."""
    cookie: bool
    """Carries Cookie, and neither `per` nor `store.cookie` accounts for it."""
    no_store: bool
    """Cache-Control: no-store in the request."""
    requested_at: float

    @property
    def personal(self) -> bool:
        """Its answer may be its sender's alone."""
        return self.authorization or self.cookie


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """How long an answer is good, in Unix seconds."""

    generated: float
    """When the API made it: Age counts from here."""
    fresh_until: float
    revalidate_s: float
    """After `fresh_until` it may be served so long while it is refreshed."""
    error_s: float
    """After `fresh_until` it may be served so long while the API fails."""
    keep_until: float
    explicit: bool
    """The API itself gave the freshness, not the route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """May not be stored."""

    reason: str


def judge(asked: Asked, status: int, fields: Fields, route: settings.Route, now: float) -> Lifetime | Refused:
    """Whether and how long a shared cache may keep an answer to GET that came at `now`.

    Source: RFC 9111 sections 3, 3.5, 4.2 and 5.2; RFC 5861.
    """
    said = directives(fields)
    refusal = _refusal(asked, status, fields, said, route)
    if refusal:
        return Refused(reason=refusal)
    age = initial_age(fields, requested_at=asked.requested_at, received_at=now)
    api_says = None if route.force_ttl else explicit_lifetime(fields, said, now=now)
    lifetime = _route_lifetime(status, route) if api_says is None else api_says
    if lifetime is None:
        return Refused(reason="no freshness")
    if personal := _personal(asked, said, api_says is not None):
        return Refused(reason=personal)
    # The route's ttl counts from now on; only the API's own counts from when the answer was made.
    fresh_until = now + lifetime - (age if api_says is not None else 0.0)
    revalidate_s, error_s = _stale_windows(said, route)
    validated = bool(values(fields, b"etag") or values(fields, b"last-modified"))
    keep_s = max(revalidate_s, error_s, KEEP_FOR_VALIDATION_S if validated else 0.0)
    keep_until = min(max(fresh_until, now) + keep_s, now + MAX_KEEP_S)
    if keep_until <= now:
        return Refused(reason="stale on arrival")
    return Lifetime(
        generated=now - age,
        fresh_until=fresh_until,
        revalidate_s=revalidate_s,
        error_s=error_s,
        keep_until=keep_until,
        explicit=api_says is not None,
    )


def _refusal(asked: Asked, status: int, fields: Fields, said: Directives, route: settings.Route) -> str:
    """The first reason that stands whatever the freshness is, or nothing."""
    if asked.no_store:
        return "request no-store"
    if not 200 <= status <= 599 or status in (206, 304):
        return f"status {status}"
    if "no-store" in said:
        return "no-store"
    if "private" in said and not (route.store.private and route.per):
        return "private"
    if values(fields, b"set-cookie") and not route.store.set_cookie:
        return "set-cookie"
    if b"*" in members(fields, b"vary"):
        return "vary *"
    return ""


def _personal(asked: Asked, said: Directives, explicit: bool) -> str:  # noqa: FBT001 - one caller, one meaning
    if asked.authorization and not said.keys() & {"public", "s-maxage", "must-revalidate"}:
        return "authorization"
    if asked.cookie and not explicit:
        return "cookie"
    return ""


def explicit_lifetime(fields: Fields, said: Directives, *, now: float) -> float | None:
    """Seconds of freshness that the API gives: s-maxage, max-age, Expires, in this order; None if it says nothing.

    Anything unreadable is 0, already stale; so is no-cache, which may be kept but not used unasked.
    Source: RFC 9111 sections 4.2.1 and 5.3.
    """
    if "no-cache" in said:
        return 0.0
    for name in ("s-maxage", "max-age"):
        if name in said:
            return float(delta_seconds(said[name]) or 0)
    expires = values(fields, b"expires")
    if not expires:
        return None
    until = http_date(expires[0], now=now)
    date = http_date(next(iter(values(fields, b"date")), None), now=now)
    return 0.0 if until is None else max(0.0, until - (now if date is None else date))


def _route_lifetime(status: int, route: settings.Route) -> float | None:
    if status in route.status_ttl:
        return route.status_ttl[status]
    return route.ttl if status in TTL_STATUSES else None


def _stale_windows(said: Directives, route: settings.Route) -> tuple[float, float]:
    """Seconds for stale-while-revalidate and for stale-if-error."""
    if not route.force_ttl and said.keys() & {"must-revalidate", "proxy-revalidate", "no-cache"}:
        return 0.0, 0.0
    # s-maxage alone forbids what the route allows (RFC 9111 section 5.2.2.10), but an API that sends
    # stale-while-revalidate beside it means it.
    routes_word = route.force_ttl or "s-maxage" not in said
    return (
        _window(said, "stale-while-revalidate", route.stale_while_revalidate if routes_word else None),
        _window(said, "stale-if-error", route.stale_if_error if routes_word else None),
    )


def _window(said: Directives, name: str, default: float | None) -> float:
    if name in said:
        return float(delta_seconds(said[name]) or 0)
    return default or 0.0
