"""What a request that changes something makes invalid."""

import re
from urllib.parse import urljoin, urlsplit

from proxy.policy.key import ANY_HOST
from proxy.policy.purges import Kind
from proxy.policy.routes import Match, RouteTable, too_many_parameters, unsafe, url_of
from proxy.policy.tags import own_group
from proxy.policy.targeted import strings
from proxy.wire.fields import Fields, values

Name = tuple[Kind, str]

# What frameworks and servers may take for `-`, `.`, `_`, `~`, a letter, a digit, `/` or a backslash in a path.
_ESCAPED = re.compile(rb"%(2[DEFdef]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaCcFf]|6[1-9A-Fa-f]|7[0-9AaEe])")


def purged_by(method: str, target: bytes, match: Match | None, routes: RouteTable) -> list[Name]:
    """The purges that a successful request to an unsafe method calls for: its route's, and its own URL's.

    Both also as they are for the plain path that the API may have understood: a write must not miss its purge by
    `/%65vents`, `/x/../events` or `/events/`. Source: RFC 9111 section 4.4.
    """
    if not unsafe(method):
        return []
    names = _purged(target, match, routes)
    path, mark, query = target.partition(b"?")
    for plain in _meant(path):
        names += _purged(plain + mark + query, routes.find(method, _text(plain)), routes)
    return list(dict.fromkeys(names))


def _purged(target: bytes, match: Match | None, routes: RouteTable) -> list[Name]:
    tags: list[Name] = [(Kind.TAG, tag) for tag in match.purges] if match else []
    return tags + _own_url(target, routes)


def _meant(path: bytes) -> list[bytes]:
    """The plain paths that an API may make of one: as it is decoded, without `;` parameters, `//`, `.` and `..`."""
    decoded = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), path)
    segments: list[bytes] = []
    for segment in (part.partition(b";")[0] for part in decoded.replace(b"\\", b"/").split(b"/")):
        if segment == b"..":
            del segments[-1:]
        elif segment not in {b"", b"."}:
            segments.append(segment)
    plain = b"/" + b"/".join(segments)
    return [each for each in dict.fromkeys((decoded, plain, plain + b"/")) if each != path]


def purged_by_answer(target: bytes, host: bytes, fields: Fields, routes: RouteTable) -> list[Name]:
    """What the answer to a successful request to an unsafe method purges beside: Cache-Group-Invalidation's groups, and the
    URLs in Location and Content-Location where they are the request's own site's.

    Source: RFC 9875 section 3, RFC 9111 section 4.4.
    """
    groups = strings(fields, b"cache-group-invalidation")
    names: list[Name] = [(Kind.TAG, own_group(group, site)) for group in groups for site in (host, ANY_HOST)]
    for field in (b"location", b"content-location"):
        for value in values(fields, field):
            place = _same_site(target, host, value)
            names += _own_url(place, routes) if place else []
    return list(dict.fromkeys(names))


def _same_site(target: bytes, host: bytes, reference: bytes) -> bytes | None:
    """Path and query of a URI reference; None if it leads to another site, or nowhere.

    Of the scheme nothing is known here: TLS may have ended before us.
    """
    base = "http://" + host.decode("latin-1") + target.decode("latin-1")
    try:
        found = urlsplit(urljoin(base, reference.decode("latin-1")))
    except ValueError:
        return None
    if found.scheme not in {"http", "https"} or _site(found.netloc) != _site(host.decode("latin-1")):
        return None
    query = f"?{found.query}" if found.query else ""
    return (found.path + query).encode("latin-1")


def _site(authority: str) -> str:
    return re.sub(r":(80|443)?\Z", "", authority.lower())


def _own_url(target: bytes, routes: RouteTable) -> list[Name]:
    if too_many_parameters(target):
        return []
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
