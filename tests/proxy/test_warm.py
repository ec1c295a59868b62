"""Whole warming is in tests/flow/test_warm.py; here: how often, what is asked, and how failures end."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from proxy import metrics, settings
from proxy.handler import Handler
from proxy.messages import Incoming
from proxy.metrics import Metrics
from proxy.warm import Warmer, _pause
from tests.log_lines import capture_logs


class Fetches:
    """A handler that answers as it is told and remembers what it was asked."""

    def __init__(self, *results: tuple[str, float | None] | float) -> None:
        self.results: Sequence[tuple[str, float | None] | float] = results
        self.asked: list[tuple[Incoming, bool]] = []
        self.config: Any = self
        self.upstream: Any = self
        self.authority = b"api:80"

    async def warm(self, incoming: Incoming, *, forced: bool) -> tuple[str, float | None]:
        result = self.results[min(len(self.asked), len(self.results) - 1)]
        self.asked.append((incoming, forced))
        if isinstance(result, float):
            await asyncio.sleep(result)
            return "ok", None
        return result


def warmer(fetches: Fetches) -> tuple[Warmer, Metrics]:
    counted = Metrics("1")
    return Warmer(cast("Handler", fetches), counted), counted


def resource(name: str = "events", **more: Any) -> settings.Warm:
    return settings.Warm(name=name, path="/events?page=1", **more)


def warmed(counted: Metrics, result: str) -> float:
    return metrics.total(metrics.read(counted.render().decode()), metrics.WARM, result=result)


async def test_all_are_fetched_side_by_side_and_each_has_its_result() -> None:
    fetches = Fetches(0.1)
    warm, counted = warmer(fetches)
    async with asyncio.timeout(0.25):
        results = await warm.warm([resource(name) for name in "abcd"], forced=True)

    assert results == dict.fromkeys("abcd", "ok")
    assert (warmed(counted, "ok"), [forced for _, forced in fetches.asked]) == (4, [True] * 4)


async def test_one_that_fails_or_hangs_is_told_and_logged() -> None:
    warm, counted = warmer(Fetches(("the API failed", None), 10.0, ("ok", 60.0)))
    with capture_logs() as lines:
        results = await warm.warm([resource("a"), resource("b", timeout=0.02), resource("c")], forced=False)

    assert results == {"a": "the API failed", "b": "no answer within 0.02s", "c": "ok"}
    assert (warmed(counted, "failed"), warmed(counted, "ok")) == (2, 1)
    assert {(line["resource"], line["why"], line["path"]) for line in lines} == {
        ("a", "the API failed", "/events"),
        ("b", "no answer within 0.02s", "/events"),
    }


async def test_what_is_asked_is_what_the_resource_says() -> None:
    fetches = Fetches(("ok", 60.0))
    warm, _ = warmer(fetches)
    await warm.warm([resource(), resource(host="a.test", headers={"Authorization": "x"})], forced=False)

    assert [(incoming.method, incoming.target, incoming.fields) for incoming, _ in fetches.asked] == [
        ("GET", b"/events?page=1", ((b"Host", b"api:80"),)),
        ("GET", b"/events?page=1", ((b"Host", b"a.test"), (b"Authorization", b"x"))),
    ]


@pytest.mark.parametrize(
    ("every", "result", "fresh_s", "least", "most"),
    [
        pytest.param(None, "ok", 100.0, 72.0, 80.0, id="ahead of its expiry"),
        pytest.param(None, "ok", None, 43.2, 48.0, id="nothing known"),
        pytest.param(20.0, "ok", 100.0, 18.0, 20.0, id="as often as it says"),
        pytest.param(0.1, "ok", 100.0, 1.0, 1.0, id="never more than once a second"),
        pytest.param(20.0, "no", None, 5.0, 5.0, id="soon again after a failure"),
    ],
)
def test_it_is_refreshed_ahead_of_time(
    every: float | None, result: str, fresh_s: float | None, least: float, most: float
) -> None:
    pauses = {_pause(resource(every=every), result, fresh_s) for _ in range(100)}

    assert (min(pauses) >= least, max(pauses) <= most, len(pauses) > 1) == (True, True, least != most)


async def test_keeping_it_warm_begins_with_what_is_there_and_then_asks_the_api() -> None:
    fetches = Fetches(("ok", 60.0))
    warm, _ = warmer(fetches)
    keeping = asyncio.ensure_future(warm.keep_warm(resource(every=0.1)))
    await asyncio.sleep(1.15)
    keeping.cancel()

    assert [forced for _, forced in fetches.asked] == [False, True]
