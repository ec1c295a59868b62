"""The command line: what it prints, how it exits, and that it loads no more than it needs."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main

GOOD = "upstream: {url: http://127.0.0.1:8080}\n"
BAD = "listen: 80\nupstream: {url: http://127.0.0.1:8080}\nlog: {level: inof}\n"


@pytest.fixture(autouse=True)
def _no_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CROWDGATE_LISTEN", raising=False)


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=text)


def test_a_good_file_is_summed_up_in_a_line() -> None:
    rest = "redis: {mode: embedded}\nroutes: [{match: /a}, {match: /b}]\nwarm: [{name: a, path: /a}]\n"
    found = run("check", "-", text=GOOD + rest)
    assert (found.exit_code, found.output) == (0, "ok: 2 routes, 1 warm resource, redis embedded\n")


def test_the_least_file_is_summed_up_too() -> None:
    assert run("check", "-", text=GOOD).output == "ok: 0 routes, 0 warm resources, memory only\n"


def test_every_mistake_is_printed_by_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(BAD)
    found = run("check", str(file))
    assert (2, [f"{file}:1:9: listen", f"{file}:3:14: log.level"]) == (
        found.exit_code,
        [": ".join(line.split(": ")[:2]) for line in found.output.splitlines()],
    )


def test_mistakes_in_json_have_their_places() -> None:
    found = run("check", "-", "--format", "json", text=BAD)
    report = json.loads(found.output)
    assert (found.exit_code, report["ok"]) == (2, False)
    assert report["problems"][0] == {
        "file": "<stdin>",
        "line": 1,
        "col": 9,
        "path": "listen",
        "message": "must be `host:port`, not `80`; did you mean 0.0.0.0:80?",
    }


def test_a_good_file_in_json() -> None:
    expected = {"ok": True, "problems": [], "routes": 0, "warm": 0, "redis": None}
    assert expected == json.loads(run("check", "-", "--format", "json", text=GOOD).output)


def test_mistakes_become_annotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b:c.yaml").write_text(GOOD + "log: {format: 100%}\n")
    monkeypatch.setenv("CROWDGATE_LISTEN", "x")
    assert run("check", "a,b:c.yaml", "--format", "github").output.splitlines() == [
        "::error file=a%2Cb%3Ac.yaml,line=2,col=15::log.format: must be one of json, console, not `100%25`",
        "::error::env CROWDGATE_LISTEN: listen: must be `host:port`, not `x`",
    ]


def test_a_file_that_is_not_there_is_one_mistake() -> None:
    found = run("check", "/nowhere/c.yaml")
    assert (
        found.exit_code,
        found.output,
    ) == (2, "/nowhere/c.yaml: cannot be read: No such file or directory\n")


def test_the_schema_is_json() -> None:
    assert json.loads(run("schema").output)["$ref"] == "#/$defs/Settings"


def test_run_serves_the_file_and_exits_as_the_server_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def serve(path: str) -> int:
        asked.append(path)
        return 3

    monkeypatch.setattr("proxy.app", SimpleNamespace(run=serve), raising=False)
    assert (run("run", "--config", "c.yaml").exit_code, asked) == (3, ["c.yaml"])


def test_the_version_is_told() -> None:
    found = run("--version")
    assert (found.exit_code, found.output.startswith("crowdgate-proxy ")) == (0, True)


def _loaded_after(code: str) -> set[str]:
    return {name.partition(".")[0] for name in _modules_after(code)}


def _modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_and_usage_errors_load_nothing_heavy() -> None:
    heavy = {"aiohttp", "asyncio", "msgspec", "redis", "rich", "sqlglot", "uvloop", "yaml"}
    assert heavy.isdisjoint(_loaded_after("import proxy.cli"))


def test_listing_the_commands_loads_nothing_heavy_either() -> None:
    heavy = {"aiohttp", "asyncio", "msgspec", "redis", "rich", "urllib.request", "uvloop", "yaml"}
    code = "from proxy.cli import main; main(['--help'], standalone_mode=False)"
    assert heavy.isdisjoint(_modules_after(code))


def test_the_sidecar_loads_nothing_that_it_does_not_use() -> None:
    others = {
        "aiomysql",
        "pymysql",
        "redis",
        "rich",
        "sqlglot",
        "proxy.commands",
        "proxy.demo",
        "scaler",
        "tuner",
    }
    assert others.isdisjoint(_modules_after("import proxy.cli, proxy.app"))


@pytest.mark.parametrize(
    "name",
    ["check", "demo", "explain", "purge", "reload", "run", "schema", "stats", "top", "warm"],
)
def test_each_command_says_what_it_is_for(name: str) -> None:
    found = run(name, "--help")
    assert (found.exit_code, found.output.startswith(f"Usage: main {name} ")) == (0, True)


def test_a_command_that_is_none_is_a_usage_error() -> None:
    assert run("dmeo").exit_code == 2


def test_checking_a_file_loads_no_server_and_no_client() -> None:
    code = "from proxy.config_file import parse"
    assert {"aiohttp", "redis", "rich", "sqlglot", "uvloop"}.isdisjoint(_loaded_after(code))


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "check", "-"],
        input=BAD,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout.split()[0]) == (2, "<stdin>:1:9:")
