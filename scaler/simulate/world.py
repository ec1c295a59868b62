"""A Deployment on a virtual clock: pods that take their time to start, the load of a trace, and what came of it.

The load is open: whoever is turned away does not come again. It is spread evenly over the pods that are ready; a pod serves so
many requests a second and turns the rest away.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scaler.simulate.trace import Trace

# From here on clients wait noticeably: a second with more than this share of the ready pods' capacity offered is a violation.
VIOLATED_FROM = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is scaled."""

    pod_start_s: int = 30
    """From the creation of a pod until it is ready."""
    pod_capacity: float = 50.0
    """Requests a second that one pod serves."""
    minimum: int = 1
    maximum: int = 1000

    def needed(self, rate: float) -> int:
        """Pods that have to be ready for a rate, so that no second is violated."""
        # A hair less: 45 requests a second are just what one pod of 50 takes.
        return max(1, math.ceil(rate / (self.pod_capacity * VIOLATED_FROM) - 1e-9))


@dataclass(slots=True)
class Pod:
    """One pod; times in seconds of the trace. Those that are there at its beginning were created long before."""

    created_at: float
    ready_at: float


@dataclass(slots=True, kw_only=True)
class Figures:
    """What came of it."""

    seconds: int = 0
    violation_seconds: int = 0
    offered: float = 0.0
    shed_requests: float = 0.0
    pod_seconds: float = 0.0
    scale_operations: int = 0
    direction_flips: int = 0
    """How often it went up after it had gone down, or down after up."""
    lacking: float = 0.0
    """Pods that lacked, as a share of those needed, summed over the seconds (SPEC RG's theta_U, times T)."""
    idle: float = 0.0
    """Pods too many, likewise (theta_O)."""
    seconds_lacking: int = 0
    seconds_idle: int = 0

    @property
    def pod_hours(self) -> float:
        return self.pod_seconds / 3600

    @property
    def shed_ratio(self) -> float:
        return self.shed_requests / self.offered if self.offered else 0.0

    @property
    def theta_u(self) -> float:
        """Percent of the pods needed that lacked, in the mean over time (SPEC-RG-2016-01)."""
        return 100 * self.lacking / self.seconds if self.seconds else 0.0

    @property
    def theta_o(self) -> float:
        """Percent of the pods needed that were too many, in the mean over time."""
        return 100 * self.idle / self.seconds if self.seconds else 0.0

    @property
    def tau_u(self) -> float:
        """Percent of the time with too few pods."""
        return 100 * self.seconds_lacking / self.seconds if self.seconds else 0.0

    @property
    def tau_o(self) -> float:
        """Percent of the time with too many."""
        return 100 * self.seconds_idle / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class World:
    """One policy's own. It begins with the pods that the trace's first second needs."""

    trace: Trace
    deployment: Deployment
    now: int = 0
    ready: int = field(init=False)
    """Pods that serve."""
    starting: list[Pod] = field(default_factory=list[Pod], init=False)
    """Oldest first."""
    serving: list[Pod] = field(init=False)
    """Oldest first."""
    figures: Figures = field(default_factory=Figures, init=False)
    _used: array[float] = field(default_factory=lambda: array("d", [0.0]), init=False)
    """By second: the sum of the shares of its capacity that a ready pod used until then."""
    _replicas: array[int] = field(default_factory=lambda: array("l"), init=False)
    """By second."""
    _went_up: bool | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        first = self.trace.rates[0] if self.trace.seconds else 0.0
        limits = self.deployment
        self.ready = min(max(limits.needed(first), limits.minimum), limits.maximum)
        self.serving = [Pod(-math.inf, -math.inf) for _ in range(self.ready)]

    @property
    def replicas(self) -> int:
        """Pods that there are, or will be."""
        return self.ready + len(self.starting)

    @property
    def history(self) -> array[int]:
        """Replicas by second, until now."""
        return self._replicas

    def offered(self, since: float, until: float) -> float:
        """Requests a second that came in `[since, until)`. A policy may only ask for what has been."""
        return self.trace.mean(since, min(until, self.now))

    def utilisation(self, since: float, until: float) -> float:
        """The share of its capacity that a pod used in `[since, until)` which was ready all the time: 1 at most."""
        first, last = max(0, int(since)), min(self.now, int(until))
        return (self._used[last] - self._used[first]) / (last - first) if last > first else 0.0

    def advance(self, until: int) -> None:
        """Let time go by, to the end of the trace at most."""
        end = min(until, self.trace.seconds)
        while self.now < end:
            self._become_ready()
            stop = min(end, math.ceil(self.starting[0].ready_at)) if self.starting else end
            self._pass(stop)

    def scale(self, replicas: int) -> None:
        """Have so many pods, within the limits. As Kubernetes does, those that are not ready go first, then the youngest."""
        wanted = min(max(replicas, self.deployment.minimum), self.deployment.maximum)
        difference = wanted - self.replicas
        if not difference:
            return
        goes_up = difference > 0
        self.figures.scale_operations += 1
        self.figures.direction_flips += self._went_up is not None and goes_up is not self._went_up
        self._went_up = goes_up
        for _ in range(difference):
            self.starting.append(Pod(self.now, self.now + self.deployment.pod_start_s))
        for _ in range(-difference):
            (self.starting or self.serving).pop()
        self.ready = len(self.serving)

    def _become_ready(self) -> None:
        while self.starting and self.starting[0].ready_at <= self.now:
            self.serving.append(self.starting.pop(0))
        self.ready = len(self.serving)

    def _pass(self, stop: int) -> None:
        """Seconds in which nothing about the pods changes."""
        figures, rates, used = self.figures, self.trace.rates, self._used
        ready, total = self.ready, used[-1]
        capacity = ready * self.deployment.pod_capacity
        enough = capacity * VIOLATED_FROM
        step = self.deployment.pod_capacity * VIOLATED_FROM
        violated = lacking_s = idle_s = 0
        shed = lacking = idle = 0.0
        for rate in rates[self.now : stop]:
            if rate > enough:
                violated += 1
                lacking_s += 1
                need = math.ceil(rate / step - 1e-9)
                lacking += (need - ready) / need
                if rate > capacity:
                    shed += rate - capacity
                    total += 1.0
                else:
                    total += rate / capacity
            else:
                need = math.ceil(rate / step - 1e-9) or 1
                if need < ready:
                    idle_s += 1
                    idle += (ready - need) / need
                total += rate / capacity if capacity else 0.0
            used.append(total)
        seconds = stop - self.now
        self._replicas.extend([self.replicas] * seconds)
        figures.seconds += seconds
        figures.violation_seconds += violated
        figures.seconds_lacking += lacking_s
        figures.seconds_idle += idle_s
        figures.lacking += lacking
        figures.idle += idle
        figures.shed_requests += shed
        figures.offered += self.trace.sums[stop] - self.trace.sums[self.now]
        figures.pod_seconds += seconds * self.replicas
        self.now = stop
