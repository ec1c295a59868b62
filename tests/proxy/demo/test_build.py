"""The SQLite sample is built once, whole, and never over somebody's file."""

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.demo import build, schema
from proxy.demo.database import UnfitError

SCALE = 0.001


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_sample_is_kept_in_the_users_cache_by_version_and_scale(tmp_path: Path) -> None:
    assert tmp_path / "cache/crowdgate/demo-v1-0.001.sqlite3" == build.cached(SCALE)


def test_a_sample_that_is_there_is_not_built_again() -> None:
    before = build.cached(SCALE).stat()

    assert before == build.cached(SCALE).stat()


def test_a_build_that_was_cut_short_is_thrown_away() -> None:
    place = build.cache_file(SCALE)
    place.parent.mkdir(parents=True)
    place.with_name(f"{place.name}.building").write_bytes(b"half a file")

    assert _count(build.cached(SCALE), "events") == 2_000


def test_processes_that_start_at_once_share_one_build() -> None:
    # spawn: a fork of a process with threads may hang.
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        files = pool.map(_built_inode, [SCALE] * 2)

    assert len(set(files)) == 1


def test_a_new_file_is_a_copy_of_the_sample(tmp_path: Path) -> None:
    place = tmp_path / "new" / "mine.sqlite3"
    build.copy_to(place, SCALE)

    assert _count(place, "registrations") == _count(build.cached(SCALE), "registrations")


def test_a_file_that_is_there_keeps_what_was_written(tmp_path: Path) -> None:
    place = tmp_path / "mine.sqlite3"
    build.copy_to(place, SCALE)
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("DELETE FROM checkins")
        connection.commit()
    build.copy_to(place, SCALE)

    assert _count(place, "checkins") == 0


def test_somebody_elses_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "letters.txt"
    place.write_text("Dear Ada, " * 100)

    with pytest.raises(UnfitError, match=r"letters\.txt is not a sample of crowdgate's"):
        build.copy_to(place, SCALE)
    assert place.read_text() == "Dear Ada, " * 100


def test_a_sample_of_another_scale_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "mine.sqlite3"
    build.copy_to(place, SCALE)

    with pytest.raises(UnfitError, match="holds another sample"):
        build.copy_to(place, 0.002)


def test_batches_hold_every_row_once() -> None:
    sizes = [len(batch) for batch in build.batches((number,) for number in range(2 * build.BATCH + 1))]

    assert sizes == [build.BATCH, build.BATCH, 1]


def _built_inode(scale: float) -> int:
    return build.cached(scale).stat().st_ino


def _count(place: Path, table: str) -> int:
    assert table in schema.TABLES
    with closing(sqlite3.connect(place)) as connection:
        number: int = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
        return number
