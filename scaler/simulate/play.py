"""Lets a policy size a world until its trace is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from scaler.simulate.world import Deployment, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from scaler.simulate.trace import Trace


class Policy(Protocol):
    """Whoever sizes. A new one for each world: it remembers."""

    name: str
    period_s: int
    """It decides so often, for the first time after one period."""

    def replicas(self, world: World) -> int:
        """How many pods there should be from now on."""


def play(
    trace: Trace, policy: Policy, deployment: Deployment, told: Callable[[int], None] | None = None
) -> World:
    """What came of it. `told` hears how many seconds have gone by, about once an hour of them."""
    world = World(trace, deployment)
    heard = 0
    while world.now < trace.seconds:
        world.advance(world.now + policy.period_s)
        world.scale(policy.replicas(world))
        if told is not None and world.now - heard >= 3600:
            told(world.now - heard)
            heard = world.now
    return world
