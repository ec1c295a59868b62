"""docs/metrics.md says what the proxy exposes."""

import pytest

from proxy import metrics_docs


def test_the_table_is_what_the_proxy_exposes() -> None:
    text = metrics_docs.PAGE.read_text(encoding="utf-8")
    assert metrics_docs.page(text) == text, "run python -m proxy.metrics_docs --write"


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        metrics_docs.page("# Metrics\n")


def test_check_passes_and_anything_else_is_told_how_to_ask(capsys: pytest.CaptureFixture[str]) -> None:
    assert (0, 2) == (metrics_docs.main(["--check"]), metrics_docs.main([]))
    assert "usage" in capsys.readouterr().err
