"""Builds the sample as an SQLite file, once, and keeps it in the user's cache."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from proxy.demo import generate, schema
from proxy.demo.database import UnfitError, Value
from proxy.demo.progress import reporting

# Large enough that a batch's own cost vanishes, small enough that the bar moves and Ctrl-C is heard.
BATCH = 10_000


def cached(scale: float) -> Path:
    """The pristine sample as an SQLite file, built if this user has none yet. To be copied, not written to."""
    place = cache_file(scale)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place):
        if not place.exists():
            _build_file(place, scale)
    return place


def cache_file(scale: float) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "crowdgate" / f"demo-v{schema.VERSION}-{schema.scale_name(scale)}.sqlite3"


def copy_to(place: Path, scale: float) -> None:
    """A sample at `place` for the platform to write to; one that is there already is kept with all that was written.
    Raises UnfitError where the file is something else.
    """
    pristine = cached(scale)
    place.parent.mkdir(parents=True, exist_ok=True)
    # The same lock for all: of two processes given one new path, the second must find the first's file.
    with _locked(pristine):
        if place.exists() and place.stat().st_size > 0:
            _refuse_foreign(place, scale)
            return
        beside = place.with_name(f"{place.name}.copy")
        shutil.copyfile(pristine, beside)
        beside.replace(place)


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_file(place: Path, scale: float) -> None:
    beside = place.with_name(f"{place.name}.building")
    beside.unlink(missing_ok=True)
    with closing(sqlite3.connect(beside, isolation_level=None)) as connection:
        # A build that is cut short is thrown away, so nothing needs a journal or a sync.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        sample = generate.sample(scale)
        with reporting(sample.rows) as report:
            for table, rows in sample.tables:
                connection.execute(schema.create(table))
                for batch in batches(rows()):
                    connection.executemany(schema.insert(table), batch)
                    report(table, len(batch))
        connection.execute(schema.create_marker())
        connection.execute(schema.INSERT_MARKER, (schema.VERSION, schema.scale_name(scale)))
        connection.execute("COMMIT")
    beside.replace(place)


def _refuse_foreign(place: Path, scale: float) -> None:
    try:
        with closing(sqlite3.connect(f"{place.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute(schema.SELECT_MARKER).fetchone()
    except sqlite3.Error as error:
        raise UnfitError(f"{place} is not a sample of crowdgate's: {error}") from error
    if found != (schema.VERSION, schema.scale_name(scale)):
        raise UnfitError(
            f"{place} holds another sample (version and scale {found}, asked for "
            f"{(schema.VERSION, schema.scale_name(scale))}): delete it or name another file"
        )


def batches(rows: Iterable[tuple[Value, ...]]) -> Iterator[list[tuple[Value, ...]]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH)):
        yield batch
