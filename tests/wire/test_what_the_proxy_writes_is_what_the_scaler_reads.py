"""Both sides together: `proxy.metrics` counts and writes, `proxy.scrape` asks and reads."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import metrics as m
from proxy.metrics import Metrics
from proxy.policy.outcome import Outcome
from proxy.scrape import MAX_BYTES, TARGET, Load, NoRates, Rates, client_session, decode, rates, scrape
from tests.proxy.live import Live, live

NAMES = [part.partition("=")[2] for part in TARGET.partition("?")[2].split("&")]
COUNTS = st.integers(0, 10**15)
SECONDS = st.floats(0, 1e9)


def counted(load: Load) -> Metrics:
    """A proxy that has done so much."""
    metrics = Metrics("1.2.3")
    metrics.cell("a", "GET", 200, Outcome.STALE).count = int(load.hits)
    metrics.cell("b", "GET", 200, Outcome.MISS).count = int(load.requests - load.hits)
    metrics.upstream("a", "200", load.upstream_seconds)
    metrics._upstream["a", "200"] = int(load.upstream_requests - load.upstream_failures)
    metrics._upstream["b", "timeout"] = int(load.upstream_failures)
    metrics.inflight, metrics.upstream_inflight = int(load.inflight), int(load.upstream_inflight)
    metrics.started_at = load.started_at
    return metrics


@st.composite
def loads(draw: st.DrawFn) -> Load:
    hits, failures = draw(COUNTS), draw(COUNTS)
    return Load(
        requests=hits + draw(COUNTS),
        hits=hits,
        upstream_requests=failures + draw(COUNTS),
        upstream_failures=failures,
        upstream_seconds=draw(SECONDS),
        inflight=draw(COUNTS),
        upstream_inflight=draw(COUNTS),
        started_at=draw(SECONDS),
        read_at=0.0,
    )


@given(loads())
def test_a_load_is_read_as_it_was_written(load: Load) -> None:
    assert load == decode("".join(counted(load).pieces(NAMES)))


@given(loads())
def test_a_load_is_found_among_all_metrics_as_well(load: Load) -> None:
    assert load == decode(counted(load).render().decode())


@given(st.text(st.characters(codec="utf-8")), st.sampled_from(NAMES))
def test_no_name_that_a_route_may_have_is_taken_for_the_load(text: str, name: str) -> None:
    metrics = Metrics("1")
    for route in (text, f'{text}\n{name}{{of="hits"}} 5.0\n'):
        metrics.request(route, "GET", 200, Outcome.MISS, 0.1)

    read = decode(metrics.render().decode())
    assert isinstance(read, Load)
    assert (2.0, 0.0) == (read.requests, read.hits)


@pytest.mark.parametrize("routes", [pytest.param(1, id="1 route"), pytest.param(300, id="300 routes")])
def test_an_answer_is_small_however_many_routes_there_are(routes: int) -> None:
    metrics = Metrics("1")
    for number in range(routes):
        for outcome in Outcome:
            metrics.request(f"route-{number}", "GET", 200, outcome, 0.01)
        metrics.upstream(f"route-{number}", "200", 0.01)

    assert len("".join(metrics.pieces(NAMES))) < 1200


def test_everything_that_is_asked_for_is_a_family() -> None:
    assert set(NAMES) <= {family.name for family in Metrics("1").families()}


# -- a whole proxy, on sockets --


async def load_of(here: Live) -> Load:
    async with client_session() as session:
        (outcome,) = await scrape(session, [here.admin], timeout_s=5.0, max_bytes=MAX_BYTES, at_once=1)
    assert isinstance(outcome, Load), outcome
    return outcome


async def test_the_requests_of_clients_are_seen(tmp_path: Path) -> None:
    async with live(tmp_path) as here:
        before = await load_of(here)
        for target in ("/api/events", "/api/events", "/api/events", "/api/other", "/api/events/broken"):
            await here.get(target)
        after = await load_of(here)

    seen = rates(replace(before, upstream_seconds=0.0), replace(after, upstream_seconds=1.5), 0.5)
    # The sample's 500 is an answer.
    expected = Rates(
        requests=10.0, hits=4.0, upstream_requests=6.0, upstream_failures=0.0, upstream_concurrency=3.0
    )
    assert expected == seen
    assert (0.0, 0.0) == (after.inflight, after.upstream_inflight)
    assert 0.0 < after.upstream_seconds - before.upstream_seconds < 5.0


async def test_a_proxy_that_was_started_anew_is_known_by_it(tmp_path: Path) -> None:
    read = []
    for _ in range(2):
        async with live(tmp_path) as here:
            await here.get("/api/events")
            read.append(await load_of(here))
    before, after = read

    assert (NoRates.RESTARTED, before.requests) == (rates(before, after, 1.0), after.requests)


async def test_the_start_is_the_process_own(tmp_path: Path) -> None:
    async with live(tmp_path) as here:
        assert here.proxy.metrics.started_at == (await load_of(here)).started_at > 1_700_000_000
        assert m.total(here.proxy.metrics.samples(), m.STARTED) == here.proxy.metrics.started_at
