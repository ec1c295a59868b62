"""The ways by which a request may be answered, for tests that go all of them.

`python -m tests.flow.lanes run --config F` is the proxy, with what the environment names: WAYS is a file to which it writes
how often its quick ways were taken, AT_ONCE has it take them as soon as it can, as if all had come often before.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# They begin so that the proxy leaves them alone.
WAYS = "CROWDGATE_TEST_WAYS"
AT_ONCE = "CROWDGATE_TEST_AT_ONCE"
_NAMES = ("hits", "redis", "passed", "not plain")

LANES = ("express", "known", "aiohttp")
"""As it is by default; so that all that memory answers is answered the quick way; without the express lane."""


def by(lane: str, **env: str) -> dict[str, Any]:
    """What `processes.running` needs for one of them."""
    match lane:
        case "express":
            return {"env": env}
        case "known":
            # The tests are no package that is installed.
            path = os.pathsep.join((str(Path(__file__).parents[2]), *sys.path))
            return {"module": "tests.flow.lanes", "env": {AT_ONCE: "1", "PYTHONPATH": path, **env}}
        case _:
            return {"env": {"CROWDGATE_CLIENT__EXPRESS": "false", **env}}


def ways(file: Path) -> dict[str, int]:
    """How often each was taken so far."""
    return dict(zip(_NAMES, map(int, file.read_text().split()), strict=True))


class _Ways:
    """Counts what functions return, into a file that can be read at any time."""

    def __init__(self, file: str) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
        self._counts = dict.fromkeys(_NAMES, 0)
        self._write()

    def _write(self) -> None:
        os.pwrite(self._file, b" ".join(b"%010d" % count for count in self._counts.values()), 0)

    def count(self, owner: type, function: str, what: Callable[..., str]) -> None:
        """`what` tells by result and arguments which way it was, if any."""
        plain = getattr(owner, function)

        def counted(*args: Any) -> Any:
            result = plain(*args)
            if name := what(result, *args):
                self._counts[name] += 1
                self._write()
            return result

        setattr(owner, function, counted)


def _count(file: str) -> None:
    from proxy.express import Express  # noqa: PLC0415 - only where the proxy runs
    from proxy.passing import Passage  # noqa: PLC0415

    seen = _Ways(file)
    seen.count(Express, "_answer_hit", lambda held, *_: "hits" if held else "")
    seen.count(Express, "looked", lambda _, _self, _hit, reply: "redis" if reply is not None else "")
    seen.count(Passage, "came", lambda whole, *_: "passed" if whole else "not plain")


def _learn_at_once() -> None:
    from proxy import shapes  # noqa: PLC0415
    from proxy.express import Express, _incoming  # noqa: PLC0415
    from proxy.policy.outcome import Outcome  # noqa: PLC0415
    from proxy.wire.request import BadRequest, parse_head  # noqa: PLC0415

    shapes._SEEN_OFTEN, shapes._PAUSES = 1, 0
    plain = Express._answer

    def answer(self: Express, data: bytes, *args: Any) -> Any:
        with suppress(BadRequest):
            head = parse_head(data[:-2], self._port.limits)
            if head.method in {"GET", "HEAD"} and not (head.length or head.http_1_0) and head.keep_alive:
                # As if it had been answered before, from what memory has now.
                self._hits.learn(data, _incoming(head, None), Outcome.HIT_MEMORY)
        return plain(self, data, *args)

    Express._answer = answer  # type: ignore[method-assign, assignment]


def main() -> None:
    from proxy.cli import main as run  # noqa: PLC0415

    if WAYS in os.environ:
        _count(os.environ[WAYS])
    if AT_ONCE in os.environ:
        _learn_at_once()
    run()


if __name__ == "__main__":
    main()
