"""Kubernetes' HorizontalPodAutoscaler on CPU, with its defaults: how many pods it would ask for.

From kube-controller-manager 1.36 (pkg/controller/podautoscaler: `groupPods`, `GetResourceReplicas`,
`GetResourceUtilizationRatio`, `normalizeDesiredReplicasWithBehaviors`). What is simpler here:

- CPU grows with the requests that a pod serves, and a pod that serves all it can uses what it requests: no more than 100 %. It
  uses nothing while it starts (in a cluster, start-up may look like load).
- A sample says what a pod used in 15 s, which ended 15 s ago (`sample_late_s`). In a cluster the kubelet's figures are up to
  15 s old when metrics-server fetches them, and these up to 15 s when they are asked for: that is the mean.
- A pod runs from its creation, so it is missing until it has lived through a sample's time, and after that unready until it has
  been ready through one. In a cluster it is pending for a while; that only counts on scale-down.
- Pods that are to go are gone at once. No pod fails, and none that was ready becomes unready.
- The controller is always on time: in a cluster it syncs 15 s after the last sync has ended, so what that one did is never
  within the 15 s of a policy of `behavior`. Therefore these don't count back here.
- No rolling updates, no second metric, no scale to zero.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scaler.simulate.world import Pod, World

SYNC_S = 15
_TOLERANCE = 0.1
# metrics-server's --metric-resolution: a sample covers so long, and comes so often.
_SAMPLE_S = 15
_SAMPLE_LATE_S = 15
_CPU_INITIALIZATION_S = 300
_SCALE_DOWN_STABILIZATION_S = 300
_SCALE_UP_PODS = 4
_SCALE_UP_FACTOR = 2
# What a pod requests, in thousandths.
_REQUEST = 1000


class Standing(Enum):
    """What a pod is to the calculation."""

    COUNTED = "its sample counts"
    UNREADY = (
        "it is not ready, or wasn't all the time that its sample covers: 0 % if the others ask for more pods"
    )
    MISSING = "there is no sample: 0 % if the others ask for more pods, 100 % if for fewer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Pods that are the same to the calculation."""

    pods: int = 1
    standing: Standing = Standing.COUNTED
    used: int = 0
    """Thousandths of what each requests. Only looked at if it counts."""


def is_within(tolerance: float, ratio: float) -> bool:
    """Whether so little is asked for that nothing is done."""
    return 1.0 - tolerance <= ratio <= 1.0 + tolerance


def calculated(
    seen: Iterable[Alike], current: int, target_percent: int, tolerance: float = _TOLERANCE
) -> int | None:
    """How many pods would be used to the target on average; None if nobody's sample counts.

    Source: `GetResourceReplicas` in replica_calculator.go.
    """
    pods = dict.fromkeys(Standing, 0)
    used = 0
    for alike in seen:
        pods[alike.standing] += alike.pods
        used += alike.pods * alike.used if alike.standing is Standing.COUNTED else 0
    counted, unready, missing = pods[Standing.COUNTED], pods[Standing.UNREADY], pods[Standing.MISSING]
    if not counted:
        return None
    ratio = _ratio(used, counted, target_percent)
    if not missing and not (unready and ratio > 1.0):
        return current if is_within(tolerance, ratio) else math.ceil(ratio * counted)
    if ratio < 1.0:
        used += missing * (_REQUEST * max(100, target_percent) // 100)
        counted += missing
    elif ratio > 1.0:
        counted += missing + unready
    again = _ratio(used, counted, target_percent)
    if is_within(tolerance, again) or ratio < 1.0 < again or again < 1.0 < ratio:
        return current
    replicas = math.ceil(again * counted)
    # With pods that are missing or unready, a ratio that asks for more pods can still give fewer than there are.
    return (
        current if (again < 1.0 and replicas > current) or (again > 1.0 and replicas < current) else replicas
    )


def _ratio(used: int, pods: int, target_percent: int) -> float:
    # Whole per cents, rounded down, as in `GetResourceUtilizationRatio`.
    return (used * 100 // (pods * _REQUEST)) / target_percent


def standing(pod: Pod, now: float, sampled_at: float) -> Standing:
    """What a pod is now, if the latest sample's time ended at `sampled_at`.

    Source: `groupPods` in replica_calculator.go.
    """
    if pod.created_at > sampled_at - _SAMPLE_S:
        return Standing.MISSING
    if pod.ready_at > now:
        # At any age: it has never been ready, so what it reported last it reported within the 30 s of
        # --horizontal-pod-autoscaler-initial-readiness-delay.
        return Standing.UNREADY
    is_young = pod.created_at + _CPU_INITIALIZATION_S > now
    if is_young and sampled_at < pod.ready_at + _SAMPLE_S:
        return Standing.UNREADY
    return Standing.COUNTED


def seen(world: World, sample_late_s: int = _SAMPLE_LATE_S) -> Iterator[Alike]:
    """All pods, as metrics-server and the API server tell of them now."""
    now = world.now
    sampled_at = now // _SAMPLE_S * _SAMPLE_S - sample_late_s
    since = sampled_at - _SAMPLE_S
    if since < 0:
        # Not even the oldest have a sample yet.
        yield Alike(pods=world.replicas, standing=Standing.MISSING)
        return
    settled = len(world.serving)
    # The youngest are last. Those that were ready before the sample's time began all used the same.
    while settled and world.serving[settled - 1].ready_at > since:
        settled -= 1
    yield Alike(pods=settled, used=_thousandths(world.utilisation(since, sampled_at)))
    for pod in (*world.serving[settled:], *world.starting):
        ready_s = max(0, sampled_at - math.ceil(pod.ready_at))
        share = world.utilisation(sampled_at - ready_s, sampled_at) * ready_s / _SAMPLE_S
        yield Alike(standing=standing(pod, now, sampled_at), used=_thousandths(share))


def _thousandths(share: float) -> int:
    # A quantity's milli value is rounded up; a hair less, since the share is a difference of long sums.
    return math.ceil(share * _REQUEST - 1e-6)


@dataclass(slots=True)
class Behavior:
    """What `behavior` and the limits make of what a metric asks for: remembers what it asked for.

    Defaults: up at once, by at most 4 pods or 100 % a sync, whichever is more; down to the most that was asked for in 300 s.
    """

    _recommended: deque[tuple[int, int]] = field(default_factory=deque[tuple[int, int]], init=False)
    """When, and how many pods. Oldest first."""
    _begun: bool = field(default=False, init=False)

    def applied(self, world: World, desired: int | None) -> int:
        """The replicas of this sync; None changes nothing, as an error doesn't."""
        now, current = world.now, world.replicas
        recommended = self._recommended
        if not self._begun:
            self._begun = True
            recommended.append((now, current))
        if desired is None:
            return current
        while recommended and recommended[0][0] <= now - _SCALE_DOWN_STABILIZATION_S:
            recommended.popleft()
        most = max((replicas for _, replicas in recommended), default=desired)
        recommended.append((now, desired))
        return self._limited(world, min(max(current, desired), max(most, desired)))

    @staticmethod
    def _limited(world: World, replicas: int) -> int:
        """Source: `convertDesiredReplicasWithBehaviorRate` in horizontal.go."""
        current = world.replicas
        if replicas > current:
            step = max(current + _SCALE_UP_PODS, current * _SCALE_UP_FACTOR)
            return min(replicas, world.deployment.maximum, step)
        return max(replicas, world.deployment.minimum, 1) if replicas < current else replicas


@dataclass(slots=True)
class Hpa:
    """An HPA on CPU utilisation."""

    target: float = 0.7
    sample_late_s: int = _SAMPLE_LATE_S
    """How long ago a sample's time ended when it is seen first."""
    name: str = field(default="", init=False)
    period_s: int = field(default=SYNC_S, init=False)
    _percent: int = field(default=0, init=False)
    _behavior: Behavior = field(default_factory=Behavior, init=False)

    def __post_init__(self) -> None:
        self._percent = round(self.target * 100)
        self.name = f"hpa-{self._percent}"

    def replicas(self, world: World) -> int:
        """How many pods there should be from now on."""
        desired = calculated(seen(world, self.sample_late_s), world.replicas, self._percent)
        return self._behavior.applied(world, desired)
