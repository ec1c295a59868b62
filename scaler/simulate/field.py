"""Who is compared with the scaler, by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scaler.simulate.classic import Classic
from scaler.simulate.hpa import Hpa
from scaler.simulate.keda import Keda
from scaler.simulate.knative import Kpa
from scaler.simulate.oracle import Oracle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scaler.simulate.play import Policy

_HPA = re.compile(r"hpa-([1-9][0-9])")
_SWEEP = re.compile(r"hpa-([1-9][0-9])\.\.([1-9][0-9])")
_USUAL = 70


class BadRival(ValueError):
    """Nobody is called so; the message says who there is."""


def rivals(names: Iterable[str]) -> list[Policy]:
    """A new one for each name; a sweep of HPA is one every five percent. Raises BadRival."""
    return [one for name in names for one in _called(name)]


def _called(name: str) -> list[Policy]:
    if name == "hpa":
        return [Hpa(_USUAL / 100)]
    if found := _HPA.fullmatch(name):
        return [Hpa(int(found[1]) / 100)]
    if found := _SWEEP.fullmatch(name):
        return [Hpa(target / 100) for target in range(int(found[1]), int(found[2]) + 1, 5)]
    match name:
        case "keda":
            return [Keda()]
        case "kpa":
            return [Kpa()]
        case "threshold":
            return [Classic()]
        case "oracle":
            return [Oracle()]
        case _:
            raise BadRival(
                f"--against: nobody is called `{name}`: there are hpa, hpa-NN, hpa-40..80, keda, kpa, threshold, oracle"
            )
