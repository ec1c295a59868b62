"""Shows how far the sample's building is, on stderr."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Told the table in hand and how many rows have been added to it since the last call.
Report = Callable[[str, int], None]


@contextmanager
def reporting(total: int) -> Iterator[Report]:
    """A bar where somebody looks at it, else a line per tenth."""
    if sys.stderr.isatty() and importlib.util.find_spec("rich"):
        with _bar(total) as report:
            yield report
    else:
        yield _lines(total)


def _lines(total: int) -> Report:
    done = 0

    def report(table: str, rows: int) -> None:
        nonlocal done
        before, done = done, done + rows
        if before * 10 // total != done * 10 // total:
            print(f"sample data: {done * 100 // total} % ({table})", file=sys.stderr, flush=True)  # noqa: T201

    return report


@contextmanager
def _bar(total: int) -> Iterator[Report]:
    # Only where it is used: rich is an extra, and a pod has no terminal.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("sample data", total=total)

        def report(table: str, rows: int) -> None:
            progress.update(task, advance=rows, description=f"sample data: {table}")

        yield report
