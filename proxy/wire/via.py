"""By which hops a request came, and how many more it may take (RFC 9110 sections 7.6.2 and 7.6.3)."""

import re

from proxy.wire.fields import Fields, names_of, values, without

_NAME = b"crowdgate"
_HOP = re.compile(rb"[ \t]crowdgate(?=[ \t,(]|\Z)")


def own_via(*, http_1_0: bool = False) -> bytes:
    """What we say of ourselves; by which version the message came."""
    return (b"1.0 " if http_1_0 else b"1.1 ") + _NAME


def with_via(fields: Fields, *, http_1_0: bool = False) -> Fields:
    """The fields and our own Via, behind those that are there."""
    return (*fields, (b"Via", own_via(http_1_0=http_1_0)))


def hops(fields: Fields) -> int:
    """How often a request has passed a proxy of our kind already."""
    if b"via" not in names_of(fields):
        return 0
    return sum(len(_HOP.findall(line)) for line in values(fields, b"via"))


def hops_left(method: str, fields: Fields) -> int | None:
    """Max-Forwards of an OPTIONS or TRACE request; None where there is none to be heeded."""
    said = values(fields, b"max-forwards") if method in {"OPTIONS", "TRACE"} else []
    return int(said[0]) if len(said) == 1 and said[0].isdigit() and len(said[0]) < 10 else None


def one_hop_less(fields: Fields, left: int) -> Fields:
    """The fields with Max-Forwards as the next hop must see it."""
    return (*without(fields, {b"max-forwards"}), (b"Max-Forwards", b"%d" % (left - 1)))
