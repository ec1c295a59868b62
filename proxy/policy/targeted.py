"""Cache-Control for one kind of cache: CDN-Cache-Control and its like (RFC 9213), read as Structured Fields (RFC 9651)."""

from collections.abc import Sequence
from typing import Any

import http_sf

from proxy.policy.cache_control import UNREADABLE, Directives
from proxy.wire.fields import Fields, combined

# Their argument is a number of seconds and nothing else.
_SECONDS = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})


def targeted(fields: Fields, names: Sequence[bytes]) -> Directives | None:
    """The directives of the first field of `names` (lower case) that is valid and not empty; None if there is none.

    Where it is not None, Cache-Control and Expires are not for this cache. Raises nothing.
    Source: RFC 9213 sections 2.1 and 2.2.
    """
    for name in names:
        value = combined(fields, name)
        said = None if value is None else _directives(value)
        if said:
            return said
    return None


def _directives(value: bytes) -> Directives | None:
    try:
        members: Any = http_sf.parse(value, tltype="dictionary")
    except http_sf.StructuredFieldError:
        return None
    return {name: _argument(name, item) for name, (item, _) in members.items() if item is not False}


def _argument(name: str, item: Any) -> str | None:
    """A member's value as Cache-Control would have it. What is no whole number where one belongs can't be read."""
    if type(item) is int:
        return str(item)
    if name in _SECONDS:
        return UNREADABLE
    return item if type(item) is str else None


def strings(fields: Fields, name: bytes) -> list[str]:
    """The members of a List of Strings, such as Cache-Groups; none if the field is not that (RFC 9875 section 2)."""
    value = combined(fields, name)
    if value is None:
        return []
    try:
        members: Any = http_sf.parse(value, tltype="list")
    except http_sf.StructuredFieldError:
        return []
    items = [item for item, _ in members]
    return items if all(type(item) is str for item in items) else []
