"""The classic rule of two thresholds (`scaler.threshold`), every fifteen seconds.

What it reads is as old as what HPA reads. Memory isn't simulated: it is taken to be neither high nor in the way, which is the
best that can befall this rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaler.decision import Limits
from scaler.threshold import Baseline, Readings, Thresholds, decide

if TYPE_CHECKING:
    from scaler.simulate.world import World

_SAMPLE_S = 15


class Classic:
    """Doubles and halves."""

    name = "threshold"
    period_s = 15

    def __init__(self) -> None:
        self._baseline = Baseline()

    def replicas(self, world: World) -> int:
        """As many as the rule wants."""
        since, until = world.now - 2 * _SAMPLE_S, world.now - _SAMPLE_S
        rate = world.offered(since, until) if until > 0 else None
        self._baseline.learn(rate, world.ready, self.period_s)
        cpu = 100 * world.utilisation(since, until) if until > 0 else None
        readings = Readings(cpu=cpu, memory=0.0, rate=rate)
        limits = Limits(minimum=world.deployment.minimum, maximum=world.deployment.maximum)
        usual = self._baseline.of(world.ready)
        return decide(world.replicas, readings, usual, Thresholds(), limits).replicas
