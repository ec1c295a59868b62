"""What a client gets: from the store, from the API as it speaks, or a short problem where there is nothing to be had."""

from dataclasses import dataclass

import msgspec

from proxy.messages import Answer, Incoming, problem
from proxy.policy import validators
from proxy.policy.cache_control import format_http_date
from proxy.policy.freshness import Times
from proxy.policy.outcome import FROM_MEMORY, FROM_REDIS, Handling, cache_status
from proxy.policy.ranges import Part, Whole, content_range, part_of, part_of_part, said_part
from proxy.store.tiers import Found
from proxy.upstream import Exchange
from proxy.upstream_connection import UpstreamError
from proxy.wire.fields import Fields, block, end_to_end, first, from_block, members, names_of, values, without
from proxy.wire.response import Body


def _of(handling: Handling) -> bytes:
    """What is said of a fresh answer, for its age and ttl to be put in: a hundred thousand times a second."""
    return b"Age: %%d\r\nCache-Status: %b\r\n" % cache_status(handling, ttl_s=0).replace(b"ttl=0", b"ttl=%d")


_OF_MEMORY, _OF_REDIS = _of(FROM_MEMORY), _of(FROM_REDIS)


class Replies(msgspec.Struct, frozen=True, kw_only=True):
    """Makes answers at an instant (`now`, Unix seconds). `transparent` leaves Cache-Status out."""

    transparent: bool
    now: float

    def stored(
        self,
        incoming: Incoming,
        found: Found,
        handling: Handling,
        *,
        route: str,
        own: bytes = b"",
    ) -> Answer:
        """An answer from the store, or as much of it as the client needs.

        `own` is the head that the API has just sent for this very client, where it says more than what was stored.
        """
        entry, times = found.entry, found.times
        if handling is FROM_MEMORY or handling is FROM_REDIS:
            extra = self.of_store(times, handling)
        else:
            extra = self.said(handling, ttl_s=int(times.effective_fresh_until - self.now))
            age = max(0, int(self.now - entry.generated))
            # RFC 9111 section 5.1: Age says that the API was not asked. What it has just said has none.
            if not own and (age or not handling.forward):
                extra = b"Age: %d\r\n" % age + extra
        head = own or entry.head
        # A part that the API has just sent is what it made of the request, whatever that asked for.
        reusable = entry.status == 200 or (entry.status == 206 and not handling.forward)
        lesser = _lesser(incoming, found, head, self.now) if reusable else None
        if lesser is not None and lesser.status == 416:
            detail = "the stored answer has no such range"
            return problem(416, detail, handling=handling, route=route, extra=lesser.head + extra)
        body = b"" if incoming.method == "HEAD" else entry.body
        shown = lesser or _Shown(status=entry.status, reason=entry.reason, head=head, body=body)
        return Answer(
            status=shown.status,
            reason=shown.reason,
            head=shown.head + extra,
            body=shown.body,
            handling=handling,
            route=route,
        )

    def of_store(self, times: Times, handling: Handling) -> bytes:
        """What is added to the head of a fresh answer (FROM_MEMORY, FROM_REDIS): all of it that changes with time."""
        age = max(0, int(self.now - times.generated))
        if self.transparent:
            return b"Age: %d\r\n" % age
        said = _OF_MEMORY if handling is FROM_MEMORY else _OF_REDIS
        return said % (age, int(times.effective_fresh_until - self.now))

    def live(self, exchange: Exchange, handling: Handling, *, route: str) -> Answer:
        """The API's answer, its body yet to come."""
        head = exchange.head
        if head.status == 101:
            # Connection and Upgrade are what this answer is about.
            lines, length_known = block(head.fields), True
        else:
            fields = end_to_end(head.fields)
            if head.status == 204:
                # A client that believes it would take the next answer for this one's body (RFC 9110 section 8.6).
                fields = without(fields, {b"content-length"})
            if not values(fields, b"date"):
                fields += ((b"Date", format_http_date(self.now)),)
            lines = block(fields) + self.said(handling)
            length_known = head.body in {Body.NONE, Body.LENGTH}
        return Answer(
            status=head.status,
            reason=head.reason,
            head=lines,
            body=exchange,
            handling=handling,
            route=route,
            length_known=length_known,
        )

    def failed(self, error: UpstreamError, handling: Handling, *, route: str) -> Answer:
        """No answer was to be had."""
        extra = self.said(handling)
        if error.status == 503:
            extra += b"Retry-After: 1\r\n"
        return problem(error.status, str(error), handling=handling, route=route, extra=extra)

    def said(self, handling: Handling, ttl_s: int | None = None) -> bytes:
        """What is added to an answer's head about how it was come by: Cache-Status."""
        if self.transparent:
            return b""
        return b"Cache-Status: %s\r\n" % cache_status(handling, ttl_s=ttl_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What is shown of a stored answer."""

    status: int
    reason: bytes
    head: bytes
    body: bytes = b""


_ASKS_FOR_LESS = validators.CONDITIONS | {b"range"}


def _lesser(incoming: Incoming, found: Found, head: bytes, now: float) -> _Shown | None:
    """A 304, a part, or that there is no such part; None where the client gets the whole.

    Conditions go before ranges (RFC 9110 section 13.2.2).
    """
    request = incoming.fields
    if names_of(request).isdisjoint(_ASKS_FOR_LESS):
        return None
    entry, fields = found.entry, from_block(head)
    modified = first(fields, b"last-modified") or first(fields, b"date")
    condition = validators.evaluate(request, etag=first(fields, b"etag"), last_modified=modified, now=now)
    if condition is validators.Condition.NOT_MODIFIED:
        return _Shown(status=304, reason=b"Not Modified", head=block(validators.for_304(fields)))
    if incoming.method == "HEAD" or b"none" in members(fields, b"accept-ranges"):
        return None
    if entry.status == 206:
        return _part_of_part(request, fields, entry.body, now)
    return _part_of_whole(request, fields, entry.body, now)


def _part_of_whole(request: Fields, fields: Fields, body: bytes, now: float) -> _Shown | None:
    size = len(body)
    part = part_of(request, fields, size, now=now)
    if part is Whole.WHOLE:
        return None
    if part is Whole.UNSATISFIABLE:
        head = block(((b"Content-Range", content_range(None, size)),))
        return _Shown(status=416, reason=b"Range Not Satisfiable", head=head)
    return _partial(fields, part, size, body[part.first : part.last + 1])


def _part_of_part(request: Fields, fields: Fields, body: bytes, now: float) -> _Shown | None:
    found, held = part_of_part(request, fields, now=now), said_part(fields)
    if found is None or held is None:
        return None
    part, size = found
    begin = part.first - held[0].first
    return _partial(fields, part, size, body[begin : begin + part.size])


def _partial(fields: Fields, part: Part, size: int, piece: bytes) -> _Shown:
    fields = (
        *without(fields, {b"content-length", b"content-range"}),
        (b"Content-Range", content_range(part, size)),
        (b"Content-Length", b"%d" % len(piece)),
    )
    return _Shown(status=206, reason=b"Partial Content", head=block(fields), body=piece)
