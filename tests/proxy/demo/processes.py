"""Starts the sample API as its users do: as a process, found by the one line that it prints."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SMALL = "0.01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    url: str
    process: subprocess.Popen[str]


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "proxy.demo.api", "--scale", SMALL, *options]


def environment(cache: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(cache), **more}


@contextlib.contextmanager
def running(cache: Path, *options: str, **more: str) -> Iterator[Api]:
    process = subprocess.Popen(
        command("--port", "0", *options),
        env=environment(cache, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on http://"):
            process.terminate()
            raise AssertionError(f"{line!r}, then: {process.communicate()[1]}")
        yield Api(url=line.removeprefix("listening on ").strip(), process=process)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def refusal(cache: Path, *options: str, **more: str) -> tuple[int, str]:
    """Exit code and stderr of a start that must fail."""
    done = subprocess.run(
        command(*options),
        env=environment(cache, **more),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr
