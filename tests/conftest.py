"""How tests are shared among pytest-xdist's processes: what uses the same servers stays together, what takes long begins."""

from pathlib import Path

import pytest

# What these start takes seconds, and serves all tests of the folder.
_TOGETHER = (Path(__file__).parent / "proxy" / "demo", Path(__file__).parent / "kube")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    stage = callspec.params.get("stage", "") if callspec is not None else ""
    place = next((folder for folder in _TOGETHER if folder in item.path.parents), item.path)
    return f"{place} {stage}"
