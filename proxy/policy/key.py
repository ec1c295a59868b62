"""Under which key an answer is stored: everything that may change the answer and that we let through."""

from hashlib import blake2b

import msgspec

from proxy.policy.forwarded import forwarded
from proxy.policy.routes import Route, url_of
from proxy.wire.fields import Fields, members, names_of, values

ANY_HOST = b"*"
"""Stands for Host in the key of a resource that is warmed for all hosts."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for, before the answer's Vary is known."""

    route: Route
    host: bytes
    """Lower case, or ANY_HOST."""
    url: bytes
    """Path as sent and, after `?`, the query as the route selects it: the name under which it can be purged."""
    principal: bytes
    """Digest of the principal's header; empty where the route has no `per` or the request no such header."""
    vary: tuple[bytes, ...]
    """Normalised values of the route's `vary` headers."""
    forwarded: bytes = b""
    """Digest of what proxies say about the URL (see `policy.forwarded`); empty for any host."""

    cross_origin: bool = False
    """Carries Origin: many an API adds CORS fields to its answer then, and does not say so in Vary."""

    @property
    def text(self) -> str:
        """The key itself: short, safe as a Redis key, without a secret in it. Equal only for equal parts."""
        digest = blake2b(digest_size=16)
        origin = b"origin" if self.cross_origin else b""
        parts = (self.host, self.url, self.principal, self.forwarded, origin, *self.vary)
        for part in parts:
            digest.update(b"%d:" % len(part))
            digest.update(part)
        return f"e:{self.route.namespace}:{digest.hexdigest()}"


def key_of(route: Route, target: bytes, fields: Fields, *, hostless: frozenset[bytes] = frozenset()) -> Key:
    """The key of a request. `target` is its path and query as sent; `hostless` are the URLs that answer for any Host."""
    url = url_of(route, target)
    any_host = url in hostless
    return Key(
        route=route,
        host=ANY_HOST if any_host else b",".join(values(fields, b"host")).lower(),
        url=url,
        principal=principal(fields, route.per) if route.per else b"",
        vary=tuple(vary_value(fields, name) for name in route.vary),
        forwarded=b"" if any_host else forwarded(fields, route.unkeyed),
        cross_origin=b"origin" in names_of(fields),
    )


def principal(fields: Fields, header: bytes) -> bytes:
    """A digest that stands for the principal, so that no credential is ever in a key, a log or Redis."""
    lines = values(fields, header)
    if not lines:
        return b""
    digest = blake2b(digest_size=16, person=b"principal")
    for line in lines:
        digest.update(b"%d:" % len(line))
        digest.update(line)
    return digest.digest()


def vary_value(fields: Fields, name: bytes) -> bytes:
    """A request header's value as Vary compares it: as sent, but for what its syntax says means the same.

    An absent header differs from an empty one (RFC 9111 section 4.1).
    """
    lines = values(fields, name)
    if not lines:
        return b"-"
    if name in _CASELESS:
        return b"+" + b",".join(members(fields, name))
    if name in _NO_LIST or any(b'"' in line for line in lines):
        return b"+" + b"\n".join(lines)
    # Anything else that has commas is a list, or two lines of it could not have been sent (RFC 9110 section 5.3).
    return b"+" + b",".join(piece.strip() for line in lines for piece in line.split(b","))


# Lists of members that are defined as case-insensitive and hold no quoted text (RFC 9110 section 12.5).
_CASELESS = frozenset({b"accept-encoding", b"accept-language", b"accept-charset"})
# Text in which a comma is a comma, or whose white space somebody may read.
_NO_LIST = frozenset(
    {
        b"authorization",
        b"cookie",
        b"date",
        b"from",
        b"host",
        b"if-modified-since",
        b"if-range",
        b"if-unmodified-since",
        b"origin",
        b"proxy-authorization",
        b"referer",
        b"user-agent",
    }
)


def variant(key: str, names: tuple[bytes, ...], fields: Fields) -> str:
    """The key of one variant of `key`, by the request headers that the answer's Vary names."""
    digest = blake2b(digest_size=16)
    for name in names:
        value = vary_value(fields, name)
        digest.update(b"%s:%d:" % (name, len(value)))
        digest.update(value)
    return f"{key}.{digest.hexdigest()}"
