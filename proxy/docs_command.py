"""What `python -m proxy.config_docs` and its like do with the page that they keep up to date."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def keep_up_to_date(
    page: Path, renewed: Callable[[str], str], *, module: str, arguments: Sequence[str]
) -> int:
    """`--write` renews the page, `--check` only compares.

    0 where the page is as it should be, 1 where it is not, 2 where nothing clear was asked for. Raises what `renewed` does.
    """
    if list(arguments) not in (["--check"], ["--write"]):
        sys.stderr.write(f"usage: python -m {module} --check | --write\n")
        return 2
    before = page.read_text(encoding="utf-8")
    after = renewed(before)
    if arguments[0] == "--write":
        page.write_text(after, encoding="utf-8")
        return 0
    if before != after:
        sys.stderr.write(f"docs/{page.name} is stale: run python -m {module} --write\n")
    return int(before != after)


def between(text: str, begin: str, end: str, made: str, *, name: str) -> str:
    """A page with what stands between two of its lines replaced. Raises ValueError where `name` lacks them."""
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{name} needs the lines {begin.strip()} and {end.strip()}")
    return before + begin + made + end + after
