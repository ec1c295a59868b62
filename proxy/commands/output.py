"""What commands print: figures for people, or JSON for programs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """`--json [FILE]`."""
    option = click.option(
        "--json",
        "json_file",
        metavar="FILE",
        is_flag=False,
        flag_value="-",
        help="Write JSON to FILE; - is standard output, and then nothing else is printed.",
    )
    return option(command)


def report(document: object, text: str, json_file: str | None) -> None:
    """Print the text, or the document, or the one and write the other. Raises ClickException."""
    if json_file == "-":
        click.echo(json.dumps(document, indent=2))
        return
    if json_file is not None:
        try:
            Path(json_file).write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise click.ClickException(f"--json: {json_file}: {error.strerror}") from error
    click.echo(text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns: the first to the left, numbers to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def percent(ratio: float | None) -> str:
    """A ratio, or a dash where there was nothing."""
    return "-" if ratio is None else f"{ratio * 100:.1f} %"


def duration(seconds: float | None) -> str:
    """Three digits are enough."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def size(count: int) -> str:
    """Bytes, with one decimal."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
