"""What the tests claim to show, as tables in the docs: clauses of the RFCs, and attacks.

A test says it with a mark, on itself or on one of its parameters:

    @clause("RFC 9111", "4.2.1", "s-maxage goes before max-age")
    @attack("smuggling", "Content-Length beside Transfer-Encoding")

`python -m tests.claims --write` brings docs/http-caching.md and docs/security.md up to date, `--check` fails where they
are not. The marks are collected by pytest itself: a test that is gone, or renamed, is gone from the page.
"""

import io
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.docs_command import between, keep_up_to_date

_ROOT = Path(__file__).parent.parent
_PAGES = {"clause": _ROOT / "docs" / "http-caching.md", "attack": _ROOT / "docs" / "security.md"}
_END = "<!-- end -->\n"


def clause(rfc: str, section: str, claim: str) -> pytest.MarkDecorator:
    """A test shows that a section of an RFC is kept to."""
    return pytest.mark.clause(rfc, section, claim)


def attack(kind: str, claim: str) -> pytest.MarkDecorator:
    """A test tries an attack over real sockets."""
    return pytest.mark.attack(kind, claim)


@dataclass(slots=True)
class Claims:
    """A pytest plugin that notes what is claimed, and by which tests."""

    clauses: dict[tuple[str, str, str], dict[str, int]] = field(default_factory=dict)
    attacks: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """pytest calls it when all tests are known."""
        for item in items:
            test = item.nodeid.partition("[")[0]
            for mark in item.iter_markers("clause"):
                _count(self.clauses.setdefault(mark.args, {}), test)
            for mark in item.iter_markers("attack"):
                _count(self.attacks.setdefault(mark.args, {}), test)


def _count(tests: dict[str, int], test: str) -> None:
    tests[test] = tests.get(test, 0) + 1


def collected() -> Claims:
    """The claims of all tests. Raises SystemExit where collecting them fails."""
    claims = Claims()
    said = io.StringIO()
    with redirect_stdout(said):
        code = pytest.main(["--collect-only", "--quiet", "--quiet", str(_ROOT / "tests")], plugins=[claims])
    if code != pytest.ExitCode.OK:
        sys.exit(f"the tests can't be collected:\n{said.getvalue()}")
    return claims


def clause_table(claims: Claims) -> str:
    """One line per clause."""
    lines = ["| RFC | section | what holds | shown by |", "|---|---|---|---|"]
    for (rfc, section, claim), tests in sorted(claims.clauses.items(), key=lambda item: _in_order(item[0])):
        lines.append(f"| {rfc} | {section} | {claim} | {_names(tests)} |")
    return "\n".join(lines) + "\n"


def attack_table(claims: Claims) -> str:
    """One line per attack."""
    lines = ["| class | what was tried | tried by |", "|---|---|---|"]
    lines += [
        f"| {kind} | {claim} | {_names(tests)} |" for (kind, claim), tests in sorted(claims.attacks.items())
    ]
    return "\n".join(lines) + "\n"


def _in_order(key: Iterable[str]) -> list[list[tuple[int, str]]]:
    """Section 4.10 after section 4.9."""
    return [[(int(n), "") if n.isdigit() else (0, n) for n in re.split(r"(\d+)", part)] for part in key]


def _names(tests: dict[str, int]) -> str:
    names = []
    for test, count in sorted(tests.items()):
        path, _, name = test.partition("::")
        names.append(f"`{path.removeprefix('tests/')}::{name}`" + (f" ({count} cases)" if count > 1 else ""))
    return "<br>".join(names)


def _renewed(name: str, table: str) -> Callable[[str], str]:
    begin = f"<!-- {name}s: made by python -m tests.claims --write -->\n"
    return lambda text: between(text, begin, _END, table, name=_PAGES[name].name)


def main(arguments: list[str]) -> int:
    """The exit code; see `proxy.docs_command`."""
    claims = collected()
    tables = {"clause": clause_table(claims), "attack": attack_table(claims)}
    return max(
        keep_up_to_date(_PAGES[name], _renewed(name, table), module="tests.claims", arguments=arguments)
        for name, table in tables.items()
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
