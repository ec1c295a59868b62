"""Every setting explains itself, and the defaults are settings that one could write."""

import re

import pytest

from proxy.config_shown import show
from proxy.setting_types import Field, Kind, Shape, fields_of
from proxy.settings import Group, Settings
from proxy.units import parse_duration, parse_size


def _walk(path: str, group: type[Group]) -> list[tuple[str, Field]]:
    found = []
    for each in fields_of(group).values():
        below = f"{path}.{each.name}".removeprefix(".")
        found.append((below, each))
        inner = each.shape if each.shape.kind is Kind.GROUP else each.shape.item
        if inner and inner.kind is Kind.GROUP:
            found += _walk(below, inner.group)
    return found


FIELDS = _walk("", Settings)
EVERY = [pytest.param(each, id=path) for path, each in FIELDS]
SCALARS = [
    pytest.param(each, id=path)
    for path, each in FIELDS
    if each.shape.kind in {Kind.DURATION, Kind.SIZE} and each.default is not None
]


@pytest.mark.parametrize("setting", EVERY)
def test_every_setting_says_what_it_means_in_sentences(setting: Field) -> None:
    assert re.fullmatch(r"\S.*\.", setting.description)


@pytest.mark.parametrize("setting", SCALARS)
def test_every_default_can_be_written_in_the_file(setting: Field) -> None:
    written = show(setting.default, setting.shape)
    read = parse_duration(written) if setting.shape.kind is Kind.DURATION else parse_size(written)
    assert setting.default == read
    assert _in_bounds(read, setting.shape)


def _in_bounds(value: float, shape: Shape) -> bool:
    least, above = shape.limit("ge"), shape.limit("gt")
    return (least is None or value >= least) and (above is None or value > above)


@pytest.mark.parametrize("setting", EVERY)
def test_every_setting_has_a_stand_in_of_its_type(setting: Field) -> None:
    blank = setting.shape.blank()
    types = {Kind.FLAG: bool, Kind.NUMBER: int, Kind.SIZE: int, Kind.DURATION: float, Kind.LIST: tuple}
    expected = {**types, Kind.TABLE: dict, Kind.GROUP: Group}.get(setting.shape.kind, str | int)
    assert isinstance(blank, expected) or (setting.shape.optional and blank is None)


def test_what_is_secret_is_marked_so() -> None:
    def marked(shape: Shape) -> bool:
        return shape.secret or bool(shape.item and shape.item.secret)

    assert [path for path, each in FIELDS if marked(each.shape)] == [
        "admin.token",
        "redis.url",
        "redis.password",
        "redis.sentinel_password",
        "warm.headers",
    ]
