"""The head of an API's answer: bytes to a value, strictly, and how long its body is.

An answer that two readers could understand differently is refused whole: it would be stored and given to everybody.
"""

import re
from enum import Enum
from http import HTTPStatus

import msgspec

from proxy.wire.fields import TOKEN, Fields, combined, from_lines, keeps_alive, members, values

OUTAGES = frozenset({502, 503, 504})
"""That the API, or a proxy before it, can't answer anybody; a 500 may be one request's doing."""


class BadResponse(Exception):
    """The API's answer is no HTTP/1.x; the message says what is wrong, without its bytes."""


class Body(Enum):
    """How the end of a body is known (RFC 9112 section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class ResponseHead(msgspec.Struct, frozen=True, kw_only=True):
    """Status line and fields of an answer."""

    version: bytes
    status: int
    reason: bytes
    fields: Fields
    body: Body
    length: int
    """Bytes of the body where `body` is LENGTH, else 0."""
    keep_alive: bool


_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\Z")
_SPACED = re.compile(rb"^(%b++)[ \t]++:" % TOKEN, re.MULTILINE)
DIGITS = re.compile(rb"[0-9]{1,18}\Z")
"""A Content-Length: digits, and no more of them than fit into 64 bits."""


def parse_head(head: bytes, *, method: str) -> ResponseHead:
    """A head, without its closing empty line, as a value.

    `method` is the request's: an answer to HEAD has no body. Raises BadResponse.
    Source: RFC 9112 sections 4, 5 and 6.
    """
    first, end, lines = head.partition(b"\r\n")
    line = _STATUS_LINE.match(first)
    if line is None:
        raise BadResponse("malformed status line")
    fields = from_lines(lines + end)
    if fields is None:
        # A server must not send it, and a proxy must take it away (RFC 9112 section 5.1).
        fields = from_lines(_SPACED.sub(rb"\1:", lines + end))
    if fields is None:
        raise BadResponse("malformed header field")
    version, status, reason = line[1], int(line[2]), common_reason(line[3] or b"")
    body, length = _framing(version, status, fields, method)
    options = members(fields, b"connection")
    return ResponseHead(
        version=version,
        status=status,
        reason=reason,
        fields=fields,
        body=body,
        length=length,
        keep_alive=body is not Body.CLOSE and keeps_alive(options, http_1_0=version == b"HTTP/1.0"),
    )


_REASONS = {reason: reason for reason in (status.phrase.encode() for status in HTTPStatus)}


def common_reason(reason: bytes) -> bytes:
    """The same, of which there is only one in memory where it is a usual one."""
    return _REASONS.get(reason, reason)


def _framing(version: bytes, status: int, fields: Fields, method: str) -> tuple[Body, int]:
    lengths = values(fields, b"content-length")
    codings = values(fields, b"transfer-encoding")
    if len(lengths) > 1 or (lengths and not DIGITS.match(lengths[0])):
        raise BadResponse("malformed or repeated Content-Length")
    if codings and (lengths or version != b"HTTP/1.1"):
        raise BadResponse("Transfer-Encoding beside Content-Length or on HTTP/1.0")
    if codings and [coding.lower() for coding in codings] != [b"chunked"]:
        raise BadResponse("a Transfer-Encoding other than chunked")
    if method == "HEAD" or status < 200 or status in (204, 304):
        return Body.NONE, 0
    if codings:
        return Body.CHUNKED, 0
    if lengths:
        return Body.LENGTH, int(lengths[0])
    return Body.CLOSE, 0


def is_event_stream(head: ResponseHead) -> bool:
    """Server-sent events: quiet for long by nature."""
    return (combined(head.fields, b"content-type") or b"").lower().startswith(b"text/event-stream")
