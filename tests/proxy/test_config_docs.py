"""docs/configuration.md says what the code does; the JSON Schema says what the file may hold."""

import json
import re
from typing import Any

import pytest

from proxy import config_docs
from proxy.config_docs import PAGE, json_schema
from proxy.config_file import parse
from proxy.config_nodes import MINIMAL
from proxy.config_problems import BadConfig
from proxy.setting_types import fields_of
from proxy.settings import Route, Settings

TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
ENVIRON = {"REDIS_PASSWORD": "p", "SERVICE_TOKEN": "t", "REDIS_HOST": "redis"}


def _parse(text: str) -> Settings:
    return parse(text, name="crowdgate.yaml", environ=ENVIRON, read=lambda _: "secret")


def test_the_reference_is_what_the_settings_say() -> None:
    assert config_docs.page(TEXT) == TEXT, "run python -m proxy.config_docs --write"


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[0] for block in BLOCKS])
def test_every_example_loads(block: str) -> None:
    _parse(block if "upstream:" in block else f"{MINIMAL}\n{block}")


def test_the_complete_example_is_complete() -> None:
    settings = _parse(BLOCKS[1])
    assert (
        len(settings.routes),
        len(settings.warm),
        settings.redis and settings.redis.password,
        settings.admin.token,
    ) == (7, 4, "p", "secret")


def test_the_mistakes_are_reported_as_the_page_shows_them() -> None:
    found = re.search(r"```yaml bad\n(.*?)```\n\n```text\n(.*?)```", TEXT, re.DOTALL)
    assert found
    with pytest.raises(BadConfig) as caught:
        _parse(found[1])
    assert found[2] == f"{caught.value}\n"


def test_links_within_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]*)\)", TEXT))
    assert links <= anchors


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="the page needs the lines"):
        config_docs.page("# Configuration\n")


def test_check_fails_on_a_stale_page_until_it_is_written(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "configuration.md"
    stale.write_text(f"before\n{config_docs.BEGIN}old\n{config_docs.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(config_docs, "PAGE", stale)
    results = [config_docs.main([argument]) for argument in ("--check", "--write", "--check", "--what")]
    assert results == [1, 0, 0, 2]
    assert stale.read_text(encoding="utf-8").startswith("before\n")


# --- The schema ---

SCHEMA = json_schema()


def test_the_schema_knows_every_key_and_no_other() -> None:
    objects = {name: each for name, each in SCHEMA["$defs"].items() if each["type"] == "object"}
    assert all(each["additionalProperties"] is False for each in objects.values())
    assert list(fields_of(Route)) == list(objects["Route"]["properties"])
    assert list(fields_of(Settings)) == list(objects["Settings"]["properties"])


def test_the_schema_stands_on_its_own() -> None:
    text = json.dumps(SCHEMA)
    references = set(re.findall(r'"\$ref": "#/\$defs/(\w+)"', text))
    assert references == set(SCHEMA["$defs"])


def test_every_key_of_the_schema_is_explained() -> None:
    for name, each in SCHEMA["$defs"].items():
        assert each["description"], name
        assert all(inner["description"] for inner in each.get("properties", {}).values())


SHOWN = [
    ("ttl", [{"type": "string"}, {"const": 0}, {"$ref": "#/$defs/substituted"}, {"type": "null"}]),
    ("memory", [{"type": "boolean"}, {"$ref": "#/$defs/substituted"}]),
]


@pytest.mark.parametrize(("key", "expected"), SHOWN)
def test_values_are_described_as_they_are_written(key: str, expected: list[dict[str, Any]]) -> None:
    allowed = SCHEMA["$defs"]["Route"]["properties"][key]["anyOf"]
    assert expected == [{k: v for k, v in each.items() if k != "pattern"} for each in allowed]


DURATIONS = [("250ms", True), ("1h30m", True), ("30", False), ("5 min", False), ("", False)]


@pytest.mark.parametrize(("text", "good"), DURATIONS)
def test_the_schema_knows_a_duration(text: str, good: bool) -> None:
    pattern = SCHEMA["$defs"]["Drain"]["properties"]["timeout"]["anyOf"][0]["pattern"]
    assert good == bool(re.search(pattern, text))


def test_defaults_are_written_as_in_the_file() -> None:
    shown = SCHEMA["$defs"]["Memory"]["properties"]
    assert (shown["max_size"]["default"], shown["max_age"]["default"]) == ("64MiB", "1m")
