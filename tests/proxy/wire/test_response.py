from time import perf_counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.wire.response import BadResponse, Body, ResponseHead, is_event_stream, parse_head

OK = b"HTTP/1.1 200 OK\r\n"


def head(raw: bytes, method: str = "GET") -> ResponseHead:
    return parse_head(raw, method=method)


def test_a_plain_head_is_read() -> None:
    expected = ResponseHead(
        version=b"HTTP/1.1",
        status=200,
        reason=b"OK",
        fields=((b"Content-Type", b"text/html"), (b"content-length", b"5"), (b"X", b"a: b\tc")),
        body=Body.LENGTH,
        length=5,
        keep_alive=True,
    )

    assert expected == head(OK + b"Content-Type: text/html\r\ncontent-length:5\r\nX: \t a: b\tc \t")


# -- the corpus of hostile heads --


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        pytest.param(b"", "malformed status line", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\nA: b", "malformed status line", id="RFC 9112 2.2 a bare LF"),
        pytest.param(b"HTTP/1.1 200 OK\rA: b", "malformed status line", id="2.2 a bare CR"),
        pytest.param(b"HTTP/1.1 200 O\0K", "malformed status line", id="NUL in the reason"),
        pytest.param(b"\r\nHTTP/1.1 200 OK", "malformed status line", id="2.2 an empty line before it"),
        pytest.param(b" HTTP/1.1 200 OK", "malformed status line", id="a space before it"),
        pytest.param(b"HTTP/1.1  200 OK", "malformed status line", id="two spaces"),
        pytest.param(b"HTTP/1.1\t200 OK", "malformed status line", id="a tab"),
        pytest.param(b"HTTP/1.1 200OK", "malformed status line", id="no space after the status"),
        pytest.param(b"http/1.1 200 OK", "malformed status line", id="2.3 HTTP in lower case"),
        pytest.param(b"HTTP/2.0 200 OK", "malformed status line", id="2.3 HTTP/2.0"),
        pytest.param(b"HTTP/1.2 200 OK", "malformed status line", id="2.3 HTTP/1.2"),
        pytest.param(b"HTTP/1 200 OK", "malformed status line", id="2.3 HTTP/1"),
        pytest.param(b"HTTP/1.10 200 OK", "malformed status line", id="2.3 HTTP/1.10"),
        pytest.param(b"HTTP/0.9 200 OK", "malformed status line", id="HTTP/0.9"),
        pytest.param(b"ICY 200 OK", "malformed status line", id="another protocol"),
        pytest.param(b"HTTP/1.1 99 OK", "malformed status line", id="RFC 9110 15 a status of two digits"),
        pytest.param(b"HTTP/1.1 099 OK", "malformed status line", id="a status below 100"),
        pytest.param(b"HTTP/1.1 1000 OK", "malformed status line", id="a status of four digits"),
        pytest.param(b"HTTP/1.1 -200 OK", "malformed status line", id="a negative status"),
        pytest.param(b"HTTP/1.1 2x0 OK", "malformed status line", id="a status with letters"),
        pytest.param(b"HTTP/1.1", "malformed status line", id="no status"),
        pytest.param(OK, "malformed header field", id="an empty line within"),
        pytest.param(OK + b"A: b\nC: d", "malformed header field", id="2.2 a bare LF between fields"),
        pytest.param(OK + b"A: b\rC: d", "malformed header field", id="2.2 a bare CR between fields"),
        pytest.param(OK + b"A: b\r", "malformed header field", id="2.2 a bare CR at the end"),
        pytest.param(OK + b"A: b\0c", "malformed header field", id="RFC 9110 5.5 NUL in a value"),
        pytest.param(OK + b"A\0: b", "malformed header field", id="NUL in a name"),
        pytest.param(OK + b"A: \x1b[0m", "malformed header field", id="RFC 9110 5.5 a control character"),
        pytest.param(OK + b"A: \x7f", "malformed header field", id="DEL"),
        pytest.param(OK + b"A: b\r\n c", "malformed header field", id="5.2 obs-fold"),
        pytest.param(OK + b"A: b\r\n\tc", "malformed header field", id="5.2 obs-fold by a tab"),
        pytest.param(OK + b" A: b", "malformed header field", id="a space before the first field"),
        pytest.param(OK + b"A : b\r\n c", "malformed header field", id="5.2 obs-fold behind a space"),
        pytest.param(OK + b": b", "malformed header field", id="no name"),
        pytest.param(OK + b"A b", "malformed header field", id="no colon"),
        pytest.param(OK + b"A(b): c", "malformed header field", id="RFC 9110 5.1 a name that is no token"),
        pytest.param(OK + b"\xc3\xa9: c", "malformed header field", id="a name above ASCII"),
        pytest.param(
            OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding beside Content-Length or on HTTP/1.0",
            id="6.3 CL and TE",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\nContent-Length: 0",
            "Transfer-Encoding beside Content-Length or on HTTP/1.0",
            id="6.3 TE and CL",
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding beside Content-Length or on HTTP/1.0",
            id="6.1 HTTP/1.0 with TE",
        ),
        *(
            pytest.param(
                OK + b"Transfer-Encoding: " + coding,
                "a Transfer-Encoding other than chunked",
                id=f"6.1 TE {label}",
            )
            for label, coding in {
                "gzip": b"gzip",
                "gzip, chunked": b"gzip, chunked",
                "chunked twice": b"chunked, chunked",
                "chunked in two lines": b"chunked\r\nTransfer-Encoding: chunked",
                "chunked, identity": b"chunked, identity",
                "identity": b"identity",
                "empty": b"",
                "a comma": b",",
                "an empty member": b"chunked,",
                "a parameter": b"chunked;q=1",
                "xchunked": b"xchunked",
                "a quoted word": b'"chunked"',
            }.items()
        ),
        *(
            pytest.param(
                OK + b"Content-Length: " + length,
                "malformed or repeated Content-Length",
                id=f"RFC 9110 8.6 CL {label}",
            )
            for label, length in {
                "+5": b"+5",
                "-5": b"-5",
                "0x5": b"0x5",
                "5.0": b"5.0",
                "5 6": b"5 6",
                "a list": b"5, 6",
                "a list of equals": b"5, 5",
                "two": b"5\r\nContent-Length: 6",
                "two equals": b"5\r\ncontent-length: 5",
                "empty": b"",
                "words": b"five",
                "with an underscore": b"1_0",
                "19 digits": b"1" * 19,
                "4301 digits": b"1" * 4301,
                "above ASCII": b"\xb2",
            }.items()
        ),
    ],
)
def test_a_head_that_two_readers_could_understand_differently_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(BadResponse) as refused:
        head(raw)

    assert why == str(refused.value)


@pytest.mark.parametrize(
    ("raw", "status", "reason"),
    [
        pytest.param(b"HTTP/1.1 200 OK", 200, b"OK", id="4 a reason"),
        pytest.param(b"HTTP/1.1 200 ", 200, b"", id="4 an empty reason"),
        pytest.param(b"HTTP/1.1 200", 200, b"", id="no reason and no space"),
        pytest.param(b"HTTP/1.1 404 Not\t\xe9 Found", 404, b"Not\t\xe9 Found", id="4 any text"),
        pytest.param(b"HTTP/1.1 100 Continue", 100, b"Continue", id="the least status"),
        pytest.param(b"HTTP/1.1 999 X", 999, b"X", id="RFC 9110 15 a status of no class"),
    ],
)
def test_a_status_line_is_read_in_one_way(raw: bytes, status: int, reason: bytes) -> None:
    read = head(raw)

    assert (status, reason) == (read.status, read.reason)


CHUNKED = b"Transfer-Encoding: chunked"
FIVE = b"Content-Length: 5"


@pytest.mark.parametrize(
    ("raw", "method", "expected"),
    [
        pytest.param(OK + FIVE, "HEAD", (Body.NONE, 0), id="RFC 9112 6.3.1 HEAD"),
        pytest.param(OK + CHUNKED, "HEAD", (Body.NONE, 0), id="6.3.1 HEAD, chunked"),
        pytest.param(b"HTTP/1.1 100 x\r\n" + FIVE, "GET", (Body.NONE, 0), id="6.3.1 1xx"),
        pytest.param(b"HTTP/1.1 204 x\r\n" + FIVE, "GET", (Body.NONE, 0), id="6.3.1 204"),
        pytest.param(b"HTTP/1.1 304 x\r\n" + FIVE, "GET", (Body.NONE, 0), id="6.3.1 304"),
        pytest.param(OK + CHUNKED, "GET", (Body.CHUNKED, 0), id="6.3.4 chunked"),
        pytest.param(OK + b"TRANSFER-ENCODING: Chunked", "GET", (Body.CHUNKED, 0), id="7 in any case"),
        pytest.param(OK + FIVE, "GET", (Body.LENGTH, 5), id="6.3.6 Content-Length"),
        pytest.param(OK + b"Content-Length: 0", "GET", (Body.LENGTH, 0), id="6.3.6 of zero"),
        pytest.param(OK + b"Content-Length: 005", "GET", (Body.LENGTH, 5), id="8.6 with leading zeros"),
        pytest.param(
            OK + b"Content-Length: " + b"9" * 18, "GET", (Body.LENGTH, 10**18 - 1), id="the largest"
        ),
        pytest.param(OK + b"A: b", "GET", (Body.CLOSE, 0), id="6.3.8 until the connection ends"),
        pytest.param(b"HTTP/1.0 200 OK\r\n" + FIVE, "GET", (Body.LENGTH, 5), id="HTTP/1.0 with its length"),
    ],
)
def test_the_end_of_a_body_is_known_as_rfc_9112_section_6_3_says(
    raw: bytes, method: str, expected: tuple[Body, int]
) -> None:
    read = head(raw, method)

    assert expected == (read.body, read.length)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(OK + FIVE, True, id="9.3 HTTP/1.1"),
        pytest.param(OK + FIVE + b"\r\nConnection: Close", False, id="9.3 close"),
        pytest.param(
            OK + FIVE + b"\r\nConnection: a\r\nConnection: b, close", False, id="9.3 close among others"
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\n" + FIVE, False, id="9.3 HTTP/1.0"),
        pytest.param(b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n" + FIVE, True, id="9.3 HTTP/1.0, asked"),
        pytest.param(b"HTTP/1.1 200 OK", False, id="a body that ends with the connection"),
        pytest.param(b"HTTP/1.0 200 OK\r\nConnection: keep-alive", False, id="whatever it says"),
    ],
)
def test_a_connection_is_kept_as_rfc_9112_section_9_3_says(raw: bytes, *, expected: bool) -> None:
    assert expected == head(raw).keep_alive


@given(st.binary(max_size=60), st.sampled_from(["GET", "HEAD"]))
@example(b"HTTP/1.1 200 OK\r\nA:b\r\nContent-Length: 1", "GET")
def test_any_bytes_are_refused_or_read(raw: bytes, method: str) -> None:
    for text in (raw, OK + raw, OK + b"Content-Length: " + raw, OK + b"Transfer-Encoding: " + raw):
        try:
            read = parse_head(text, method=method)
        except BadResponse:
            continue
        assert all(name and not set(name + value) & set(b"\r\n\0") for name, value in read.fields)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(OK + b"A:" + b" " * 64000 + b"\0", id="white space"),
        pytest.param(OK + b"A: b" + b" " * 64000 + b"\0", id="white space at the end"),
        pytest.param(OK + b"A: " + b"b " * 32000 + b"\0", id="words"),
        pytest.param(OK + b"a" * 64000, id="a name"),
        pytest.param(b"HTTP/1.1 200 " + b" " * 64000 + b"\0", id="a reason"),
    ],
)
def test_a_hostile_head_of_64_kb_is_refused_in_no_time(raw: bytes) -> None:
    began = perf_counter()
    with pytest.raises(BadResponse):
        head(raw)

    assert perf_counter() - began < 0.2  # 0.002 in fact; backtracking took 14


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"Content-Type: text/event-stream", True, id="plain"),
        pytest.param(b"Content-Type: Text/Event-Stream; charset=utf-8", True, id="with a parameter"),
        pytest.param(b"Content-Type: text/plain", False, id="another"),
        pytest.param(b"A: b", False, id="none"),
    ],
)
def test_event_streams_are_told_by_their_type(value: bytes, *, expected: bool) -> None:
    assert expected == is_event_stream(head(OK + value))


def test_white_space_before_a_colon_is_taken_away() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length \t: 3\r\nC: d", method="GET")

    assert head.fields == ((b"A", b"b"), (b"Content-Length", b"3"), (b"C", b"d"))
    assert (head.body, head.length) == (Body.LENGTH, 3)


@pytest.mark.parametrize("line", [b"Content-Length : 3", b"Content-Length: 4"])
def test_what_it_hid_counts(line: bytes) -> None:
    with pytest.raises(BadResponse):
        parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n" + line, method="GET")
