"""What a proxy's answer amounts to, and that whatever it answers is an outcome."""

import asyncio
import math
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.scrape import Load, NoRates, Outcome, Rates, Unknown, Why, client_session, decode, rates, scrape
from tests.flow.origin import Answer, Asked, framed, ok, origin, raw
from tests.proxy.live import live
from tests.servers import free_port

TEXT = """\
# HELP crowdgate_load_total All routes.
# TYPE crowdgate_load_total counter
crowdgate_load_total{of="hits"} 70.0
crowdgate_load_total{of="requests"} 100.0
crowdgate_load_total{of="upstream_failures"} 2.0
crowdgate_load_total{of="upstream_requests"} 40.0
crowdgate_load_upstream_seconds_total 5.25
crowdgate_inflight_requests 3.0
crowdgate_upstream_inflight 1.0
process_start_time_seconds 1795810000.125
"""
LOAD = Load(
    requests=100.0,
    hits=70.0,
    upstream_requests=40.0,
    upstream_failures=2.0,
    upstream_seconds=5.25,
    inflight=3.0,
    upstream_inflight=1.0,
    started_at=1795810000.125,
    read_at=7.5,
)


def why(outcome: Outcome) -> Why | None:
    """Nothing for a load."""
    return outcome.why if isinstance(outcome, Unknown) else None


# -- what it brings along --


def test_it_loads_nothing_of_the_proxys_server_side() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import proxy.scrape, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    loaded = set(done.stdout.split())
    own = {
        "proxy",
        "proxy.scrape",
        "proxy.metrics",
        "proxy.exposition",
        "proxy.policy",
        "proxy.policy.outcome",
    }
    assert own == {name for name in loaded if name.partition(".")[0] == "proxy"}
    assert {"aiohttp.web", "click", "redis", "uvloop", "yaml"}.isdisjoint(loaded)


# -- decode --


def test_a_load_is_read() -> None:
    assert LOAD == decode(TEXT, 7.5)


def test_series_that_are_not_asked_for_are_passed_over() -> None:
    more = 'up NaN\ncrowdgate_load_total{of="later"} 1.0\nx{a="b c"} -Inf\n\n# EOF\n'
    assert LOAD == decode(TEXT + more, 7.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", Why.MALFORMED, id="nothing"),
        pytest.param("\n", Why.MISSING, id="an empty line"),
        pytest.param("<html>\n", Why.MALFORMED, id="a page"),
        pytest.param("ok\n", Why.MALFORMED, id="a word"),
        pytest.param(TEXT[:-3], Why.MALFORMED, id="a number cut short"),
        pytest.param(TEXT + "x 1_000\n", Why.MALFORMED, id="a number that only Python knows"),
        pytest.param(TEXT + "x \n", Why.MALFORMED, id="a series without its number"),
        pytest.param(TEXT + "crowdgate_inflight_requests 3.0\n", Why.MALFORMED, id="a series twice"),
        pytest.param(TEXT.replace(" 70.0", " NaN"), Why.IMPOSSIBLE, id="no number"),
        pytest.param(TEXT.replace(" 70.0", " +Inf"), Why.IMPOSSIBLE, id="endless"),
        pytest.param(TEXT.replace(" 70.0", " 1e999"), Why.IMPOSSIBLE, id="too large a number"),
        pytest.param(TEXT.replace(" 70.0", " -1.0"), Why.IMPOSSIBLE, id="less than none"),
        pytest.param(TEXT.replace(" 1.0", " -1.0"), Why.IMPOSSIBLE, id="less than none in flight"),
        pytest.param("x 1.0\n", Why.MISSING, id="another's metrics"),
        *(
            pytest.param(TEXT.replace(line, ""), Why.MISSING, id=f"without {line.split()[0]}")
            for line in TEXT.splitlines(keepends=True)[2:]
        ),
    ],
)
def test_text_that_is_no_load_is_told_why(text: str, expected: Why) -> None:
    assert expected == why(decode(text))


def test_the_reason_names_what_is_missing() -> None:
    text = TEXT.replace("crowdgate_inflight_requests 3.0\n", "")
    assert Unknown(why=Why.MISSING, detail="without crowdgate_inflight_requests") == decode(text)


@given(st.text() | st.text(alphabet='crowdgate_lq {}="\n.0123456789-eNainf#'))
def test_any_text_is_an_outcome(text: str) -> None:
    assert isinstance(decode(text), Unknown)


@given(st.integers(0, len(TEXT) - 1), st.characters())
def test_one_character_that_changed_gives_a_load_of_numbers_or_none(at: int, character: str) -> None:
    found = decode(TEXT[:at] + character + TEXT[at + 1 :])
    assert isinstance(found, Unknown) or all(0 <= value < math.inf for value in asdict(found).values())


@given(st.integers(0, len(TEXT) - 1))
def test_what_was_cut_short_is_never_a_load(at: int) -> None:
    assert isinstance(decode(TEXT[:at]), Unknown)


# -- rates --

LATER = replace(
    LOAD, requests=200.0, hits=150.0, upstream_requests=60.0, upstream_failures=7.0, upstream_seconds=15.25
)


def test_rates_are_by_the_second() -> None:
    found = rates(LOAD, LATER, 5.0)
    expected = Rates(
        requests=20.0, hits=16.0, upstream_requests=4.0, upstream_failures=1.0, upstream_concurrency=2.0
    )
    assert (expected, 0.5) == (found, expected.upstream_mean_s)


def test_no_request_to_the_api_has_no_mean_time() -> None:
    found = rates(LOAD, LOAD, 5.0)
    assert isinstance(found, Rates)
    assert (0.0, None) == (found.requests, found.upstream_mean_s)


@pytest.mark.parametrize(
    ("after", "seconds", "expected"),
    [
        pytest.param(replace(LATER, started_at=1.0), 5.0, NoRates.RESTARTED, id="another start"),
        pytest.param(replace(LATER, started_at=1.0), 0.0, NoRates.RESTARTED, id="another start at once"),
        *(
            pytest.param(replace(LATER, **{name: 1.0}), 5.0, NoRates.WENT_BACK, id=f"{name} went back")
            for name in (
                "requests",
                "hits",
                "upstream_requests",
                "upstream_failures",
                "upstream_seconds",
            )
        ),
        pytest.param(LATER, 0.0, NoRates.NO_TIME, id="no time"),
        pytest.param(LATER, 1e-9, NoRates.NO_TIME, id="hardly any"),
        pytest.param(LATER, -5.0, NoRates.NO_TIME, id="the wrong way round"),
        pytest.param(LATER, math.nan, NoRates.NO_TIME, id="no number"),
        pytest.param(LATER, math.inf, NoRates.NO_TIME, id="for ever"),
    ],
)
def test_what_tells_nothing_is_no_rate(after: Load, seconds: float, expected: NoRates) -> None:
    assert expected == rates(LOAD, after, seconds)


def test_what_is_in_flight_may_become_less() -> None:
    assert isinstance(rates(LOAD, replace(LATER, inflight=0.0, upstream_inflight=0.0), 5.0), Rates)


VALUE = st.floats(0, 1e15)
LOADS = st.builds(Load, **dict.fromkeys(asdict(LOAD), VALUE) | {"started_at": st.just(1.0)})


@given(LOADS, LOADS, st.floats())
def test_no_rate_is_negative_endless_or_none(before: Load, after: Load, seconds: float) -> None:
    found = rates(before, after, seconds)
    assert isinstance(found, NoRates) or all(0 <= value < math.inf for value in asdict(found).values())


# -- scrape, on sockets --

GOOD = ok(TEXT.encode())


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with client_session() as opened:
        yield opened


async def ask(session: aiohttp.ClientSession, *targets: str, timeout_s: float = 5.0) -> list[Outcome]:
    return await scrape(session, targets, timeout_s=timeout_s, max_bytes=4096, at_once=8)


async def answered(session: aiohttp.ClientSession, answer: Answer, timeout_s: float = 5.0) -> Outcome:
    async with origin() as api:
        api.on("/metrics", answer)
        (outcome,) = await ask(session, api.url, timeout_s=timeout_s)
    return outcome


async def silent(_asked: Asked) -> None:
    await asyncio.sleep(60)


async def trickling(asked: Asked) -> None:
    await asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await asked.send(b"#")
        await asyncio.sleep(0.01)


async def endless(asked: Asked) -> None:
    await asked.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await asked.send(b"# more\n" * 1000)


async def informing(asked: Asked) -> None:
    while True:
        await asked.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(silent, Why.TIMEOUT, id="silent"),
        pytest.param(trickling, Why.TIMEOUT, id="trickling"),
        pytest.param(informing, Why.TIMEOUT, id="never a final answer"),
    ],
)
async def test_what_takes_too_long_is_a_timeout(
    session: aiohttp.ClientSession, answer: Answer, expected: Why
) -> None:
    assert expected == why(await answered(session, answer, timeout_s=0.3))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(endless, Why.TOO_LARGE, id="endless"),
        pytest.param(ok(b"# x\n" * 2000), Why.TOO_LARGE, id="too large"),
        pytest.param(ok(TEXT.encode(), status="503 Service Unavailable"), Why.STATUS, id="503"),
        pytest.param(ok(b"", "Location: /elsewhere", status="302 Found"), Why.STATUS, id="a redirect"),
        pytest.param(ok(TEXT.encode(), status="206 Partial Content"), Why.STATUS, id="a part"),
        pytest.param(raw(b"\x00\xff" * 50 + b"\r\n\r\n", close=True), Why.MALFORMED, id="no HTTP"),
        pytest.param(raw(b"SSH-2.0-OpenSSH_9.2\r\n", close=True), Why.MALFORMED, id="another protocol"),
        pytest.param(ok(b"<html>\n"), Why.MALFORMED, id="a page"),
        pytest.param(ok(b"\xff\xfe\n"), Why.MALFORMED, id="no UTF-8"),
        pytest.param(ok(b"\x1f\x8b\x08\n", "Content-Encoding: gzip"), Why.MALFORMED, id="compressed"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 70_000 + b"\r\n\r\n", close=True),
            Why.MALFORMED,
            id="a huge field",
        ),
        pytest.param(ok(TEXT.replace("70.0", "NaN").encode()), Why.IMPOSSIBLE, id="no number"),
        pytest.param(ok(b"up 1.0\n"), Why.MISSING, id="another's metrics"),
        pytest.param(raw(b"", close=True), Why.LOST, id="closed without a word"),
        pytest.param(raw(b"HTTP/1.1 200 O", close=True), Why.LOST, id="cut off in the head"),
        pytest.param(raw(framed(TEXT.encode())[:-20], close=True), Why.LOST, id="cut off in the body"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\n\r\n" + TEXT.encode()[:-3], close=True),
            Why.MALFORMED,
            id="cut off where nobody said how long it is",
        ),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", close=True),
            Why.LOST,
            id="cut off between chunks",
        ),
    ],
)
async def test_a_wrong_answer_is_told_why(
    session: aiohttp.ClientSession, answer: Answer, expected: Why
) -> None:
    outcome = await answered(session, answer)
    assert isinstance(outcome, Unknown)
    assert (expected, True) == (outcome.why, len(outcome.detail) < 400 and "\n" not in outcome.detail)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("http://127.0.0.1:{free}", id="nobody listens"),
        pytest.param("http://127.0.0.1:99999", id="no port"),
        pytest.param("http://[::1", id="no address"),
        pytest.param("http://" + "a" * 300, id="no name"),
        pytest.param("ftp://127.0.0.1", id="no HTTP"),
        pytest.param("127.0.0.1:9901", id="no scheme"),
        pytest.param("", id="nothing"),
    ],
)
async def test_a_target_without_a_proxy_is_refused(session: aiohttp.ClientSession, target: str) -> None:
    (outcome,) = await ask(session, target.format(free=free_port()))
    assert Why.REFUSED == why(outcome)


async def test_outcomes_are_in_the_order_of_the_targets_and_one_spoils_no_other(
    session: aiohttp.ClientSession,
) -> None:
    async with origin() as good, origin() as bad, origin() as slow:
        good.on("/metrics", GOOD)
        bad.on("/metrics", ok(b"<html>\n"))
        slow.on("/metrics", silent)
        free = f"http://127.0.0.1:{free_port()}"
        found = await ask(session, slow.url, good.url, free, bad.url, good.url, timeout_s=1.0)

    assert [Why.TIMEOUT, None, Why.REFUSED, Why.MALFORMED, None] == [why(outcome) for outcome in found]


async def test_no_targets_have_no_outcomes(session: aiohttp.ClientSession) -> None:
    assert [] == await ask(session)


async def test_each_load_says_when_it_was_read(session: aiohttp.ClientSession) -> None:
    async with origin() as api:
        api.on("/metrics", GOOD)
        started = asyncio.get_running_loop().time()
        read = [
            outcome.read_at for outcome in await ask(session, api.url, api.url) if isinstance(outcome, Load)
        ]
        ended = asyncio.get_running_loop().time()

    assert (2, True) == (len(read), all(a <= b for a, b in pairwise([started, *sorted(read), ended])))


async def test_one_connection_serves_round_after_round(session: aiohttp.ClientSession) -> None:
    async with origin() as api:
        api.on("/metrics", GOOD)
        found = [await ask(session, api.url) for _ in range(5)]
        assert (1, [None] * 5) == (api.accepted, [why(outcome) for (outcome,) in found])


async def test_a_connection_that_rested_too_long_is_replaced(session: aiohttp.ClientSession) -> None:
    async def once(asked: Asked) -> None:
        await GOOD(asked)
        # Without a word in the answer, as an idle timeout does it.
        asked.close()

    async with origin() as api:
        api.on("/metrics", once)
        found = [why(outcome) for _ in range(4) for outcome in await ask(session, api.url)]
    assert [None] * 4 == found


async def test_a_proxy_that_is_back_is_read_again(session: aiohttp.ClientSession) -> None:
    found, port = [], 0
    for _ in range(2):
        async with origin(port) as api:
            port = api.port
            api.on("/metrics", GOOD)
            found += await ask(session, api.url)
        found += await ask(session, api.url)
    assert [None, Why.REFUSED, None, Why.REFUSED] == [why(outcome) for outcome in found]


async def test_no_more_are_asked_at_once_than_allowed(session: aiohttp.ClientSession) -> None:
    asking, most = 0, 0

    async def slowly(asked: Asked) -> None:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await asyncio.sleep(0.01)
        asking -= 1
        await GOOD(asked)

    async with origin() as api:
        api.on("/metrics", slowly)
        found = await scrape(session, [api.url] * 20, timeout_s=5.0, max_bytes=4096, at_once=3)
    assert (3, [None] * 20) == (most, [why(outcome) for outcome in found])


async def test_a_caller_that_is_cancelled_leaves_nothing_behind(session: aiohttp.ClientSession) -> None:
    async with origin() as api:
        api.on("/metrics", silent)
        before = asyncio.all_tasks()
        task = asyncio.ensure_future(ask(session, api.url, api.url))
        await api.came("/metrics", 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() - before <= api._tasks


async def test_a_running_proxy_is_read(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with live(tmp_path) as here:
        await here.get("/api/events")
        await here.get("/api/events")
        found = await scrape(session, [here.admin] * 2, timeout_s=5.0, max_bytes=4096, at_once=1)

    loads = [replace(outcome, read_at=0.0) for outcome in found if isinstance(outcome, Load)]
    assert [(2.0, 1.0)] * 2 == [(load.requests, load.hits) for load in loads]
