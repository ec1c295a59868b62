import pytest

from proxy.policy.purges import Kind
from proxy.policy.routes import RouteTable
from proxy.policy.writes import Name, as_stored, purged_by, succeeded
from proxy.settings import Route

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


def test_every_unreserved_byte_has_a_plain_spelling_and_no_other() -> None:
    table = RouteTable.of((Route(match="/**"),))
    plain = {
        byte
        for byte in range(256)
        if (Kind.URL, f"/{byte:c}") in purged_by("PUT", b"/%%%02x" % byte, None, table)
    }

    unreserved = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    assert set(unreserved) == plain


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
