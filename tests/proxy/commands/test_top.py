"""`top`: what happens between two looks, on a terminal and off it."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.flow.client import fetch
from tests.proxy.commands.running import document, run
from tests.proxy.live import Live, in_a_thread

ROOT = Path(__file__).parents[3]


def test_one_table_shows_what_happens_meanwhile(here: Live) -> None:
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            asyncio.run(fetch(here.port, "/api/events?page=3"))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        found = run("top", "--admin", here.admin, "--once", "--interval", "0.5", COLUMNS="120")
        now = document("top", "--admin", here.admin, "--interval", "0.3")
    finally:
        over.set()
        thread.join()
    rows = [" ".join(line.strip("│ ").replace("│", " ").split()) for line in found.stdout.splitlines()]
    (events,) = [row for row in rows if row.startswith("events ")]
    assert float(events.split()[1]) > 1
    assert any(row.startswith("all ") for row in rows)
    assert now["total"]["requests_per_second"] > 1
    assert (0.3 <= now["seconds"] < 5, "none", True) == (True, now["redis_state"], now["ready"])


def test_nobody_there_ends_it_with_one_sentence() -> None:
    found = run("top", "--admin", "http://127.0.0.1:1")
    assert (1, True) == (found.exit_code, found.stderr.startswith("Error: cannot reach the admin port"))


def test_without_rich_it_says_how_to_get_it(here: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    found = run("top", "--admin", here.admin, "--once", "--interval", "0.1")
    assert (1, "Error: top needs rich: pip install 'crowdgate[demo]'\n") == (found.exit_code, found.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_asked_and_gives_the_terminal_back(tmp_path: Path, number: signal.Signals) -> None:
    with in_a_thread(tmp_path) as own:
        screen, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "top", "--admin", own.admin, "--interval", "0.1"],
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
            cwd=ROOT,
            # Started in the background, this very test may have been told to ignore Ctrl-C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        os.close(terminal)
        shown = _read_until(screen, b"redis none")
        process.send_signal(number)
        rest = _read_until(screen, None)
        code = process.wait(10)
        os.close(screen)
    assert (0, True, False) == (code, b"hit ratio" in shown, b"Traceback" in shown + rest)
    # ESC [?25h shows the cursor that the live view hides.
    assert (shown + rest).rfind(b"\x1b[?25h") > (shown + rest).rfind(b"\x1b[?25l") >= 0


def _read_until(screen: int, wanted: bytes | None) -> bytes:
    seen, deadline = b"", time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            piece = os.read(screen, 65536)
        except OSError:
            # EIO: the other side has closed.
            return seen
        seen += piece
        if not piece or (wanted is not None and wanted in seen):
            return seen
    raise TimeoutError(seen)


def test_a_proxy_that_is_away_for_a_while_ends_nothing(tmp_path: Path) -> None:
    from proxy.commands.top import View  # noqa: PLC0415 - as the command does

    with in_a_thread(tmp_path) as own:
        view = View(own.admin, "", 0.1)
        view.look()
    view.look_again()
    assert view.trouble.startswith("cannot reach the admin port")
