"""The command line of the tuner."""

import click


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's call
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - only this option needs it

    try:
        number = version("crowdgate")
    except PackageNotFoundError:
        number = "(not installed: run from its source)"
    click.echo(f"crowdgate-tuner {number}")
    ctx.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Find, prove and create the MySQL indexes that pay, from the slow log and what the proxies see.

    It has no commands yet.
    """
