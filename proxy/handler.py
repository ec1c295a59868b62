"""One request: route, key, memory, then one flight for all who want the same (Redis, the API, store), answer.

No `await` stands between the look into memory and joining the flight. Whatever can't be stored is nobody's but the one
client's who asked; whatever fails is answered from what is stored, where that is allowed, or with a short problem.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import count
from math import inf
from random import random
from typing import Any

import msgspec
from cachetools import TTLCache
from msgspec.structs import replace

from proxy.coalesce import Flight, Flights
from proxy.config import Config
from proxy.fill import NOT_MODIFIED, PASS_S, Failed, Fetcher, Fill, Filled, Landed, Unshared
from proxy.forward import Forwarder
from proxy.leases import Leases
from proxy.messages import Answer, Incoming, problem
from proxy.metrics import EARLY, NO_ROUTE, Metrics
from proxy.policy import freshness
from proxy.policy.asked import asked, bypass_reason, conditions, request_directives, wishes
from proxy.policy.freshness import ANYTHING, Use, Wanted, is_due
from proxy.policy.key import Key, key_of
from proxy.policy.outcome import Handling, Outcome
from proxy.policy.ranges import part_of_part
from proxy.policy.routes import Match, Route
from proxy.policy.storable import Asked, may_be_the_requests
from proxy.purge_log import PurgeLog
from proxy.replies import Replies
from proxy.store.entry import Entry
from proxy.store.tiers import Found, Tiers, variant_key
from proxy.tasks import Tasks
from proxy.upstream import Exchange
from proxy.upstream_connection import UpstreamError
from proxy.wire.fields import values
from proxy.wire.response import OUTAGES, ResponseHead
from proxy.wire.via import hops, hops_left

# A refresh that failed is not tried again for so long: stale answers go on, the API gets a rest.
_COOL_S = 1.0
# A client's copy was good and ours is missing: whoever comes so soon after it makes the API send the whole.
_WHOLE_S = 60.0
# Another replica is refreshing it: its popularity need not be told to Redis by every request until then.
_THEIRS_S = 0.1
# 20,000 keys are about 4 MB; beyond it the oldest marks are forgotten, which costs a wait, not an error.
_MAX_MARKS = 20_000
# Some sidecars in a row are a service that calls a service; this many are a circle.
_MAX_HOPS = 10


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """A cacheable request with everything that was worked out about it."""

    incoming: Incoming
    match: Match
    key: Key
    text: str
    wanted: Wanted
    asked: Asked
    variant: str = ""
    """Its variant's key, once it is known by which headers the answer varies."""
    alone: str = ""
    """Something like no other, where nobody else is to wait for its answer."""
    conditions: str = ""
    """Digest of the client's own conditions, where the API is to be asked under them."""

    @property
    def route(self) -> Route:
        return self.match.route

    @property
    def is_partial(self) -> bool:
        """Whether it asks for less than what is stored, so that its own answer is not to be stored."""
        return self.incoming.method == "HEAD" or bool(values(self.incoming.fields, b"range"))

    @property
    def part(self) -> "Lookup | None":
        """The lookup for a stored part, if it asks for one that may have been stored."""
        fields = self.incoming.fields
        if self.incoming.method != "GET" or not values(fields, b"range") or values(fields, b"if-range"):
            return None
        return replace(self, text=f"{self.text}:part")

    @property
    def kind(self) -> str:
        """Who may wait for the same answer: personal requests only with their like, so forced ones, so odd ones."""
        personal = ":personal" if self.asked.personal else ""
        forced = ":forced" if self.wanted.api_asked else ""
        odd = "" if self.incoming.ordinary else ":odd"
        return f"{personal}{forced}{odd}"

    @property
    def like(self) -> str:
        """What all have in common who may wait for the same answer."""
        return f"{self.variant or self.text}{self.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmed:
    """How the fetch of a warm resource ended."""

    result: str
    """`ok`, or what went wrong."""
    asked: int = 0
    """When the API was asked for what is stored now (see `Entry`)."""
    age_s: float = 0.0
    """Seconds since then."""
    fresh_s: float | None = None
    """Seconds for which it is fresh; None where nothing was fetched."""
    took_s: float = 0.0
    """How long the API took."""


@dataclass(frozen=True, slots=True)
class _Passed:
    """A request that goes to the API as it is."""

    match: Match | None
    forward: str
    """As in `Handling`."""
    detail: str


class _Early:
    """Passes the API's 1xx answers to the client that made it speak, as long as that one waits for the final answer."""

    def __init__(self, incoming: Incoming) -> None:
        self._tell = incoming.informational

    def __call__(self, head: ResponseHead) -> None:
        if self._tell is not None:
            self._tell(head)

    def end(self) -> None:
        self._tell = None


Begun = Answer | Coroutine[Any, Any, Answer]
"""An answer, or what is to be awaited for it."""


class Handler:
    """Answers requests. `config` may be replaced at any time; each request uses the one it began with."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        config: Config,
        tiers: Tiers,
        purge_log: PurgeLog,
        leases: Leases,
        metrics: Metrics,
        *,
        tasks: Tasks,
        clock: Callable[[], float],
    ) -> None:
        self.config = config
        self._tiers = tiers
        self._log = purge_log
        self._leases = leases
        self._metrics = metrics
        self._clock = clock
        self._flights: Flights[Landed] = Flights(tasks, failed=Failed.by_defect)
        self._fetcher = Fetcher(tiers, purge_log, leases, clock=clock)
        self._forwarder = Forwarder(purge_log, tasks)
        self._numbers = count()
        self._passed: TTLCache[str, bool] = TTLCache(_MAX_MARKS, PASS_S, timer=clock)
        self._cooling: TTLCache[str, bool] = TTLCache(_MAX_MARKS, _COOL_S, timer=clock)
        self._theirs: TTLCache[str, bool] = TTLCache(_MAX_MARKS, _THEIRS_S, timer=clock)
        """What another replica is refreshing ahead of time."""
        self._whole: TTLCache[str, bool] = TTLCache(_MAX_MARKS, _WHOLE_S, timer=clock)
        """Whether the API is to send the whole: True after a 304 for a client's copy, False where it can't be stored."""
        self._under: dict[str, str] = {}
        """Under which conditions a flight is asking."""

    async def answer(self, incoming: Incoming) -> Answer:
        """Answer a request. Raises ClientBodyError where the client's own body fails, and nothing else."""
        begun = self.begin(incoming)
        return begun if isinstance(begun, Answer) else await begun

    def begin(self, incoming: Incoming) -> Begun:
        """The answer, where there is nothing to wait for; else what is to be awaited for it (see `answer`)."""
        config = self.config
        match self._asked_for(config, incoming):
            case Lookup() as lookup:
                return self._cached(config, lookup)
            case _Passed() as passed:
                return self._pass(config, incoming, passed.match, passed.forward, detail=passed.detail)
            case answer:
                return answer

    def _asked_for(self, config: Config, incoming: Incoming) -> "Lookup | _Passed | Answer":
        if hops(incoming.fields) >= _MAX_HOPS:
            handling = Handling(outcome=Outcome.ERROR, detail="loop")
            return problem(508, "the request goes round in circles", handling=handling, route=NO_ROUTE)
        if hops_left(incoming.method, incoming.fields) == 0:
            return self._last_hop()
        match = config.routes.find(incoming.method, incoming.path)
        if match is None or not match.route.caches or incoming.method not in {"GET", "HEAD"}:
            forward = "bypass" if incoming.method in {"GET", "HEAD"} else "method"
            return _Passed(match, forward, "")
        reason = bypass_reason(incoming.target, incoming.fields, has_body=incoming.body is not None)
        if reason:
            return _Passed(match, "bypass", reason)
        lookup = self._look_up(config, incoming, match)
        return _Passed(match, "request", "no-store") if lookup.asked.no_store else lookup

    # -- from memory, again and again --

    def known(self, incoming: Incoming) -> Lookup | None:
        """What it takes to answer the same request from memory again; None where it is not as plain as that."""
        asked_for = self._asked_for(self.config, incoming)
        if isinstance(asked_for, Lookup) and asked_for.wanted is ANYTHING:
            return asked_for
        return None

    def chosen(self, incoming: Incoming, chance: float) -> None:
        """A request may be the one to have its answer refreshed ahead of time (see `freshness.is_due`)."""
        lookup = self.known(incoming)
        now = self._clock()
        found = None if lookup is None else self._recalled(lookup, now)
        if lookup is not None and found is not None and found.every_s is not inf:
            self._refresh_early(self.config, lookup, found, now, chance)

    def _look_up(self, config: Config, incoming: Incoming, match: Match) -> Lookup:
        route = match.route.settings
        said = request_directives(incoming.fields, route)
        key = key_of(match.route, incoming.target, incoming.fields, hostless=config.hostless)
        return Lookup(
            incoming=incoming,
            match=match,
            key=key,
            text=key.text,
            wanted=wishes(incoming.fields, said, route),
            asked=asked(incoming.fields, said, route, now=self._clock()),
        )

    async def warm(
        self, incoming: Incoming, *, forced: bool = False, newer_than: int = -1, again: bool = False
    ) -> Warmed:
        """Fetch what a request asks for into the store. Raises nothing.

        A fresh stored answer is good enough, if the API was asked for it later than `newer_than` (`Warmed.asked`); unless
        `forced`. With `again` what memory has is read from Redis again, so that it is not let go of.
        """
        config = self.config
        match = config.routes.find("GET", incoming.path)
        if match is None or not match.route.caches:
            return Warmed(result="no route that caches matches its path")
        lookup = self._look_up(config, incoming, match)
        now = self._clock()
        found = self._tiers.recall(lookup.text, incoming.fields, now)
        new = found is not None and not forced and not again and found.entry.asked > newer_than
        if found is not None and new and freshness.use(found.times, lookup.wanted, now) is Use.FRESH:
            return self._warmed("ok", found)
        if again and found is not None:
            newer_than = found.entry.asked - 1
        # Where clients' flights may only bring what is stored, this one is none of theirs.
        apart = ":warm" if forced or not match.route.settings.memory else ""
        flight, _ = self._fly(config, lookup, found, apart=apart, forced=forced, newer_than=newer_than)
        match await flight.outcome():
            case Filled(found=filled, failure="", stored=stored, source=source):
                good = stored or source is Outcome.HIT_REDIS
                return self._warmed("ok" if good else "its answer was not stored", filled)
            case Filled(failure=failure):
                return Warmed(result=f"the API failed ({failure}); what was stored is kept")
            case Failed(error=error):
                return Warmed(result=str(error))
            case Unshared(reason=reason):
                return Warmed(result=f"its answer may not be stored ({reason})")

    def is_warm(self, incoming: Incoming) -> bool:
        """Whether memory has a fresh answer."""
        match = self.config.routes.find("GET", incoming.path)
        if match is None:
            return False
        lookup = self._look_up(self.config, incoming, match)
        now = self._clock()
        found = self._tiers.recall(lookup.text, incoming.fields, now)
        return found is not None and freshness.use(found.times, lookup.wanted, now) is Use.FRESH

    def _warmed(self, result: str, found: Found) -> Warmed:
        entry = found.entry
        return Warmed(
            result=result,
            asked=entry.asked,
            age_s=max(0.0, (self._leases.now_us() - entry.asked) / 1e6),
            fresh_s=found.times.effective_fresh_until - self._clock(),
            took_s=entry.took_s,
        )

    def forget_marks(self) -> None:
        """After the clock has jumped: what was to hold for a second might hold for an hour."""
        for marks in (self._passed, self._cooling, self._theirs, self._whole):
            marks.clear()

    # -- from the store --

    def _cached(self, config: Config, lookup: Lookup) -> Begun:
        now = self._clock()
        found = self._recalled(lookup, now)
        if found is None:
            own = self._tiers.own_key(lookup.text, lookup.incoming.fields)
        else:
            own = found.entry.key if found.entry.vary else ""
        if own:
            lookup = replace(lookup, variant=own)
        if (answer := self._from_store(config, lookup, found)) is not None:
            return answer
        times = found.times if found is not None else None
        forward = freshness.why_asked(times, lookup.wanted, now, varies=bool(own))
        if lookup.wanted.only_if_cached or lookup.is_partial:
            return self._not_to_be_stored(config, lookup, found, forward)
        if lookup.like in self._passed:
            # Nobody waits for anybody; but what may be stored is, so that this ends as soon as it can.
            lookup = replace(lookup, alone=f":alone{next(self._numbers)}")
        if found is None:
            lookup = replace(lookup, conditions=self._conditions(lookup))
        return self._coalesced(config, lookup, found, forward)

    async def _again(self, config: Config, lookup: Lookup) -> Answer:
        """What is stored now, or will be."""
        begun = self._cached(config, lookup)
        return begun if isinstance(begun, Answer) else await begun

    def _conditions(self, lookup: Lookup) -> str:
        """Under which of the client's conditions the API is asked while nothing is stored."""
        under = conditions(lookup.incoming.fields)
        if not under or self._whole.get(lookup.text) is True:
            return ""
        if lookup.alone:
            return under
        # One kind at a time: a crowd with as many copies as heads is one crowd, and wants the whole.
        return under if self._under.get(lookup.like, under) == under else ""

    def _recalled(self, lookup: Lookup, now: float) -> Found | None:
        found = self._tiers.recall(lookup.text, lookup.incoming.fields, now)
        return None if found is None or _not_for(lookup, found.entry) else found

    def _from_store(
        self, config: Config, lookup: Lookup, found: Found | None, *, tier: str = "memory"
    ) -> Answer | None:
        """An answer from what is stored, if that will do."""
        if found is None:
            return None
        now = self._clock()
        use = freshness.use(found.times, lookup.wanted, now)
        if use is Use.FRESH:
            if found.every_s is not inf:
                self._refresh_early(config, lookup, found, now, random())  # noqa: S311 - a die, not a secret
            return self._stored(lookup, found, Handling(outcome=_outcome(found, tier, now), detail=tier))
        cooling = lookup.like in self._cooling
        if use is Use.STALE:
            if not cooling and lookup.like not in self._passed and not lookup.wanted.only_if_cached:
                self._fly(config, lookup, found)
            return self._stored(lookup, found, Handling(outcome=Outcome.STALE, detail=tier))
        if cooling and freshness.usable_on_error(found.times, lookup.wanted, now):
            # The API has just failed: the next seconds' clients need not each wait for it to fail again.
            return self._stored(lookup, found, Handling(outcome=Outcome.STALE, detail="error-recent"))
        return None

    def _refresh_early(self, config: Config, lookup: Lookup, found: Found, now: float, chance: float) -> None:
        """One of the last requests before it expires has a popular answer refreshed, and waits for nothing."""
        took_s, every_s = found.entry.took_s, found.every_s
        if lookup.is_partial or not is_due(
            found.times, took_s=took_s, every_s=every_s, now=now, chance=chance
        ):
            return
        if any(lookup.like in marks for marks in (self._cooling, self._passed, self._theirs)):
            return
        _, leads = self._fly(config, lookup, found, ahead=True)
        if leads:
            self._metrics.count(EARLY, lookup.route.name)

    async def _not_to_be_stored(
        self, config: Config, lookup: Lookup, found: Found | None, forward: str
    ) -> Answer:
        """A request whose own answer is nothing to store: from Redis, or the API as it is."""
        if found is None:
            now = self._clock()
            shared = await self._tiers.fetch(lookup.text, lookup.incoming.fields, lookup.route, now)
            found = None if shared is None or _not_for(lookup, shared.entry) else shared
            if (answer := self._from_store(config, lookup, found, tier="redis")) is not None:
                return answer
        part = lookup.part
        if found is None and part is not None and (answer := self._stored_part(part)) is not None:
            return answer
        if lookup.wanted.only_if_cached:
            detail = "only-if-cached, and nothing is stored that would do"
            error = UpstreamError("only-if-cached", 504, detail)
            return self.failed(lookup.route.name, error, "")
        if lookup.incoming.method == "HEAD" and found is not None:
            return await self._head(config, lookup, found, forward)
        if part is not None:
            return await self._new_part(config, part, forward)
        return await self._pass(config, lookup.incoming, lookup.match, forward)

    def _stored_part(self, lookup: Lookup) -> Answer | None:
        fields, now = lookup.incoming.fields, self._clock()
        found = self._recalled(lookup, now)
        if found is None or part_of_part(fields, found.entry.fields, now=now) is None:
            return None
        if freshness.use(found.times, lookup.wanted, now) is not Use.FRESH:
            return None
        return self._stored(lookup, found, Handling(outcome=_outcome(found, "memory", now), detail="memory"))

    async def _new_part(self, config: Config, lookup: Lookup, forward: str) -> Answer:
        """Pass a request for a part on, and keep the part."""
        ask, name = self._fetcher.ask(), lookup.route.name
        exchange: Exchange | None = None
        try:
            exchange = await self._forwarder.forward(config, lookup.incoming, lookup.match, name)
            is_part = exchange.head.status == 206
            filled = await self._fetcher.part(_fill(config, lookup, None), exchange, ask) if is_part else None
        except UpstreamError as error:
            return self.failed(name, error, forward)
        except BaseException:
            if exchange is not None:
                exchange.abandon()
            raise
        if filled is None:
            return self.live(name, exchange, forward, "")
        return self._stored(lookup, filled.found, _handling(filled, forward, leads=True), filled.own)

    async def _coalesced(self, config: Config, lookup: Lookup, found: Found | None, forward: str) -> Answer:
        early = _Early(lookup.incoming)
        try:
            flight, leads = self._fly(config, lookup, found, early=early)
            purged_before = flight.epoch != self._log.purges.epoch
            landed = await flight.outcome()
        finally:
            early.end()
        forward = flight.forward or forward
        match landed:
            case Filled() if purged_before and self._is_purged(landed.found):
                return await self._again(config, lookup)
            case Filled() if not _answers(landed.found, lookup):
                return await self._own_variant(config, lookup, landed.found, forward)
            case Filled():
                mine = leads or (
                    not _not_for(lookup, landed.found.entry) and self._shareable(landed, lookup.wanted)
                )
                if not mine:
                    return await self._pass(
                        config, lookup.incoming, lookup.match, forward, detail="not-fresh"
                    )
                own = landed.own if leads else b""
                return self._stored(lookup, landed.found, _handling(landed, forward, leads=leads), own)
            case Failed():
                return self.failed(lookup.route.name, landed.error, forward)
            case Unshared():
                # It was made of the leader's own fields, of which any may name a principal that nobody told us of.
                if leads and flight.claim():
                    return await self._own(lookup.route.name, landed, forward)
                if landed.reason == NOT_MODIFIED:
                    return await self._again(config, replace(lookup, conditions=""))
                return await self._pass(config, lookup.incoming, lookup.match, forward, detail=landed.reason)

    def _is_purged(self, found: Found) -> bool:
        # It was asked for before this client came, and purged in between.
        current = self._tiers.current(found)
        return current is None or bool(current.soft_purged)

    def _shareable(self, landed: Filled, wanted: Wanted) -> bool:
        # What may not be used without asking the API (no-cache, say) answers the one request for which it was asked.
        # And what the API has just said is as new as anybody can wish; what was found in Redis is not.
        wishes = wanted if landed.source in {Outcome.HIT_REDIS, Outcome.STALE} else freshness.ANYTHING
        now = self._clock()
        if landed.failure:
            return freshness.usable_on_error(landed.found.times, wanted, now)
        if landed.source is Outcome.REVALIDATED and not landed.stored:
            # The API has just said that it is nobody else's.
            return False
        return freshness.use(landed.found.times, wishes, now) in {Use.FRESH, Use.STALE}

    async def _own(self, route: str, landed: Unshared, forward: str) -> Answer:
        """An answer for one client alone, at its pace."""
        try:
            paced = landed.exchange.pace()
        except BaseException:
            landed.exchange.abandon()
            raise
        if not paced:
            error = UpstreamError("busy", 503, "too many slow clients hold connections to the API")
            return self.failed(route, error, forward)
        return self.live(route, landed.exchange, forward, landed.reason)

    async def _own_variant(self, config: Config, lookup: Lookup, other: Found, forward: str) -> Answer:
        # Only now is it known what the answer varies by. An API that changes its mind about it is asked by each alone.
        if lookup.variant:
            return await self._pass(config, lookup.incoming, lookup.match, forward, detail="vary")
        own = variant_key(lookup.text, other.entry, lookup.incoming.fields)
        return await self._again(config, replace(lookup, variant=own, conditions=""))

    def _fly(
        self,
        config: Config,
        lookup: Lookup,
        found: Found | None,
        *,
        early: _Early | None = None,
        apart: str = "",
        **how: Any,
    ) -> tuple[Flight[Landed], bool]:
        """Join the flight for a lookup, or start it: that of those who are `apart`. `how` is what else its Fill has."""
        fill = replace(_fill(config, lookup, found), informational=early, **how)

        async def work(flight: Flight[Landed]) -> None:
            try:
                landed = await self._fetcher.fill(fill, flight)
            finally:
                if lookup.conditions and not lookup.alone:
                    self._under.pop(lookup.like, None)
            self._note(lookup, landed)
            if fill.ahead and isinstance(landed, Filled) and landed.source is Outcome.HIT_REDIS:
                self._theirs[lookup.like] = True
            if isinstance(landed, Unshared):
                await _claimed_or_abandoned(flight, landed.exchange)

        # Whoever wants the API asked must not get what it said before they came; nor who has seen in memory what has
        # landed, and can't use it.
        late = not lookup.wanted.api_asked and found is None
        key = lookup.like + lookup.conditions + lookup.alone + apart
        flight, leads = self._flights.join(key, self._log.purges.epoch, work, late=late)
        if leads and lookup.conditions and not lookup.alone:
            self._under[lookup.like] = lookup.conditions
        return flight, leads

    def _note(self, lookup: Lookup, landed: Landed) -> None:
        """Remember what its like had better know."""
        match landed:
            case Unshared(reason=reason) if reason == NOT_MODIFIED:
                self._whole.setdefault(lookup.text, True)
            case Unshared(exchange=exchange) if not may_be_the_requests(exchange.head.status):
                if lookup.text in self._whole:
                    self._whole[lookup.text] = False
                self._passed[lookup.like] = True
            case Filled(failure=failure) if failure and not (
                failure.isdigit() and int(failure) not in OUTAGES
            ):
                self._cooling[lookup.like] = True
            case Failed():
                self._cooling[lookup.like] = True
            case Filled(stored=True):
                self._passed.pop(lookup.like, None)
            case _:
                pass

    def _stored(self, lookup: Lookup, found: Found, handling: Handling, own: bytes = b"") -> Answer:
        return self._replies.stored(lookup.incoming, found, handling, route=lookup.route.name, own=own)

    # -- from the API --

    async def _pass(
        self, config: Config, incoming: Incoming, match: Match | None, forward: str, *, detail: str = ""
    ) -> Answer:
        route = match.route.name if match else NO_ROUTE
        try:
            exchange = await self._forwarder.forward(config, incoming, match, route)
        except UpstreamError as error:
            return self.failed(route, error, forward)
        return self.live(route, exchange, forward, detail)

    async def _head(self, config: Config, lookup: Lookup, found: Found, forward: str) -> Answer:
        """Pass a HEAD on, and let the stored answer to GET learn from it."""
        ask, name = self._fetcher.ask(), lookup.route.name
        try:
            exchange = await self._forwarder.forward(config, lookup.incoming, lookup.match, name)
        except UpstreamError as error:
            if freshness.usable_on_error(found.times, lookup.wanted, self._clock()):
                return self._stored(lookup, found, Handling(outcome=Outcome.STALE, detail=error.kind))
            return self.failed(name, error, forward)
        if exchange.head.status == 200:
            self._fetcher.head_said(_fill(config, lookup, found), found, exchange.head, ask)
        return self.live(name, exchange, forward, "")

    def _last_hop(self) -> Answer:
        """OPTIONS or TRACE that may go no further is about us, who have nothing to tell (RFC 9110 section 7.6.2)."""
        handling = Handling(outcome=Outcome.BYPASS, detail="max-forwards")
        detail = "Max-Forwards ends here, and this server answers nothing of its own"
        return problem(405, detail, handling=handling, route=NO_ROUTE, extra=b"Allow: \r\n")

    def live(self, route: str, exchange: Exchange, forward: str, detail: str) -> Answer:
        """The API's answer as it comes, to a request that was passed on."""
        outcome = Outcome.BYPASS if forward in {"bypass", "method"} else Outcome.MISS
        handling = Handling(
            outcome=outcome, forward=forward, forward_status=exchange.head.status, detail=_token(detail)
        )
        return self._replies.live(exchange, handling, route=route)

    def failed(self, route: str, error: UpstreamError, forward: str) -> Answer:
        """What a client gets that the API did not answer."""
        handling = Handling(outcome=Outcome.ERROR, forward=forward, detail=error.kind)
        return self._replies.failed(error, handling, route=route)

    def replies(self, now: float) -> Replies:
        """What makes answers at an instant."""
        return Replies(transparent=self.config.settings.transparent, now=now)

    @property
    def _replies(self) -> Replies:
        return self.replies(self._clock())


def _fill(config: Config, lookup: Lookup, found: Found | None) -> Fill:
    incoming = lookup.incoming
    return Fill(
        config=config,
        key=lookup.key,
        text=lookup.text,
        tags=lookup.match.tags,
        asked=replace(lookup.asked, ordinary=incoming.ordinary),
        wanted=lookup.wanted,
        fields=incoming.fields,
        target=incoming.target,
        found=found,
        newer_than=-1 if found is None else found.entry.asked,
        kind=lookup.kind,
        # Whoever wants the API asked waits for nobody; nor does who knows that its answer can't be shared.
        turns=not (lookup.alone or lookup.wanted.api_asked),
        conditional=bool(lookup.conditions),
        http_1_0=incoming.http_1_0,
    )


async def _claimed_or_abandoned(flight: Flight[Landed], exchange: Exchange) -> None:
    """See to it that an answer for one client is read by that client, or by nobody and closed."""
    # Whoever waits is woken in the loop's next turn, so this takes one or two.
    while flight.waiting and not flight.claimed:  # noqa: ASYNC110
        await asyncio.sleep(0)
    if flight.claim():
        exchange.abandon()


def _not_for(lookup: Lookup, entry: Entry) -> bool:
    """Whether a stored answer may be somebody's own, since only the route says that it may be kept."""
    return lookup.asked.personal and not entry.explicit


def _outcome(found: Found, tier: str, now: float) -> Outcome:
    if now >= found.times.effective_fresh_until:
        # A client's max-stale makes do with less.
        return Outcome.STALE
    return Outcome.HIT_MEMORY if tier == "memory" else Outcome.HIT_REDIS


def _answers(found: Found, lookup: Lookup) -> bool:
    """Whether what was fetched for one request is this one's variant as well."""
    entry = found.entry
    return not entry.vary or entry.key == variant_key(lookup.text, entry, lookup.incoming.fields)


def _handling(landed: Filled, forward: str, *, leads: bool) -> Handling:
    """How a shared answer came to one of those who waited for it."""
    if landed.failure:
        status = int(landed.failure) if landed.failure.isdigit() else 0
        detail = "" if status else landed.failure
        return Handling(outcome=Outcome.STALE, forward=forward, forward_status=status, detail=detail)
    if landed.source in {Outcome.HIT_REDIS, Outcome.STALE}:
        return Handling(outcome=landed.source, detail="redis")
    outcome = landed.source if leads else Outcome.COLLAPSED
    return Handling(outcome=outcome, forward=forward, forward_status=landed.status, stored=landed.stored)


def _token(detail: str) -> str:
    return "-".join(detail.replace("*", "any").split())
