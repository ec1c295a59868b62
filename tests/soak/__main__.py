"""A soak of the whole fleet: load, writes, purges, reloads and faults, with every answer judged.

python -m tests.soak [--minutes 30] [--seed N] [--cluster] [--json FILE]

Ends with 1 if any answer was wrong, any request failed that the API would have answered, or memory grew.
"""

import argparse
import asyncio
import json
import random
import sys
from pathlib import Path

from tests.soak.figures import table
from tests.soak.run import Plan, announce, soak, verdict

# Over hours. Python returns to its system only what is whole, so some drift is fragmentation and levels off.
_GROWTH_MIB = 8.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="which course it takes")
    parser.add_argument("--cluster", action="store_true", help="a Redis cluster of three primaries")
    parser.add_argument("--rate", type=float, default=300, help="requests a second")
    parser.add_argument("--growth", type=float, default=_GROWTH_MIB, help="MiB that a replica may grow by")
    parser.add_argument("--json", metavar="FILE", help="- for standard output")
    options = parser.parse_args()
    plan = Plan(
        seconds=options.minutes * 60,
        seed=options.seed,
        is_cluster=options.cluster,
        requests_per_s=options.rate,
    )
    announce(plan)
    figures = asyncio.run(soak(plan))
    problems = verdict(figures, growth_mib=options.growth)
    print(table(figures), file=sys.stderr)
    if options.json:
        text = json.dumps(figures, indent=2) + "\n"
        sys.stdout.write(text) if options.json == "-" else Path(options.json).write_text(text, "utf-8")
    print(*(f"NOT PASSED: {problem}" for problem in problems), sep="\n", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
