"""Knative's autoscaler (KPA) on requests a second, with its defaults.

From Knative Serving's pkg/autoscaler/scaling/autoscaler.go. What is simpler here: metrics are known without delay (in a cluster
they are scraped each second, of some of the pods), and no activator holds requests back while pods are few: the load is open
(`world.py`), so who is turned away is gone. There is no scale to zero and no `scale-down-delay` (0 s by default).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scaler.simulate.world import World

_TICK_S = 2
_STABLE_S = 60
# 10 % of the stable window.
_PANIC_S = 6
# 200 %: twice as many pods needed as are ready.
_PANIC_THRESHOLD = 2.0
_MAX_SCALE_UP_RATE = 1000.0
_MAX_SCALE_DOWN_RATE = 2.0


@dataclass(slots=True)
class Panic:
    """Whether it panics, and how many pods it holds on to meanwhile."""

    since: float | None = None
    """When the threshold was last passed."""
    pods: int = 0


def decided(stable: float, panicking: float, ready: int, now: float, panic: Panic) -> int:
    """How many pods, from the rates of both windows as multiples of what one pod should get. Changes the panic.

    Source: `Scale` in autoscaler.go.
    """
    pods = max(1, ready)
    most, least = math.ceil(_MAX_SCALE_UP_RATE * pods), math.floor(pods / _MAX_SCALE_DOWN_RATE)
    of_panic = math.ceil(panicking)
    if of_panic / pods >= _PANIC_THRESHOLD:
        panic.since = now
    elif panic.since is not None and panic.since + _STABLE_S < now:
        panic.since, panic.pods = None, 0
    desired = min(max(math.ceil(stable), least), most)
    if panic.since is None:
        return desired
    panic.pods = max(panic.pods, desired, min(max(of_panic, least), most))
    return panic.pods


@dataclass(slots=True)
class Kpa:
    """The autoscaler of one revision."""

    target: float = 0.7
    """The share of a pod's capacity that it should be used to."""
    name: str = field(default="kpa", init=False)
    period_s: int = field(default=_TICK_S, init=False)
    _panic: Panic | None = field(default=None, init=False)

    def replicas(self, world: World) -> int:
        """How many pods there should be from now on."""
        now, ready = world.now, world.ready
        if self._panic is None:
            # With more than one pod it begins in panic: it knows nothing yet, and keeps what there is until it does.
            self._panic = Panic(since=now, pods=ready) if ready > 1 else Panic()
        target = self.target * world.deployment.pod_capacity
        stable, panicking = world.offered(now - _STABLE_S, now), world.offered(now - _PANIC_S, now)
        limits = world.deployment
        desired = decided(stable / target, panicking / target, ready, now, self._panic)
        return min(max(desired, limits.minimum), limits.maximum)
