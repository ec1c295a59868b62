"""What a request is, as far as caching goes: may it be answered from the store, may its answer be shared?"""

from proxy import settings
from proxy.policy.cache_control import Directives, directives
from proxy.policy.freshness import Wanted, wanted
from proxy.policy.storable import Asked
from proxy.wire.fields import HOP_BY_HOP, Fields, members

# With these the API's answer depends on what the client already has, or is only a part.
_PARTIAL = frozenset({b"range", b"if-match", b"if-unmodified-since", b"if-range"})


def bypass_reason(fields: Fields, *, has_body: bool) -> str:
    """Why a GET or HEAD must go to the API as it is; nothing if it need not."""
    if has_body:
        return "body"
    names = {name.lower() for name, _ in fields}
    if b"connection" in names:
        options = names.intersection(members(fields, b"connection"))
        if b"upgrade" in options:
            return "upgrade"
        if options - HOP_BY_HOP:
            # The API won't see these fields, so its answer is not the one that the key, made with them, stands for.
            return "connection"
    partial = names & _PARTIAL
    return min(partial).decode() if partial else ""


def request_directives(fields: Fields) -> Directives:
    """The request's Cache-Control."""
    return directives(fields)


def wishes(fields: Fields, said: Directives) -> Wanted:
    """What the request asks of a stored answer."""
    return wanted(said, pragma_no_cache=not said and b"no-cache" in members(fields, b"pragma"))


def asked(fields: Fields, said: Directives, route: settings.Route, *, now: float) -> Asked:
    """What decides whether the answer may be shared."""
    names = {name.lower() for name, _ in fields}
    per = (route.per or "").lower()
    return Asked(
        authorization=b"authorization" in names and per != "authorization" and not route.store.authorization,
        cookie=b"cookie" in names and per != "cookie" and not route.store.cookie,
        no_store="no-store" in said,
        requested_at=now,
    )
