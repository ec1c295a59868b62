"""Parts: cut from a stored whole, or the API's own and never mistaken for one."""

import pytest

from tests.claims import clause
from tests.flow.caching.stage import API, ETAG, FRESH, MODIFIED, STALE, STORE, Reply, Stage, reply, table
from tests.flow.origin import Asked

pytestmark = pytest.mark.asyncio(loop_scope="module")

DIGITS = b"0123456789"


@clause("RFC 9110", "14.2", "A single range of a stored answer is cut from it")
@table(
    "value, part, where",
    {
        "the first byte": ("bytes=0-0", b"0", "0-0"),
        "the first five": ("bytes=0-4", b"01234", "0-4"),
        "in the middle": ("bytes=2-5", b"2345", "2-5"),
        "one in the middle": ("bytes=5-5", b"5", "5-5"),
        "the last byte": ("bytes=9-9", b"9", "9-9"),
        "open end": ("bytes=5-", b"56789", "5-9"),
        "open end of all": ("bytes=0-", DIGITS, "0-9"),
        "all": ("bytes=0-9", DIGITS, "0-9"),
        "clipped": ("bytes=8-100", b"89", "8-9"),
        "clipped, all": ("bytes=0-99999999999999999999", DIGITS, "0-9"),
        "the last three": ("bytes=-3", b"789", "7-9"),
        "the last ten": ("bytes=-10", DIGITS, "0-9"),
        "more than there is, from the end": ("bytes=-20", DIGITS, "0-9"),
        "unit in capitals": ("BYTES=0-4", b"01234", "0-4"),
        "leading zeros": ("bytes=002-0005", b"2345", "2-5"),
    },
)
async def test_a_range_is_cut(stage: Stage, value: str, part: bytes, where: str) -> None:
    stage.answers(FRESH, ETAG, body=DIGITS)
    seen = await stage.second(f"Range: {value}")

    assert (seen.source, seen.status, seen.body) == (STORE, 206, part)
    assert seen.all("content-range") == [f"bytes {where}/10"]
    assert seen.all("content-length") == [str(len(part))]


@clause("RFC 9110", "15.5.17", "A range beyond the end is 416, which says how long the whole is")
@pytest.mark.parametrize(
    "value", ["bytes=10-", "bytes=10-10", "bytes=100-200", "bytes=99999999999999999999-", "bytes=-0"]
)
async def test_a_range_beyond_the_end(stage: Stage, value: str) -> None:
    stage.answers(FRESH, ETAG, body=DIGITS)
    seen = await stage.second(f"Range: {value}")

    assert (seen.source, seen.status) == (STORE, 416)
    assert seen.all("content-range") == ["bytes */10"]


@clause("RFC 9110", "14.2", "A malformed range, another unit, or several ranges: the whole is sent")
@pytest.mark.parametrize(
    "value",
    [
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1-b",
        "bytes=5-2",
        "bytes=1.5-3",
        "bytes=+0-4",
        "bytes=0-+4",
        "bytes=--1",
        "bytes=0--1",
        "bytes=0-4x",
        "bytes=0x0-0x4",
        "bytes=0 - 4",
        "bytes=\xb2-\xb3",
        "bytes 0-4",
        "bytes:0-4",
        "0-4",
        "items=0-4",
        "byte=0-4",
        "",
        "bytes=0-1,4-5",
        "bytes=0-1, 4-5",
        "bytes=0-1,100-",
        "bytes=-1,0-0",
    ],
)
async def test_no_range_that_can_be_cut(stage: Stage, value: str) -> None:
    stage.answers(FRESH, ETAG, body=DIGITS)
    seen = await stage.second(f"Range: {value}")

    assert (seen.source, seen.status, seen.body) == (STORE, 200, DIGITS)
    assert not seen.has("content-range")


@clause("RFC 9110", "14.2", "Two Range lines are malformed: the whole is sent")
async def test_two_range_lines(stage: Stage) -> None:
    stage.answers(FRESH, body=DIGITS)
    seen = await stage.second("Range: bytes=0-1", "Range: bytes=4-5")
    assert (seen.source, seen.status, seen.body) == (STORE, 200, DIGITS)


@clause("RFC 9110", "15.3.7", "A 206 has the fields that a 200 would have had, and the length of its part")
@pytest.mark.parametrize(
    "line",
    [
        ETAG,
        'ETag: W/"v1"',
        MODIFIED,
        "Date: <-5>",
        "Expires: <+60>",
        "Vary: X",
        "Content-Location: /elsewhere",
        "Content-Type: text/plain",
        "X: 1",
    ],
)
async def test_fields_of_a_206(stage: Stage, line: str) -> None:
    stage.answers(FRESH, line, body=DIGITS)
    whole = await stage.ask()
    part = await stage.ask("Range: bytes=1-2")
    name = line.partition(":")[0]

    assert (part.source, part.status, part.body) == (STORE, 206, b"12")
    assert part.all(name) == whole.all(name) != []
    assert part.all("cache-control") == ["max-age=60"]
    assert part.age >= 0


@clause("RFC 9110", "13.1.5", "If-Range lets the range count only for exactly what the client has a part of")
@table(
    "value, status",
    {
        "the same ETag": ('"v1"', 206),
        "another ETag": ('"v2"', 200),
        "the same, weak": ('W/"v1"', 200),
        "without quotes": ("v1", 200),
        "a list": ('"v1", "v2"', 200),
        "any": ("*", 200),
        "empty": ("", 200),
        "the same date": ("Wed, 01 Jan 2020 00:00:00 GMT", 206),
        "a later date": ("Wed, 01 Jan 2020 00:00:01 GMT", 200),
        "an earlier date": ("Tue, 31 Dec 2019 23:59:59 GMT", 200),
        "no date": ("yesterday", 200),
    },
)
async def test_if_range(stage: Stage, value: str, status: int) -> None:
    stage.answers(FRESH, ETAG, MODIFIED, body=DIGITS)
    seen = await stage.second("Range: bytes=1-2", f"If-Range: {value}")
    assert (seen.source, seen.status, seen.body) == (STORE, status, b"12" if status == 206 else DIGITS)


@clause("RFC 9110", "13.1.5", "A weak validator is not good enough for If-Range")
@table(
    "stored, value",
    {
        "weak both": ('ETag: W/"v1"', 'W/"v1"'),
        "weak stored": ('ETag: W/"v1"', '"v1"'),
        "no validator": ("X: 1", '"v1"'),
        "no date": (ETAG, "Wed, 01 Jan 2020 00:00:00 GMT"),
        # It may have been modified again in that second (RFC 9110 section 8.8.2.2).
        "a date as new as the answer": ("Last-Modified: <+0>", "<its date>"),
    },
)
async def test_if_range_with_a_weak_validator(stage: Stage, stored: str, value: str) -> None:
    stage.answers(FRESH, stored, "Date: <+0>", body=DIGITS)
    first = await stage.ask()
    seen = await stage.ask("Range: bytes=1-2", f"If-Range: {value.replace('<its date>', first.get('date'))}")
    assert (seen.source, seen.status, seen.body) == (STORE, 200, DIGITS)


@clause("RFC 9110", "13.1.5", "If-Range without Range means nothing")
async def test_if_range_without_range(stage: Stage) -> None:
    stage.answers(FRESH, ETAG, body=DIGITS)
    seen = await stage.second('If-Range: "v1"')
    assert (seen.status, seen.body) == (200, DIGITS)


@clause("RFC 9110", "14.2", "A range is for GET alone")
async def test_head_knows_no_range(stage: Stage) -> None:
    stage.answers(FRESH, ETAG, body=DIGITS)
    seen = await stage.second("Range: bytes=1-2", method="HEAD")

    assert (seen.source, seen.status, seen.get("content-length")) == (STORE, 200, "10")
    assert not seen.has("content-range")


@clause("RFC 9110", "13.2.2", "Conditions go before ranges")
@table(
    "line, status",
    {
        "the same ETag": ('If-None-Match: "v1"', 304),
        "another ETag": ('If-None-Match: "v2"', 206),
        "the same date": ("If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT", 304),
        "an older date": ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", 206),
    },
)
@pytest.mark.parametrize("value", ["bytes=1-2", "bytes=100-"])
async def test_conditions_before_ranges(stage: Stage, value: str, line: str, status: int) -> None:
    stage.answers(FRESH, ETAG, MODIFIED, body=DIGITS)
    seen = await stage.second(f"Range: {value}", line)
    expected = 416 if status == 206 and value == "bytes=100-" else status
    assert (seen.source, seen.status) == (STORE, expected)


@clause("RFC 9110", "14.2", "Only of a 200 a part is sent: other stored answers are given whole")
@pytest.mark.parametrize("status", [203, 404, 410, 500])
async def test_a_range_of_another_answer(stage: Stage, status: int) -> None:
    stage.answers(FRESH, status=status, body=DIGITS)
    seen = await stage.second("Range: bytes=1-2")
    assert (seen.source, seen.status, seen.body) == (STORE, status, DIGITS)


def ranges(asked: Asked) -> Reply:
    """An API that knows ranges and conditions."""
    if asked.get("if-none-match") == '"v1"':
        return reply(FRESH, ETAG, status=304)
    if asked.get("range") == "bytes=1-2":
        return reply(FRESH, ETAG, "Content-Range: bytes 1-2/10", status=206, body=b"12")
    return reply(FRESH, ETAG, body=DIGITS)


@clause(
    "RFC 9111",
    "3.3",
    "While nothing is stored the range is the API's; its part is passed on, and is no whole",
)
async def test_the_api_s_part_is_no_whole(stage: Stage) -> None:
    stage.answers_by(ranges)
    seen = [await stage.ask("Range: bytes=1-2"), await stage.ask(), await stage.ask()]

    assert [(one.source, one.status, one.body) for one in seen] == [
        (API, 206, b"12"),
        (API, 200, DIGITS),
        (STORE, 200, DIGITS),
    ]
    assert seen[0].all("content-range") == ["bytes 1-2/10"]
    assert (seen[0].asked[0].get("range"), seen[1].asked[0].get("range")) == ("bytes=1-2", "")


@clause("RFC 9111", "3.3", "A 206 that nobody asked for is not stored")
async def test_an_unasked_part(stage: Stage) -> None:
    stage.answers(FRESH, ETAG, "Content-Range: bytes 1-2/10", status=206, body=b"12")
    seen = [await stage.ask(), await stage.ask()]
    assert [(one.source, one.status) for one in seen] == [(API, 206)] * 2


@clause("RFC 9111", "3.4", "What one range brought is no answer for another, nor for the whole")
async def test_one_part_is_not_another(stage: Stage) -> None:
    def answer(asked: Asked) -> Reply:
        value = asked.get("range")
        part = {"bytes=1-2": b"12", "bytes=3-4": b"34"}[value]
        where = value.partition("=")[2]
        return reply(FRESH, ETAG, f"Content-Range: bytes {where}/10", status=206, body=part)

    stage.answers_by(answer)
    seen = [await stage.ask(f"Range: bytes={where}") for where in ("1-2", "3-4", "1-2")]
    assert [(one.status, one.body) for one in seen] == [(206, b"12"), (206, b"34"), (206, b"12")]


@clause("RFC 9110", "15.3.7.2", "Several parts in one answer are passed on as they are")
async def test_several_parts_are_passed_on(stage: Stage) -> None:
    body = b"--x\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n--x--\r\n"
    stage.answers(FRESH, "Content-Type: multipart/byteranges; boundary=x", status=206, body=body)
    seen = await stage.ask("Range: bytes=0-0,2-2")

    assert (seen.status, seen.body) == (206, body)
    assert (seen.asked[0].get("range"), (await stage.ask()).source) == ("bytes=0-0,2-2", API)


@clause(
    "RFC 9110",
    "15.3.7",
    "A 206 whose Content-Range says nothing that can be relied on is passed on, and kept for nobody",
)
@table(
    "lines",
    {
        "none": [],
        "empty": ["Content-Range: "],
        "another unit": ["Content-Range: items 1-2/10"],
        "no unit": ["Content-Range: 1-2/10"],
        "backwards": ["Content-Range: bytes 2-1/10"],
        "beyond the whole": ["Content-Range: bytes 1-2/2"],
        "longer than the body": ["Content-Range: bytes 1-5/10"],
        "shorter than the body": ["Content-Range: bytes 1-1/10"],
        "no range": ["Content-Range: bytes */10"],
        "two lines": ["Content-Range: bytes 1-2/10", "Content-Range: bytes 3-4/10"],
        "a sign": ["Content-Range: bytes +1-2/10"],
        "of unknown length": ["Content-Range: bytes 1-2/*"],
    },
)
async def test_parts_of_nothing_known(stage: Stage, lines: list[str]) -> None:
    stage.answers_in_turn(reply(FRESH, ETAG, *lines, status=206, body=b"12"), reply(FRESH, ETAG, body=DIGITS))
    part = await stage.ask("Range: bytes=1-2")
    whole = await stage.ask()

    assert (part.status, part.body) == (206, b"12")
    assert part.all("content-range") == [line.partition(": ")[2] for line in lines]
    assert (whole.source, whole.status, whole.body) == (API, 200, DIGITS)


def cut(body: bytes, tag: str, value: str) -> Reply:
    """What an API answers that knows single ranges."""
    first, _, last = value.removeprefix("bytes=").partition("-")
    if not value:
        return reply(FRESH, f"ETag: {tag}", body=body)
    start = int(first) if first else len(body) - int(last)
    end = min(int(last), len(body) - 1) if first and last else len(body) - 1
    line = f"Content-Range: bytes {start}-{end}/{len(body)}"
    return reply(FRESH, f"ETag: {tag}", line, status=206, body=body[start : end + 1])


@clause(
    "RFC 9111", "3.3", "After one part every other is right, and so is the whole, wherever they come from"
)
@pytest.mark.parametrize("first", ["bytes=2-5", "bytes=0-4", "bytes=5-", "bytes=-3", "bytes=0-"])
@pytest.mark.parametrize(
    "second",
    ["", "bytes=3-4", "bytes=2-5", "bytes=0-4", "bytes=4-8", "bytes=5-", "bytes=-2", "bytes=9-9", "bytes=0-"],
)
async def test_one_part_after_another(stage: Stage, first: str, second: str) -> None:
    stage.answers_by(lambda asked: cut(DIGITS, '"v1"', asked.get("range")))
    await stage.ask(f"Range: {first}")
    seen = await stage.ask(*([f"Range: {second}"] if second else []))
    right = cut(DIGITS, '"v1"', second)

    assert (seen.status, seen.body) == (right.status, right.body)
    assert seen.all("content-range") == [
        line.partition(": ")[2] for line in right.lines if line.startswith("Content-Range")
    ]
    assert seen.all("content-length") == [str(len(right.body or b""))]


@clause("RFC 9111", "3.4", "Parts of two versions are never put together")
@pytest.mark.parametrize("second", ["", "bytes=5-9", "bytes=3-7", "bytes=0-9"])
async def test_parts_of_two_versions(stage: Stage, second: str) -> None:
    stage.answers_by(lambda asked: cut(DIGITS, '"v1"', asked.get("range")))
    await stage.ask("Range: bytes=0-4")
    stage.answers_by(lambda asked: cut(b"abcdefghij", '"v2"', asked.get("range")))
    seen = await stage.ask(*([f"Range: {second}"] if second else []))
    right = cut(b"abcdefghij", '"v2"', second)

    assert (seen.status, seen.body, seen.get("etag")) == (right.status, right.body, '"v2"')


@clause("RFC 9111", "3.3", "HEAD, and a condition without a range, are no requests for a part that is stored")
async def test_a_part_answers_nothing_else(stage: Stage) -> None:
    stage.answers_by(ranges)
    await stage.ask("Range: bytes=1-2")
    head = await stage.ask(method="HEAD")
    whole = await stage.ask('If-None-Match: "v0"')

    assert (head.source, head.status, head.get("content-length")) == (API, 200, "10")
    assert (whole.source, whole.status, whole.body) == (API, 200, DIGITS)


@clause("RFC 9110", "15.5.17", "The API's own 416 is passed on, and not stored")
async def test_the_api_s_416(stage: Stage) -> None:
    stage.answers_in_turn(reply(FRESH, "Content-Range: bytes */10", status=416), reply(FRESH, body=DIGITS))
    seen = [await stage.ask("Range: bytes=100-"), await stage.ask()]
    assert [(one.source, one.status) for one in seen] == [(API, 416), (API, 200)]


@clause(
    "RFC 9110",
    "14.2",
    "An API that knows no ranges answers with the whole: that is what the client gets, or its part",
)
async def test_an_api_without_ranges(stage: Stage) -> None:
    stage.answers(FRESH, body=DIGITS)
    seen = await stage.ask("Range: bytes=1-2")
    assert (seen.status, seen.body) in [(200, DIGITS), (206, b"12")]


@clause("RFC 9111", "4", "A range of a stale answer is sent once the API was asked")
async def test_a_range_of_a_stale_answer(stage: Stage) -> None:
    stage.answers(*STALE, ETAG, body=DIGITS)
    await stage.ask()
    stage.answers_by(ranges)
    seen = await stage.ask("Range: bytes=1-2")

    assert (seen.status, seen.body, seen.all("content-range")) == (206, b"12", ["bytes 1-2/10"])
    assert len(seen.asked) == 1


@clause("RFC 9110", "14.2", "A range in another method's request is passed on")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_range_of_another_method(stage: Stage, method: str) -> None:
    stage.answers(FRESH, body=DIGITS)
    seen = await stage.second("Range: bytes=1-2", method=method)
    assert (seen.status, seen.body, seen.asked[0].get("range")) == (200, DIGITS, "bytes=1-2")
