"""The log lines of a block of code, as dictionaries."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        self.lines.append({"event": record.getMessage(), "level": level, **getattr(record, "fields", {})})


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """The lines that the proxy logs within the block, of any level."""
    collector, logger = _Collector(), logging.getLogger("proxy")
    before = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.DEBUG)
    try:
        yield collector.lines
    finally:
        logger.setLevel(before)
        logger.removeHandler(collector)
