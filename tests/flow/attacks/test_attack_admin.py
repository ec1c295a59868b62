"""The admin port to those who should not use it: pages in a browser, clients of the API, whoever guesses."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.claims import attack
from tests.flow.attacks.site import Site
from tests.flow.client import Response, connected, fetch, request
from tests.flow.origin import Origin, ok
from tests.flow.processes import running

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN = "admin port"
OPEN = ("/metrics", "/livez", "/readyz", "/readyz?verbose")
GUARDED = ("/", "/api/stats", "/api/entries", "/api/routes", "/api/config")
WRITES = ("/api/purge", "/api/warm", "/api/reload")
TOKEN = "Authorization: Bearer s3cret"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(api: Origin) -> AsyncIterator[Site]:
    """One whose admin port has a token."""
    async with running(f"upstream: {{url: {api.url}}}\nroutes: [{{match: '/**', ttl: 1m}}]\n") as proxy:
        proxy.config.write_text(
            proxy.config.read_text().replace("admin: {listen", "admin: {token: s3cret, listen")
        )
        site = Site(api=api, proxy=proxy, path="/guarded")
        assert (await ask(site, "/api/reload", method="POST")).status == 200
        yield site


async def ask(site: Site, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> Response:
    own = () if any(line.startswith("Host:") for line in lines) else ("Host: localhost",)
    return await fetch(site.proxy.admin_port, target, *own, *lines, method=method, body=body)


EVIL = [
    "Host: evil.test",
    "Host: evil.test:9901",
    "Host: localhost.evil.test",
    "Host: 127.0.0.1.evil.test",
    "Host: 127.0.0.1.nip.test:9901",
    "Host: localhost.",
    "Host: 2130706433",
    "Host: 0x7f.1",
    "Host: xn--localhost-.test",
    "Host: evil.test:127.0.0.1",
]


@attack(
    ADMIN, "a page that reaches the port under its own name (DNS rebinding): what tells of clients and config"
)
@pytest.mark.parametrize("line", EVIL)
async def test_a_page_in_a_browser_reads_nothing(site: Site, line: str) -> None:
    await site.get("?token=query-secret")
    answers = [await ask(site, path, line) for path in GUARDED]
    assert [answer.status for answer in answers] == [403] * len(GUARDED)
    assert not any(b"query-secret" in answer.body or b"upstream" in answer.body for answer in answers)

    heads = [await ask(site, path, line, method="HEAD") for path in GUARDED]
    assert [answer.status for answer in heads] == [403] * len(GUARDED)


@attack(
    ADMIN, "a page that reaches the port under its own name, or across origins, writing: purge, warm, reload"
)
@pytest.mark.parametrize(
    "line", [*EVIL, "Origin: http://evil.test", "Origin: null", "X-Forwarded-For: 127.0.0.1", "Via: 1.1 x"]
)
async def test_a_page_in_a_browser_writes_nothing(site: Site, line: str) -> None:
    site.answers(ok(b"kept"))
    await site.get()
    body = json.dumps({"patterns": ["/*"]}).encode()
    for path in WRITES:
        assert (await ask(site, path, line, method="POST", body=body)).status == 403
    # As a form would send it, without a preflight.
    assert (
        await ask(site, "/api/purge", line, "Content-Type: text/plain", method="POST", body=body)
    ).status == 403

    assert (await site.get()).cache.startswith("hit")


@attack(ADMIN, "health and metrics, which are open to every name, searched for what clients asked")
@pytest.mark.parametrize(
    "line", ["Host: evil.test", "Host: crowdgate.default.svc.cluster.local:9901", "Host: 10.0.0.7:9901"]
)
async def test_probes_and_scrapers_come_by_any_name_and_are_told_nothing_of_clients(
    site: Site, line: str
) -> None:
    await site.get("/in-the-path?token=query-secret")
    answers = [await ask(site, path, line) for path in OPEN]
    assert [answer.status for answer in answers] == [200] * len(OPEN)
    told = b"".join(answer.body for answer in answers)
    assert (b"query-secret" in told, b"in-the-path" in told) == (False, False)


@attack(
    ADMIN,
    "a page of another site that asks across origins, or embeds an answer",
)
async def test_no_answer_is_for_other_origins(site: Site) -> None:
    for path in (*OPEN, *GUARDED):
        answer = await ask(site, path, "Origin: http://evil.test")
        assert (answer.get("access-control-allow-origin"), answer.get("cross-origin-resource-policy")) == (
            "",
            "same-origin",
        )
    assert (await ask(site, "/api/purge", "Origin: http://evil.test", method="OPTIONS")).status in {403, 405}


@attack(ADMIN, "a page that asks under a name that admin.hosts lists, or in the form of another one")
async def test_a_listed_name_may_read_and_not_write(api: Origin) -> None:
    hosts = "CrowdGate.ops.test"
    async with running(f"upstream: {{url: {api.url}}}\n") as proxy:
        site = Site(api=api, proxy=proxy, path="/listed")
        assert (await ask(site, "/api/stats", f"Host: {hosts}")).status == 403
        proxy.config.write_text(
            proxy.config.read_text().replace("admin: {listen", f"admin: {{hosts: [{hosts}], listen")
        )
        assert (await ask(site, "/api/reload", method="POST")).status == 200
        for host, status in (
            (hosts.lower(), 200),
            (f"{hosts}:9901", 200),
            (f"x.{hosts}", 403),
            ("ops.test", 403),
        ):
            assert (host, (await ask(site, "/api/stats", f"Host: {host}")).status) == (host, status)
        assert (await ask(site, "/api/reload", f"Host: {hosts}", method="POST")).status == 403


@attack(ADMIN, "no token, a wrong one, one in the URL, in a cookie, in another scheme, or by the byte")
@pytest.mark.parametrize(
    ("query", "lines"),
    [
        ("", []),
        ("", ["Authorization: Bearer s3cre"]),
        ("", ["Authorization: Bearer s3cret2"]),
        ("", ["Authorization: Bearer "]),
        ("", ["Authorization: Basic czNjcmV0"]),
        ("", ["Authorization: s3cret"]),
        ("", ["Cookie: token=s3cret", "X-Token: s3cret"]),
        ("?token=s3cret&access_token=s3cret", []),
        ("", ["Authorization: Bearer S3CRET"]),
        ("", ["X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1"]),
    ],
)
async def test_without_the_token_nobody_writes(guarded: Site, query: str, lines: list[str]) -> None:
    for path in WRITES:
        answer = await ask(guarded, path + query, *lines, method="POST", body=b'{"patterns": ["/*"]}')
        assert (answer.status, answer.get("www-authenticate")) == (401, 'Bearer realm="crowdgate admin"')


@attack(
    ADMIN,
    "queries of stored answers, which may be secrets: for the token's holder and on the machine itself alone",
)
async def test_queries_are_shown_to_operators_alone(guarded: Site) -> None:
    await guarded.get("/reset?code=query-secret")
    shown = {}
    for name, lines in {
        "on the machine": [],
        "with the token": ["Host: 10.0.0.1", "X-Forwarded-For: 10.0.0.9", TOKEN],
        "under any name, with the token": ["Host: ops.test", TOKEN],
        "by a proxy": ["X-Forwarded-For: 10.0.0.9"],
        "in a browser": ["Origin: http://127.0.0.1"],
        "with a wrong token, by a proxy": ["Via: 1.1 x", "Authorization: Bearer wrong"],
    }.items():
        entries = json.loads((await ask(guarded, "/api/entries?limit=1000", *lines)).body)["entries"]
        shown[name] = [
            entry["url"].removeprefix(guarded.path) for entry in entries if guarded.path in entry["url"]
        ]

    whole, cut = ["/reset?code=query-secret"], ["/reset?…"]
    assert list(shown.values()) == [whole, whole, whole, cut, cut, cut]


@attack(
    ADMIN,
    "paths that lead around the guard: encoded, doubled, with dots, in absolute form, in another method",
)
@pytest.mark.parametrize(
    "target",
    [
        "/api/../api/config",
        "//api/config",
        "/api//config",
        "/api/%63onfig",
        "/%61pi/config",
        "/api/config/",
        "/metrics/../api/config",
        "/metrics/..%2fapi/config",
        "/livez;/../api/config",
        "http://localhost/api/config",
        "/api/config?/metrics",
        "/api/config#/metrics",
    ],
)
async def test_no_path_leads_around_the_guard(site: Site, target: str) -> None:
    async with connected(site.proxy.admin_port) as client:
        await client.send(request(target, "Host: evil.test"))
        answer = await client.response()
    assert (answer.status in {400, 403, 404}, b"upstream" in answer.body) == (True, False)


@attack(ADMIN, "methods that are no GET or POST, and overrides of them")
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "PURGE", "TRACE", "post", "CONNECT"])
async def test_no_other_method_does_anything(site: Site, method: str) -> None:
    for path in (*WRITES, *GUARDED):
        answer = await ask(site, path, "X-HTTP-Method-Override: POST", method=method)
        assert answer.status in {400, 403, 404, 405}


@attack(ADMIN, "bodies that are no JSON, nested without end, huge, or of another shape")
@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[" * 100_000,
        b'{"tags":' + b"[" * 100_000,
        b'{"tags": "events"}',
        b'{"tags": [1]}',
        b'{"tags": ["' + b"x" * 9000 + b'"]}',
        b'{"patterns": ["' + b"*a" * 4000 + b'"]}',
        b'{"tags": ["\\ud800"]}',
        b"\xff\xfe",
        b"1e400",
        b'{"tags": ["a"], "tags": 1}',
        b"null",
    ],
)
async def test_a_bad_body_is_a_problem_and_nothing_else(site: Site, body: bytes) -> None:
    answer = await ask(site, "/api/purge", method="POST", body=body)
    assert answer.status in {200, 400}
    await site.unharmed_and_cached()
