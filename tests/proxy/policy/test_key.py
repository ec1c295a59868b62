import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.key import ANY_HOST, Key, key_of, principal, variant, vary_value
from proxy.policy.routes import prepare
from proxy.settings import Route, StorePolicy
from proxy.wire.fields import Fields

ALL = prepare(Route(match="/**", name="all"))
PER_USER = prepare(Route(match="/**", name="all", per="X-User", vary=("Accept-Language",)))
HOST: Fields = ((b"Host", b"a.example"),)


def text(target: bytes = b"/a", fields: Fields = HOST, route: Route | None = None) -> str:
    return key_of(prepare(route) if route else ALL, target, fields).text


def test_a_key_is_short_and_says_only_whose_it_is() -> None:
    kind, namespace, digest = text().split(":")

    assert ("e", ALL.namespace, 32) == (kind, namespace, len(digest))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(HOST, ((b"host", b"A.EXAMPLE"),), id="RFC 9110 4.2.3 hosts have no case"),
        pytest.param(HOST, (*HOST, (b"X-Whatever", b"1")), id="fields that nothing names"),
    ],
)
def test_what_changes_no_answer_changes_no_key(one: Fields, other: Fields) -> None:
    assert text(fields=one) == text(fields=other)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((), id="no host"),
        pytest.param(((b"Host", b"b.example"),), id="another host"),
        pytest.param(((b"Host", b"a.example:81"),), id="another port"),
        pytest.param(
            (*HOST, (b"Host", b"b.example")), id="RFC 9112 3.2 a second host that the API might take"
        ),
    ],
)
def test_another_host_has_another_key(other: Fields) -> None:
    assert text() != text(fields=other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(b"/a", b"/A", id="paths have a case"),
        pytest.param(b"/a", b"/%61", id="percent-encoding is not interpreted"),
        pytest.param(b"/a/b", b"/a%2Fb", id="an encoded slash"),
        pytest.param(b"/a", b"/a/", id="a slash at the end"),
        pytest.param(b"/a/b", b"/a//b", id="an empty segment"),
        pytest.param(b"/a?b", b"/a?b=", id="a parameter without and with an empty value"),
        pytest.param(b"/a?b=1", b"/a?b=1&b=1", id="a repeated parameter"),
        pytest.param(b"/a?b=1&b=2", b"/a?b=2&b=1", id="repeated parameters in another order"),
        pytest.param(b"/a?b=1&%62=2", b"/a?%62=2&b=1", id="the same in another spelling"),
        pytest.param(b"/a?b=1%26c=2", b"/a?b=1&c=2", id="an encoded separator"),
        pytest.param(b"/a?b=+", b"/a?b=%20", id="a plus and a space"),
        pytest.param(b"/a%3Fb=1", b"/a?b=1", id="an encoded question mark"),
        pytest.param(b"/a?b=1&a=2", b"/a?a=2&b=1", id="RFC 3986 6.2 parameters in another order"),
        pytest.param(b"/a?", b"/a", id="RFC 3986 6.2.3 an empty query"),
        pytest.param(b"/a?&b=1", b"/a?b=1", id="empty parameters"),
    ],
)
def test_another_url_has_another_key(one: bytes, other: bytes) -> None:
    assert text(one) != text(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(b"/a?b=1&a=2", b"/a?a=2&b=1", id="parameters in another order"),
        pytest.param(b"/a?", b"/a", id="an empty query"),
        pytest.param(b"/a?&b=1&&", b"/a?b=1", id="empty parameters"),
    ],
)
def test_a_sorted_query_has_an_equal_key(one: bytes, other: bytes) -> None:
    route = Route(match="/**", query="sorted")

    assert text(one, route=route) == text(other, route=route)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(Route(match="/**", name="other"), id="name"),
        pytest.param(Route(match="/a", name="all"), id="match"),
        pytest.param(Route(match="/**", name="all", query="none"), id="query"),
        pytest.param(Route(match="/**", name="all", vary=("x",)), id="vary"),
        pytest.param(Route(match="/**", name="all", per="x"), id="per"),
        pytest.param(Route(match="/**", name="all", store=StorePolicy(cookie=True)), id="store"),
    ],
)
def test_what_changes_a_keys_meaning_changes_the_key(changed: Route) -> None:
    assert text() != text(route=changed)


def test_a_longer_ttl_finds_what_was_stored_before() -> None:
    assert text() == text(route=Route(match="/**", name="all", ttl=9, tags=("a",), force_ttl=True))


def test_a_resource_that_answers_for_any_host_has_none_in_its_key() -> None:
    keys = {key_of(ALL, b"/a", ((b"Host", host),), hostless=frozenset({b"/a"})).host for host in (b"a", b"b")}

    assert {ANY_HOST} == keys


def test_no_client_can_name_the_key_of_any_host() -> None:
    ours = key_of(ALL, b"/a", HOST, hostless=frozenset({b"/a"}))
    theirs = key_of(ALL, b"/b", ((b"Host", ANY_HOST),), hostless=frozenset({b"/a"}))

    assert ours.text != theirs.text


def test_principals_share_nothing_and_their_credential_is_nowhere() -> None:
    keys = [key_of(PER_USER, b"/a", ((b"X-User", user),)) for user in (b"secret-1", b"secret-2")]
    anonymous = key_of(PER_USER, b"/a", ())

    assert 3 == len({key.text for key in [*keys, anonymous]})
    assert not any(b"secret" in key.principal for key in keys)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(((b"x", b""),), (), id="an empty one and none"),
        pytest.param(((b"x", b"a"), (b"x", b"b")), ((b"x", b"ab"),), id="two lines and one"),
        pytest.param(((b"x", b"a"), (b"x", b"b")), ((b"x", b"a, b"),), id="two lines and a list"),
        pytest.param(((b"x", b"a"),), ((b"x", b"A"),), id="credentials have a case"),
        pytest.param(((b"x", b"1:a"),), ((b"x", b""), (b"x", b"a")), id="a length within"),
    ],
)
def test_different_credentials_are_different_principals(one: Fields, other: Fields) -> None:
    assert principal(one, b"x") != principal(other, b"x")


# -- RFC 9111 section 4.1 --


@pytest.mark.parametrize(
    ("name", "lines", "expected"),
    [
        pytest.param(b"x", (), b"-", id="absent"),
        pytest.param(b"x", (b"",), b"+", id="empty, which is not absent"),
        pytest.param(b"x", (b"a , B",), b"+a,B", id="others: white space around commas"),
        pytest.param(b"x", (b"a", b"B"), b"+a,B", id="others: two lines are one list"),
        pytest.param(b"x", (b'"a , B"',), b'+"a , B"', id="with quotes: as sent"),
        pytest.param(b"user-agent", (b"a , B",), b"+a , B", id="text is no list"),
        pytest.param(b"cookie", (b"a=1", b"b"), b"+a=1\nb", id="text in two lines"),
        pytest.param(b"accept-encoding", (b"GZIP , br",), b"+gzip,br", id="white space and case"),
        pytest.param(b"accept-encoding", (b"gzip", b"br"), b"+gzip,br", id="two lines are one list"),
        pytest.param(b"accept-language", (b",de,,en,",), b"+de,en", id="empty members"),
        pytest.param(b"accept-language", (b"en,de",), b"+en,de", id="the order may count"),
        pytest.param(b"accept-charset", (b"UTF-8",), b"+utf-8", id="Accept-Charset"),
        pytest.param(b"accept", (b"a/b;q=1 , C/d", b"e/f"), b"+a/b;q=1,C/d,e/f", id="Accept"),
        pytest.param(b"accept", (b'a/b;c="x , y"',), b'+a/b;c="x , y"', id="Accept with a quoted comma"),
    ],
)
def test_vary_compares_what_the_headers_syntax_says_is_equal(
    name: bytes, lines: tuple[bytes, ...], expected: bytes
) -> None:
    assert expected == vary_value(tuple((name.title(), line) for line in lines), name)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(((b"a", b"1"),), ((b"A", b"1"), (b"c", b"3")), True, id="the same values"),
        pytest.param(((b"a", b"1"),), ((b"a", b"2"),), False, id="another value"),
        pytest.param(((b"a", b"1"),), ((b"b", b"1"),), False, id="another header"),
        pytest.param((), ((b"a", b""),), False, id="absent and empty"),
        pytest.param(((b"a", b"1b:1:2"),), ((b"a", b"1"), (b"b", b"2")), False, id="a forged boundary"),
        pytest.param(((b"a", b"-"),), (), False, id="the mark of absence, sent"),
        pytest.param(
            ((b"a", b"xb+y"), (b"b", b"z")), ((b"a", b"x"), (b"b", b"yb+z")), False, id="a boundary moved"
        ),
    ],
)
def test_variants_differ_where_a_named_header_differs(one: Fields, other: Fields, *, same: bool) -> None:
    names = (b"a", b"b")

    assert same == (variant("k", names, one) == variant("k", names, other))


def test_a_variant_is_kept_beside_its_key() -> None:
    assert variant("e:n:k", (b"a",), ()).startswith("e:n:k.")


# -- key injection --

PARTS = st.binary(max_size=6) | st.sampled_from([b"1:", b"0:1:", b":", b"?", b"\x00"])
KEYS = st.builds(
    Key,
    route=st.just(ALL),
    host=PARTS,
    url=PARTS,
    principal=PARTS,
    vary=st.lists(PARTS, max_size=3).map(tuple),
)


@given(KEYS, KEYS)
def test_distinct_parts_never_share_a_key(one: Key, other: Key) -> None:
    assert (one == other) == (one.text == other.text)


@given(PARTS, PARTS, PARTS, PARTS)
def test_no_part_can_reach_into_its_neighbour(a: bytes, b: bytes, c: bytes, d: bytes) -> None:
    def key(*parts: bytes) -> Key:
        return Key(route=ALL, host=parts[0], url=parts[1], principal=parts[2], vary=parts[3:])

    assert ((a, b + c, d) == (a + b, c, d)) == (key(a, b + c, d).text == key(a + b, c, d).text)


VALUES = st.text('a1:,-+ \t"', max_size=5).map(str.encode)
SENT = st.lists(st.tuples(st.sampled_from([b"a", b"b"]), VALUES), max_size=3).map(tuple)


def _sent(fields: Fields, name: bytes) -> list[bytes]:
    return [value for key, value in fields if key == name]


@given(SENT, SENT)
def test_the_same_values_of_an_unknown_header_share_a_variant(one: Fields, other: Fields) -> None:
    same = all(_sent(one, name) == _sent(other, name) for name in (b"a", b"b"))

    assert not same or variant("k", (b"a", b"b"), one) == variant("k", (b"a", b"b"), other)


@given(SENT, SENT)
def test_values_that_differ_by_more_than_white_space_at_commas_never_do(one: Fields, other: Fields) -> None:
    def bare(fields: Fields, name: bytes) -> tuple[bool, bytes]:
        lines = _sent(fields, name)
        return bool(lines), b",".join(lines).translate(None, b" \t")

    differ = any(bare(one, name) != bare(other, name) for name in (b"a", b"b"))

    assert not differ or variant("k", (b"a", b"b"), one) != variant("k", (b"a", b"b"), other)
