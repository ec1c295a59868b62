"""`warm`: fetch critical resources now."""

import sys

import click

from proxy.commands.admin_client import admin_option, ask, token_option
from proxy.commands.output import json_option, report


@click.command("warm")
@admin_option
@token_option
@click.argument("names", metavar="[NAME]...", nargs=-1)
@json_option
def command(admin: str, token: str, names: tuple[str, ...], json_file: str | None) -> None:
    """Fetch critical resources now.

    All of them where none is named. Exits with 1 if one fails.
    """
    # Each has a timeout of its own in the config, which ends it.
    reply = ask(admin, "/api/warm", body={"names": names}, token=token, timeout_s=600)
    results: dict[str, str] = reply.document["warmed"]
    lines = [f"{name}: {result}" for name, result in results.items()]
    report(reply.document, "\n".join(lines) or "the config has no warm resources", json_file)
    if reply.status != 200:
        sys.exit(1)
