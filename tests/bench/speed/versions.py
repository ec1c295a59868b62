"""Of everything that takes part."""

import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from tests import servers
from tests.bench.speed.programs import executable

_ASKED = {
    "nginx": ("nginx", "-v"),
    "varnish": ("varnishd", "-V"),
    "haproxy": ("haproxy", "-v"),
    "wrk": ("wrk", "-v"),
}
_NUMBER = re.compile(r"\d+\.\d+[.\w-]*")


def found() -> dict[str, str | None]:
    """None for what is not installed."""
    redis = servers.binary()
    return {
        "crowdgate": f"{metadata.version('crowdgate')}{_commit()}",
        **{name: _said([executable(words[0]), *words[1:]]) for name, words in _ASKED.items()},
        "redis_server": _said([None if redis is None else str(redis), "--version"]),
        "redis_py": metadata.version("redis"),
        "aiohttp": metadata.version("aiohttp"),
        "uvloop": metadata.version("uvloop"),
        "python": platform.python_version(),
    }


def number(said: str) -> str | None:
    """The first version number in what a program says."""
    match = _NUMBER.search(said)
    return None if match is None else match[0]


def _said(words: list[str | None]) -> str | None:
    program, *options = words
    if program is None:
        return None
    ran = subprocess.run(
        [program, *(word for word in options if word)],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    return number(ran.stdout + ran.stderr)


def _commit() -> str:
    """Of a checkout: the commit, and whether files differ from it. Empty elsewhere."""
    root = Path(__file__).parents[3]
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=9"]
    try:
        ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return ""
    return f" ({ran.stdout.strip()})" if ran.returncode == 0 else ""
