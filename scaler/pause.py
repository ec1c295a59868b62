"""Pauses by annotations of the Deployment, in KEDA's vocabulary: what is recommended is still told.

`paused` holds what is there, `paused-replicas` a number, `paused-scale-in` and `paused-scale-out` one direction. They are read as
`crowdgate.io/...` and as `autoscaling.keda.sh/...`; where both are there, ours counts, each for itself.

Source: KEDA 2.21, apis/keda/v1alpha1/scaledobject_types.go (`NeedToBePausedByAnnotation`, `getBoolAnnotation`). As there,
`paused-replicas` pauses whatever `paused` says, and is not bound by min and max: a person has written it. Other than KEDA, a
number that can't be read holds what is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from scaler.decision import Decision

OURS = "crowdgate.io/"
KEDAS = "autoscaling.keda.sh/"
_NAMES = ("paused", "paused-replicas", "paused-scale-in", "paused-scale-out")
# As Go's strconv.ParseBool.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
# What `replicas` can hold: an int32.
_MAX_REPLICAS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What is paused, by which annotation; None: it is not."""

    held_by: str | None = None
    """No change at all, but to `replicas`."""
    replicas: int | None = None
    """To go to, and to stay at."""
    scale_in_by: str | None = None
    scale_out_by: str | None = None
    problems: tuple[str, ...] = ()
    """What could not be read, and what it is taken for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """What is to be done, beside what would have been."""

    done: Decision
    recommended: Decision


NOTHING = Pause()
"""No annotations."""


def read(annotations: Mapping[str, str]) -> Pause:
    """The pauses that annotations ask for. What can't be read is taken for a pause, and is a problem to report."""
    problems = [
        f"{key} is unknown and pauses nothing: there are {', '.join(_NAMES)}"
        for key in sorted(annotations)
        if key.startswith(f"{OURS}paus") and key.removeprefix(OURS) not in _NAMES
    ]
    paused = _flag("paused", annotations, problems)
    number = _key("paused-replicas", annotations)
    replicas = None
    if number is not None:
        text = annotations[number]
        # As Go's strconv.ParseInt, but for negative numbers: there are no such replicas. Not more digits than can be meant.
        if re.fullmatch(r"\+?[0-9]{1,20}", text, re.ASCII) and int(text) <= _MAX_REPLICAS:
            replicas = int(text)
        else:
            problems.append(
                f"{number} must be a number of replicas such as 5, not `{text[:40]}`: held where it is"
            )
    return Pause(
        held_by=number or paused,
        replicas=replicas,
        scale_in_by=_flag("paused-scale-in", annotations, problems),
        scale_out_by=_flag("paused-scale-out", annotations, problems),
        problems=tuple(problems),
    )


def apply(pause: Pause, current: int, recommended: Decision) -> Paused:
    """What becomes of a recommendation."""
    done = recommended
    if pause.held_by is not None:
        replicas = current if pause.replicas is None else pause.replicas
        done = _held(replicas, pause.held_by, recommended)
    elif recommended.replicas < current and pause.scale_in_by is not None:
        done = _held(current, pause.scale_in_by, recommended)
    elif recommended.replicas > current and pause.scale_out_by is not None:
        done = _held(current, pause.scale_out_by, recommended)
    return Paused(done=done, recommended=recommended)


def _held(replicas: int, by: str, recommended: Decision) -> Decision:
    return Decision(
        replicas=replicas,
        reason=f"paused by {by}; recommended: {recommended.replicas} ({recommended.reason})",
    )


def _flag(name: str, annotations: Mapping[str, str], problems: list[str]) -> str | None:
    """The annotation that sets it, if one does."""
    key = _key(name, annotations)
    if key is None or annotations[key] in _FALSE:
        return None
    if annotations[key] not in _TRUE:
        problems.append(f'{key} must be "true" or "false", not `{annotations[key][:40]}`: taken for true')
    return key


def _key(name: str, annotations: Mapping[str, str]) -> str | None:
    """The annotation that counts, if there is one."""
    return next((prefix + name for prefix in (OURS, KEDAS) if prefix + name in annotations), None)
