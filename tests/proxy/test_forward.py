"""A request that is only passed on; what it purges is tested through the handler as well."""

from typing import Any, cast

import pytest

from proxy import settings
from proxy.config import Config
from proxy.forward import Forwarder, _outgoing
from proxy.messages import Incoming
from proxy.policy.purges import Kind
from proxy.policy.routes import RouteTable
from proxy.purge_log import PurgeLog
from proxy.tasks import Tasks
from proxy.upstream import ClientBodyError, Exchange
from proxy.upstream_connection import UpstreamError
from proxy.wire.response import parse_head

ROUTES = RouteTable.of((settings.Route(match="/events/{id}"),))


class Api:
    """Ends each request as the test says."""

    authority = b"api:80"

    def __init__(self, end: Any) -> None:
        self.end = end

    async def ask(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.end, Exception):
            raise self.end
        return self.end


class Log:
    """Notes what is purged."""

    def __init__(self) -> None:
        self.purged: list[tuple[Kind, str]] = []

    async def purge(self, names: list[tuple[Kind, str]]) -> None:
        self.purged += names


class Answered(Exchange):
    """An answer without a connection."""

    def __init__(self, head: bytes) -> None:
        self.head = parse_head(head, method="POST")


def config(end: Any, *, transparent: bool = False) -> Config:
    class Made:
        upstream = Api(end)
        routes = ROUTES
        settings = settings_with(transparent=transparent)

    return cast("Config", Made())


def settings_with(*, transparent: bool) -> settings.Settings:
    return settings.Settings(
        upstream=settings.Upstream(url="http://api", timeout=0.01), transparent=transparent
    )


def incoming(method: str = "POST", target: bytes = b"/events/7", *fields: tuple[bytes, bytes]) -> Incoming:
    return Incoming(method=method, target=target, fields=((b"Host", b"a"), *fields))


OWN = (Kind.URL, "/events/7")


@pytest.mark.parametrize(
    ("method", "head", "expected"),
    [
        pytest.param("POST", b"HTTP/1.1 204 Fine", [OWN], id="its own URL"),
        pytest.param("FROBNICATE", b"HTTP/1.1 200 Fine", [OWN], id="a method that nobody knows"),
        pytest.param(
            "POST",
            b"HTTP/1.1 201 Made\r\nLocation: /events/8",
            [OWN, (Kind.URL, "/events/8")],
            id="what it made",
        ),
        pytest.param(
            "POST",
            b'HTTP/1.1 200 Fine\r\nCache-Group-Invalidation: "g"',
            [OWN, (Kind.TAG, "g@a"), (Kind.TAG, "g@*")],
            id="its groups",
        ),
        pytest.param("POST", b"HTTP/1.1 409 No\r\nLocation: /events/8", [], id="a failure"),
        pytest.param("GET", b"HTTP/1.1 200 Fine\r\nLocation: /events/8", [], id="a safe method"),
    ],
)
async def test_what_a_request_changed_is_purged(
    method: str, head: bytes, expected: list[tuple[Kind, str]]
) -> None:
    log, tasks = Log(), Tasks()
    forwarder = Forwarder(cast("PurgeLog", log), tasks)
    exchange = await forwarder.forward(config(Answered(head)), incoming(method), None, "none")
    await tasks.close(1)

    assert (exchange.head.status, log.purged) == (int(head[9:12]), expected)


@pytest.mark.parametrize(
    ("error", "purged"),
    [
        pytest.param(
            UpstreamError("timeout", 504, "slow"), [OWN, OWN], id="silence: now and when it is over"
        ),
        pytest.param(UpstreamError("connect", 502, "down"), [], id="never sent"),
        pytest.param(ClientBodyError("broke off"), [], id="never whole"),
    ],
)
async def test_a_request_that_failed_purges_what_it_may_have_changed(
    error: Exception, purged: list[tuple[Kind, str]]
) -> None:
    log, tasks = Log(), Tasks()
    forwarder = Forwarder(cast("PurgeLog", log), tasks)
    with pytest.raises(type(error)):
        await forwarder.forward(config(error), incoming(), None, "none")
    await tasks.close(1)

    assert purged[: len(log.purged)] == log.purged
    assert bool(purged) == bool(log.purged)


@pytest.mark.parametrize(("transparent", "via"), [(False, ((b"Via", b"1.1 crowdgate"),)), (True, ())])
def test_a_request_says_that_it_came_through_here_unless_nobody_is_to_know(
    *, transparent: bool, via: tuple[tuple[bytes, bytes], ...]
) -> None:
    request = _outgoing(config(None, transparent=transparent), incoming("GET"))

    assert request.fields == ((b"Host", b"a"), *via)


def test_trace_has_one_hop_less() -> None:
    asked = incoming("TRACE", b"/", (b"Max-Forwards", b"3"))

    assert (b"Max-Forwards", b"2") in _outgoing(config(None), asked).fields
