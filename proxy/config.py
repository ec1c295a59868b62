"""What a config file amounts to at run time: one value, replaced whole by a reload."""

from dataclasses import dataclass

from proxy import settings
from proxy.policy.routes import RouteTable, url_of
from proxy.upstream import Upstream
from proxy.wire.fields import Fields
from proxy.wire.request import with_host
from proxy.wire.via import with_via


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings with the things made from them."""

    settings: settings.Settings
    routes: RouteTable
    upstream: Upstream
    hostless: frozenset[bytes]
    """URLs that are warmed for any Host, so Host is not in their key and the API is always asked under its own name."""


def sent_on(config: Config, fields: Fields, *, http_1_0: bool) -> Fields:
    """A request's fields with what this hop adds to them on the way to the API. `http_1_0` is the client's version."""
    fields = with_host(fields, config.upstream.authority)
    return fields if config.settings.transparent else with_via(fields, http_1_0=http_1_0)


def hostless_urls(warm: tuple[settings.Warm, ...], routes: RouteTable) -> frozenset[bytes]:
    """The URLs of warm resources that name no host."""
    urls = set()
    for resource in warm:
        target = resource.path.encode("utf-8", "surrogateescape")
        match = routes.find("GET", resource.path.partition("?")[0])
        if match is not None and resource.host is None:
            urls.add(url_of(match.route, target))
    return frozenset(urls)
