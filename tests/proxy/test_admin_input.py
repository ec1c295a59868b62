"""Every mistake in what the admin port is asked names its field and what to send."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin_input import BadInput, EntriesAsked, PurgeAsked, entries_asked, purge_asked, warm_asked
from proxy.policy.purges import Kind

ROUTES = ("events", "event")


def refusal(body: object) -> str:
    with pytest.raises(BadInput) as caught:
        purge_asked(body if isinstance(body, bytes) else json.dumps(body).encode(), ROUTES)
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 'nothing to purge: send {"tags": ["events"]}, or urls, patterns, routes'),
        ({"tags": []}, 'nothing to purge: send {"tags": ["events"]}, or urls, patterns, routes'),
        (
            {"tags": [str(number) for number in range(1001)]},
            "1001 names are more than 1000: name a tag, route or pattern that they share, or send several requests",
        ),
        ({"url": ["/a"]}, "unknown field `url`; did you mean urls?"),
        (
            {"xyz": 1},
            "unknown field `xyz`; there are: patterns, routes, soft, tags, urls, wait, wait_timeout",
        ),
        ({"tags": "events"}, 'tags must be a list of strings, such as {"tags": ["…"]}'),
        ({"tags": [1]}, 'tags must be a list of strings, such as {"tags": ["…"]}'),
        ({"tags": ["a", ""]}, "tags[1] must not be empty"),
        ({"tags": ["a" * 9000]}, "tags[0] is longer than 8190 characters"),
        ({"tags": ["a"], "soft": "yes"}, "soft must be true or false"),
        ({"tags": ["a"], "wait": 1}, "wait must be true or false"),
        (
            {"tags": ["a"], "wait": True, "wait_timeout": "2m"},
            "wait_timeout must be a duration of at most 60s, such as `5s` or `500ms`",
        ),
        (
            {"tags": ["a"], "wait": True, "wait_timeout": 5},
            "wait_timeout must be a duration of at most 60s, such as `5s` or `500ms`",
        ),
        ({"tags": ["a"], "wait_timeout": "5s"}, "wait_timeout has no use without wait: true"),
        ({"urls": ["events"]}, "urls[0] must be a path with its query, such as `/api/events?page=2`"),
        (
            {"urls": ["http://a/b"]},
            "urls[0] must be a path with its query, such as `/api/events?page=2`",
        ),
        (
            {"urls": ["*"]},
            "urls[0] must be a path with its query, such as `/api/events?page=2` (what `*` stands in belongs to patterns)",
        ),
        ({"urls": ["/a#b"]}, "urls[0] must be spelt as in requests: no white space and no `#`"),
        ({"urls": ["/a b"]}, "urls[0] must be spelt as in requests: no white space and no `#`"),
        ({"patterns": ["a*"]}, "patterns[0] must begin with `/` or `*`, such as `/api/events*`"),
        ({"routes": ["evnts"]}, "routes[0]: there is no route `evnts`; did you mean events?"),
        ({"routes": ["zzz"]}, "routes[0]: there is no route `zzz`; there are: event, events"),
        (
            ["events"],
            "the body must be a JSON object with patterns, routes, soft, tags, urls, wait, wait_timeout",
        ),
        (b"[", "the body is not JSON: Input data was truncated"),
        (b"[" * 100_000, "the body is nested too deep"),
        (b"\xff", "the body is not JSON: JSON is malformed: invalid character (byte 0)"),
    ],
)
def test_each_mistake_is_one_sentence(body: object, expected: str) -> None:
    assert expected == refusal(body)


@pytest.mark.parametrize(
    ("more", "wait_s"),
    [({"wait": True}, 5.0), ({"wait": True, "wait_timeout": "500ms"}, 0.5), ({"wait": False}, None)],
)
def test_it_is_waited_for_as_long_as_is_asked(more: dict[str, object], wait_s: float | None) -> None:
    assert purge_asked(json.dumps({"tags": ["a"], **more}).encode(), ROUTES).wait_s == wait_s


def test_all_kinds_are_read_and_doubles_are_dropped() -> None:
    body = {
        "tags": ["a", "a"],
        "urls": ["/a?b"],
        "patterns": ["*"],
        "routes": ["event"],
        "soft": True,
        "wait": None,
    }
    names = ((Kind.TAG, "a"), (Kind.URL, "/a?b"), (Kind.PATTERN, "*"), (Kind.ROUTE, "event"))
    assert PurgeAsked(names=names, soft=True, wait_s=None) == purge_asked(json.dumps(body).encode(), ROUTES)


@given(st.binary(max_size=200))
def test_no_bytes_are_a_defect(body: bytes) -> None:
    assert refusal(body)


@given(
    st.dictionaries(
        st.sampled_from(["tags", "urls", "patterns", "routes", "soft", "wait", "x"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4),
    )
)
def test_no_json_is_a_defect(body: dict[str, object]) -> None:
    try:
        asked = purge_asked(json.dumps(body).encode(), ROUTES)
    except BadInput:
        return
    assert asked.names
    # A purge is written to Redis as UTF-8.
    assert all(value.encode("utf-8", "surrogateescape") for _, value in asked.names)


def test_resources_are_named_once() -> None:
    assert (("a",), ()) == (warm_asked(b'{"names": ["a", "a"]}', ["a", "b"]), warm_asked(b" ", ["a"]))


def test_an_unknown_resource_is_told_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"names\[0\]: there is no warm resource `x`; there are: none"):
        warm_asked(b'{"names": ["x"]}', [])


def test_entries_have_a_limit_and_may_have_a_route() -> None:
    expected = (EntriesAsked(route=None, limit=100), EntriesAsked(route="event", limit=1000))
    assert expected == (
        entries_asked([], ROUTES),
        entries_asked([("route", "event"), ("limit", "1000")], ROUTES),
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ([("limit", "0")], "limit must be a number from 1 to 1000, not `0`"),
        ([("limit", "1001")], "limit must be a number from 1 to 1000, not `1001`"),
        ([("limit", "-1")], "limit must be a number from 1 to 1000, not `-1`"),
        ([("limit", "")], "limit must be a number from 1 to 1000, not ``"),
        ([("limit", "²")], "limit must be a number from 1 to 1000, not `²`"),
        ([("limit", "9" * 5000)], f"limit must be a number from 1 to 1000, not `{'9' * 64}…`"),
        ([("limit", "1"), ("limit", "2")], "limit is given twice"),
        ([("rout", "event")], "unknown parameter `rout`; did you mean route?"),
        ([("route", "even")], "route: there is no route `even`; did you mean event?"),
    ],
)
def test_each_mistake_in_a_query_is_one_sentence(query: list[tuple[str, str]], expected: str) -> None:
    with pytest.raises(BadInput) as caught:
        entries_asked(query, ROUTES)
    assert expected == str(caught.value)
