"""Hunts with coverage-guided fuzzing for inputs that break a target: `python -m tests.fuzz.run TARGET.. [--seconds N]`.

Needs atheris (`pip install 'crowdgate[fuzz]'`). An input that breaks a target is written into that target's folder of
corpus/, where test_corpus.py then fails until the parser is mended. Inputs that merely lead somewhere new are forgotten.
"""

import argparse
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

_CORPUS = Path(__file__).parent / "corpus"
# Of one input: what a parser may be given at once, about, and small enough for thousands a second.
_MAX_BYTES = 4096
_MISSING = (
    "atheris is not installed, and only there for some versions of Python: pip install 'crowdgate[fuzz]'"
)


def main(arguments: list[str]) -> int:
    """The exit code: 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all, one after another")
    parser.add_argument("--seconds", type=int, default=60, help="for each of them (default: 60)")
    parser.add_argument("--in", dest="place", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.place:
        _hunt(asked.targets[0], asked.seconds, asked.place)
    if find_spec("atheris") is None:
        sys.exit(_MISSING)
    wanted = asked.targets or _names()
    found = _crashers(wanted)
    for name in wanted:
        if name not in _names():
            parser.error(f"there is no target {name}; there are {', '.join(_names())}")
        print(f"{name}: {asked.seconds} s", flush=True)
        with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
            # A process for each: libFuzzer ends the one that it runs in.
            command = [sys.executable, "-m", "tests.fuzz.run", name, "--seconds", str(asked.seconds)]
            subprocess.run([*command, "--in", place], check=False)
    new = sorted(_crashers(wanted) - found)
    print("\n".join(("broken by:", *new)) if new else "nothing found")
    return 1 if new else 0


def _names() -> list[str]:
    return sorted(folder.name for folder in _CORPUS.iterdir())


def _crashers(names: list[str]) -> set[str]:
    kinds = ("crash", "timeout", "oom", "leak")
    return {str(path) for name in names for kind in kinds for path in (_CORPUS / name).glob(f"{kind}-*")}


def _hunt(name: str, seconds: int, place: str) -> None:
    """Does not return."""
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415 - an extra

    # What reads for the proxy counts as its own.
    with atheris.instrument_imports(include=["proxy", "http_sf", "prometheus_client.parser"]):
        from tests.fuzz.targets import TARGETS, within_bounds  # noqa: PLC0415 - instrumented as it is imported
    corpus = _CORPUS / name
    options = [f"-max_total_time={seconds}", f"-max_len={_MAX_BYTES}", "-timeout=10", "-rss_limit_mb=1024"]
    options += [f"-artifact_prefix={corpus}/", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup(
        [sys.argv[0], *options, place, str(corpus)], lambda data: within_bounds(TARGETS[name], data)
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
