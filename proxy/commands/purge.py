"""`purge`: take answers out of the cache, by tag, URL, pattern or route."""

from typing import Any

import click

from proxy.commands.admin_client import admin_option, ask, token_option
from proxy.commands.output import json_option, report


@click.command("purge")
@admin_option
@token_option
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Whatever carries this tag.")
@click.option("--url", "urls", metavar="URL", multiple=True, help="A path with its query: /api/events?page=2")
@click.option("--pattern", "patterns", metavar="URL", multiple=True, help="The same with *: /api/events*")
@click.option("--route", "routes", metavar="NAME", multiple=True, help="Whatever a route has stored.")
@click.option(
    "--soft", is_flag=True, help="Make it stale instead: good for stale-while-revalidate and errors."
)
@click.option(
    "--wait",
    is_flag=True,
    help="Until every live replica has applied it; exit code 1 if one has not in time.",
)
@json_option
def command(  # noqa: PLR0913, PLR0917 - click hands over each option
    admin: str,
    token: str,
    tags: tuple[str, ...],
    urls: tuple[str, ...],
    patterns: tuple[str, ...],
    routes: tuple[str, ...],
    soft: bool,  # noqa: FBT001 - click's call
    wait: bool,  # noqa: FBT001 - click's call
    json_file: str | None,
) -> None:
    """Purge stored answers on all replicas.

    Each of --tag, --url, --pattern and --route may be repeated.
    """
    body = {"tags": tags, "urls": urls, "patterns": patterns, "routes": routes, "soft": soft, "wait": wait}
    if not any((tags, urls, patterns, routes)):
        raise click.UsageError("nothing to purge: name a --tag, --url, --pattern or --route")
    done = ask(admin, "/api/purge", body=body, token=token, timeout_s=60).document
    report(done, _text(done), json_file)
    if done.get("waited") is False:
        raise click.exceptions.Exit(1)


def _text(done: dict[str, Any]) -> str:
    begin = f"purged{' softly' if done['soft'] else ''}: {done['purged']} named"
    if done["waited"] is None:
        return f"{begin}; {done.get('note') or 'the other replicas follow through Redis'}"
    count = done["replicas"]
    holds = f"it holds on {count} replica{'' if count == 1 else 's'} after {done['seconds']:.3f}s"
    missing = [f"{one['replica']} (for {one['for_seconds']:g}s)" for one in done["missing"]]
    without = [f"not on {', '.join(missing)}"] if missing else []
    note = [done["note"]] if "note" in done else []
    return "; ".join((begin, holds, *without, *note))
