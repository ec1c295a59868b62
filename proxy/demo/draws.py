"""Random numbers that are the same on every machine and every Python."""

import random
from collections.abc import Callable


def draws(seed: int) -> Callable[[], float]:
    """Numbers in [0, 1). `random()` of an int seed is the one sequence that Python promises never to change."""
    return random.Random(seed).random  # noqa: S311 - sample data, not secrets
