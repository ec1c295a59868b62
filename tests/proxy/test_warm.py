"""Whole warming is in tests/flow/test_warm.py; here: how often, what is asked, and how failures end."""

import asyncio
import time
from typing import Any, cast

import pytest

from proxy import metrics, settings
from proxy import warm as warm_module
from proxy.handler import Handler, Warmed
from proxy.messages import Incoming
from proxy.metrics import Metrics
from proxy.warm import Warmer, _pause
from tests.log_lines import capture_logs


class Fetches:
    """A handler that answers as it is told and remembers what it was asked."""

    def __init__(self, *results: Warmed | float, max_age: float | None = None) -> None:
        self.results = results
        self.asked: list[tuple[Incoming, dict[str, Any]]] = []
        self.is_there = True
        self.config: Any = self
        self.upstream: Any = self
        self.authority = b"api:80"
        self.settings = settings.Settings(
            upstream=settings.Upstream(url="http://api"),
            memory=settings.Memory(max_age=max_age or 60.0),
            redis=None if max_age is None else settings.Redis(),
            warm=(resource(),),
        )

    def is_warm(self, _incoming: Incoming) -> bool:
        return self.is_there

    async def warm(self, incoming: Incoming, **how: Any) -> Warmed:
        result = self.results[min(len(self.asked), len(self.results) - 1)]
        self.asked.append((incoming, how))
        if isinstance(result, float):
            await asyncio.sleep(result)
            return Warmed(result="ok")
        return result


OK = Warmed(result="ok", asked=7, fresh_s=60.0)


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
    assert (warmed(counted, "ok"), [how for _, how in fetches.asked]) == (4, [{"forced": True}] * 4)


async def test_so_many_at_a_time_and_those_that_hang_keep_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(warm_module, "_AT_ONCE", 2)
    monkeypatch.setattr(warm_module, "_TURN_S", 0.05)
    fetches = Fetches(0.02)
    warm, _ = warmer(fetches)
    began = time.monotonic()
    await warm.warm([resource(str(number)) for number in range(8)], forced=True)
    assert 0.08 <= time.monotonic() - began < 0.3

    fetches.results = (60.0,)
    hanging = asyncio.gather(*(warm.warm([resource(str(number))], forced=True) for number in range(10)))
    await asyncio.sleep(0.01)
    fetches.results = (OK,)
    async with asyncio.timeout(1.0):
        assert await warm.warm([resource("good")], forced=True) == {"good": "ok"}
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    await asyncio.sleep(0.1)

    # Each has given its turn back, once.
    assert warm._turns._value == 2


async def test_one_that_fails_or_hangs_is_told_and_logged() -> None:
    warm, counted = warmer(Fetches(Warmed(result="the API failed"), 10.0, OK))
    with capture_logs() as lines:
        results = await warm.warm([resource("a"), resource("b", timeout=0.02), resource("c")], forced=False)

    assert results == {"a": "the API failed", "b": "no answer within 0.02s", "c": "ok"}
    assert (warmed(counted, "failed"), warmed(counted, "ok")) == (2, 1)
    assert {(line["resource"], line["why"], line["path"]) for line in lines} == {
        ("a", "the API failed", "/events"),
        ("b", "no answer within 0.02s", "/events"),
    }


async def test_what_is_asked_is_what_the_resource_says() -> None:
    fetches = Fetches(OK)
    warm, _ = warmer(fetches)
    await warm.warm([resource(), resource(host="a.test", headers={"Authorization": "x"})], forced=False)

    assert [(incoming.method, incoming.target, incoming.fields) for incoming, _ in fetches.asked] == [
        ("GET", b"/events?page=1", ((b"Host", b"api:80"),)),
        ("GET", b"/events?page=1", ((b"Host", b"a.test"), (b"Authorization", b"x"))),
    ]


def ok(fresh_s: float | None, age_s: float = 0.0, took_s: float = 0.01) -> Warmed:
    return Warmed(result="ok", asked=7, fresh_s=fresh_s, age_s=age_s, took_s=took_s)


@pytest.mark.parametrize(
    ("every", "warmed", "least", "most"),
    [
        pytest.param(None, ok(100.0), 85.5, 90.0, id="ahead of its expiry"),
        pytest.param(None, ok(60.0, age_s=40.0), 45.5, 50.0, id="another replica's, counted from its fetch"),
        pytest.param(None, ok(10.0, took_s=1.5), 5.225, 5.5, id="earlier where the API is slow"),
        pytest.param(None, ok(10.0, took_s=9.0), 4.75, 5.0, id="never in the first half of a life"),
        pytest.param(None, ok(1.0, age_s=99.0), 0.1, 0.1, id="at once where it is due"),
        pytest.param(None, ok(None), 57.0, 60.0, id="nothing known"),
        pytest.param(None, ok(0.0), 57.0, 60.0, id="never fresh"),
        pytest.param(20.0, ok(100.0), 19.0, 20.0, id="as often as it says"),
        pytest.param(20.0, ok(100.0, age_s=15.0), 4.0, 5.0, id="as often as it says, counted from its fetch"),
        pytest.param(20.0, Warmed(result="no"), 5.0, 5.0, id="soon again after a failure"),
    ],
)
def test_it_is_refreshed_ahead_of_time(
    every: float | None, warmed: Warmed, least: float, most: float
) -> None:
    pauses = {round(_pause(resource(every=every), warmed), 9) for _ in range(100)}

    assert (min(pauses) >= least, max(pauses) <= most, len(pauses) > 1) == (True, True, least != most)


async def kept(fetches: Fetches, seconds: float, **more: Any) -> list[dict[str, Any]]:
    """How it was fetched in so many seconds of being kept warm."""
    warm, _ = warmer(fetches)
    keeping = asyncio.ensure_future(warm.keep_warm(resource(**more)))
    await asyncio.sleep(seconds)
    keeping.cancel()
    return [how for _, how in fetches.asked]


async def test_keeping_it_warm_begins_with_what_is_there_and_then_wants_something_newer() -> None:
    assert await kept(Fetches(OK), 0.35, every=0.2) == [{}, {"newer_than": 7}]


async def test_memory_reads_it_again_before_it_lets_go_of_what_redis_has() -> None:
    how = await kept(Fetches(OK, max_age=0.25), 0.5, every=10.0)

    assert how == [{}, {"again": True}, {"again": True}]


async def test_what_was_purged_is_fetched_again_and_what_was_not_is_left() -> None:
    fetches = Fetches(OK)
    warm, _ = warmer(fetches)
    running = [
        asyncio.ensure_future(warm.keep_warm(resource(every=60.0))),
        asyncio.ensure_future(warm.watch()),
    ]
    await asyncio.sleep(0.02)
    warm.heard()
    await asyncio.sleep(0.02)
    assert len(fetches.asked) == 1
    fetches.is_there = False
    for _ in range(100):
        warm.heard()
        await asyncio.sleep(0.01)
    for task in running:
        task.cancel()

    # Once at the start, and five times a second while the storm lasts.
    assert 4 <= len(fetches.asked) <= 8
    assert [how for _, how in fetches.asked] == [{}] * len(fetches.asked)
