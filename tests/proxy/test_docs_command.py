from pathlib import Path

import pytest

from proxy.docs_command import keep_up_to_date


def run(page: Path, *arguments: str) -> int:
    return keep_up_to_date(page, str.upper, module="proxy.some_docs", arguments=arguments)


def test_a_stale_page_fails_the_check_until_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "some.md"
    page.write_text("text", encoding="utf-8")

    assert [1, 0, 0] == [run(page, "--check"), run(page, "--write"), run(page, "--check")]
    assert page.read_text(encoding="utf-8") == "TEXT"
    assert capsys.readouterr().err == "docs/some.md is stale: run python -m proxy.some_docs --write\n"


def test_anything_else_is_told_how_to_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == run(tmp_path / "none.md")
    assert capsys.readouterr().err == "usage: python -m proxy.some_docs --check | --write\n"
