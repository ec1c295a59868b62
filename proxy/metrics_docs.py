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
    families = sorted(Metrics("").collect(), key=lambda family: family.name)
    for family in families:
        suffix = "_total" if family.type == "counter" else ""
        # prometheus_client keeps a family's label names to itself until it has samples.
        labels = ", ".join(f"`{name}`" for name in getattr(family, "_labelnames", ()))
        lines.append(f"| `{family.name}{suffix}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with its table as it should be. Raises ValueError where its markers are missing."""
    return between(text, _BEGIN, _END, table(), name=PAGE.name)


def main(arguments: list[str]) -> int:
    """The exit code; see `docs_command`."""
    return keep_up_to_date(PAGE, page, module="proxy.metrics_docs", arguments=arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
