"""`explain`: what the proxy would do with a request, and why."""
# ruff: noqa: PLC0415 - the policy is loaded when it is asked, so that `--help` stays quick

import os
import re
import sys
from time import time
from typing import TYPE_CHECKING

import click

from proxy.commands.output import json_option, report

if TYPE_CHECKING:
    from proxy.commands.explanation import AnswerJudged, Explanation, KeyMade, RouteTaken
    from proxy.settings import Settings

_HOST = "localhost"


@click.command("explain")
@click.option("--config", "path", metavar="FILE", required=True, help="The config file, in YAML.")
@click.option(
    "-H", "--header", "lines", metavar="'NAME: VALUE'", multiple=True, help="A header of the request."
)
@json_option
@click.argument("method")
@click.argument("target")
def command(path: str, lines: tuple[str, ...], method: str, target: str, json_file: str | None) -> None:
    """Say what would become of a request, and why.

    Its route, its key, how long which answers are kept, what it purges. TARGET is a path with its query, or a URL.
    Nothing is sent to anybody.
    """
    from dataclasses import asdict

    from proxy.commands.explanation import explain

    loaded = _load(path)
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", method):
        raise click.BadParameter("must be a method, such as GET", param_hint="METHOD")
    fields = tuple(_field(line) for line in lines)
    asked_path, host = _target(target)
    if not _names_host(lines):
        fields = ((b"Host", (host or _HOST).encode()), *fields)
    found = explain(loaded, method, asked_path, fields, now=time())
    assumed = "" if host or _names_host(lines) or not found.key else f"\n  note: Host is taken to be {_HOST}"
    report(asdict(found), text(found) + assumed, json_file)


def _names_host(lines: tuple[str, ...]) -> bool:
    return any(line.lower().startswith("host:") for line in lines)


def _load(path: str) -> "Settings":
    from proxy import config_file
    from proxy.config_problems import BadConfig

    try:
        return config_file.load(path, os.environ)
    except BadConfig as bad:
        click.echo("\n".join(map(str, bad.problems)), err=True)
        sys.exit(2)


def _field(line: str) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\r\n\0]", value):
        # The value may be a credential: it is not repeated.
        raise click.BadParameter("must be written 'Name: value'", param_hint="-H")
    return name.encode(), value.strip().encode("utf-8", "surrogateescape")


def _target(text: str) -> tuple[bytes, str]:
    """Path with query as sent, and the host if it is named."""
    found = re.fullmatch(r"(?:https?://([^/?#]+))?([/?].*|)", text)
    if found is None or (not found[1] and not text.startswith("/")):
        raise click.BadParameter("must be a path such as /api/events?page=2, or a URL", param_hint="TARGET")
    rest = found[2].partition("#")[0]
    if re.search(r"[\s\x00-\x1f]", rest):
        raise click.BadParameter("must be spelt as it is sent, without spaces", param_hint="TARGET")
    whole = rest if rest.startswith("/") else f"/{rest}"
    return whole.encode("utf-8", "surrogateescape"), (found[1] or "").rpartition("@")[2]


def text(found: "Explanation") -> str:
    """The explanation for people."""
    lines = [f"{found.method} {found.target}"]
    lines += _route_lines(found.route) if found.route else []
    lines.append(f"  {'cached' if found.key else 'passed on'}: {found.reason}")
    lines += _key_lines(found.key) if found.key else []
    if found.tags:
        lines.append(f"  tags: {', '.join(found.tags)}")
    if found.warmed_as:
        lines.append(f"  warmed as: {', '.join(found.warmed_as)}")
    if found.purges:
        names = ", ".join(f"{purge['kind']} {purge['value']}" for purge in found.purges)
        lines.append(f"  a 2xx or 3xx purges: {names}")
    if found.answers:
        lines += ["  what becomes of answers:", *_answer_lines(found.answers)]
    lines += [f"  note: {advice}" for advice in found.advice]
    return "\n".join(lines)


def _route_lines(route: "RouteTaken") -> list[str]:
    params = ", ".join(f"{name}={value}" for name, value in route.params.items())
    lines = [f"  route: {route.name} ({route.match}{', ' + params if params else ''})"]
    if route.ttl_seconds is not None or route.status_ttl_seconds:
        plain = [] if route.ttl_seconds is None else [f"{route.ttl_seconds:g}s"]
        by_status = [f"{status}: {ttl:g}s" for status, ttl in route.status_ttl_seconds.items()]
        word = "always" if route.force_ttl else "where the API says nothing"
        windows = (
            f"stale-while-revalidate {route.stale_while_revalidate_seconds:g}s, "
            f"stale-if-error {route.stale_if_error_seconds:g}s"
        )
        lines.append(f"  fresh {word}: {', '.join(plain + by_status)}; then {windows}")
    return lines


def _key_lines(key: "KeyMade") -> list[str]:
    parts = [f"host {key.host}", f"url {key.url}"]
    parts += [f"{name} {value}" for name, value in key.vary.items()]
    if key.principal_header:
        parts.append(f"principal by {key.principal_header} ({'yes' if key.principal_present else 'no'})")
    return [f"  key: {key.text}", f"    made of: {', '.join(parts)}"]


def _answer_lines(answers: tuple["AnswerJudged", ...]) -> list[str]:
    rows = [(f"{answer.status} {answer.header or '(says nothing)'}", _fate(answer)) for answer in answers]
    width = max(len(name) for name, _ in rows)
    return [f"    {name.ljust(width)}  {fate}" for name, fate in rows]


def _fate(answer: "AnswerJudged") -> str:
    if not answer.stored:
        return f"not stored: {answer.reason}"
    return (
        f"fresh {answer.fresh_seconds:g}s, stale while revalidating {answer.stale_while_revalidate_seconds:g}s, "
        f"on errors {answer.stale_if_error_seconds:g}s"
    )
