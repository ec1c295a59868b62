"""One request: route, key, memory, then one flight for all who want the same (Redis, the API, store), answer.

No `await` stands between the look into memory and joining the flight. Whatever can't be stored is nobody's but the one
client's who asked; whatever fails is answered from what is stored, where that is allowed, or with a short problem.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from cachetools import TTLCache

from proxy.coalesce import Flight, Flights
from proxy.config import Config
from proxy.fill import Failed, Fetcher, Fill, Filled, Landed, Unshared
from proxy.messages import Answer, Incoming, problem
from proxy.metrics import NO_ROUTE
from proxy.policy import freshness, validators
from proxy.policy.asked import asked, bypass_reason, request_directives, wishes
from proxy.policy.cache_control import format_http_date
from proxy.policy.freshness import Use, Wanted
from proxy.policy.key import Key, key_of
from proxy.policy.outcome import Handling, Outcome, cache_status
from proxy.policy.routes import Match, Route
from proxy.policy.storable import Asked
from proxy.policy.writes import Name, purged_by, succeeded
from proxy.purge_log import PurgeLog
from proxy.store.tiers import Found, Tiers, variant_key
from proxy.tasks import Tasks
from proxy.upstream import ClientBodyError, Exchange, Outgoing
from proxy.upstream_connection import UpstreamError
from proxy.wire.fields import Fields, block, end_to_end, values
from proxy.wire.request import with_host
from proxy.wire.response import Body

# An answer that could not be shared: for so long its like go to the API side by side instead of behind one another.
_PASS_S = 5.0
# A refresh that failed is not tried again for so long: stale answers go on, the API gets a rest.
_COOL_S = 1.0
# 20,000 keys are about 4 MB; beyond it the oldest marks are forgotten, which costs a wait, not an error.
_MAX_MARKS = 20_000


_Ended = Exchange | UpstreamError | ClientBodyError
"""How a request to the API ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lookup:
    """A cacheable request with everything that was worked out about it."""

    incoming: Incoming
    match: Match
    key: Key
    text: str
    wanted: Wanted
    asked: Asked
    variant: str = ""
    """Its variant's key, once it is known by which headers the answer varies."""

    @property
    def route(self) -> Route:
        return self.match.route

    @property
    def wants_api_asked(self) -> bool:
        """Whether what is stored may not be enough, however fresh it is."""
        return self.wanted.no_cache or self.wanted.max_age is not None

    @property
    def flight_key(self) -> str:
        """Who may wait for the same answer: personal requests only with their like, and forced ones with forced."""
        personal = ":personal" if self.asked.personal else ""
        forced = ":forced" if self.wants_api_asked else ""
        return (
            f"{self.variant or self.text}{personal}{forced}{':stored' if self.wanted.only_if_cached else ''}"
        )


class Handler:
    """Answers requests. `config` may be replaced at any time; each request uses the one it began with."""

    def __init__(
        self, config: Config, tiers: Tiers, purge_log: PurgeLog, *, tasks: Tasks, clock: Callable[[], float]
    ) -> None:
        self.config = config
        self._tiers = tiers
        self._log = purge_log
        self._clock = clock
        self._tasks = tasks
        self._flights: Flights[Landed] = Flights(tasks, failed=Failed.by_defect)
        self._fetcher = Fetcher(tiers, purge_log, clock=clock)
        self._passed: TTLCache[str, str] = TTLCache(_MAX_MARKS, _PASS_S, timer=clock)
        self._cooling: TTLCache[str, bool] = TTLCache(_MAX_MARKS, _COOL_S, timer=clock)

    async def answer(self, incoming: Incoming) -> Answer:
        """Answer a request. Raises ClientBodyError where the client's own body fails, and nothing else."""
        config = self.config
        match = config.routes.find(incoming.method, incoming.path)
        if match is None or not match.route.caches or incoming.method not in {"GET", "HEAD"}:
            return await self._pass(config, incoming, match, "method" if match else "bypass")
        reason = bypass_reason(incoming.fields, has_body=incoming.body is not None)
        if reason:
            return await self._pass(config, incoming, match, "bypass", detail=reason)
        lookup = self._look_up(config, incoming, match)
        return await self._cached(config, lookup)

    def _look_up(self, config: Config, incoming: Incoming, match: Match) -> _Lookup:
        said = request_directives(incoming.fields)
        key = key_of(match.route, incoming.target, incoming.fields, hostless=config.hostless)
        return _Lookup(
            incoming=incoming,
            match=match,
            key=key,
            text=key.text,
            wanted=wishes(incoming.fields, said),
            asked=asked(incoming.fields, said, match.route.settings, now=self._clock()),
        )

    async def warm(self, incoming: Incoming, *, forced: bool) -> tuple[str, float | None]:
        """Fetch what a request asks for into the store. Returns `ok` or what went wrong, and its seconds of freshness.

        Unless `forced`, a fresh stored answer is good enough. Raises nothing.
        """
        config = self.config
        match = config.routes.find("GET", incoming.path)
        if match is None or not match.route.caches:
            return "no route that caches matches its path", None
        lookup = self._look_up(config, incoming, match)
        now = self._clock()
        found = self._tiers.recall(lookup.text, incoming.fields, now)
        if found is not None and not forced and freshness.use(found.times, lookup.wanted, now) is Use.FRESH:
            return "ok", found.times.effective_fresh_until - now
        flight, _ = self._fly(config, lookup, found, forced=forced)
        match await flight.outcome():
            case Filled(found=filled, failure="", stored=stored, source=source):
                good = stored or source is Outcome.HIT_REDIS
                return "ok" if good else "its answer was not stored", filled.times.effective_fresh_until - now
            case Filled(failure=failure):
                return f"the API failed ({failure}); what was stored is kept", None
            case Failed(error=error):
                return str(error), None
            case Unshared(reason=reason):
                return f"its answer may not be stored ({reason})", None

    # -- from the store --

    async def _cached(self, config: Config, lookup: _Lookup) -> Answer:
        now = self._clock()
        found = self._tiers.recall(lookup.text, lookup.incoming.fields, now)
        if found is not None and lookup.asked.personal and not found.entry.explicit:
            found = None
        if found is not None and found.entry.vary:
            lookup = replace(lookup, variant=found.entry.key)
        use = freshness.use(found.times, lookup.wanted, now) if found is not None else Use.GONE
        if found is not None and use is Use.FRESH:
            return self._stored(lookup, found, Handling(outcome=Outcome.HIT_MEMORY, detail="memory"))
        if found is not None and use is Use.STALE:
            if lookup.flight_key not in self._cooling and lookup.flight_key not in self._passed:
                self._fly(config, lookup, found)
            return self._stored(lookup, found, Handling(outcome=Outcome.STALE, detail="memory"))
        if (
            found is not None
            and lookup.flight_key in self._cooling
            and freshness.usable_on_error(found.times, now)
        ):
            # The API has just failed: the next seconds' clients need not each wait for it to fail again.
            return self._stored(lookup, found, Handling(outcome=Outcome.STALE, detail="error-recent"))
        forward = "uri-miss" if found is None else ("request" if lookup.wanted.no_cache else "stale")
        if lookup.incoming.method == "HEAD" or lookup.flight_key in self._passed:
            detail = self._passed.get(lookup.flight_key, "")
            return await self._pass(config, lookup.incoming, lookup.match, forward, detail=detail)
        return await self._coalesced(config, lookup, found, forward)

    async def _coalesced(self, config: Config, lookup: _Lookup, found: Found | None, forward: str) -> Answer:
        flight, leads = self._fly(config, lookup, found)
        landed = await flight.outcome()
        match landed:
            case Filled() if not _answers(landed.found, lookup):
                return await self._own_variant(config, lookup, landed.found, forward)
            case Filled():
                if not leads and not self._shareable(landed):
                    return await self._pass(
                        config, lookup.incoming, lookup.match, forward, detail="not-fresh"
                    )
                return self._stored(lookup, landed.found, _handling(landed, forward, leads=leads))
            case Failed():
                return self._failed(lookup.route.name, landed.error, forward)
            case Unshared():
                if flight.claim():
                    return self._live(lookup.route.name, landed.exchange, forward, landed.reason)
                return await self._pass(config, lookup.incoming, lookup.match, forward, detail=landed.reason)

    def _shareable(self, landed: Filled) -> bool:
        # What may not be used without asking the API (no-cache, say) answers the one request for which it was asked.
        use = freshness.use(landed.found.times, freshness.ANYTHING, self._clock())
        return bool(landed.failure) or use in {Use.FRESH, Use.STALE}

    async def _own_variant(self, config: Config, lookup: _Lookup, other: Found, forward: str) -> Answer:
        # Only now is it known what the answer varies by. An API that changes its mind about it is asked by each alone.
        if lookup.variant:
            return await self._pass(config, lookup.incoming, lookup.match, forward, detail="vary")
        own = variant_key(lookup.text, other.entry, lookup.incoming.fields)
        return await self._cached(config, replace(lookup, variant=own))

    def _fly(
        self, config: Config, lookup: _Lookup, found: Found | None, *, forced: bool = False
    ) -> tuple[Flight[Landed], bool]:
        fill = Fill(
            config=config,
            key=lookup.key,
            text=lookup.text,
            tags=lookup.match.tags,
            asked=lookup.asked,
            wanted=lookup.wanted,
            fields=lookup.incoming.fields,
            target=lookup.incoming.target,
            found=found,
            forced=forced,
        )

        async def work(flight: Flight[Landed]) -> None:
            landed = await self._fetcher.fill(fill, flight)
            if isinstance(landed, Unshared):
                self._passed[lookup.flight_key] = landed.reason
                await _claimed_or_abandoned(flight, landed.exchange)
            elif isinstance(landed, Failed) or landed.failure:
                self._cooling[lookup.flight_key] = True

        # Whoever wants the API asked must not get what it said before they came.
        late = not lookup.wants_api_asked
        return self._flights.join(lookup.flight_key, self._log.purges.epoch, work, late=late)

    def _stored(self, lookup: _Lookup, found: Found, handling: Handling) -> Answer:
        entry, now = found.entry, self._clock()
        age = max(0, int(now - entry.generated))
        # RFC 9111 section 5.1: Age says that the API was not asked. An answer that it gave just now has none.
        extra = b"Age: %d\r\n" % age if age or not handling.forward else b""
        extra += self._status_line(handling, ttl_s=int(found.times.effective_fresh_until - now))
        condition = (
            validators.evaluate(
                lookup.incoming.fields, etag=entry.etag, last_modified=entry.last_modified, now=now
            )
            if entry.status == 200
            else validators.Condition.NONE
        )
        route = lookup.route.name
        if condition is validators.Condition.NOT_MODIFIED:
            head = block(validators.for_304(entry.fields)) + extra
            return Answer(
                status=304, reason=b"Not Modified", head=head, body=b"", handling=handling, route=route
            )
        body = b"" if lookup.incoming.method == "HEAD" else entry.body
        return Answer(
            status=entry.status,
            reason=entry.reason,
            head=entry.head + extra,
            body=body,
            handling=handling,
            route=route,
        )

    # -- from the API --

    async def _pass(
        self, config: Config, incoming: Incoming, match: Match | None, forward: str, *, detail: str = ""
    ) -> Answer:
        route = match.route.name if match else NO_ROUTE
        purged = purged_by(incoming.method, incoming.target, match, config.routes)
        if purged:
            # A task of its own: what the client changed is changed even if it leaves before it is told.
            asking = self._tasks.spawn(self._change(config, incoming, route, purged), name="unsafe request")
            try:
                ended = await asyncio.shield(asking)
            except BaseException:
                asking.add_done_callback(_abandon)
                raise
        else:
            ended = await self._ask(config, incoming, route)
        if isinstance(ended, UpstreamError):
            return self._failed(route, ended, forward)
        if isinstance(ended, ClientBodyError):
            raise ended
        return self._live(route, ended, forward, detail)

    async def _ask(self, config: Config, incoming: Incoming, route: str) -> _Ended:
        try:
            return await config.upstream.ask(
                _outgoing(config, incoming), route=route, informational=incoming.informational
            )
        except (UpstreamError, ClientBodyError) as error:
            return error

    async def _change(self, config: Config, incoming: Incoming, route: str, purged: list[Name]) -> _Ended:
        """Ask, and purge what the answer says was changed."""
        ended = await self._ask(config, incoming, route)
        if isinstance(ended, Exchange):
            if succeeded(ended.head.status):
                await self._log.purge(purged)
        elif isinstance(ended, UpstreamError) and ended.kind not in _NOT_SENT:
            # The API fell silent and may still do it: what that changes must go now, and again when it is over.
            await self._log.purge(purged)
            again = self._purge_later(purged, config.settings.upstream.timeout)
            self._tasks.spawn(again, name="purge again")
        # A request whose body never came whole changed nothing: else anybody could purge by breaking off.
        return ended

    async def _purge_later(self, purged: list[Name], delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._log.purge(purged)

    def _live(self, route: str, exchange: Exchange, forward: str, detail: str) -> Answer:
        """An answer whose body is yet to come."""
        head = exchange.head
        outcome = Outcome.BYPASS if forward in {"bypass", "method"} else Outcome.MISS
        handling = Handling(
            outcome=outcome, forward=forward, forward_status=head.status, detail=_token(detail)
        )
        if head.status == 101:
            # Connection and Upgrade are what this answer is about.
            return Answer(
                status=101,
                reason=head.reason,
                head=block(head.fields),
                body=exchange,
                handling=handling,
                route=route,
            )
        fields = end_to_end(head.fields)
        if not values(fields, b"date"):
            fields += ((b"Date", format_http_date(self._clock())),)
        return Answer(
            status=head.status,
            reason=head.reason,
            head=block(fields) + self._status_line(handling),
            body=exchange,
            handling=handling,
            route=route,
            length_known=head.body in {Body.NONE, Body.LENGTH},
        )

    def _failed(self, route: str, error: UpstreamError, forward: str) -> Answer:
        handling = Handling(outcome=Outcome.ERROR, forward=forward, detail=error.kind)
        extra = self._status_line(handling)
        if error.status == 503:
            extra += b"Retry-After: 1\r\n"
        return problem(error.status, str(error), handling=handling, route=route, extra=extra)

    def _status_line(self, handling: Handling, ttl_s: int | None = None) -> bytes:
        if self.config.settings.transparent:
            return b""
        return b"Cache-Status: %s\r\n" % cache_status(handling, ttl_s=ttl_s)


def _abandon(asking: asyncio.Task[_Ended]) -> None:
    # Nobody is left to read the answer.
    ended = None if asking.cancelled() or asking.exception() else asking.result()
    if isinstance(ended, Exchange):
        ended.abandon()


# Of these the API has seen nothing.
_NOT_SENT = frozenset({"connect", "connect_timeout", "busy"})


async def _claimed_or_abandoned(flight: Flight[Landed], exchange: Exchange) -> None:
    """See to it that an answer for one client is read by that client, or by nobody and closed."""
    # Whoever waits is woken in the loop's next turn, so this takes one or two.
    while flight.waiting and not flight.claimed:  # noqa: ASYNC110
        await asyncio.sleep(0)
    if flight.claim():
        exchange.abandon()


def _answers(found: Found, lookup: _Lookup) -> bool:
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


def _outgoing(config: Config, incoming: Incoming) -> Outgoing:
    fields: Fields = end_to_end(incoming.fields)
    if incoming.websocket:
        fields += ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
    fields = with_host(fields, config.upstream.authority)
    return Outgoing(
        method=incoming.method,
        target=incoming.target,
        fields=fields,
        body=incoming.body,
        chunked=incoming.chunked,
        expects_continue=incoming.expects_continue,
        upgrade=incoming.websocket,
    )
