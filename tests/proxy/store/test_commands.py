"""What scripts do is tried on a real Redis; what answers mean, on whatever may come."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.store import commands
from proxy.store.commands import Absurd, claimed, records_of_one, stream_id, table
from proxy.store.entry import ASKED_AT, encode
from proxy.store.shared import Claim, Put
from tests import servers
from tests.entries import an_entry
from tests.faults import FaultProxy
from tests.redis_tiers import back_within, needs_redis, tier_on

NOW_US = 1_700_000_000_000_000
FUTURE_US = 4_000_000_000_000_000


def entry(body: bytes, asked: int) -> bytes:
    made = an_entry(tags=(), asked=asked, body=body)
    return encode(made, compress_above=10_000)


OLD = entry(b"old", NOW_US)
NEW = entry(b"new", NOW_US + 2)
NEWER_FIRST = ((NEW, NOW_US + 2), (OLD, NOW_US))


@needs_redis
@pytest.mark.parametrize(
    ("before", "asked", "stays"),
    [
        pytest.param(None, NOW_US, False, id="nothing there"),
        pytest.param(OLD, NOW_US + 1, False, id="asked for later"),
        pytest.param(OLD, NOW_US, False, id="asked for in the same moment"),
        pytest.param(OLD, NOW_US - 1, True, id="asked for earlier"),
        pytest.param(OLD, 0, True, id="nobody knows when"),
        pytest.param(entry(b"old", FUTURE_US), NOW_US, False, id="what is there is from the future"),
        pytest.param(
            b"CG\x02\x00 another version's, long enough to have a time", NOW_US, False, id="version"
        ),
        pytest.param(b"CG\x03", NOW_US, False, id="cut short"),
        pytest.param(b"CG\x03" + b"x" * 40, NOW_US, False, id="no time where one should be"),
        pytest.param(b"garbage", NOW_US, False, id="garbage"),
    ],
)
async def test_of_two_answers_the_one_asked_for_later_stays(
    server: servers.Server, before: bytes | None, asked: int, stays: bool
) -> None:
    if before is not None:
        server.command("SET", "crowdgate:e:k", before)
    new = entry(b"new", asked)
    async with tier_on(server.url) as (tier, _):
        put = await tier.put("e:k", new, 60, asked=asked)

        assert put is (Put.NEWER if stays else Put.STORED)
        assert (before if stays else new) == await tier.get("e:k")
        assert stays or 59_000 < server.command("PTTL", "crowdgate:e:k") <= 60_000


@needs_redis
async def test_a_key_of_another_type_is_overwritten(server: servers.Server) -> None:
    server.command("RPUSH", "crowdgate:e:k", "x")
    async with tier_on(server.url) as (tier, seen):
        assert await tier.put("e:k", OLD, 60, asked=NOW_US)

        assert (await tier.get("e:k"), dict(seen.failures)) == (OLD, {})


@needs_redis
async def test_who_may_run_no_scripts_stores_all_the_same(server: servers.Server) -> None:
    server.command("ACL", "SETUSER", "scriptless", "on", ">pw", "~*", "+@all", "-eval")
    async with tier_on(server.url.replace("redis://", "redis://scriptless:pw@")) as (tier, seen):
        stored = [await tier.put("e:k", value, 60, asked=1) for value in (OLD, b"other")]

        assert (stored, await tier.get("e:k"), seen.failures["denied"]) == ([Put.STORED] * 2, b"other", 1)


@needs_redis
async def test_a_redis_that_is_back_may_run_scripts(server: servers.Server, faulty: FaultProxy) -> None:
    server.command("ACL", "SETUSER", "scriptless", "on", ">pw", "~*", "+@all", "-eval")
    async with tier_on(f"redis://scriptless:pw@127.0.0.1:{faulty.port}") as (tier, seen):
        assert await tier.put("e:k", NEW, 60, asked=NOW_US) is Put.STORED
        server.command("ACL", "SETUSER", "scriptless", "+eval")
        assert await tier.put("e:k", OLD, 60, asked=NOW_US) is Put.STORED
        faulty.set(stall=True)
        while tier.up:
            await tier.get("e:k")
        faulty.set()
        await back_within(tier, 5, "e:k")
        again = [await tier.put("e:k", value, 60, asked=asked) for value, asked in NEWER_FIRST]

        assert (again, seen.failures["denied"]) == ([Put.STORED, Put.NEWER], 1)


@needs_redis
async def test_an_odd_error_is_no_reason_to_run_no_scripts(
    server: servers.Server, faulty: FaultProxy
) -> None:
    async with tier_on(f"redis://127.0.0.1:{faulty.port}") as (tier, _):
        faulty.set(answer=b"-ERR not in the mood\r\n")
        assert await tier.put("e:k", OLD, 60, asked=NOW_US) is Put.FAILED
        faulty.set()
        again = [await tier.put("e:k", value, 60, asked=asked) for value, asked in NEWER_FIRST]

        assert again == [Put.STORED, Put.NEWER]


@needs_redis
async def test_a_table_is_set_read_and_dropped_from(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, _):
        assert await tier.table("t") == {}
        await tier.table_set("t", "pod-ü", b"1")
        await tier.table_set("t", "b", b"\xff")
        await tier.table_set("t", "b", b"2")
        both = await tier.table("t")
        await tier.table_drop("t", "b", "unknown")

        assert (both, await tier.table("t")) == ({"pod-ü": b"1", "b": b"2"}, {"pod-ü": b"1"})


@needs_redis
async def test_a_record_gets_the_id_that_is_asked_for(server: servers.Server) -> None:
    async with tier_on(server.url) as (tier, _):
        first = await tier.stream_add("s", {b"k": b"1"}, keep_after_ms=0, at="9000000000000-7")
        second = await tier.stream_add("s", {b"k": b"2"}, keep_after_ms=0)

        # Redis' own clock is behind that: its ids go on from there.
        assert (first, second) == ("9000000000000-7", "9000000000000-8")


@needs_redis
async def test_a_reader_is_told_whether_the_record_it_goes_on_from_is_still_there(
    server: servers.Server,
) -> None:
    async with tier_on(server.url) as (tier, _):
        ids = [await tier.stream_add("s", {b"k": b"%d" % n}, keep_after_ms=0) for n in range(3)]
        there = await tier.stream_after("s", ids[1], block_ms=0, count=10)
        begin = await tier.stream_after("s", "0-0", block_ms=0, count=10)
        server.command("XTRIM", "crowdgate:s", "MINID", ids[2])
        trimmed = await tier.stream_after("s", ids[1], block_ms=0, count=10)
        server.command("DEL", "crowdgate:s")
        lost = await tier.stream_after("s", ids[2], block_ms=50, count=10)

    assert [(len(tail.records), tail.intact) for tail in (there, begin, trimmed, lost)] == [
        (1, True),
        (3, True),
        (1, False),
        (0, False),
    ]


def test_a_claim_is_read() -> None:
    assert claimed([b"OK", b"me", 1, [b"12", b"345"]]) == Claim(
        holder=b"me", has_entry=True, at_us=12_000_345
    )
    assert claimed([None, None, 0, [b"0", b"1"]]) == Claim(holder=b"", has_entry=False, at_us=1)


ANYTHING = st.recursive(
    st.none() | st.integers() | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


@given(ANYTHING)
def test_an_absurd_answer_is_told_as_such_and_nothing_else(reply: Any) -> None:
    for meaning in (claimed, stream_id, records_of_one, commands.records, table):
        try:
            meaning(reply)
        except Absurd:
            continue


def test_the_script_knows_where_an_entry_says_when_it_was_asked_for() -> None:
    digits = entry(b"", NOW_US)[ASKED_AT]

    assert digits == b"%d" % NOW_US
