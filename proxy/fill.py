"""The work of a flight: look into Redis, ask the API, judge the answer, store it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import msgspec
from msgspec.structs import replace

from proxy.coalesce import Flight
from proxy.config import Config, sent_on
from proxy.leases import Ask, Early, Lease, Leases, Turn, pauses
from proxy.policy import freshness, validators
from proxy.policy.asked import provoking
from proxy.policy.cache_control import format_http_date
from proxy.policy.forwarded import without_forwarded
from proxy.policy.freshness import Use, Wanted
from proxy.policy.key import ANY_HOST, Key, variant
from proxy.policy.outcome import Outcome
from proxy.policy.ranges import said_part
from proxy.policy.storable import Asked, Lifetime, Refused, judge, may_be_the_requests
from proxy.policy.tags import response_tags
from proxy.purge_log import PurgeLog
from proxy.store.entry import Entry, Got
from proxy.store.tiers import Found, Tiers, variant_key
from proxy.upstream import Exchange, Outgoing
from proxy.upstream_connection import UpstreamError
from proxy.wire.fields import Fields, block, end_to_end, members, values, without
from proxy.wire.response import OUTAGES, ResponseHead, is_event_stream

# What an API answers while it fails; these, where stale-if-error allows it, are hidden behind what is stored (RFC 5861).
_FAILING = OUTAGES | {500}
# Fields by which an error is told apart; requests with more are made to be odd.
_MAX_PROVOKING = 32
# Under a storm of purges nothing that they bring is stored: whoever has waited for so many asks, too.
_MAX_HOLDERS = 2
# What a busy process takes to tell those who wait.
_MOMENT_S = 0.1
# An answer that could not be shared: for so long its like go to the API side by side instead of behind one another.
PASS_S = 5.0
# The API failed, maybe only that of one replica: the others try at once, and the next crowd behind one of them again.
_FAILED_S = 1.0
TOO_LARGE = "too large to store"
TOO_SLOW = "too slow to store"
NOT_MODIFIED = "not modified"
"""Why a 304 is for one client only: nothing is stored yet that it could be about."""


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that may be shared: it is stored, or was."""

    found: Found
    source: Outcome
    status: int = 0
    """Of the API's answer, if it was asked."""
    stored: bool = False
    shared: bool = False
    """Whether Redis has it, for the other replicas."""
    purged: bool = False
    """Whether a purge came while it was under way, so that it was not stored."""
    failure: str = ""
    """Why the API's own answer could not be had, where a stale one stands in."""
    own: bytes = b""
    """The head for the client whose request this was, where it holds what nobody else may see, or is more exact."""


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


class Fill(msgspec.Struct, frozen=True, kw_only=True):
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
    newer_than: int = -1
    """What is stored does only if the API was asked for it later than this (microseconds, by Redis' clock)."""
    ahead: bool = False
    """Nobody waits: where another replica is at it, leave it to that one."""
    kind: str = ""
    """Of what kind of requests one may wait for the other's answer."""
    turns: bool = False
    """Whether replicas ask one for all."""
    http_1_0: bool = False
    """The client's version, for Via."""
    conditional: bool = False
    """Where nothing is stored, ask under the client's own conditions: a 304 is for it, and costs the API less."""
    informational: Callable[[ResponseHead], None] | None = None
    """Where the API's 1xx answers go, if anywhere."""


class Fetcher:
    """Fills the store."""

    def __init__(
        self, tiers: Tiers, purge_log: PurgeLog, leases: Leases, *, clock: Callable[[], float]
    ) -> None:
        self._tiers = tiers
        self._log = purge_log
        self._leases = leases
        self._clock = clock

    async def fill(self, fill: Fill, flight: Flight[Landed]) -> Landed:
        """Land the flight with an answer, then finish what need not be waited for. Returns what was landed last."""
        takes_turns = fill.turns and self._tiers.shares(fill.key.route)
        early = self._leases.early(self._own_key(fill), fill.kind) if takes_turns else None
        try:
            found = await self._best_stored(fill)
            flight.forward = freshness.why_asked(
                found.times if found is not None else None,
                fill.wanted,
                self._clock(),
                varies=bool(self._tiers.own_key(fill.text, fill.fields)),
            )
            if (filled := self._will_do(fill, found, flight)) is not None:
                return filled
            if takes_turns:
                landed = await self._in_turn(fill, found, flight, early)
            else:
                landed = await self._ask(fill, found, flight)
        finally:
            if early is not None:
                early.leave()
        flight.land(landed)
        return landed

    def _own_key(self, fill: Fill) -> str:
        return self._tiers.own_key(fill.text, fill.fields) or fill.text

    def _will_do(self, fill: Fill, found: Found | None, flight: Flight[Landed]) -> Filled | None:
        """Land the flight with what is stored, if it is good enough. Returns it where the API need not be asked."""
        if found is None or fill.forced or found.entry.asked <= fill.newer_than:
            return None
        use = freshness.use(found.times, fill.wanted, self._clock())
        if use is Use.STALE:
            flight.land(Filled(found=found, source=Outcome.STALE))
        if use is not Use.FRESH:
            return None
        filled = Filled(found=found, source=Outcome.HIT_REDIS)
        flight.land(filled)
        return filled

    async def _in_turn(
        self, fill: Fill, found: Found | None, flight: Flight[Landed], early: Early | None
    ) -> Landed:
        """Ask the API if it is this replica's turn, else wait for what another one gets. Not for ever."""
        pause = pauses(self._leases.patience_s)
        holders: set[bytes] = set()
        while True:
            key = self._own_key(fill)
            if early is not None and early.key == key:
                taken = await early.take(has_seen=found is not None)
            else:
                taken = await self._leases.take(key, fill.kind)
            if early is not None:
                # It is another key's, or taken.
                early.leave()
                early = None
            if taken.lease is not None:
                return await self._ask_for_all(fill, found, flight, taken.lease)
            holders.add(taken.holder)
            if taken.turn is not Turn.THEIRS or len(holders) > _MAX_HOLDERS or not (pause_s := pause()):
                # No lease to be had, or waited long enough.
                return await self._ask(fill, found, flight)
            if fill.ahead and found is not None and self._is_fresh_for_a_moment(fill, found):
                return Filled(found=found, source=Outcome.HIT_REDIS)
            await asyncio.sleep(pause_s)
            found = await self._best_stored(fill)
            if (filled := self._will_do(fill, found, flight)) is not None:
                return filled

    def _is_fresh_for_a_moment(self, fill: Fill, found: Found) -> bool:
        """Whether those who have joined, and are told a little later, can still use it."""
        return freshness.use(found.times, fill.wanted, self._clock() + _MOMENT_S) is Use.FRESH

    async def _ask_for_all(
        self, fill: Fill, found: Found | None, flight: Flight[Landed], lease: Lease
    ) -> Landed:
        passed_s = _FAILED_S
        try:
            landed: Landed | None = None
            if lease.has_entry:
                # Whoever held it until now may have stored what we want.
                found = await self._best_stored(fill)
                landed = self._will_do(fill, found, flight)
            if landed is None:
                landed = await self._ask(fill, found, flight)
            passed_s = _passed_s(landed)
            return landed
        finally:
            self._leases.release(lease, passed_s=passed_s)

    async def _ask(self, fill: Fill, found: Found | None, flight: Flight[Landed]) -> Landed:
        # It may have been purged since it was found: then the API must not be asked whether it is still good.
        found = self._tiers.current(found) if found is not None else None
        landed = await self._from_api(fill, found, flight)
        if found is not None and isinstance(landed, Unshared) and _withdraws(fill, landed):
            if fill.wanted.api_asked:
                # Whoever has the API asked about what is fresh must not take it from the others: they ask themselves.
                self._expire(fill, found.entry)
            else:
                await self._withdraw(fill, found, flight, landed)
        return landed

    def ask(self) -> Ask:
        """To be called just before the API is asked for what may be stored."""
        return Ask(born=self._log.purges.last, at_us=self._leases.now_us(), started=monotonic())

    async def _withdraw(self, fill: Fill, found: Found, flight: Flight[Landed], landed: Landed) -> None:
        """Land with what came instead of a stored answer that is good no more."""
        self._tiers.forget(found.entry)
        flight.land(landed)
        await self._tiers.forget_shared(found.entry, fill.key.route)

    async def _best_stored(self, fill: Fill) -> Found | None:
        stored = await self._tiers.fetch(fill.text, fill.fields, fill.key.route, self._clock())
        # What memory had may have been purged while Redis was asked.
        recalled = self._tiers.current(fill.found) if fill.found is not None else None
        if stored is None or (fill.asked.personal and not stored.entry.explicit):
            return recalled
        if recalled is not None and recalled.entry.asked > stored.entry.asked:
            return recalled
        return stored

    async def _from_api(self, fill: Fill, found: Found | None, flight: Flight[Landed]) -> Landed:
        ask = self.ask()
        exchange: Exchange | None = None
        try:
            exchange = await fill.config.upstream.ask(
                _outgoing(fill, found), route=fill.key.route.name, informational=fill.informational
            )
            return await self._answered(fill, found, exchange, ask, flight)
        except UpstreamError as error:
            return self._stand_in(fill, found, error.kind) or Failed(error=error)
        except BaseException:
            if exchange is not None:
                exchange.abandon()
            raise

    async def _answered(
        self, fill: Fill, found: Found | None, exchange: Exchange, ask: Ask, flight: Flight[Landed]
    ) -> Landed:
        head = exchange.head
        if head.status in _FAILING and (instead := self._stand_in(fill, found, str(head.status))):
            exchange.abandon()
            return instead
        if head.status == 304 and found is not None:
            await exchange.read()
            if not _is_about(head, found.entry):
                # It speaks of another answer than ours: ask for that one (RFC 9111 section 4.3.4).
                return await self._from_api(replace(fill, conditional=False), None, flight)
            return await self._freshened(fill, found, head, ask, flight)
        if head.status == 304 and fill.conditional:
            return Unshared(exchange=exchange, reason=NOT_MODIFIED)
        return await self._new(fill, found, exchange, ask, flight)

    async def _new(
        self, fill: Fill, found: Found | None, exchange: Exchange, ask: Ask, flight: Flight[Landed]
    ) -> Landed:
        """Keep a new answer, if it may be kept."""
        head, now = exchange.head, self._clock()
        verdict = judge(fill.asked, head.status, head.fields, fill.key.route.settings, now)
        if isinstance(verdict, Refused):
            return Unshared(exchange=exchange, reason=verdict.reason)
        if may_be_the_requests(head.status) and found is not None and found.entry.status < 400:
            # Who knows why it failed; what is good stays good for the others.
            return Unshared(exchange=exchange, reason="error beside a good answer")
        if may_be_the_requests(head.status) and len(_varying(fill, head)) > _MAX_PROVOKING:
            return Unshared(exchange=exchange, reason="error to an odd request")
        if is_event_stream(head):
            return Unshared(exchange=exchange, reason="event stream")
        body = await self._whole_body(fill, exchange)
        if isinstance(body, str):
            return Unshared(exchange=exchange, reason=body)
        entry = make_entry(fill, head, body, verdict, got=ask.got(), now=now)
        own = _own(head, entry, now)
        filled = Filled(found=Found(entry=entry), source=Outcome.MISS, status=head.status, own=own)
        return await self._keep(fill, filled, flight)

    async def _freshened(
        self, fill: Fill, found: Found, head: ResponseHead, ask: Ask, flight: Flight[Landed]
    ) -> Landed:
        news, cookies = _parted(end_to_end(head.fields), fill)
        fields, verdict = self._updated(fill, found, head, news)
        filled = Filled(found=found, source=Outcome.REVALIDATED, status=304)
        if isinstance(verdict, Lifetime):
            entry = found.entry.living(verdict, fields=fields, tags=_tags(fill, fields), got=ask.got())
            filled = replace(filled, found=Found(entry=_moved(fill, head, entry)))
        if cookies or isinstance(verdict, Refused):
            # Good for whoever asked, but not for those after it.
            filled = replace(filled, own=block(fields + cookies))
        if isinstance(verdict, Lifetime):
            return await self._keep(fill, filled, flight)
        if not (fill.asked.personal or fill.asked.no_store):
            # It was everybody's until now; the API has just said that it is no longer.
            await self._withdraw(fill, found, flight, filled)
        return filled

    def _updated(
        self, fill: Fill, found: Found, head: ResponseHead, news: Fields
    ) -> tuple[Fields, Lifetime | Refused]:
        """A stored answer's fields as the API has just renewed them, and what may be done with it from now on."""
        now = self._clock()
        entry = found.entry
        fields = without(validators.freshened(entry.fields, _dated(news, now)), {b"age"})
        aged = fields + tuple((b"Age", age) for age in values(head.fields, b"age"))
        verdict = judge(fill.asked, entry.status, aged, fill.key.route.settings, now)
        if isinstance(verdict, Lifetime):
            fields = without(fields, verdict.withheld)
        return fields, verdict

    async def part(self, fill: Fill, exchange: Exchange, ask: Ask) -> Filled | None:
        """Store a 206, for requests for a part of that part. None if it may not be: all of it can still be read.

        Source: RFC 9111 section 3.3. Parts are neither put together nor completed.
        """
        head, now = exchange.head, self._clock()
        # As far as freshness goes it is the 200 whose part it is.
        verdict = judge(fill.asked, 200, head.fields, fill.key.route.settings, now)
        said = said_part(head.fields)
        if isinstance(verdict, Refused) or said is None:
            return None
        body = await self._whole_body(fill, exchange)
        if isinstance(body, str):
            return None
        entry = make_entry(fill, head, body, verdict, got=ask.got(), now=now)
        # In memory alone: a part is seldom asked for again, and never by so many.
        stored = said[0].size == len(body) and self._tiers.keep(entry, fill.text, fill.key.route, now)
        own = _own(head, entry, now)
        return Filled(found=Found(entry=entry), source=Outcome.MISS, status=206, stored=stored, own=own)

    async def _whole_body(self, fill: Fill, exchange: Exchange) -> bytes | str:
        limits = fill.config.settings
        if exchange.head.length > limits.memory.max_object:
            return TOO_LARGE
        return await read_whole(exchange, limits.memory.max_object, limits.upstream.timeout)

    def head_said(self, fill: Fill, found: Found, head: ResponseHead, ask: Ask) -> None:
        """Take in what a 200 to HEAD says of the stored answer to GET: it is renewed, or stale from now on.

        Only in memory, and without an await: the answer to HEAD is on its way to its client, and whatever was stored
        meanwhile is newer. Source: RFC 9111 section 4.3.5.
        """
        entry = found.entry
        # For any host the API is only asked under its own name; this was asked as the client asks.
        private = fill.asked.personal or fill.asked.no_store or fill.key.host == ANY_HOST
        if entry.status != 200 or private or _varies_anew(head, entry) or not self._tiers.holds(entry):
            return
        now = self._clock()
        match validators.compared(head.fields, entry.fields, len(entry.body)):
            case validators.Comparison.SAME:
                news, _ = _parted(end_to_end(head.fields), fill)
                # What kind of body it is the body's own answer has said.
                fields, verdict = self._updated(fill, found, head, without(news, {b"content-type"}))
                if isinstance(verdict, Lifetime):
                    renewed = entry.living(verdict, fields=fields, tags=_tags(fill, fields), got=ask.got())
                    self._tiers.keep(renewed, fill.text, fill.key.route, now)
            case validators.Comparison.OTHER:
                self._expire(fill, entry)
            case validators.Comparison.UNKNOWN:
                pass

    def _expire(self, fill: Fill, entry: Entry) -> None:
        """Make what is in memory stale: the API is asked about it before it is used again."""
        if self._tiers.holds(entry):
            now = self._clock()
            stale = msgspec.structs.replace(entry, fresh_until=min(now, entry.fresh_until))
            self._tiers.keep(stale, fill.text, fill.key.route, now)

    async def _keep(self, fill: Fill, filled: Filled, flight: Flight[Landed]) -> Landed:
        now = self._clock()
        entry, route = filled.found.entry, fill.key.route
        filled = replace(filled, stored=self._tiers.keep(entry, fill.text, route, now))
        flight.land(filled)
        if not filled.stored:
            return replace(filled, purged=True)
        return replace(filled, shared=await self._tiers.store(entry, fill.text, route, now))

    def _stand_in(self, fill: Fill, found: Found | None, failure: str) -> Filled | None:
        current = self._tiers.current(found) if found is not None else None
        if current is None or not freshness.usable_on_error(current.times, fill.wanted, self._clock()):
            return None
        return Filled(found=current, source=Outcome.STALE, failure=failure)


def _passed_s(landed: Landed) -> float:
    """For how long replicas should not wait for one another, after such an end; 0 where the next may be the one."""
    match landed:
        case Filled(purged=True) | Filled(shared=True) | Filled(source=Outcome.HIT_REDIS):
            return 0.0
        case Filled(source=Outcome.REVALIDATED, stored=False):
            return PASS_S
        case Filled():
            return _FAILED_S
        case Unshared(reason=reason) if reason == NOT_MODIFIED:
            return 0.0
        case Unshared(exchange=exchange):
            return _FAILED_S if may_be_the_requests(exchange.head.status) else PASS_S
        case Failed():
            return _FAILED_S


def _parted(fields: Fields, fill: Fill) -> tuple[Fields, Fields]:
    """Fields of a 304 or of an answer to HEAD for the stored answer, and those for the client that asked alone."""
    if fill.key.route.settings.store.set_cookie:
        return fields, ()
    cookies = tuple(field for field in fields if field[0].lower() == b"set-cookie")
    return without(fields, {b"set-cookie"}), cookies


def _is_about(head: ResponseHead, entry: Entry) -> bool:
    """Whether a 304 is about the stored answer.

    If it names other fields to vary by, only the same strong ETag says that this variant is the stored one.
    """
    same = validators.selects(head.fields, etag=entry.etag, last_modified=entry.last_modified)
    strong = entry.etag.startswith(b'"') and values(head.fields, b"etag")[:1] == [entry.etag]
    return same and (strong or not _varies_anew(head, entry))


def _varies_anew(head: ResponseHead, entry: Entry) -> set[str]:
    """The fields to vary by that the API names now, and that were not known of."""
    return {name.decode("latin-1") for name in members(head.fields, b"vary")}.difference(entry.vary)


def _moved(fill: Fill, head: ResponseHead, entry: Entry) -> Entry:
    """The entry under the key of its variant, where a 304 names fields to vary by that were not known of."""
    news = _varies_anew(head, entry)
    if not news:
        return entry
    moved = msgspec.structs.replace(entry, vary=tuple(sorted(news.union(entry.vary))))
    return msgspec.structs.replace(moved, key=variant_key(fill.text, moved, fill.fields))


def _own(head: ResponseHead, entry: Entry, now: float) -> bytes:
    """The API's head for the client whose request it answers; empty where it is what is stored."""
    sent = _measured(_dated(end_to_end(head.fields), now), head.status, len(entry.body))
    lines = block(sent)
    return b"" if lines == entry.head else lines


def _withdraws(fill: Fill, unshared: Unshared) -> bool:
    """Whether an answer that can't be stored ends the stored one: it is gone, say, or private from now on.

    One to a personal request says nothing about everybody's, an error may be about the request, a cookie for one client
    makes the rest no worse, and who knows what would have come in time.
    """
    if fill.asked.personal or fill.asked.no_store or unshared.reason in {"set-cookie", TOO_SLOW}:
        return False
    return not may_be_the_requests(unshared.exchange.head.status)


async def read_whole(exchange: Exchange, limit: int, slow_s: float) -> bytes | str:
    """The body, if it is at most `limit` bytes and comes within `slow_s`; else why not, and all of it can still be read."""
    pieces: list[bytes] = []
    size = 0
    # Whoever sends a byte now and then must not keep all who wait for the whole.
    deadline = monotonic() + slow_s
    while piece := await exchange.read():
        pieces.append(piece)
        size += len(piece)
        if size > limit or monotonic() > deadline:
            exchange.unread(b"".join(pieces))
            return TOO_LARGE if size > limit else TOO_SLOW
    return b"".join(pieces)


def make_entry(  # noqa: PLR0913 - an entry is made of all of these, in one place
    fill: Fill, head: ResponseHead, body: bytes, lifetime: Lifetime, *, got: Got, now: float
) -> Entry:
    """What is stored of an answer. Its Age is ours to say from now on, and its length is known."""
    names = _varying(fill, head)
    fields = without(end_to_end(head.fields), lifetime.withheld | {b"age"})
    fields = _measured(_dated(fields, now), head.status, len(body))
    return Entry(
        key=variant(fill.text, names, fill.fields) if names else fill.text,
        route=fill.key.route.name,
        url=fill.key.url.decode("utf-8", "surrogateescape"),
        tags=_tags(fill, head.fields),
        born=got.born,
        asked=got.asked,
        took_s=got.took_s,
        status=head.status,
        reason=head.reason,
        lines=block(fields),
        generated=lifetime.generated,
        fresh_until=lifetime.fresh_until,
        revalidate_s=lifetime.revalidate_s,
        error_s=lifetime.error_s,
        keep_until=lifetime.keep_until,
        explicit=lifetime.explicit,
        binds=lifetime.binds,
        vary=tuple(name.decode("latin-1") for name in names),
        body=body,
    )


def _varying(fill: Fill, head: ResponseHead) -> tuple[bytes, ...]:
    """By which request fields the answer varies: those that it says, and those by which it plainly does."""
    names = set(members(head.fields, b"vary"))
    allowed = values(head.fields, b"access-control-allow-origin")
    if allowed and allowed[0] in values(fill.fields, b"origin"):
        # An API that repeats the origin that asks, and forgets to say so.
        names.add(b"origin")
    if may_be_the_requests(head.status):
        names |= provoking(fill.fields, head.status)
    return tuple(sorted(names))


def _tags(fill: Fill, fields: Fields) -> tuple[str, ...]:
    return fill.tags + response_tags(fields, fill.key.host)


def _dated(fields: Fields, now: float) -> Fields:
    # RFC 9110 section 6.6.1: whoever stores an answer without Date adds the time at which it came.
    return fields if values(fields, b"date") else (*fields, (b"Date", format_http_date(now)))


def _measured(fields: Fields, status: int, size: int) -> Fields:
    if status == 204:
        # It has none, whatever it says (RFC 9110 section 8.6).
        return without(fields, {b"content-length"})
    if values(fields, b"content-length"):
        return fields
    return (*fields, (b"Content-Length", b"%d" % size))


# The client's own conditions are answered from the store, and its wish for a part of it is not asked for all.
_NOT_SHARED = validators.CONDITIONS | {b"range"}


def _outgoing(fill: Fill, found: Found | None) -> Outgoing:
    conditional = fill.conditional and found is None
    fields = end_to_end(fill.fields)
    if not conditional:
        fields = without(fields, _NOT_SHARED)
    if fill.key.host == ANY_HOST:
        fields = without_forwarded(without(fields, {b"host"}))
    if found is not None:
        fields += validators.revalidation(found.entry.etag, found.entry.last_modified)
    fields = sent_on(fill.config, fields, http_1_0=fill.http_1_0)
    return Outgoing(method="GET", target=fill.target, fields=fields)
