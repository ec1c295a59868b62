import pytest

from proxy.config import hostless_urls
from proxy.policy.routes import RouteTable
from proxy.settings import Route, Warm

ROUTES = RouteTable.of((Route(match="/events", query=("status",)), Route(match="/jobs", methods=("POST",))))


@pytest.mark.parametrize(
    ("warm", "expected"),
    [
        pytest.param((), set(), id="none"),
        pytest.param((Warm(name="a", path="/events"),), {b"/events"}, id="one without a host"),
        pytest.param(
            (Warm(name="a", path="/events?x=1&status=a"),), {b"/events?status=a"}, id="by what is in its key"
        ),
        pytest.param((Warm(name="a", path="/events", host="h"),), set(), id="one with a host"),
        pytest.param((Warm(name="a", path="/other"),), set(), id="one that no route matches"),
        pytest.param((Warm(name="a", path="/jobs"),), set(), id="one that no route matches with GET"),
        pytest.param(
            (Warm(name="a", path="/events"), Warm(name="b", path="/events?status=a", host="h")),
            {b"/events"},
            id="each for itself",
        ),
    ],
)
def test_a_warm_resource_without_a_host_answers_for_all_of_them(
    warm: tuple[Warm, ...], expected: set[bytes]
) -> None:
    assert expected == hostless_urls(warm, ROUTES)
