"""What was made for one client reaches no other: by waiting with others, by refreshing, by a trick with the URL."""

import asyncio

import pytest

from tests.claims import attack
from tests.flow.attacks.site import Site, telling
from tests.flow.client import Response
from tests.flow.origin import Answer, Asked, framed, ok

pytestmark = pytest.mark.asyncio(loop_scope="module")

LEAKS = "personal answers"
DECEPTION = "cache deception"
ALICE, BOB = "Cookie: session=alice", "Cookie: session=bob"
A_TOKEN, B_TOKEN = "Authorization: Bearer alice", "Authorization: Bearer bob"


@pytest.fixture(scope="module")
def config() -> str:
    return """
routes:
  - {match: "/{site}/swr", ttl: 1s, stale_while_revalidate: 1m, stale_if_error: 1m}
  - {match: "/{site}/forced", ttl: 1m, force_ttl: true}
  - {match: "/{site}/theirs/**"}
  - {match: "/{site}/per", ttl: 1m, per: x-user, store: {private: true}}
  - {match: "/{site}/by-token", ttl: 1m, per: authorization, store: {private: true}}
  - {match: "/**", ttl: 1m}
"""


def personal(*lines: str, delay_s: float = 0.0) -> Answer:
    """Tells who asked; whoever has no name gets a new session."""

    async def answer(asked: Asked) -> None:
        await asyncio.sleep(delay_s)
        who = asked.get("cookie") or asked.get("authorization") or asked.get("x-user")
        await asked.send(framed(f"for {who or 'nobody'}".encode(), *lines))

    return answer


def told(response: Response) -> str:
    return response.body.decode().removeprefix("for ")


# -- waiting with others --


@attack(LEAKS, "a client that joins the fetch of another one who leaves before its answer comes")
@pytest.mark.parametrize(
    ("alice", "bob", "lines"),
    [
        (alice, bob, lines)
        for alice, bob in ((ALICE, BOB), (A_TOKEN, B_TOKEN), ("X-User: alice", "X-User: bob"))
        for lines in (["Cache-Control: private"], ["Cache-Control: no-store"], ["Set-Cookie: s=1"], [])
        # What says nothing of itself to a field that nobody named may be shared by the route's ttl.
        if lines or not alice.startswith("X-User")
    ],
)
async def test_nobody_gets_the_answer_of_one_who_left(
    site: Site, alice: str, bob: str, lines: list[str]
) -> None:
    site.answers(personal(*lines, delay_s=0.1))
    leaving = asyncio.ensure_future(site.get("", alice))
    await asyncio.sleep(0.05)
    staying = asyncio.ensure_future(site.get("", bob))
    await asyncio.sleep(0.02)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    assert told(await staying) == bob.partition(": ")[2]


@attack(LEAKS, "a crowd of holders of Cookie, of Authorization and of nothing, all at once on one cold URL")
@pytest.mark.parametrize("at", ["", "/swr", "/forced", "/theirs/x"])
@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Cache-Control: private, max-age=60"],
        ["Cache-Control: max-age=60, Private"],
        ["Cache-Control: no-store"],
        ["Vary: Cookie, Authorization", "Cache-Control: public, max-age=60"],
        ["Set-Cookie: session=new", "Cache-Control: public, max-age=60"],
    ],
)
async def test_each_of_a_mixed_crowd_gets_its_own(site: Site, at: str, lines: list[str]) -> None:
    site.answers(personal(*lines, delay_s=0.03))
    people = ["", ALICE, BOB, A_TOKEN, B_TOKEN] * 3
    for _ in range(2):
        answers = await asyncio.gather(*(site.get(at, *([who] if who else [])) for who in people))
        assert [told(answer) for answer in answers] == [who.partition(": ")[2] or "nobody" for who in people]


@attack(LEAKS, "a Set-Cookie in an answer that many wait for")
async def test_a_cookie_is_set_for_one(site: Site) -> None:
    count = 0

    async def new_session(asked: Asked) -> None:
        nonlocal count
        count += 1
        cookie = f"Set-Cookie: session={count}"
        await asyncio.sleep(0.05)
        await asked.send(framed(b"welcome", cookie, "Cache-Control: public, max-age=60"))

    site.answers(new_session)
    answers = await asyncio.gather(*(site.get() for _ in range(20)))

    assert len({answer.get("set-cookie") for answer in answers}) == 20


# -- refreshing what is stored --


@attack(LEAKS, "a stale answer that a personal request refreshes in the background")
@pytest.mark.parametrize("line", [ALICE, A_TOKEN])
@pytest.mark.parametrize("lines", [[], ["Cache-Control: private"], ["Vary: Cookie, Authorization"]])
async def test_a_personal_refresh_is_not_stored_for_others(site: Site, line: str, lines: list[str]) -> None:
    site.answers(ok(b"for nobody", "Cache-Control: max-age=1, stale-while-revalidate=60", "Age: 2"))
    await site.get("/swr")
    site.answers(personal(*lines))
    await site.get("/swr", line)
    await asyncio.sleep(0.05)

    assert [told(await site.get("/swr")) for _ in range(3)] == ["nobody"] * 3


@attack(LEAKS, "a 304 with a personal field, or another Cache-Control, to a personal revalidation")
@pytest.mark.parametrize("line", [ALICE, A_TOKEN])
async def test_a_304_to_one_client_adds_nothing_of_his_to_what_is_stored(site: Site, line: str) -> None:
    async def validated(asked: Asked) -> None:
        if not asked.get("if-none-match"):
            return await ok(b"shared", 'ETag: "1"', "Cache-Control: public, max-age=60")(asked)
        who = asked.get("cookie") or asked.get("authorization")
        lines = (
            'ETag: "1"',
            "Set-Cookie: session=his",
            f"X-Account: {who}",
            "Cache-Control: private, max-age=60",
        )
        return await asked.send(("HTTP/1.1 304 Not Modified\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode())

    site.answers(validated)
    await site.get()
    own = await site.get("", line, "Cache-Control: no-cache")
    assert (own.status, own.get("set-cookie")) == (200, "session=his")

    clean = await site.unharmed()
    assert (clean.get("set-cookie"), clean.get("x-account")) == ("", "")


@attack(LEAKS, "HEAD by a client with credentials, whose answer freshens what is stored")
@pytest.mark.parametrize("line", [ALICE, A_TOKEN])
async def test_a_personal_head_freshens_nothing(site: Site, line: str) -> None:
    async def answers(asked: Asked) -> None:
        who = asked.get("cookie") or asked.get("authorization")
        lines = [f"X-Account: {who}", "Set-Cookie: session=his"] if who else []
        await ok(b"shared", "Cache-Control: public, max-age=60", *lines)(asked)

    site.answers(answers)
    await site.get()
    await site.get("", line, "Cache-Control: no-cache", method="HEAD")

    await site.unharmed()
    assert (await site.get()).get("x-account") == ""


@attack(LEAKS, 'a personal answer under no-cache="field" or private="field"')
async def test_a_field_that_is_named_private_is_not_stored(site: Site) -> None:
    site.answers(
        telling('Cache-Control: max-age=60, private="x-account, x-other"', "X-Account: his", "X-Kept: yes")
    )
    first, second = await site.get(), await site.get()

    assert [first.get("x-account"), second.get("x-account"), second.get("x-kept")] == ["his", "", "yes"]


# -- `per:` --


@attack(LEAKS, "the header of `per:` missing, empty, in another case, twice, or among others")
async def test_no_principal_is_taken_for_another(site: Site) -> None:
    async def answer(asked: Asked) -> None:
        names = [value for name, value in asked.fields if name.lower() == b"x-user"]
        await asked.send(framed(repr(names).encode(), "Cache-Control: private, max-age=60"))

    site.answers(answer, "/per")
    people = [
        [],
        [""],
        ["alice"],
        ["Alice"],
        ["alice", "bob"],
        ["bob", "alice"],
        ["alice,bob"],
        ["alice", ""],
        ["", "alice"],
    ]
    for _ in range(2):
        for person in people:
            got = await site.get("/per", *(f"X-User: {name}" for name in person))
            assert got.body == repr([name.encode() for name in person]).encode()
    # Each principal's private answer is kept for it; nobody's is for nobody.
    assert len([asked for asked in site.asked if b"X-User" in asked.head]) == len(people) - 1


@attack(LEAKS, "a Cookie or Authorization beside the header of `per:`")
async def test_per_one_header_another_one_is_still_personal(site: Site) -> None:
    site.answers(personal())
    for line in (ALICE, BOB, A_TOKEN, ""):
        lines = [line] if line else []
        got = await site.get("/per", "X-User: same", *lines)
        assert told(got) == (line.partition(": ")[2] or "same")


@attack(LEAKS, "one token in two spellings, and two tokens that are equal but for case or space")
async def test_per_a_token_is_exactly_that_token(site: Site) -> None:
    site.answers(telling(of="authorization"), "/by-token")
    tokens = ["Bearer a", "bearer a", "Bearer A", "Bearer  a", "Bearer a,b", "Basic a"]
    for token in tokens * 2:
        assert (await site.get("/by-token", f"Authorization: {token}")).body.decode() == token
    assert len(site.asked) == len(tokens)


# -- deception: the victim is led to a URL that looks static --

TRICKS = [
    "/account",
    "/account/profile.css",
    "/account/x/logo.png",
    "/account;x.css",
    "/account;.js",
    "/account%2fstatic.css",
    "/account%2f..%2fstatic.css",
    "/static/..%2faccount",
    "/static/%2e%2e/account",
    "/account%3fx.css",
    "/account%23x.css",
    "/account%00.css",
    "/account%0ax.css",
    "/account.css",
    "/account?x.css",
    "/account/.css",
    "//account.js",
]


@attack(
    DECEPTION,
    "a logged-in victim is sent to a URL that looks static; the API answers with his page and no Cache-Control",
)
@pytest.mark.parametrize("line", [ALICE, A_TOKEN])
@pytest.mark.parametrize("at", TRICKS)
async def test_a_page_of_a_session_is_not_kept_because_of_its_url(site: Site, at: str, line: str) -> None:
    site.answers(personal())
    victim = await site.get(at, line)
    assert told(victim) == line.partition(": ")[2]

    assert told(await site.get(at)) == "nobody"
    assert told(await site.get(at, BOB)) == "session=bob"
    await site.unharmed_and_cached(at)


@attack(
    DECEPTION,
    "a victim's page with a freshness or `public` beside what forbids to share it",
)
@pytest.mark.parametrize(
    "lines",
    [
        ["Cache-Control: public, max-age=60", "Set-Cookie: session=new"],
        ["Cache-Control: public, private"],
        ["Cache-Control: public, max-age=60, no-store"],
        ["Cache-Control: max-age=60", "Cache-Control: private"],
        ["Cache-Control: public, max-age=60", "Vary: Cookie"],
        ["Cache-Control: public, max-age=60", "Vary: Accept-Encoding, cookie"],
        ["Cache-Control: public, max-age=60", "Vary: *"],
        ['Cache-Control: public, max-age="60'],
        ["Cache-Control: public, max-age=0"],
        ["Expires: 0"],
        ["CDN-Cache-Control: max-age=60, private", "Cache-Control: public, max-age=60"],
    ],
)
async def test_what_forbids_to_share_a_page_goes_before_what_allows_it(site: Site, lines: list[str]) -> None:
    site.answers(personal(*lines))
    assert told(await site.get("/account.css", ALICE)) == "session=alice"

    assert told(await site.get("/account.css", BOB)) == "session=bob"
    assert told(await site.get("/account.css")) == "nobody"


@attack(DECEPTION, "a victim's page on a route with force_ttl, whatever the API says")
@pytest.mark.parametrize("lines", [[], ["Cache-Control: public, max-age=60"], ["Cache-Control: no-cache"]])
async def test_a_forced_ttl_makes_no_session_s_page_everybody_s(site: Site, lines: list[str]) -> None:
    site.answers(personal(*lines))
    assert told(await site.get("/forced", ALICE)) == "session=alice"

    assert told(await site.get("/forced")) == "nobody"
    assert told(await site.get("/forced", BOB)) == "session=bob"


@attack(DECEPTION, "an answer to Authorization that has a freshness but does not say that it may be shared")
@pytest.mark.parametrize(
    "lines", [["Cache-Control: max-age=60"], ["Expires: Thu, 01 Jan 2099 00:00:00 GMT"], []]
)
@pytest.mark.parametrize("at", ["", "/theirs/x", "/forced"])
async def test_an_authorized_answer_is_its_holder_s(site: Site, at: str, lines: list[str]) -> None:
    site.answers(personal(*lines))
    assert told(await site.get(at, A_TOKEN)) == "Bearer alice"

    assert told(await site.get(at, B_TOKEN)) == "Bearer bob"
    assert told(await site.get(at)) == "nobody"
