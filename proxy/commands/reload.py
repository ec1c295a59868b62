"""`reload`: read the config file again."""

import sys

import click

from proxy.commands.admin_client import admin_option, ask, token_option
from proxy.commands.output import json_option, report


@click.command("reload")
@admin_option
@token_option
@json_option
def command(admin: str, token: str, json_file: str | None) -> None:
    """Have a proxy read its config again.

    Exits with 1 if the config is bad; the last good one goes on.
    """
    done = ask(admin, "/api/reload", body={}, token=token, timeout_s=60).document
    report(done, _text(done), json_file)
    if not done["reloaded"]:
        sys.exit(1)


def _text(done: dict[str, list[str]]) -> str:
    if not done["reloaded"]:
        return "\n".join(["not reloaded; the last good config goes on:", *done["problems"]])
    if done["needs_restart"]:
        return f"reloaded; these take effect at the next start: {', '.join(done['needs_restart'])}"
    return "reloaded"
