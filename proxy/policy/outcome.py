"""How a request was answered: one value that feeds the metric's label, the access log and Cache-Status."""

from enum import Enum

import msgspec


class Outcome(Enum):
    """The metric label `cache`."""

    HIT_MEMORY = "hit_memory"
    HIT_REDIS = "hit_redis"
    STALE = "stale"
    REVALIDATED = "revalidated"
    COLLAPSED = "collapsed"
    MISS = "miss"
    BYPASS = "bypass"
    ERROR = "error"


HITS = frozenset({Outcome.HIT_MEMORY, Outcome.HIT_REDIS, Outcome.STALE, Outcome.COLLAPSED})
"""Answered without a request to the API of their own."""


class Handling(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What Cache-Status says beside the outcome (RFC 9211)."""

    outcome: Outcome
    forward: str = ""
    """Why the API was asked: `uri-miss`, `vary-miss`, `stale`, `request`, `bypass` or `method`."""
    forward_status: int = 0
    stored: bool = False
    detail: str = ""


FROM_MEMORY = Handling(outcome=Outcome.HIT_MEMORY, detail="memory")
"""A fresh answer that memory has."""
FROM_REDIS = Handling(outcome=Outcome.HIT_REDIS, detail="redis")
"""A fresh answer that Redis has."""


def cache_status(handling: Handling, *, ttl_s: int | None) -> bytes:
    """The member that we append to Cache-Status. `ttl_s` may be negative: stale by so much.

    Source: RFC 9211 section 2.
    """
    parts = ["crowdgate"]
    if handling.forward:
        parts.append(f"fwd={handling.forward}")
        if handling.forward_status:
            parts.append(f"fwd-status={handling.forward_status}")
    elif handling.outcome is not Outcome.ERROR:
        parts.append("hit")
    if ttl_s is not None:
        parts.append(f"ttl={ttl_s}")
    if handling.stored:
        parts.append("stored")
    if handling.outcome is Outcome.COLLAPSED:
        parts.append("collapsed")
    if handling.detail:
        parts.append(f"detail={handling.detail}")
    return "; ".join(parts).encode()
