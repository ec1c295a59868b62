"""Who knows what is to come: no second is violated, with the fewest pods that this can be had for.

At each second it has as many pods as the most needed second needs of those from now until a pod created now would be ready.
No policy without violations can have fewer, at any second: what serves at second `s` was created by `s - pod start`, and is
there all the time from then to `s`. So at second `t` there must be at least as many as each second of `[t, t + pod start]`
needs, and the pod-seconds of the oracle are a lower bound for whoever violates nothing (who does violate may pay less).
And it is enough: from `s - pod start` on there are never fewer than `s` needs, the youngest go first, so those stay that were
there at `s - pod start`, and at `s` they are ready.

Two things bound it. Its first decision comes after a second, so what is needed before `1 + pod start` must be there at the
start; and the deployment's limits are limits for it, too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scaler.simulate.world import Deployment, World


def most(rates: Sequence[float], ahead: int) -> Iterator[float]:
    """For each place the largest of it and the `ahead` next ones, as far as there are so many. Takes linear time."""
    # Places of what can still be the largest: each smaller than the one before it.
    falling: deque[int] = deque()
    total = len(rates)
    for place in range(-ahead, total):
        coming = place + ahead
        if coming < total:
            rate = rates[coming]
            while falling and rates[falling[-1]] <= rate:
                falling.pop()
            falling.append(coming)
        if place >= 0:
            if falling[0] < place:
                falling.popleft()
            yield rates[falling[0]]


def plan(rates: Sequence[float], deployment: Deployment) -> Iterator[tuple[int, int]]:
    """From which second on how many pods are to be there: only where the number changes."""
    before, pods = -1.0, 0
    for second, rate in enumerate(most(rates, deployment.pod_start_s)):
        if rate == before:
            continue
        before = rate
        needed = deployment.needed(rate)
        if needed != pods:
            pods = needed
            yield second, pods


@dataclass(slots=True)
class Oracle:
    """Made for one world, as all policies are."""

    name: str = field(default="oracle", init=False)
    period_s: int = field(default=1, init=False)
    """Until the number of pods is to change again: it's asked no sooner."""
    _plan: Iterator[tuple[int, int]] | None = field(default=None, init=False)
    _next: tuple[int, int] | None = field(default=(0, 0), init=False)
    _pods: int = field(default=0, init=False)

    def replicas(self, world: World) -> int:
        """How many pods there should be from now on."""
        if self._plan is None:
            self._plan = plan(world.trace.rates, world.deployment)
        while self._next is not None and self._next[0] <= world.now:
            self._pods = self._next[1]
            self._next = next(self._plan, None)
        until = world.trace.seconds if self._next is None else self._next[0]
        self.period_s = max(1, until - world.now)
        return self._pods
