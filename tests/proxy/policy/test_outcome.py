import re

import pytest

from proxy.policy.outcome import Handling, Outcome, cache_status


@pytest.mark.parametrize(
    ("handling", "ttl_s", "expected"),
    [
        pytest.param(
            Handling(outcome=Outcome.HIT_MEMORY, detail="memory"),
            23,
            b"crowdgate; hit; ttl=23; detail=memory",
            id="2.1 hit",
        ),
        pytest.param(
            Handling(outcome=Outcome.STALE, detail="redis"),
            -5,
            b"crowdgate; hit; ttl=-5; detail=redis",
            id="2.4 a negative ttl is a stale hit",
        ),
        pytest.param(
            Handling(outcome=Outcome.MISS, forward="uri-miss", forward_status=200, stored=True),
            60,
            b"crowdgate; fwd=uri-miss; fwd-status=200; ttl=60; stored",
            id="2.2 fwd, 2.3 fwd-status, 2.5 stored",
        ),
        pytest.param(
            Handling(outcome=Outcome.COLLAPSED, forward="uri-miss", forward_status=200, stored=True),
            60,
            b"crowdgate; fwd=uri-miss; fwd-status=200; ttl=60; stored; collapsed",
            id="2.6 collapsed",
        ),
        pytest.param(
            Handling(outcome=Outcome.REVALIDATED, forward="stale", forward_status=304),
            0,
            b"crowdgate; fwd=stale; fwd-status=304; ttl=0",
            id="2.2 stale, revalidated",
        ),
        pytest.param(
            Handling(outcome=Outcome.BYPASS, forward="bypass", detail="range"),
            None,
            b"crowdgate; fwd=bypass; detail=range",
            id="2.2 bypass, without a ttl",
        ),
        pytest.param(
            Handling(outcome=Outcome.ERROR, forward="uri-miss", detail="timeout"),
            None,
            b"crowdgate; fwd=uri-miss; detail=timeout",
            id="an error after asking the API",
        ),
        pytest.param(
            Handling(outcome=Outcome.ERROR, detail="bad-request"),
            None,
            b"crowdgate; detail=bad-request",
            id="an error of ours is no hit",
        ),
    ],
)
def test_cache_status_says_what_rfc_9211_section_2_has_words_for(
    handling: Handling, ttl_s: int | None, expected: bytes
) -> None:
    assert expected == cache_status(handling, ttl_s=ttl_s)


@pytest.mark.parametrize("outcome", [pytest.param(outcome, id=outcome.value) for outcome in Outcome])
def test_every_outcome_is_a_member_of_a_structured_list(outcome: Outcome) -> None:
    handling = Handling(outcome=outcome, forward="uri-miss", forward_status=200, stored=True, detail="x-y")

    parameter = rb"; [a-z-]+(=(-?[0-9]+|[A-Za-z*][!#-'*+.^-z|~:/0-9A-Z-]*))?"
    assert re.fullmatch(rb"crowdgate(" + parameter + rb")*", cache_status(handling, ttl_s=1))


def test_hit_and_fwd_never_stand_together() -> None:
    lines = [
        cache_status(Handling(outcome=outcome, forward=forward), ttl_s=None)
        for outcome in Outcome
        for forward in ("", "stale")
    ]

    assert not [line for line in lines if b"hit" in line and b"fwd" in line]
