"""What is made for messages that come often, and what keeps a client from having too much made."""

import re
from itertools import count

import pytest

from proxy.shapes import Names, Often, Shape
from proxy.wire.shape import MAX_FIELDS

OFTEN = 8


class Clock:
    """Seconds, of which making something takes some."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Workshop:
    """Makes numbers, and notes for what."""

    def __init__(self, clock: Clock, *, takes_s: float = 0.0) -> None:
        self.made_for: list[Names] = []
        self.clock = clock
        self.takes_s = takes_s

    def __call__(self, names: Names) -> int:
        self.made_for.append(names)
        self.clock.now += self.takes_s
        return len(self.made_for)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("proxy.shapes.monotonic", made)
    return made


def asked(often: Often[int], names: Names, times: int = OFTEN) -> int | None:
    for _ in range(times):
        found = often.of(names)
    return found


# -- how often --


def test_something_is_made_for_what_comes_the_eighth_time_and_kept(clock: Clock) -> None:
    workshop = Workshop(clock)
    often = Often(workshop)
    found = [often.of((b"A", b"B")) for _ in range(10)]

    assert found == [None] * 7 + [1] * 3
    assert workshop.made_for == [(b"A", b"B")]


def test_names_are_told_apart_by_case_and_order(clock: Clock) -> None:
    often = Often(Workshop(clock))

    assert [asked(often, names) for names in ((b"A", b"B"), (b"B", b"A"), (b"a", b"B"))] == [1, 2, 3]
    assert [asked(often, names, 1) for names in ((b"A", b"B"), (b"B", b"A"), (b"a", b"B"))] == [1, 2, 3]


def test_that_there_is_nothing_to_be_made_is_remembered_too(clock: Clock) -> None:
    count_of = 0

    def nothing(_: Names) -> None:
        nonlocal count_of
        count_of += 1

    often: Often[None] = Often(nothing)
    for _ in range(3 * OFTEN):
        assert often.of((b"A",)) is None

    assert list(often.made) == [(b"A",)]
    assert count_of == 1


def test_all_can_be_forgotten(clock: Clock) -> None:
    often = Often(Workshop(clock))
    asked(often, (b"A",))
    often.forget()

    assert often.made == {}
    assert [often.of((b"A",)) for _ in range(OFTEN)] == [None] * 7 + [2]


# -- what it may cost --


def test_making_takes_a_twentieth_of_the_time_at_most(clock: Clock) -> None:
    workshop = Workshop(clock, takes_s=0.01)
    often = Often(workshop)
    names = ((b"A-%d" % number,) for number in count())
    began = clock.now
    while clock.now < began + 10:
        asked(often, next(names))
        clock.now += 0.0001

    assert len(workshop.made_for) * 0.01 <= 10 / 20


def test_what_was_refused_for_the_moment_is_made_later(clock: Clock) -> None:
    often = Often(Workshop(clock, takes_s=0.01))
    asked(often, (b"A",))

    assert asked(often, (b"B",)) is None
    clock.now += 1
    assert often.of((b"B",)) == 2


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(tuple(b"A%d" % number for number in range(MAX_FIELDS + 1)), id="many"),
        pytest.param((b"A" * 1025,), id="long"),
        pytest.param((b"A" * 600, b"B" * 600), id="long together"),
    ],
)
def test_nothing_is_made_of_or_kept_for_what_nobody_sends(clock: Clock, names: Names) -> None:
    workshop = Workshop(clock)
    often = Often(workshop)

    assert asked(often, names, 3 * OFTEN) is None
    assert (workshop.made_for, len(often._seen)) == ([], 0)


def test_what_is_counted_is_bounded(clock: Clock) -> None:
    often = Often(Workshop(clock))
    for number in range(5000):
        often.of((b"A-%d" % number,))

    assert len(often._seen) <= 1000


def test_what_is_made_is_bounded_and_the_most_used_stays(clock: Clock) -> None:
    often = Often(Workshop(clock))
    asked(often, (b"Hot",))
    for number in range(100):
        asked(often, (b"A-%d" % number,))
        asked(often, (b"Hot",), 3)

    assert len(often.made) == 32
    assert len(often._uses) <= 32
    assert often.of((b"Hot",)) == 1


def test_what_was_used_long_ago_makes_room_in_the_end(clock: Clock) -> None:
    often = Often(Workshop(clock))
    asked(often, (b"Old",), 200)
    for number in range(2000):
        asked(often, (b"A-%d" % (number % 40),), 12)

    assert (b"Old",) not in often.made


def test_python_keeps_none_of_the_expressions(clock: Clock) -> None:
    often = Often(lambda names: Shape(b"GET", names, lambda _: True))
    for number in range(50):
        asked_for = (b"Host", b"A-%d" % number)
        for _ in range(OFTEN):
            often.of(asked_for)

    assert len(often.made) == 32
    assert len(re._cache) == 0  # type: ignore[attr-defined]


# -- a shape --


def test_a_shape_knows_which_values_count_and_where_host_is() -> None:
    shape = Shape(b"GET", (b"Accept", b"hOst", b"If-Range"), lambda name: name.lower() != b"accept")
    found = shape.match(b"GET /a HTTP/1.1\r\nAccept: b\r\nhOst: c\r\nIf-Range: d\r\n\r\n")

    assert found is not None
    assert found.groups() == (b"/a", b"c", b"d")
    assert found.groups()[shape.host_at] == b"c"
    assert shape.counts == (False, True, True)
    assert shape.blank == ((b"Accept", b""), (b"hOst", b""), (b"If-Range", b""))


@pytest.mark.parametrize(
    ("method", "names", "is_kept"),
    [
        pytest.param(b"GET", (b"Host",), True, id="GET"),
        pytest.param(b"HEAD", (b"Host",), False, id="HEAD"),
        pytest.param(b"GET", (b"Host", b"Via"), False, id="Via"),
        pytest.param(b"GET", (), False, id="no Host"),
    ],
)
def test_only_plain_gets_may_be_passed_on_in_pieces(method: bytes, names: Names, is_kept: bool) -> None:
    assert (Shape(method, names, lambda _: True).kept is not None) is is_kept
