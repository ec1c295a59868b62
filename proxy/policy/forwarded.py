"""What proxies before us, or whoever claims to be one, say of the request: an API may build its links from it.

It is in the key, so that nobody gets an answer made for another host, scheme or prefix. X-Forwarded-For and its like are
not: they differ for every client, and an answer that depends on them is for its client alone, as its Cache-Control must say.
"""

import re
from functools import lru_cache
from hashlib import blake2b

from proxy.wire.fields import Fields, names_of, values, without

_PREFIX = b"x-forwarded-"
# Who asks, not for what. (The certificates are the caller's.)
_WHO = frozenset(
    {
        b"x-forwarded-for",
        b"x-forwarded-client-cert",
        b"x-forwarded-client-ip",
        b"x-forwarded-remote-addr",
        b"x-forwarded-request-id",
        b"x-forwarded-tls-client-cert",
        b"x-forwarded-tls-client-cert-info",
    }
)
_NAMES = frozenset(
    {
        b"forwarded",
        b"front-end-https",
        b"x-host",
        b"x-http-host-override",
        b"x-original-host",
        b"x-original-uri",
        b"x-replaced-path",
        b"x-scheme",
        b"x-script-name",
        b"x-url-scheme",
    }
)
# The parameters of Forwarded that are about who asks (RFC 7239 section 5). All else counts, well formed or not.
_WHO_ASKS = re.compile(rb'(?<![A-Za-z0-9_-])(?:for|by)=(?:"[^"\\]*+"|[A-Za-z0-9._:\[\]-]*+)', re.IGNORECASE)


def plain(name: bytes) -> bytes:
    """A field's name as gateways in the manner of CGI see it: they take `_` for `-`."""
    return name.lower().replace(b"_", b"-")


def counts(name: bytes) -> bool:
    """Whether a field of this `plain` name says for which URL a request is meant to be."""
    return name in _NAMES or (name.startswith(_PREFIX) and name not in _WHO)


def forwarded_names(fields: Fields) -> frozenset[bytes]:
    """Those of the fields, in lower case as sent, that say for which URL the request is meant to be."""
    return _that_count(names_of(fields))


@lru_cache(maxsize=128)
def _that_count(names: frozenset[bytes]) -> frozenset[bytes]:
    return frozenset(name for name in names if counts(plain(name)))


def forwarded(fields: Fields, unkeyed: frozenset[bytes] = frozenset()) -> bytes:
    """A digest of what is said, but for the fields in `unkeyed` (lower case); empty where nothing is."""
    names = forwarded_names(fields) - unkeyed
    if not names:
        return b""
    digest = blake2b(digest_size=16, person=b"forwarded")
    for name in sorted(names):
        for value in values(fields, name):
            said = _WHO_ASKS.sub(b"", value) if name == b"forwarded" else value
            digest.update(b"%s:%d:" % (plain(name), len(said)))
            digest.update(said)
    return digest.digest()


def without_forwarded(fields: Fields) -> Fields:
    """The fields less those."""
    names = forwarded_names(fields)
    return without(fields, names) if names else fields
