"""How a stored answer may be used right now, for this request."""

from dataclasses import dataclass
from enum import Enum
from math import exp, inf

import msgspec

from proxy.policy.cache_control import Directives, delta_seconds

# Replicas' clocks differ by less, or something is wrong with one of them.
MAX_SKEW_S = 60.0
# Popular: in a twentieth of its life so many come for an answer that one of them, surely, is chosen to refresh it.
_SURELY = 20.0
_POPULAR_PART = 0.05
# No answer is refreshed in the first half of its life.
LATE_HALF = 0.5


class Use(Enum):
    """What a stored answer is good for."""

    FRESH = "fresh"
    STALE = "stale while revalidate"
    """Serve it, and refresh it behind the client's back."""
    REVALIDATE = "revalidate"
    """Ask the API first; what is stored supplies the validators, and the answer if the API fails."""
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a request's Cache-Control asks of a stored answer, in seconds (RFC 9111 section 5.2.1)."""

    no_cache: bool = False
    max_age: float | None = None
    min_fresh: float = 0.0
    max_stale: float = 0.0
    if_error: float = 0.0
    """It takes an answer that is stale by so much where the API fails (RFC 5861 section 4)."""
    only_if_cached: bool = False

    @property
    def api_asked(self) -> bool:
        """Whether what is stored may not be enough, however fresh it is."""
        return self.no_cache or self.max_age is not None


ANYTHING = Wanted()


def wanted(said: Directives, *, pragma_no_cache: bool) -> Wanted:
    """The request's wishes. Pragma counts only where there is no Cache-Control."""
    if not said:
        return Wanted(no_cache=True) if pragma_no_cache else ANYTHING
    max_age = delta_seconds(said["max-age"]) if "max-age" in said else None
    any_staleness = "max-stale" in said and said["max-stale"] is None
    return Wanted(
        no_cache="no-cache" in said,
        max_age=None if max_age is None else float(max_age),
        min_fresh=_seconds(said, "min-fresh"),
        max_stale=inf if any_staleness else _seconds(said, "max-stale"),
        if_error=_seconds(said, "stale-if-error"),
        only_if_cached="only-if-cached" in said,
    )


def _seconds(said: Directives, name: str) -> float:
    return float(delta_seconds(said.get(name)) or 0)


class Times(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry's instants and windows; see `storable.Lifetime`. `soft_purged` is when it was purged softly, or 0."""

    generated: float
    fresh_until: float
    revalidate_s: float
    error_s: float
    keep_until: float
    never_stale: bool = False
    immutable: bool = False
    soft_purged: float = 0.0

    @property
    def effective_fresh_until(self) -> float:
        """A soft purge ends freshness where it came, by the clock of whoever made it."""
        return min(self.fresh_until, self.soft_purged) if self.soft_purged else self.fresh_until


def use(times: Times, asked: Wanted, now: float) -> Use:
    """What a stored answer is good for at `now`. Source: RFC 9111 sections 4.2 and 5.2.1, RFC 5861 section 3."""
    if now >= times.keep_until:
        return Use.GONE
    if times.generated > now + MAX_SKEW_S:
        # From the future, by a clock that was wrong or is: nothing that it says of time is to be trusted.
        return Use.REVALIDATE
    fresh_until = times.effective_fresh_until
    if times.soft_purged:
        # It counts at once, although the clock that it was made by may be ahead of this one.
        fresh_until = min(fresh_until, now)
    if asked.no_cache or _too_old(times, asked, fresh_until, now):
        return Use.REVALIDATE
    if now + asked.min_fresh < fresh_until:
        return Use.FRESH
    if asked.min_fresh:
        return Use.REVALIDATE
    if now < fresh_until + asked.max_stale and not times.never_stale and not times.soft_purged:
        return Use.FRESH
    # Whoever names an age takes nothing stale but by max-stale (RFC 9111 section 5.2.1.1).
    if now < fresh_until + times.revalidate_s and asked.max_age is None:
        return Use.STALE
    return Use.REVALIDATE


def _too_old(times: Times, asked: Wanted, fresh_until: float, now: float) -> bool:
    if asked.max_age is None or (times.immutable and now < fresh_until):
        # A reload of what can't change need not be asked about (RFC 8246 section 2).
        return False
    # max-age=0 is how a client asks for validation, even of what came in this very moment.
    return asked.max_age == 0 or now - times.generated > asked.max_age


def is_due(times: Times, *, took_s: float, every_s: float, now: float, chance: float) -> bool:
    """Whether this request, of many, refreshes a fresh answer so that nobody ever waits for it to be fetched.

    `chance` is even between 0 and 1; for the others see `odds`.
    """
    return chance < odds(times, took_s=took_s, every_s=every_s, now=now)


def odds(times: Times, *, took_s: float, every_s: float, now: float) -> float:
    """The probability with which a request refreshes a fresh answer. It grows with `now`.

    `took_s` is how long the API took for it, `every_s` the time from one request for it to the next. The longer the API
    takes the earlier one of them is chosen. XFetch alone would often choose nobody where the API is quick: the odds are
    scaled so that twenty come for it in time, which only what is popular can wait for.
    Source: Vattani, Chierichetti, Lowenstein, "Optimal probabilistic cache stampede prevention", VLDB 2015 (XFetch).
    """
    fresh_until = times.effective_fresh_until
    life_s, left_s = fresh_until - times.generated, fresh_until - now
    if every_s * _SURELY > life_s * _POPULAR_PART or left_s > life_s * LATE_HALF:
        return 0.0
    span_s = max(took_s, every_s * _SURELY)
    return exp(-left_s / span_s) if span_s > 0 and left_s > 0 else float(left_s <= 0)


def may_be_due_from(times: Times) -> float:
    """The first moment at which `is_due` may be true, in Unix seconds."""
    return times.fresh_until - (times.fresh_until - times.generated) * LATE_HALF


def why_asked(times: Times | None, asked: Wanted, now: float, *, varies: bool) -> str:
    """Why the API is asked although this is stored, or nothing is but, where it `varies`, for other requests.

    Source: RFC 9211 section 2.2.
    """
    if times is None:
        return "vary-miss" if varies else "uri-miss"
    return "request" if asked.no_cache or now < times.effective_fresh_until else "stale"


def usable_on_error(times: Times, asked: Wanted, now: float) -> bool:
    """Whether a stale answer may stand in while the API fails (RFC 5861 section 4)."""
    window = max(times.error_s, times.revalidate_s, 0.0 if times.never_stale else asked.if_error)
    return now < times.keep_until and now < times.effective_fresh_until + window
