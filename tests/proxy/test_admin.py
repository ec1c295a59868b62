"""The admin port of a running proxy: what it shows, what it does, and what it never tells."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.admin import _content_policy
from tests import servers
from tests.flow.client import Response
from tests.proxy.live import ROUTES, Live, live

PAGE = (Path(__file__).parents[2] / "proxy" / "dashboard.html").read_text("utf-8")
READS = (
    "/",
    "/livez",
    "/readyz",
    "/metrics",
    "/api/stats",
    "/api/entries",
    "/api/routes",
    "/api/config",
)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Live]:
    async with live(tmp_path) as started:
        yield started


def parsed(response: Response) -> Any:
    return json.loads(response.body)


async def post(here: Live, target: str, body: object = None) -> Response:
    return await here.ask(target, method="POST", body=b"" if body is None else json.dumps(body).encode())


async def listed(here: Live, query: str = "") -> list[str]:
    return [entry["url"] for entry in parsed(await here.ask(f"/api/entries{query}"))["entries"]]


# -- reads --


async def test_it_is_alive_and_ready(here: Live) -> None:
    answers = [await here.ask("/livez"), await here.ask("/readyz")]
    assert [(200, b"ok\n"), (200, b"ok\n")] == [answer.brief for answer in answers]


async def test_readiness_says_what_is_missing_and_what_does_not_count(here: Live) -> None:
    here.proxy.front.draining = True
    here.proxy.warmed = False
    answer = await here.ask("/readyz?verbose")
    lines = answer.body.decode().splitlines()
    assert (503, "not ready: draining, warming", "redis: none (does not count)") == (
        answer.status,
        *lines[:2],
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("name[]=crowdgate_redis_up", [b"crowdgate_redis_up"], id="one"),
        pytest.param("name%5B%5D=crowdgate_redis_up", [b"crowdgate_redis_up"], id="as browsers write it"),
        pytest.param(
            "name[]=crowdgate_warm_total&name[]=crowdgate_redis_up",
            [b"crowdgate_warm_total", b"crowdgate_redis_up"],
            id="two",
        ),
        pytest.param("name[]=unknown", [], id="an unknown one"),
        pytest.param("name[]=", [], id="an empty one"),
    ],
)
async def test_of_the_metrics_those_that_are_named_are_shown(
    here: Live, query: str, expected: list[bytes]
) -> None:
    answer = await here.ask(f"/metrics?{query}")
    families = [line.split()[2] for line in answer.body.splitlines() if line.startswith(b"# TYPE ")]
    assert (200, expected) == (answer.status, families)


async def test_other_parameters_choose_no_metrics(here: Live) -> None:
    everything, others = await here.ask("/metrics"), await here.ask("/metrics?name=x&a[]=b")
    count = len(everything.body.splitlines())
    assert count == len(others.body.splitlines()) > 50


@pytest.mark.parametrize("path", READS)
async def test_head_answers_as_get_does_without_the_body(here: Live, path: str) -> None:
    head, get = await here.ask(path, method="HEAD"), await here.ask(path)
    assert (200, b"", get.get("content-type")) == (head.status, head.body, head.get("content-type"))
    assert head.get("content-length")


@pytest.mark.parametrize("path", [*READS, "/nowhere", "/api/purge"])
async def test_no_answer_is_kept_sniffed_or_used_by_other_sites(here: Live, path: str) -> None:
    answer = await here.ask(path)
    names = ("cache-control", "x-content-type-options", "cross-origin-resource-policy", "server")
    assert ["no-store", "nosniff", "same-origin", "crowdgate"] == [answer.get(name) for name in names]


async def test_an_unknown_path_is_told_what_there_is(here: Live) -> None:
    answer = await here.ask("/api/purges")
    assert (404, "application/problem+json") == (answer.status, answer.get("content-type"))
    assert "/api/purge," in parsed(answer)["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "/metrics", "GET,HEAD"), ("GET", "/api/purge", "POST"), ("OPTIONS", "/api/warm", "POST")],
)
async def test_a_method_that_a_path_does_not_take_is_told_which_it_does(
    here: Live, method: str, path: str, allowed: str
) -> None:
    answer = await here.ask(path, method=method)
    detail = f"this path takes {allowed.replace(',', ', ')} only"
    assert (405, allowed, {"status": 405, "detail": detail}) == (
        answer.status,
        answer.get("allow"),
        parsed(answer),
    )


async def test_entries_are_listed_with_what_is_known_of_them(here: Live) -> None:
    await here.get("/api/events?page=2&utm=x&status=running")
    (entry,) = parsed(await here.ask("/api/entries?route=events"))["entries"]
    assert ("/api/events?page=2&status=running", 200, ["events"], []) == (
        entry["url"],
        entry["status"],
        entry["tags"],
        entry["vary"],
    )
    assert 59 <= entry["ttl_seconds"] <= 60
    assert 0 <= entry["age_seconds"] < 5


async def test_entries_are_filtered_by_route_and_counted_beyond_the_limit(here: Live) -> None:
    for number in range(5):
        await here.get(f"/api/events/{number}")
    await here.get("/api/events")
    answer = parsed(await here.ask("/api/entries?route=event&limit=2"))
    assert (2, 5, 2) == (len(answer["entries"]), answer["matching"], answer["limit"])


async def test_many_entries_are_counted_in_turns(here: Live) -> None:
    for number in range(450):
        await here.get(f"/api/events?page={number}")
    assert parsed(await here.ask("/api/entries?route=events&limit=1"))["matching"] == 450


async def test_what_was_purged_is_listed_no_more(here: Live) -> None:
    await here.get("/api/events")
    await here.get("/api/events/2")
    await post(here, "/api/purge", {"tags": ["event:2"]})
    assert ["/api/events", "/api/events/1"] == sorted(await listed(here))


async def test_bytes_that_are_no_utf8_are_shown_all_the_same(here: Live) -> None:
    await here.get("/api/events/%FF")
    (entry,) = [e for e in parsed(await here.ask("/api/entries"))["entries"] if e["url"] != "/api/events/1"]
    assert ("/api/events/%FF", ["event:\\udcff"]) == (entry["url"], entry["tags"])


async def test_the_figures_count_what_happened(here: Live) -> None:
    for _ in range(3):
        await here.get("/api/events")
    await here.get("/elsewhere")
    figures = parsed(await here.ask("/api/stats"))
    (events,) = [route for route in figures["routes"] if route["route"] == "events"]
    assert (True, [], "none") == (figures["ready"], figures["unready"], figures["redis"]["state"])
    assert (3, 2, 1, 0.666667) == tuple(events[k] for k in ("requests", "hits", "misses", "hit_ratio"))
    assert (4, 1) == (figures["total"]["requests"], figures["total"]["outcomes"]["bypass"])
    assert figures["memory"]["max_bytes"] == 64 * 1024 * 1024


async def test_secrets_are_in_no_answer(tmp_path: Path) -> None:
    secrets = ("t0ken-secret", "red1s-secret", "auth-secret", "sentinel-secret")
    config = f"""
admin: {{listen: '127.0.0.1:0', token: {secrets[0]}}}
redis: {{url: 'redis://user:{secrets[1]}@127.0.0.1:1', sentinel_password: {secrets[3]}}}
routes: [{{match: /a, ttl: 60s, per: authorization}}]
warm: [{{name: a, path: /a, headers: {{Authorization: {secrets[2]}}}}}]
"""
    async with live(tmp_path, config) as here:
        await here.get("/a", f"Authorization: {secrets[2]}")
        pages = [*READS, "/readyz?verbose", "/api/entries?limit=1000"]
        told = b"".join([(await here.ask(page)).body for page in pages]).decode()
        refused = await post(here, "/api/reload")
    assert not [secret for secret in secrets if secret in told + refused.body.decode()]
    assert '"token":"***"' in told


# -- the dashboard --


def test_the_dashboard_is_small_and_needs_nothing_from_elsewhere() -> None:
    assert len(PAGE.encode()) < 20_000
    assert [] == re.findall(r"(?:src|href)=\"(?!data:)", PAGE)
    assert set(re.findall(r"https?://[^\"' ]+", PAGE)) == {"http://www.w3.org/2000/svg"}


def test_the_dashboard_makes_no_html_of_what_it_shows() -> None:
    assert [] == re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\bon[a-z]+=", PAGE
    )
    assert [] == re.findall(r"<[a-z]+[^>]* style=", PAGE)


async def test_the_dashboard_may_run_its_own_script_and_nothing_else(here: Live) -> None:
    answer = await here.ask("/")
    assert (PAGE, _content_policy(PAGE)) == (answer.body.decode(), answer.get("content-security-policy"))
    assert re.fullmatch(
        r"default-src 'none'; script-src 'sha256-[\w+/=]{44}'; style-src 'sha256-[\w+/=]{44}'; connect-src 'self'; "
        r"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        _content_policy(PAGE),
    )


# -- writes --


async def test_a_purge_by_tag_holds_when_it_is_answered(here: Live) -> None:
    before = (await here.get("/api/events")).cache, (await here.get("/api/events")).cache
    answer = await post(here, "/api/purge", {"tags": ["events", "events"], "wait": True})
    expected = {
        "purged": 1,
        "soft": False,
        "shared": False,
        "waited": True,
        "replicas": 1,
        "missing": [],
        "note": "no Redis: other replicas, if there are any, keep what they have",
    }
    done = parsed(answer)
    assert 0 <= done.pop("seconds") < 1
    assert (200, expected) == (answer.status, done)
    assert ("fwd=uri-miss", "hit", "fwd=uri-miss") == tuple(
        cache.split(";")[0] for cache in (*before, (await here.get("/api/events")).cache)
    )


@pytest.mark.skipif(servers.valkey() is None, reason="needs the extra `embedded`")
async def test_a_purge_that_others_will_see_says_so(tmp_path: Path) -> None:
    async with live(tmp_path, "redis: {mode: embedded}\n") as here:
        done = parsed(await post(here, "/api/purge", {"tags": ["events"]}))
        waited = parsed(
            await post(here, "/api/purge", {"tags": ["events"], "wait": True, "wait_timeout": "9s"})
        )
    assert done == {"purged": 1, "soft": False, "shared": True, "waited": None}
    assert (waited["waited"], waited["replicas"], waited["missing"]) == (True, 1, [])


async def test_a_purge_that_is_waited_for_in_vain_says_so(tmp_path: Path) -> None:
    async with live(tmp_path, "redis: {url: 'redis://127.0.0.1:1'}\n") as here:
        body = {"tags": ["events"], "wait": True, "wait_timeout": "100ms"}
        answer = await post(here, "/api/purge", body)
        done = parsed(answer)
    assert (202, False, False) == (answer.status, done["shared"], done["waited"])
    assert 0.1 <= done["seconds"] < 2


async def test_a_purge_that_others_will_see_later_says_so_too(tmp_path: Path) -> None:
    async with live(tmp_path, "redis: {url: 'redis://127.0.0.1:1'}\n") as here:
        done = parsed(await post(here, "/api/purge", {"tags": ["events"]}))
    assert (False, "Redis does not take it now: the other replicas learn of it when it does") == (
        done["shared"],
        done["note"],
    )


async def test_a_url_is_purged_however_its_query_is_written(here: Live) -> None:
    await here.get("/api/events?status=running&page=2")
    await post(here, "/api/purge", {"urls": ["/api/events?status=running&utm=1&page=2"]})
    assert (await here.get("/api/events?page=2&status=running")).cache.startswith("fwd=uri-miss")


async def test_routes_and_patterns_are_purged_too(here: Live) -> None:
    for target in ("/api/events", "/api/events/2", "/api/events/3"):
        await here.get(target)
    await post(here, "/api/purge", {"routes": ["events"], "patterns": ["*/2"]})
    assert ["/api/events/1", "/api/events/3"] == sorted(await listed(here))


async def test_a_soft_purge_leaves_a_stale_answer(here: Live) -> None:
    await here.get("/api/events")
    assert parsed(await post(here, "/api/purge", {"tags": ["events"], "soft": True}))["soft"] is True
    (entry,) = parsed(await here.ask("/api/entries?route=events"))["entries"]
    assert entry["ttl_seconds"] <= 0
    assert (await here.get("/api/events")).cache.startswith("hit; ")
    await here.api.came("/api/events", 2)


async def test_bad_input_is_refused_in_words(here: Live) -> None:
    answer = await post(here, "/api/purge", {"tag": ["events"]})
    assert (400, "application/problem+json") == (answer.status, answer.get("content-type"))
    assert parsed(answer) == {"status": 400, "detail": "unknown field `tag`; did you mean tags?"}


async def test_warming_tells_what_became_of_each(here: Live) -> None:
    asked = here.api.count("/api/events/1")
    answer = await post(here, "/api/warm", {"names": ["first"]})
    assert (200, {"warmed": {"first": "ok"}}) == (answer.status, parsed(answer))
    assert here.api.count("/api/events/1") == asked + 1


async def test_one_resource_that_fails_is_told_and_stops_none(here: Live) -> None:
    answer = await post(here, "/api/warm")
    results = parsed(answer)["warmed"]
    assert (502, "ok") == (answer.status, results["first"])
    assert "may not be stored" in results["failing"]


async def test_an_unknown_resource_is_refused(here: Live) -> None:
    answer = await post(here, "/api/warm", {"names": ["frist"]})
    assert parsed(answer)["detail"] == "names[0]: there is no warm resource `frist`; did you mean first?"


@pytest.mark.parametrize("body", [b"", b"{}", b"not JSON", b'{"names": ["x"]}'])
async def test_a_reload_takes_whatever_body(here: Live, body: bytes) -> None:
    here.write("routes: [{name: only, match: /only}]\n")
    answer = await here.ask("/api/reload", method="POST", body=body)
    assert (200, {"reloaded": True, "needs_restart": []}) == (answer.status, parsed(answer))
    assert ["only"] == [route["name"] for route in parsed(await here.ask("/api/routes"))["routes"]]


async def test_a_reload_tells_what_waits_for_a_restart(here: Live) -> None:
    here.write("redis: {mode: embedded}\n")
    assert parsed(await post(here, "/api/reload"))["needs_restart"] == ["redis"]


async def test_a_bad_config_is_told_and_changes_nothing(here: Live) -> None:
    here.write("routs: []\n")
    answer = await post(here, "/api/reload")
    assert (422, False) == (answer.status, parsed(answer)["reloaded"])
    assert f"{here.config}:5:1: routs: unknown key" in parsed(answer)["problems"][0]
    assert parsed(await here.ask("/api/stats"))["reload"]["failures"] == 1
    assert "event" in {route["name"] for route in parsed(await here.ask("/api/routes"))["routes"]}


async def test_a_token_is_asked_of_writes_alone(tmp_path: Path) -> None:
    async with live(tmp_path, "admin: {listen: '127.0.0.1:0', token: s3cret}" + ROUTES) as here:
        body = b'{"tags": ["events"]}'
        right, wrong = "Authorization: Bearer s3cret", "Authorization: Bearer s3cre"
        answers = [
            await here.ask("/api/purge", *lines, method="POST", body=body)
            for lines in ((), (wrong,), (right,), (right, "Origin: http://evil.test"))
        ]
        assert [401, 401, 200, 200] == [answer.status for answer in answers]
        assert answers[0].get("www-authenticate") == 'Bearer realm="crowdgate admin"'
        assert (await here.ask("/api/config")).status == 200


async def test_a_new_token_holds_from_the_reload_on(here: Live) -> None:
    here.write("admin: {listen: '127.0.0.1:0', token: s3cret}\n")
    assert [200, 401] == [(await post(here, "/api/reload")).status for _ in range(2)]


@pytest.mark.parametrize(
    "line",
    ["Origin: http://127.0.0.1", "Host: crowdgate.evil.test:9901", "X-Forwarded-For: 127.0.0.1"],
)
async def test_without_a_token_no_browser_and_nobody_behind_a_proxy_may_write(here: Live, line: str) -> None:
    answer = await here.ask("/api/reload", line, method="POST")
    assert (403, True) == (answer.status, parsed(answer)["detail"].startswith("without admin.token"))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9901", "127.0.0.1", "[::1]", "[::1]:9901"])
async def test_without_a_token_whoever_is_on_the_machine_may_write(here: Live, host: str) -> None:
    assert (await here.ask("/api/reload", f"Host: {host}", method="POST")).status == 200
