"""`purge` against a running proxy."""

import asyncio
import json
import re
from pathlib import Path

from tests.flow.client import fetch
from tests.proxy.commands.running import document, run
from tests.proxy.live import Live, live


def cache(here: Live, target: str) -> str:
    return asyncio.run(fetch(here.port, target)).cache.split(";")[0]


def test_what_is_purged_is_asked_for_again(here: Live) -> None:
    before = [cache(here, "/api/events?page=1"), cache(here, "/api/events?page=1")]
    found = run("purge", "--admin", here.admin, "--tag", "events", "--wait")
    expected = r"purged: 1 named; it holds on 1 replica after 0\.0\d\ds; no Redis: other replicas, if there are any, .*\n"
    assert (0, True) == (found.exit_code, re.fullmatch(expected, found.stdout) is not None)
    assert ["fwd=uri-miss", "hit", "fwd=uri-miss"] == [*before, cache(here, "/api/events?page=1")]


def test_all_kinds_can_be_named_at_once_and_again(here: Live) -> None:
    names = ("--tag", "a", "--tag", "b", "--url", "/a?b", "--pattern", "/a*", "--route", "event")
    done = document("purge", "--admin", here.admin, *names, "--soft")
    assert (5, True, None, False) == (done["purged"], done["soft"], done["waited"], done["shared"])


def test_json_goes_into_a_file_beside_the_text(here: Live, tmp_path: Path) -> None:
    file = tmp_path / "purge.json"
    found = run("purge", "--admin", here.admin, "--tag", "a", "--json", str(file))
    assert ("purged: 1 named", 1) == (
        found.stdout.split(";")[0],
        json.loads(file.read_text())["purged"],
    )


def test_a_file_that_cannot_be_written_is_told(here: Live) -> None:
    found = run("purge", "--admin", here.admin, "--tag", "a", "--json", "/nowhere/x")
    assert (1, "Error: --json: /nowhere/x: No such file or directory\n") == (found.exit_code, found.stderr)


def test_what_is_waited_for_in_vain_is_told_and_fails(tmp_path: Path) -> None:
    async def purged() -> tuple[int, str]:
        async with live(tmp_path, "redis: {url: 'redis://127.0.0.1:1'}\n") as here:
            found = await asyncio.to_thread(run, "purge", "--admin", here.admin, "--tag", "a", "--wait")
            return found.exit_code, found.stdout

    code, text = asyncio.run(purged())
    assert (code, "Redis does not take it now" in text) == (1, True)


def test_nothing_named_is_a_usage_error() -> None:
    found = run("purge")
    assert (2, True) == (
        found.exit_code,
        "nothing to purge: name a --tag, --url, --pattern or --route" in found.stderr,
    )
