"""One schema for two databases."""

from datetime import UTC, datetime

from proxy.demo import schema


def test_an_insert_names_every_column() -> None:
    assert schema.insert("event_types") == "INSERT INTO event_types (id, slug, name) VALUES (?, ?, ?)"


def test_primary_keys_are_the_only_indexes() -> None:
    text = " ".join(schema.create(table, mysql=True) for table in schema.TABLES).upper()

    assert not [word for word in ("UNIQUE", "INDEX", "FOREIGN", "REFERENCES") if word in text]
    assert text.count("PRIMARY KEY") == len(schema.TABLES)


def test_a_stamp_is_read_back_as_the_instant_it_was() -> None:
    assert (schema.stamp(1_758_391_200.9), schema.instant("2025-09-20 18:00:00")) == (
        "2025-09-20 18:00:00",
        datetime(2025, 9, 20, 18, tzinfo=UTC),
    )


def test_a_scale_is_named_as_people_write_it() -> None:
    assert [schema.scale_name(scale) for scale in (1.0, 0.01, 2.5)] == ["1", "0.01", "2.5"]
