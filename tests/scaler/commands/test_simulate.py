import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scaler.cli import main

CSV = "seconds,requests\n" + "".join(f"{at},{100 if at < 600 else 900}\n" for at in range(1200))


def simulate(*options: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *options])


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "leap.csv"
    path.write_text(CSV, "utf-8")
    return str(path)


def test_people_get_a_table(trace: str) -> None:
    found = simulate("--trace", trace, "--against", "hpa,oracle")
    lines = found.output.splitlines()
    assert (found.exit_code, lines[0]) == (0, "leap: pods of 50 req/s, 30 s to start")
    assert [line.split()[0] for line in lines[1:]] == ["policy", "crowdgate", "hpa-70", "oracle"]


def test_programs_get_json_and_the_same_twice(trace: str) -> None:
    options = ("--trace", trace, "--against", "hpa,keda,kpa,threshold,oracle", "--json", "-")
    first, second = simulate(*options), simulate(*options)
    found = json.loads(first.output)
    assert (first.output, found["trace"]) == (second.output, "leap")
    assert [one["name"] for one in found["policies"]] == [
        "crowdgate",
        "hpa-70",
        "keda",
        "kpa",
        "threshold",
        "oracle",
    ]


def test_a_calendar_is_heeded(trace: str, tmp_path: Path) -> None:
    calendar = tmp_path / "c.csv"
    calendar.write_text("seconds,expected_peak_rps,name\n600,900,sale\n", "utf-8")
    violated = [
        json.loads(simulate("--trace", trace, "--against", "", "--json", "-", *more).output)["policies"][0][
            "violation_seconds"
        ]
        for more in ((), ("--calendar", str(calendar)), ("--calendar", str(calendar), "--no-calendar"))
    ]
    assert (violated[0] > 20, violated[1], violated[2]) == (True, 0, violated[0])


def test_shapes_bring_their_calendar() -> None:
    found = json.loads(simulate("--trace", "onsale(x10,120s)", "--against", "hpa", "--json", "-").output)
    assert [one["violation_seconds"] > 0 for one in found["policies"]] == [False, True]


def test_a_policy_s_knobs_are_read_and_wrong_ones_named(trace: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("demand: {headroom_min: 3.0, headroom_max: 3.0}\n", "utf-8")
    bad.write_text("demand: {headrom: 3.0}\n", "utf-8")
    costs = [
        json.loads(simulate("--trace", trace, "--against", "", "--json", "-", *more).output)["policies"][0][
            "pod_hours"
        ]
        for more in ((), ("--policy", str(good)))
    ]
    refused = simulate("--trace", trace, "--policy", str(bad))
    assert (costs[1] > 1.5 * costs[0], refused.exit_code, "headrom" in refused.output) == (True, 2, True)


def test_knobs_that_contradict_each_other_are_refused(trace: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("demand: {headroom_min: 1.5, headroom_max: 1.2}\n", "utf-8")
    refused = simulate("--trace", trace, "--policy", str(path))
    assert (refused.exit_code, "must be at least headroom_min (1.5)" in refused.output) == (2, True)


@pytest.mark.parametrize("option", ["--trace", "--calendar"])
@pytest.mark.parametrize(
    "data", [b"\xff\xfe\x00", b"seconds,requests\n0,\xff\n", b'"' + b"a" * 200_000 + b'"']
)
def test_what_is_no_csv_is_one_sentence(trace: str, tmp_path: Path, option: str, data: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(data)
    options = (option, str(path)) if option == "--trace" else ("--trace", trace, option, str(path))
    refused = simulate(*options)
    assert (refused.exit_code, "x.csv: is no CSV" in refused.output) == (2, True)


@pytest.mark.parametrize("name", ["x.svg", "x.html"])
def test_it_draws(trace: str, tmp_path: Path, name: str) -> None:
    simulate("--trace", trace, "--against", "hpa", "--plot", str(tmp_path / name))
    assert "<svg" in (tmp_path / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--trace", "no/such.csv"), "no/such.csv: No such file or directory"),
        (("--trace", "sale"), "`sale` is no shape"),
        (("--trace", "burst", "--against", "vpa"), "nobody is called `vpa`"),
        (("--trace", "burst", "--pod-start", "30"), "`30` is no duration"),
        (("--trace", "burst", "--min", "5", "--max", "4"), "--min (5) must be at most --max (4)"),
        (("--trace", "burst", "--policy", "no.yaml"), "no.yaml: No such file or directory"),
        (("--trace", "burst", "--calendar", "no.csv"), "no.csv: No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_sentence(options: tuple[str, ...], said: str) -> None:
    found = simulate(*options)
    assert (found.exit_code, said in found.output) == (2, True)
