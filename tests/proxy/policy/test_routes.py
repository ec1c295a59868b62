import re
from time import perf_counter
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.routes import (
    BadPattern,
    RouteTable,
    compile_match,
    meant_name,
    params_in,
    prepare,
    route_name,
    select_query,
    unsafe,
    url_of,
)
from proxy.settings import Route


def table(*matches: str) -> RouteTable:
    return RouteTable.of(tuple(Route(match=match, name=f"r{at}") for at, match in enumerate(matches)))


def found(routes: RouteTable, path: str, method: str = "GET") -> tuple[str, dict[str, str]] | None:
    match = routes.find(method, path)
    return None if match is None else (match.route.name, dict(match.params))


# -- match --


@pytest.mark.parametrize(
    ("pattern", "path", "params"),
    [
        pytest.param("/a", "/a", {}, id="literal"),
        pytest.param("/a", "/a/", None, id="literal and a slash more"),
        pytest.param("/a", "/A", None, id="paths have a case"),
        pytest.param("/a", "/ab", None, id="literal and more"),
        pytest.param("/a", "x/a", None, id="literal and something before"),
        pytest.param("/a.json", "/axjson", None, id="a dot is a dot"),
        pytest.param("/a+(b)", "/a+(b)", {}, id="nothing is a regular expression"),
        pytest.param("/a+(b)", "/aa(b)", None, id="nothing repeats"),
        pytest.param("/a/{id}", "/a/7", {"id": "7"}, id="param"),
        pytest.param("/a/{id}", "/a/", None, id="a param is never empty"),
        pytest.param("/a/{id}", "/a/7/b", None, id="a param never crosses a slash"),
        pytest.param("/a/{id}/b", "/a/7/8/b", None, id="nor does it to reach what follows"),
        pytest.param("/a/{id}", "/a/7%2F8", {"id": "7%2F8"}, id="an encoded slash is no slash"),
        pytest.param("/a%2Fb", "/a/b", None, id="an encoded slash in the match is none either"),
        pytest.param("/a/{id}", "/a/..", {"id": ".."}, id="dots are never interpreted"),
        pytest.param("/a/{id}", "/a/7\n", {"id": "7\n"}, id="a newline is a byte like others"),
        pytest.param("/a", "/a\n", None, id="and never passed over"),
        pytest.param("/a/{id}", "/a/\udcff", {"id": "\udcff"}, id="bytes that are no UTF-8"),
        pytest.param("/a/{id}", "/a/é", {"id": "é"}, id="UTF-8"),
        pytest.param("/é", "/é", {}, id="UTF-8 in the match"),
        pytest.param("/{a}/{b}", "/1/2", {"a": "1", "b": "2"}, id="two params"),
        pytest.param("/e-{id}.json", "/e-7.json", {"id": "7"}, id="a param between literals"),
        pytest.param("/e-{id}.json", "/e-7.json.json", {"id": "7.json"}, id="as much as it can be"),
        pytest.param("/e-{id}.json", "/e-.json", None, id="never empty between literals"),
        pytest.param("/{_0_a}/{a}", "/1/2", {"_0_a": "1", "a": "2"}, id="names that look like inner ones"),
        pytest.param("/**", "/", {}, id="** of nothing"),
        pytest.param("/**", "/a/b", {}, id="** crosses slashes"),
        pytest.param("/**", "/a\nb", {}, id="** crosses newlines"),
        pytest.param("/**", "*", None, id="** is of paths alone, not of OPTIONS *"),
        pytest.param("/**", "http://a/b", None, id="nor of the absolute form"),
        pytest.param("/a/**", "/a", None, id="** wants its slash"),
        pytest.param("/a/{id}/**", "/a/7/b/c", {"id": "7"}, id="** after a param"),
        pytest.param("/", "/", {}, id="root"),
        pytest.param("/", "", None, id="no path at all"),
    ],
)
def test_a_match_takes_the_paths_it_says(pattern: str, path: str, params: dict[str, str] | None) -> None:
    assert (None if params is None else ("r0", params)) == found(table(pattern), path)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        pytest.param("a", "must start with `/`", id="no slash"),
        pytest.param("", "must start with `/`", id="empty"),
        pytest.param("/a?b", "`?` cannot be in a path; query parameters belong to `query:`", id="query"),
        pytest.param("/a#b", "`#` cannot be in a path; query parameters belong to `query:`", id="fragment"),
        pytest.param("/a b", "` ` cannot be in a path; query parameters belong to `query:`", id="space"),
        pytest.param("/**/a", "`**` may only be the last segment; one segment is `{name}`", id="** inside"),
        pytest.param("/a*", "`**` may only be the last segment; one segment is `{name}`", id="a single *"),
        pytest.param(
            "/a**", "`**` may only be the last segment; one segment is `{name}`", id="not a segment"
        ),
        pytest.param("/{a}/{a}", "a param is named twice", id="twice"),
        pytest.param("/{a", "an unpaired brace: a param is written `{name}`", id="unpaired"),
        pytest.param("/{{a}}", "an unpaired brace: a param is written `{name}`", id="doubled"),
        pytest.param(
            "/{}", "`{}` is no param: letters, digits and `_`, not beginning with a digit", id="no name"
        ),
        pytest.param(
            "/{1a}", "`{1a}` is no param: letters, digits and `_`, not beginning with a digit", id="a digit"
        ),
        pytest.param(
            "/{a}{b}",
            "one segment has two params; write one, such as `{name}` for the whole segment",
            id="adjacent",
        ),
        pytest.param(
            "/x/{a}-{b}/y",
            "one segment has two params; write one, such as `{name}` for the whole segment",
            id="two in a segment",
        ),
    ],
)
def test_a_match_that_cannot_be_read_says_why(pattern: str, message: str) -> None:
    with pytest.raises(BadPattern) as refused:
        compile_match(pattern)

    assert message == str(refused.value)


def test_the_params_of_a_template_come_in_its_order() -> None:
    assert params_in("event:{b}:{a}") == ("b", "a")


@pytest.mark.parametrize(
    ("match", "name"),
    [
        pytest.param("/api/events/{id}", "api-events-id", id="words"),
        pytest.param("/a_b/c.json", "a_b-c.json", id="with dots and underscores"),
        pytest.param("/**", "all", id="all"),
        pytest.param("/", "root", id="root"),
        pytest.param("/é", "root", id="nothing to make a name of"),
        pytest.param("/" + "a" * 99, "a" * 64, id="64 characters"),
    ],
)
def test_a_route_is_named_after_its_match(match: str, name: str) -> None:
    assert name == prepare(Route(match=match)).name == route_name(match)


# -- the table --


def test_the_first_route_that_matches_wins() -> None:
    routes = table("/a/{id}", "/a/7", "/a/**", "/**")

    assert [("r0", {"id": "7"}), ("r2", {}), ("r3", {})] == [
        found(routes, path) for path in ("/a/7", "/a/7/8", "/b")
    ]


def test_head_is_a_get_and_a_method_without_routes_matches_nothing() -> None:
    routes = RouteTable.of((Route(match="/a"), Route(match="/**", methods=("POST", "PUT"))))

    names = [
        (found(routes, "/a", method) or ("-",))[0] for method in ("GET", "HEAD", "POST", "PUT", "DELETE")
    ]
    assert ["a", "a", "all", "all", "-"] == names


def test_an_empty_table_matches_nothing() -> None:
    assert found(RouteTable(), "/") is None


def test_whether_a_route_caches_is_whether_it_takes_get() -> None:
    routes = [prepare(Route(match="/a")), prepare(Route(match="/a", methods=("POST",)))]

    assert [True, False] == [route.caches for route in routes]


def test_a_prepared_routes_headers_have_no_case_no_order_and_no_doubles() -> None:
    route = prepare(Route(match="/a", vary=("X-B", "x-a", "x-b"), per="X-User"))

    assert ((b"x-a", b"x-b"), b"x-user") == (route.vary, route.per)


SEGMENTS = st.sampled_from(["a", "b", "{p}", "{p}.x", "x{p}", "a.b"])
PATTERNS = st.lists(SEGMENTS, max_size=3).map(
    lambda segments: "/" + "/".join(piece.replace("p}", f"p{at}}}") for at, piece in enumerate(segments))
)
PATHS = st.lists(st.text("abx.", max_size=3), max_size=4).map(lambda segments: "/" + "/".join(segments))


def naive(pattern: str, path: str) -> bool:
    rest = pattern.endswith("/**")
    theirs, ours = path.split("/"), pattern.removesuffix("/**").split("/")
    if len(theirs) < len(ours) + rest or (len(theirs) > len(ours) and not rest):
        return False
    for literal, segment in zip(ours, theirs, strict=False):
        before, brace, after = literal.partition("{")
        after = after.partition("}")[2]
        middle = segment[len(before) : len(segment) - len(after)]
        fits = segment == before + middle + after and middle
        if not (fits if brace else segment == literal):
            return False
    return True


@given(
    st.lists(st.builds(str.__add__, PATTERNS, st.sampled_from(["", "", "/**"])), min_size=1, max_size=6),
    PATHS,
)
def test_one_expression_for_all_routes_finds_what_trying_each_would(patterns: list[str], path: str) -> None:
    patterns = [pattern.replace("//**", "/**") for pattern in patterns]
    expected = next((f"r{at}" for at, pattern in enumerate(patterns) if naive(pattern, path)), None)
    match = table(*patterns).find("GET", path)

    assert expected == (match.route.name if match else None)


def test_many_routes_that_begin_with_a_param_are_not_copied_for_each_that_does_not() -> None:
    params = [Route(match=f"/{{a}}/{{b}}/x{number}") for number in range(200)]
    plain = [Route(match=f"/y{number}/z") for number in range(200)]
    table = RouteTable.of((*params, *plain))

    found = [table.find("GET", path) for path in ("/y7/z", "/y7/z/x3", "/y7/z/w")]
    assert [plain[7], params[3], None] == [None if match is None else match.route.settings for match in found]
    assert len(table._groups) == 1


def test_200_routes_are_told_apart() -> None:
    routes = table(*(f"/api/v{n}/{{id}}/x{n}.json" for n in range(200)))

    assert [(f"r{n}", {"id": str(n)}) for n in range(200)] == [
        found(routes, f"/api/v{n}/{n}/x{n}.json") for n in range(200)
    ]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/" + "a" * 8000, id="one long segment"),
        pytest.param("/" + "a.x" * 2600 + "\n", id="a segment full of ends"),
        pytest.param("/a" * 4000, id="many segments"),
        pytest.param("/" + "/" * 8000, id="many empty segments"),
    ],
)
def test_no_path_of_8_kb_is_slow_on_200_routes(path: str) -> None:
    shapes = ("/{a}/%d", "/a{b}a%d", "/{a}.x%d", "/{a}/{b}/{c}/{d}/%d", "/a/{b}/**/%d".replace("/**", ""))
    routes = table(*(shapes[n % len(shapes)] % n for n in range(200)))
    began = perf_counter()
    found(routes, path)

    assert perf_counter() - began < 0.25  # 0.02 in fact


# -- tags --


@pytest.mark.parametrize(
    ("path", "tag"),
    [
        pytest.param("/events/42", "event:42", id="as sent"),
        pytest.param("/events/%34%32", "event:42", id="RFC 3986 6.2.2.2 in another spelling"),
        pytest.param("/events/caf%C3%A9", "event:café", id="UTF-8"),
        pytest.param("/events/caf\u00e9", "event:café", id="UTF-8 as sent"),
        pytest.param("/events/a%2Fb", "event:a/b", id="an encoded slash"),
        pytest.param("/events/%FF", "event:\udcff", id="no UTF-8"),
        pytest.param("/events/%zz", "event:%zz", id="no encoding"),
        pytest.param("/events/{id}", "event:{id}", id="a value is no template"),
    ],
)
def test_tags_name_what_the_path_names_in_whatever_spelling(path: str, tag: str) -> None:
    route = Route(match="/events/{id}", tags=("event:{id}",), purge=("event:{id}", "events"))
    match = RouteTable.of((route,)).find("GET", path)

    assert match is not None
    assert ((tag,), (tag, "events")) == (match.tags, match.purges)


# -- the query --


@pytest.mark.parametrize(
    ("query", "wanted", "expected"),
    [
        pytest.param(b"b=2&a=1", "all", b"a=1&b=2", id="sorted"),
        pytest.param(b"b=2&a=2&a=1", "all", b"a=2&a=1&b=2", id="equal names keep their order"),
        pytest.param(b"a&a=&a=1", "all", b"a&a=&a=1", id="a, a= and a=1 are three things"),
        pytest.param(b"&&a=1&", "all", b"a=1", id="empty parameters"),
        pytest.param(b"", "all", b"", id="empty"),
        pytest.param(b"=1&a=2", "all", b"=1&a=2", id="a parameter without a name"),
        pytest.param(
            b"a=x&%61=y&a=z", "all", b"a=x&%61=y&a=z", id="names that may be equal keep their order"
        ),
        pytest.param(b"B=1&a=2", "all", b"a=2&B=1", id="capitals"),
        pytest.param(b"b=1;a=2&a=3", "all", b"b=1;a=2&a=3", id="a semicolon: as sent"),
        pytest.param(b"a=1&b=2", "none", b"", id="none"),
        pytest.param(b"%61=1", "none", b"", id="none, in any spelling"),
        pytest.param(b"c=3&b=2&a=1", ("a", "b"), b"a=1&b=2", id="chosen"),
        pytest.param(b"utm=1&utm_x=2&aa=3&xa=4", ("a",), b"", id="others are left out"),
        pytest.param(b"a", ("a",), b"a", id="chosen, without a value"),
        pytest.param(b"ab=1&a-b=1&a_b=1", ("a",), b"", id="longer names are others"),
        pytest.param(b"%61=1", ("a",), b"%61=1", id="chosen, percent-encoded"),
        pytest.param(b"A=1", ("a",), b"A=1", id="chosen, where case may not count"),
        pytest.param(b"a=1", ("A",), b"a=1", id="chosen, where case may not count, the other way"),
        pytest.param(b"a[]=1&a[x]=2&a%5B0%5D=3", ("a",), b"a[]=1&a[x]=2&a%5B0%5D=3", id="chosen, as a list"),
        pytest.param(b"a.b=1&a+b=2&a%20b=3", ("a_b",), b"a.b=1&a+b=2&a%20b=3", id="chosen, as PHP reads it"),
        pytest.param(b"a[b=1", ("a_b",), b"a[b=1", id="chosen, as PHP reads a bracket"),
        pytest.param(b"+a=1&%00=2&a%00b=3", ("a",), b"+a=1&a%00b=3", id="chosen, with white space and NUL"),
        pytest.param(b"x=1;a=2&y=3", ("a",), b"x=1;a=2", id="chosen, behind a semicolon"),
        pytest.param(b"x=1;y=2&a=3", ("a",), b"a=3", id="a semicolon without it"),
        pytest.param(b"x=a&y=a=1", ("a",), b"", id="values are no names"),
    ],
)
def test_the_parameters_that_count_are_in_the_key(
    query: bytes, wanted: str | tuple[str, ...], expected: bytes
) -> None:
    route = prepare(Route(match="/a", query=wanted))  # type: ignore[arg-type]

    assert expected == select_query(query, route.query)


PAIRS = st.sampled_from(
    [b"a=1", b"a=2", b"%61=3", b"a[]=4", b"A=5", b"b=6", b"b", b"%62=", b"c;a=7", b"", b"d"]
)


@given(st.lists(PAIRS, max_size=5), st.lists(PAIRS, max_size=5))
def test_requests_share_a_key_only_if_an_api_reads_the_same_from_them(
    one: list[bytes], other: list[bytes]
) -> None:
    wanted = frozenset({b"a"})

    def read(pieces: list[bytes], separator: str) -> list[tuple[str, str]]:
        query = b"&".join(pieces).decode()
        pairs = parse_qsl(query, keep_blank_values=True, separator=separator)
        return [(name, value) for name, value in pairs if name in {"a", "A", "a[]"}]

    if select_query(b"&".join(one), wanted) == select_query(b"&".join(other), wanted):
        assert read(one, "&") == read(other, "&")


@given(st.lists(PAIRS, max_size=5))
def test_selecting_again_changes_nothing(pieces: list[bytes]) -> None:
    once = select_query(b"&".join(pieces), None)

    assert once == select_query(once, None)


@given(st.binary(max_size=30))
def test_every_name_has_one_meaning_and_its_spelling_none(name: bytes) -> None:
    spelt = b"".join(b"%%%02X" % byte for byte in name)

    assert meant_name(re.sub(rb"[&;=+%]", b"", name)) == meant_name(re.sub(rb"%(26|3B|3D|2B|25)", b"", spelt))


def test_a_hostile_query_of_8_kb_is_read_in_no_time() -> None:
    began = perf_counter()
    for query in (b"%61&" * 2000, b";" * 8000, b"&" * 8000, b"[" * 8000, b"%" * 8000):
        select_query(query, frozenset({b"a"}))

    assert perf_counter() - began < 0.25


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(b"/a?b=2&a=1", b"/a?a=1&b=2", id="with a query"),
        pytest.param(b"/a?", b"/a", id="an empty query"),
        pytest.param(b"/a", b"/a", id="no query"),
        pytest.param(b"/a?b?c=1", b"/a?b?c=1", id="a question mark in the query"),
    ],
)
def test_the_url_that_counts_is_the_path_and_the_chosen_query(target: bytes, expected: bytes) -> None:
    assert expected == url_of(prepare(Route(match="/a", query="sorted")), target)


@pytest.mark.parametrize("target", [b"/a?b=2&a=1", b"/a?", b"/a", b"/a?&&b"])
def test_all_of_a_query_counts_as_it_was_sent(target: bytes) -> None:
    assert target == url_of(prepare(Route(match="/a")), target)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        pytest.param("GET", False, id="GET"),
        pytest.param("HEAD", False, id="HEAD"),
        pytest.param("OPTIONS", False, id="OPTIONS"),
        pytest.param("TRACE", False, id="TRACE"),
        pytest.param("POST", True, id="POST"),
        pytest.param("DELETE", True, id="DELETE"),
        pytest.param("get", True, id="RFC 9110 9.1 methods have a case"),
        pytest.param("FROBNICATE", True, id="RFC 9111 4.4 a method that nobody knows"),
    ],
)
def test_a_method_is_unsafe_unless_it_is_known_to_be_safe(method: str, *, expected: bool) -> None:
    assert expected == unsafe(method)
