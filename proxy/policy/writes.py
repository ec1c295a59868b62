"""What a request that changes something makes invalid."""

import re

from proxy.policy.purges import Kind
from proxy.policy.routes import Match, RouteTable, unsafe, url_of

Name = tuple[Kind, str]

# RFC 3986 section 6.2.2.2: to every server `%65` is `e`; so it is with all unreserved characters.
_ESCAPED_UNRESERVED = re.compile(rb"%(2[DEde]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])")


def purged_by(method: str, target: bytes, match: Match | None, routes: RouteTable) -> list[Name]:
    """The purges that a successful request to an unsafe method calls for: its route's, and its own URL's.

    Both also as they are for the same path in plain spelling: a write must not miss its purge by `/%65vents`.
    Source: RFC 9111 section 4.4.
    """
    if not unsafe(method):
        return []
    names: list[Name] = [(Kind.TAG, tag) for tag in match.purges] if match else []
    names += _own_url(target, routes)
    path, mark, query = target.partition(b"?")
    plain = _ESCAPED_UNRESERVED.sub(lambda found: bytes.fromhex(found[1].decode()), path)
    if plain != path:
        names += purged_by(method, plain + mark + query, routes.find(method, _text(plain)), routes)
    return list(dict.fromkeys(names))


def _own_url(target: bytes, routes: RouteTable) -> list[Name]:
    stored = routes.find("GET", _text(target.partition(b"?")[0]))
    return [] if stored is None else [(Kind.URL, _text(url_of(stored.route, target)))]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def as_stored(name: Name, routes: RouteTable) -> Name:
    """A purge as a person writes it, its URL as it is stored: the query sorted and less what its route leaves out."""
    kind, value = name
    stored = routes.find("GET", value.partition("?")[0]) if kind is Kind.URL else None
    return (
        name
        if stored is None
        else (kind, _text(url_of(stored.route, value.encode("utf-8", "surrogateescape"))))
    )


def succeeded(status: int) -> bool:
    """Whether an unsafe request did something: 2xx and 3xx."""
    return 200 <= status < 400
