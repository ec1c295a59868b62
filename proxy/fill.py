"""The work of a flight: look into Redis, ask the API, judge the answer, store it."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from proxy.coalesce import Flight
from proxy.config import Config
from proxy.policy import freshness, validators
from proxy.policy.cache_control import format_http_date
from proxy.policy.freshness import Use, Wanted
from proxy.policy.key import ANY_HOST, Key, variant
from proxy.policy.outcome import Outcome
from proxy.policy.storable import Asked, Lifetime, Refused, judge
from proxy.policy.tags import response_tags
from proxy.purge_log import PurgeLog
from proxy.store.entry import Entry, first
from proxy.store.tiers import Found, Tiers
from proxy.upstream import Exchange, Outgoing
from proxy.upstream_connection import UpstreamError
from proxy.wire.fields import Fields, block, end_to_end, members, values, without
from proxy.wire.request import with_host
from proxy.wire.response import ResponseHead, is_event_stream

# What an API answers while it fails; these, where stale-if-error allows it, are hidden behind what is stored (RFC 5861).
_FAILING = frozenset({500, 502, 503, 504})
_TOO_MANY = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """An answer that may be shared: it is stored, or was."""

    found: Found
    source: Outcome
    status: int = 0
    """Of the API's answer, if it was asked."""
    stored: bool = False
    failure: str = ""
    """Why the API's own answer could not be had, where a stale one stands in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unshared:
    """An answer for one client only, its body still to be read."""

    exchange: Exchange
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """No answer to be had."""

    error: UpstreamError

    @classmethod
    def by_defect(cls, error: BaseException) -> "Failed":
        """For whoever waits on work that ended in a defect of ours (logged by its task), or was cancelled."""
        return cls(error=UpstreamError("defect", 502, f"the fetch ended early ({type(error).__name__})"))


Landed = Filled | Unshared | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """What to fetch, and for what kind of request."""

    config: Config
    key: Key
    text: str
    tags: tuple[str, ...]
    asked: Asked
    wanted: Wanted
    fields: Fields
    target: bytes
    found: Found | None = None
    """What memory has, not fresh enough as it is."""
    forced: bool = False
    """Ask the API whatever is stored."""


class Fetcher:
    """Fills the store."""

    def __init__(self, tiers: Tiers, purge_log: PurgeLog, *, clock: Callable[[], float]) -> None:
        self._tiers = tiers
        self._log = purge_log
        self._clock = clock

    async def fill(self, fill: Fill, flight: Flight[Landed]) -> Landed:
        """Land the flight with an answer, then finish what need not be waited for. Returns what was landed last."""
        found = await self._best_stored(fill)
        use = freshness.use(found.times, fill.wanted, self._clock()) if found is not None else Use.GONE
        if (
            found is not None
            and not fill.forced
            and use in {Use.FRESH, Use.STALE}
            and found is not fill.found
        ):
            filled = Filled(found=found, source=Outcome.HIT_REDIS if use is Use.FRESH else Outcome.STALE)
            flight.land(filled)
            if use is Use.FRESH:
                return filled
        if fill.wanted.only_if_cached:
            failed = Failed(
                error=UpstreamError("only_if_cached", 504, "only-if-cached, and nothing is stored")
            )
            flight.land(failed)
            return failed
        landed = await self._from_api(fill, found, flight)
        withdrawn = found if isinstance(landed, Unshared) and _withdraws(fill, landed) else None
        if withdrawn is not None:
            self._tiers.forget(withdrawn.entry)
        flight.land(landed)
        if withdrawn is not None:
            await self._tiers.forget_shared(withdrawn.entry, fill.key.route)
        return landed

    async def _best_stored(self, fill: Fill) -> Found | None:
        stored = await self._tiers.fetch(fill.text, fill.fields, fill.key.route, self._clock())
        if stored is None or (fill.asked.personal and not stored.entry.explicit):
            return fill.found
        if fill.found is not None and fill.found.entry.generated >= stored.entry.generated:
            return fill.found
        return stored

    async def _from_api(self, fill: Fill, found: Found | None, flight: Flight[Landed]) -> Landed:
        born = self._log.purges.last
        exchange: Exchange | None = None
        try:
            exchange = await fill.config.upstream.ask(_outgoing(fill, found), route=fill.key.route.name)
            return await self._answered(fill, found, exchange, born, flight)
        except UpstreamError as error:
            return self._stand_in(found, error.kind) or Failed(error=error)
        except BaseException:
            if exchange is not None:
                exchange.abandon()
            raise

    async def _answered(
        self, fill: Fill, found: Found | None, exchange: Exchange, born: int, flight: Flight[Landed]
    ) -> Landed:
        head, now = exchange.head, self._clock()
        if head.status in _FAILING and (instead := self._stand_in(found, str(head.status))):
            exchange.abandon()
            return instead
        if head.status == 304 and found is not None:
            await exchange.read()
            if not validators.selects(head.fields, found.entry.etag):
                # It speaks of another answer than ours: ask for that one (RFC 9111 section 4.3.4).
                return await self._from_api(fill, None, flight)
            return await self._freshened(fill, found, head, born, flight)
        verdict = judge(fill.asked, head.status, head.fields, fill.key.route.settings, now)
        if isinstance(verdict, Refused):
            return Unshared(exchange=exchange, reason=verdict.reason)
        if is_event_stream(head):
            return Unshared(exchange=exchange, reason="event stream")
        limit = fill.config.settings.memory.max_object
        slow_s = fill.config.settings.upstream.timeout
        body = None if head.length > limit else await read_whole(exchange, limit, slow_s)
        if body is None:
            return Unshared(exchange=exchange, reason="too large or too slow to store")
        entry = make_entry(fill, head, body, verdict, born=born, now=now)
        return await self._keep(fill, entry, flight, source=Outcome.MISS, status=head.status)

    async def _freshened(
        self, fill: Fill, found: Found, head: ResponseHead, born: int, flight: Flight[Landed]
    ) -> Landed:
        now = self._clock()
        fields = validators.freshened(found.entry.fields, end_to_end(head.fields))
        fields = without(_dated(fields, now), {b"age"})
        aged = fields + tuple((b"Age", age) for age in values(head.fields, b"age"))
        verdict = judge(fill.asked, found.entry.status, aged, fill.key.route.settings, now)
        if isinstance(verdict, Refused):
            # Good for those who wait, and for nobody after them.
            return Filled(found=found, source=Outcome.REVALIDATED, status=304)
        entry = found.entry.living(verdict, fields=fields, head=block(fields), born=born)
        return await self._keep(fill, entry, flight, source=Outcome.REVALIDATED, status=304)

    async def _keep(
        self, fill: Fill, entry: Entry, flight: Flight[Landed], *, source: Outcome, status: int
    ) -> Landed:
        now = self._clock()
        stored = self._tiers.keep(entry, fill.text, fill.key.route, now)
        filled = Filled(found=Found(entry=entry), source=source, status=status, stored=stored)
        flight.land(filled)
        if stored:
            await self._tiers.store(entry, fill.text, fill.key.route, now)
        return filled

    def _stand_in(self, found: Found | None, failure: str) -> Filled | None:
        if found is None or not freshness.usable_on_error(found.times, self._clock()):
            return None
        return Filled(found=found, source=Outcome.STALE, failure=failure)


def _withdraws(fill: Fill, unshared: Unshared) -> bool:
    """Whether an answer that can't be stored ends the stored one: it is gone, say, or private from now on.

    One to a personal request says nothing about everybody's, one that only failed says nothing at all, and a cookie for
    one client makes the rest no worse.
    """
    if fill.asked.personal or fill.asked.no_store or unshared.reason == "set-cookie":
        return False
    status = unshared.exchange.head.status
    return status not in _FAILING and status != _TOO_MANY


async def read_whole(exchange: Exchange, limit: int, slow_s: float) -> bytes | None:
    """The body, if it is at most `limit` bytes and comes within `slow_s`; else None, and all of it can still be read."""
    pieces: list[bytes] = []
    size = 0
    # Whoever sends a byte now and then must not keep all who wait for the whole.
    deadline = monotonic() + slow_s
    while piece := await exchange.read():
        pieces.append(piece)
        size += len(piece)
        if size > limit or monotonic() > deadline:
            exchange.unread(b"".join(pieces))
            return None
    return b"".join(pieces)


def make_entry(  # noqa: PLR0913 - an entry is made of all of these, in one place
    fill: Fill, head: ResponseHead, body: bytes, lifetime: Lifetime, *, born: int, now: float
) -> Entry:
    """What is stored of an answer. Its Age is ours to say from now on, and its length is known."""
    names = tuple(sorted(set(members(head.fields, b"vary"))))
    fields = _dated(without(end_to_end(head.fields), {b"age"}), now)
    if not values(fields, b"content-length") and head.status != 204:
        fields += ((b"Content-Length", str(len(body)).encode()),)
    return Entry(
        key=variant(fill.text, names, fill.fields) if names else fill.text,
        route=fill.key.route.name,
        url=fill.key.url.decode("utf-8", "surrogateescape"),
        tags=fill.tags + response_tags(head.fields),
        born=born,
        status=head.status,
        reason=head.reason,
        head=block(fields),
        etag=first(fields, b"etag"),
        last_modified=first(fields, b"last-modified"),
        generated=lifetime.generated,
        fresh_until=lifetime.fresh_until,
        revalidate_s=lifetime.revalidate_s,
        error_s=lifetime.error_s,
        keep_until=lifetime.keep_until,
        explicit=lifetime.explicit,
        vary=tuple(name.decode("latin-1") for name in names),
        body=body,
    )


def _dated(fields: Fields, now: float) -> Fields:
    # RFC 9110 section 6.6.1: whoever stores an answer without Date adds the time at which it came.
    return fields if values(fields, b"date") else (*fields, (b"Date", format_http_date(now)))


# The client's own conditions are answered from the store, and its wish for a part of it is not asked for all.
_NOT_SHARED = validators.CONDITIONS | {b"range", b"content-length"}


def _outgoing(fill: Fill, found: Found | None) -> Outgoing:
    fields = without(end_to_end(fill.fields), _NOT_SHARED)
    if fill.key.host == ANY_HOST:
        fields = without(fields, {b"host"})
    fields = with_host(fields, fill.config.upstream.authority)
    if found is not None:
        fields += validators.revalidation(found.entry.etag, found.entry.last_modified)
    return Outgoing(method="GET", target=fill.target, fields=fields)
