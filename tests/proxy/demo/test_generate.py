"""The sample is the same everywhere, and as large as it says."""

from hashlib import sha256

import pytest

from proxy.demo import schema
from proxy.demo.crowd import EVENTS
from proxy.demo.generate import PARTICIPANTS, sample


def test_the_sample_is_the_same_on_every_machine_and_every_python() -> None:
    checksum = sha256()
    for table, rows in sample(0.01).tables:
        for row in rows():
            checksum.update(repr((table, row)).encode())

    # Whoever changes this must raise schema.VERSION: samples built before are another sample.
    assert (
        schema.VERSION,
        checksum.hexdigest(),
    ) == (1, "355c7b16aee49880f4c1b9fac5e72b098ddf6db032a543bfc0c3fc40a2456f7d")


def test_every_table_of_the_schema_is_filled_in_full_rows() -> None:
    widths = {table: {len(row) for row in rows()} for table, rows in sample(0.01).tables}

    assert {table: {len(schema.columns(table))} for table in schema.TABLES} == widths


def test_the_promised_number_of_rows_is_the_number_of_rows() -> None:
    small = sample(0.01)

    assert small.rows == sum(1 for _, rows in small.tables for _ in rows())


@pytest.mark.parametrize(("scale", "people"), [(0.01, 2_000), (1.0, PARTICIPANTS)], ids=["small", "full"])
def test_the_crowd_scales_and_the_catalogue_does_not(scale: float, people: int) -> None:
    tables = dict(sample(scale).tables)

    assert (EVENTS, people) == (sum(1 for _ in tables["events"]()), sum(1 for _ in tables["participants"]()))
