"""Two requests that some API sees as different never share an answer, however they are spelt; and writes purge all the same."""

import re
from itertools import combinations, permutations
from urllib.parse import unquote

import pytest

from tests.claims import attack
from tests.flow.attacks.site import Site, telling
from tests.flow.client import request
from tests.flow.origin import Asked, framed, numbered, ok

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOAKING = "parameter cloaking"
PATHS = "path confusion"
INJECTION = "key injection"


@pytest.fixture(scope="module")
def config() -> str:
    return """
routes:
  - {match: "/{site}/queried", ttl: 1m, query: [status]}
  - {match: "/{site}/dotted", ttl: 1m, query: [user.name]}
  - {match: "/{site}/none", ttl: 1m, query: none}
  - {match: "/{site}/varied", ttl: 1m, vary: [x-a, x-b]}
  - {match: "/{site}/per", ttl: 1m, per: x-user, store: {private: true}}
  - {match: "/{site}/kept/{id}", ttl: 1m, tags: ["kept:{id}"]}
  - {match: "/{site}/kept/{id}", name: change, methods: [PUT], purge: ["kept:{id}"]}
  - {match: "/**", ttl: 1m}
"""


def names(piece: str) -> list[str]:
    """What frameworks may take a parameter's name for."""
    raw = piece.partition("=")[0]
    decoded = unquote(raw.replace("+", " "), "latin-1")
    folded = decoded.strip().lower()
    php = re.split(r"[\[\0]", re.sub(r"[. ]|\[(?!.*\])", "_", folded), maxsplit=1)[0]
    return [raw, decoded, folded, php, folded.split("\0")[0], re.split(r"[\[\0]", folded, maxsplit=1)[0]]


def readings(query: str, wanted: str) -> list[tuple[str, ...]]:
    """The values of a parameter, to every framework that we know of."""
    found = []
    for separator in ("&", "[&;]"):
        pieces = [piece for piece in re.split(separator, query) if piece]
        for reading in range(6):
            values = [piece.partition("=")[2] for piece in pieces if names(piece)[reading] == wanted]
            found.append(tuple(values))
    return found


async def by_parameter(asked: Asked) -> None:
    """An API that is all frameworks at once."""
    _, _, query = asked.target.partition("?")
    wanted = "user_name" if "/dotted" in asked.target else "status"
    await asked.send(framed(repr(readings(query, wanted)).encode()))


CLOAKED = [
    "utm_content=1;status=x",
    "status=1;status=x",
    "status=1&status=x",
    "status=x&status=1",
    "%73tatus=x",
    "%73%74%61%74%75%73=x",
    "s%54atus=x",
    "Status=x",
    "STATUS=x",
    "status[]=x",
    "status[0]=x",
    "status%5b%5d=x",
    "status%5B0%5D=x",
    "status%00=x",
    "status%00evil=x",
    "status=1%00x",
    "+status=x",
    "status+=x",
    "%20status=x",
    "utm=1%26status=x",
    "utm=1%3bstatus=x",
    "utm=1;%73tatus=x",
    "utm=1;;status=x",
    ";status=x",
    "&&status=x",
    "=&status=x",
    "=x",
    "status",
    "status=",
    "status==x",
    "status=1?status=x",
    "?status=x",
    "status=%3Fx",
    "status=1#status=x".replace("#", "%23"),
    "status=%31",
    "status=1%",
    "status=1%zz",
]


@attack(
    CLOAKING, "spellings of a parameter in the key that some API reads and others don't, on `query:` routes"
)
@pytest.mark.parametrize("query", CLOAKED)
@pytest.mark.parametrize("first", ["", "status=1&", "status=2&"])
async def test_a_cloaked_parameter_plants_nothing(site: Site, query: str, first: str) -> None:
    site.answers(by_parameter)
    await site.get(f"/queried?{first}{query}")

    await site.unharmed_and_cached("/queried?status=1")
    await site.unharmed_and_cached("/queried")
    await site.unharmed("/queried?status=x")
    await site.unharmed("/queried?status=2&utm=1")


@attack(CLOAKING, "one parameter behind another's `;`, in both orders")
async def test_semicolons_keep_their_order(site: Site) -> None:
    site.answers(by_parameter)
    pieces = ("status=1", "b=2;status=3", "utm=4")
    for order in permutations(pieces):
        await site.unharmed("/queried?" + "&".join(order))


@attack(CLOAKING, "names that PHP turns into a selected one")
@pytest.mark.parametrize(
    "query", ["user.name=x", "user_name=x", "user name=x", "user+name=x", "user[name=x", "User.Name=x"]
)
async def test_a_name_that_becomes_another_plants_nothing(site: Site, query: str) -> None:
    site.answers(by_parameter)
    await site.get("/dotted?" + query.replace(" ", "%20"))

    await site.unharmed_and_cached("/dotted")
    await site.unharmed_and_cached("/dotted?user.name=1")


@attack(CLOAKING, "`?`, `#`, NUL and their encodings at the end of the path")
@pytest.mark.parametrize(
    "at", ["/none?", "/none??", "/none%3F", "/none%3fstatus=x", "/none%23", "/none%00", "/none%2500"]
)
async def test_an_encoded_end_of_the_path_is_part_of_it(site: Site, at: str) -> None:
    async def by_path(asked: Asked) -> None:
        await ok(asked.target.partition("?")[0].encode())(asked)

    site.answers(by_path)
    planted = await site.get(at)
    await site.unharmed_and_cached("/none")

    assert planted.body == f"{site.path}{at.partition('?')[0]}".encode()
    await site.unharmed(at)


@attack(CLOAKING, "a fragment, a backslash or a control character in the target")
@pytest.mark.parametrize(
    "odd", [b"#status=x", b"?a=\x00", b"\\..\\b", b"?a=\r", b"?a=\x7f", b" status=x", b"\t"]
)
async def test_what_is_in_no_target_is_refused_or_passed_on_whole(site: Site, odd: bytes) -> None:
    target = site.path.encode() + b"/none" + odd
    answer = await site.send(b"GET " + target + b" HTTP/1.1\r\nHost: api.test\r\n\r\n")
    if answer.status == 400:
        assert site.asked == []
    else:
        assert target in answer.body
    await site.unharmed_and_cached("/none")


# -- paths --

SPELLINGS = [
    "/a/b",
    "/a/./b",
    "/a/../b",
    "/a/x/../b",
    "//a/b",
    "/a//b",
    "/a%2fb",
    "/a%2Fb",
    "/a%2f..%2fb",
    "/a/%2e%2e/b",
    "/a/.%2e/b",
    "/a;x/b",
    "/a/b;x",
    "/a/b;",
    "/a\\b",
    "/a%5cb",
    "/a/b/",
    "/a/b.",
    "/a/b%20",
    "/a/b%00",
    "/a/b%00.css",
    "/a/%62",
    "/%61/b",
    "/a/%2562",
    "/A/b",
    "/a/B",
    "/a/b%c3%a4",
    "/a/b%C3%A4",
    "/a/b\u00c3\u00a4",
    "/a/b%u0062",
    "/a/b..;/",
    "/a/..;/b",
    "/a/b~",
    "/a/b%7e",
    "/a/b+",
    "/a/b%2b",
]


@attack(PATHS, "two spellings of a path that an API may or may not take for one")
async def test_no_two_spellings_of_a_path_share_an_answer(site: Site) -> None:
    for _ in range(2):
        for at in SPELLINGS:
            assert f"{site.path}{at} ".encode("latin-1") in (await site.get(at)).body
    assert len({(await site.get(at)).body for at in SPELLINGS}) == len(SPELLINGS)
    assert len(site.asked) == len(SPELLINGS)


@attack(PATHS, "a path that leads out of its route to what another route keeps")
@pytest.mark.parametrize(
    "way", ["/x/../queried", "/x/..%2fqueried", "/./queried", "//queried", "/queried/", "/queried/."]
)
async def test_a_way_around_a_route_is_not_that_route_s(site: Site, way: str) -> None:
    site.answers(telling(of="x-planted"))
    await site.get(f"{way}?status=1", "X-Planted: evil")

    await site.unharmed_and_cached("/queried?status=1")


@attack(PATHS, "a write in another spelling of the path, so that it misses its purge")
@pytest.mark.parametrize(
    "spelling", ["/kept/7", "/kept/%37", "/%6Bept/7", "/%6b%65%70%74/%37", "/kept/7?x=1", "/kept/7?"]
)
async def test_a_write_in_an_odd_spelling_still_purges(site: Site, spelling: str) -> None:
    await odd_write_purges(site, spelling)


@attack(
    PATHS,
    "a write by a way that a normalising API follows (dot segments, empty ones, `;`), so that it misses its purge",
)
@pytest.mark.parametrize(
    "spelling",
    [
        "/kept/./7",
        "/kept//7",
        "/x/../kept/7",
        "/kept/x/..%2f7",
        "/kept/%2e/7",
        "/kept/7;x=1",
        "/kept/7/",
        "//kept/7",
    ],
)
async def test_a_write_by_a_detour_still_purges(site: Site, spelling: str) -> None:
    await odd_write_purges(site, spelling)


async def odd_write_purges(site: Site, spelling: str) -> None:
    site.answers(numbered(), "/kept/7")
    before = await site.get("/kept/7")
    assert (await site.get("/kept/7")).cache.startswith("hit")
    site.answers(ok(), spelling)
    await site.get(spelling, method="PUT", body=b"news")
    # Only the longest path counts, which the write's own answer has just taken.
    site.answers(numbered("X-After: yes"), "/kept/7")

    after = await site.get("/kept/7")
    assert (before.get("x-after"), after.get("x-after")) == ("", "yes")


@attack(
    PATHS, "a write in absolute form, under another Host, or with an override, so that it misses its purge"
)
async def test_a_write_under_another_name_still_purges(site: Site) -> None:
    site.answers(numbered(), "/kept/7")
    bodies = [(await site.get("/kept/7")).body]
    for data in (
        request(f"http://api.test{site.path}/kept/7", method="PUT", body=b"x"),
        request(f"{site.path}/kept/7", "Host: other.test", method="PUT", body=b"x"),
        request(f"{site.path}/kept/7", "X-HTTP-Method-Override: GET", method="PUT", body=b"x"),
    ):
        await site.send(data)
        bodies.append((await site.get("/kept/7")).body)

    assert len(set(bodies)) == len(bodies)


# -- keys --


@attack(
    INJECTION, "values of Vary that hold our own delimiters, lengths and marks, shifted between two fields"
)
async def test_values_of_vary_do_not_run_into_one_another(site: Site) -> None:
    values = [None, "", "-", "+", "+-", "1:", "1:a", "x-b:1:a", "a", "a,b", "a\tb", "-x-b:1:", "0:", "+1:+"]
    cases = [
        [f"{name}: {value}" for name, value in zip(("X-A", "X-B"), pair, strict=True) if value is not None]
        for pair in [(one, other) for one in values for other in values]
    ]
    for at, answer in (("/varied", telling()), ("/by-the-api", telling("Vary: X-A, X-B"))):
        site.answers(answer, at)
        got = [(await site.get(at, *lines)).body for lines in cases]
        assert len(set(got)) == len(cases)
    # More than max_variants by the API's Vary; the route's own are other keys.
    assert [(await site.get("/varied", *lines)).cache[:3] for lines in cases] == ["hit"] * len(cases)


@attack(INJECTION, "two principals whose headers are equal when joined")
async def test_principals_do_not_collide_by_concatenation(site: Site) -> None:
    site.answers(telling("Cache-Control: private, max-age=60"), "/per")
    people = [
        ["ab"],
        ["a", "b"],
        ["b", "a"],
        ["a,b"],
        ["a, b"],
        ["", "ab"],
        ["ab", ""],
        [""],
        [],
        ["1:a1:b"],
        ["AB"],
        ['"ab"'],
    ]
    told = {}
    for person in people:
        lines = [f"X-User: {name}" for name in person]
        told[repr(person)] = (await site.get("/per", *lines)).body
        assert (await site.get("/per", *lines)).body == told[repr(person)]

    assert len(set(told.values())) == len(people)


@attack(INJECTION, "a path, query or Host that is made to look like another part of the key")
async def test_parts_of_the_key_are_not_taken_for_one_another(site: Site) -> None:
    cases = [
        ("/k", "Host: a.test"),
        ("/k?3:x", "Host: a.test"),
        ("/k", "Host: a.test:1"),
        ("/k:1", "Host: a.test"),
        ("/k", "Host: a.test:"),
        ("/k0:", "Host: a.test"),
        ("/k.0000", "Host: a.test"),
        ("/k", "Host: 4:a.t"),
    ]
    bodies = {case: (await site.get(*case)).body for case in cases[:-1]}
    assert len(set(bodies.values())) == len(bodies)
    for one, other in combinations(bodies, 2):
        assert (await site.get(*one)).body != (await site.get(*other)).body
    # Two colons are no host.
    assert (await site.get(*cases[-1])).status == 400


@attack(INJECTION, "URLs as long as may be, that differ in their last byte")
async def test_long_urls_are_told_apart_to_their_last_byte(site: Site) -> None:
    room = 8190 - len(f"GET {site.path}/? HTTP/1.1")
    ends = ["a", "b", "%61"]
    bodies = [(await site.get("/?" + "x" * (room - len(end)) + end)).body for end in ends * 2]
    assert len(set(bodies)) == 3
    assert (await site.get("/?" + "x" * (room + 1))).status == 414


@attack(INJECTION, "bytes that are no UTF-8 or no ASCII in path and query")
async def test_bytes_that_are_no_text_are_told_apart(site: Site) -> None:
    odd = [
        "/\xff",
        "/\xfe",
        "/\udcff".encode("utf-8", "surrogatepass").decode("latin-1"),
        "/%ff",
        "/?\xff",
        "/?\xfe",
    ]
    for _ in range(2):
        assert len({(await site.get(at)).body for at in odd}) == len(odd)
