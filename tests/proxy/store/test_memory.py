"""The memory tier keeps to its budget, tells why a value left and sweeps in bounded steps."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from sys import getsizeof

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.store.memory import ENTRY_BYTES, Evicted, Memory


def taken(key: str, size: int) -> int:
    exact = size + getsizeof(key) + ENTRY_BYTES
    return exact + -exact % 64


def memory(*, max_bytes: int = 1 << 20, reasons: list[str] | None = None) -> Memory[str]:
    return Memory(
        max_bytes=max_bytes,
        max_object_bytes=1 << 16,
        on_evict=(lambda _: None) if reasons is None else reasons.append,
    )


def test_a_value_is_answered_until_it_is_popped() -> None:
    tier = memory()

    stored = tier.put("a", "A", size=100, until=10)

    assert (stored, tier.get("a"), tier.pop("a"), tier.get("a"), tier.pop("a")) == (
        True,
        "A",
        "A",
        None,
        None,
    )


def test_the_budget_counts_value_key_and_the_tiers_own_share() -> None:
    tier = memory()

    tier.put("a", "A", size=100, until=10)
    tier.put("b", "B", size=200, until=10)
    tier.put("b", "C", size=300, until=10)

    assert (tier.entries, tier.bytes) == (2, taken("a", 100) + taken("b", 300))
    assert dict(tier.items()) == {"a": "A", "b": "C"}


@pytest.mark.parametrize(
    "size",
    [pytest.param((1 << 16) + 1, id="than an object may be"), pytest.param(1 << 15, id="than the budget")],
)
def test_a_value_too_large_is_not_stored_and_takes_the_older_one_with_it(size: int) -> None:
    reasons: list[str] = []
    tier = memory(max_bytes=1 << 15, reasons=reasons)
    tier.put("a", "A", size=100, until=10)

    stored = tier.put("a", "B", size=size, until=10)

    assert (stored, tier.get("a"), tier.entries, tier.bytes, reasons) == (False, None, 0, 0, [Evicted.SIZE])


def test_a_value_too_large_where_none_was_is_no_eviction() -> None:
    reasons: list[str] = []
    tier = memory(reasons=reasons)

    assert (tier.put("a", "A", size=1 << 17, until=10), reasons) == (False, [])


def test_every_value_that_leaves_is_reported_with_its_reason_and_a_replaced_one_is_not() -> None:
    reasons: list[str] = []
    tier = memory(max_bytes=10 * taken("00", 100), reasons=reasons)
    for number in range(10):
        tier.put(f"{number:02}", "", size=100, until=number)
    tier.sweep(now=2)
    for number in range(10, 14):
        tier.put(f"{number:02}", "", size=100, until=number)
    tier.put("13", "", size=100, until=13)
    tier.resize(5 * taken("00", 100))
    tier.pop("13")
    tier.clear()

    assert Counter(reasons) == {"expired": 2, "size": 2 + 5, "purged": 5}
    assert (tier.entries, tier.bytes, list(tier.items())) == (0, 0, [])


def test_nobody_need_listen() -> None:
    tier: Memory[int] = Memory(max_bytes=1 << 20, max_object_bytes=1 << 16)
    tier.put("a", 1, size=1, until=0)

    assert (tier.sweep(now=1), tier.entries) == (1, 0)


def test_a_value_may_stay_as_long_as_until_and_is_answered_until_swept() -> None:
    tier = memory()
    tier.put("a", "A", size=1, until=10)

    assert (tier.sweep(now=10), tier.get("a")) == (0, "A")
    assert (tier.sweep(now=10.1), tier.get("a")) == (1, None)


def test_a_sweep_drops_what_is_purged_and_says_so() -> None:
    reasons: list[str] = []
    tier: Memory[str] = Memory(max_bytes=10_000, max_object_bytes=10_000, on_evict=reasons.append)
    for key, value in (("a", "purged"), ("b", "good"), ("c", "purged")):
        tier.put(key, value, size=10, until=5 if key == "c" else 100)

    assert tier.sweep(10, lambda value: value == "purged") == 2
    assert ([key for key, _ in tier.items()], sorted(reasons)) == (["b"], ["expired", "purged"])


def test_a_sweep_looks_at_so_many_and_the_next_goes_on_there() -> None:
    tier = memory()
    for number in range(10):
        tier.put(str(number), "", size=1, until=number % 2)

    dropped = [tier.sweep(now=0.5, limit=4) for _ in range(3)]

    assert (dropped, sorted(key for key, _ in tier.items())) == ([2, 2, 1], ["1", "3", "5", "7", "9"])


def test_a_newer_value_brings_its_own_until() -> None:
    tier = memory()
    tier.put("a", "A", size=1, until=10)
    tier.put("a", "B", size=1, until=20)

    assert (tier.sweep(now=15), tier.get("a")) == (0, "B")


def test_the_tier_may_change_while_its_items_are_read() -> None:
    tier = memory()
    tier.put("a", "A", size=1, until=0)
    tier.put("b", "B", size=1, until=0)

    items = tier.items()
    tier.clear()

    assert list(items) == [("a", "A"), ("b", "B")]


def test_what_is_asked_for_outlives_what_passes_by() -> None:
    tier = memory(max_bytes=100 * taken("stay000", 100))
    for number in range(80):
        tier.put(f"stay{number:03}", "", size=100, until=0)
    for number in range(80):
        for _ in range(5):
            tier.get(f"stay{number:03}")

    for number in range(1000):
        tier.put(f"pass{number:03}", "", size=100, until=0)

    assert sum(tier.get(f"stay{number:03}") is not None for number in range(80)) == 80


# Both sides of the leap in which the dict grows to twice its size.
@pytest.mark.parametrize("entries", [pytest.param(10_900, id="dense"), pytest.param(11_000, id="sparse")])
def test_the_budget_is_what_the_memory_really_grows_by(entries: int) -> None:
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tier: Memory[bytes] = Memory(max_bytes=1 << 30, max_object_bytes=1 << 20)
        for number in range(entries):
            tier.put(
                f"GET https://api.test/events?page={number:06}", bytes(1024), size=1024, until=float(number)
            )
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    value = getsizeof(bytes(1024))
    assert grown <= 1.15 * tier.bytes + (1 << 20)
    assert grown / entries - value <= 400
    assert tier.bytes / entries - 1024 <= 400


def test_memory_that_was_cleared_is_given_back() -> None:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        tier: Memory[bytes] = Memory(max_bytes=1 << 30, max_object_bytes=1 << 20)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2000):
            tier.put(str(number), bytes(1024), size=1024, until=0)
        tier.clear()
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()

    assert left < 1 << 16


class AgainstADict(RuleBasedStateMachine):
    """A dict that forgets nothing but what it is told to."""

    keys = st.sampled_from("abcdefghijklmnopqrstuvwxyz")

    @initialize(max_bytes=st.integers(0, 20_000))
    def start(self, max_bytes: int) -> None:
        self.evicted = 0
        self.stored = 0
        self.max_bytes = max_bytes
        self.model: dict[str, tuple[int, float]] = {}
        self.tier: Memory[int] = Memory(max_bytes=max_bytes, max_object_bytes=4000, on_evict=self.count)

    def count(self, reason: str) -> None:
        self.evicted += 1
        assert reason in set(Evicted)

    @rule(key=keys, value=st.integers(), size=st.integers(0, 5000), until=st.integers(0, 10))
    def put(self, key: str, value: int, size: int, until: int) -> None:
        there = self.tier.get(key) is not None
        fits = size <= 4000 and taken(key, size) <= self.max_bytes
        assert self.tier.put(key, value, size=size, until=until) is fits
        if not fits:
            assert self.tier.get(key) is None
            return
        self.stored += not there
        self.model[key] = value, until
        assert self.tier.get(key) == value

    @rule(key=keys)
    def get(self, key: str) -> None:
        found = self.tier.get(key)
        assert found is None or found == self.model[key][0]

    @rule(key=keys)
    def pop(self, key: str) -> None:
        there = self.tier.get(key)
        assert (self.tier.pop(key), self.tier.get(key)) == (there, None)

    @rule(now=st.integers(0, 10), limit=st.integers(0, 30))
    def sweep(self, now: int, limit: int) -> None:
        before = self.tier.entries
        assert self.tier.sweep(now, limit=limit) == before - self.tier.entries <= limit
        if limit >= before:
            assert all(self.model[key][1] >= now for key, _ in self.tier.items())

    @rule(max_bytes=st.integers(0, 20_000))
    def resize(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.tier.resize(max_bytes)

    @rule()
    def clear(self) -> None:
        self.tier.clear()

    @invariant()
    def holds(self) -> None:
        stored = dict(self.tier.items())
        assert stored.items() <= {key: value for key, (value, _) in self.model.items()}.items()
        assert len(stored) == self.tier.entries == self.stored - self.evicted
        assert 0 <= self.tier.bytes <= self.max_bytes


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
