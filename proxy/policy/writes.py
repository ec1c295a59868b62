"""What a request that changes something makes invalid."""

from proxy.policy.purges import Kind
from proxy.policy.routes import Match, RouteTable, unsafe, url_of

Name = tuple[Kind, str]


def purged_by(method: str, target: bytes, match: Match | None, routes: RouteTable) -> list[Name]:
    """The purges that a successful request to an unsafe method calls for: its route's, and its own URL's.

    Source: RFC 9111 section 4.4.
    """
    if not unsafe(method):
        return []
    names: list[Name] = [(Kind.TAG, tag) for tag in match.purges] if match else []
    path = target.partition(b"?")[0].decode("utf-8", "surrogateescape")
    stored = routes.find("GET", path)
    if stored is not None:
        names.append((Kind.URL, url_of(stored.route, target).decode("utf-8", "surrogateescape")))
    return names


def as_stored(name: Name, routes: RouteTable) -> Name:
    """A purge as a person writes it, its URL as it is stored: the query sorted and less what its route leaves out."""
    kind, value = name
    stored = routes.find("GET", value.partition("?")[0]) if kind is Kind.URL else None
    if stored is None:
        return name
    return kind, url_of(stored.route, value.encode("utf-8", "surrogateescape")).decode(
        "utf-8", "surrogateescape"
    )


def succeeded(status: int) -> bool:
    """Whether an unsafe request did something: 2xx and 3xx."""
    return 200 <= status < 400
