"""The platform's SQL keeps to what the tuner and both databases need."""

import re

import pytest

from proxy.demo import queries

STATEMENTS = {
    name: value
    for name, value in vars(queries).items()
    if name.isupper() and isinstance(value, str) and not name.startswith("_")
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_ends_by_naming_its_route(name: str) -> None:
    assert re.search(r"/\* route='[a-z-]+' \*/\n\Z", STATEMENTS[name])


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_holds_what_the_two_placeholder_styles_would_confuse(name: str) -> None:
    assert "%" not in STATEMENTS[name]


@pytest.mark.parametrize("by_status", [False, True])
@pytest.mark.parametrize("by_type", [False, True])
def test_a_filter_asked_for_is_in_the_page_and_in_the_total(*, by_status: bool, by_type: bool) -> None:
    for sql in queries.events(by_status=by_status, by_type=by_type):
        assert (by_status, by_type) == ("e.status = ?" in sql, "t.slug = ?" in sql)
