"""How fast replicas may change, in the words of autoscaling/v2's `behavior`, and computed as HPA does.

A recommendation passes two gates. Stabilisation: up goes the least, down the most that was wanted in a window. Rates: a policy
allows so many pods or percent within a period, counted from where the period began.

Source: kube-controller-manager 1.36, pkg/controller/podautoscaler/horizontal.go (`stabilizeRecommendationWithBehaviors`,
`convertDesiredReplicasWithBehaviorRate`). It differs in one thing: HPA overwrites events that are older than the longest period
of their own direction, so that a longer period of the other direction miscounts. Here events last as long as any period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from scaler.decision import Decision, Limits
from scaler.record import KEEP_S, Record

# As the API server has it.
_MAX_PERIOD_S = 1800


class PolicyType(Enum):
    """What a policy counts."""

    PODS = "Pods"
    PERCENT = "Percent"


class SelectPolicy(Enum):
    """Which of several policies counts."""

    MAX = "Max"
    """That of the largest change."""
    MIN = "Min"
    DISABLED = "Disabled"
    """No change in this direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """At most so much change within a period."""

    type: PolicyType
    value: int
    period_seconds: int

    def __post_init__(self) -> None:
        if self.value <= 0:
            raise ValueError(
                f"value ({self.value}) must be at least 1: to forbid the direction write selectPolicy: Disabled"
            )
        if not 0 < self.period_seconds <= _MAX_PERIOD_S:
            raise ValueError(f"periodSeconds ({self.period_seconds}) must be 1 to {_MAX_PERIOD_S}")

    def __str__(self) -> str:
        unit = "%" if self.type is PolicyType.PERCENT else "pod" if self.value == 1 else "pods"
        return f"at most {self.value} {unit} per {self.period_seconds} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRules:
    """One direction's."""

    stabilization_window_seconds: int
    policies: tuple[ScalingPolicy, ...]
    select_policy: SelectPolicy = SelectPolicy.MAX
    tolerance: float = 0.1
    """By what share what is there may miss what is wanted; 0.1 is HPA's own. See `is_tolerable`."""

    def __post_init__(self) -> None:
        if not 0 <= self.stabilization_window_seconds <= KEEP_S:
            raise ValueError(
                f"stabilizationWindowSeconds ({self.stabilization_window_seconds}) must be 0 to {KEEP_S:.0f}"
            )
        if not self.policies and self.select_policy is not SelectPolicy.DISABLED:
            raise ValueError(
                "policies must have at least one entry: to forbid the direction write selectPolicy: Disabled"
            )
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"tolerance ({self.tolerance}) must be at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Behavior:
    """Both directions'."""

    scale_up: ScalingRules
    scale_down: ScalingRules


HPA = Behavior(
    scale_up=ScalingRules(
        stabilization_window_seconds=0,
        policies=(
            ScalingPolicy(type=PolicyType.PODS, value=4, period_seconds=15),
            ScalingPolicy(type=PolicyType.PERCENT, value=100, period_seconds=15),
        ),
    ),
    scale_down=ScalingRules(
        stabilization_window_seconds=300,
        policies=(ScalingPolicy(type=PolicyType.PERCENT, value=100, period_seconds=15),),
    ),
)
"""What HPA does where its `behavior` leaves all out (pkg/apis/autoscaling/v2/defaults.go). Not what we do."""


def is_tolerable(behavior: Behavior, ratio: float) -> bool:
    """Whether usage over target is so near 1 that nothing should change: asked before anything is recommended."""
    return 1 - behavior.scale_down.tolerance <= ratio <= 1 + behavior.scale_up.tolerance


def decide(  # noqa: PLR0913, PLR0917 - HPA's own NormalizationArg, one by one
    current: int, desired: int, record: Record, behavior: Behavior, limits: Limits, now: float
) -> Decision:
    """What becomes of a recommendation; `record` holds the earlier ones, by the clock of `now`. The reason says what limited it.

    Who calls tells the record: the recommendation in any case, the scaling once it was done. 0 replicas are not ours to judge:
    whoever scaled to 0 wants us to keep our hands off.
    """
    bounded = limits.within(current)
    if bounded != current:
        # As HPA: what is out of bounds goes back at once, whatever the rates say, even where a direction is disabled.
        return Decision(replicas=bounded, reason=limits.why(current))
    stable = _stabilised(current, desired, record, behavior, now)
    # Of equals the first one is told.
    if stable.replicas > current:
        most = Decision(replicas=limits.maximum, reason=f"max is {limits.maximum}")
        return min(stable, most, _rate_limit(current, behavior.scale_up, record, now, up=True), key=_replicas)
    if stable.replicas < current:
        least = Decision(replicas=limits.minimum, reason=f"min is {limits.minimum}")
        return max(
            stable, least, _rate_limit(current, behavior.scale_down, record, now, up=False), key=_replicas
        )
    return stable


def _replicas(decision: Decision) -> int:
    return decision.replicas


def _stabilised(current: int, desired: int, record: Record, behavior: Behavior, now: float) -> Decision:
    up_s = behavior.scale_up.stabilization_window_seconds
    down_s = behavior.scale_down.stabilization_window_seconds
    least, most = record.least(desired, now - up_s), record.most(desired, now - down_s)
    replicas = min(max(current, least), most)
    if replicas == desired:
        return Decision(replicas=replicas, reason="as wanted")
    if replicas < desired:
        return Decision(replicas=replicas, reason=f"the least wanted in the last {up_s} s")
    return Decision(replicas=replicas, reason=f"the most wanted in the last {down_s} s")


def _rate_limit(current: int, rules: ScalingRules, record: Record, now: float, *, up: bool) -> Decision:
    """How far the policies let it go, never to the other side of what is there."""
    if rules.select_policy is SelectPolicy.DISABLED:
        return Decision(replicas=current, reason=f"scale-{'up' if up else 'down'} is disabled")
    proposals = [
        Decision(
            replicas=_proposed(policy, current - record.change(now - policy.period_seconds), up=up),
            reason=str(policy),
        )
        for policy in rules.policies
    ]
    takes_largest = up == (rules.select_policy is SelectPolicy.MAX)
    limit = (max if takes_largest else min)(proposals, key=_replicas)
    # A policy that became stricter after much was scaled would reach back.
    kept = max(limit.replicas, current) if up else min(limit.replicas, current)
    return Decision(replicas=kept, reason=limit.reason)


def _proposed(policy: ScalingPolicy, start: int, *, up: bool) -> int:
    match policy.type:
        case PolicyType.PODS:
            return start + policy.value if up else start - policy.value
        case PolicyType.PERCENT:
            # Rounded as HPA does, floating point errors and all: 50 pods and 10 % more are 56.
            return (
                math.ceil(start * (1 + policy.value / 100)) if up else int(start * (1 - policy.value / 100))
            )
        case _:
            assert_never(policy.type)
