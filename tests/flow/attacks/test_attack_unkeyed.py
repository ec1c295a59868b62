"""What is not in the key plants nothing: fields by which some API builds its answer, and requests that are not what they seem."""

import asyncio
from collections.abc import Callable

import pytest

from tests.claims import attack
from tests.flow.attacks.site import Site, telling
from tests.flow.client import request
from tests.flow.origin import Answer, Asked, framed, ok

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVIL = [
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Scheme: nothttps",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-Server: evil.test",
    "X-Forwarded-Path: /evil",
    "X-Forwarded-Ssl: off",
    "X-Forwarded-Whatever-Comes: evil",
    "X-Host: evil.test",
    "X-Original-Host: evil.test",
    "X-HTTP-Host-Override: evil.test",
    "X-Scheme: evil",
    "X-Url-Scheme: evil",
    "X-Script-Name: /evil",
    "X-Original-URI: /evil",
    "X-Replaced-Path: /evil",
    "Front-End-Https: on",
    "Forwarded: host=evil.test",
    'forwarded: for=1.2.3.4;HOST="evil.test";proto=gopher',
    'Forwarded: for=1.2.3.4, for="[::1]";proto=evil',
    "Forwarded: by=_x ; host = evil.test",
    'Forwarded: for="\\";host=evil.test',
    "Forwarded: for=x;;host=evil.test;secret=1",
    "x-fOrWaRdEd-hOsT:\tevil.test",
]
# Not in the key: these go to the API, each for itself.
OVERRIDES = [
    "X-Original-URL: /admin",
    "X-Rewrite-URL: /admin",
    "X-HTTP-Method-Override: DELETE",
    "X-HTTP-Method: PUT",
    "X-Method-Override: POST",
    "X-HTTP-Path-Override: /admin",
]
# Of the same meaning to whoever stands behind CGI or WSGI.
UNDERSCORED = [
    "X_Forwarded_Host: evil.test",
    "X_FORWARDED-PROTO: http",
    "X_HTTP_Method_Override: DELETE",
    "X_Original_URL: /admin",
    "X_Host: evil.test",
    "X_Original_Host: evil.test",
    "X-HTTP_Host_Override: evil.test",
]
POISON = "cache poisoning"


@pytest.fixture(scope="module")
def config() -> str:
    return """
routes:
  - {match: "/{site}", ttl: 1m}
  - {match: "/{site}/queried", ttl: 1m, query: [status]}
  - {match: "/{site}/explicit"}
  - {match: "/warm/**", ttl: 1m}
warm:
  - {name: one, path: /warm/one}
  - {name: two, path: "/warm/two?a=1"}
"""


@attack(
    POISON, "a field that names another host, scheme, port, prefix or path, on plain and on `query:` routes"
)
@pytest.mark.parametrize("at", ["", "/queried?status=1&utm=2"])
@pytest.mark.parametrize("line", EVIL)
async def test_what_a_proxy_may_say_of_the_url_is_its_sender_s_alone(site: Site, line: str, at: str) -> None:
    await site.get(at, line)
    (asked,) = site.asked
    name, _, value = line.partition(":")
    assert asked.get(name) == value.strip()

    await site.unharmed_and_cached(at)
    assert (await site.get(at, line)).cache.startswith("hit")


@attack(
    POISON, "every field that names another host, scheme or URL at once, twice each, and with another Host"
)
async def test_many_unkeyed_fields_at_once(site: Site) -> None:
    await site.get("", *EVIL, *EVIL)
    await site.get("", *EVIL, *OVERRIDES)
    await site.get("", "Host: evil.test", *EVIL)

    await site.unharmed_and_cached()


@attack(
    POISON, "X-Forwarded fields with their values swapped, joined, or in other lines, taken for one another"
)
async def test_the_same_fields_in_another_order_are_other_requests(site: Site) -> None:
    one = await site.get("", "X-Forwarded-Host: a.test", "X-Forwarded-Prefix: b")
    other = await site.get("", "X-Forwarded-Host: b.test", "X-Forwarded-Prefix: a")
    twice = await site.get("", "X-Forwarded-Host: a.test", "X-Forwarded-Host: b.test")
    joined = await site.get("", "X-Forwarded-Host: a.testb.test")
    empty = await site.get("", "X-Forwarded-Host:")

    assert len({answer.body for answer in (one, other, twice, joined, empty)}) == 5
    await site.unharmed_and_cached()


@attack(POISON, "a field that names another method or another URL than the request line does")
@pytest.mark.parametrize("line", OVERRIDES)
async def test_an_override_is_neither_stored_nor_answered_from_the_store(site: Site, line: str) -> None:
    planted = await site.get("", line)
    await site.unharmed_and_cached()
    again = await site.get("", line)

    assert [planted.cache[:10], again.cache[:10]] == ["fwd=bypass", "fwd=bypass"]
    assert line.partition(": ")[2].encode() in again.body


@attack(
    POISON, "fields that name another URL or method, spelt with underscores, which gateways take for hyphens"
)
@pytest.mark.parametrize("line", UNDERSCORED)
async def test_an_underscored_spelling_plants_nothing(site: Site, line: str) -> None:
    refused = (await site.get("", line)).status == 400
    assert refused == (not site.asked)

    await site.unharmed_and_cached()


@attack(
    POISON,
    "a field that names another host, or Host itself, towards a resource that is warmed for every host",
)
@pytest.mark.parametrize("target", ["/warm/one", "/warm/two?a=1"])
@pytest.mark.parametrize("line", [*EVIL, "Host: evil.test"])
async def test_what_is_warmed_for_every_host_is_fetched_without_such_fields(
    site: Site, target: str, line: str
) -> None:
    warmed = Site(api=site.api, proxy=site.proxy, path=target)
    async with asyncio.timeout(5):
        # Warming is done beside the first requests.
        while not warmed.asked:
            await asyncio.sleep(0.01)
    before = len(warmed.asked)
    for host in ("Host: api.test", "Host: other.test"):
        # Forced: what is stored must not do.
        lines = [line] if line.startswith("Host") else [host, line]
        got = await warmed.get("", *lines, "Cache-Control: no-cache")
        assert b"evil" not in got.body
    names = {name.lower() for asked in warmed.asked[before:] for name, _ in asked.fields}
    assert len(warmed.asked) == before + 2
    assert line.partition(":")[0].lower().encode() not in names - {b"host"}
    assert {asked.get("host") for asked in warmed.asked[before:]} == {f"127.0.0.1:{site.api.port}"}

    clean = await warmed.get("", "Host: clean.test")
    assert (clean.cache[:3], b"evil" in clean.body) == ("hit", False)


@attack(
    POISON,
    "HEAD that names another host, whose answer freshens what is warmed for every host",
)
@pytest.mark.parametrize("line", ["X-Forwarded-Host: evil.test", "Host: evil.test"])
async def test_head_freshens_nothing_of_what_is_warmed_with_what_its_client_said(
    site: Site, line: str
) -> None:
    async def linked(asked: Asked) -> None:
        host = asked.get("x-forwarded-host") or asked.get("host")
        await ok(b"same", f"Link: <http://{host}/>")(asked)

    site.api.on("/warm/one", linked)
    warmed = Site(api=site.api, proxy=site.proxy, path="/warm/one")
    await warmed.get("", "Cache-Control: no-cache")
    lines = [line] if line.startswith("Host") else ["Host: api.test", line]
    await warmed.get("", *lines, "Cache-Control: no-cache", method="HEAD")

    clean = await warmed.get("")
    assert (clean.status, clean.get("link")) == (200, f"<http://127.0.0.1:{site.api.port}/>")


# -- requests that are not what they seem --


@attack(POISON, "a GET with a body, of a known length or in chunks")
@pytest.mark.parametrize("line", ["Content-Length: 4", "Transfer-Encoding: chunked"])
async def test_a_fat_get_is_its_sender_s_alone(site: Site, line: str) -> None:
    body = b"evil" if "Length" in line else b"4\r\nevil\r\n0\r\n\r\n"
    for _ in range(2):
        planted = await site.send(request(site.path, line) + body)
        assert (planted.cache[:10], planted.body[-7:]) == ("fwd=bypass", b"b'evil'")

    await site.unharmed_and_cached()


@attack(POISON, "HEAD before GET: its empty body stored as the resource")
async def test_head_plants_no_empty_body(site: Site) -> None:
    assert (await site.get(method="HEAD")).body == b""
    await site.unharmed_and_cached()
    assert (await site.get(method="HEAD")).body == b""
    await site.unharmed()


@attack(POISON, "HEAD that freshens what is stored with fields that are meant for its own Origin")
async def test_head_freshens_nothing_with_another_variant_s_fields(site: Site) -> None:
    site.answers(cors("Vary: Origin"))
    await site.get()
    await site.get("", "Origin: https://evil.test", "Cache-Control: no-cache", method="HEAD")

    await site.unharmed_and_cached()


def cors(*lines: str) -> Answer:
    """An API that allows whoever asks, and says `lines` only then, as many do."""

    async def answer(asked: Asked) -> None:
        origin = asked.get("origin")
        allowed = (f"Access-Control-Allow-Origin: {origin}", *lines) if origin else ()
        await ok(b"same for all", *allowed)(asked)

    return answer


@attack(POISON, "an Origin that the API echoes, with Vary: Origin only where one was sent")
async def test_a_reflected_origin_with_vary_is_its_sender_s(site: Site) -> None:
    site.answers(cors("Vary: Origin"))
    evil = await site.get("", "Origin: https://evil.test")
    assert evil.get("access-control-allow-origin") == "https://evil.test"

    await site.unharmed_and_cached("", "Origin: https://good.test")
    await site.unharmed_and_cached()


@attack(POISON, "an Origin that the API echoes without a word of Vary")
async def test_a_reflected_origin_without_vary_is_its_sender_s(site: Site) -> None:
    site.answers(cors())
    await site.get("", "Origin: https://evil.test")

    await site.unharmed("", "Origin: https://good.test")
    await site.unharmed()


@attack(POISON, "a part stored as the whole, with Range and with If-Range")
@pytest.mark.parametrize(
    "lines",
    [
        ["Range: bytes=0-0"],
        ["Range: bytes=0-0", 'If-Range: "v1"'],
        ["Range: bytes=5-", "If-Range: Wed, 01 Jan 2020 00:00:00 GMT"],
        ["Range: bytes=0-0,2-2"],
        ["Range: bytes=999-"],
        ["Range: lines=1"],
        ["range: bytes=0-0", "Range: bytes=1-1"],
    ],
)
async def test_a_part_is_never_the_whole(site: Site, lines: list[str]) -> None:
    async def parts(asked: Asked) -> None:
        caching = ("Cache-Control: max-age=60", 'ETag: "v1"')
        if not asked.get("range"):
            await ok(b"whole body", *caching)(asked)
        elif "999" in asked.get("range"):
            await ok(b"no", "Content-Range: bytes */10", *caching, status="416 Range Not Satisfiable")(asked)
        else:
            await ok(b"w", "Content-Range: bytes 0-0/10", *caching, status="206 Partial Content")(asked)

    site.answers(parts)
    planted = await site.get("", *lines)
    assert planted.status in {206, 416}

    await site.unharmed_and_cached()


@attack(POISON, "a 206 that nobody asked for")
async def test_an_unasked_part_is_not_stored(site: Site) -> None:
    answers = iter(
        [ok(b"p", "Content-Range: bytes 0-0/4", "Cache-Control: max-age=60", status="206 Part"), ok(b"full")]
    )

    async def first_a_part(asked: Asked) -> None:
        await next(answers, ok(b"full"))(asked)

    site.answers(first_a_part)
    assert (await site.get()).status == 206
    assert (await site.get()).brief == (200, b"full")


def conditional(asked_etag: str = '"v1"') -> Callable[[Asked], object]:
    async def answer(asked: Asked) -> None:
        caching = (f"ETag: {asked_etag}", "Cache-Control: max-age=60")
        if asked.get("if-none-match") in {asked_etag, "*"} or asked.get("if-modified-since"):
            lines = "".join(f"{line}\r\n" for line in caching)
            await asked.send(f"HTTP/1.1 304 Not Modified\r\n{lines}\r\n".encode())
        elif asked.get("if-match") or asked.get("if-unmodified-since"):
            await ok(b"no", *caching, status="412 Precondition Failed")(asked)
        else:
            await ok(b"the whole", *caching)(asked)

    return answer


@attack(POISON, "a 304 or 412 stored, or given to a client without a condition")
@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('If-None-Match: "v1"', 304),
        ("If-None-Match: *", 304),
        ("If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT", 304),
        ('If-Match: "nope"', 412),
        ("If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT", 412),
    ],
)
async def test_an_answer_to_a_condition_is_its_sender_s(site: Site, line: str, status: int) -> None:
    site.answers(conditional())  # type: ignore[arg-type]
    assert (await site.get("", line)).status == status

    await site.unharmed_and_cached()


@attack(POISON, "a crowd with different conditions on a key that is not stored yet")
async def test_each_of_a_crowd_with_different_conditions_gets_what_it_can_use(site: Site) -> None:
    async def slowly(asked: Asked) -> None:
        await asyncio.sleep(0.05)
        await conditional()(asked)  # type: ignore[misc]

    site.answers(slowly)
    tags = ['"v1"', '"v0"', "*", '"x1"', 'W/"v1"', '"v0", "v2"', "garbage", ""] * 4
    lines = [[f"If-None-Match: {tag}"] if tag else [] for tag in tags]
    answers = await asyncio.gather(*(site.get("", *line) for line in lines))

    for tag, answer in zip(tags, answers, strict=True):
        wanted = {304} if tag in {'"v1"', "*"} else {200, 304} if tag == 'W/"v1"' else {200}
        assert (tag, answer.status in wanted) == (tag, True)
        assert answer.body == (b"" if answer.status == 304 else b"the whole")
    await site.unharmed_and_cached()


@attack(POISON, "a variant (coding, language, media type) given to who did not ask for it")
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Accept-Encoding", ["gzip", "identity", "gzip;q=0", "br, gzip", None, ""]),
        ("Accept", ["application/json", "text/html", "*/*", None, ""]),
        ("Accept-Language", ["en", "de", "en-US,en;q=0.5", None, "", "en;q=0"]),
        ("X-Odd", ["a", "A", "a,b", "b,a", '"a,b"', None]),
    ],
)
async def test_each_variant_is_for_those_who_ask_for_it(
    site: Site, name: str, values: list[str | None]
) -> None:
    site.answers(telling(f"Vary: {name}", of=name.lower()))
    for value in values * 2:
        await site.unharmed("", *([] if value is None else [f"{name}: {value}"]))

    assert len(site.asked) <= len(values)


@attack(POISON, "a target in absolute form, or HTTP/1.0 without Host, whose answer names another host")
async def test_another_spelling_of_host_is_another_key(site: Site) -> None:
    await site.get("", "Host: evil.test")
    await site.send(request(f"http://evil.test{site.path}"))
    await site.send(f"GET {site.path} HTTP/1.0\r\n\r\n".encode())
    await site.get("", "Host: api.test:1")

    await site.unharmed_and_cached()


@attack(POISON, "an error page of ours stored as the API's")
async def test_our_own_errors_are_not_stored(site: Site) -> None:
    async def nothing(asked: Asked) -> None:
        asked.close()

    site.answers(nothing)
    assert (await site.get()).status == 502
    site.answers(ok(b"well"))
    await site.unharmed_and_cached()


@attack(POISON, "an answer that is late for its client, given to the next")
async def test_an_answer_is_not_given_to_the_next_after_its_client_left(site: Site) -> None:
    async def slow(asked: Asked) -> None:
        await asyncio.sleep(0.1)
        await asked.send(framed(asked.get("x-who").encode(), "Cache-Control: no-store"))

    site.answers(slow)
    leaving = asyncio.ensure_future(site.get("", "X-Who: leaver"))
    await asyncio.sleep(0.05)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    assert (await site.get("", "X-Who: next")).body == b"next"
