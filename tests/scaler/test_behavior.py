import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.behavior import (
    HPA,
    Behavior,
    PolicyType,
    ScalingPolicy,
    ScalingRules,
    SelectPolicy,
    decide,
    is_tolerable,
)
from scaler.decision import Decision, Limits
from scaler.record import Record

NOW = 10_000.0
param = pytest.param
WITHIN, FEW, MANY, RATE = "as wanted", "min is", "max is", "at most"


def pods(value: int, period: int) -> ScalingPolicy:
    return ScalingPolicy(type=PolicyType.PODS, value=value, period_seconds=period)


def percent(value: int, period: int) -> ScalingPolicy:
    return ScalingPolicy(type=PolicyType.PERCENT, value=value, period_seconds=period)


def rules(some: int, some_period: int, share: int, share_period: int, window: int = 0) -> ScalingRules:
    """As Kubernetes' own tests have it (generateScalingRules)."""
    policies = [pods(some, some_period)] if some else []
    policies += [percent(share, share_period)] if share else []
    return ScalingRules(stabilization_window_seconds=window, policies=tuple(policies))


@dataclass(frozen=True)
class Case:
    current: int
    desired: int
    minimum: int = 1
    maximum: int = 1000
    up: ScalingRules = HPA.scale_up
    down: ScalingRules = HPA.scale_down
    ups: tuple[int, ...] = ()
    """Spread evenly over the last 120 seconds."""
    downs: tuple[int, ...] = ()

    def decided(self) -> Decision:
        record = Record()
        events = [*_spread(self.ups, 1), *_spread(self.downs, -1)]
        for at, change in sorted(events):
            record.scaled(0, change, at)
        behavior = Behavior(scale_up=self.up, scale_down=self.down)
        limits = Limits(minimum=self.minimum, maximum=self.maximum)
        return decide(self.current, self.desired, record, behavior, limits, NOW)


def _spread(changes: tuple[int, ...], sign: int) -> list[tuple[float, int]]:
    return [
        (NOW - 120 * (1 - (place + 0.5) / len(changes)), sign * change)
        for place, change in enumerate(changes)
    ]


# Kubernetes 1.36, pkg/controller/podautoscaler/horizontal_test.go: current, desired, min, max; its names, shortened.
# fmt: off
SCALING_WITH_RULES = [
    param(Case(5, 7, 3, 8), 7, WITHIN, id="desired within range"),
    param(Case(3, 1, 2, 8), 2, FEW, id="desired < minReplicas"),
    param(Case(1, 0, 0, 10), 0, WITHIN, id="desired within range when minReplicas is 0"),
    param(Case(20, 1000, 1, 10), 10, MANY, id="max is below the rate"),
    param(Case(100, 1000, 100, 150), 150, MANY, id="desired > max"),
    param(Case(3, 1000, 1, 2000, up=rules(0, 0, 1, 60)), 4, RATE, id="the rate is below max"),
    param(Case(1000, 3, 3, 2000, down=rules(20, 60, 0, 0)), 980, RATE, id="the rate is above min"),
    param(Case(10, 50), 20, RATE, id="up: default behavior"),
    param(Case(10, 500, up=rules(100, 60, 100, 60)), 110, RATE, id="up: pods > percent"),
    param(Case(10, 500, up=rules(2, 60, 100, 60)), 20, RATE, id="up: percent > pods"),
    param(Case(10, 50, up=rules(100, 60, 0, 0)), 50, WITHIN, id="up: max, many pods"),
    param(Case(10, 50, up=rules(10000, 60, 0, 0)), 50, WITHIN, id="up: max, much percent"),
    param(Case(10, 50, up=rules(30, 60, 0, 0)), 40, RATE, id="up: pod"),
    param(Case(10, 50, up=rules(0, 0, 200, 60)), 30, RATE, id="up: percent"),
    param(Case(100, 2, down=rules(20, 60, 1, 60)), 80, RATE, id="down: percent > pod"),
    param(Case(100, 2, down=rules(2, 60, 1, 60)), 98, RATE, id="down: pod > percent"),
    param(Case(10, 0, down=rules(100, 60, 0, 0)), 1, FEW, id="down: default min, many pods"),
    param(Case(10, 0, down=rules(100, 60, 0, 0)), 1, FEW, id="down: min, many pods"),
    param(Case(10, 2, 5, 1000, down=rules(0, 0, 100, 60)), 5, FEW, id="down: min, much percent"),
    param(Case(10, 2, down=rules(5, 60, 0, 0)), 5, RATE, id="down: pod"),
    param(Case(10, 5, down=rules(0, 0, 50, 60)), 5, WITHIN, id="down: percent"),
    param(Case(100, 500, 1, 200, up=rules(300, 60, 0, 0), ups=(1, 5, 9)), 200, MANY, id="up: max, many pods and events"),
    param(Case(100, 500, 1, 200, up=rules(0, 0, 10000, 60), ups=(1, 5, 9)), 200, MANY, id="up: max, much percent and events"),
    param(Case(100, 500, up=rules(5, 120, 0, 0), ups=(1, 5, 9)), 100, RATE, id="up: many recent ups"),
    param(Case(100, 500, up=rules(150, 120, 0, 0), ups=(1, 5, 9)), 235, RATE, id="up: pod and ups"),
    param(Case(100, 500, up=rules(0, 0, 200, 120), ups=(1, 5, 9)), 255, RATE, id="up: percent and ups"),
    param(Case(6, 24, up=rules(0, 0, 300, 300), ups=(4,), downs=(2,)), 16, RATE, id="up: percent and ups and downs"),
    param(Case(10, 5, downs=(1, 5, 9)), 5, WITHIN, id="down: default and events"),
    param(Case(100, 0, down=rules(115, 120, 0, 0), downs=(1, 5, 9)), 1, FEW, id="down: default min, many pods and events"),
    param(Case(100, 0, 5, 1000, down=rules(130, 120, 0, 0), downs=(1, 5, 9)), 5, FEW, id="down: min, many pods and events"),
    param(Case(100, 2, 5, 1000, down=rules(0, 0, 100, 120), downs=(1, 5, 9)), 5, FEW, id="down: min, much percent and events"),
    param(Case(100, 2, down=rules(5, 120, 0, 0), downs=(1, 5, 9)), 100, RATE, id="down: pod and events"),
    param(Case(100, 0, down=rules(0, 0, 50, 120), downs=(2, 4, 6)), 56, RATE, id="down: percent and events"),
    param(Case(10, 1, down=rules(0, 0, 50, 180), ups=(2,), downs=(4,)), 6, RATE, id="down: percent and ups and downs"),
    param(Case(100, 0, down=rules(0, 0, 10, 120), downs=(10, 10, 10)), 100, RATE, id="down: events prevent more"),
    param(Case(10, 5, down=rules(0, 0, 1000, 120), downs=(10, 10, 10)), 5, WITHIN, id="down: events allow more"),
    param(Case(100, 200, up=rules(1000, 60, 0, 0), ups=(8, 12, 9, 11)), 200, WITHIN, id="old events, one policy: up"),
    param(Case(100, 200, up=rules(1000, 120, 100, 60), ups=(8, 12, 9, 11)), 200, WITHIN, id="kept, two policies: up"),
    param(Case(100, 200, up=rules(1000, 30, 100, 60), ups=(8, 12, 9, 11)), 200, WITHIN, id="old events, two policies: up"),
    param(Case(100, 5, down=rules(1000, 60, 0, 0), downs=(8, 12, 9, 11)), 5, WITHIN, id="old events, one policy: down"),
    param(Case(100, 5, down=rules(1000, 120, 100, 60), downs=(8, 12, 9, 11)), 5, WITHIN, id="kept, two policies: down"),
    param(Case(100, 5, down=rules(1000, 30, 100, 60), downs=(8, 12, 9, 11)), 5, WITHIN, id="old events, two policies: down"),
]
# fmt: on


@pytest.mark.parametrize(("case", "expected", "reason"), SCALING_WITH_RULES)
def test_rates_limit_as_in_testscalingwithrules(case: Case, expected: int, reason: str) -> None:
    decided = case.decided()

    assert (expected, True) == (decided.replicas, decided.reason.startswith(reason)), decided


FREE = 10_000
"""A rate that limits nothing."""


@pytest.mark.parametrize(
    ("told", "current", "desired", "windows", "expected"),
    [
        pytest.param((), 100, 5, (0, 0), 5, id="empty recommendations for scaling down"),
        pytest.param(((4, 120), (5, 60)), 100, 3, (0, 180), 5, id="simple scale down stabilization"),
        pytest.param(((4, 120), (5, 60)), 1, 7, (300, 0), 4, id="simple scale up stabilization"),
        pytest.param(((1, 120), (2, 60)), 100, 3, (300, 0), 3, id="no scale down stabilization"),
        pytest.param(((4, 120), (5, 60)), 1, 3, (0, 300), 3, id="no scale up stabilization"),
        pytest.param(((10, 600), (9, 540)), 100, 3, (0, 0), 3, id="no scale down stabilization, old ones"),
        pytest.param(((10, 600), (9, 540)), 1, 100, (0, 0), 100, id="no scale up stabilization, old ones"),
        pytest.param(
            ((10, 600), (9, 540), (5, 120), (4, 60)),
            100,
            3,
            (0, 180),
            5,
            id="scale down stabilization, old ones",
        ),
        pytest.param(
            ((10, 6000), (9, 180), (5, 120), (6, 60)),
            1,
            100,
            (300, 0),
            5,
            id="scale up stabilization, old ones",
        ),
        pytest.param(
            ((2, 6000), (3, 180)),
            2,
            1,
            (300, 300),
            2,
            id="both: do not scale up when the recommendation goes down",
        ),
        pytest.param(
            ((2, 6000), (1, 180)),
            2,
            3,
            (300, 300),
            2,
            id="both: do not scale down when the recommendation goes up",
        ),
    ],
)
def test_recommendations_are_stabilised_as_in_testnormalizedesiredreplicaswithbehavior(
    told: tuple[tuple[int, int], ...], current: int, desired: int, windows: tuple[int, int], expected: int
) -> None:
    record = Record()
    for replicas, ago in told:
        record.recommended(replicas, NOW - ago)
    behavior = Behavior(
        scale_up=rules(FREE, 15, 0, 0, windows[0]), scale_down=rules(FREE, 15, 0, 0, windows[1])
    )

    decided = decide(current, desired, record, behavior, Limits(minimum=0, maximum=FREE), NOW)

    assert expected == decided.replicas


@pytest.mark.parametrize(
    ("current", "desired", "expected"),
    [
        pytest.param(1, 9, 2, id="TestCalculateScaleUpLimitWithScalingRules"),
        pytest.param(5, 0, 3, id="TestCalculateScaleDownLimitWithBehaviors"),
    ],
)
def test_min_selects_the_policy_of_the_least_change(current: int, desired: int, expected: int) -> None:
    strict = replace(rules(2, 60, 50, 60, 300), select_policy=SelectPolicy.MIN)
    behavior = Behavior(scale_up=replace(strict, stabilization_window_seconds=0), scale_down=strict)

    decided = decide(current, desired, Record(), behavior, Limits(minimum=0, maximum=10), NOW)

    assert expected == decided.replicas


DISABLED = ScalingRules(stabilization_window_seconds=0, policies=(), select_policy=SelectPolicy.DISABLED)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(
            Case(4, 20, 1, 30),
            Decision(replicas=8, reason="at most 4 pods per 15 s"),
            id="the first of two that say the same",
        ),
        pytest.param(
            Case(5, 20, 1, 30), Decision(replicas=10, reason="at most 100 % per 15 s"), id="percent"
        ),
        pytest.param(
            Case(5, 20, 1, 30, up=rules(1, 60, 0, 0, 0)),
            Decision(replicas=6, reason="at most 1 pod per 60 s"),
            id="one pod",
        ),
        pytest.param(Case(5, 20, 1, 8), Decision(replicas=8, reason="max is 8"), id="max"),
        pytest.param(Case(5, 1, 2, 8), Decision(replicas=2, reason="min is 2"), id="min"),
        pytest.param(Case(5, 8, 1, 8), Decision(replicas=8, reason="as wanted"), id="nothing"),
        pytest.param(Case(5, 5, 1, 8), Decision(replicas=5, reason="as wanted"), id="no change"),
        pytest.param(
            Case(5, 8, 1, 8, up=DISABLED),
            Decision(replicas=5, reason="scale-up is disabled"),
            id="up disabled",
        ),
        pytest.param(
            Case(5, 2, 1, 8, down=DISABLED),
            Decision(replicas=5, reason="scale-down is disabled"),
            id="down disabled",
        ),
        pytest.param(
            Case(9, 9, 1, 8, down=DISABLED),
            Decision(replicas=8, reason="max is 8"),
            id="out of bounds, although disabled",
        ),
        pytest.param(Case(1, 1, 3, 8, up=DISABLED), Decision(replicas=3, reason="min is 3"), id="below min"),
    ],
)
def test_the_reason_says_what_limited_it(case: Case, expected: Decision) -> None:
    assert expected == case.decided()


@pytest.mark.parametrize(
    ("told", "desired", "expected"),
    [
        pytest.param(9, 5, Decision(replicas=9, reason="the most wanted in the last 300 s"), id="down"),
        pytest.param(11, 15, Decision(replicas=11, reason="the least wanted in the last 60 s"), id="up"),
    ],
)
def test_the_reason_names_the_window_that_held_it_back(told: int, desired: int, expected: Decision) -> None:
    record = Record()
    record.recommended(told, NOW - 30)
    behavior = replace(HPA, scale_up=rules(4, 15, 0, 0, 60))

    assert expected == decide(10, desired, record, behavior, Limits(minimum=1, maximum=20), NOW)


def test_a_restart_that_records_what_is_there_holds_it_for_a_window() -> None:
    record = Record()
    record.recommended(10, NOW)
    limits = Limits(minimum=1, maximum=20)

    held = [decide(10, 2, record, HPA, limits, NOW + later).replicas for later in (0, 299, 300)]

    assert [10, 10, 2] == held


def test_percent_is_rounded_as_hpa_rounds_it_floating_point_errors_and_all() -> None:
    tenth, most = rules(0, 0, 10, 60), rules(0, 0, 90, 60)

    assert (56, 0) == (
        Case(50, 99, up=tenth).decided().replicas,
        Case(10, 0, 0, 99, down=most).decided().replicas,
    )


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        pytest.param(0.79, False, id="too low"),
        pytest.param(0.81, True, id="low"),
        pytest.param(1.0, True, id="just right"),
        pytest.param(1.05, True, id="high, edge"),
        pytest.param(1.06, False, id="too high"),
        pytest.param(math.nan, False, id="not known"),
    ],
)
def test_each_direction_has_its_own_tolerance(ratio: float, expected: bool) -> None:
    behavior = Behavior(
        scale_up=replace(HPA.scale_up, tolerance=0.05), scale_down=replace(HPA.scale_down, tolerance=0.2)
    )

    assert expected == is_tolerable(behavior, ratio)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda: pods(0, 15), "write selectPolicy: Disabled", id="no change at all"),
        pytest.param(lambda: percent(10, 0), r"periodSeconds \(0\) must be 1 to 1800", id="no period"),
        pytest.param(
            lambda: percent(10, 1801), r"periodSeconds \(1801\) must be 1 to 1800", id="long period"
        ),
        pytest.param(
            lambda: rules(1, 1, 0, 0, -1), r"Seconds \(-1\) must be 0 to 3600", id="negative window"
        ),
        pytest.param(
            lambda: rules(1, 1, 0, 0, 3601), r"Seconds \(3601\) must be 0 to 3600", id="long window"
        ),
        pytest.param(lambda: rules(0, 0, 0, 0, 0), "policies must have at least one entry", id="no policy"),
        pytest.param(
            lambda: replace(HPA.scale_up, tolerance=-0.1),
            r"tolerance \(-0.1\) must be at least 0",
            id="tolerance",
        ),
        pytest.param(
            lambda: replace(HPA.scale_up, tolerance=math.nan),
            r"tolerance \(nan\) must be at least 0",
            id="nan",
        ),
    ],
)
def test_what_the_api_server_refuses_is_refused(make: object, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make()  # type: ignore[operator]


_POLICIES = st.builds(
    ScalingPolicy,
    type=st.sampled_from(PolicyType),
    value=st.integers(1, 300),
    period_seconds=st.integers(1, 120),
)
_RULES = st.builds(
    ScalingRules,
    stabilization_window_seconds=st.integers(0, 120),
    policies=st.lists(_POLICIES, min_size=1, max_size=3).map(tuple),
    select_policy=st.sampled_from(SelectPolicy),
)
_BEHAVIORS = st.builds(Behavior, scale_up=_RULES, scale_down=_RULES)
_LIMITS = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(
    lambda pair: Limits(minimum=min(pair), maximum=max(pair))
)


@dataclass
class History:
    """What HPA keeps, plainly; times are seconds ago."""

    wanted: list[tuple[int, int]]
    scaled: list[tuple[int, int]]

    def record(self) -> Record:
        record = Record()
        for ago, replicas in sorted(self.wanted, reverse=True):
            record.recommended(replicas, NOW - ago)
        for ago, change in sorted(self.scaled, reverse=True):
            record.scaled(0, change, NOW - ago)
        return record


_HISTORIES = st.builds(
    History,
    wanted=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), max_size=8),
    scaled=st.lists(st.tuples(st.integers(0, 200), st.integers(-20, 20)), max_size=8),
)
_REPLICAS = st.integers(0, 50)


def by_hpa(current: int, desired: int, history: History, behavior: Behavior, limits: Limits) -> int:
    """horizontal.go, line by line, without its locks and its bookkeeping."""
    if current > limits.maximum:
        return limits.maximum
    if current < limits.minimum:
        return limits.minimum
    up, down = behavior.scale_up, behavior.scale_down
    up_recommendation = down_recommendation = desired
    for ago, replicas in history.wanted:
        if ago < up.stabilization_window_seconds:
            up_recommendation = min(replicas, up_recommendation)
        if ago < down.stabilization_window_seconds:
            down_recommendation = max(replicas, down_recommendation)
    recommendation = min(max(current, up_recommendation), down_recommendation)
    if recommendation > current:
        limit = max(current, _limit_by_hpa(current, history, up, sign=1))
        return min(recommendation, limits.maximum, limit)
    if recommendation < current:
        limit = min(current, _limit_by_hpa(current, history, down, sign=-1))
        return max(recommendation, limits.minimum, limit)
    return recommendation


def _limit_by_hpa(current: int, history: History, rules: ScalingRules, sign: int) -> int:
    if rules.select_policy is SelectPolicy.DISABLED:
        return current
    proposals = []
    for policy in rules.policies:
        start = current - sum(change for ago, change in history.scaled if ago < policy.period_seconds)
        if policy.type is PolicyType.PODS:
            proposals.append(start + sign * policy.value)
        elif sign == 1:
            proposals.append(math.ceil(start * (1 + policy.value / 100)))
        else:
            proposals.append(math.trunc(start * (1 - policy.value / 100)))
    if rules.select_policy is SelectPolicy.MIN:
        return min(proposals) if sign == 1 else max(proposals)
    return max(proposals) if sign == 1 else min(proposals)


@given(_REPLICAS, _REPLICAS, _HISTORIES, _BEHAVIORS, _LIMITS)
def test_it_decides_as_hpa(
    current: int, desired: int, history: History, behavior: Behavior, limits: Limits
) -> None:
    decided = decide(current, desired, history.record(), behavior, limits, NOW)

    assert by_hpa(current, desired, history, behavior, limits) == decided.replicas


@given(_REPLICAS, _REPLICAS, _HISTORIES, _BEHAVIORS, _LIMITS)
def test_it_never_goes_beyond_the_limits(
    current: int, desired: int, history: History, behavior: Behavior, limits: Limits
) -> None:
    decided = decide(current, desired, history.record(), behavior, limits, NOW).replicas

    assert limits.minimum <= decided <= limits.maximum


@given(_REPLICAS, _REPLICAS, _HISTORIES, _BEHAVIORS)
def test_it_never_goes_in_a_direction_that_is_disabled(
    current: int, desired: int, history: History, behavior: Behavior
) -> None:
    limits = Limits(minimum=0, maximum=50)
    no_up, no_down = replace(behavior, scale_up=DISABLED), replace(behavior, scale_down=DISABLED)

    raised = decide(current, desired, history.record(), no_up, limits, NOW).replicas
    lowered = decide(current, desired, history.record(), no_down, limits, NOW).replicas

    assert raised <= current <= lowered


@given(_REPLICAS, _REPLICAS, _REPLICAS, _HISTORIES, _BEHAVIORS)
def test_who_wants_more_gets_no_less(
    current: int, one: int, other: int, history: History, behavior: Behavior
) -> None:
    limits = Limits(minimum=2, maximum=40)
    few, many = (
        decide(current, desired, history.record(), behavior, limits, NOW).replicas
        for desired in sorted((one, other))
    )

    assert few <= many


@given(_REPLICAS, _REPLICAS, _HISTORIES, _BEHAVIORS, _LIMITS)
def test_it_never_goes_further_than_was_wanted_or_away_from_it(
    current: int, desired: int, history: History, behavior: Behavior, limits: Limits
) -> None:
    current = limits.within(current)
    decided = decide(current, desired, history.record(), behavior, limits, NOW).replicas

    assert min(current, desired) <= decided <= max(current, desired)
