"""Commands as a shell would run them."""

import json
from typing import Any

from click.testing import CliRunner, Result

from proxy.cli import main


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


def document(*arguments: str, **environment: str) -> Any:
    """What a command prints with `--json -`."""
    found = run(*arguments, "--json", "-", **environment)
    return json.loads(found.stdout)
