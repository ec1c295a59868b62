"""How a stored answer may be used right now, for this request."""

from dataclasses import dataclass
from enum import Enum

from proxy.policy.cache_control import Directives, delta_seconds


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
    only_if_cached: bool = False


ANYTHING = Wanted()


def wanted(said: Directives, *, pragma_no_cache: bool) -> Wanted:
    """The request's wishes. Pragma counts only where there is no Cache-Control."""
    if not said:
        return Wanted(no_cache=True) if pragma_no_cache else ANYTHING
    max_age = delta_seconds(said["max-age"]) if "max-age" in said else None
    return Wanted(
        no_cache="no-cache" in said,
        max_age=None if max_age is None else float(max_age),
        min_fresh=float(delta_seconds(said.get("min-fresh")) or 0),
        only_if_cached="only-if-cached" in said,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """An entry's instants and windows; see `storable.Lifetime`. `soft_purged` is when it was purged softly, or 0."""

    generated: float
    fresh_until: float
    revalidate_s: float
    error_s: float
    keep_until: float
    soft_purged: float = 0.0

    @property
    def effective_fresh_until(self) -> float:
        """A soft purge ends freshness where it came, by the clock of whoever made it."""
        return min(self.fresh_until, self.soft_purged) if self.soft_purged else self.fresh_until


def use(times: Times, asked: Wanted, now: float) -> Use:
    """What a stored answer is good for at `now`. Source: RFC 9111 section 4.2, RFC 5861 section 3."""
    if now >= times.keep_until:
        return Use.GONE
    fresh_until = times.effective_fresh_until
    if times.soft_purged:
        # It counts at once, although the clock that it was made by may be ahead of this one.
        fresh_until = min(fresh_until, now)
    if asked.no_cache or (asked.max_age is not None and now - times.generated > asked.max_age):
        return Use.REVALIDATE
    if now + asked.min_fresh < fresh_until:
        return Use.FRESH
    # Whoever names an age or a rest of freshness takes nothing stale (RFC 9111 sections 5.2.1.1 and 5.2.1.3).
    if now < fresh_until + times.revalidate_s and not asked.min_fresh and asked.max_age is None:
        return Use.STALE
    return Use.REVALIDATE


def usable_on_error(times: Times, now: float) -> bool:
    """Whether a stale answer may stand in while the API fails (RFC 5861 section 4)."""
    fresh_until = times.effective_fresh_until
    return now < times.keep_until and now < fresh_until + max(times.error_s, times.revalidate_s)
