from collections.abc import Callable

import msgspec
import pytest

from proxy.policy.purges import record_id
from proxy.policy.replicas import SILENT_S, Line, Missing, Replicas


def line(applied: str = "5-0", *, beat: int = 0, max_age_s: float = 10.0, has_left: bool = False) -> bytes:
    return msgspec.json.encode(Line(applied=applied, max_age_s=max_age_s, beat=beat, has_left=has_left))


AT = record_id("5-0")


def anything(_: str) -> bool:
    return True


def missing(
    replicas: Replicas, now: float, holds: Callable[[str], bool] = anything
) -> list[tuple[str, float, bool]]:
    return [(one.replica, one.for_s, one.is_silent) for one in replicas.missing(AT, holds, now)]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(line("5-0"), [], id="that record"),
        pytest.param(line("6-0"), [], id="a later one"),
        pytest.param(line("4-9"), [("b", 13.0, False)], id="an earlier one"),
        pytest.param(line("0-0", has_left=True), [], id="it has left"),
        pytest.param(line("7-7"), [("b", 13.0, False)], id="one that the log has lost"),
        pytest.param(
            line("4-9", max_age_s=1e12), [("b", 86403.0, False)], id="one that keeps things for ever"
        ),
        pytest.param(b"{}", [("b", 63.0, False)], id="nothing that is understood"),
        pytest.param(b"\xff", [("b", 63.0, False)], id="garbage"),
        pytest.param(line("x-y"), [("b", 63.0, False)], id="no id"),
    ],
)
def test_a_replica_is_missing_unless_it_said_that_it_has_read_so_far(
    said: bytes, expected: list[tuple[str, float, bool]]
) -> None:
    replicas = Replicas("a")
    replicas.look({"a": line("1-0"), "b": said}, 100.0)

    assert expected == missing(replicas, 100.0, lambda id_: id_ != "7-7")


def test_one_whose_line_does_not_change_is_silent_and_may_serve_for_its_max_age() -> None:
    replicas = Replicas("a")
    for second in range(5):
        replicas.look({"b": line("1-0"), "c": line("1-0", beat=second)}, 100.0 + second)

    assert [("b", 10.0, True), ("c", 13.0, False)] == missing(replicas, 104.0)
    assert (2, 3) == (replicas.alive(104.0), replicas.present())


def test_one_that_was_not_looked_at_is_not_silent() -> None:
    replicas = Replicas("a")
    for now in (100.0, 101.0, 500.0):
        replicas.look({"b": line("1-0")}, now)

    assert [("b", 10.0 + SILENT_S - 1, False)] == missing(replicas, 500.0)


def test_one_that_is_silent_for_long_is_gone_and_its_line_may_be_removed() -> None:
    replicas = Replicas("a")
    table = {"b": line("1-0"), "c": line("1-0", max_age_s=90.0), "d": line("1-0", has_left=True)}
    gone = []
    for second in range(0, 92, 1):
        replicas.look(table, 100.0 + second)
        gone.append(replicas.gone(100.0 + second))
    replicas.look({}, 192.0)

    assert ([], ["b", "d"], ["b", "c", "d"]) == (gone[59], gone[60], gone[90])
    assert [] == missing(replicas, 192.0)


def test_those_who_vanish_with_the_table_are_known_until_they_are_silent_for_long() -> None:
    replicas = Replicas("a")
    replicas.look({"b": line("1-0")}, 100.0)
    for second in range(1, 5):
        replicas.look({}, 100.0 + second)
    silent = missing(replicas, 104.0)
    replicas.look({"b": line("5-0", beat=9)}, 105.0)

    assert ([("b", 10.0, True)], []) == (silent, missing(replicas, 105.0))


def test_missing_says_who_and_for_how_long() -> None:
    replicas = Replicas("a")
    replicas.look({"b": line("1-0")}, 0.0)

    assert [Missing(replica="b", for_s=13.0, is_silent=False)] == replicas.missing(AT, anything, 0.0)
