"""`warm` against a running proxy."""

from pathlib import Path

from tests.proxy.commands.running import document, run
from tests.proxy.live import Live, in_a_thread


def test_one_resource_is_warmed(here: Live) -> None:
    found = run("warm", "--admin", here.admin, "first")
    assert (0, "first: ok\n") == (found.exit_code, found.stdout)


def test_one_that_fails_is_told_and_is_the_exit_code(here: Live) -> None:
    found = run("warm", "--admin", here.admin)
    first, failing = found.stdout.splitlines()
    assert (1, "first: ok", "failing: ") == (found.exit_code, first, failing[:9])


def test_json_names_each(here: Live) -> None:
    assert document("warm", "--admin", here.admin, "first") == {"warmed": {"first": "ok"}}


def test_nothing_to_warm_is_no_failure(tmp_path: Path) -> None:
    with in_a_thread(tmp_path, "") as bare:
        found = run("warm", "--admin", bare.admin)
    assert (0, "the config has no warm resources\n") == (found.exit_code, found.stdout)
