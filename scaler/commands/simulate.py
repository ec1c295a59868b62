"""`simulate`: what policies would have made of a trace."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import yaml

from scaler.settings import Demand
from scaler.simulate import calendar_file, shapes, trace
from scaler.simulate.field import BadRival, rivals
from scaler.simulate.ours import Ours
from scaler.simulate.play import play
from scaler.simulate.plot import html, svg
from scaler.simulate.report import as_json, table
from scaler.simulate.trace import BadTrace
from scaler.simulate.world import Deployment
from scaler.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scaler.calendar import Event
    from scaler.simulate.play import Policy
    from scaler.simulate.trace import Trace
    from scaler.simulate.world import World


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    trace: Trace
    calendar: tuple[Event, ...]
    knobs: Demand
    deployment: Deployment
    against: tuple[str, ...]


@click.command("simulate")
@click.option(
    "--trace",
    "source",
    required=True,
    metavar="FILE|SHAPE",
    help=f"CSV of `seconds,requests`, or one of {', '.join(shapes.NAMES)}.",
)
@click.option(
    "--times",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Multiply its requests.",
)
@click.option("--policy", metavar="FILE", help="YAML with the keys of `demand`; the defaults otherwise.")
@click.option(
    "--calendar",
    metavar="FILE",
    help="CSV of `seconds,expected_peak_rps[,name]`, in the trace's time. Shapes bring their own.",
)
@click.option("--no-calendar", is_flag=True, help="Nothing is known of what is to come.")
@click.option(
    "--pod-start",
    type=_Duration(),
    default="30s",
    show_default=True,
    help="From a pod's creation until it is ready.",
)
@click.option(
    "--pod-capacity",
    type=click.FloatRange(min=0, min_open=True),
    default=50.0,
    show_default=True,
    help="Requests a second of one pod.",
)
@click.option(
    "--min", "minimum", type=click.IntRange(min=1), default=1, show_default=True, help="Pods at least."
)
@click.option(
    "--max", "maximum", type=click.IntRange(min=1), default=1000, show_default=True, help="Pods at most."
)
@click.option(
    "--against",
    default="hpa,keda,kpa,oracle",
    show_default=True,
    metavar="NAMES",
    help="hpa (70 %), hpa-NN, hpa-40..80 (a sweep), keda, kpa, threshold, oracle.",
)
@click.option("--plot", metavar="FILE", help="Draw it: .svg or .html.")
@click.option("--json", "json_file", metavar="FILE", help="The figures for programs; - for standard output.")
def command(**options: object) -> None:
    """Replay a trace against the scaler and its rivals, on a virtual clock.

    A second is violated in which more than 90 % of what the ready pods can serve was asked for; what is more than all is shed.
    """
    try:
        asked = _asked(options)
        worlds = dict(_played(asked))
    except (BadTrace, BadRival) as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"{error.filename}: {error.strerror}") from None
    _tell(asked, worlds, options)


def _asked(options: dict[str, object]) -> _Asked:
    source, factor = str(options["source"]), float(str(options["times"]))
    looks_like_a_file = "/" in source or source.endswith(".csv") or Path(source).is_file()
    shape = shapes.Shape(trace.read(Path(source))) if looks_like_a_file else shapes.drawn(source)
    calendar = (
        shape.calendar if options["calendar"] is None else calendar_file.read(Path(str(options["calendar"])))
    )
    if options["no_calendar"]:
        calendar = ()
    minimum, maximum = int(str(options["minimum"])), int(str(options["maximum"]))
    if minimum > maximum:
        raise click.UsageError(f"--min ({minimum}) must be at most --max ({maximum})")
    return _Asked(
        trace=shape.trace if factor == 1 else trace.times(shape.trace, factor),
        calendar=calendar,
        knobs=_knobs(options["policy"]),
        deployment=Deployment(
            pod_start_s=max(1, round(float(str(options["pod_start"])))),
            pod_capacity=float(str(options["pod_capacity"])),
            minimum=minimum,
            maximum=maximum,
        ),
        against=tuple(name.strip() for name in str(options["against"]).split(",") if name.strip()),
    )


def _knobs(path: object) -> Demand:
    if path is None:
        return Demand()
    try:
        given = yaml.safe_load(Path(str(path)).read_text("utf-8")) or {}
        return msgspec.convert(given.get("demand", given) if isinstance(given, dict) else given, Demand)
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise click.UsageError(f"{path}: {error}") from None


def _played(asked: _Asked) -> Iterator[tuple[str, World]]:
    ours = Ours(asked.knobs, asked.deployment, asked.calendar)
    policies: list[Policy] = [ours, *rivals(asked.against)]
    if not sys.stderr.isatty():
        yield from ((policy.name, play(asked.trace, policy, asked.deployment)) for policy in policies)
        return
    from rich.console import Console  # noqa: PLC0415 - only where somebody looks
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        for policy in policies:
            task = progress.add_task(policy.name, total=asked.trace.seconds)
            yield policy.name, play(asked.trace, policy, asked.deployment, partial(progress.advance, task))


def _tell(asked: _Asked, worlds: dict[str, World], options: dict[str, object]) -> None:
    found = {name: world.figures for name, world in worlds.items()}
    said, plot, json_file = table(found), options["plot"], options["json_file"]
    title = f"{asked.trace.name}: pods of {asked.deployment.pod_capacity:g} req/s, {asked.deployment.pod_start_s} s to start"
    if plot is not None:
        text = html(title, worlds, said) if str(plot).endswith(".html") else svg(title, worlds)
        Path(str(plot)).write_text(text, "utf-8")
    figures = json.dumps(as_json(asked.trace.name, found), indent=2)
    if json_file == "-":
        click.echo(figures)
        return
    if json_file is not None:
        Path(str(json_file)).write_text(figures + "\n", "utf-8")
    click.echo(title)
    click.echo(said)
