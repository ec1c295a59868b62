import json
import logging
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy import logs
from proxy.logs import AccessLog, Logger

log = Logger("proxy.test")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root, ours, aiohttp = logging.getLogger(), logging.getLogger("proxy"), logging.getLogger("aiohttp")
    handlers, levels = list(root.handlers), [each.level for each in (root, ours, aiohttp)]
    yield
    root.handlers[:] = handlers
    for each, level in zip((root, ours, aiohttp), levels, strict=True):
        each.setLevel(level)


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


def test_a_line_is_json_with_its_fields(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="info", form="json")
    log.info("listening", port=80, of=("a", "b"), odd=object)
    (line,) = map(json.loads, lines(capfd))

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "event": "listening",
        "port": 80,
        "of": ["a", "b"],
        "odd": "<class 'object'>",
    }


def test_a_line_for_people_is_text(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="info", form="console")
    log.warning("warming failed", resource="events", why="lone \udcff")
    (line,) = lines(capfd)

    assert line[12:] == " warning warming failed  resource=events  why=lone \\udcff"


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_error_brings_its_trace(capfd: pytest.CaptureFixture[str], form: str) -> None:
    logs.configure(level="info", form=form)
    with pytest.raises(ValueError, match="what") as caught:
        int("what")
    log.error("task failed", exc_info=caught.value, task="flight")
    text = capfd.readouterr().err

    assert ("Traceback" in text, "ValueError: invalid" in text, "flight" in text) == (True, True, True)


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_not_written(
    capfd: pytest.CaptureFixture[str], level: str, told: list[str]
) -> None:
    logs.configure(level=level, form="json")
    for tell in (log.debug, log.info, log.warning, log.error):
        tell("event")

    assert [json.loads(line)["level"] for line in lines(capfd)] == told


def test_configuring_again_changes_the_form_and_doubles_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="info", form="json")
    logs.configure(level="info", form="console")
    log.info("once")

    assert [line.endswith("once") for line in lines(capfd)] == [True]


def test_libraries_are_heard_only_when_it_matters(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="debug", form="json")
    logging.getLogger("asyncio").warning("slow")
    logging.getLogger("aiohttp.server").error("a request's own bytes")
    logging.getLogger("asyncio").error("never retrieved %s", "x")

    assert [json.loads(line)["event"] for line in lines(capfd)] == ["never retrieved x"]


@contextmanager
def standard_error(fd: int) -> Iterator[None]:
    """Another file in its place."""
    before = os.dup(2)
    os.dup2(fd, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def written() -> list[bool]:
    """Whether lines are: a short one, one as long as a trace, one of the access log."""
    logs.configure(level="info", form="json")
    log.info("event")
    return [logs.write(b"x" * 100_000), AccessLog().write({"event": "request"})]


def test_a_disk_that_is_full_stops_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Path("/dev/full").open("wb") as full, standard_error(full.fileno()):
        results = written()

    assert results == [False, False]


def test_a_pipe_whose_reader_has_stopped_delays_nothing_and_is_written_to_when_it_goes_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    reader, writer = os.pipe()
    with standard_error(writer):
        began = time.monotonic()
        stopped = [AccessLog().write({"event": "request"}) for _ in range(10_000)]
        took = time.monotonic() - began
        while select.select([reader], [], [], 0)[0]:
            os.read(reader, 65536)
        again = AccessLog().write({"event": "request"})
        line = os.read(reader, 65536)
    for end in (reader, writer):
        os.close(end)

    assert (stopped[0], stopped[-1], took < 1) == (True, False, True)
    assert (again, line) == (True, b'{"event":"request"}\n')


def test_a_pipe_without_a_reader_stops_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with standard_error(writer):
        results = written()
    os.close(writer)

    assert results == [False, False]


def test_a_long_line_is_written_whole(capfd: pytest.CaptureFixture[str]) -> None:
    sizes = [4095, 4096, 4097, 20_000]
    assert all(logs.write(b"x" * size) for size in sizes)

    assert [len(line) for line in lines(capfd)] == sizes


def test_standard_error_that_was_closed_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stderr__", None)

    assert written() == [False, False]


def test_the_access_log_is_written_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    AccessLog().write({"event": "request", "status": 200})

    assert lines(capfd) == ['{"event":"request","status":200}']
