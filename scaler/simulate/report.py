"""What came of a simulation, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scaler.simulate.world import Figures

_COLUMNS = (
    "policy", "violation s", "shed", "pod-hours", "operations", "flips", "theta_U", "theta_O", "tau_U", "tau_O",
)  # fmt: skip


def as_json(trace: str, found: Mapping[str, Figures]) -> dict[str, Any]:
    """With names that stay."""
    return {
        "trace": trace,
        "policies": [
            {
                "name": name,
                "violation_seconds": figures.violation_seconds,
                "shed_requests": round(figures.shed_requests, 3),
                "shed_ratio": round(figures.shed_ratio, 9),
                "pod_hours": round(figures.pod_hours, 4),
                "scale_operations": figures.scale_operations,
                "direction_flips": figures.direction_flips,
                "theta_u": round(figures.theta_u, 4),
                "theta_o": round(figures.theta_o, 4),
                "tau_u": round(figures.tau_u, 4),
                "tau_o": round(figures.tau_o, 4),
            }
            for name, figures in found.items()
        ],
    }


def table(found: Mapping[str, Figures]) -> str:
    """In columns."""
    rows = [_COLUMNS, *(_row(name, figures) for name, figures in found.items())]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in enumerate(pairs)
        ).rstrip()
        for pairs in (zip(row, widths, strict=True) for row in rows)
    )


def _row(name: str, figures: Figures) -> tuple[str, ...]:
    return (
        name,
        f"{figures.violation_seconds:,}",
        f"{100 * figures.shed_ratio:.2f} %",
        f"{figures.pod_hours:,.1f}",
        f"{figures.scale_operations:,}",
        f"{figures.direction_flips:,}",
        *(f"{part:.1f} %" for part in (figures.theta_u, figures.theta_o, figures.tau_u, figures.tau_o)),
    )
