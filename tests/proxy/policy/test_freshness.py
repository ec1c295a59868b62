import random
from math import inf

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.policy.freshness import (
    ANYTHING,
    MAX_SKEW_S,
    Times,
    Use,
    Wanted,
    is_due,
    may_be_due_from,
    usable_on_error,
    use,
    wanted,
    why_asked,
)


def times(
    *, fresh: float = 100, revalidate: float = 0, error: float = 0, keep: float = 1000, soft: float = 0
) -> Times:
    """Generated at 40."""
    return Times(
        generated=40,
        fresh_until=fresh,
        revalidate_s=revalidate,
        error_s=error,
        keep_until=keep,
        soft_purged=soft,
    )


@pytest.mark.parametrize(
    ("stored", "asked", "now", "expected"),
    [
        pytest.param(times(), ANYTHING, 99.9, Use.FRESH, id="4.2 freshness_lifetime > current_age"),
        pytest.param(times(), ANYTHING, 100, Use.REVALIDATE, id="4.2 equal is stale"),
        pytest.param(times(revalidate=10), ANYTHING, 100, Use.STALE, id="RFC 5861 3 begins when stale"),
        pytest.param(times(revalidate=10), ANYTHING, 109.9, Use.STALE, id="RFC 5861 3 within its seconds"),
        pytest.param(times(revalidate=10), ANYTHING, 110, Use.REVALIDATE, id="RFC 5861 3 and not longer"),
        pytest.param(times(error=10), ANYTHING, 105, Use.REVALIDATE, id="RFC 5861 4 is for errors alone"),
        pytest.param(times(keep=100), ANYTHING, 99.9, Use.FRESH, id="kept until then"),
        pytest.param(times(keep=100), ANYTHING, 100, Use.GONE, id="not kept any longer"),
        pytest.param(times(keep=90), ANYTHING, 95, Use.GONE, id="gone although fresh"),
        pytest.param(times(), Wanted(no_cache=True), 50, Use.REVALIDATE, id="5.2.1.4 no-cache"),
        pytest.param(
            times(revalidate=99), Wanted(no_cache=True), 150, Use.REVALIDATE, id="no-cache when stale"
        ),
        pytest.param(times(), Wanted(max_age=10), 50, Use.FRESH, id="5.2.1.1 max-age: no older than that"),
        pytest.param(times(), Wanted(max_age=10), 50.1, Use.REVALIDATE, id="5.2.1.1 max-age: older"),
        pytest.param(times(), Wanted(max_age=0), 50, Use.REVALIDATE, id="5.2.1.1 max-age=0"),
        pytest.param(
            times(revalidate=99),
            Wanted(max_age=500),
            150,
            Use.REVALIDATE,
            id="5.2.1.1 max-age: nothing stale",
        ),
        pytest.param(times(), Wanted(min_fresh=10), 89.9, Use.FRESH, id="5.2.1.3 min-fresh: enough is left"),
        pytest.param(times(), Wanted(min_fresh=10), 90, Use.REVALIDATE, id="5.2.1.3 min-fresh: too little"),
        pytest.param(
            times(revalidate=99), Wanted(min_fresh=10), 95, Use.REVALIDATE, id="5.2.1.3 min-fresh: no stale"
        ),
        pytest.param(times(), Wanted(max_stale=10), 109.9, Use.FRESH, id="5.2.1.2 max-stale: stale enough"),
        pytest.param(times(), Wanted(max_stale=10), 110, Use.REVALIDATE, id="5.2.1.2 max-stale: too stale"),
        pytest.param(
            times(), Wanted(max_stale=10, max_age=105), 104, Use.FRESH, id="5.2.1.1 max-age beside max-stale"
        ),
        pytest.param(
            times(), Wanted(max_stale=10, max_age=50), 104, Use.REVALIDATE, id="5.2.1.1 both must hold"
        ),
        pytest.param(
            replace(times(), never_stale=True),
            Wanted(max_stale=10),
            105,
            Use.REVALIDATE,
            id="5.2.2.2 must-revalidate goes before max-stale",
        ),
        pytest.param(
            times(soft=60), Wanted(max_stale=100), 70, Use.REVALIDATE, id="a purge goes before max-stale"
        ),
        pytest.param(
            replace(times(), immutable=True), Wanted(max_age=0), 50, Use.FRESH, id="RFC 8246 2 a reload"
        ),
        pytest.param(
            replace(times(), immutable=True),
            Wanted(no_cache=True),
            50,
            Use.REVALIDATE,
            id="RFC 8246 2 a forced reload",
        ),
        pytest.param(
            replace(times(), immutable=True),
            Wanted(max_age=0),
            100,
            Use.REVALIDATE,
            id="RFC 8246 2 only while it is fresh",
        ),
        pytest.param(times(), Wanted(only_if_cached=True), 50, Use.FRESH, id="5.2.1.7 only-if-cached"),
        pytest.param(times(soft=60), ANYTHING, 60, Use.REVALIDATE, id="soft purge: stale from then on"),
        pytest.param(times(soft=60, revalidate=10), ANYTHING, 69.9, Use.STALE, id="soft purge: window opens"),
        pytest.param(
            times(soft=60, revalidate=10), ANYTHING, 70, Use.REVALIDATE, id="soft purge: window closes"
        ),
        pytest.param(
            times(soft=200), ANYTHING, 105, Use.REVALIDATE, id="soft purge: no later than by itself"
        ),
        pytest.param(
            times(soft=62, revalidate=10), ANYTHING, 60, Use.STALE, id="soft purge by a clock that is ahead"
        ),
        pytest.param(
            times(soft=62), ANYTHING, 60, Use.REVALIDATE, id="soft purge by a clock ahead, without a window"
        ),
        pytest.param(times(soft=60, keep=65), ANYTHING, 65, Use.GONE, id="soft purge: not kept any longer"),
    ],
)
def test_a_stored_answer_is_used_only_as_its_times_and_the_request_allow(
    stored: Times, asked: Wanted, now: float, expected: Use
) -> None:
    assert expected == use(stored, asked, now)


@pytest.mark.parametrize(
    ("stored", "now", "expected"),
    [
        pytest.param(times(error=10), 109.9, True, id="RFC 5861 4 within its seconds"),
        pytest.param(times(error=10), 110, False, id="RFC 5861 4 and not longer"),
        pytest.param(times(revalidate=10), 109.9, True, id="what may be served stale may be on errors"),
        pytest.param(times(), 100, False, id="4.2.4 nothing allows it"),
        pytest.param(times(), 99, True, id="still fresh: the client had asked for more"),
        pytest.param(times(error=10, keep=105), 105, False, id="not kept any longer"),
        pytest.param(times(error=10, soft=60), 69.9, True, id="after a soft purge"),
        pytest.param(times(error=10, soft=60), 70, False, id="and not longer after a soft purge"),
    ],
)
def test_a_stale_answer_stands_in_for_a_failing_api_only_in_its_window(
    stored: Times, now: float, *, expected: bool
) -> None:
    assert expected == usable_on_error(stored, ANYTHING, now)


@pytest.mark.parametrize(("strict", "expected"), [(False, True), (True, False)])
def test_a_client_may_take_what_is_stale_while_the_api_fails(*, strict: bool, expected: bool) -> None:
    stored = replace(times(keep=200), never_stale=strict)

    assert expected == usable_on_error(stored, Wanted(if_error=10), 105)


@pytest.mark.parametrize(
    ("said", "pragma", "expected"),
    [
        pytest.param({}, False, ANYTHING, id="nothing"),
        pytest.param({}, True, Wanted(no_cache=True), id="5.4 Pragma: no-cache alone"),
        pytest.param({"max-age": "9"}, True, Wanted(max_age=9), id="5.4 Pragma beside Cache-Control"),
        pytest.param({"no-cache": None}, False, Wanted(no_cache=True), id="5.2.1.4 no-cache"),
        pytest.param({"max-age": "0"}, False, Wanted(max_age=0), id="5.2.1.1 max-age"),
        pytest.param({"max-age": "x"}, False, ANYTHING, id="5.2.1.1 an unreadable max-age is none"),
        pytest.param({"max-age": None}, False, ANYTHING, id="5.2.1.1 max-age without its argument"),
        pytest.param({"min-fresh": "5"}, False, Wanted(min_fresh=5), id="5.2.1.3 min-fresh"),
        pytest.param({"min-fresh": "x"}, False, ANYTHING, id="5.2.1.3 an unreadable min-fresh is none"),
        pytest.param({"only-if-cached": None}, False, Wanted(only_if_cached=True), id="5.2.1.7"),
        pytest.param({"max-stale": None}, False, Wanted(max_stale=inf), id="5.2.1.2 max-stale: any age"),
        pytest.param({"max-stale": "7"}, False, Wanted(max_stale=7), id="5.2.1.2 max-stale"),
        pytest.param({"max-stale": "x"}, False, ANYTHING, id="5.2.1.2 an unreadable max-stale is none"),
        pytest.param({"stale-if-error": "7"}, False, Wanted(if_error=7), id="RFC 5861 4 stale-if-error"),
    ],
)
def test_a_requests_wishes_are_those_of_rfc_9111_section_5_2_1(
    said: dict[str, str | None], *, pragma: bool, expected: Wanted
) -> None:
    assert expected == wanted(said, pragma_no_cache=pragma)


@pytest.mark.parametrize(
    ("stored", "asked", "now", "varies", "expected"),
    [
        pytest.param(None, ANYTHING, 50, False, "uri-miss", id="nothing is stored"),
        pytest.param(None, ANYTHING, 50, True, "vary-miss", id="only for other requests"),
        pytest.param(times(), ANYTHING, 150, False, "stale", id="too old"),
        pytest.param(times(), Wanted(no_cache=True), 150, False, "request", id="the client insists"),
        pytest.param(times(), Wanted(max_age=1), 50, False, "request", id="too old for this client"),
        pytest.param(times(soft=40), ANYTHING, 50, False, "stale", id="purged softly"),
    ],
)
def test_why_the_api_is_asked_is_said_in_rfc_9211_s_words(
    stored: Times | None, asked: Wanted, now: float, *, varies: bool, expected: str
) -> None:
    assert expected == why_asked(stored, asked, now, varies=varies)


INSTANTS = st.floats(0, 1000)


@given(
    st.builds(
        Times,
        generated=INSTANTS,
        fresh_until=INSTANTS,
        revalidate_s=INSTANTS,
        error_s=INSTANTS,
        keep_until=INSTANTS,
        soft_purged=INSTANTS,
    ),
    INSTANTS,
    INSTANTS,
)
def test_an_answer_never_gets_better_with_time(stored: Times, one: float, other: float) -> None:
    order = [Use.FRESH, Use.STALE, Use.REVALIDATE, Use.GONE]
    earlier, later = sorted((one, other))
    assume(stored.generated <= earlier + MAX_SKEW_S)

    assert order.index(use(stored, ANYTHING, earlier)) <= order.index(use(stored, ANYTHING, later))


# -- ahead of time --


def due(now: float, *, took: float = 0.1, every: float = 0.01, chance: float = 0.5) -> bool:
    """Whether it is, of an answer that was made at 40 and is fresh until 100."""
    return is_due(times(), took_s=took, every_s=every, now=now, chance=chance)


@pytest.mark.parametrize(
    ("now", "how", "expected"),
    [
        pytest.param(99.95, {}, True, id="about to expire"),
        pytest.param(99.0, {}, False, id="time enough for a quick API"),
        pytest.param(99.0, {"took": 2.0}, True, id="no time for a slow one"),
        pytest.param(99.0, {"chance": 0.001}, True, id="the rare one is chosen earlier"),
        pytest.param(99.0, {"chance": 0.0}, True, id="the rarest, too"),
        pytest.param(99.99, {"chance": 1.0}, False, id="the likeliest never"),
        pytest.param(60.0, {"took": 500.0}, False, id="not in the first half of its life"),
        pytest.param(70.0, {"took": 500.0}, True, id="from then on"),
        pytest.param(99.99, {"every": 0.16}, False, id="hardly anybody wants it"),
    ],
)
def test_it_is_refreshed_ahead_of_time(now: float, how: dict[str, float], expected: bool) -> None:
    assert due(now, **how) is expected


@pytest.mark.parametrize("rate", [10, 100, 1000], ids=str)
@pytest.mark.parametrize("took", [0.001, 0.05, 0.5], ids=str)
def test_something_popular_never_expires_under_load(rate: int, took: float) -> None:
    """Twenty lives of a minute: each time somebody is chosen early enough for the API to answer before the end."""
    chances = random.Random(rate)
    late = 0
    for _ in range(20):
        chosen = next(
            (
                now
                for now in (70 + tick / rate for tick in range(30 * rate))
                if due(now, took=took, every=1 / rate, chance=chances.random())
            ),
            100.0,
        )
        late += chosen + took > 100

    assert late == 0


def test_it_is_never_due_before_it_may_be() -> None:
    assert may_be_due_from(times()) == 70
    assert not due(69.99, took=1e9, chance=0.0)


@given(st.floats(0, 1000), st.floats(0, 1000), st.floats(1e-6, 100), st.floats(0, 1))
def test_whatever_is_due_may_have_been(now: float, took: float, every: float, chance: float) -> None:
    assert now >= may_be_due_from(times()) - 1e-9 or not due(now, took=took, every=every, chance=chance)


@pytest.mark.parametrize(
    ("ahead_s", "expected"),
    [(MAX_SKEW_S - 1, Use.FRESH), (MAX_SKEW_S + 1, Use.REVALIDATE)],
    ids=["skew", "jump"],
)
def test_what_is_from_the_future_is_not_used_unasked(ahead_s: float, expected: Use) -> None:
    stored = replace(times(fresh=2000, keep=3000), generated=100 + ahead_s)

    assert (use(stored, ANYTHING, 100), usable_on_error(stored, ANYTHING, 100)) == (expected, True)
