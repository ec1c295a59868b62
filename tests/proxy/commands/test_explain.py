"""`explain` on the command line."""

from pathlib import Path

import pytest

from tests.proxy.commands.running import document, run

DEMO = str(Path(__file__).parents[3] / "proxy" / "demo" / "demo.yaml")


def test_a_request_is_explained_in_words() -> None:
    found = run("explain", "--config", DEMO, "GET", "https://API.test/api/events?page=2&utm=x#top")
    lines = found.stdout.splitlines()
    assert (0, "GET /api/events?page=2&utm=x") == (found.exit_code, lines[0])
    assert lines[1:4] == [
        "  route: events (/api/events)",
        "  fresh where the API says nothing: 300s; then stale-while-revalidate 30s, stale-if-error 600s",
        "  cached: a fresh stored answer is served; else one request asks the API for all who wait",
    ]
    assert lines[4].startswith("  key: e:events.")
    assert lines[5:7] == ["    made of: host api.test, url /api/events?page=2", "  tags: events"]


def test_the_host_that_is_taken_is_told() -> None:
    said = run("explain", "--config", DEMO, "GET", "/api/events/7").stdout
    given = run("explain", "--config", DEMO, "-H", "host: a", "GET", "/api/events/7").stdout
    assert (True, False) == ("note: Host is taken to be localhost" in said, "taken to be" in given)


def test_what_a_write_purges_is_told() -> None:
    said = run("explain", "--config", DEMO, "POST", "/api/events/7/participants").stdout
    assert said.splitlines()[1:] == [
        "  route: register (/api/events/{event_id}/participants, event_id=7)",
        "  passed on: POST may change something: it always reaches the API",
        "  a 2xx or 3xx purges: tag events, tag event:7, url /api/events/7/participants",
    ]


def test_json_says_the_same() -> None:
    found = document(
        "explain", "--config", DEMO, "-H", "Authorization: Bearer hush", "GET", "/api/users/1/permissions"
    )
    assert ("user-permissions", ["user_permissions"], ["user:1"], True, True) == (
        found["route"]["name"],
        found["warmed_as"],
        found["tags"],
        found["from_store"],
        found["key"]["principal_present"],
    )


def test_json_needs_no_file_name_at_the_end() -> None:
    found = run("explain", "--config", DEMO, "GET", "/x", "--json")
    assert (0, "{") == (found.exit_code, found.stdout[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("G ET", "/a"), "must be a method, such as GET"),
        (("GET", "events"), "must be a path such as /api/events?page=2, or a URL"),
        (("GET", "/a b"), "must be spelt as it is sent, without spaces"),
        (("-H", "nonsense", "GET", "/a"), "must be written 'Name: value'"),
        (("-H", "a b: c", "GET", "/a"), "must be written 'Name: value'"),
    ],
)
def test_a_slip_of_the_pen_is_a_usage_error(arguments: tuple[str, ...], message: str) -> None:
    found = run("explain", "--config", DEMO, *arguments)
    assert (2, True) == (found.exit_code, message in found.stderr)


def test_a_header_that_is_none_is_not_repeated() -> None:
    assert "hush" not in run("explain", "--config", DEMO, "-H", "Bearer hush", "GET", "/a").output


def test_a_bad_config_is_told_as_check_tells_it(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("routs: []\n")
    found = run("explain", "--config", str(file), "GET", "/a")
    assert (2, True) == (found.exit_code, found.stderr.startswith(f"{file}:1:1: "))
