import pytest

from proxy.policy.asked import (
    asked,
    bypass_reason,
    conditions,
    ordinary,
    provoking,
    request_directives,
    wishes,
)
from proxy.policy.freshness import ANYTHING, Wanted
from proxy.settings import Route, StorePolicy
from proxy.wire.fields import Fields

PLAIN = Route(match="/**")


@pytest.mark.parametrize(
    ("fields", "has_body", "reason"),
    [
        pytest.param((), False, "", id="nothing special"),
        pytest.param(((b"Accept", b"*/*"), (b"If-None-Match", b'"a"')), False, "", id="a validator is ours"),
        pytest.param((), True, "body", id="RFC 9110 9.3.1 a GET with content"),
        pytest.param(((b"Range", b"bytes=0-1"),), False, "", id="RFC 9110 14.2 Range: a part of ours"),
        pytest.param(
            ((b"X-Original-URL", b"/b"),), False, "x-original-url", id="a URL that may be meant instead"
        ),
        pytest.param(
            ((b"X_HTTP_Method-Override", b"PUT"),),
            False,
            "x-http-method-override",
            id="a method that may be meant instead, as CGI spells it",
        ),
        pytest.param(
            ((b"Cache-Control", b"a" * 1024), (b"Pragma", b"a")),
            False,
            "directives",
            id="too many directives",
        ),
        pytest.param(((b"Cache-Control", b"a" * 1024),), False, "", id="as many directives as may be"),
        pytest.param(((b"Forwarded", b"a" * 4096),), False, "", id="as many hops as may be"),
        pytest.param(
            ((b"Forwarded", b"a" * 4096), (b"forwarded", b"a")), False, "forwarded", id="too many hops"
        ),
        pytest.param(((b"IF-MATCH", b"*"),), False, "if-match", id="RFC 9110 13.1.1 If-Match"),
        pytest.param(((b"If-Unmodified-Since", b"x"),), False, "if-unmodified-since", id="RFC 9110 13.1.4"),
        pytest.param(
            ((b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"WebSocket")),
            False,
            "upgrade",
            id="WebSocket",
        ),
        pytest.param(
            ((b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"x")),
            False,
            "",
            id="an offer that nobody takes up",
        ),
        pytest.param(((b"Upgrade", b"h2c"),), False, "", id="RFC 9110 7.8 Upgrade without Connection"),
        pytest.param(((b"Connection", b"upgrade"),), False, "", id="Connection without Upgrade"),
        pytest.param(
            ((b"Connection", b"keep-alive, te"), (b"Keep-Alive", b"1"), (b"TE", b"trailers")),
            False,
            "",
            id="RFC 9110 7.6.1 what ends here anyway",
        ),
        pytest.param(
            ((b"Connection", b"close, X-User"), (b"x-user", b"1")),
            False,
            "connection",
            id="a field taken away",
        ),
        pytest.param(((b"Connection", b"close, X-User"),), False, "", id="a field that is not there"),
    ],
)
def test_a_request_bypasses_the_store_for_a_reason(fields: Fields, *, has_body: bool, reason: str) -> None:
    assert reason == bypass_reason(b"/a", fields, has_body=has_body)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param((), ANYTHING, id="nothing"),
        pytest.param(((b"Pragma", b"no-cache"),), Wanted(no_cache=True), id="5.4 Pragma"),
        pytest.param(((b"Pragma", b"x, No-Cache"),), Wanted(no_cache=True), id="5.4 Pragma in a list"),
        pytest.param(
            ((b"Pragma", b"no-cache"), (b"Cache-Control", b"max-age=3")),
            Wanted(max_age=3),
            id="5.4 Cache-Control goes first",
        ),
    ],
)
def test_a_requests_wishes_come_from_cache_control_or_pragma(fields: Fields, expected: Wanted) -> None:
    assert expected == wishes(fields, request_directives(fields, PLAIN), PLAIN)


@pytest.mark.parametrize("line", [b"no-cache", b"max-age=0", b"no-store", b"only-if-cached", b"max-stale"])
def test_a_route_may_ignore_what_requests_ask_for(line: bytes) -> None:
    route = Route(match="/**", request_directives="ignore")
    fields = ((b"Cache-Control", line), (b"Pragma", b"no-cache"))
    said = request_directives(fields, route)

    assert wishes(fields, said, route) == ANYTHING
    assert not asked(fields, said, route, now=7).no_store


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(((b"Accept", b"*/*"), (b"X-Trace", b"7")), True, id="what clients send"),
        pytest.param(((b"X", b"x" * 4091),), True, id="4 KiB"),
        pytest.param(
            ((b"X", b"x" * 4092),), False, id="more than 4 KiB: an API's limit may be lower than ours"
        ),
        pytest.param(((b"X", b"\xff"),), False, id="bytes that an API may choke on"),
        pytest.param(((b"Content-Type", b"x"),), False, id="a type of nothing"),
        pytest.param(((b"ORIGIN", b"evil"),), False, id="CORS"),
    ],
)
def test_an_error_is_only_shared_where_the_request_was_ordinary(fields: Fields, *, expected: bool) -> None:
    assert expected == ordinary(fields)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param((), ((b"Accept", b"a"),), True, id="none"),
        pytest.param(((b"If-None-Match", b"a"),), ((b"if-none-match", b"a"),), True, id="the same"),
        pytest.param(((b"If-None-Match", b"a"),), ((b"If-None-Match", b"b"),), False, id="another"),
        pytest.param(((b"If-None-Match", b"a"),), ((b"If-Modified-Since", b"a"),), False, id="another kind"),
        pytest.param(((b"If-None-Match", b"a"),), (), False, id="one and none"),
    ],
)
def test_only_requests_under_the_same_conditions_share_a_304(
    one: Fields, other: Fields, *, same: bool
) -> None:
    assert same == (conditions(one) == conditions(other))


@pytest.mark.parametrize(
    ("fields", "route", "authorization", "cookie"),
    [
        pytest.param((), PLAIN, False, False, id="neither"),
        pytest.param(((b"AUTHORIZATION", b"x"),), PLAIN, True, False, id="3.5 Authorization"),
        pytest.param(((b"Cookie", b"x"),), PLAIN, False, True, id="Cookie"),
        pytest.param(
            ((b"Authorization", b"x"), (b"Cookie", b"x")),
            Route(match="/**", per="Authorization"),
            False,
            True,
            id="per accounts for its own header alone",
        ),
        pytest.param(
            ((b"Authorization", b"x"), (b"Cookie", b"x")),
            Route(match="/**", per="COOKIE"),
            True,
            False,
            id="per is any header, in any case",
        ),
        pytest.param(
            ((b"Authorization", b"x"), (b"Cookie", b"x")),
            Route(match="/**", store=StorePolicy(authorization=True)),
            False,
            True,
            id="Authorization, promised",
        ),
        pytest.param(
            ((b"Authorization", b"x"), (b"Cookie", b"x")),
            Route(match="/**", store=StorePolicy(cookie=True)),
            True,
            False,
            id="Cookie, promised",
        ),
    ],
)
def test_credentials_make_a_request_personal_unless_the_route_accounts_for_them(
    fields: Fields, route: Route, *, authorization: bool, cookie: bool
) -> None:
    found = asked(fields, {}, route, now=7)

    assert (authorization, cookie, bool(route.per)) == (found.authorization, found.cookie, found.principal)


def test_without_its_header_there_is_no_principal() -> None:
    assert not asked((), {}, Route(match="/**", per="x-user"), now=7).principal


@pytest.mark.parametrize(
    ("fields", "status", "expected"),
    [
        pytest.param(((b"X-Any", b"../x"), (b"Accept", b"a")), 400, {b"x-any", b"accept"}, id="any field"),
        pytest.param(((b"Host", b"a"), (b"Via", b"b"), (b"TE", b"c")), 400, set(), id="what it can't be"),
        pytest.param(((b"X-Id", b"7"), (b"X-Trace", b"0af7651916cd43dd")), 400, set(), id="ids"),
        pytest.param(((b"If-None-Match", b"7"),), 400, {b"if-none-match"}, id="a number that is read"),
        pytest.param(((b"X-Forwarded-For", b"::1, a"),), 403, {b"x-forwarded-for"}, id="who asks: refused"),
        pytest.param(((b"X-Forwarded-For", b"::1, a"),), 500, set(), id="who asks makes nothing crash"),
        pytest.param(((b"X-Any", b"../x"),), 503, set(), id="too much to do is nobody's own fault"),
    ],
)
def test_what_may_have_provoked_an_error_is_named(fields: Fields, status: int, expected: set[bytes]) -> None:
    assert expected == provoking(fields, status)


def test_a_request_may_forbid_that_its_answer_is_stored() -> None:
    fields = ((b"Cache-Control", b"No-Store"),)

    assert asked(fields, request_directives(fields, PLAIN), PLAIN, now=7).no_store


@pytest.mark.parametrize(
    ("separator", "count", "reason"), [(b"&", 255, ""), (b"&", 256, "query"), (b";", 256, "query")]
)
def test_a_query_of_too_many_parameters_is_in_no_key(separator: bytes, count: int, reason: str) -> None:
    assert reason == bypass_reason(b"/a?" + b"b" + separator * count, (), has_body=False)
