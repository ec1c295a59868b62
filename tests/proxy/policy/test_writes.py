import pytest

from proxy.policy.purges import Kind
from proxy.policy.routes import RouteTable
from proxy.policy.writes import Name, as_stored, purged_by, purged_by_answer, succeeded
from proxy.settings import Route
from proxy.wire.fields import Fields

ROUTES = RouteTable.of(
    (
        Route(match="/events", query=("page",)),
        Route(match="/events/{id}", query="none", tags=("event:{id}",)),
        Route(match="/events/{id}", methods=("PUT",), purge=("event:{id}", "events")),
        Route(match="/events/{id}/seats", methods=("POST",), purge=("event:{id}",)),
    )
)


def purged(method: str, target: str) -> list[Name]:
    match = ROUTES.find(method, target.partition("?")[0])
    return purged_by(method, target.encode(), match, ROUTES)


EVENT = [(Kind.TAG, "event:7"), (Kind.TAG, "events")]


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        pytest.param("GET", "/events/7", [], id="RFC 9110 9.2.1 a safe method changes nothing"),
        pytest.param("OPTIONS", "/events/7", [], id="nor does OPTIONS"),
        pytest.param("PUT", "/events/7", [*EVENT, (Kind.URL, "/events/7")], id="4.4 its route's and its URL"),
        pytest.param("DELETE", "/events/7", [(Kind.URL, "/events/7")], id="4.4 its URL, without a route"),
        pytest.param("DELETE", "/events/7?x=1", [(Kind.URL, "/events/7")], id="the URL as it is in the key"),
        pytest.param(
            "POST", "/events?page=2&x=1", [(Kind.URL, "/events?page=2")], id="with what counts of it"
        ),
        pytest.param("POST", "/events/7/seats", [(Kind.TAG, "event:7")], id="a URL that is never stored"),
        pytest.param("POST", "/other", [], id="nothing that concerns us"),
        pytest.param(
            "PUT",
            "/events/%37",
            [*EVENT, (Kind.URL, "/events/%37"), (Kind.URL, "/events/7")],
            id="RFC 3986 6.2.2.2 an id in another spelling",
        ),
        pytest.param(
            "PUT",
            "/%65vents/7",
            [*EVENT, (Kind.URL, "/events/7")],
            id="a path in a spelling that matches nothing",
        ),
        pytest.param(
            "PUT",
            "/events/a%2Fb",
            [(Kind.TAG, "event:a/b"), (Kind.TAG, "events"), (Kind.URL, "/events/a%2Fb")],
            id="an encoded slash has no plain spelling",
        ),
        pytest.param(
            "POST", "/%65vents?page=%32", [(Kind.URL, "/events?page=%32")], id="the query stays as it is"
        ),
    ],
)
def test_a_write_purges_what_it_may_have_changed(method: str, target: str, expected: list[Name]) -> None:
    assert expected == purged(method, target)


def test_bytes_that_an_api_may_read_as_plain_are_purged_as_plain_and_no_others() -> None:
    table = RouteTable.of((Route(match="/**"),))
    plain = {
        byte
        for byte in range(256)
        if (Kind.URL, f"/{byte:c}") in purged_by("PUT", b"/%%%02x" % byte, None, table)
    }

    unreserved = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    assert set(unreserved + b"/\\") == plain


@pytest.mark.parametrize(
    "path",
    [
        "/kept/./7",
        "/kept//7",
        "/x/../kept/7",
        "/../kept/7",
        "/kept/x/..%2f7",
        "/kept/%2e/7",
        "/kept\\7",
        "/kept%5c7",
        "/kept;a/7;x=1",
        "/kept/7/",
    ],
)
def test_a_write_by_a_detour_purges_what_an_api_may_take_it_for(path: str) -> None:
    table = RouteTable.of(
        (Route(match="/**"), Route(match="/kept/{id}", methods=("PUT",), purge=("k:{id}",)))
    )
    names = purged_by("PUT", path.encode(), table.find("PUT", path), table)

    assert {(Kind.URL, "/kept/7"), (Kind.TAG, "k:7")} <= set(names)


def test_bytes_that_are_no_utf_8_are_purged_under_their_own_name() -> None:
    assert [(Kind.URL, "/events/\udcff")] == purged_by("DELETE", b"/events/\xff", None, ROUTES)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(101, False, id="101"),
        pytest.param(199, False, id="199"),
        pytest.param(200, True, id="200"),
        pytest.param(303, True, id="4.4 a redirect is no error"),
        pytest.param(399, True, id="399"),
        pytest.param(400, False, id="400"),
        pytest.param(500, False, id="500"),
    ],
)
def test_a_write_did_something_where_its_status_is_no_error(status: int, *, expected: bool) -> None:
    assert expected == succeeded(status)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        pytest.param(Kind.URL, "/events?x=1&page=2", "/events?page=2", id="a URL as its route stores it"),
        pytest.param(Kind.URL, "/events/7?x=1", "/events/7", id="by a route without a query"),
        pytest.param(Kind.URL, "/other?b=1&a=2", "/other?b=1&a=2", id="a URL that no route stores"),
        pytest.param(Kind.URL, "/events/\udcff", "/events/\udcff", id="bytes that are no UTF-8"),
        pytest.param(Kind.TAG, "/events?x=1", "/events?x=1", id="a tag is no URL"),
        pytest.param(Kind.PATTERN, "/events?x=1*", "/events?x=1*", id="nor is a pattern"),
    ],
)
def test_a_url_that_a_person_purges_is_meant_as_it_is_stored(kind: Kind, value: str, expected: str) -> None:
    assert (kind, expected) == as_stored((kind, value), ROUTES)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(((b"Location", b"/events/7"),), {"/events/7"}, id="a path"),
        pytest.param(((b"Content-Location", b"7?b=1&a=2"),), {"/events/7?b=1&a=2"}, id="a relative one"),
        pytest.param(((b"Location", b"http://API.test/events"),), {"/events"}, id="the same site"),
        pytest.param(((b"Location", b"https://api.test/events"),), {"/events"}, id="before TLS ended"),
        pytest.param(((b"Location", b"//api.test/events"),), {"/events"}, id="without a scheme"),
        pytest.param(((b"Location", b"http://evil.test/events"),), set(), id="4.4 another site"),
        pytest.param(((b"Location", b"http://api.test:81/events"),), set(), id="4.4 another port"),
        pytest.param(((b"Location", b"ftp://api.test/events"),), set(), id="4.4 another scheme"),
        pytest.param(((b"Location", b"http://[/events"),), set(), id="nothing that can be read"),
        pytest.param(((b"Location", b"/elsewhere"),), set(), id="nothing that is stored"),
        pytest.param(
            ((b"Location", b"/events/7"), (b"Content-Location", b"/events")),
            {"/events/7", "/events"},
            id="both",
        ),
    ],
)
def test_an_answer_purges_where_it_says_the_change_is(fields: Fields, expected: set[str]) -> None:
    table = RouteTable.of((Route(match="/events/**"), Route(match="/events")))
    names = purged_by_answer(b"/events/x", b"api.test", fields, table)

    assert expected == {value for kind, value in names if kind is Kind.URL}


def test_an_answer_purges_the_groups_that_it_names() -> None:
    fields = ((b"Cache-Group-Invalidation", b'"a", "b"'),)

    assert purged_by_answer(b"/x", b"h", fields, RouteTable()) == [
        (Kind.TAG, "a@h"),
        (Kind.TAG, "a@*"),
        (Kind.TAG, "b@h"),
        (Kind.TAG, "b@*"),
    ]
