"""What the admin port is asked to do, checked: each mistake is one sentence that names the field and what to send."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import msgspec

from proxy.policy.purges import Kind
from proxy.policy.writes import Name
from proxy.units import parse_duration

MAX_LISTED = 1000
_LISTED = 100
# Replicas apply a purge within milliseconds; one that has not after so long is ill.
_WAIT_S = 5.0
MAX_WAIT_S = 60.0
# A purge is applied in one piece, and requests wait for that: a thousand names take 6 ms.
MAX_NAMES = 1000
# As long as a request line may be by default (client.max_line): no URL that is stored is longer.
_MAX_VALUE = 8190

_FIELDS = {"tags": Kind.TAG, "urls": Kind.URL, "patterns": Kind.PATTERN, "routes": Kind.ROUTE}


class BadInput(Exception):
    """A request to the admin port that cannot be carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeAsked:
    """What to purge, without doubles."""

    names: tuple[Name, ...]
    soft: bool
    wait_s: float | None
    """How long to wait for all replicas; None if not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesAsked:
    """Which entries to list."""

    route: str | None
    limit: int


def purge_asked(body: bytes, known_routes: Collection[str]) -> PurgeAsked:
    """Raises BadInput."""
    asked = _object(body, (*_FIELDS, "soft", "wait", "wait_timeout"))
    names: dict[Name, None] = {}
    for field, kind in _FIELDS.items():
        for index, value in enumerate(_strings(asked, field)):
            _check_name(f"{field}[{index}]", kind, value, known_routes)
            names[kind, value] = None
    if len(names) > MAX_NAMES:
        remedy = "name a tag, route or pattern that they share, or send several requests"
        raise BadInput(f"{len(names)} names are more than {MAX_NAMES}: {remedy}")
    if not names:
        raise BadInput('nothing to purge: send {"tags": ["events"]}, or urls, patterns, routes')
    return PurgeAsked(names=tuple(names), soft=_flag(asked, "soft"), wait_s=_wait_s(asked))


def warm_asked(body: bytes, known: Collection[str]) -> tuple[str, ...]:
    """The resources to warm; none stands for all. Raises BadInput."""
    names = _strings(_object(body, ("names",)), "names")
    for index, name in enumerate(names):
        _check_known(f"names[{index}]", name, known, "warm resource")
    return tuple(dict.fromkeys(names))


def entries_asked(query: Iterable[tuple[str, str]], known_routes: Collection[str]) -> EntriesAsked:
    """Raises BadInput."""
    asked: dict[str, str] = {}
    for name, value in query:
        if name in asked:
            raise BadInput(f"{name} is given twice")
        asked[name] = value
    _check_fields(asked, ("route", "limit"), "parameter")
    if "route" in asked:
        _check_known("route", asked["route"], known_routes, "route")
    return EntriesAsked(route=asked.get("route"), limit=_limit(asked.get("limit", str(_LISTED))))


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_LISTED:
        raise BadInput(f"limit must be a number from 1 to {MAX_LISTED}, not `{_short(text)}`")
    return int(text)


def _object(body: bytes, fields: Collection[str]) -> dict[str, Any]:
    try:
        asked = msgspec.json.decode(body.strip() or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise BadInput("the body is nested too deep") from error
    if not isinstance(asked, dict):
        raise BadInput(f"the body must be a JSON object with {_listing(fields)}")
    _check_fields(asked, fields, "field")
    return asked


def _check_fields(asked: Mapping[str, Any], fields: Collection[str], word: str) -> None:
    for name in asked:
        if name not in fields:
            raise BadInput(f"unknown {word} `{_short(name)}`{_hint(name, fields)}")


def _strings(asked: Mapping[str, Any], field: str) -> list[str]:
    value = asked.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadInput(f'{field} must be a list of strings, such as {{"{field}": ["…"]}}')
    return value


def _flag(asked: Mapping[str, Any], field: str) -> bool:
    value = asked.get(field)
    if value is not None and not isinstance(value, bool):
        raise BadInput(f"{field} must be true or false")
    return bool(value)


def _wait_s(asked: Mapping[str, Any]) -> float | None:
    wait, text = _flag(asked, "wait"), asked.get("wait_timeout")
    if text is None:
        return _WAIT_S if wait else None
    try:
        seconds = parse_duration(text) if isinstance(text, str) else 0.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_WAIT_S:
        raise BadInput(f"wait_timeout must be a duration of at most {MAX_WAIT_S:g}s, such as `5s` or `500ms`")
    if not wait:
        raise BadInput("wait_timeout has no use without wait: true")
    return seconds


def _check_name(place: str, kind: Kind, value: str, known_routes: Collection[str]) -> None:
    if not value:
        raise BadInput(f"{place} must not be empty")
    if len(value) > _MAX_VALUE:
        raise BadInput(f"{place} is longer than {_MAX_VALUE} characters")
    if kind is Kind.ROUTE:
        _check_known(place, value, known_routes, "route")
    if kind is Kind.URL and not value.startswith("/"):
        remedy = " (what `*` stands in belongs to patterns)" if value.startswith("*") else ""
        raise BadInput(f"{place} must be a path with its query, such as `/api/events?page=2`{remedy}")
    if kind is Kind.PATTERN and value[0] not in "/*":
        raise BadInput(f"{place} must begin with `/` or `*`, such as `/api/events*`")
    if kind in {Kind.URL, Kind.PATTERN} and re.search(r"[\s#\x00-\x1f\x7f]", value):
        raise BadInput(f"{place} must be spelt as in requests: no white space and no `#`")


def _check_known(place: str, name: str, known: Collection[str], what: str) -> None:
    if name not in known:
        raise BadInput(f"{place}: there is no {what} `{_short(name)}`{_hint(name, known)}")


def _hint(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name[:100], known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are: {_listing(known)}"


def _listing(known: Collection[str]) -> str:
    # Twenty names are read; two thousand are not.
    names = sorted(known)[:20]
    return ", ".join(names) + (", …" if len(known) > len(names) else "") if names else "none"


def _short(text: str) -> str:
    return text if len(text) <= 64 else f"{text[:64]}…"
