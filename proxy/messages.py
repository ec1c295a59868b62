"""What a lane hands to the handler, and what it gets back to write."""

from collections.abc import AsyncIterator, Callable
from functools import cached_property

import msgspec
import orjson

from proxy.policy.asked import ordinary
from proxy.policy.outcome import Handling
from proxy.upstream import Exchange
from proxy.wire.fields import Fields
from proxy.wire.response import ResponseHead


class Incoming(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A client's request, its bytes as they were sent."""

    method: str
    target: bytes
    fields: Fields
    body: AsyncIterator[bytes] | None = None
    whole: bytes = b""
    """All of the body, if it is here already."""
    chunked: bool = False
    expects_continue: bool = False
    websocket: bool = False
    http_1_0: bool = False
    informational: Callable[[ResponseHead], None] | None = None
    """Where the API's 1xx answers go, if anywhere."""
    again: bool = False
    """It was sent before, over a connection that the API closed without a word."""

    @cached_property
    def path(self) -> str:
        """The target without its query, for matching routes; any byte survives."""
        return self.target.partition(b"?")[0].decode("utf-8", "surrogateescape")

    @cached_property
    def ordinary(self) -> bool:
        """See `policy.asked.ordinary`; only whoever asks the API for an answer to share needs it."""
        return ordinary(self.fields)


class Answer(msgspec.Struct, kw_only=True):
    """What the client gets."""

    status: int
    reason: bytes
    head: bytes
    """Fields as lines, ours included, without framing that isn't the API's own Content-Length."""
    body: bytes | Exchange
    """Whole, or still to be read from the API by whoever writes the answer."""
    handling: Handling
    route: str
    length_known: bool = True
    """Whether the head says how long the body is."""
    close: bool = False


_TITLES = {
    400: b"Bad Request",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    508: b"Loop Detected",
}


def problem(status: int, detail: str, *, handling: Handling, route: str, extra: bytes = b"") -> Answer:
    """An error of ours, as RFC 9457 has it. `detail` must hold nothing that the client or the API sent."""
    title = _TITLES[status]
    body = orjson.dumps({"title": title.decode(), "status": status, "detail": detail, "source": "crowdgate"})
    head = (
        b"Content-Type: application/problem+json\r\nCache-Control: no-store\r\nContent-Length: %d\r\n"
        % len(body)
    )
    return Answer(status=status, reason=title, head=head + extra, body=body, handling=handling, route=route)
