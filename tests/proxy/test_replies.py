"""Answers made of a stored one. What the API says itself is tested in tests/flow/."""

import pytest
from msgspec.structs import replace

from proxy.messages import Answer, Incoming
from proxy.policy.cache_control import format_http_date
from proxy.policy.outcome import Handling, Outcome
from proxy.replies import Replies
from proxy.store.entry import Entry
from proxy.store.tiers import Found
from proxy.upstream_connection import UpstreamError
from proxy.wire.fields import Fields, block, from_block

NOW = 1_800_000_000.0
FIELDS: Fields = (
    (b"ETag", b'"a"'),
    (b"Date", format_http_date(NOW - 7)),
    (b"Content-Type", b"text/plain"),
    (b"Content-Length", b"10"),
)
ENTRY = Entry(
    key="k",
    route="r",
    url="/",
    tags=(),
    born=0,
    status=200,
    reason=b"Fine",
    lines=block(FIELDS),
    generated=NOW - 7,
    fresh_until=NOW + 53,
    revalidate_s=0.0,
    error_s=0.0,
    keep_until=NOW + 100,
    explicit=True,
    body=b"0123456789",
)
HIT = Handling(outcome=Outcome.HIT_MEMORY, detail="memory")


def asked(*fields: tuple[bytes, bytes], method: str = "GET") -> Incoming:
    return Incoming(method=method, target=b"/", fields=fields)


def reply(
    incoming: Incoming,
    entry: Entry = ENTRY,
    handling: Handling = HIT,
    *,
    transparent: bool = True,
    own: bytes = b"",
) -> Answer:
    replies = Replies(transparent=transparent, now=NOW)
    return replies.stored(incoming, Found(entry=entry), handling, route="r", own=own)


def test_a_stored_answer_is_given_as_it_came_with_its_age() -> None:
    answer = reply(asked())

    assert (answer.status, answer.reason, answer.body) == (200, b"Fine", b"0123456789")
    assert from_block(answer.head) == (*FIELDS, (b"Age", b"7"))


def test_cache_status_says_how_unless_the_proxy_is_transparent() -> None:
    expected = (*FIELDS, (b"Age", b"7"), (b"Cache-Status", b"crowdgate; hit; ttl=53; detail=memory"))

    assert from_block(reply(asked(), transparent=False).head) == expected


def test_what_the_api_has_just_said_has_no_age_of_ours() -> None:
    handling = Handling(outcome=Outcome.MISS, forward="uri-miss")
    own = block((*FIELDS, (b"Set-Cookie", b"mine")))

    assert from_block(reply(asked(), handling=handling, own=own).head) == (*FIELDS, (b"Set-Cookie", b"mine"))


def test_head_gets_the_head_alone() -> None:
    answer = reply(asked((b"Range", b"bytes=0-1"), method="HEAD"))

    assert (answer.status, answer.body) == (200, b"")
    assert (b"Content-Length", b"10") in from_block(answer.head)


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param((b"If-None-Match", b'"a"'), id="the ETag"),
        pytest.param(
            (b"If-Modified-Since", format_http_date(NOW - 7)), id="its Date, where it has nothing else"
        ),
    ],
)
def test_a_client_whose_copy_is_good_gets_a_304(condition: tuple[bytes, bytes]) -> None:
    answer = reply(asked(condition, (b"Range", b"bytes=0-1")))

    assert (answer.status, answer.reason, answer.body) == (304, b"Not Modified", b"")
    assert from_block(answer.head) == (*FIELDS[:2], (b"Age", b"7"))


def test_a_range_gets_its_part() -> None:
    answer = reply(asked((b"Range", b"bytes=2-4")))

    assert (answer.status, answer.body) == (206, b"234")
    assert from_block(answer.head) == (
        *FIELDS[:3],
        (b"Content-Range", b"bytes 2-4/10"),
        (b"Content-Length", b"3"),
        (b"Age", b"7"),
    )


def test_a_range_beyond_the_end_is_told_the_length() -> None:
    answer = reply(asked((b"Range", b"bytes=10-")))

    assert answer.status == 416
    assert (b"Content-Range", b"bytes */10") in from_block(answer.head)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(replace(ENTRY, status=404), id="an error"),
        pytest.param(
            replace(ENTRY, lines=ENTRY.head + b"Accept-Ranges: none\r\n"), id="an answer that says so"
        ),
    ],
)
def test_a_range_of_what_has_no_parts_gets_the_whole(entry: Entry) -> None:
    answer = reply(asked((b"Range", b"bytes=2-4")), entry)

    assert (answer.status, answer.body) == (entry.status, b"0123456789")


def test_where_there_is_no_answer_a_short_problem_says_why() -> None:
    handling = Handling(outcome=Outcome.ERROR, forward="uri-miss", detail="busy")
    answer = Replies(transparent=False, now=NOW).failed(
        UpstreamError("busy", 503, "full"), handling, route="r"
    )

    assert isinstance(answer.body, bytes)
    assert (answer.status, b'"detail":"full"' in answer.body) == (503, True)
    assert dict(from_block(answer.head))[b"Retry-After"] == b"1"
