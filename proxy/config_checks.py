"""What must fit together in a config although each value is right by itself."""

import re
from difflib import get_close_matches
from urllib.parse import urlsplit

from proxy.config_problems import Findings
from proxy.policy.routes import BadPattern, Match, RouteTable, compile_match, params_in, unsafe
from proxy.settings import Route, Settings, Warm
from proxy.units import render_size
from proxy.wire.fields import HOP_BY_HOP

_WILD = frozenset({"", "0.0.0.0", "[::]"})
_LOCAL = frozenset({"127.0.0.1", "localhost", "[::1]"})
_OWN_HEADERS = frozenset(name.decode() for name in HOP_BY_HOP) | {"host", "content-length"}


def check(settings: Settings, found: Findings) -> None:
    _check_upstream(settings, found)
    _check_listeners(settings, found)
    _check_tiers(settings, found)
    for index, route in enumerate(settings.routes):
        _check_match(index, route, found)
        _check_caching(index, route, found)
        _check_headers(index, route, found)
    _check_names("routes", settings.routes, found)
    _check_names("warm", settings.warm, found)
    _check_reached(settings, found)
    _check_warm(settings, found)


def _check_upstream(settings: Settings, found: Findings) -> None:
    upstream = settings.upstream
    if upstream.url is None and not upstream.urls:
        found.blame("upstream", "needs `url` (or `urls`), the API's address", "upstream.url", "upstream.urls")
    if upstream.url is not None and upstream.urls:
        found.blame("upstream.urls", "give url or urls, not both", "upstream.url")
    addresses = {f"upstream.urls[{index}]": url for index, url in enumerate(upstream.urls)}
    if upstream.url is not None:
        addresses["upstream.url"] = upstream.url
    for path, url in addresses.items():
        if not found.is_sound(path):
            continue
        host, port = _origin(url)
        own, own_port = _address(settings.listen)
        if not 1 <= port <= 65535 or not host:
            found.add(path, "must name a host, and a port from 1 to 65535 if any")
        elif port == own_port and host in _LOCAL and own in _WILD | _LOCAL:
            found.blame(path, f"is the proxy itself, which listens on {settings.listen}", "listen")


def _check_listeners(settings: Settings, found: Findings) -> None:
    listeners = {"listen": settings.listen, "admin.listen": settings.admin.listen}
    for path, address in listeners.items():
        if _address(address)[1] > 65535:
            found.blame(path, "the port must be from 0 to 65535")
    (host, port), (admin_host, admin_port) = map(_address, listeners.values())
    overlap = host == admin_host or not _WILD.isdisjoint({host, admin_host})
    if port and port == admin_port and overlap:
        path = found.given("admin.listen", "listen")
        found.blame(path, f"port {port} cannot be both listen and admin.listen", *listeners)


def _check_tiers(settings: Settings, found: Findings) -> None:
    memory, redis = settings.memory, settings.redis
    if 0 < memory.max_size < memory.max_object:
        sizes = f"({render_size(memory.max_object)}) must fit into max_size ({render_size(memory.max_size)})"
        path = found.given("memory.max_object", "memory.max_size")
        found.blame(path, f"max_object {sizes}", "memory.max_object", "memory.max_size")
    if redis is None:
        return
    if redis.max_value < memory.max_object:
        sizes = (
            f"({render_size(redis.max_value)}) must hold memory.max_object ({render_size(memory.max_object)})"
        )
        path = found.given("redis.max_value", "memory.max_object")
        found.blame(path, f"redis.max_value {sizes}", "redis.max_value", "memory.max_object")
    if redis.mode == "embedded":
        if redis.url is not None:
            found.blame("redis.url", "has no use with mode embedded, which starts its own", "redis.mode")
        return
    if redis.url is None:
        found.blame("redis", "needs `url`, or `mode: embedded`", "redis.url", "redis.mode")
        return
    urls = [redis.url] if redis.mode == "standalone" else redis.url.split(",")
    if not all(re.match(r"(rediss?|unix)://.", url.strip()) for url in urls):
        found.blame("redis.url", "must begin with redis://, rediss:// or unix://", "redis.mode")


def _check_match(index: int, route: Route, found: Findings) -> None:
    path = f"routes[{index}]"
    if not found.is_sound(f"{path}.match"):
        return
    try:
        params: tuple[str, ...] | None = compile_match(route.match)[1]
    except BadPattern as bad:
        found.add(f"{path}.match", str(bad))
        found.unsound.add(f"{path}.match")
        params = None
    templates = {f"{path}.tags[{n}]": tag for n, tag in enumerate(route.tags)}
    templates |= {f"{path}.purge[{n}]": tag for n, tag in enumerate(route.purge)}
    for place, template in templates.items():
        _check_template(place, template, params, found)


def _check_template(path: str, template: str, params: tuple[str, ...] | None, found: Findings) -> None:
    if not template:
        found.blame(path, "must not be empty")
    try:
        used = params_in(template)
    except BadPattern as bad:
        found.blame(path, str(bad))
        return
    for name in used:
        if params is not None and name not in params:
            has = f"has {', '.join(f'{{{param}}}' for param in params)}" if params else "has no params"
            close = get_close_matches(name, params, n=1)
            hint = f"; did you mean {{{close[0]}}}?" if close else ""
            found.blame(path, f"{{{name}}} is not in match, which {has}{hint}")


def _check_caching(index: int, route: Route, found: Findings) -> None:
    path = f"routes[{index}]"
    methods = f"{path}.methods"
    if "HEAD" in route.methods and "GET" not in route.methods:
        found.blame(methods, "HEAD goes with GET: write GET")
    if "GET" not in route.methods:
        for name in ("ttl", "stale_while_revalidate", "stale_if_error", "status_ttl", "tags"):
            if getattr(route, name):
                found.blame(f"{path}.{name}", "only answers to GET are stored, and methods has none", methods)
    if route.force_ttl and route.ttl is None:
        found.blame(f"{path}.force_ttl", "needs a ttl to enforce", f"{path}.ttl")
    if route.store.private and route.per is None:
        found.blame(f"{path}.store.private", "needs `per`: who else may see it?", f"{path}.per")
    if route.purge and not any(unsafe(method) for method in route.methods):
        message = "follows requests that change something, and methods has only safe ones"
        found.blame(f"{path}.purge", message, methods)


def _check_headers(index: int, route: Route, found: Findings) -> None:
    path = f"routes[{index}]"
    if route.per is not None and route.per.lower() in _OWN_HEADERS:
        found.blame(f"{path}.per", f"{route.per} belongs to the connection and names no principal")
    for n, name in enumerate(route.vary):
        if name.lower() in _OWN_HEADERS - {"host"}:
            found.blame(f"{path}.vary[{n}]", f"{name} belongs to the connection and never reaches the API")


def _check_names(section: str, members: tuple[Route | Warm, ...], found: Findings) -> None:
    first: dict[str, int] = {}
    for index, member in enumerate(members):
        path = f"{section}[{index}].name"
        if member.name is None or not found.is_sound(path):
            continue
        if member.name in first:
            found.add(path, f"{member.name} is the name of {section}[{first[member.name]}] already")
        first.setdefault(member.name, index)


def _check_reached(settings: Settings, found: Findings) -> None:
    """A route that earlier ones leave nothing to is a mistake in their order."""
    indexes = [i for i in range(len(settings.routes)) if _is_readable(i, found)]
    table = RouteTable.of(tuple(settings.routes[i] for i in indexes))
    for index in indexes:
        route = settings.routes[index]
        above = [_above(table, route, method) for method in route.methods if method != "HEAD"]
        if not above or None in above:
            continue
        first = next(i for i in indexes if settings.routes[i] is above[0])
        earlier = settings.routes[first].match
        found.blame(f"routes[{index}].match", f"is never reached: routes[{first}] ({earlier}) takes it all")


def _is_readable(index: int, found: Findings) -> bool:
    path = f"routes[{index}]"
    return found.is_sound(f"{path}.match") and found.is_whole(f"{path}.methods")


def _above(table: RouteTable, route: Route, method: str) -> Route | None:
    """The earlier route that takes every path of this one's, if there is one.

    A byte that no `match` can hold fills the params, so that only an earlier param or `**` can match it. For `**` it
    does so at three depths, the last of which is deeper than any list of params.
    """
    path = re.sub(r"\{[^{}]*\}", "\0", route.match)
    rests = ("", "\0", "/".join(["\0"] * 200)) if path.endswith("/**") else ("",)
    probes = [path.removesuffix("**") + rest for rest in rests] if len(rests) > 1 else [path]
    winner = table.find(method, probes[-1])
    if winner is None or winner.route.settings is route:
        return None
    alone = RouteTable.of((winner.route.settings,))
    return winner.route.settings if all(alone.find(method, probe) for probe in probes) else None


def _check_warm(settings: Settings, found: Findings) -> None:
    indexes = range(len(settings.routes))
    readable = found.is_sound("routes") and all(_is_readable(index, found) for index in indexes)
    table = RouteTable.of(settings.routes if readable else ())
    for index, warm in enumerate(settings.warm):
        path = f"warm[{index}]"
        if readable:
            found_route = table.find("GET", warm.path.partition("?")[0])
            _check_stored(f"{path}.path", found_route, settings, found)
        seen: set[str] = set()
        for name in warm.headers:
            place = f"{path}.headers.{name}"
            if name.lower() in _OWN_HEADERS:
                found.blame(
                    place, f"{name} cannot be set here" + ("; see host" if name.lower() == "host" else "")
                )
            if name.lower() in seen:
                found.blame(place, "is given twice: headers have no case")
            seen.add(name.lower())


def _check_stored(path: str, match: Match | None, settings: Settings, found: Findings) -> None:
    if match is None:
        found.blame(path, "no route matches it with GET, so it would never be served")
        return
    route = match.route.settings
    if not route.memory and not (route.redis and settings.redis):
        found.blame(path, f"its route ({route.match}) uses no tier, so it would never be served", "redis")


def _address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _origin(url: str) -> tuple[str, int]:
    """Host and port of an address of the API; port 0 where it cannot be read."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "", 0
    return f"[{host}]" if ":" in host else host, 80 if port is None else port
