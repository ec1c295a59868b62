"""Numbers, pages and conditional requests."""

from datetime import UTC, datetime

import pytest
from aiohttp.test_utils import make_mocked_request

from proxy.demo.answers import ProblemError, number, page_asked, page_shown, validated

CHANGED = datetime(2025, 9, 20, 18, tzinfo=UTC)
ETAG = '"1ea450d66dcfc383"'


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1_0", "１", "1.0", "101", "9" * 5000])
def test_what_is_not_plain_digits_up_to_the_limit_is_no_number(text: str) -> None:
    assert number(text, at_most=100) is None


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("007", 7), ("100", 100)])
def test_plain_digits_up_to_the_limit_are_a_number(text: str, expected: int) -> None:
    assert expected == number(text, at_most=100)


@pytest.mark.parametrize("text", ["0", "-1", "abc", "", "1000001"])
def test_a_page_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ProblemError, match="page is a number from 1 to 1000000") as caught:
        page_asked(make_mocked_request("GET", f"/?page={text}"))
    assert caught.value.status == 400


@pytest.mark.parametrize(("total", "pages"), [(0, 0), (1, 1), (20, 1), (21, 2)])
def test_the_last_page_may_be_short(total: int, pages: int) -> None:
    assert {"page": 1, "pages": pages, "total": total} == page_shown(1, total)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="unconditional"),
        pytest.param({"If-None-Match": ETAG}, 304, id="same tag"),
        pytest.param({"If-None-Match": f"W/{ETAG}"}, 304, id="weak comparison"),
        pytest.param({"If-None-Match": f'"other", {ETAG}'}, 304, id="one of a list"),
        pytest.param({"If-None-Match": "*"}, 304, id="any"),
        pytest.param({"If-None-Match": '"other"'}, 200, id="other tag"),
        pytest.param({"If-None-Match": "no tag"}, 200, id="nonsense"),
        pytest.param({"If-Modified-Since": "Sat, 20 Sep 2025 18:00:00 GMT"}, 304, id="not since"),
        pytest.param({"If-Modified-Since": "Sat, 20 Sep 2025 17:59:59 GMT"}, 200, id="since"),
        pytest.param({"If-Modified-Since": "last week"}, 200, id="no date"),
        pytest.param(
            {"If-None-Match": '"other"', "If-Modified-Since": "Sat, 20 Sep 2025 18:00:00 GMT"},
            200,
            id="tag wins",
        ),
    ],
)
def test_a_copy_that_still_stands_is_not_sent_again(headers: dict[str, str], status: int) -> None:
    answer = validated(make_mocked_request("GET", "/", headers=headers), {"id": 1}, changed=CHANGED)

    expected_body = b'{"id":1}' if status == 200 else None
    assert (status, ETAG, expected_body) == (answer.status, answer.headers["ETag"], answer.body)
    assert answer.last_modified == CHANGED


def test_a_date_says_nothing_about_what_has_none() -> None:
    request = make_mocked_request("GET", "/", headers={"If-Modified-Since": "Sat, 20 Sep 2025 18:00:00 GMT"})
    answer = validated(request, {"id": 1})

    assert (answer.status, answer.last_modified) == (200, None)
