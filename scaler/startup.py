"""How long pods take from their creation until they are ready, as they did of late.

What a pod that is created now will take is a guess: 95 of 100 took no longer. Pods that still start count as soon as they have
taken longer than that: an image that is pulled slowly today is known before the first of them is ready.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

# Of the last 50: enough for a 95th percentile, few enough that a release that starts faster is soon believed.
_KEPT = 50
_SHARE = 0.95
# Less is not believed: whoever looks every two seconds knows no better.
_LEAST_S = 1.0
# A pod that has not become ready after so long never will: it says nothing of how long a start takes.
_LONGEST_S = 1800.0


@dataclass(slots=True)
class StartUp:
    """What is known of it. `initial_s` counts until a pod has been seen to start."""

    initial_s: float
    _took: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT), init=False)
    _seen: dict[str, None] = field(default_factory=dict[str, None], init=False)
    """Of those that count: by uid, so that none counts twice."""

    def learn(self, uid: str, created_at: float, ready_at: float) -> None:
        """A pod has become ready for the first time; both in Unix seconds, by the API server's clock."""
        took_s = ready_at - created_at
        if uid in self._seen or not 0 <= took_s <= _LONGEST_S:
            return
        self._seen[uid] = None
        while len(self._seen) > 20 * _KEPT:
            del self._seen[next(iter(self._seen))]
        self._took.append(took_s)

    def expected_s(self, starting_for_s: Iterable[float] = ()) -> float:
        """Seconds that one will take, given for how long those have been starting that still do."""
        if not self._took:
            expected_s = self.initial_s
        else:
            took = sorted(self._took)
            expected_s = took[math.ceil(_SHARE * len(took)) - 1]
        late = [seconds for seconds in starting_for_s if seconds <= _LONGEST_S]
        return max([expected_s, _LEAST_S, *late])
