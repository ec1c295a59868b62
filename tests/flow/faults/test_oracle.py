"""The oracle sees what it is there to see: bodies of others, halves, what is too old, what hangs."""

import asyncio
from math import inf

import pytest

from tests.flow.faults.load import Load
from tests.flow.faults.oracle import Ask, Change, Sample, body_of, outdated, p99_ms, read
from tests.flow.origin import Origin, after, ok

MINE = Ask(kind="mine", target="/mine/1", principal="me")
NEVER = (inf, inf)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(body_of("/mine/1", "you", 3), id="of another principal"),
        pytest.param(body_of("/mine/2", "me", 3), id="of another key"),
        pytest.param(body_of("/mine/1", "me", 3, b"posted"), id="to another body"),
        pytest.param(body_of("/mine/1", "me", 3)[:-1], id="not whole"),
        pytest.param(body_of("/mine/1", "me", 3) + b"x", id="more than whole"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_body_that_is_not_the_answer_to_what_was_asked_is_wrong(body: bytes) -> None:
    version, wrong = read(MINE, 200, body)

    assert (version, wrong != "") == (0, True)


def test_the_answer_to_what_was_asked_tells_its_version() -> None:
    assert read(MINE, 200, body_of("/mine/1", "me", 3)) == (3, "")


@pytest.mark.parametrize(
    ("kind", "replica", "at", "is_outdated"),
    [
        pytest.param("hot", 0, 10.05, False, id="asked before the purge had returned"),
        pytest.param("hot", 0, 10.15, True, id="where it was purged"),
        pytest.param("hot", 1, 10.4, False, id="elsewhere, soon after"),
        pytest.param("hot", 1, 11.0, True, id="elsewhere, long after"),
        pytest.param("brief", 1, 10.6, True, id="its time is over anyway"),
    ],
)
def test_an_old_version_is_outdated(kind: str, replica: int, at: float, is_outdated: bool) -> None:
    change = Change(version=2, at=10.0, purged_at=10.1, graces=[(10.0, 10.7)])
    sample = Sample(at=at, took_s=0.001, replica=replica, kind=kind, status=200, version=1)

    assert bool(outdated([sample], [change], NEVER)) is is_outdated


def test_an_old_version_may_stand_in_while_the_api_fails() -> None:
    change = Change(version=2, at=10.0, graces=[])
    sample = Sample(at=12.0, took_s=0.001, replica=0, kind="lenient", status=200, version=1)

    assert (len(outdated([sample], [change], NEVER)), outdated([sample], [change], (9.0, 13.0))) == (1, [])


async def test_what_hangs_counts_for_all_that_would_have_been_asked_meanwhile(api: Origin) -> None:
    api.on("/", after(0.5, ok()))
    load = Load([api.port])
    async with load.running():
        await asyncio.sleep(0.3)
        waiting = load.waiting(0.2)
        await asyncio.sleep(0.5)

    assert (len(waiting), p99_ms(load.samples) > 450) == (7, True)
    assert sum(sample.is_missed for sample in load.samples) > 10 * 7
