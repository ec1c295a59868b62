"""Building shows how far it is."""

import pytest

from proxy.demo.progress import reporting


def test_without_a_terminal_a_line_tells_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(1000) as report:
        for _ in range(20):
            report("events", 50)

    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 10)
    assert printed.err.endswith("sample data: 100 % (events)\n")


def test_on_a_terminal_a_bar_names_the_table_in_hand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with reporting(10) as report:
        report("events", 10)

    printed = capsys.readouterr()
    assert printed.out == ""
    assert "sample data: 100" not in printed.err
