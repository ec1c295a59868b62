"""The command line of the proxy."""
# ruff: noqa: PLC0415 - a command loads what it runs and nothing else: the sidecar must stay small, `--help` quick

import json
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.config_problems import Problem
    from proxy.settings import Settings


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's call
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("crowdgate")
    except PackageNotFoundError:
        number = "(not installed: run from its source)"
    click.echo(f"crowdgate-proxy {number}")
    ctx.exit()


# Each in a file of its own, loaded when it is called (or listed by `--help`).
_COMMANDS = ("demo", "explain", "purge", "reload", "stats", "top", "warm")


class _Lazy(click.Group):
    """A group whose further commands are loaded on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_COMMANDS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        command: click.Command = import_module(f"proxy.commands.{cmd_name}").command
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Answer for an API from memory, then from Redis, then ask the API once for everybody."""


@main.command()
@click.option("--config", "path", metavar="FILE", required=True, help="The config file, in YAML.")
def run(path: str) -> None:
    """Serve until SIGTERM."""
    from proxy import app

    sys.exit(app.run(path))


@main.command()
@click.argument("file")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="text: file:line:col; json: for programs; github: annotations of a pull request.",
)
def check(file: str, form: str) -> None:
    """Report every mistake in the config FILE (- reads standard input), and exit with 2 if there is one.

    Variables of the environment and files of secrets are read as `run` would read them.
    """
    from proxy.config_problems import BadConfig

    try:
        settings = _load(file)
    except BadConfig as bad:
        click.echo(_report(bad.problems, form))
        sys.exit(2)
    click.echo(json.dumps(_summary(settings)) if form == "json" else _sentence(settings))


@main.command()
def schema() -> None:
    """Print the JSON Schema of the config file, for editors."""
    from proxy.config_docs import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def _load(file: str) -> "Settings":
    from proxy import config_file

    if file != "-":
        return config_file.load(file, os.environ)
    name = "<stdin>"
    text = config_file.decode(sys.stdin.buffer.read(), name=name)
    return config_file.parse(text, name=name, environ=os.environ, read=config_file.read_secret)


def _report(problems: "Sequence[Problem]", form: str) -> str:
    match form:
        case "json":
            names = ("file", "line", "col", "path", "message")
            listed = [{name: getattr(problem, name) for name in names} for problem in problems]
            return json.dumps({"ok": False, "problems": listed})
        case "github":
            return "\n".join(_annotation(problem) for problem in problems)
        case _:
            return "\n".join(str(problem) for problem in problems)


def _annotation(problem: "Problem") -> str:
    """A line that GitHub shows at its place in a pull request."""
    if problem.line is None:
        return f"::error::{_escaped(str(problem))}"
    file = _escaped(problem.file).replace(":", "%3A").replace(",", "%2C")
    message = f"{problem.path}: {problem.message}" if problem.path else problem.message
    return f"::error file={file},line={problem.line},col={problem.col}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _summary(settings: "Settings") -> dict[str, object]:
    return {
        "ok": True,
        "problems": [],
        "routes": len(settings.routes),
        "warm": len(settings.warm),
        "redis": settings.redis.mode if settings.redis else None,
    }


def _sentence(settings: "Settings") -> str:
    routes, warm = len(settings.routes), len(settings.warm)
    return ", ".join(
        (
            f"ok: {routes} route{'s' if routes != 1 else ''}",
            f"{warm} warm resource{'s' if warm != 1 else ''}",
            f"redis {settings.redis.mode}" if settings.redis else "memory only",
        )
    )
