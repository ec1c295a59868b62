"""Which route a request takes, and which tags that route gives it.

The path is matched as it was sent: percent-encoding, `//`, `..` and `;` are never interpreted, because the API may
interpret them otherwise. A path in another spelling simply matches nothing and passes through uncached.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from urllib.parse import unquote_to_bytes

import msgspec

from proxy import settings

_PARAM = re.compile(r"\{([^{}]*)\}")
_TWO_PARAMS = re.compile(r"\}[^/]*\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Those that are registered as safe (RFC 9110 section 16.1.1 and what came after it).
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "REPORT", "SEARCH"})


class BadPattern(ValueError):
    """A `match` or a tag template that cannot be read; the message says why and what to write."""


def compile_match(match: str) -> tuple[str, tuple[str, ...]]:
    """Regular expression (to be used with fullmatch) and param names of a `match`; a group for each param, in order.

    Raises BadPattern.
    """
    if not match.startswith("/"):
        raise BadPattern("must start with `/`")
    if bad := re.search(r"[?#\s]", match):
        raise BadPattern(f"`{bad[0]}` cannot be in a path; query parameters belong to `query:`")
    path, rest = (match[:-2], r".*") if match.endswith("/**") else (match, "")
    if "*" in path:
        raise BadPattern("`**` may only be the last segment; one segment is `{name}`")
    names = params_in(path)
    if len(set(names)) != len(names):
        raise BadPattern("a param is named twice")
    # Two in a segment could share it in many ways, and trying them all on a client's long path takes seconds.
    if _TWO_PARAMS.search(path):
        raise BadPattern("one segment has two params; write one, such as `{name}` for the whole segment")
    first, *others = _PARAM.split(path)[::2]
    return re.escape(first) + "".join(_param(literal) for literal in others) + rest, names


def _param(literal: str) -> str:
    """A param and what follows it."""
    # A whole segment gives nothing back (`++`): a shorter one could not be followed by `/` or the end.
    whole = not literal or literal.startswith("/")
    return ("([^/]++)" if whole else "([^/]+)") + re.escape(literal)


def params_in(template: str) -> tuple[str, ...]:
    """Names of the `{params}` in a `match` or in a tag such as `event:{event_id}`.

    Raises BadPattern.
    """
    names = tuple(_PARAM.findall(template))
    for name in names:
        if not _NAME.match(name):
            raise BadPattern(f"`{{{name}}}` is no param: letters, digits and `_`, not beginning with a digit")
    if set("{}") & set(_PARAM.sub("", template)):
        raise BadPattern("an unpaired brace: a param is written `{name}`")
    return names


def route_name(match: str) -> str:
    """A route's default name: `/api/events/{id}` is `api-events-id`, `/**` is `all`."""
    words = re.findall(r"[A-Za-z0-9._]+", match)
    return "-".join(words)[:64] or ("all" if match.endswith("**") else "root")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route, ready for use."""

    name: str
    settings: settings.Route
    namespace: str
    """Begins the keys of what it stores; changes with whatever changes the meaning of a key."""
    vary: tuple[bytes, ...]
    """Lower-case names of request headers in the key."""
    per: bytes | None
    """Lower-case name of the principal's header."""
    query: frozenset[bytes] | None
    """Parameters in the key, as `meant_name` has them; None for all of them."""
    unkeyed: frozenset[bytes]
    """Lower-case names of fields of proxies that are not in the key."""
    as_sent: bool
    """The query is in the key just as it was sent."""
    caches: bool
    """Whether its GETs are cached at all."""


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """The route of one request and the values of its params."""

    route: Route
    params: Mapping[str, str]

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of what this request stores."""
        return tuple(_fill(tag, self.params) for tag in self.route.settings.tags)

    @property
    def purges(self) -> tuple[str, ...]:
        """Tags that this request purges when it succeeds."""
        return tuple(_fill(tag, self.params) for tag in self.route.settings.purge)


def _fill(template: str, params: Mapping[str, str]) -> str:
    return _PARAM.sub(lambda found: _decoded(params[found[1]]), template)


def _decoded(value: str) -> str:
    # `/events/%34%32` names the API's event 42, so it must get, and purge, that event's tags.
    if "%" not in value:
        return value
    return unquote_to_bytes(value.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _namespace(name: str, route: settings.Route) -> str:
    # An entry stored while `per` was missing must not be found after it was added, so what a key means is part of it.
    meaning = (route.match, route.query, route.vary, route.unkeyed, route.per, route.store)
    return f"{name}.{blake2b(msgspec.json.encode(meaning), digest_size=4).hexdigest()}"


def prepare(route: settings.Route) -> Route:
    """A route's settings in the shape that requests need."""
    name = route.name or route_name(route.match)
    wanted = route.query
    return Route(
        name=name,
        settings=route,
        namespace=_namespace(name, route),
        vary=tuple(sorted({header.lower().encode() for header in route.vary})),
        per=route.per.lower().encode() if route.per else None,
        unkeyed=frozenset(name.lower().encode() for name in route.unkeyed),
        as_sent=wanted == "all",
        query=None
        if wanted in {"all", "sorted"}
        else frozenset(() if wanted == "none" else (meant_name(p.encode()) for p in wanted)),
        caches="GET" in route.methods,
    )


# Of an API with 200 routes a few are left by then, in one expression.
_SEGMENTS = 2
_MAX_COPIES = 8
Beginning = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """All routes of one method as one expression: the regex engine finds the first that matches."""

    pattern: re.Pattern[str]
    routes: Mapping[int, tuple[Route, tuple[str, ...]]]
    """By the number of the group that is the route's; those of its params follow."""


@dataclass(slots=True)
class RouteTable:
    """All routes, in order. The first that matches method and path wins."""

    routes: tuple[Route, ...] = ()
    telling: frozenset[bytes] = frozenset()
    """The names of the headers by which any route tells requests apart, in lower case."""
    _groups: dict[tuple[str, ...], _Group] = field(default_factory=dict)
    """By method and the first segments of the path (see `_beginning`)."""

    @classmethod
    def of(cls, routes: tuple[settings.Route, ...]) -> "RouteTable":
        """Raises BadPattern; a config that passed `check` holds none."""
        prepared = tuple(prepare(route) for route in routes)
        telling = {name for route in prepared for name in (*route.vary, route.per or b"host")}
        table = cls(routes=prepared, telling=frozenset(telling))
        for method in {method for route in routes for method in route.methods}:
            able = [route for route in table.routes if method in route.settings.methods]
            table._add(method, able, [_beginning(route.settings.match) for route in able])
        return table

    def _add(self, method: str, able: list[Route], begins: list[Beginning]) -> None:
        groups: dict[Beginning, list[Route]] = {
            begin: [route for route, its in zip(able, begins, strict=True) if its == begin[: len(its)]]
            for begin in {(), *begins}
        }
        if sum(map(len, groups.values())) > _MAX_COPIES * len(able):
            # Many that begin with a param would be in each of many groups.
            groups = {(): able}
        for begin, routes in groups.items():
            if routes:
                self._groups[method, *begin] = _group(routes)

    def find(self, method: str, path: str) -> Match | None:
        """The route of a request, its path as sent and without query. None passes through. HEAD goes with GET."""
        method = "GET" if method == "HEAD" else method
        groups, (first, *more) = self._groups, path.split("/", _SEGMENTS + 1)[1 : _SEGMENTS + 1] or ("",)
        group = groups.get((method, first, *more)) or groups.get((method, first)) or groups.get((method,))
        found = group.pattern.fullmatch(path) if group else None
        if group is None or found is None:
            return None
        # `lastindex` is the outermost group that matched last: the route's own.
        number = found.lastindex or 1
        route, params = group.routes[number]
        return Match(route=route, params={name: found[number + at] for at, name in enumerate(params, 1)})


def _beginning(match: str) -> Beginning:
    """The first segments, at most two, that each path which matches has just so."""
    segments = match.split("/")[1 : _SEGMENTS + 1]
    for number, segment in enumerate(segments):
        if "{" in segment or segment == "**":
            return tuple(segments[:number])
    return tuple(segments)


def _group(routes: list[Route]) -> _Group:
    pieces: list[str] = []
    members: dict[int, tuple[Route, tuple[str, ...]]] = {}
    number = 1
    for route in routes:
        regex, params = compile_match(route.settings.match)
        pieces.append(f"({regex})")
        members[number] = (route, params)
        number += 1 + len(params)
    return _Group(re.compile("|".join(pieces), re.DOTALL), members)


def unsafe(method: str) -> bool:
    """Whether the method may change something (RFC 9110 section 9.2.1): anything not known to be safe."""
    return method not in _SAFE_METHODS


def url_of(route: Route, target: bytes) -> bytes:
    """The part of the target that counts. As sent: by RFC 3986 `?a&b` and `?b&a` are two, and so are `/` and `/?`."""
    if route.as_sent:
        return target
    path, _, query = target.partition(b"?")
    selected = select_query(query, route.query) if query else b""
    return path + b"?" + selected if selected else path


# Nobody means more, and sorting them would cost more than the answer.
_MAX_PARAMETERS = 256


def too_many_parameters(target: bytes) -> bool:
    """Whether a target's query is not to be made part of a key: its answer is not stored."""
    return target.count(b"&") + target.count(b";") >= _MAX_PARAMETERS


def select_query(query: bytes, wanted: frozenset[bytes] | None) -> bytes:
    """The parameters that count, sorted by name; equal names keep their order. None counts all.

    Parameters are split at `&` alone and compared as sent. But one whose name some API could take for a wanted one
    (`%61` for `a`, `a[]`, `A`, or behind a `;`) counts too: it may change the answer, and would poison the key.
    """
    chosen = [piece for piece in query.split(b"&") if piece and (wanted is None or _counts(piece, wanted))]
    # Where `;` may separate parameters, nobody can say which of them are equal and must keep their order.
    if b";" not in query:
        chosen.sort(key=meant_name)
    return b"&".join(chosen)


def _counts(piece: bytes, wanted: frozenset[bytes]) -> bool:
    if b";" not in piece:
        return meant_name(piece) in wanted
    return any(meant_name(part) in wanted for part in piece.split(b";"))


_PLAIN = re.compile(rb"[a-z0-9_-]*+(?==|\Z)")
# What PHP turns into `_`; so it does with a `[` that is not closed.
_UNDERSCORES = bytes.maketrans(b". ", b"__")


def meant_name(piece: bytes) -> bytes:
    """The name that a parameter may mean to an API, whatever its framework makes of spelling, case and brackets."""
    plain = _PLAIN.match(piece)
    if plain:
        return plain[0]
    name = unquote_to_bytes(piece.partition(b"=")[0].replace(b"+", b" ")).lower().strip()
    if b"]" not in name:
        name = name.replace(b"[", b"_")
    return re.split(rb"[\[\0]", name, maxsplit=1)[0].translate(_UNDERSCORES)
