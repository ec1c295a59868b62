"""Which server is asked is the config's to say: nothing that a client or the API sends makes the proxy connect elsewhere."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.claims import attack
from tests.flow.attacks.site import Site
from tests.flow.client import request
from tests.flow.origin import Origin, ok, origin

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORGERY = "request forgery"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def elsewhere() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


TARGETS = [
    "http://{there}{path}",
    "HTTP://{there}{path}",
    "https://{there}{path}",
    "http://user:pass@{there}{path}",
    "http://api.test@{there}{path}",
    "http://{there}\\@api.test{path}",
    "//{there}{path}",
    "/{there}{path}",
    "/http://{there}{path}",
    "/\\{there}{path}",
    "ftp://{there}{path}",
    "gopher://{there}{path}",
    "file://{there}{path}",
    "@{there}{path}",
    ":{port}{path}",
    "{there}{path}",
    "http:{there}{path}",
    "http:///{there}{path}",
    "{path}@{there}",
]


@attack(FORGERY, "another server in the request target, in absolute form and in what looks like it")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_target_leads_nowhere_else(site: Site, elsewhere: Origin, target: str, method: str) -> None:
    there = f"127.0.0.1:{elsewhere.port}"
    asked = len(site.api.asked)
    sent = target.format(there=there, port=elsewhere.port, path=site.path)
    answer = await site.send(request(sent, method=method))

    assert (answer.status, len(site.api.asked) - asked) in {(200, 1), (400, 0)}
    assert elsewhere.accepted == 0


@attack(FORGERY, "another server in Host, and in every field that may name one")
@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "X-Forwarded-Host",
        "X-Forwarded-Server",
        "X-Forwarded-For",
        "X-Original-Host",
        "X-Host",
        "X-Real-IP",
        "Forwarded",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Via",
        "Proxy-Connection",
        "Proxy-Authorization",
        "Referer",
        "Origin",
        "Destination",
        "X-Wap-Profile",
        "Alt-Used",
        "True-Client-IP",
    ],
)
async def test_a_field_leads_nowhere_else(site: Site, elsewhere: Origin, name: str) -> None:
    site.answers(ok(b"here"))
    there = f"127.0.0.1:{elsewhere.port}"
    for value in (there, f"http://{there}/", f"for={there};host={there}"):
        answer = await site.get("", f"{name}: {value}")
        assert answer.status in {200, 400}

    assert elsewhere.accepted == 0
    await site.unharmed_and_cached()


@attack(FORGERY, "an answer that leads to another server: Location, Refresh, Link, Alt-Svc, Content-Location")
@pytest.mark.parametrize(
    "status",
    ["200 OK", "201 Created", "301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent"],
)
async def test_an_answer_is_not_followed(site: Site, elsewhere: Origin, status: str) -> None:
    there = f"http://127.0.0.1:{elsewhere.port}/"
    names = ("Location", "Content-Location", "Alt-Svc", "Link", "Refresh")
    lines = [f"{name}: {there}" for name in names]
    site.answers(ok(b"x", *lines, "Cache-Control: max-age=60", status=status))
    for method in ("GET", "POST", "GET"):
        answer = await site.get(method=method)
        assert (answer.status, answer.get("location")) == (int(status[:3]), there)

    assert elsewhere.accepted == 0


@attack(FORGERY, "CONNECT, TRACE and methods of our own ports on the clients' port")
async def test_the_clients_port_is_no_tunnel_and_no_admin_port(site: Site, elsewhere: Origin) -> None:
    there = f"127.0.0.1:{elsewhere.port}"
    assert (await site.send(request(there, method="CONNECT"))).status == 405
    for method in ("PURGE", "BAN", "REFRESH", "TRACE", "PROPFIND", "M-SEARCH", "get"):
        answer = await site.get(method=method)
        assert (answer.status, answer.body.split(b" ")[0]) == (200, method.encode())
    for path in (
        "/metrics",
        "/livez",
        "/readyz",
        "/api/stats",
        "/api/config",
        "/api/purge",
        "/api/entries",
        "/",
    ):
        mine = Site(api=site.api, proxy=site.proxy, path=path)
        answer = await mine.get("", "Cache-Control: no-store")
        assert (answer.status, answer.body.split(b" ")[1]) == (200, path.encode())

    assert elsewhere.accepted == 0


@attack(
    FORGERY,
    "PURGE and its like on the clients' port: stored answers stay, unless the API itself did something",
)
@pytest.mark.parametrize("method", ["PURGE", "BAN", "GET"])
@pytest.mark.parametrize(
    "line",
    [
        "Purge: 1",
        "X-Purge: *",
        "Surrogate-Key: a",
        "Cache-Tag: a",
        'Cache-Group-Invalidation: "a"',
        "Fastly-Key: x",
        "xkey: a",
    ],
)
async def test_no_client_purges_by_a_word_of_its_own(site: Site, method: str, line: str) -> None:
    status = "405 Method Not Allowed" if method != "GET" else "200 OK"
    site.answers(ok(b"kept", 'Cache-Groups: "a"'))
    await site.get()
    site.answers(ok(b"no", status=status), "/other")
    await site.get("/other", line, method=method)

    assert (await site.get()).cache.startswith("hit")
