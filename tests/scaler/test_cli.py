"""The command line of the scaler, such as it is."""

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from scaler.cli import main


def test_help_says_what_it_is_for_and_what_is_missing() -> None:
    found = CliRunner().invoke(main, ["--help"])
    assert found.exit_code == 0
    assert ("simulate" in found.output, "does not run" in found.output) == (True, True)


def test_the_version_is_told() -> None:
    found = CliRunner().invoke(main, ["--version"])
    assert (found.exit_code, found.output.startswith("crowdgate-scaler ")) == (0, True)


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scaler", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.startswith("crowdgate-scaler ")
