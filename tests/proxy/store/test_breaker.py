from hypothesis import given
from hypothesis import strategies as st

from proxy.store.breaker import Breaker, Change


def test_the_first_failure_asks_for_a_look_and_only_one_at_a_time() -> None:
    breaker = Breaker(5)

    assert [breaker.failed(now=1), breaker.failed(now=2)] == [Change.LOOK, Change.NONE]
    assert not breaker.is_open


def test_a_look_that_fails_opens_it() -> None:
    breaker = Breaker(5)
    breaker.failed(now=1)

    assert breaker.looked(alive=False) is Change.OPENED
    assert breaker.is_open


def test_a_look_that_succeeds_leaves_it_closed_and_the_next_failure_asks_again() -> None:
    breaker = Breaker(5)
    breaker.failed(now=1)

    assert breaker.looked(alive=True) is Change.NONE
    assert breaker.failed(now=3) is Change.LOOK


def test_failures_in_a_row_open_it_although_looks_succeed() -> None:
    breaker = Breaker(3)
    changes = []
    for now in (1, 2, 3):
        changes.append(breaker.failed(now=now))
        breaker.looked(alive=True)

    assert changes == [Change.LOOK, Change.LOOK, Change.OPENED]


def test_a_success_between_begins_the_row_anew() -> None:
    breaker = Breaker(2)
    breaker.failed(now=1)
    breaker.succeeded()
    breaker.failed(now=2)

    assert not breaker.is_open


def test_failures_that_come_together_are_one() -> None:
    breaker = Breaker(2)
    for _ in range(16):
        breaker.failed(now=1.0)

    assert not breaker.is_open
    assert breaker.failed(now=1.1) is Change.OPENED


def test_what_may_be_nobodys_fault_asks_for_a_look_and_never_opens_it_by_itself() -> None:
    breaker = Breaker(2)

    assert [breaker.suspected(), breaker.suspected(), breaker.failed(now=1)] == [
        Change.LOOK,
        Change.NONE,
        Change.NONE,
    ]
    assert not breaker.is_open
    assert breaker.looked(alive=False) is Change.OPENED
    assert breaker.suspected() is Change.NONE


def test_a_look_that_began_before_it_opened_does_not_close_it() -> None:
    breaker = Breaker(1)
    breaker.failed(now=1)
    breaker.looked(alive=True)

    assert breaker.is_open


def test_late_successes_and_failures_of_before_change_nothing_while_open() -> None:
    breaker = Breaker(1)
    breaker.failed(now=1)
    breaker.succeeded()

    assert breaker.failed(now=2) is Change.NONE
    assert breaker.is_open


def test_a_probe_closes_it_only_if_it_succeeds() -> None:
    breaker = Breaker(1)
    breaker.failed(now=1)

    assert breaker.probed(alive=False) is Change.NONE
    assert breaker.probed(alive=True) is Change.CLOSED
    assert not breaker.is_open


_EVENTS = st.lists(
    st.sampled_from(["failed", "suspected", "succeeded", "look ok", "look bad", "probe ok", "probe bad"]),
    max_size=60,
)


@given(events=_EVENTS, max_failures=st.integers(1, 5))
def test_every_opening_and_closing_is_told_once_and_they_alternate(
    events: list[str], max_failures: int
) -> None:
    breaker = Breaker(max_failures)
    told = []
    for now, event in enumerate(events):
        was_open = breaker.is_open
        change = Change.NONE
        match event:
            case "failed":
                change = breaker.failed(now=now)
            case "suspected":
                change = breaker.suspected()
            case "succeeded":
                breaker.succeeded()
            case "look ok" | "look bad":
                change = breaker.looked(alive=event == "look ok")
            case _:
                change = breaker.probed(alive=event == "probe ok")
        assert (change is Change.OPENED) == (breaker.is_open and not was_open)
        assert (change is Change.CLOSED) == (was_open and not breaker.is_open)
        told += [change] if change in {Change.OPENED, Change.CLOSED} else []

    assert told[::2] == [Change.OPENED] * len(told[::2])
    assert told[1::2] == [Change.CLOSED] * len(told[1::2])
