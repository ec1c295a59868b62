"""That an expression reads nothing as a message that the strict readers would not read so, and changes none of its bytes."""

import re
from itertools import product
from typing import Any

import pytest
from hypothesis import strategies as st

from proxy.policy.outcome import Handling, Outcome
from proxy.replies import Replies
from proxy.upstream import Exchange, Outgoing
from proxy.wire import request, response
from proxy.wire.fields import HOP_BY_HOP, Fields, end_to_end
from proxy.wire.request import BadRequest, Limits, RequestHead
from proxy.wire.response import Body
from proxy.wire.shape import Kept, answer_like, passed_on, request_like
from proxy.wire.via import with_via
from proxy.writing import head_of
from tests.fuzz.search import PATIENCE_S, search

_LIMITS = Limits(max_line=8190, max_field=8190, max_fields=128, max_head=65536)
_HANDLING = Handling(outcome=Outcome.BYPASS, forward="bypass", forward_status=200)

pytestmark = pytest.mark.timeout(PATIENCE_S)

_EXAMPLES = 600
_ENOUGH = 60
"""A search in which fewer examples look like anything has shown nothing."""


def everything(_: bytes) -> bool:
    return True


def nothing(_: bytes) -> bool:
    return False


# -- messages, right and nearly right --

_REQUEST_NAMES = (
    *(
        b"Accept",
        b"accept-language",
        b"Cookie",
        b"User-Agent",
        b"X-a",
        b"x-A",
        b"Keep-Alive",
    ),
    *(b"Connection", b"connection", b"If-None-Match", b"Range", b"Authorization", b"X!#$%&'*+.^_`|~"),
)
_ANSWER_NAMES = (
    *(b"Date", b"date", b"Content-Length", b"content-length", b"Content-Type", b"Server", b"Set-Cookie"),
    *(b"Connection", b"Keep-Alive", b"ETag", b"X-a", b"Age", b"Cache-Status", b"Vary"),
)
_ODD_NAMES = (
    b"Host",
    b"host",
    b"Transfer-Encoding",
    b"Upgrade",
    b"TE",
    b"Trailer",
    b"Proxy-Connection",
    b"Via",
    b"Expect",
)
_VALUES = (
    *(b"a", b"", b"a b", b"a\tb", b"keep-alive", b"Keep-Alive", b"close", b"keep-alive, x-a", b"timeout=5"),
    *(b"\xe4\xff", b"a, b", b"a:b", b"0", b"4", b"07", b"4 4", b"+4", b"chunked", b"a.test", b"[::1]:80"),
)
# What is in no value, or in none that is right.
_WRONG = (b"a\rb", b"a\nb", b"a\r\n b", b"a\r\n\tb", b"\x00", b"a\x7f", b"a\r\nX-a: b", b"\x1b")
_SPACES = (b" ", b" ", b" ", b"", b"\t", b"  ", b" \t ")
_ENDS = (b"", b"", b"", b" ", b"\t")


def _fields(names: tuple[bytes, ...]) -> st.SearchStrategy[tuple[tuple[bytes, ...], ...]]:
    """Lines as name, space, value, space: plain ones, among which there may be one that is not."""
    plain = st.tuples(
        st.sampled_from(names), st.just(b" "), st.sampled_from((b"a", b"keep-alive", *_VALUES)), st.just(b"")
    )
    odd = st.tuples(
        st.sampled_from((*names, *_ODD_NAMES)),
        st.sampled_from(_SPACES),
        st.sampled_from((*_VALUES, *_VALUES, *_WRONG)),
        st.sampled_from(_ENDS),
    )
    plain_ones = st.lists(plain, max_size=4)
    with_an_odd_one = st.tuples(st.lists(plain, max_size=2), odd, st.lists(plain, max_size=2)).map(
        lambda parts: [*parts[0], parts[1], *parts[2]]
    )
    return st.one_of(plain_ones, with_an_odd_one).map(tuple)


def _sent(first: bytes, lines: tuple[tuple[bytes, ...], ...]) -> bytes:
    return b"".join((first, b"\r\n", *(b"%b:%b%b%b\r\n" % line for line in lines), b"\r\n"))


_TARGETS = (
    *(b"/", b"/a?b=c", b"//x", b"/%zz", b"/\xff{}|", b"/..", b"*", b"http://a/b", b"/a b", b"/#a", b"", b"a"),
    b"/" + b"\x7f",
)
_VERSIONS = (*(b"HTTP/1.1",) * 12, b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ")
_requests = st.tuples(
    st.builds(
        b"%b %b %b".__mod__,
        st.tuples(
            st.sampled_from((b"GET", b"GET", b"GET", b"HEAD", b"get")),
            st.sampled_from((*_TARGETS[:6] * 3, *_TARGETS)),
            st.sampled_from(_VERSIONS),
        ),
    ),
    _fields(_REQUEST_NAMES).map(lambda lines: ((b"Host", b" ", b"a.test", b""), *lines))
    | _fields(_REQUEST_NAMES),
)
_STATUS_LINES = (
    *(
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 404 ",
        b"HTTP/1.1 500 \xe4h\tm",
        b"HTTP/1.1 204 No",
        b"HTTP/1.1 304 Not",
    ),
    *(b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.1 101 S", b"HTTP/1.1 600 X", b"HTTP/1.1  200 OK"),
    *(b"HTTP/1.1 2000 OK", b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 206 Partial", b"HTTP/1.1 503 Ill"),
)
_answers = st.tuples(
    st.sampled_from((*_STATUS_LINES[:5] * 3, *_STATUS_LINES)),
    _fields(_ANSWER_NAMES).map(
        lambda lines: ((b"Date", b" ", b"now", b""), *lines, (b"Content-Length", b" ", b"4", b""))
    )
    | _fields(_ANSWER_NAMES),
)


def _names(data: bytes) -> list[bytes]:
    """As whoever has read such a message before would have them."""
    return [line.partition(b":")[0] for line in data.split(b"\r\n")[1:-2]]


def _once_good(names: list[bytes]) -> bool:
    """Whether some request with these names is good: of no other is an expression made."""
    lines = b"".join(b"%b: %b\r\n" % (name, b"a" if name.lower() == b"host" else b"") for name in names)
    try:
        request.parse_head(b"GET / HTTP/1.1\r\n" + lines, _LIMITS)
    except BadRequest as error:
        return "Content-Length" in str(error) or "Transfer-Encoding" in str(error)
    return True


# -- requests --


def _read(data: bytes) -> RequestHead | None:
    """A request, or None where its refusal depends on values that count: those are known, or looked at apart (Host)."""
    try:
        return request.parse_head(data[:-2], _LIMITS)
    except BadRequest as error:
        if not re.search("Host|Content-Length|Transfer-Encoding|Connection", str(error)):
            raise
        return None


def test_whatever_looks_like_a_request_is_read_as_that_request() -> None:
    seen = 0

    def check(example: Any) -> None:
        nonlocal seen
        sent, like = example
        data = _sent(*sent)
        for method, names in product((b"GET", b"HEAD"), (_names(data), [line[0] for line in like[1]])):
            usable = all(names) and _once_good(names)
            found = request_like(method, names, everything).fullmatch(data) if usable else None
            if found is None or (head := _read(data)) is None:
                continue
            seen += 1
            target, *values = found.groups()
            fields = tuple(zip(names, (value.rstrip(b" \t") for value in values), strict=True))
            assert (head.method.encode(), head.target, head.http_1_0) == (method, target, False)
            assert head.fields == fields

    search(st.tuples(_requests, _requests), check, examples=_EXAMPLES)
    assert seen >= _ENOUGH


def test_a_good_request_in_origin_form_looks_like_itself() -> None:
    seen = 0

    def check(sent: Any) -> None:
        nonlocal seen
        data = _sent(*sent)
        try:
            head = request.parse_head(data[:-2], _LIMITS)
        except BadRequest:
            return
        if head.http_1_0 or not sent[0].split(b" ")[1].startswith(b"/"):
            return
        seen += 1
        names = [name for name, _ in head.fields]
        whole = request_like(head.method.encode(), names, everything).fullmatch(data)
        assert whole is not None
        assert whole[1] == head.target
        least = request_like(head.method.encode(), names, nothing).fullmatch(data)
        assert least is not None
        assert least.groups() == (head.target,)

    search(_requests, check, examples=_EXAMPLES)
    assert seen >= _ENOUGH


def test_only_the_values_that_count_are_told() -> None:
    data = b"GET /a?b HTTP/1.1\r\nA: 1 \r\nHost:\tx\r\nB:2\r\nhost: y\r\n\r\n"
    pattern = request_like(b"GET", [b"A", b"Host", b"B", b"host"], lambda name: name.lower() == b"host")

    found = pattern.fullmatch(data)
    assert found is not None
    assert found.groups() == (b"/a?b", b"x", b"y")


_PLAIN = b"GET /a HTTP/1.1\r\nHost: a\r\nX-a: b\r\nConnection: keep-alive\r\n\r\n"
_PLAIN_NAMES = (b"Host", b"X-a", b"Connection")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_PLAIN.replace(b"GET", b"HEAD"), id="another method"),
        pytest.param(_PLAIN.replace(b"GET", b"get"), id="a method in another case"),
        pytest.param(_PLAIN.replace(b" /a", b" http://a/a"), id="absolute form"),
        pytest.param(_PLAIN.replace(b" /a", b" *"), id="asterisk form"),
        pytest.param(_PLAIN.replace(b" /a", b" /a#b"), id="a fragment"),
        pytest.param(_PLAIN.replace(b" /a", b" /a\x00"), id="NUL in the target"),
        pytest.param(_PLAIN.replace(b" /a", b"  /a"), id="two spaces"),
        pytest.param(_PLAIN.replace(b" /a", b"\t/a"), id="a tab"),
        pytest.param(_PLAIN.replace(b"/1.1", b"/1.0"), id="HTTP/1.0"),
        pytest.param(_PLAIN.replace(b"/1.1", b"/1.1 "), id="space after the version"),
        pytest.param(_PLAIN.replace(b"X-a", b"x-a"), id="a name in another case"),
        pytest.param(_PLAIN.replace(b"X-a:", b"X-a :"), id="space before the colon"),
        pytest.param(_PLAIN.replace(b": b", b": b\r\n c"), id="a folded line"),
        pytest.param(_PLAIN.replace(b": b", b":\r\n b"), id="a folded line, first"),
        pytest.param(_PLAIN.replace(b": b", b": b\rc"), id="CR alone"),
        pytest.param(_PLAIN.replace(b": b", b": b\nc"), id="LF alone"),
        pytest.param(_PLAIN.replace(b": b\r\n", b": b\n"), id="a line that ends in LF"),
        pytest.param(_PLAIN.replace(b": b", b": \x00"), id="NUL"),
        pytest.param(_PLAIN.replace(b": b", b": \x7f"), id="DEL"),
        pytest.param(_PLAIN.replace(b"X-a: b\r\n", b""), id="a field less"),
        pytest.param(_PLAIN.replace(b"X-a: b", b"X-a: b\r\nX-b: c"), id="a field more"),
        pytest.param(_PLAIN.replace(b"X-a: b", b"X-a: b\r\nHost: b"), id="two Hosts"),
        pytest.param(_PLAIN.replace(b"Host: a\r\nX-a: b", b"X-a: b\r\nHost: a"), id="another order"),
        pytest.param(_PLAIN + b"G", id="the first byte of another"),
        pytest.param(_PLAIN[:-2], id="no end"),
        pytest.param(b"\r\n" + _PLAIN, id="an empty line before it"),
    ],
)
def test_what_is_not_the_same_does_not_look_like_it(data: bytes) -> None:
    kept = passed_on(b"GET", _PLAIN_NAMES)
    assert kept is not None
    for pattern in (request_like(b"GET", _PLAIN_NAMES, everything), kept.pattern):
        assert pattern.fullmatch(_PLAIN) is not None
        assert pattern.fullmatch(data) is None


# -- requests that are passed on --


def _passed(data: bytes, kept: Kept) -> bytes | None:
    """What `passing` sends of a request."""
    found = kept.pattern.fullmatch(data)
    return (
        None
        if found is None
        else b"".join(found.group(*kept.pieces) if len(kept.pieces) > 1 else (found[1],))
    )


def test_what_is_passed_on_in_pieces_is_what_is_sent_the_slow_way() -> None:
    seen = 0

    def check(sent: Any) -> None:
        nonlocal seen
        data = _sent(*sent)
        names = _names(data)
        kept = passed_on(b"GET", names) if all(names) and _once_good(names) else None
        if kept is None or (pieces := _passed(data, kept)) is None or (head := _read(data)) is None:
            return
        seen += 1
        slowly = Outgoing(method=head.method, target=head.target, fields=with_via(end_to_end(head.fields)))
        assert slowly.head() == pieces + b"Via: 1.1 crowdgate\r\n\r\n"
        assert (head.body, head.keep_alive) == (Body.NONE, True)
        assert (head.expects_continue, head.websocket) == (False, False)

    search(_requests, check, examples=_EXAMPLES)
    assert seen >= _ENOUGH


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP - {b"connection", b"keep-alive"} | {b"via", b"expect"}))
def test_what_needs_a_closer_look_is_not_passed_on_in_pieces(name: bytes) -> None:
    assert passed_on(b"GET", (b"Host", b"Accept")) is not None
    assert passed_on(b"GET", (b"Host", name.title(), b"Accept")) is None


@pytest.mark.parametrize(
    "names",
    [
        pytest.param((b"Accept",), id="no Host"),
        pytest.param((b"Host", b"hOST"), id="two"),
        pytest.param((b"Host", b"Content-Length"), id="a body"),
        pytest.param((b"Host", b"CONTENT-length", b"Content-Length"), id="two of them"),
    ],
)
def test_nor_is_what_may_be_read_in_two_ways(names: tuple[bytes, ...]) -> None:
    assert passed_on(b"GET", names) is None


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"X-a:b", id="no space"),
        pytest.param(b"X-a:  b", id="two"),
        pytest.param(b"X-a:\tb", id="a tab"),
        pytest.param(b"X-a: b ", id="space at the end"),
        pytest.param(b"X-a: b\t", id="a tab at the end"),
        pytest.param(b"X-a:", id="nothing, without a space"),
        pytest.param(b"X-a: b\r\nConnection: close", id="an end"),
    ],
)
def test_what_would_have_to_be_written_otherwise_is_not(line: bytes) -> None:
    kept = passed_on(b"GET", _PLAIN_NAMES)
    assert kept is not None
    assert kept.pattern.fullmatch(_PLAIN) is not None
    assert kept.pattern.fullmatch(_PLAIN.replace(b"X-a: b", line)) is None


@pytest.mark.parametrize(
    "said",
    [b"close", b"keep-alive, close", b"X-a", b"keep-alive,", b"keep-alive ", b"upgrade", b"keep-alivE\t"],
)
def test_of_connection_only_that_it_stays_is_understood(said: bytes) -> None:
    kept = passed_on(b"GET", _PLAIN_NAMES)
    assert kept is not None
    assert kept.pattern.fullmatch(_PLAIN.replace(b"keep-alive", b"KEEP-alive")) is not None
    assert kept.pattern.fullmatch(_PLAIN.replace(b"keep-alive", said)) is None


# -- answers --


def _shown(data: bytes, kept: Kept) -> tuple[bytes, int, int] | None:
    """What `passing` makes of an answer's head, its status and the length of its body."""
    found = kept.pattern.match(data)
    if found is None:
        return None
    head = b"".join(found.group(*kept.pieces) if len(kept.pieces) > 1 else (found[1],))
    return head, int(found[kept.status]), int(found[kept.length])


class _Told(Exchange):
    """An answer of which only the head is needed."""

    def __init__(self, head: response.ResponseHead) -> None:
        self.head = head


def test_an_answer_in_pieces_is_what_is_written_the_slow_way() -> None:
    seen, replies = 0, Replies(transparent=False, now=0.0)

    def check(sent: Any) -> None:
        nonlocal seen
        data = _sent(*sent)
        kept = answer_like(_names(data)) if all(_names(data)) else None
        if kept is None or (shown := _shown(data, kept)) is None:
            return
        written, status, length = shown
        if status in (204, 304):
            # They are left to the slow way (`passing`): no Content-Length goes out with a 204.
            return
        seen += 1
        head = response.parse_head(data[:-4], method="GET")
        answer = replies.live(_Told(head), _HANDLING, route="r")
        assert (head.body, head.length, head.status) == (Body.LENGTH, length, status)
        assert (head.keep_alive, head.version, answer.length_known) == (True, b"HTTP/1.1", True)
        assert head_of(answer) == b"%b%b\r\n" % (written, replies.said(_HANDLING))

    search(_answers, check, examples=_EXAMPLES)
    assert seen >= _ENOUGH


_ANSWER = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 4\r\nConnection: keep-alive\r\nX-a: b\r\n\r\n"
_OF_ANSWER = (b"Date", b"Content-Length", b"Connection", b"X-a")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_ANSWER.replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(_ANSWER.replace(b"200 OK", b"200"), id="no reason"),
        pytest.param(_ANSWER.replace(b"200 OK", b"100 OK"), id="1xx"),
        pytest.param(_ANSWER.replace(b"200 OK", b"600 OK"), id="600"),
        pytest.param(_ANSWER.replace(b"200 OK", b"2000 OK"), id="four digits"),
        pytest.param(_ANSWER.replace(b"200 OK", b"200 O\nK"), id="LF in the reason"),
        pytest.param(_ANSWER.replace(b": 4", b":4"), id="a length without a space"),
        pytest.param(_ANSWER.replace(b": 4", b": 4 "), id="a length with one behind it"),
        pytest.param(_ANSWER.replace(b": 4", b": +4"), id="a length with a sign"),
        pytest.param(_ANSWER.replace(b": 4", b": 4, 4"), id="two lengths"),
        pytest.param(_ANSWER.replace(b": 4", b": "), id="none"),
        pytest.param(_ANSWER.replace(b": 4", b": " + b"9" * 19), id="one beyond 64 bits"),
        pytest.param(_ANSWER.replace(b"keep-alive", b"close"), id="Connection: close"),
        pytest.param(_ANSWER.replace(b"keep-alive", b"keep-alive, X-a"), id="Connection names a field"),
        pytest.param(_ANSWER.replace(b": b", b":b"), id="no space"),
        pytest.param(_ANSWER.replace(b": b", b": b "), id="space behind a value"),
        pytest.param(_ANSWER.replace(b": b", b": b\r\n c"), id="a folded line"),
        pytest.param(_ANSWER.replace(b": b", b": b\rc"), id="CR alone"),
        pytest.param(_ANSWER.replace(b": b", b": b\nc"), id="LF alone"),
        pytest.param(_ANSWER.replace(b": b", b": b\r\nTransfer-Encoding: chunked"), id="chunked"),
        pytest.param(_ANSWER.replace(b": b", b": b\r\nContent-Length: 4"), id="a second length"),
        pytest.param(_ANSWER[:-2], id="no end"),
    ],
)
def test_an_answer_that_is_not_as_plain_does_not_look_like_it(data: bytes) -> None:
    kept = answer_like(_OF_ANSWER)
    assert kept is not None
    assert kept.pattern.match(_ANSWER) is not None
    assert kept.pattern.match(_ANSWER + b"body") is not None
    assert kept.pattern.match(data) is None


@pytest.mark.parametrize(
    "names",
    [
        pytest.param((b"Content-Length", b"X-a"), id="no Date"),
        pytest.param((b"Date", b"X-a"), id="no length"),
        pytest.param((b"Date", b"Content-Length", b"content-length"), id="two"),
        *(
            pytest.param((b"Date", b"Content-Length", name), id=name.decode())
            for name in sorted(HOP_BY_HOP - {b"connection", b"keep-alive"})
        ),
    ],
)
def test_of_answers_that_need_a_closer_look_nothing_is_made(names: tuple[bytes, ...]) -> None:
    assert answer_like((b"date", b"CONTENT-LENGTH")) is not None
    assert answer_like(names) is None


def test_whatever_looks_like_an_answer_is_read_as_that_answer() -> None:
    seen = 0

    def check(example: Any) -> None:
        nonlocal seen
        sent, like = example
        data = _sent(*sent)
        for names in (_names(data), [line[0] for line in like[1]]):
            kept = answer_like(names) if all(names) else None
            if kept is None or (shown := _shown(data, kept)) is None:
                continue
            seen += 1
            head = response.parse_head(data[:-4], method="GET")
            assert [name for name, _ in head.fields] == list(names)
            assert head.status == shown[1]

    search(st.tuples(_answers, _answers), check, examples=_EXAMPLES)
    assert seen >= _ENOUGH


def _lines(head: bytes) -> Fields:
    return tuple(
        (name, value) for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[1:-1])
    )


def test_what_ends_at_this_hop_is_taken_out_wherever_it_stands() -> None:
    lines = {
        b"Connection": b"keep-alive", b"Host": b"a", b"Keep-Alive": b"5", b"X": b"1", b"connection": b"Keep-Alive"
    }  # fmt: skip
    data = _sent(b"GET / HTTP/1.1", tuple((name, b" ", value, b"") for name, value in lines.items()))
    kept = passed_on(b"GET", tuple(lines))
    assert kept is not None
    passed = _passed(data, kept)

    assert passed is not None
    assert _lines(passed) == ((b"Host", b"a"), (b"X", b"1"))
