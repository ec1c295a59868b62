"""The command line of the scaler."""

from importlib import import_module

import click


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's call
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - only this option needs it

    try:
        number = version("crowdgate")
    except PackageNotFoundError:
        number = "(not installed: run from its source)"
    click.echo(f"crowdgate-scaler {number}")
    ctx.exit()


# Each in a file of its own, loaded when it is called (or listed by `--help`).
_COMMANDS = ("simulate",)


class _Lazy(click.Group):
    """A group whose commands are loaded on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_COMMANDS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        command: click.Command = import_module(f"scaler.commands.{cmd_name}").command
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
    """Size the API's Deployment by what the proxies see, before the crowd arrives where the calendar knows it.

    So far it can be simulated, and does not run.
    """
