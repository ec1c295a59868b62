"""The head of a client's request: bytes to a value, strictly, and how long its body is.

What two readers could understand differently is refused, never repaired: the API would see another request than was
matched, keyed and answered here. `parse_head` reads a head that is whole, `HeadReader` one that comes in pieces.
"""

import ipaddress
import re
from dataclasses import dataclass

import msgspec

from proxy.wire.fields import TOKEN, Fields, from_lines, keeps_alive, members, values, without
from proxy.wire.response import DIGITS, Body


class BadRequest(Exception):
    """A request that is refused; the message says why, without its bytes. `status` is what the client gets."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest head that is read, in bytes, and its most fields."""

    max_line: int
    max_field: int
    max_fields: int
    max_head: int
    """All of it, with the empty line at its end."""


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """Request line and fields."""

    method: str
    target: bytes
    """In origin form, or `*`."""
    http_1_0: bool
    fields: Fields
    """As they were sent, but for Host where the target was in absolute form."""
    body: Body
    """NONE, LENGTH or CHUNKED."""
    length: int
    """Bytes of the body where `body` is LENGTH, else 0."""
    keep_alive: bool
    expects_continue: bool
    websocket: bool
    """Whether it asks for a WebSocket, and for nothing else: what follows it may not be HTTP."""


# Possessive (`++`), but never of a group: Python 3.11.2, which Debian 12 has, matches those wrongly.

# -- the request line --

# What is in no URI but sent all the same (`|`, `{`, bytes above ASCII) passes; `#` never reaches a server.
_LINE = re.compile(rb"(%b++) ([\x21\x22\x24-\x7e\x80-\xff]++) HTTP/([0-9]\.[0-9])" % TOKEN)
_TOKEN = re.compile(rb"%b++" % TOKEN)
# 32: the longest that is registered (UPDATEREDIRECTREF) has 17.
_MAX_METHOD = 32
_ABSOLUTE = re.compile(rb"https?://([^/?]*+)(.*+)", re.IGNORECASE | re.DOTALL)

# RFC 3986 section 3.2.2, without the comma: it would be a list of hosts to whoever joins fields.
_HOST = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|[A-Za-z0-9._~!$&'()*+;=%-]++)"
    rb"(?::(?:[0-9]{0,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
)
_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")

# -- the fields --

_DECIDING = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"}
)
# What these say is a word or three. It is looked at more than once, and each member by itself.
_OPTIONS = frozenset({b"connection", b"upgrade", b"expect", b"transfer-encoding"})
_MAX_OPTIONS = 512
# Who asks, for what, on whose behalf, and whether a cache may answer. If a client could have the next hop drop one of
# these (RFC 9110 section 7.6.1), it would be another request than was answered here.
_END_TO_END = frozenset(
    b"""
    host content-length transfer-encoding content-type content-encoding content-range expect
    authorization proxy-authorization cookie origin referer from user-agent
    cache-control pragma age expires vary date
    range if-range if-match if-none-match if-modified-since if-unmodified-since
    accept accept-encoding accept-language accept-charset
    forwarded via max-forwards x-real-ip x-client-ip x-original-url x-rewrite-url
    x-http-method x-http-method-override x-method-override
    """.split()
)
_FORWARDED = b"x-forwarded-"


def parse_head(head: bytes, limits: Limits) -> RequestHead:
    """A head as a value: its lines, each with its CRLF, without the empty one that closes it.

    Raises BadRequest. Source: RFC 9112 sections 2, 3, 5, 6 and 9.
    """
    first, _, lines = head.partition(b"\r\n")
    method, target, http_1_0 = _request_line(first, limits)
    fields = _fields(lines, limits)
    deciding: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        key = name.lower()
        if key in _DECIDING:
            deciding.setdefault(key, []).append(value)
    hosts = deciding.get(b"host", [])
    if len(hosts) != 1 and (hosts or not http_1_0):
        raise BadRequest(400, "a request needs one Host")
    if hosts and not is_host(hosts[0]):
        raise BadRequest(400, "the request's Host is no host")
    for name in _OPTIONS & deciding.keys():
        if sum(map(len, deciding[name])) > _MAX_OPTIONS:
            raise BadRequest(431, "more is asked of this hop than anybody could mean")
    body, length = _framing(deciding, http_1_0=http_1_0)
    options = _connection(fields) if b"connection" in deciding else ()
    if target[:1] != b"/":
        target, fields = _origin_form(method, target, fields)
    return RequestHead(
        method=method,
        target=target,
        http_1_0=http_1_0,
        fields=fields,
        body=body,
        length=length,
        keep_alive=keeps_alive(options, http_1_0=http_1_0),
        # RFC 9110 section 10.1.1: of an HTTP/1.0 client it means nothing.
        expects_continue=not http_1_0
        and b"expect" in deciding
        and b"100-continue" in members(fields, b"expect"),
        # Upgrade beside a body is nothing that we know how to pass on safely: then it is a plain request.
        websocket=b"upgrade" in options
        and (method, http_1_0, body) == ("GET", False, Body.NONE)
        and members(fields, b"upgrade") == [b"websocket"],
    )


def _request_line(line: bytes, limits: Limits) -> tuple[str, bytes, bool]:
    """Method, target, and whether it is of HTTP/1.0."""
    if len(line) > limits.max_line:
        raise BadRequest(414, "the request's first line is longer than client.max_line")
    found = _LINE.fullmatch(line)
    if found is None:
        raise BadRequest(400, "malformed request line")
    method, target, version = found.groups()
    if version not in {b"1.1", b"1.0"}:
        raise BadRequest(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if len(method) > _MAX_METHOD:
        raise BadRequest(501, "no method is as long as this")
    if method == b"CONNECT":
        raise BadRequest(405, "CONNECT is not for this server")
    return method.decode("ascii"), target, version == b"1.0"


def is_host(host: bytes) -> bool:
    """Whether it can be a Host: a name or an address, and perhaps a port."""
    found = _HOST.fullmatch(host)
    if found is None or found[1] is None:
        return found is not None and not _NO_ESCAPE.search(host)
    try:
        ipaddress.IPv6Address(found[1].decode("ascii"))
    except ValueError:
        return False
    return True


def _fields(lines: bytes, limits: Limits) -> Fields:
    # Before anything is read: what is too large must cost no more than being counted.
    if lines.count(b"\n") > limits.max_fields:
        raise BadRequest(431, "the request has more fields than client.max_fields")
    if len(lines) > limits.max_field and max(map(len, lines.split(b"\r\n"))) > limits.max_field:
        raise BadRequest(431, "a field of the request is longer than client.max_field")
    fields = from_lines(lines)
    if fields is None:
        raise BadRequest(400, "malformed header field")
    if b"_" in lines:
        # WSGI and CGI tell no `_` from `-`: Content_Length would be a second Content-Length behind us.
        odd = [name for name, _ in fields if b"_" in name]
        if any(_decides(name.lower().replace(b"_", b"-")) for name in odd):
            raise BadRequest(400, "a field's name would be taken for another's")
    return fields


def _decides(name: bytes) -> bool:
    return name in _END_TO_END or name.startswith(_FORWARDED)


def _connection(fields: Fields) -> list[bytes]:
    options = members(fields, b"connection")
    if any(map(_decides, options)):
        raise BadRequest(400, "Connection names a field that is not of this hop")
    return options


def _framing(deciding: dict[bytes, list[bytes]], *, http_1_0: bool) -> tuple[Body, int]:
    lengths = deciding.get(b"content-length", [])
    codings = deciding.get(b"transfer-encoding", [])
    if len(lengths) > 1 or (lengths and not DIGITS.match(lengths[0])):
        raise BadRequest(400, "malformed or repeated Content-Length")
    if not codings:
        return (Body.LENGTH, int(lengths[0])) if lengths else (Body.NONE, 0)
    if lengths or http_1_0:
        raise BadRequest(400, "Transfer-Encoding beside Content-Length or on HTTP/1.0")
    if len(codings) > 1:
        raise BadRequest(400, "repeated Transfer-Encoding")
    *others, last = [coding.strip() for coding in codings[0].lower().split(b",")]
    if last != b"chunked" or b"chunked" in others or not all(map(_TOKEN.fullmatch, others)):
        raise BadRequest(400, "malformed Transfer-Encoding")
    if others:
        # `gzip, chunked` and its like: right, but nothing that we take off.
        raise BadRequest(501, "no Transfer-Encoding but chunked is understood")
    return Body.CHUNKED, 0


def _origin_form(method: str, target: bytes, fields: Fields) -> tuple[bytes, Fields]:
    """A target in absolute form as path and query, with Host as it says; `*` where that is allowed.

    So that `GET http://api/events` is the same request as `GET /events` to routes, keys and purges, and so that no Host
    but the target's own is believed. Raises BadRequest for anything else. Source: RFC 9112 section 3.2.
    """
    if target == b"*" and method == "OPTIONS":
        return target, fields
    found = _ABSOLUTE.fullmatch(target)
    if found is None or not is_host(found[1]):
        raise BadRequest(400, "malformed request target")
    authority, rest = found.groups()
    if not rest and method == "OPTIONS":
        rest = b"*"
    elif not rest.startswith(b"/"):
        rest = b"/" + rest
    return rest, ((b"Host", authority), *without(fields, {b"host"}))


def with_host(fields: Fields, authority: bytes) -> Fields:
    """The fields, and Host where the client (of HTTP/1.0) sent none: HTTP/1.1 needs one (RFC 9112 section 3.2)."""
    return fields if values(fields, b"host") else ((b"Host", authority), *fields)


# -- a head that comes in pieces --

_END = b"\r\n\r\n"
# What is in no head, beside a CR or LF alone: so its end need not be waited for.
_CONTROL = bytes({*range(32), 127} - set(b"\t\r\n"))


class HeadReader:
    """Cuts heads out of what a client sends, however it is split. No byte is looked at for every one that follows it.

    What can't become a good head is refused as soon as that is known, not when its end has come.
    """

    __slots__ = ("_blank", "_buffer", "_fields", "_limits", "_line_at")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._blank = False
        self._fields = -1
        """Lines that are whole, but for the request line: -1 while that is not."""
        self._line_at = 0

    @property
    def begun(self) -> bool:
        """Whether part of a head has come."""
        return bool(self._buffer)

    @property
    def at_start(self) -> bool:
        """Whether nothing has come since the last head, not even an empty line."""
        return not (self._buffer or self._blank)

    def feed(self, data: bytes, place: int = 0) -> tuple[RequestHead | None, int]:
        """The next head, if it is whole, and the place in `data` up to which it was read. Raises BadRequest."""
        if not self._buffer:
            while data.startswith(b"\r\n", place):
                self._skip_blank()
                place += 2
            end = data.find(_END, place, place + self._limits.max_head)
            if end >= 0:
                self._blank = False
                return parse_head(data[place : end + 2], self._limits), end + len(_END)
        return self._piece(data, place)

    def forget(self) -> None:
        """What has come of a head, which nobody will read on."""
        self._buffer = bytearray()

    def _skip_blank(self) -> None:
        # RFC 9112 section 2.2: one, of clients that end a body with what does not belong to it.
        if self._blank:
            raise BadRequest(400, "empty lines before the request")
        self._blank = True

    def _piece(self, data: bytes, place: int) -> tuple[RequestHead | None, int]:
        buffer, known = self._buffer, len(self._buffer)
        # 2 more: an empty line may go, and what was left out here would be lost.
        buffer += data[place : place + self._limits.max_head + 2]
        if buffer.startswith(b"\r\n"):
            self._skip_blank()
            del buffer[:2]
            known -= 2
        end = buffer.find(_END, max(0, known - 3), self._limits.max_head)
        if end < 0:
            self._check(max(0, known))
            return None, len(data)
        head = bytes(buffer[: end + 2])
        self._buffer, self._blank, self._fields, self._line_at = bytearray(), False, -1, 0
        return parse_head(head, self._limits), place + end + len(_END) - known

    def _check(self, known: int) -> None:
        """Whether what has come may become a head. All up to `known` has been looked at."""
        buffer = self._buffer
        if known and buffer[known - 1 : known] == b"\r":
            known -= 1
        news = buffer[known:]
        lines = news.count(b"\n")
        if lines:
            if self._fields < 0:
                _request_line(bytes(buffer[: buffer.find(b"\n", known) - 1]), self._limits)
            self._fields += lines
            self._line_at = buffer.rfind(b"\n", known) + 1
        self._check_sizes()
        ends = news.count(b"\r\n")
        alone = news.count(b"\r") - news.endswith(b"\r") != ends or lines != ends
        if alone or len(news.translate(None, _CONTROL)) != len(news):
            raise BadRequest(400, "a control character, or an end of line that is none")

    def _check_sizes(self) -> None:
        limits = self._limits
        # Less 1: what came last may be a part of its end.
        size = len(self._buffer) - self._line_at - 1
        if self._fields < 0 and size > limits.max_line:
            raise BadRequest(414, "the request's first line is longer than client.max_line")
        if self._fields > limits.max_fields or (self._fields >= 0 and size > limits.max_field):
            raise BadRequest(
                431, "a field of the request is longer than client.max_field, or there are too many"
            )
        if len(self._buffer) >= limits.max_head:
            raise BadRequest(431, "the request's head is larger than client.max_head")
