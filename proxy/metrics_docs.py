"""docs/metrics.md's table, made from what the proxy exposes.

`python -m proxy.metrics_docs --write` brings it up to date, `--check` fails where it is not.
"""

import sys
from pathlib import Path

from proxy.docs_command import between, keep_up_to_date
from proxy.metrics import Metrics

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
_BEGIN = "<!-- metrics: made by python -m proxy.metrics_docs --write -->\n"
_END = "<!-- end -->\n"


def table() -> str:
    """One line per metric: name, kind, labels, meaning."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for family in sorted(Metrics("").families(), key=lambda family: family.name):
        labels = ", ".join(f"`{name}`" for name in family.labels)
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.text} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with its table as it should be. Raises ValueError where its markers are missing."""
    return between(text, _BEGIN, _END, table(), name=PAGE.name)


def main(arguments: list[str]) -> int:
    """The exit code; see `docs_command`."""
    return keep_up_to_date(PAGE, page, module="proxy.metrics_docs", arguments=arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
