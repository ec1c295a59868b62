"""What is stored of an answer; how it is fetched is tested through the handler and in tests/flow/."""

import asyncio
from typing import Any, cast

import pytest
from msgspec.structs import replace

from proxy import settings
from proxy.config import Config
from proxy.fill import TOO_LARGE, TOO_SLOW, Failed, Fill, _outgoing, make_entry, read_whole
from proxy.policy.freshness import ANYTHING
from proxy.policy.key import key_of
from proxy.policy.routes import prepare
from proxy.policy.storable import Asked, Lifetime
from proxy.store.entry import Got
from proxy.store.tiers import Found
from proxy.upstream import Exchange
from proxy.wire.fields import Fields
from proxy.wire.response import parse_head

NOW = 1_800_000_000.0
LIFETIME = Lifetime(
    generated=NOW - 5,
    fresh_until=NOW + 60,
    revalidate_s=1.0,
    error_s=2.0,
    keep_until=NOW + 62,
    explicit=True,
)
GOT = Got(born=7, asked=int(NOW * 1e6), took_s=0.25)
FIELDS: Fields = ((b"Host", b"a"), (b"Accept-Language", b"de"))
VIA = (b"Via", b"1.1 crowdgate")
HEAD = b'HTTP/1.1 200 Fine\r\nx-Odd: 1\r\nAge: 5\r\nETag: "a"\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Hop: 2'


def fill(*, hostless: bool = False, fields: Fields = FIELDS) -> Fill:
    route = prepare(settings.Route(match="/events", ttl=60.0))
    key = key_of(
        route, b"/events?b=1&a=2", fields, hostless=frozenset({b"/events?b=1&a=2"} if hostless else ())
    )

    class Upstream:
        authority = b"api:80"

    class Made:
        upstream = Upstream()
        settings = settings.Settings(upstream=settings.Upstream(url="http://api"))

    return Fill(
        config=cast("Config", Made()),
        key=key,
        text=key.text,
        tags=("own",),
        asked=Asked(authorization=False, cookie=False, no_store=False, requested_at=NOW),
        wanted=ANYTHING,
        fields=fields,
        target=b"/events?b=1&a=2",
    )


def entry_of(head: bytes, body: bytes = b"body", **more: Any) -> Any:
    parsed = parse_head(head, method="GET")
    return make_entry(fill(**more), parsed, body, LIFETIME, got=GOT, now=NOW)


def test_an_entry_is_the_answer_less_this_hop_dated_and_measured() -> None:
    entry = entry_of(HEAD)

    assert entry.head == (
        b'x-Odd: 1\r\nETag: "a"\r\nDate: Fri, 15 Jan 2027 08:00:00 GMT\r\nContent-Length: 4\r\n'
    )
    assert (entry.status, entry.reason, entry.etag, entry.body) == (200, b"Fine", b'"a"', b"body")
    assert (entry.key, entry.route, entry.url) == (fill().text, "events", "/events?b=1&a=2")
    assert (entry.tags, entry.generated, entry.vary) == (("own",), NOW - 5, ())
    assert (entry.born, entry.asked, entry.took_s) == (GOT.born, GOT.asked, GOT.took_s)


def test_what_the_api_dated_and_measured_is_left_alone() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nDate: Tue, 01 Sep 2026 10:00:00 GMT"

    assert entry_of(head).head == head.partition(b"\r\n")[2] + b"\r\n"


def test_a_204_has_no_length() -> None:
    assert b"Content-Length" not in entry_of(b"HTTP/1.1 204 No Content", b"").head


def test_an_entry_that_varies_stands_under_its_variant() -> None:
    german = entry_of(HEAD + b"\r\nVary: accept-language, X-b")
    same = entry_of(HEAD + b"\r\nVary: X-B\r\nVary: Accept-Language")
    english = entry_of(
        HEAD + b"\r\nVary: accept-language, X-b", fields=((b"Host", b"a"), (b"Accept-Language", b"en"))
    )

    assert (german.vary, german.key == same.key, german.key == english.key) == (
        ("accept-language", "x-b"),
        True,
        False,
    )


def test_the_client_s_conditions_are_not_the_cache_s() -> None:
    fields = (*FIELDS, (b"If-None-Match", b'"z"'), (b"Range", b"bytes=0-1"), (b"Connection", b"close"))
    found = Found(entry=entry_of(HEAD + b"\r\nLast-Modified: Tue, 01 Sep 2026 10:00:00 GMT"))
    request = _outgoing(fill(fields=fields), found)

    assert (request.method, request.target) == ("GET", b"/events?b=1&a=2")
    assert request.fields == (
        *FIELDS,
        (b"If-None-Match", b'"a"'),
        (b"If-Modified-Since", b"Tue, 01 Sep 2026 10:00:00 GMT"),
        VIA,
    )


def test_what_is_for_any_host_is_asked_under_the_api_s_own() -> None:
    planted = ((b"X-Forwarded-Host", b"evil"), (b"X-Forwarded-For", b"::1"), (b"Accept-Language", b"de"))
    request = _outgoing(fill(hostless=True, fields=((b"Host", b"a"), *planted)), None)

    assert request.fields == ((b"Host", b"api:80"), *planted[1:], VIA)


@pytest.mark.parametrize(
    ("conditional", "stored", "sent"),
    [
        pytest.param(True, False, b'"z"', id="nothing is stored: the client's"),
        pytest.param(False, False, None, id="the whole is wanted: none"),
        pytest.param(True, True, b'"a"', id="something is stored: its own"),
    ],
)
def test_the_api_is_asked_under_the_conditions_of_whoever_has_a_copy(
    *, conditional: bool, stored: bool, sent: bytes | None
) -> None:
    wanted = replace(fill(fields=(*FIELDS, (b"If-None-Match", b'"z"'))), conditional=conditional)
    request = _outgoing(wanted, Found(entry=entry_of(HEAD)) if stored else None)

    assert dict(request.fields).get(b"If-None-Match") == sent


class Body:
    """An exchange that has only a body."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def unread(self, data: bytes) -> None:
        self.pieces.insert(0, data)


@pytest.mark.parametrize("limit", [0, 3, 5, 6, 100])
async def test_a_body_is_read_whole_or_left_whole(limit: int) -> None:
    body = Body(b"abc", b"de", b"f")
    whole = await read_whole(cast("Exchange", body), limit, 60)

    assert whole == (b"abcdef" if limit >= 6 else TOO_LARGE)
    assert whole == b"abcdef" or b"".join(body.pieces) == b"abcdef"


async def test_a_body_that_takes_too_long_is_left_whole() -> None:
    body = Body(b"abc", b"def")

    assert await read_whole(cast("Exchange", body), 100, -1) == TOO_SLOW
    assert b"".join(body.pieces) == b"abcdef"


def test_a_defect_is_an_error_without_its_words() -> None:
    error = Failed.by_defect(asyncio.CancelledError("secret")).error

    assert (error.kind, error.status, str(error)) == ("defect", 502, "the fetch ended early (CancelledError)")
