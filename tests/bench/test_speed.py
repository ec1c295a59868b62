"""The parts of the speed benchmark that are arithmetic or text."""

import math
import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from proxy.config_file import parse
from tests.bench.speed import asked, chart, configs, figures, load, machine, report, table, versions
from tests.bench.speed.configs import Job, Kind

WRK = {
    "requests": 400_000,
    "duration_us": 4_000_000,
    "p50_us": 310,
    "p99_us": 980,
    "max_us": 5200,
    "bad_statuses": 0,
    "socket_errors": 0,
    "timeouts": 0,
}
PACED = {
    "sent": 9,
    "answered": 9,
    "bad": 0,
    "seconds": 1.0,
    "p50_us": 40,
    "p99_us": 200,
    "p999_us": 300,
    "max_us": 400,
    "late_p99_us": 9,
}
SPENT = load.Spent(server_s=2.0, load_s=3.0, core_s=2.125, wall_s=4.0)


def a_round(speed: float = 100_000.0, **changes: Any) -> figures.Round:
    said = {**WRK, "requests": int(speed * 4), **changes}
    return load.round_of(said, SPENT)


def row(speed: float, cpu_us: float = 5.0, **changes: Any) -> dict[str, Any]:
    return {**figures.middle([a_round(speed)]), "cpu_us_per_request": cpu_us, **changes}


FOUND: dict[str, dict[str, dict[str, Any]]] = {
    "identical": {
        "nginx": row(100_000, 8.0),
        "varnish": row(60_000, 16.0),
        "haproxy": row(110_000, 7.0),
        "crowdgate": row(131_000, 6.3),
    },
    "different": {"nginx": row(100_000), "crowdgate": row(89_000)},
    "redis": {"redis-py": row(11_000), "crowdgate": row(40_000)},
    "burst": {
        "crowdgate": figures.middle([figures.Burst(clients=9, origin_requests=1, seconds=0.3, errors=0)])
    },
    "latency": {
        "nginx": {**figures.middle([load.pace_of(PACED, SPENT, 9)]), "saturation_requests_per_s": 18.0}
    },
    "memory": {
        "crowdgate": figures.middle(
            [figures.Memory(idle_bytes=53_000_000, bytes_per_object=2048.0, objects=9, ready_s=0.41)]
        )
    },
}


# -- figures --


def test_a_round_is_what_wrk_said_and_what_the_processes_used() -> None:
    expected = figures.Round(
        requests=400_000,
        requests_per_s=100_000.0,
        p50_ms=0.31,
        p99_ms=0.98,
        cpu_us_per_request=5.0,
        server_busy=0.5,
        load_busy=0.75,
        others_busy=0.03125,
        errors=0,
    )
    assert expected == load.round_of(WRK, SPENT)


@pytest.mark.parametrize("kind", ["bad_statuses", "socket_errors", "timeouts"])
def test_every_kind_of_error_counts(kind: str) -> None:
    assert load.round_of({**WRK, kind: 3}, SPENT).errors == 3


def test_a_request_without_an_answer_is_an_error_at_a_constant_rate_too() -> None:
    assert load.pace_of({**PACED, "sent": 10, "answered": 8, "bad": 1}, SPENT, 10).errors == 3


def test_figures_are_medians_of_the_rounds_without_errors() -> None:
    rounds = [a_round(90_000), a_round(100_000), a_round(110_000), a_round(900_000, socket_errors=1)]
    found = figures.middle(rounds)
    assert (100_000.0, 4, 1, 1) == (
        found["requests_per_s"],
        found["rounds"],
        found["invalid_rounds"],
        found["errors"],
    )


def test_without_a_good_round_there_is_no_figure() -> None:
    found = figures.middle([a_round(timeouts=1)])
    assert (None, 1) == (found["requests_per_s"], found["invalid_rounds"])


def test_a_ratio_is_ours_over_theirs() -> None:
    assert figures.ratio(FOUND, "identical", "nginx", "requests_per_s") == pytest.approx(1.31)


@pytest.mark.parametrize(
    ("name", "met"),
    [
        ("identical_vs_nginx", True),
        ("identical_vs_varnish", True),
        ("identical_cpu_vs_nginx", True),
        ("different_vs_nginx", False),
        pytest.param("different_vs_varnish", None, id="no Varnish was measured"),
        pytest.param("zipf_vs_nginx", None, id="nothing was measured"),
        ("redis_requests_per_s", True),
        pytest.param("p99_vs_nginx", None, id="we were not measured"),
        ("idle_bytes", True),
        pytest.param("bytes_per_object", True, id="a limit itself is reached"),
        ("ready", True),
    ],
)
def test_a_verdict_compares_with_its_limit(name: str, met: bool | None) -> None:
    assert met is {one.target.name: one.met for one in figures.verdicts(FOUND)}[name]


def test_a_figure_that_is_missing_in_a_row_is_not_known() -> None:
    found = {"identical": {"nginx": row(1.0), "crowdgate": figures.middle([a_round(timeouts=1)])}}
    assert {one.met for one in figures.verdicts(found)} == {None}


# -- what is asked for --


def test_requests_are_all_as_long_as_one_another_and_have_no_byte_of_the_template() -> None:
    template = asked.get(traced=True)
    made = {asked.one(template, key) for key in (10_000, 12_345, 19_999)}
    assert {len(template)} == {len(one) for one in made}
    assert all(byte not in one for one in made for byte in b"\x01\x02")


def test_a_request_names_its_key() -> None:
    assert b"GET /api/events/12345/participants?page=1&size=20 HTTP/1.1\r\n" in asked.one(asked.get())


def test_random_digits_come_in_pairs() -> None:
    runs = re.findall(rb"\x01+", asked.get(traced=True))
    assert [32, 16, 8, 4, 4, 4, 12] == [len(run) for run in runs]


def test_a_posted_body_is_as_long_as_its_head_says() -> None:
    head, _, body = asked.post(200).partition(b"\r\n\r\n")
    assert len(body) == 200
    assert b"Content-Length: 200" in head


def test_zipf_asks_for_the_first_key_as_often_as_for_the_second_twice() -> None:
    draws = asked.zipf(100_000, keys=100)
    (_, first), (_, second) = Counter(draws).most_common(2)
    assert 2.0 == pytest.approx(first / second, rel=0.1)
    # 1 + 1/2 + ... + 1/100
    assert 100_000 / first == pytest.approx(math.log(100) + 0.582, rel=0.05)


def test_draws_are_packed_as_numbers_of_32_bits() -> None:
    assert (10_000, 19_999) == struct.unpack("=2I", asked.packed([10_000, 19_999]))


# -- configs --


@pytest.mark.parametrize("kind", list(Kind))
def test_our_own_config_is_valid_and_has_fifty_routes(kind: Kind) -> None:
    text = configs.crowdgate(Job(kind=kind, origin_port=9, redis_port=6379), (8081, 9901))
    settings = parse(text, name="bench", environ={}, read=str)
    assert (50 if kind is not Kind.PASS else 49) == len(settings.routes)
    assert configs.routes() == 50


def test_the_origin_answers_a_kibibyte() -> None:
    body = configs.BODY.replace("$request_uri", asked.target(12_345)).replace("$request_method", "GET")
    assert len(body.replace("$content_length", "")) == 1024


def test_the_end_of_a_body_is_at_its_end_alone() -> None:
    assert configs.BODY.encode().index(configs.END_OF_BODY) == len(configs.BODY) - len(configs.END_OF_BODY)


# -- what is shown --


def document() -> dict[str, Any]:
    return {
        "date": "2026-11-29T12:00:00+00:00",
        "command": "python -m tests.bench.speed",
        "machine": {"cpu_model": "A <fast> CPU", "cores": 2, "kernel": "6.1"},
        "versions": {"nginx": "1.22.1", "varnish": None},
        "settings": {"rounds": 5, "seconds": 4, "connections": 64, "routes": 50},
        "workloads": FOUND,
        "failures": {},
    }


def test_a_table_has_as_many_cells_in_each_line() -> None:
    lines = table.saturated(FOUND).splitlines()
    assert {11} == {line.count("|") for line in lines}
    assert "| 131,000 |    1.31 |" in lines[5]


def test_what_limits_a_figure_is_said_beside_it() -> None:
    limited = row(100_000, load_busy=0.99, server_busy=0.6, others_busy=0.2)
    found = {"identical": {"nginx": limited}}
    assert "100,000*!" in table.saturated(found)
    assert [2, 1] == [table.notes(found).count("\n`"), table.notes(found).count("`*`")]


def test_the_chart_is_well_formed_and_its_bars_are_as_long_as_the_ratios() -> None:
    root = ET.fromstring(chart.svg(FOUND, "a <title> & more"))
    names: dict[str, list[float]] = {}
    for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
        names.setdefault(bar.attrib["class"], []).append(float(bar.attrib["width"]))
    assert names["c"][0] / names["n"][0] == pytest.approx(1.31, rel=0.01)
    assert 2 == len(names["c"])


def test_a_chart_of_nothing_is_well_formed_too() -> None:
    assert ET.fromstring(chart.svg({}, "")) is not None


def test_writing_the_page_keeps_what_is_outside_of_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nlast year\n{report.END}\nafter\n", "utf-8")
    report.write(document(), tmp_path)
    report.write(document(), tmp_path)
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert (1, 0) == (text.count("### Targets"), text.count("last year"))


def test_the_text_names_what_failed() -> None:
    made = {**document(), "failures": {"zipf": {"nginx": "RuntimeError: no"}}}
    assert "FAILED: zipf: nginx: RuntimeError: no" in report.text(made)


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("nginx version: nginx/1.22.1", "1.22.1"),
        ("varnishd (varnish-7.1.1 revision 7cee1c5)", "7.1.1"),
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17", "2.6.12-1"),
        ("wrk debian/4.1.0-3+b2 [epoll]", "4.1.0-3"),
        ("nothing", None),
    ],
)
def test_versions_are_found_in_what_programs_say(said: str, number: str | None) -> None:
    assert number == versions.number(said)


def test_the_first_threads_are_those_of_different_cores() -> None:
    assert [0, 2, 1, 3] == machine.apart({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"})
    assert [0, 1, 2, 3] == machine.apart({0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"})
