"""How long random tests look for what is wrong: the same examples at every run, or new ones for as long as they are told.

CROWDGATE_TEST_FUZZ_SECONDS=600 gives each of them ten minutes. (The name begins so that the proxy leaves it alone.)
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

SECONDS = float(os.environ.get("CROWDGATE_TEST_FUZZ_SECONDS") or 0)
"""More than the usual few, for each test."""
PATIENCE_S = 120 + SECONDS * 2
"""For pytest's timeout: shrinking what was found takes its time."""
# A failure needs no second opinion on why: `explain` runs a slow example again and again.
_PHASES = (Phase.explicit, Phase.generate, Phase.target, Phase.shrink)


def search(strategy: SearchStrategy[T], check: Callable[[T], None], *, examples: int) -> None:
    """Has `check` look at `examples` values of `strategy`, and at others until the time is over. It raises what is wrong."""

    def one(example: T) -> None:
        check(example)

    _settings(examples, derandomize=True)(given(strategy)(one))()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        _settings(examples, derandomize=False)(seed(time.monotonic_ns())(given(strategy)(one)))()


def _settings(examples: int, *, derandomize: bool) -> settings:
    return settings(
        max_examples=examples,
        derandomize=derandomize,
        # What was found belongs into a test of its own, not into a folder of one machine's.
        database=None,
        deadline=None,
        phases=_PHASES,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
