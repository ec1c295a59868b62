"""KEDA with a Prometheus trigger on the request rate: an HPA on an external metric of type AverageValue.

`threshold: 0.7 * what a pod serves`, query `sum(rate(requests_total[1m]))`. Prometheus scrapes every 15 s and has the rate from
the first and the last scrape within a minute: here the last one is 15 s old, and so the first one 60 s (in a cluster both may be
up to 15 s younger). A new pod's first requests count at once, as they do if its counters begin at 0 before it serves. KEDA's own
poll (30 s) only counts between 0 and 1 pods, which isn't simulated. See `hpa.py` for the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scaler.simulate.hpa import SYNC_S, Behavior, is_within

if TYPE_CHECKING:
    from scaler.simulate.world import World

_TOLERANCE = 0.1
_RATE_S = 60
_SCRAPE_S = 15


def per_pod(usage: float, target: float, current: int, tolerance: float = _TOLERANCE) -> int:
    """How many pods have at most the target each, of a sum.

    Source: `GetExternalPerPodMetricReplicas` in replica_calculator.go: unlike CPU's, it asks no pod.
    """
    if is_within(tolerance, usage / (target * current)):
        return current
    return math.ceil(usage / target)


@dataclass(slots=True)
class Keda:
    """A ScaledObject."""

    target: float = 0.7
    """The share of a pod's capacity that is its threshold."""
    name: str = field(default="keda", init=False)
    period_s: int = field(default=SYNC_S, init=False)
    _behavior: Behavior = field(default_factory=Behavior, init=False)

    def replicas(self, world: World) -> int:
        """How many pods there should be from now on."""
        return self._behavior.applied(world, self._desired(world))

    def _desired(self, world: World) -> int | None:
        until = world.now - _SCRAPE_S
        if until < _SCRAPE_S:
            # A rate takes two scrapes.
            return None
        rate = world.offered(world.now - _RATE_S, until)
        return per_pod(rate, self.target * world.deployment.pod_capacity, world.replicas)
