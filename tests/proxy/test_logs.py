import io
import json
import logging
import re
import sys
from collections.abc import Iterator

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


class Full(io.RawIOBase):
    def write(self, _: object) -> int:
        raise OSError("no space left")


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "full"])
def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    broken = io.TextIOWrapper(Full() if not closed else io.BytesIO(), write_through=True)  # type: ignore[type-var]
    logs.configure(level="info", form="json")
    monkeypatch.setattr(sys, "stderr", broken)
    if closed:
        broken.close()
    log.info("event")
    AccessLog().write({"event": "request"})
    monkeypatch.undo()


def test_the_access_log_is_written_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    AccessLog().write({"event": "request", "status": 200})

    assert lines(capfd) == ['{"event":"request","status":200}']
