"""The scaler itself, in a world of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaler.calendar import Event
from scaler.sizer import Sizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scaler.calendar import Event
    from scaler.settings import Demand
    from scaler.simulate.world import Deployment, World


class Ours:
    """Sees each second's requests a moment later, as it does by scraping."""

    def __init__(
        self,
        knobs: Demand,
        deployment: Deployment,
        calendar: Iterable[Event] = (),
        name: str = "crowdgate",
    ) -> None:
        self.name = name
        self.period_s = max(1, round(knobs.interval))
        self._sizer = Sizer(knobs, deployment.pod_start_s, deployment.pod_capacity, tuple(calendar))

    def replicas(self, world: World) -> int:
        """As many as the scaler would have."""
        now, since = world.now, max(0, world.now - self.period_s)
        self._sizer.observe(since, now, world.offered(since, now))
        return self._sizer.decide(now, world.replicas).replicas
