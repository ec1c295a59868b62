"""What is explained of a request is what the policy decides."""

import json
from dataclasses import asdict

import pytest

from proxy.commands.explanation import Explanation, explain
from proxy.config_file import parse
from proxy.policy.key import key_of
from proxy.policy.routes import RouteTable
from proxy.settings import Settings
from proxy.wire.fields import Fields

CONFIG = """
upstream: {url: http://127.0.0.1:8080}
redis: {mode: embedded}
routes:
  - {name: events, match: /api/events, query: [status, page], vary: [accept-language, cookie], ttl: 5m,
     stale_while_revalidate: 30s, stale_if_error: 10m, tags: [events], status_ttl: {404: 5s}}
  - {name: event, match: "/api/events/{id}", tags: ["event:{id}"], redis: false}
  - {name: mine, match: /api/me, per: authorization, ttl: 1m, store: {private: true, cookie: true}}
  - {name: register, match: "/api/events/{id}/participants", methods: [POST], purge: [events, "event:{id}"]}
warm:
  - {name: active_events, path: "/api/events?status=active"}
"""
SETTINGS: Settings = parse(CONFIG, name="c.yaml", environ={}, read=str)
HOST = (b"Host", b"API.test")
NOW = 1_800_000_000.0


def explained(method: str, target: str, *fields: tuple[bytes, bytes]) -> Explanation:
    return explain(SETTINGS, method, target.encode(), (HOST, *fields), now=NOW)


def fates(found: Explanation) -> dict[str, str]:
    return {f"{a.status} {a.header}".strip(): a.reason or f"{a.fresh_seconds:g}" for a in found.answers}


def test_the_key_is_the_one_that_the_proxy_makes() -> None:
    fields: Fields = (HOST, (b"Accept-Language", b"de"))
    found = explained("GET", "/api/events?page=2&utm=x&status=past", fields[1])
    match = RouteTable.of(SETTINGS.routes).find("GET", "/api/events")
    assert match is not None
    assert found.key is not None
    assert key_of(match.route, b"/api/events?page=2&utm=x&status=past", fields).text == found.key.text
    assert ("api.test", "/api/events?page=2&status=past", None) == (
        found.key.host,
        found.key.url,
        found.key.principal_header,
    )
    assert {"accept-language": "de", "cookie": "(hidden)"} == found.key.vary


def test_the_route_and_its_windows_are_told() -> None:
    found = explained("GET", "/api/events")
    assert found.route is not None
    assert ("events", 300.0, 30.0, 600.0, {"404": 5.0}, ("memory", "redis")) == (
        found.route.name,
        found.route.ttl_seconds,
        found.route.stale_while_revalidate_seconds,
        found.route.stale_if_error_seconds,
        found.route.status_ttl_seconds,
        found.route.tiers,
    )
    assert (True, ("events",), ()) == (found.from_store, found.tags, found.warmed_as)


def test_answers_are_judged() -> None:
    expected = {
        "200": "300",
        "200 Cache-Control: max-age=60": "60",
        "200 Cache-Control: public, max-age=60": "60",
        "200 Cache-Control: private": "private",
        "200 Cache-Control: no-store": "no-store",
        "200 Set-Cookie: session=1": "set-cookie",
        "404": "5",
    }
    assert expected == fates(explained("GET", "/api/events"))


def test_authorization_prevents_sharing_and_is_told_what_to_set() -> None:
    found = explained("GET", "/api/events", (b"Authorization", b"Bearer hush"))
    assert (False, "authorization", "60") == (
        found.from_store,
        fates(found)["200"],
        fates(found)["200 Cache-Control: public, max-age=60"],
    )
    assert "`per: authorization`" in found.advice[0]
    assert "hush" not in json.dumps(asdict(found))


def test_a_cookie_prevents_sharing_where_the_api_says_nothing() -> None:
    found = explained("GET", "/api/events", (b"Cookie", b"session=hush"))
    assert (False, "cookie", "60") == (
        found.from_store,
        fates(found)["200"],
        fates(found)["200 Cache-Control: max-age=60"],
    )
    assert "`store: {cookie: true}`" in found.advice[0]
    assert "hush" not in json.dumps(asdict(found))


def test_a_principal_is_told_to_be_there_and_never_shown() -> None:
    found = explained("GET", "/api/me", (b"Authorization", b"Bearer hush"))
    assert found.key is not None
    assert (True, "authorization", True, "60") == (
        found.from_store,
        found.key.principal_header,
        found.key.principal_present,
        fates(found)["200 Cache-Control: private"],
    )
    assert "hush" not in json.dumps(asdict(found))


def test_a_principal_that_is_missing_is_told() -> None:
    found = explained("GET", "/api/me")
    assert found.key is not None
    assert (False, ("authorization is not sent: all requests without it share one answer",)) == (
        found.key.principal_present,
        found.advice,
    )


def test_a_route_without_a_ttl_leaves_it_to_the_api() -> None:
    found = explained("GET", "/api/events/7")
    assert found.route is not None
    assert ("no freshness", ("event:7",), ("memory",)) == (
        fates(found)["200"],
        found.tags,
        found.route.tiers,
    )
    assert "the route has no `ttl`" in found.advice[0]


def test_a_warm_resource_is_recognised_and_is_for_any_host() -> None:
    found = explained("GET", "/api/events?utm=x&status=active")
    assert found.key is not None
    assert (("active_events",), "(any)") == (found.warmed_as, found.key.host)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ((b"Cache-Control", b"no-cache"), "the request's no-cache asks the API first"),
        ((b"Cache-Control", b"max-age=0"), "the request's max-age=0 asks the API first"),
    ],
)
def test_a_request_that_wants_no_stored_answer_gets_none(field: tuple[bytes, bytes], reason: str) -> None:
    found = explained("GET", "/api/events", field)
    assert (False, True, True) == (found.from_store, found.reason.startswith(reason), found.key is not None)


def test_what_no_route_matches_passes() -> None:
    found = explained("GET", "/elsewhere")
    expected = Explanation(
        method="GET", target="/elsewhere", route=None, reason="no route matches GET /elsewhere"
    )
    assert expected == found


def test_a_path_that_is_matched_with_other_methods_is_told_so() -> None:
    reason = explained("DELETE", "/api/events/7/participants").reason
    expected = "no route matches DELETE /api/events/7/participants, but register matches it with POST"
    assert expected == reason


def test_an_unsafe_method_is_told_what_it_purges() -> None:
    found = explained("POST", "/api/events/7/participants")
    purges = [(purge["kind"], purge["value"]) for purge in found.purges]
    assert ("POST may change something: it always reaches the API", None) == (found.reason, found.key)
    assert [("tag", "events"), ("tag", "event:7")] == purges


def test_a_condition_that_only_the_api_can_judge_is_one_of_a_kind() -> None:
    found = explained("GET", "/api/events", (b"If-Match", b'"a"'))
    assert ("the request's `if-match` makes its answer one of a kind", None) == (found.reason, found.key)


def test_bytes_that_are_no_utf8_can_be_shown() -> None:
    found = explain(SETTINGS, "GET", b"/api/events/%ff\xff", (HOST,), now=NOW)
    assert json.dumps(asdict(found)).isascii()
    assert found.target == "/api/events/%ff\\xff"
