import asyncio
import time
import tracemalloc
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, MovedError, ReadOnlyError, RedisError, ResponseError

from proxy.store.replies import NOT_YET, HandshakeParser, Limits, Map, Replies

LIMITS = Limits(value_bytes=1000, list_bytes=20_000, list_members=500)


def all_of(pieces: list[bytes], answers: Any = (object,), limits: Limits = LIMITS) -> list[Any]:
    """The answers in the pieces; what is left has to be nothing."""
    replies, got = Replies(limits), []
    for piece in pieces:
        replies.feed(piece)
        while (reply := replies.next(answers)) is not NOT_YET:
            got.append(reply)
    assert replies.is_empty
    return got


def one(data: bytes, **limits: int) -> Any:
    """The only answer, the same whether it comes at once or byte by byte."""
    bounds = Limits(**{"value_bytes": 1000, **limits})
    (at_once,) = all_of([data], limits=bounds)
    (bit_by_bit,) = all_of([data[at : at + 1] for at in range(len(data))], limits=bounds)
    assert repr(at_once) == repr(bit_by_bit)
    return at_once


def encoded(value: Any) -> bytes:
    """RESP2."""
    match value:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % value
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case list():
            return b"*%d\r\n" % len(value) + b"".join(map(encoded, value))
    raise TypeError(value)


scalars = st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=50)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5), max_leaves=30)


@given(st.lists(values, max_size=6), st.data())
def test_answers_are_what_hiredis_makes_of_them_however_they_are_cut(sent: list[Any], data: Any) -> None:
    wire = b"".join(map(encoded, sent))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)), max_size=12)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    reader = hiredis.Reader(notEnoughData=NOT_YET)
    reader.feed(wire)
    assert all_of(pieces) == [reader.gets() for _ in sent] == sent


@given(
    st.lists(st.sampled_from([b"$", b"*", b":", b"+", b"-", b"%", b">", b"|", b"3", b"-1", b"\r\n", b"x"]))
)
def test_whatever_comes_is_answers_or_invalid(parts: list[bytes]) -> None:
    replies = Replies(LIMITS)
    replies.feed(b"".join(parts))
    try:
        while replies.next((object,)) is not NOT_YET:
            pass
    except InvalidResponse:
        pass


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        pytest.param(b"+OK\r\n", b"OK", id="status"),
        pytest.param(b"+\r\n", b"", id="empty status"),
        pytest.param(b":-12\r\n", -12, id="negative"),
        pytest.param(b":+12\r\n", 12, id="plus"),
        pytest.param(b"*-1\r\n", None, id="null list"),
        pytest.param(b"_\r\n", None, id="null"),
        pytest.param(b"#t\r\n", 1, id="true"),
        pytest.param(b"#f\r\n", 0, id="false"),
        pytest.param(b",1.5\r\n", b"1.5", id="double"),
        pytest.param(b",inf\r\n", b"inf", id="infinity"),
        pytest.param(b"(349289032840923850932485\r\n", b"349289032840923850932485", id="big"),
        pytest.param(b"=7\r\ntxt:abc\r\n", b"abc", id="verbatim"),
        pytest.param(b"~2\r\n:1\r\n:2\r\n", [1, 2], id="set"),
        pytest.param(b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n", [b"a", 1, b"b", [None]], id="map"),
        pytest.param(b"*2\r\n*0\r\n%0\r\n", [[], []], id="empty ones"),
        pytest.param(b">2\r\n+invalidate\r\n*1\r\n+k\r\n$1\r\nv\r\n", b"v", id="after a push"),
        pytest.param(b"|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n", b"v", id="after an attribute"),
        pytest.param(b"*2\r\n|1\r\n+a\r\n:3\r\n+b\r\n+c\r\n", [b"b", b"c"], id="an attribute in a list"),
        pytest.param(b"*2\r\n>1\r\n+a\r\n+b\r\n+c\r\n", [b"b", b"c"], id="a push in a list"),
    ],
)  # fmt: skip
def test_both_protocols_have_the_same_values(wire: bytes, value: Any) -> None:
    assert one(wire) == value


def test_a_map_can_be_told_from_a_list() -> None:
    assert (type(one(b"%1\r\n+a\r\n+b\r\n")), type(one(b"*2\r\n+a\r\n+b\r\n"))) == (Map, list)


@pytest.mark.parametrize(
    ("wire", "type_", "text"),
    [
        pytest.param(b"-ERR no\r\n", ResponseError, "no", id="error"),
        pytest.param(b"!6\r\nERR no\r\n", ResponseError, "no", id="long error"),
        pytest.param(b"-MOVED 3999 127.0.0.1:6381\r\n", MovedError, "3999 127.0.0.1:6381", id="moved"),
        pytest.param(b"-LOADING wait\r\n", RedisConnectionError, "wait", id="loading"),
        pytest.param(
            b"-ERR max number of clients + cluster connections reached\r\n",
            RedisConnectionError,
            "ERR max number of clients + cluster connections reached",
            id="crowded cluster",
        ),
        pytest.param(
            b"-ERR Error running script (call to f_0a1b): @user_script:10: @user_script: 10: -READONLY no. \r\n",
            ReadOnlyError,
            "no.",
            id="in a script of Redis 6",
        ),
        pytest.param(
            b"-ERR Error running script (call to f_0a1b): @user_script:1: attempt to call nil\r\n",
            ResponseError,
            "Error running script (call to f_0a1b): @user_script:1: attempt to call nil",
            id="of a script",
        ),
        pytest.param(b"-\xff\xfe\r\n", ResponseError, "��", id="no encoding"),
    ],
)
def test_errors_are_answers(wire: bytes, type_: type[RedisError], text: str) -> None:
    error = one(wire)
    assert (isinstance(error, type_), str(error)) == (True, text)
    (in_list,) = one(b"*1\r\n" + wire)
    assert (type(in_list), str(in_list)) == (type(error), text)


ABSURD = {
    "a list of all numbers": b"*4294967295\r\n",
    "a list of 2 GB": b"*268435455\r\n",
    "a map of half of that": b"%134217727\r\n",
    "a set": b"~268435455\r\n",
    "a push": b">268435455\r\n",
    "an attribute": b"|268435455\r\n",
    "push after push": b">1\r\n+a\r\n" * 501,
    "a list in a list": b"*1\r\n*268435455\r\n",
    "many lists, together too long": b"*250\r\n" + b"*250\r\n" * 3,
    "a list of too many bytes": b"*400\r\n" + b"$100\r\n" + b"x" * 100 + b"\r\n$19950\r\n",
    "a list of too many bytes in lines": b"*400\r\n" + (b"+" + b"x" * 100 + b"\r\n") * 250,
    "a value of 4 GB": b"$4294967295\r\n",
    "a value one byte too long": b"$1001\r\n",
    "an error of 4 GB": b"!4294967295\r\n",
    "a verbatim value of 4 GB": b"=4294967295\r\n",
    "a length beyond all numbers": b"$99999999999999999999999\r\n",
    "a length without an end": b"$" + b"9" * 20_000,
    "a negative length": b"$-7\r\n",
    "a length with a sign": b"$+7\r\n",
    "a length with an underscore": b"$1_0\r\n",
    "a length with a space": b"$ 1\r\nx\r\n",
    "no length": b"$\r\n",
    "a number beyond 64 bits": b":-99999999999999999999\r\n",
    "a number of ten thousand digits": b":" + b"9" * 10_000 + b"\r\n",
    "no number": b":nine\r\n",
    "no boolean": b"#x\r\n",
    "a null that is something": b"_x\r\n",
    "an unknown type": b"HTTP/1.1 400 Bad Request\r\n",
    "an empty line": b"\r\n",
    "a line without an end": b"+" + b"x" * 16_384,
    "a value that ends late": b"$1\r\nabc",
    "deep nesting": b"*1\r\n" * 9,
    "a streamed value": b"$?\r\n;1\r\n",
    "a streamed list": b"*?\r\n",
    "a redirection to nowhere": b"-MOVED nonsense\r\n",
    "a redirection without anything": b"-ASK\r\n",
}


@pytest.mark.parametrize("wire", ABSURD.values(), ids=ABSURD.keys())
def test_what_is_absurd_is_refused_before_anything_is_kept(wire: bytes) -> None:
    for pieces in ([wire], [wire[at : at + 7] for at in range(0, len(wire), 7)]):
        tracemalloc.start()
        cpu = time.process_time()
        try:
            with pytest.raises(InvalidResponse):
                all_of(pieces)
            # 0.02 in fact, of a processor that others use as well.
            assert time.process_time() - cpu < 0.5
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("mark", [b"*", b"~", b"%"], ids=["array", "set", "map"])
def test_a_list_is_refused_where_the_command_has_none(mark: bytes) -> None:
    with pytest.raises(InvalidResponse):
        all_of([mark + b"1\r\n"], answers=bytes)
    assert all_of([mark + b"0\r\n"], answers=(bytes, list)) == [[]]
    # Null is a type of its own.
    assert all_of([b"*-1\r\n"], answers=bytes) == [None]


def test_a_large_value_is_put_together_once() -> None:
    value = bytes(range(256)) * 8192
    wire = b"$%d\r\n%b\r\n" % (len(value), value)
    cpu = time.process_time()
    # 2 MiB in 21,000 pieces: put together again for each, it would be 20 GB.
    got = all_of(
        [wire[at : at + 100] for at in range(0, len(wire), 100)], limits=Limits(value_bytes=len(value))
    )
    assert got == [value]
    assert time.process_time() - cpu < 1


def test_what_was_taken_is_not_held() -> None:
    replies = Replies(Limits(value_bytes=2_000_000))
    replies.feed(encoded(b"x" * 1_000_000))
    assert len(replies.next(bytes)) == 1_000_000
    assert replies.next(bytes) is NOT_YET
    assert (replies._data, replies._pieces) == (b"", [])


async def test_redis_py_reads_with_it() -> None:
    connection = Connection(parser_class=HandshakeParser)
    stream = asyncio.StreamReader()
    connection._reader = stream
    parser: Any = connection._parser
    parser.on_connect(connection)
    assert not await parser.can_read()
    stream.feed_data(b"%1\r\n$5\r\nproto\r\n:3\r\n-LOADING wait\r\n+OK\r\n*4294967295\r\n")
    assert await parser.can_read()
    assert await parser.read_response() == {b"proto": 3}
    with pytest.raises(RedisConnectionError):
        await parser.read_response()
    assert await parser.read_response() == b"OK"
    assert await parser.can_read()
    with pytest.raises(InvalidResponse):
        await parser.read_response()
    parser.on_disconnect()
    assert await parser.can_read()
    with pytest.raises(RedisConnectionError):
        await HandshakeParser(1).read_response()
    connection._reader = None
