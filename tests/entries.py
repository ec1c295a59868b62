"""Stored answers for tests that care about a few of their members."""

from typing import Any

import msgspec

from proxy.store.entry import Entry

_PLAIN = Entry(
    key="e:k",
    route="events",
    url="/events",
    tags=("events",),
    born=0,
    status=200,
    reason=b"OK",
    lines=b"",
    generated=0.0,
    fresh_until=60.0,
    revalidate_s=0.0,
    error_s=0.0,
    keep_until=4_000_000_000.0,
    explicit=True,
)


def an_entry(now: float = 0.0, **members: Any) -> Entry:
    """One that was made `now` (Unix seconds), is fresh for a minute and kept for ever, but for what is said of it."""
    return msgspec.structs.replace(_PLAIN, **{"generated": now, "fresh_until": now + 60, **members})
