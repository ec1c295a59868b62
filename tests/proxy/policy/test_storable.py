import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.policy.cache_control import MAX_DELTA_S, directives, format_http_date
from proxy.policy.storable import (
    KEEP_FOR_MAX_STALE_S,
    KEEP_FOR_VALIDATION_S,
    MAX_KEEP_S,
    Asked,
    Lifetime,
    Refused,
    explicit_lifetime,
    judge,
)
from proxy.settings import Route, StorePolicy
from proxy.wire.fields import Fields

NOW = 1_800_000_000.0
ANYBODY = Asked(authorization=False, cookie=False, no_store=False, requested_at=NOW)
AUTHORIZED = replace(ANYBODY, authorization=True)
SOMEBODY = replace(ANYBODY, principal=True)
COOKIED = replace(ANYBODY, cookie=True)

PLAIN = Route(match="/**")
TTL = Route(match="/**", ttl=60)
FORCED = Route(match="/**", ttl=60, force_ttl=True)
WINDOWS = Route(match="/**", ttl=60, stale_while_revalidate=7, stale_if_error=9)
FORCED_WINDOWS = Route(match="/**", ttl=60, force_ttl=True, stale_while_revalidate=7, stale_if_error=9)
PRIVATE = Route(match="/**", ttl=60, per="x-user", store=StorePolicy(private=True))
UNNAMED = Route(match="/**", ttl=60, store=StorePolicy(private=True))
COOKIES = Route(match="/**", ttl=60, store=StorePolicy(set_cookie=True))
LONG_WINDOWS = Route(match="/**", ttl=60, stale_while_revalidate=70, stale_if_error=90)
GUESSING = Route(match="/**", heuristic=3600)
MANY_TAGS = ((b"Cache-Tag", b",".join(b"%d" % n for n in range(129))),)
STATUSES = Route(match="/**", ttl=60, status_ttl={404: 5, 302: 0, 200: 7})


def cc(*lines: str) -> Fields:
    return tuple((b"Cache-Control", line.encode()) for line in lines)


@pytest.mark.parametrize(
    ("asked", "status", "fields", "route", "reason"),
    [
        pytest.param(
            replace(ANYBODY, no_store=True), 200, cc("max-age=9"), TTL, "request no-store", id="5.2.1.5"
        ),
        pytest.param(ANYBODY, 101, cc("max-age=9"), TTL, "status 101", id="3 not final"),
        pytest.param(ANYBODY, 206, cc("max-age=9"), TTL, "status 206", id="3.3 a part"),
        pytest.param(ANYBODY, 304, cc("max-age=9"), TTL, "status 304", id="3 a 304 without what it is about"),
        pytest.param(ANYBODY, 600, cc("max-age=9"), TTL, "status 600", id="RFC 9110 15 no status at all"),
        pytest.param(ANYBODY, 200, cc("no-store, max-age=9"), TTL, "no-store", id="5.2.2.5"),
        pytest.param(ANYBODY, 200, cc("no-store"), FORCED, "no-store", id="5.2.2.5 although forced"),
        pytest.param(ANYBODY, 200, cc("private, max-age=9"), TTL, "private", id="5.2.2.7"),
        pytest.param(ANYBODY, 200, cc("private=x"), TTL, "private", id="5.2.2.7 a field without quotes"),
        pytest.param(ANYBODY, 200, cc('private="x y"'), TTL, "private", id="5.2.2.7 a list that is none"),
        pytest.param(
            ANYBODY,
            299,
            cc("must-understand, max-age=9"),
            TTL,
            "must-understand, status 299",
            id="5.2.2.3 a status nobody knows",
        ),
        pytest.param(
            ANYBODY, 200, (*cc("max-age=9"), *MANY_TAGS), TTL, "too many tags", id="tags that could not purge"
        ),
        pytest.param(
            replace(ANYBODY, ordinary=False),
            400,
            cc("max-age=9"),
            TTL,
            "error to an odd request",
            id="an error that the request may have provoked",
        ),
        pytest.param(
            ANYBODY,
            200,
            (*cc("max-age=9"), (b"CDN-Cache-Control", b"no-store")),
            TTL,
            "no-store",
            id="RFC 9213 2.2 the targeted field goes first",
        ),
        pytest.param(ANYBODY, 200, cc("private"), FORCED, "private", id="5.2.2.7 although forced"),
        pytest.param(
            ANYBODY, 200, cc("private"), PRIVATE, "private", id="private to nobody, where all have one"
        ),
        pytest.param(ANYBODY, 200, cc("private"), UNNAMED, "private", id="private to nobody in particular"),
        pytest.param(
            ANYBODY, 200, (*cc("max-age=9"), (b"Set-Cookie", b"a=b")), TTL, "set-cookie", id="Set-Cookie"
        ),
        pytest.param(ANYBODY, 200, ((b"set-cookie", b""),), FORCED, "set-cookie", id="Set-Cookie, forced"),
        pytest.param(ANYBODY, 200, (*cc("max-age=9"), (b"Vary", b"*")), TTL, "vary *", id="4.1 Vary: *"),
        pytest.param(ANYBODY, 200, ((b"Vary", b"a, *"),), TTL, "vary *", id="4.1 Vary: * in a list"),
        pytest.param(ANYBODY, 200, (), PLAIN, "no freshness", id="3 nothing says for how long"),
        pytest.param(ANYBODY, 404, (), TTL, "no freshness", id="ttl is not for errors"),
        pytest.param(ANYBODY, 302, (), TTL, "no freshness", id="ttl is not for redirects"),
        pytest.param(AUTHORIZED, 200, cc("max-age=9"), TTL, "authorization", id="3.5"),
        pytest.param(AUTHORIZED, 200, (), TTL, "authorization", id="3.5 by the route's ttl"),
        pytest.param(AUTHORIZED, 200, (), FORCED, "authorization", id="3.5 although forced"),
        pytest.param(COOKIED, 200, (), TTL, "cookie", id="Cookie, and the API does not say it may be shared"),
        pytest.param(
            COOKIED, 200, cc("max-age=9"), FORCED, "cookie", id="Cookie, and its word is overridden"
        ),
        pytest.param(
            ANYBODY, 200, cc("max-age=0"), TTL, "stale on arrival", id="4.2 never good for anything"
        ),
        pytest.param(
            ANYBODY, 200, cc("no-cache"), TTL, "stale on arrival", id="no-cache without a validator"
        ),
        pytest.param(
            ANYBODY, 200, (*cc("max-age=9"), (b"Age", b"9")), TTL, "stale on arrival", id="4.2.3 old already"
        ),
        pytest.param(ANYBODY, 302, (), STATUSES, "stale on arrival", id="a status ttl of nothing"),
        pytest.param(ANYBODY, 200, ((b"Expires", b"0"),), TTL, "stale on arrival", id="5.3 invalid Expires"),
    ],
)
def test_an_answer_is_not_stored_and_the_reason_is_told(
    asked: Asked, status: int, fields: Fields, route: Route, reason: str
) -> None:
    assert Refused(reason=reason) == judge(asked, status, fields, route, NOW)


def lifetime(verdict: Lifetime | Refused) -> Lifetime:
    assert isinstance(verdict, Lifetime)
    return verdict


@pytest.mark.parametrize(
    ("asked", "status", "fields", "route", "seconds", "explicit"),
    [
        pytest.param(ANYBODY, 200, cc("max-age=9"), PLAIN, 9, True, id="5.2.2.1 max-age"),
        pytest.param(ANYBODY, 200, cc("max-age=9"), TTL, 9, True, id="the API's word before the route's"),
        pytest.param(ANYBODY, 200, cc("max-age=9"), FORCED, 60, False, id="unless the route's is forced"),
        pytest.param(ANYBODY, 200, cc("no-cache"), FORCED, 60, False, id="forced over no-cache"),
        pytest.param(ANYBODY, 200, (), TTL, 60, False, id="200 by ttl"),
        pytest.param(ANYBODY, 203, (), TTL, 60, False, id="203 by ttl"),
        pytest.param(ANYBODY, 204, (), TTL, 60, False, id="204 by ttl"),
        pytest.param(ANYBODY, 404, (), STATUSES, 5, False, id="404 by its own"),
        pytest.param(ANYBODY, 200, (), STATUSES, 7, False, id="200 by its own before ttl"),
        pytest.param(ANYBODY, 404, cc("max-age=9"), STATUSES, 9, True, id="404 by the API's word"),
        pytest.param(ANYBODY, 404, cc("max-age=9"), PLAIN, 9, True, id="3 any status that says so"),
        pytest.param(ANYBODY, 302, cc("max-age=9"), PLAIN, 9, True, id="3 a redirect that says so"),
        pytest.param(ANYBODY, 500, cc("max-age=9"), PLAIN, 9, True, id="3 an error that says so"),
        pytest.param(AUTHORIZED, 200, cc("public, max-age=9"), PLAIN, 9, True, id="3.5 public"),
        pytest.param(AUTHORIZED, 200, cc("s-maxage=9"), PLAIN, 9, True, id="3.5 s-maxage"),
        pytest.param(AUTHORIZED, 200, cc("must-revalidate, max-age=9"), PLAIN, 9, True, id="3.5 must-reval."),
        pytest.param(AUTHORIZED, 200, cc("public"), TTL, 60, False, id="3.5 public, by ttl"),
        pytest.param(COOKIED, 200, cc("max-age=9"), PLAIN, 9, True, id="a cookie, and the API's word"),
        pytest.param(SOMEBODY, 200, cc("private"), PRIVATE, 60, False, id="private, kept for one principal"),
        pytest.param(ANYBODY, 200, ((b"Set-Cookie", b"a=b"),), COOKIES, 60, False, id="Set-Cookie, promised"),
        pytest.param(ANYBODY, 200, ((b"Vary", b"Accept"),), TTL, 60, False, id="4.1 Vary that names"),
        pytest.param(ANYBODY, 200, ((b"Age", b"50"),), TTL, 60, False, id="ttl counts from now on"),
        pytest.param(
            ANYBODY, 200, (*cc("max-age=60"), (b"Age", b"50")), PLAIN, 10, True, id="max-age counts its age"
        ),
    ],
)
def test_an_answer_is_fresh_for_as_long_as_the_api_or_else_the_route_says(
    asked: Asked, status: int, fields: Fields, route: Route, seconds: float, *, explicit: bool
) -> None:
    verdict = lifetime(judge(asked, status, fields, route, NOW))

    assert (NOW + seconds, explicit) == (verdict.fresh_until, verdict.explicit)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param((), None, id="nothing"),
        pytest.param(cc("public"), None, id="public says nothing of time"),
        pytest.param(cc("max-age=1, s-maxage=2"), 2.0, id="4.2.1 s-maxage before max-age"),
        pytest.param(
            (*cc("max-age=1"), (b"Expires", format_http_date(NOW + 9))), 1.0, id="5.3 max-age before Expires"
        ),
        pytest.param(cc("s-maxage=x, max-age=9"), 0.0, id="4.2.1 an invalid s-maxage is stale"),
        pytest.param(cc("max-age=9.5"), 0.0, id="4.2.1 an invalid max-age is stale"),
        pytest.param(cc("max-age"), 0.0, id="max-age without its argument"),
        pytest.param(cc("max-age=99999999999"), float(MAX_DELTA_S), id="1.2.2 overflow"),
        pytest.param(cc("no-cache, max-age=9"), 0.0, id="4.2.1 the most restrictive: no-cache"),
        pytest.param(cc('no-cache="x", max-age=9'), 9.0, id="5.2.2.4 only some fields"),
        pytest.param(cc("no-cache=x, max-age=9"), 0.0, id="5.2.2.4 a field without quotes: the whole"),
        pytest.param(cc("max-age=9, max-age=10"), 0.0, id="4.2.1 two that differ: stale"),
        pytest.param(((b"Expires", format_http_date(NOW + 9)),), 9.0, id="4.2.1 Expires without Date"),
        pytest.param(
            ((b"Expires", format_http_date(NOW + 9)), (b"Date", format_http_date(NOW - 3))),
            12.0,
            id="4.2.1 Expires less Date",
        ),
        pytest.param(
            (
                (b"Expires", format_http_date(NOW + 9)),
                (b"Date", format_http_date(NOW - 3)),
                (b"Date", format_http_date(NOW)),
            ),
            12.0,
            id="the first of two Dates, as for the age",
        ),
        pytest.param(
            ((b"Expires", format_http_date(NOW + 9)), (b"Date", b"x")), 9.0, id="an invalid Date is none"
        ),
        pytest.param(((b"Expires", format_http_date(NOW - 9)),), 0.0, id="Expires in the past"),
        pytest.param(((b"Expires", b"-1"),), 0.0, id="5.3 an invalid Expires is past"),
        pytest.param(((b"Expires", b""),), 0.0, id="5.3 an empty Expires is invalid"),
        pytest.param(
            ((b"Expires", format_http_date(NOW + 9)), (b"Expires", b"0")),
            0.0,
            id="4.2.1 two that differ: stale",
        ),
    ],
)
def test_explicit_freshness_has_the_order_of_rfc_9111_section_4_2_1(
    fields: Fields, expected: float | None
) -> None:
    assert expected == explicit_lifetime(fields, directives(fields), now=NOW)


@pytest.mark.parametrize(
    ("said", "route", "expected"),
    [
        pytest.param("max-age=9", TTL, (0, 0), id="4.2.4 nobody allows anything"),
        pytest.param("max-age=9", WINDOWS, (7, 9), id="the route's"),
        pytest.param("public", WINDOWS, (7, 9), id="the route's, with its ttl"),
        pytest.param(
            "max-age=9, stale-while-revalidate=3, stale-if-error=4", WINDOWS, (3, 4), id="RFC 5861 the API's"
        ),
        pytest.param("max-age=9, stale-while-revalidate=0", WINDOWS, (0, 9), id="the API's nothing"),
        pytest.param("max-age=9, stale-while-revalidate=x", WINDOWS, (0, 9), id="unreadable is nothing"),
        pytest.param("max-age=9, must-revalidate", WINDOWS, (0, 0), id="5.2.2.2 must-revalidate"),
        pytest.param("max-age=9, proxy-revalidate", WINDOWS, (0, 0), id="5.2.2.8 proxy-revalidate"),
        pytest.param(
            "max-age=9, must-revalidate, stale-if-error=4",
            WINDOWS,
            (0, 0),
            id="5.2.2.2 whatever else it says",
        ),
        pytest.param("s-maxage=9", WINDOWS, (0, 0), id="5.2.2.10 s-maxage is proxy-revalidate"),
        pytest.param(
            "s-maxage=9, stale-while-revalidate=3", WINDOWS, (3, 0), id="s-maxage with the API's own window"
        ),
        pytest.param("must-revalidate", FORCED_WINDOWS, (7, 9), id="force_ttl over must-revalidate"),
        pytest.param("no-cache", FORCED_WINDOWS, (7, 9), id="force_ttl over no-cache"),
        pytest.param("s-maxage=9", FORCED_WINDOWS, (7, 9), id="force_ttl over s-maxage"),
    ],
)
def test_stale_windows_are_the_apis_or_the_routes_unless_forbidden(
    said: str, route: Route, expected: tuple[float, float]
) -> None:
    verdict = lifetime(judge(ANYBODY, 200, cc(said), route, NOW))

    assert expected == (verdict.revalidate_s, verdict.error_s)


ETAG = ((b"ETag", b'"a"'),)


@pytest.mark.parametrize(
    ("fields", "route", "kept_s"),
    [
        pytest.param(cc("s-maxage=9"), PLAIN, 9, id="as long as it is fresh"),
        pytest.param(cc("max-age=9"), PLAIN, 9 + KEEP_FOR_MAX_STALE_S, id="and for whoever takes it stale"),
        pytest.param(cc("max-age=9"), LONG_WINDOWS, 9 + 90, id="and through the longer window"),
        pytest.param(
            (*cc("max-age=9"), *ETAG), WINDOWS, 9 + KEEP_FOR_VALIDATION_S, id="4.3 and for validation: ETag"
        ),
        pytest.param(
            (*cc("no-cache"), (b"Last-Modified", b"x")),
            PLAIN,
            KEEP_FOR_VALIDATION_S,
            id="5.2.2.4 no-cache may be kept: Last-Modified",
        ),
        pytest.param(cc("max-age=99999999"), PLAIN, MAX_KEEP_S, id="a day at the most"),
        pytest.param(
            (*cc("max-age=60"), (b"Age", b"90"), *ETAG),
            PLAIN,
            KEEP_FOR_VALIDATION_S,
            id="stale on arrival, kept for validation from now on",
        ),
    ],
)
def test_an_answer_is_kept_for_as_long_as_it_may_be_of_use(
    fields: Fields, route: Route, kept_s: float
) -> None:
    assert NOW + kept_s == lifetime(judge(ANYBODY, 200, fields, route, NOW)).keep_until


def modified(seconds_ago: float, *more: tuple[bytes, bytes]) -> Fields:
    return ((b"Last-Modified", format_http_date(NOW - seconds_ago)), *more)


@pytest.mark.parametrize(
    ("status", "fields", "route", "fresh_s"),
    [
        pytest.param(200, modified(1000), GUESSING, 100, id="a tenth of its age"),
        pytest.param(200, modified(10**6), GUESSING, 3600, id="bounded"),
        pytest.param(404, modified(1000), GUESSING, 100, id="RFC 9110 15.1 heuristically cacheable"),
        pytest.param(201, modified(1000), GUESSING, None, id="RFC 9110 15.1 not heuristically cacheable"),
        pytest.param(201, modified(1000, *cc("public")), GUESSING, 100, id="5.2.2.9 public"),
        pytest.param(200, (), GUESSING, None, id="4.2.2 nothing to guess from"),
        pytest.param(200, modified(-5), GUESSING, 0, id="changed in the future"),
        pytest.param(200, modified(1000), PLAIN, None, id="off by default"),
        pytest.param(200, modified(1000, *cc("max-age=5")), GUESSING, 5, id="4.2.2 explicit goes first"),
        pytest.param(
            200,
            modified(1000, (b"Date", format_http_date(NOW - 100))),
            GUESSING,
            90 - 100,
            id="4.2.3 its age counts",
        ),
    ],
)
def test_freshness_is_guessed_where_it_is_allowed(
    status: int, fields: Fields, route: Route, fresh_s: float | None
) -> None:
    verdict = judge(ANYBODY, status, fields, route, NOW)

    assert fresh_s == (None if isinstance(verdict, Refused) else verdict.fresh_until - NOW)


def test_only_some_fields_may_be_withheld_from_those_who_did_not_ask() -> None:
    verdict = lifetime(judge(ANYBODY, 200, cc('private="A", no-cache="b, Set-Cookie", max-age=9'), TTL, NOW))

    assert verdict.withheld >= {b"a", b"b", b"set-cookie", b"proxy-authenticate"}


def test_a_cookie_that_is_withheld_does_not_keep_the_rest_out_of_the_store() -> None:
    fields = (*cc('no-cache="Set-Cookie", max-age=9'), (b"Set-Cookie", b"a=b"))

    assert lifetime(judge(ANYBODY, 200, fields, TTL, NOW)).fresh_until == NOW + 9


def test_must_understand_stands_for_no_store_where_it_is_understood() -> None:
    assert lifetime(judge(ANYBODY, 200, cc("must-understand, no-store, max-age=9"), PLAIN, NOW))


@pytest.mark.parametrize(
    ("said", "never_stale", "immutable"),
    [
        ("max-age=9", False, False),
        ("max-age=9, must-revalidate", True, False),
        ("max-age=9, proxy-revalidate", True, False),
        ("s-maxage=9", True, False),
        ("max-age=9, immutable", False, True),
        ('max-age=9, no-cache="x"', False, False),
    ],
)
def test_what_a_client_may_have_stale_is_the_apis_to_say(
    said: str, *, never_stale: bool, immutable: bool
) -> None:
    verdict = lifetime(judge(ANYBODY, 200, cc(said), PLAIN, NOW))

    assert (never_stale, immutable) == (verdict.never_stale, verdict.immutable)


def test_age_counts_from_when_the_api_made_the_answer_even_by_the_routes_ttl() -> None:
    assert NOW - 50 == lifetime(judge(ANYBODY, 200, ((b"Age", b"50"),), TTL, NOW)).generated


def test_personal_is_what_carries_authorization_or_a_cookie() -> None:
    assert [False, True, True] == [asked.personal for asked in (ANYBODY, AUTHORIZED, COOKIED)]


MEMBERS = st.sampled_from(
    ["public", "private", "no-store", "no-cache", "must-revalidate", "max-age=9", "s-maxage=5", "max-age=x"]
)


@given(
    st.lists(MEMBERS, max_size=4),
    st.sampled_from([ANYBODY, AUTHORIZED, COOKIED]),
    st.sampled_from([PLAIN, TTL, FORCED, WINDOWS, FORCED_WINDOWS, COOKIES]),
    st.integers(100, 999),
)
def test_what_is_never_to_be_shared_is_shared_by_no_setting(
    members: list[str], asked: Asked, route: Route, status: int
) -> None:
    verdict = judge(asked, status, cc(", ".join(members)), route, NOW)
    unlocked = {"public", "must-revalidate", "s-maxage=5"} & set(members)

    if isinstance(verdict, Lifetime):
        assert not {"private", "no-store"} & set(members)
        assert not asked.authorization or unlocked
        assert verdict.generated <= NOW < verdict.keep_until <= NOW + MAX_KEEP_S
