"""A hostile request costs no more than some plain ones, and a connection that is held on to no more than it should.

The targets are 10 times the CPU of a plain request and 1 MiB; these bounds are wide enough for a machine that does other
things as well, and would still catch whatever grows with the square of what is sent. `python -m tests.bench.hostile` has
the figures.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.bench.hostile import Case, cases, held, measured, plain, stage
from tests.claims import attack
from tests.flow.origin import Origin
from tests.flow.processes import Proxy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

COST = "cost of hostile requests"
MOST_TIMES = 20
MOST_KIB = 1536
BATCH_CPU_S = 0.02


class Measured:
    """A proxy, and what plain requests cost it."""

    def __init__(self, proxy: Proxy, api: Origin) -> None:
        self._proxy = proxy
        self._api = api
        self._plain: dict[str, float] = {}

    async def times(self, case: Case) -> float:
        """How many plain requests that pass through cost as much. What looks dear is looked at twice."""
        seen = await self._once(case)
        return seen if seen < MOST_TIMES / 2 else min(seen, await self._once(case))

    async def _once(self, case: Case) -> float:
        seconds, _, kept = await measured(self._proxy, self._api, case, batch_cpu_s=BATCH_CPU_S)
        name = "plain pass-through" if kept or case.units > 1 else "plain pass-through, new connection"
        if name not in self._plain:
            (like,) = (each for each in plain() if each.name == name)
            self._plain[name] = (await measured(self._proxy, self._api, like, batch_cpu_s=0.2))[0]
        return seconds / self._plain[name]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cpu() -> AsyncIterator[Measured]:
    async with stage() as (proxy, api):
        yield Measured(proxy, api)


def telling(case: Case) -> bool:
    """Whether no other case does the same, and more of it."""
    return not any(part in case.name for part in (", 8 KB of", "all of:", ", miss", "pass: ", "Host,"))


@attack(COST, "CPU of heads, targets, fields, bodies and refusals of every odd kind, beside a plain request")
@pytest.mark.parametrize("case", [case for case in cases() if telling(case)], ids=lambda case: case.name)
async def test_no_request_costs_much_more_than_a_plain_one(cpu: Measured, case: Case) -> None:
    assert await cpu.times(case) < MOST_TIMES


@attack(
    COST, "memory of a connection with half a head, half a body, many requests, or answers that are not read"
)
@pytest.mark.parametrize(
    "name",
    [
        "a head of 60 KB, not ended",
        "half a body",
        "32 heads of 60 KB behind a slow one",
        "40 of them, not read",
        "a stream of 30 MB, not read",
    ],
)
async def test_no_connection_holds_much_memory(name: str) -> None:
    assert (await held(name, pause_s=0.8)).kib < MOST_KIB
