"""Which of a request's fields decide how it is answered from memory: the values of all others are never looked at.

Two requests are the same request if they have the same method and target, the same names of fields in the same order, and
the same values in those that are named here. What else a client, its browser and the proxies on the way say (a trace, an
id of the request) may be new each time.
"""

from proxy.policy.forwarded import counts, plain

READ = frozenset(
    {
        # What is asked for, and by what way it came.
        b"host",
        b"via",
        # What answers vary by, of what differs little from one client to the next. (A language does, and a cookie.)
        b"accept",
        b"accept-encoding",
        b"origin",
        # What becomes of the connection and of what follows on it.
        b"connection",
        b"content-length",
        b"expect",
        b"transfer-encoding",
        b"upgrade",
        # What would do for an answer.
        b"cache-control",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"pragma",
        b"range",
    }
)
"""Besides those of `policy.forwarded` and of the routes (`vary`, `per`); in lower case."""


def is_relevant(name: bytes, also: frozenset[bytes]) -> bool:
    """Whether a field's value counts. `also` are names that routes tell requests apart by, in lower case."""
    lower = name.lower()
    return lower in READ or lower in also or counts(plain(lower))
