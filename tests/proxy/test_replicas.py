"""A replica's line in a real Redis."""

import re

import msgspec
import pytest

from proxy.policy.replicas import Line
from proxy.replicas import Membership, _name
from tests import servers
from tests.log_lines import capture_logs
from tests.redis_tiers import needs_redis, tier_on

TABLE = "crowdgate:{crowdgate:purges}:replicas"


def lines(server: servers.Server) -> dict[str, Line]:
    found = server.command("HGETALL", TABLE)
    pairs = zip(found[::2], found[1::2], strict=True)
    return {name.decode(): msgspec.json.decode(said, type=Line) for name, said in pairs}


@needs_redis
async def test_it_says_how_far_it_has_read_and_sees_who_else_does() -> None:
    with servers.redis() as server:
        async with tier_on(server.url) as (tier, _):
            a, b = Membership(tier, "crowdgate"), Membership(tier, "crowdgate")
            await a.beat("1-0", 7.0)
            await b.beat("2-0", 8.0)
            await a.beat("3-0", 7.0)
            early = lines(server)[a.replicas.own].applied
            await a.say("4-0")
            await b.leave()
            await a.look()

            assert early == "1-0"
            assert lines(server) == {
                a.replicas.own: Line(applied="4-0", max_age_s=7.0, beat=2),
                b.replicas.own: Line(applied="0-0", max_age_s=8.0, beat=2, has_left=True),
            }
            assert a.replicas.present() == 1


@needs_redis
async def test_one_that_has_left_says_so_to_the_end() -> None:
    with servers.redis() as server:
        async with tier_on(server.url) as (tier, _):
            a = Membership(tier, "crowdgate")
            await a.leave()
            await a.beat("3-0", 7.0, at_once=True)

            assert lines(server)[a.replicas.own].has_left


@needs_redis
async def test_a_redis_that_is_away_is_told_of_once_and_raises_nothing() -> None:
    with servers.redis() as server:
        async with tier_on(server.url) as (tier, _):
            a = Membership(tier, "crowdgate")
            server.kill()
            with capture_logs() as logged:
                await a.beat("1-0", 7.0)
                await a.beat("1-0", 7.0, at_once=True)
                await a.say("2-0")
                await a.leave()

    events = [line["event"] for line in logged]
    assert events.count("replicas cannot be told of this one") == 1


def test_its_name_is_its_pods_and_no_other_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "api-7d9f\nx")

    names = {_name() for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(r"api-7d9f_x-[0-9a-f]{6}", name) for name in names)
