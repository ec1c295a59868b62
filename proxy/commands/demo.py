"""`demo`: everything at once on one machine, with data."""
# ruff: noqa: PLC0415 - the proxy and the sample API are loaded when they are started

import sys

import click

_PORT = click.IntRange(0, 65535)


@click.command("demo")
@click.option("--port", default=8081, show_default=True, type=_PORT, help="For clients. 0: any free one.")
@click.option("--admin-port", default=9901, show_default=True, type=_PORT, help="Dashboard and metrics.")
@click.option("--api-port", default=8080, show_default=True, type=_PORT, help="The sample API itself.")
@click.option(
    "--dsn", help="mysql://user:password@host:port/schema: MySQL or MariaDB instead of SQLite for the sample."
)
@click.option(
    "--scale",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.001, 10),
    help="Size of the sample's crowd: 1 is 200,000 participants.",
)
@click.option("--no-redis", is_flag=True, help="Memory only, without the private Valkey.")
def command(  # noqa: PLR0913, PLR0917 - click hands over each option
    port: int,
    admin_port: int,
    api_port: int,
    dsn: str | None,
    scale: float,
    no_redis: bool,  # noqa: FBT001 - click's call
) -> None:
    """Run a sample event API and a proxy before it.

    All on 127.0.0.1. The first start builds the sample, which takes some seconds; it is kept in ~/.cache/crowdgate.
    """
    from proxy.demo import together

    options = together.Options(
        port=port, admin_port=admin_port, api_port=api_port, dsn=dsn, scale=scale, redis=not no_redis
    )
    sys.exit(together.run(options))
