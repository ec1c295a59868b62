"""What can be set, with its defaults and their reasons."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]


class Demand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The policy that sizes by what is asked for. Durations are seconds."""

    interval: Annotated[
        Seconds, Meta(description="So often it looks and decides. 2: an on-sale doubles in 10.")
    ] = 2.0
    full: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="The share of its capacity that a pod is to use. 0.9: beyond it clients wait noticeably.",
        ),
    ] = 0.9
    misses: Annotated[
        float,
        Meta(
            gt=0,
            lt=1,
            description="The share of the time in which more may come than was foreseen. The headroom is what the rest needed.",
        ),
    ] = 0.0005
    headroom_min: Annotated[
        float,
        Meta(ge=1, description="At least so many times what is foreseen. 1.04: one has not seen everything."),
    ] = 1.04
    headroom_max: Annotated[
        float,
        Meta(
            ge=1,
            description="At most so many times. 1.3: bursts that nobody can foresee are met by quick starts, cheaper.",
        ),
    ] = 1.3
    hold: Annotated[
        Seconds,
        Meta(
            description="Before pods go, so long nothing has wanted them. 105: some start-up times of a quick pod."
        ),
    ] = 105.0
    tolerance: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="Fewer pods are wanted by this share at least, or all stay. 0.05: half of HPA's.",
        ),
    ] = 0.05
    spare: Annotated[
        Seconds,
        Meta(
            description="So long before an event of the calendar its pods are ready. 60: for warming, and clients' clocks."
        ),
    ] = 60.0
    patience: Annotated[
        Seconds, Meta(description="A crowd that has not come after so long does not come.")
    ] = 600.0

    def __post_init__(self) -> None:
        if self.headroom_max < self.headroom_min:
            raise ValueError(
                f"headroom_max ({self.headroom_max:g}) must be at least headroom_min ({self.headroom_min:g})"
            )
