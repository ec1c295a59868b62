"""A short soak, and that a soak finds what it is meant to find. `make soak` is the long one."""

from dataclasses import replace
from math import inf

import pytest

from tests import servers
from tests.soak.figures import table
from tests.soak.oracle import Bounds, Change, Oracle
from tests.soak.run import Plan, soak, verdict
from tests.soak.world import config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
BOUNDS = Bounds(spread_s=1, max_age_s=3, recovery_s=5, wake_s=2)
SHORT = Plan(seconds=6, seed=4, has_faults=False)
# In so short a time a process has hardly filled its memory; the long soak is stricter.
GROWTH_MIB = 16

needs_redis = pytest.mark.skipif(servers.binary() is None, reason=f"no Redis: {servers.REMEDY}")


@needs_redis
async def test_nothing_wrong_is_served_and_nothing_fails_whatever_befalls_the_fleet() -> None:
    figures = await soak(replace(SHORT, seconds=50, has_faults=True))

    assert verdict(figures, growth_mib=GROWTH_MIB) == [], table(figures)
    assert (figures["requests"] > 5000, figures["writes"] > 50) == (True, True)
    # Each of the seven has come.
    assert (len(figures["faults"]), figures["waits"] > 10) == (7, True), table(figures)


@needs_redis
async def test_a_fleet_whose_replicas_do_not_tell_each_other_is_found_out() -> None:
    def apart(api_url: str, redis: str, *, variant: int) -> str:
        return config(api_url, "", variant=variant).replace("redis: false, ", "")

    figures = await soak(replace(SHORT, config=apart))

    assert figures["wrong"] > 0
    assert "now" in figures["wrong_first"][0]


@needs_redis
async def test_a_fleet_that_serves_one_principal_what_is_anothers_is_found_out() -> None:
    def crossed(api_url: str, redis: str, *, variant: int) -> str:
        text = config(api_url, redis, variant=variant)
        return text.replace("per: authorization", "store: {authorization: true}")

    figures = await soak(replace(SHORT, config=crossed))

    assert figures["wrong"] > 0
    assert "another's body" in figures["wrong_first"][0]


def change(**given: object) -> Change:
    known = {"version": 2, "begun": 100.0, "acked": 100.1, "by": 0, "heard": frozenset({0})}
    return Change(**{**known, **given})  # type: ignore[arg-type]


def judged(oracle: Oracle, *instants: float, place: int = 1, version: int = 1) -> str:
    """The verdicts on an old answer at each instant, by their first letters."""
    return "".join(
        oracle.verdict("/r", place, version=version, started=instant).value[0] for instant in instants
    )


def test_an_old_answer_is_wrong_at_whoever_acknowledged_and_a_second_later_everywhere() -> None:
    oracle = Oracle(BOUNDS)
    oracle.changed("/r", change())

    assert judged(oracle, 100.05, 100.1, 101.0, 101.1, 900, place=1) == "rllww"
    assert judged(oracle, 100.05, 100.1, place=0) == "rw"
    assert judged(oracle, 900, version=2) == "r"


def test_after_a_wait_an_old_answer_is_wrong_everywhere_at_once() -> None:
    oracle = Oracle(BOUNDS)
    oracle.changed("/r", change(heard=frozenset({0, 1})))

    assert judged(oracle, 100.05, 100.1, place=1) == "rw"


@pytest.mark.parametrize(("ended", "expected"), [(inf, "lllwww"), (106.0, "lllwlw"), (101.0, "lllllw")])
def test_while_redis_is_away_memory_may_be_old_for_its_age_and_the_cure_takes_five_seconds(
    ended: float, expected: str
) -> None:
    oracle = Oracle(BOUNDS)
    oracle.redis_away(100).ended = ended
    oracle.changed("/r", change())

    # Its age has passed at 104.1; five seconds after the cure nothing is allowed any more.
    instants = [100.2, 102, 104, 105, 107, 111.5] if ended != 101.0 else [100.2, 102, 103, 104, 105.9, 106]
    assert judged(oracle, *instants) == expected
    assert judged(oracle, 100.2, place=0) == "w"


def test_a_stopped_replica_may_be_old_until_it_has_run_for_a_second_and_no_other_may() -> None:
    oracle = Oracle(BOUNDS)
    window = oracle.stopped(1, 99)
    oracle.changed("/r", change(heard=frozenset({0, 2})))

    assert judged(oracle, 110) == "l"
    window.ended = 105
    assert judged(oracle, 105.9, 106) == "lw"
    assert judged(oracle, 102, place=2) == "w"


def test_what_a_replica_acknowledges_when_it_wakes_reaches_the_others_within_two_seconds() -> None:
    oracle = Oracle(BOUNDS)
    oracle.stopped(0, 97).ended = 100.05
    oracle.changed("/r", change())

    assert judged(oracle, 102, 102.1) == "lw"
    assert judged(oracle, 102, place=0) == "w"


def test_a_softly_purged_answer_is_stale_for_its_routes_time() -> None:
    oracle = Oracle(BOUNDS)
    oracle.changed("/r", change(soft_s=2.0, heard=frozenset({0, 1})))

    assert judged(oracle, 102, 102.2) == "lw"


def test_what_settled_long_ago_still_binds() -> None:
    oracle = Oracle(BOUNDS)
    oracle.changed("/r", change())
    oracle.changed("/r", change(version=3, begun=900.0, acked=900.0))

    assert judged(oracle, 1000) == "w"
