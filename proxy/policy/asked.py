"""What a request is, as far as caching goes: may it be answered from the store, may its answer be shared?"""

import re
from functools import lru_cache
from hashlib import blake2b

from proxy import settings
from proxy.policy.cache_control import Directives, directives
from proxy.policy.forwarded import plain
from proxy.policy.freshness import ANYTHING, Wanted, wanted
from proxy.policy.routes import too_many_parameters
from proxy.policy.storable import Asked
from proxy.wire.fields import HOP_BY_HOP, Fields, block, members, names_of, values
from proxy.wire.response import OUTAGES

# These ask for what only the API knows (RFC 9111 section 4.3.2: a cache does not evaluate them).
_FOR_THE_API = frozenset({b"if-match", b"if-unmodified-since"})
# Some frameworks take these for the method or the URL that is really meant. Nobody else sends them.
_OVERRIDES = frozenset(
    {
        b"x-original-url",
        b"x-rewrite-url",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-http-path-override",
    }
)
# Nobody means more than this; reading it would cost more than the answer.
_DIRECTIVES = frozenset({b"cache-control", b"pragma"})
_DIRECTIVES_BYTES = 1024
# Some thirty proxies on the way.
_FORWARDED = frozenset({b"forwarded"})
_FORWARDED_BYTES = 4096
# On a GET they do nothing but provoke: an error that came by one of them is its sender's alone.
_ODD = frozenset(
    {
        b"content-type",
        b"content-encoding",
        b"content-range",
        b"expect",
        b"origin",
        b"access-control-request-method",
        b"access-control-request-headers",
    }
)
# A browser's head is 1 to 2 KiB. An API's limit may be lower than ours, but hardly lower than this.
_ORDINARY_BYTES = 4096
# Java's and curl's clients offer h2c with each request: nobody takes it up, and the API does not see it.
_ENDS_HERE = HOP_BY_HOP | {b"http2-settings"}


def bypass_reason(target: bytes, fields: Fields, *, has_body: bool) -> str:
    """Why a GET or HEAD must go to the API as it is; nothing if it need not."""
    if has_body:
        return "body"
    if too_many_parameters(target):
        return "query"
    names = names_of(fields)
    if b"connection" in names:
        options = names.intersection(members(fields, b"connection"))
        if b"upgrade" in options and b"websocket" in members(fields, b"upgrade"):
            return "upgrade"
        if options - _ENDS_HERE:
            # The API won't see these fields, so its answer is not the one that the key, made with them, stands for.
            return "connection"
    if not names.isdisjoint(_DIRECTIVES) and _bytes_of(fields, _DIRECTIVES) > _DIRECTIVES_BYTES:
        return "directives"
    if b"forwarded" in names and _bytes_of(fields, _FORWARDED) > _FORWARDED_BYTES:
        return "forwarded"
    return _unshared(names)


def _bytes_of(fields: Fields, names: frozenset[bytes]) -> int:
    return sum(len(value) for name, value in fields if name.lower() in names)


@lru_cache(maxsize=128)
def _unshared(names: frozenset[bytes]) -> str:
    unshared = (names & _FOR_THE_API) | ({plain(name) for name in names if name[:1] == b"x"} & _OVERRIDES)
    return min(unshared).decode() if unshared else ""


def ordinary(fields: Fields) -> bool:
    """Whether others, who send other fields, would have got the same error for it.

    Without this, whoever finds a field that makes the API fail can have its error stored for everybody.
    """
    if not names_of(fields).isdisjoint(_ODD):
        return False
    lines = block(fields)
    return len(lines) <= _ORDINARY_BYTES and lines.isascii()


# An id or a number: a request's own, and no reason for an error, but in fields that an API reads.
_ID = re.compile(rb"(?:[0-9]{1,20}|[0-9A-Fa-f-]{8,64})\Z")
_READ = (b"accept", b"if-")
# No reason either: they are in the key, about this hop, or about what is stored.
_NO_REASON = HOP_BY_HOP | {
    b"host",
    b"via",
    b"cache-control",
    b"pragma",
    b"range",
    b"if-range",
    b"content-length",
}
# Who asks is a reason to be refused (4xx), hardly one to fail (5xx).
_WHO = frozenset({b"x-forwarded-for", b"x-real-ip", b"forwarded"})


def provoking(fields: Fields, status: int) -> frozenset[bytes]:
    """The fields, in lower case, that may be why the API answered with an error: it is for those who send them alike."""
    if status in OUTAGES:
        return frozenset()
    lower = ((name.lower(), value) for name, value in fields)
    names = frozenset(name for name, value in lower if name.startswith(_READ) or not _ID.match(value))
    return names - _NO_REASON - (_WHO if status >= 500 else frozenset())


def request_directives(fields: Fields, route: settings.Route) -> Directives:
    """The request's Cache-Control, as far as the route lets it count."""
    if route.request_directives == "ignore" or b"cache-control" not in names_of(fields):
        return {}
    return directives(fields)


def wishes(fields: Fields, said: Directives, route: settings.Route) -> Wanted:
    """What the request asks of a stored answer."""
    if route.request_directives == "ignore":
        return ANYTHING
    if not said and b"pragma" not in names_of(fields):
        return ANYTHING
    return wanted(said, pragma_no_cache=not said and b"no-cache" in members(fields, b"pragma"))


def asked(fields: Fields, said: Directives, route: settings.Route, *, now: float) -> Asked:
    """What decides whether the answer may be shared."""
    names = names_of(fields)
    per = (route.per or "").lower()
    return Asked(
        authorization=b"authorization" in names and per != "authorization" and not route.store.authorization,
        cookie=b"cookie" in names and per != "cookie" and not route.store.cookie,
        no_store="no-store" in said,
        requested_at=now,
        principal=bool(per) and per.encode() in names,
    )


# Of the client's own copy. If-Range is about a part, and the others about a change.
_CONDITIONS = (b"if-none-match", b"if-modified-since")


def conditions(fields: Fields) -> str:
    """A digest of the request's conditions; empty if it has none."""
    lines = [(name, value) for name in _CONDITIONS for value in values(fields, name)]
    return f":if:{blake2b(repr(lines).encode(), digest_size=8).hexdigest()}" if lines else ""
