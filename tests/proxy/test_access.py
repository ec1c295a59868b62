import json

import pytest

from proxy import metrics
from proxy.access import Access
from proxy.messages import Answer, Incoming
from proxy.metrics import Metrics
from proxy.policy.outcome import Handling, Outcome


def access(*, enabled: bool = False) -> tuple[Access, Metrics]:
    counted = Metrics("1")
    told = Access(counted)
    told.enabled = enabled
    return told, counted


def answer(status: int = 200) -> Answer:
    handling = Handling(outcome=Outcome.HIT_MEMORY, detail="memory")
    return Answer(status=status, reason=b"OK", head=b"", body=b"secret", handling=handling, route="events")


def incoming(target: bytes = b"/events?token=secret", method: str = "GET") -> Incoming:
    return Incoming(method=method, target=target, fields=((b"Authorization", b"secret"),))


def total(counted: Metrics, name: str, **labels: str) -> float:
    return metrics.total(metrics.read(counted.render().decode()), name, **labels)


def test_an_answer_is_counted_by_route_method_status_and_outcome(capfd: pytest.CaptureFixture[str]) -> None:
    told, counted = access()
    told.answered(incoming(), answer(), 0.25)
    told.answered(incoming(method="BREW"), answer(404), 0.25)

    labels = {"route": "events", "method": "GET", "code": "200", "cache": "hit_memory"}
    assert total(counted, metrics.REQUESTS, **labels) == 1
    assert total(counted, metrics.REQUESTS, method="OTHER", code="404") == 1
    assert total(counted, metrics.REQUEST_SECONDS + "_sum") == 0.5
    assert capfd.readouterr().err == ""


def test_the_access_log_has_one_line_per_request_and_no_secret(capfd: pytest.CaptureFixture[str]) -> None:
    told, _ = access(enabled=True)
    told.answered(incoming(), answer(), 0.1234567)
    told.answered(incoming(b"/\xff\n"), answer(404), 1)
    lines = capfd.readouterr().err.splitlines()

    assert json.loads(lines[0]) == {
        "event": "request",
        "route": "events",
        "method": "GET",
        "path": "/events",
        "status": 200,
        "cache": "hit_memory",
        "detail": "memory",
        "seconds": 0.123457,
    }
    assert (len(lines), json.loads(lines[1])["path"], "secret" in str(lines)) == (2, "/\\udcff\n", False)


def test_refused_requests_are_counted_by_kind() -> None:
    told, counted = access()
    told.refused("malformed")
    told.refused("malformed")

    assert total(counted, metrics.BAD_REQUESTS, kind="malformed") == 2


def test_requests_in_flight_are_those_of_the_metrics() -> None:
    told, counted = access()
    told.inflight += 2

    assert (told.inflight, counted.inflight, total(counted, metrics.INFLIGHT)) == (2, 2, 2)
