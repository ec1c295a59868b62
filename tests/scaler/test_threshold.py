import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.decision import Decision, Limits
from scaler.threshold import Baseline, Readings, Thresholds, decide

DEFAULT = Thresholds()
LIMITS = Limits(minimum=2, maximum=20)
USUAL = 100.0
DAY_S = 24 * 3600.0


def readings(cpu: float | None = 50, memory: float | None = 50, rate: float | None = 100) -> Readings:
    return Readings(cpu=cpu, memory=memory, rate=rate)


def replicas(read: Readings, current: int = 8, usual: float | None = USUAL, limits: Limits = LIMITS) -> int:
    return decide(current, read, usual, DEFAULT, limits).replicas


IDLE = readings(cpu=10, memory=10, rate=10)


@pytest.mark.parametrize(
    ("current", "read", "expected"),
    [
        pytest.param(4, readings(cpu=71), 8, id="CPU is high"),
        pytest.param(4, readings(cpu=70), 4, id="CPU is just not high"),
        pytest.param(4, readings(memory=81), 8, id="memory is high"),
        pytest.param(4, readings(memory=80), 4, id="memory is just not high"),
        pytest.param(4, readings(cpu=90, memory=90), 8, id="both are high: doubled once"),
        pytest.param(4, readings(cpu=90, memory=10, rate=0), 8, id="one is high, all else is low"),
        pytest.param(12, readings(cpu=90), 20, id="capped at max"),
        pytest.param(20, readings(cpu=90), 20, id="at max"),
        pytest.param(8, readings(cpu=29, memory=39, rate=49), 4, id="all are low"),
        pytest.param(7, IDLE, 3, id="half of an odd number, rounded down"),
        pytest.param(3, IDLE, 2, id="floored at min"),
        pytest.param(2, IDLE, 2, id="at min"),
        pytest.param(8, readings(cpu=30, memory=39, rate=49), 8, id="CPU is just not low"),
        pytest.param(8, readings(cpu=29, memory=40, rate=49), 8, id="memory is just not low"),
        pytest.param(8, readings(cpu=29, memory=39, rate=50), 8, id="the rate is just not low"),
        pytest.param(8, readings(), 8, id="nothing is high or low"),
        pytest.param(30, readings(), 20, id="above max, whatever is read"),
        pytest.param(1, readings(), 2, id="below min, whatever is read"),
    ],
)
def test_the_rule_is_the_one_that_was_asked_for(current: int, read: Readings, expected: int) -> None:
    assert expected == replicas(read, current)


@pytest.mark.parametrize(
    "unknown", [pytest.param(None, id="missing"), math.nan, math.inf, pytest.param(-1.0, id="negative")]
)
def test_what_is_not_known_never_scales_down(unknown: float | None) -> None:
    low = [
        (readings(cpu=unknown, memory=10, rate=10), USUAL),
        (readings(cpu=10, memory=unknown, rate=10), USUAL),
        (readings(cpu=10, memory=10, rate=unknown), USUAL),
        (IDLE, unknown),
    ]

    assert [8, 8, 8, 8] == [replicas(read, usual=usual) for read, usual in low]


@pytest.mark.parametrize("unknown", [pytest.param(None, id="missing"), math.nan, math.inf])
def test_one_that_is_high_is_enough_to_scale_up(unknown: float | None) -> None:
    high = [readings(cpu=90, memory=unknown, rate=unknown), readings(cpu=unknown, memory=90, rate=unknown)]

    assert [16, 16] == [replicas(read, usual=unknown) for read in high]


@pytest.mark.parametrize(
    ("current", "read", "expected"),
    [
        pytest.param(4, readings(cpu=71), "CPU 71 % > 70 %: twice as many", id="up"),
        pytest.param(
            12,
            readings(cpu=71, memory=85),
            "CPU 71 % > 70 % and memory 85 % > 80 %: twice as many, but max is 20",
            id="capped",
        ),
        pytest.param(
            8, IDLE, "CPU, memory and rate (10 req/s of usually 100) are low: half as many", id="down"
        ),
        pytest.param(
            8,
            readings(cpu=None, memory=50, rate=80),
            "nothing is high; no fewer, as CPU is not known, memory 50 >= 40, rate 80 >= 50",
            id="nothing",
        ),
        pytest.param(
            8,
            readings(memory=10, rate=123_456),
            "nothing is high; no fewer, as CPU 50 >= 30, rate 123456 >= 50",
            id="large numbers",
        ),
    ],
)
def test_the_reason_says_which_reading_decided(current: int, read: Readings, expected: str) -> None:
    assert expected == decide(current, read, USUAL, DEFAULT, LIMITS).reason


def test_without_a_baseline_it_never_scales_down_and_says_so() -> None:
    reason = "nothing is high; no fewer, as baseline is not known"

    assert Decision(replicas=8, reason=reason) == decide(8, IDLE, None, DEFAULT, LIMITS)


def test_a_baseline_of_the_settings_goes_before_the_learned_one() -> None:
    fixed = Thresholds(baseline=15.0)

    assert (8, 4) == (
        decide(8, IDLE, 1000.0, fixed, LIMITS).replicas,
        decide(8, readings(cpu=10, memory=10, rate=7), None, fixed, LIMITS).replicas,
    )


def test_the_literal_rule_with_a_caches_memory_at_85_percent_goes_to_max_and_stays() -> None:
    counts = [2]
    for _ in range(10):
        counts.append(replicas(readings(cpu=3, memory=85, rate=0), counts[-1]))

    assert [2, 4, 8, 16, 20, 20, 20, 20, 20, 20, 20] == counts


def test_a_cache_that_is_half_full_is_enough_to_never_scale_down() -> None:
    assert replicas(readings(cpu=1, memory=45, rate=0), current=20) == 20


def test_it_doubles_again_while_the_first_doubling_still_starts() -> None:
    """A pod serves 50 req/s and takes 30 s to start; 180 req/s come, for which four are enough. It decides every 15 s."""
    ready_at, counts = [0.0, 0.0], []
    for now in (15.0, 30.0, 45.0, 60.0):
        ready = sum(at <= now for at in ready_at)
        current = len(ready_at)
        wanted = replicas(readings(cpu=min(100, 100 * 180 / (50 * ready)), memory=50, rate=180), current)
        ready_at += [now + 30] * (wanted - current)
        counts.append((ready, wanted))

    assert [(2, 4), (2, 8), (4, 16), (8, 16)] == counts


def test_the_learned_baseline_is_what_a_pod_usually_serves_times_the_pods() -> None:
    baseline = Baseline()
    for _ in range(100):
        baseline.learn(rate=80, ready=4, seconds=15)

    assert pytest.approx(120) == baseline.of(6)


@pytest.mark.parametrize(
    ("rate", "ready", "seconds"),
    [
        pytest.param(None, 4, 15, id="no rate"),
        pytest.param(math.nan, 4, 15, id="NaN"),
        pytest.param(math.inf, 4, 15, id="infinite"),
        pytest.param(80, 0, 15, id="no pod"),
        pytest.param(80, 4, 0, id="no time"),
        pytest.param(0, 4, 15, id="no request"),
    ],
)
def test_what_is_not_known_teaches_nothing(rate: float | None, ready: int, seconds: float) -> None:
    fresh, taught = Baseline(), Baseline()
    taught.learn(rate=80, ready=4, seconds=15)
    for baseline in (fresh, taught):
        baseline.learn(rate, ready, seconds)

    assert fresh.of(1) is None
    assert pytest.approx(20) == taught.of(1)


def test_a_quiet_night_hardly_moves_what_is_usual() -> None:
    baseline = Baseline()
    baseline.learn(rate=400, ready=8, seconds=DAY_S / 2)
    for _ in range(480):
        baseline.learn(rate=4, ready=8, seconds=60)

    usual = baseline.of(1)
    assert usual is not None
    assert 45 < usual < 50


def test_what_is_usual_is_learned_anew_within_days() -> None:
    baseline = Baseline()
    baseline.learn(rate=400, ready=8, seconds=DAY_S)
    for _ in range(3 * 1440):
        baseline.learn(rate=100, ready=8, seconds=60)

    assert pytest.approx(12.5, rel=0.05) == baseline.of(1)


def test_after_a_crowd_the_learned_baseline_lets_it_go_down_again() -> None:
    """Usually four pods serve 100 req/s; a crowd of an hour made it 16, and left."""
    baseline, counts = Baseline(), [16]
    baseline.learn(rate=100, ready=4, seconds=DAY_S)
    baseline.learn(rate=600, ready=16, seconds=3600)
    for _ in range(4):
        current = counts[-1]
        baseline.learn(rate=100, ready=current, seconds=15)
        cpu = 100 * 100 / (50 * current)
        counts.append(replicas(readings(cpu=cpu, memory=30, rate=100), current, baseline.of(current)))

    assert [16, 8, 4, 4, 4] == counts


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"cpu_up": 30}, r"cpu_down \(30\) must be at least 0 and below cpu_up \(30\)", id="CPU"),
        pytest.param(
            {"memory_down": 90}, r"memory_down \(90\) must be .* below memory_up \(80\)", id="memory"
        ),
        pytest.param({"cpu_down": -1}, r"cpu_down \(-1\) must be at least 0", id="negative"),
        pytest.param({"cpu_down": math.nan}, r"cpu_down \(nan\) must be at least 0", id="NaN"),
        pytest.param({"baseline": 0}, r"baseline \(0\) must be `auto` or more than 0", id="baseline"),
    ],
)
def test_bad_thresholds_are_refused(settings: dict[str, float], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Thresholds(**settings)


_READING = st.none() | st.floats()


@given(st.integers(0, 50), _READING, _READING, _READING, _READING)
def test_it_never_goes_beyond_the_limits_nor_further_than_twice_or_half(
    current: int, cpu: float | None, memory: float | None, rate: float | None, usual: float | None
) -> None:
    decided = decide(current, readings(cpu, memory, rate), usual, DEFAULT, LIMITS).replicas

    assert decided in {LIMITS.within(some) for some in (2 * current, current, current // 2)}


@given(st.integers(2, 20), st.lists(_READING, min_size=3, max_size=3), st.integers(0, 2), _READING)
def test_without_any_one_reading_it_never_scales_down(
    current: int, values: list[float | None], missing: int, usual: float | None
) -> None:
    values[missing] = None

    assert replicas(readings(*values), current, usual) >= current
