import json

import pytest

from proxy.messages import Incoming, problem
from proxy.policy.outcome import Handling, Outcome

HANDLING = Handling(outcome=Outcome.ERROR, detail="timeout")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param(b"/a?b=1", "/a", id="without its query"),
        pytest.param(b"/a", "/a", id="without a query"),
        pytest.param(b"/a?b?c", "/a", id="up to the first question mark"),
        pytest.param(b"/%61%2Fb", "/%61%2Fb", id="percent-encoding as sent"),
        pytest.param("/é".encode(), "/é", id="UTF-8"),
        pytest.param(b"/\xff", "/\udcff", id="any byte survives"),
        pytest.param(b"*", "*", id="RFC 9112 3.2.4 asterisk form"),
    ],
)
def test_the_path_is_the_target_without_its_query(target: bytes, path: str) -> None:
    assert path == Incoming(method="GET", target=target, fields=()).path


def test_a_problem_is_told_as_rfc_9457_has_it() -> None:
    answer = problem(504, "the API sent nothing", handling=HANDLING, route="events", extra=b"A: b\r\n")
    body = {
        "title": "Gateway Timeout",
        "status": 504,
        "detail": "the API sent nothing",
        "source": "crowdgate",
    }

    assert isinstance(answer.body, bytes)
    assert body == json.loads(answer.body)
    assert (504, b"Gateway Timeout", HANDLING, "events") == (
        answer.status,
        answer.reason,
        answer.handling,
        answer.route,
    )


def test_a_problem_is_of_its_own_type_is_never_stored_and_tells_its_length() -> None:
    answer = problem(502, "x", handling=HANDLING, route="r", extra=b"Retry-After: 1\r\n")

    assert isinstance(answer.body, bytes)
    assert (
        b"Content-Type: application/problem+json\r\nCache-Control: no-store\r\n"
        b"Content-Length: %d\r\nRetry-After: 1\r\n" % len(answer.body)
    ) == answer.head


@pytest.mark.parametrize(
    "status",
    [pytest.param(status, id=str(status)) for status in (400, 405, 408, 413, 431, 500, 502, 503, 504)],
)
def test_every_status_that_is_ours_has_its_reason(status: int) -> None:
    assert problem(status, "x", handling=HANDLING, route="r").reason
