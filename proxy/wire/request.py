"""What of a request must be put right before it is matched, keyed and passed on."""

from proxy.wire.fields import Fields, values, without

_SCHEME = b"http://"


def origin_form(target: bytes, fields: Fields) -> tuple[bytes, Fields]:
    """A target in absolute form as path and query, with Host as it says; any other target as it is.

    So that `GET http://api/events` is the same request as `GET /events` to routes, keys and purges, and so that no Host
    but the target's own is believed. One with user information or without a path stays as it is: it matches no route.
    Source: RFC 9112 section 3.2.2.
    """
    if target[: len(_SCHEME)].lower() != _SCHEME:
        return target, fields
    authority, slash, rest = target[len(_SCHEME) :].partition(b"/")
    if not authority or not slash or any(mark in authority for mark in b"@?#"):
        return target, fields
    return slash + rest, ((b"Host", authority), *without(fields, {b"host"}))


def with_host(fields: Fields, authority: bytes) -> Fields:
    """The fields, and Host where the client (of HTTP/1.0) sent none: HTTP/1.1 needs one (RFC 9112 section 3.2)."""
    return fields if values(fields, b"host") else ((b"Host", authority), *fields)
