"""The fault matrix with its figures, for docs/operations.md.

python -m tests.flow.faults.report [--json FILE] [STAGE ...]
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from tests.flow.faults.matrix import MATRIX
from tests.flow.faults.trial import Fault, Finding, broken_promises, under

_HEAD = (
    "| on | fault | requests | failed | wrong or too old | Redis out after | p99 before | p99 during | added "
    "| recovered after | memory | trials |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


async def run(stages: Sequence[str]) -> list[tuple[Fault, Finding]]:
    """All faults of these stages, told of as they are over."""
    found = []
    print(_HEAD, flush=True)
    for name in stages:
        async with MATRIX[name].opened() as stage:
            for fault in MATRIX[name].faults:
                finding = await under(stage, fault)
                found.append((fault, finding))
                print(row(fault, finding), flush=True)
    return found


def row(fault: Fault, finding: Finding) -> str:
    """A line of the table."""
    cells = (
        finding.stage,
        finding.fault,
        str(finding.requests),
        str(len(finding.failed)),
        str(len(finding.wrong) + len(finding.outdated)),
        f"{finding.open_s:.2f} s" if fault.opens else "-",
        f"{finding.p99_before_ms:.1f} ms",
        f"{finding.p99_during_ms:.1f} ms",
        f"{finding.added_ms:+.1f} ms",
        f"{finding.recovered_s:.1f} s",
        f"{finding.rss_growth_mib:+.1f} MiB",
        str(finding.trials),
    )
    return f"| {' | '.join(cells)} |"


def figures(fault: Fault, finding: Finding) -> dict[str, Any]:
    """For --json: counts instead of lists, null for what did not happen."""
    told = asdict(finding) | {"added_ms": finding.added_ms}
    counted = {name: len(value) if isinstance(value, tuple) else value for name, value in told.items()}
    finite = {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in counted.items()
    }
    return finite | {"broken_promises": broken_promises(fault, finding)}


def main(stages: Sequence[str], json_file: str | None) -> int:
    """The exit code: 1 where a promise was broken."""
    found = asyncio.run(run(stages or list(MATRIX)))
    if json_file is not None:
        text = json.dumps({"faults": [figures(*each) for each in found]}, indent=2) + "\n"
        if json_file == "-":
            sys.stdout.write(text)
        else:
            Path(json_file).write_text(text)
    broken = [(finding, said) for fault, finding in found for said in broken_promises(fault, finding)]
    for finding, said in broken:
        print(f"{finding.stage}: {finding.fault}: {said}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(MATRIX)}")
    parser.add_argument("--json", metavar="FILE", help="- for standard output")
    arguments = parser.parse_args()
    sys.exit(main(arguments.stages, arguments.json))
