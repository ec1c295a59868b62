import pytest

from proxy.policy.asked import asked, bypass_reason, request_directives, wishes
from proxy.policy.freshness import ANYTHING, Wanted
from proxy.policy.storable import Asked
from proxy.settings import Route, StorePolicy
from proxy.wire.fields import Fields

PLAIN = Route(match="/**")


@pytest.mark.parametrize(
    ("fields", "has_body", "reason"),
    [
        pytest.param((), False, "", id="nothing special"),
        pytest.param(((b"Accept", b"*/*"), (b"If-None-Match", b'"a"')), False, "", id="a validator is ours"),
        pytest.param((), True, "body", id="RFC 9110 9.3.1 a GET with content"),
        pytest.param(((b"Range", b"bytes=0-1"),), False, "range", id="RFC 9110 14.2 Range"),
        pytest.param(((b"IF-MATCH", b"*"),), False, "if-match", id="RFC 9110 13.1.1 If-Match"),
        pytest.param(((b"If-Unmodified-Since", b"x"),), False, "if-unmodified-since", id="RFC 9110 13.1.4"),
        pytest.param(((b"If-Range", b"x"), (b"Range", b"y")), False, "if-range", id="RFC 9110 13.1.5"),
        pytest.param(
            ((b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"h2c")), False, "upgrade", id="Upgrade"
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
    assert reason == bypass_reason(fields, has_body=has_body)


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
    assert expected == wishes(fields, request_directives(fields))


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
    expected = Asked(authorization=authorization, cookie=cookie, no_store=False, requested_at=7)

    assert expected == asked(fields, {}, route, now=7)


def test_a_request_may_forbid_that_its_answer_is_stored() -> None:
    fields = ((b"Cache-Control", b"No-Store"),)

    assert asked(fields, request_directives(fields), PLAIN, now=7).no_store
