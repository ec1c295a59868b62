"""`reload` against a running proxy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy.commands.running import document, run
from tests.proxy.live import ROUTES, Live, in_a_thread


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Live]:
    with in_a_thread(tmp_path) as started:
        yield started


def test_a_good_file_is_loaded(own: Live) -> None:
    own.write("")
    found = run("reload", "--admin", own.admin)
    assert (0, "reloaded\n") == (found.exit_code, found.stdout)


def test_what_waits_for_a_restart_is_named(own: Live) -> None:
    own.write("redis: {mode: embedded}\n")
    found = run("reload", "--admin", own.admin)
    assert (0, "reloaded; these take effect at the next start: redis\n") == (found.exit_code, found.stdout)


def test_a_bad_file_is_told_line_by_line(own: Live) -> None:
    own.write("log: {level: loud}\nrouts: []\n" + ROUTES)
    found = run("reload", "--admin", own.admin)
    first, *problems = found.stdout.splitlines()
    assert (1, "not reloaded; the last good config goes on:") == (found.exit_code, first)
    assert all(line.startswith(f"{own.config}:") for line in problems)


def test_json_has_the_problems(own: Live) -> None:
    own.write("routs: []\n")
    done = document("reload", "--admin", own.admin)
    assert (False, 1) == (done["reloaded"], len(done["problems"]))
