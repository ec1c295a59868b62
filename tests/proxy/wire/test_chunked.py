from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.chunked import BadChunks, ChunkReader


def read(*pieces: bytes) -> tuple[bytes, bytes, bool] | str:
    """The body, what comes after it, and whether it has ended; or why it was refused."""
    reader = ChunkReader()
    body, rest = b"", b""
    try:
        for piece in pieces:
            chunks, place = reader.feed(piece)
            body += b"".join(chunks)
            rest += piece[place:]
    except BadChunks as refused:
        return str(refused)
    return body, rest, reader.done


@pytest.mark.parametrize(
    ("data", "body", "rest"),
    [
        pytest.param(b"0\r\n\r\n", b"", b"", id="RFC 9112 7.1 an empty body"),
        pytest.param(b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"", id="7.1 a chunk"),
        pytest.param(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc", b"", id="7.1 two"),
        pytest.param(b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b"", id="7.1 hexadecimal"),
        pytest.param(b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b"", id="7.1 in lower case"),
        pytest.param(b"0005\r\nhello\r\n000\r\n\r\n", b"hello", b"", id="7.1 leading zeros"),
        pytest.param(b"5\r\n\r\n0\r\n\r\n0\r\n\r\n", b"\r\n0\r\n", b"", id="a body that looks like an end"),
        pytest.param(b"5;a=b;c\r\nhello\r\n0;d\r\n\r\n", b"hello", b"", id="7.1.1 extensions"),
        pytest.param(b'5 \t; a = "b;c"\r\nhello\r\n0\r\n\r\n', b"hello", b"", id="7.1.1 with white space"),
        pytest.param(b"0\r\nA: b\r\nC: d\r\n\r\n", b"", b"", id="7.1.2 trailers are dropped"),
        pytest.param(b"0\r\n\r\nHTTP/1.1 200 OK", b"", b"HTTP/1.1 200 OK", id="what comes after is kept"),
    ],
)
def test_the_chunked_coding_is_taken_off(data: bytes, body: bytes, rest: bytes) -> None:
    assert (body, rest, True) == read(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        *(
            pytest.param(size + b"\r\nhello\r\n0\r\n\r\n", "malformed chunk size", id=f"7.1 size {label}")
            for label, size in {
                "empty": b"",
                "+5": b"+5",
                "-5": b"-5",
                "0x5": b"0x5",
                "5 with a space": b"5 ",
                "a space first": b" 5",
                "5 6": b"5 6",
                "with an underscore": b"1_0",
                "words": b"five",
                "16 digits": b"1" * 16,
                "a bare CR": b"5\r",
                "a bare CR in an extension": b"5;a\rb",
                "NUL in an extension": b"5;a\0b",
                "a list": b"5,5",
            }.items()
        ),
        pytest.param(b"5\nhello\n0\n\n", "malformed line in the chunked coding", id="2.2 bare LF"),
        pytest.param(
            b"5;a\nb\r\nhello", "malformed line in the chunked coding", id="a bare LF in an extension"
        ),
        pytest.param(b"5\r\nhelloX\r\n", "a line of the chunked coding is too long", id="7.1 a longer chunk"),
        pytest.param(
            b"5\r\nhello\n0\r\n\r\n", "malformed line in the chunked coding", id="a bare LF after one"
        ),
        pytest.param(b"5\r\nhello\r0\r\n\r\n", "a line of the chunked coding is too long", id="a bare CR"),
        pytest.param(b"5;" + b"a" * 256, "a line of the chunked coding is too long", id="a long extension"),
        pytest.param(
            b"5;" + b"a" * 253 + b"\r\n", "a line of the chunked coding is too long", id="longer by one byte"
        ),
        pytest.param(b"0\r\nA : b\r\n\r\n", "malformed trailer", id="7.1.2 a malformed trailer"),
        pytest.param(b"0\r\nA: b\r\n c\r\n\r\n", "malformed trailer", id="a folded trailer"),
        pytest.param(b"0\r\nA: b\n\r\n", "malformed line in the chunked coding", id="a bare LF in trailers"),
        pytest.param(
            b"0\r\nA: " + b"b" * 8192, "a line of the chunked coding is too long", id="a long trailer"
        ),
        pytest.param(b"0\r\n" + b"A: bcde\r\n" * 1200, "trailers are too long", id="many trailers"),
        pytest.param(b"0\r\nA: b\0\r\n\r\n", "malformed trailer", id="NUL in a trailer"),
        pytest.param(
            (b"1;" + b"a" * 200 + b"\r\nx\r\n") * 100, "more chunk extensions than data", id="many extensions"
        ),
    ],
)
def test_a_hostile_chunked_body_is_refused(data: bytes, why: str) -> None:
    assert why == read(data)


def test_the_longest_lines_that_are_allowed_are_read() -> None:
    data = b"5;" + b"a" * 252 + b"\r\nhello\r\n0\r\nA: " + b"b" * (8192 - 5) + b"\r\n\r\n"

    assert (b"hello", b"", True) == read(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"5", id="in a size"),
        pytest.param(b"5\r", id="within an end of line"),
        pytest.param(b"5\r\nhel", id="in a chunk"),
        pytest.param(b"5\r\nhello", id="after a chunk"),
        pytest.param(b"5\r\nhello\r\n0\r\n", id="before the last line"),
        pytest.param(b"0\r\nA: b", id="in a trailer"),
    ],
)
def test_a_body_that_breaks_off_has_not_ended(data: bytes) -> None:
    outcome = read(data)

    assert isinstance(outcome, tuple)
    assert not outcome[2]


def test_what_comes_after_the_end_is_given_back_untouched() -> None:
    reader = ChunkReader()
    reader.feed(b"0\r\n\r\n")

    assert ([], 0) == reader.feed(b"more")


CHUNKS = st.lists(st.binary(min_size=1, max_size=9), max_size=4)
WRITTEN = st.builds(
    lambda chunks, extension, trailers, after: b"".join(
        [
            *(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks),
            b"0\r\n",
            *trailers,
            b"\r\n",
            after,
        ]
    ),
    CHUNKS,
    st.sampled_from([b"", b";a", b" ;a=b"]),
    st.lists(st.sampled_from([b"A: b\r\n", b"C:\r\n"]), max_size=2),
    st.binary(max_size=5),
)
DAMAGED = st.builds(
    lambda data, at, byte: data[: at % (len(data) + 1)] + byte + data[at % (len(data) + 1) + 1 :],
    WRITTEN,
    st.integers(0, 99),
    st.sampled_from([b"", b"\n", b"\r", b"\0", b"0", b"f", b";"]),
)


@given(WRITTEN | DAMAGED | st.text("05a;\r\n", max_size=12).map(str.encode), st.data())
def test_bytes_mean_the_same_however_they_are_split(data: bytes, draw: st.DataObject) -> None:
    whole = read(data)
    cut = draw.draw(st.integers(0, len(data)))

    assert whole == _same(whole, read(data[:cut], data[cut:]))
    assert whole == _same(whole, read(*(bytes([byte]) for byte in data)))


def _same(
    whole: tuple[bytes, bytes, bool] | str, split: tuple[bytes, bytes, bool] | str
) -> tuple[bytes, bytes, bool] | str:
    """A refusal is a refusal: in which words may depend on how far the reader had come."""
    return whole if isinstance(whole, str) and isinstance(split, str) else split


def test_many_small_chunks_are_read_in_no_time() -> None:
    data = b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n"
    began = perf_counter()
    outcome = read(data)

    assert (b"a" * 40_000, b"", True) == outcome
    assert perf_counter() - began < 1.0


def test_extensions_in_proportion_to_the_data_may_go_on_for_ever() -> None:
    signed = b"400;chunk-signature=" + b"0" * 64 + b"\r\n" + bytes(1024) + b"\r\n"
    tiny = b"1;a=b\r\nx\r\n"

    assert (bytes(1024) * 2000, b"", True) == read(signed * 2000 + b"0\r\n\r\n")
    assert (b"x" * 9000, b"", True) == read(tiny * 9000 + b"0\r\n\r\n")


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    for text in (data, b"5" + data, b"5\r\nhello" + data, b"0\r\n" + data):
        read(text)
