"""May an answer be stored and shared, and how long is it good?

Freshness is worked out once, here, when the answer comes; it is kept as instants, so that a hit is a comparison.
"""

from dataclasses import dataclass, replace
from http import HTTPStatus

import msgspec

from proxy import settings
from proxy.policy.cache_control import (
    Directives,
    applies,
    delta_seconds,
    directives,
    http_date,
    initial_age,
    named_fields,
)
from proxy.policy.tags import too_many
from proxy.policy.targeted import targeted
from proxy.wire.fields import Fields, first, members, values

# What a route's plain `ttl` is for. Redirects and errors need `status_ttl` or the API's own word:
# a redirect or a 404 that is kept by mistake hurts for as long as the good answer would have helped.
TTL_STATUSES = frozenset({200, 203, 204})
# With a validator a stale answer is still worth keeping: a 304 costs the API less than a 200.
KEEP_FOR_VALIDATION_S = 600.0
# Without one it may still be what a client's max-stale asks for. Few clients do, so not for long.
KEEP_FOR_MAX_STALE_S = 60.0
# What RFC 9110 section 15.1 and RFC 7725 let a cache guess a freshness for. (206 is never stored whole.)
GUESSED_STATUSES = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501})
# A tenth of the time since it last changed (RFC 9111 section 4.2.2).
_GUESSED_PART = 0.1
NEVER_STALE, IMMUTABLE = "never stale", "immutable"
# All that there are: entries share them.
_BINDS = {
    (False, False): (),
    (True, False): (NEVER_STALE,),
    (False, True): (IMMUTABLE,),
    (True, True): (NEVER_STALE, IMMUTABLE),
}
# `must-understand` asks for more than a number between 200 and 599: these are registered, and RFC 9110 says of them
# nothing that we don't do.
_UNDERSTOOD = frozenset(int(status) for status in HTTPStatus if status >= 200) - {206, 304}
# These say that the resource isn't there; all other errors may be about the request.
_GONE = frozenset({404, 410, 451})
# Nothing is kept longer, however long it is fresh: the purge log is kept a little longer than this, so that whatever
# concerns a living entry is still in it. A day's refetching of the rest costs nothing.
MAX_KEEP_S = 86_400.0


class Asked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What of the request decides whether its answer may be shared."""

    authorization: bool
    """Carries Authorization, and neither `per` nor `store.authorization` accounts for it."""
    cookie: bool
    """Carries Cookie, and neither `per` nor `store.cookie` accounts for it."""
    no_store: bool
    """Cache-Control: no-store in the request."""
    requested_at: float
    ordinary: bool = True
    """Nothing about it but what is in the key is likely to have made the API fail (see `asked.ordinary`). Whoever asks for
    an answer works it out; a hit needs no such thing."""
    principal: bool = False
    """Carries the header that `per` names."""

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
    never_stale: bool = False
    """The API forbids to serve it stale, whatever a client would take (RFC 9111 section 4.2.4)."""
    immutable: bool = False
    """It won't change while it is fresh (RFC 8246)."""
    withheld: frozenset[bytes] = frozenset()
    """Fields, in lower case, that only the client that asked may see."""

    @property
    def binds(self) -> tuple[str, ...]:
        """Which of NEVER_STALE and IMMUTABLE hold."""
        return _BINDS[self.never_stale, self.immutable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """May not be stored."""

    reason: str


def judge(asked: Asked, status: int, fields: Fields, route: settings.Route, now: float) -> Lifetime | Refused:
    """Whether and how long a shared cache may keep an answer to GET that came at `now`.

    Source: RFC 9111 sections 3, 3.5, 4.2 and 5.2; RFC 5861.
    """
    word = targeted(fields, _targets(route))
    said = directives(fields) if word is None else word
    # Without its header there is no principal whose own the answer would be.
    shares_private = route.store.private and asked.principal
    withheld = _withheld(said, shares_private)
    refusal = _said_no(status, said, shares_private) or _refusal(asked, status, fields, withheld, route)
    if refusal:
        return Refused(reason=refusal)
    age = initial_age(fields, requested_at=asked.requested_at, received_at=now)
    expires = () if word is not None else fields
    api_says = None if route.force_ttl else explicit_lifetime(expires, said, now=now)
    lifetime = _route_lifetime(status, route) if api_says is None else api_says
    guess = _guess(status, fields, said, route, now) if lifetime is None else None
    if lifetime is None and guess is None:
        return Refused(reason="no freshness")
    if personal := _personal(asked, said, api_says is not None):
        return Refused(reason=personal)
    # The route's ttl counts from now on; what comes from the API counts from when the answer was made.
    by_route = api_says is None and guess is None
    fresh_until = now + (guess or 0.0 if lifetime is None else lifetime) - (0.0 if by_route else age)
    return _kept(
        fields,
        said,
        route,
        Lifetime(
            generated=now - age,
            fresh_until=fresh_until,
            revalidate_s=0.0,
            error_s=0.0,
            keep_until=now,
            explicit=api_says is not None,
            never_stale=_never_stale(said, route),
            immutable="immutable" in said,
            withheld=withheld,
        ),
        now,
    )


def _kept(
    fields: Fields, said: Directives, route: settings.Route, lifetime: Lifetime, now: float
) -> Lifetime | Refused:
    """The lifetime with its windows, and how long all that makes it worth keeping."""
    revalidate_s, error_s = _stale_windows(said, route)
    validated = bool(values(fields, b"etag") or values(fields, b"last-modified"))
    keep_s = max(revalidate_s, error_s, KEEP_FOR_VALIDATION_S if validated else 0.0)
    if not keep_s and lifetime.fresh_until <= now:
        return Refused(reason="stale on arrival")
    if not lifetime.never_stale:
        keep_s = max(keep_s, KEEP_FOR_MAX_STALE_S)
    keep_until = min(max(lifetime.fresh_until, now) + keep_s, now + MAX_KEEP_S)
    return replace(lifetime, revalidate_s=revalidate_s, error_s=error_s, keep_until=keep_until)


def _targets(route: settings.Route) -> tuple[bytes, ...]:
    return tuple(name.lower().encode() for name in route.targets)


def may_be_the_requests(status: int) -> bool:
    """Whether an answer is an error that another request for the same might not have met."""
    return status >= 400 and status not in _GONE


def _refusal(
    asked: Asked, status: int, fields: Fields, withheld: frozenset[bytes], route: settings.Route
) -> str:
    """The first reason that stands whatever the API says of it, or nothing."""
    if asked.no_store:
        return "request no-store"
    if not 200 <= status <= 599 or status in (206, 304):
        return f"status {status}"
    if values(fields, b"set-cookie") and not route.store.set_cookie and b"set-cookie" not in withheld:
        return "set-cookie"
    if b"*" in members(fields, b"vary"):
        return "vary *"
    if too_many(fields):
        return "too many tags"
    if may_be_the_requests(status) and not asked.ordinary:
        return "error to an odd request"
    return ""


def _said_no(status: int, said: Directives, shares_private: bool) -> str:  # noqa: FBT001 - as below
    if "must-understand" in said:
        # It stands beside a no-store that is for caches that don't know it (RFC 9111 section 5.2.2.3).
        if status not in _UNDERSTOOD:
            return f"must-understand, status {status}"
    elif "no-store" in said:
        return "no-store"
    return "private" if applies(said, "private") and not shares_private else ""


def _personal(asked: Asked, said: Directives, explicit: bool) -> str:  # noqa: FBT001 - one caller, one meaning
    if asked.authorization and not said.keys() & {"public", "s-maxage", "must-revalidate"}:
        return "authorization"
    if asked.cookie and not explicit:
        return "cookie"
    return ""


def _never_stale(said: Directives, route: settings.Route) -> bool:
    # proxy-revalidate and s-maxage mean a shared cache, which this is (RFC 9111 sections 5.2.2.8 and 5.2.2.10).
    strict = said.keys() & {"must-revalidate", "proxy-revalidate", "s-maxage"} or applies(said, "no-cache")
    return bool(strict) and not route.force_ttl


# RFC 9111 section 3.1.
_NEVER_STORED = frozenset({b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization"})


def _withheld(said: Directives, shares_private: bool) -> frozenset[bytes]:  # noqa: FBT001 - as above
    named = named_fields(said, "no-cache")
    if not shares_private:
        named |= named_fields(said, "private")
    return _NEVER_STORED | named


def explicit_lifetime(fields: Fields, said: Directives, *, now: float) -> float | None:
    """Seconds of freshness that the API gives: s-maxage, max-age, Expires, in this order; None if it says nothing.

    Anything unreadable is 0, already stale; so is no-cache, which may be kept but not used unasked.
    Source: RFC 9111 sections 4.2.1 and 5.3.
    """
    if applies(said, "no-cache"):
        return 0.0
    for name in ("s-maxage", "max-age"):
        if name in said:
            return float(delta_seconds(said[name]) or 0)
    expires = values(fields, b"expires")
    if not expires:
        return None
    until = http_date(expires[0], now=now) if len(set(expires)) == 1 else None
    date = http_date(first(fields, b"date"), now=now)
    return 0.0 if until is None else max(0.0, until - (now if date is None else date))


def _guess(status: int, fields: Fields, said: Directives, route: settings.Route, now: float) -> float | None:
    """Seconds of freshness where nobody gives any: the less, the more recently it changed (RFC 9111 section 4.2.2)."""
    if route.heuristic is None or (status not in GUESSED_STATUSES and "public" not in said):
        return None
    modified = http_date(first(fields, b"last-modified"), now=now)
    date = http_date(first(fields, b"date"), now=now)
    if modified is None:
        return None
    return min(route.heuristic, max(0.0, (now if date is None else date) - modified) * _GUESSED_PART)


def _route_lifetime(status: int, route: settings.Route) -> float | None:
    if status in route.status_ttl:
        return route.status_ttl[status]
    return route.ttl if status in TTL_STATUSES else None


def _stale_windows(said: Directives, route: settings.Route) -> tuple[float, float]:
    """Seconds for stale-while-revalidate and for stale-if-error."""
    if not route.force_ttl and (
        said.keys() & {"must-revalidate", "proxy-revalidate"} or applies(said, "no-cache")
    ):
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
