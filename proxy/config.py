"""What a config file amounts to at run time: one value, replaced whole by a reload."""

from dataclasses import dataclass

from proxy import settings
from proxy.policy.routes import RouteTable, url_of
from proxy.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings with the things made from them."""

    settings: settings.Settings
    routes: RouteTable
    upstream: Upstream
    hostless: frozenset[bytes]
    """URLs that are warmed for any Host, so Host is not in their key and the API is always asked under its own name."""


def hostless_urls(warm: tuple[settings.Warm, ...], routes: RouteTable) -> frozenset[bytes]:
    """The URLs of warm resources that name no host."""
    urls = set()
    for resource in warm:
        target = resource.path.encode("utf-8", "surrogateescape")
        match = routes.find("GET", resource.path.partition("?")[0])
        if match is not None and resource.host is None:
            urls.add(url_of(match.route, target))
    return frozenset(urls)
