"""What an answer must be, whatever else is broken: whose it is, what it says, and how old it may be."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil, inf

TAG = "site"
MAX_AGE_S = 2.0
"""`memory.max_age` of the proxies."""
# What a purge may take to reach the other replicas where nothing is wrong: milliseconds, and a loaded machine's share.
PROMPTLY_S = 0.5
# What lies between a client's clock and the moment at which the proxy decides, on a loaded machine.
_SLACK_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Requests of one kind, and what is promised about them."""

    name: str
    route: str = ""
    """The rest of its route, as YAML; empty: no route, so that all of them are passed on."""
    weight: int
    keys: int
    """How many there are; 0: never the same twice."""
    old_s: float
    """So long after the API changed its mind, and nothing was purged, an answer may still be the one before."""
    old_on_error_s: float = 0.0
    """The same while the API fails; 0: it does not stand in then."""

    @property
    def outlives_the_api(self) -> bool:
        """Whether it is answered although the API fails."""
        return self.old_on_error_s > 0

    @property
    def is_quick(self) -> bool:
        """Whether its answer never waits for the API, once there is one."""
        return self.outlives_the_api and self.old_s > MAX_AGE_S


KINDS = {
    kind.name: kind
    for kind in (
        Kind(name="hot", route="ttl: 1m", weight=6, keys=8, old_s=60, old_on_error_s=60),
        Kind(name="cold", route="ttl: 3s", weight=4, keys=0, old_s=3),
        Kind(name="mine", route="ttl: 1m, per: authorization", weight=4, keys=3, old_s=60, old_on_error_s=60),
        Kind(name="shared", route="ttl: 1m, memory: false", weight=4, keys=12, old_s=60, old_on_error_s=60),
        Kind(
            name="renewed",
            route="ttl: 200ms, stale_while_revalidate: 20s",
            weight=3,
            keys=4,
            old_s=20.2,
            old_on_error_s=20.2,
        ),
        Kind(
            name="lenient",
            route="ttl: 200ms, stale_if_error: 1m",
            weight=3,
            keys=4,
            old_s=0.2,
            old_on_error_s=60,
        ),
        Kind(name="brief", route="ttl: 200ms", weight=2, keys=3, old_s=0.2),
        Kind(name="passed", weight=3, keys=0, old_s=0),
    )
}


def routes() -> str:
    """The proxies' routes, as YAML."""
    lines = [
        f'  - {{name: {kind.name}, match: "/{kind.name}/**", tags: [{TAG}], {kind.route}}}'
        for kind in KINDS.values()
        if kind.route
    ]
    return "\n".join(("routes:", *lines, ""))


def body_of(target: str, principal: str, version: int, posted: bytes = b"") -> bytes:
    """What the API says: nobody else's, and no part of it, looks like it."""
    seed = f"{target}\n{principal}\n{version}\n".encode() + posted
    return b"%d %s %s\n" % (version, target.encode(), blake2b(seed, digest_size=40).hexdigest().encode())


def ill_body_of(target: str) -> bytes:
    """What the API says while it fails."""
    return b"ill %s\n" % target.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    kind: str
    target: str
    principal: str = ""
    posted: bytes = b""

    @property
    def fields(self) -> tuple[str, ...]:
        """Header lines."""
        return (f"Authorization: {self.principal}",) if self.principal else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request and what became of it."""

    at: float
    """Monotonic seconds at which it was sent."""
    took_s: float
    replica: int
    kind: str
    status: int
    """0: no answer."""
    version: int = 0
    """Of the answer; 0: it is not the API's 200."""
    cut: str = ""
    """Why there is no answer, or no whole one."""
    wrong: str = ""
    """Why it cannot be the answer to what was asked: it is another's, say."""
    is_missed: bool = False
    """Nobody sent it: its client still waited for the one before. But it would have waited for as long as this says."""


def read(ask: Ask, status: int, body: bytes) -> tuple[int, str]:
    """The version that an answer is of, and what is wrong with it."""
    if status != 200:
        return 0, ""
    first = body.partition(b" ")[0]
    version = int(first) if first.isdigit() else 0
    if body == body_of(ask.target, ask.principal, version, ask.posted):
        return version, ""
    return 0, f"wrong body for {ask.target} of {ask.principal or 'nobody'}: {body[:80]!r}"


@dataclass(slots=True, kw_only=True)
class Change:
    """The API changed its mind: what it said before is of an older version than this."""

    version: int
    at: float
    """Monotonic seconds from which on the API says so."""
    purged_at: float = inf
    """When the purge returned at replica 0, if there was one."""
    graces: list[tuple[float, float]]
    """When the other replicas may not know of the purge."""

    def allows(self, sample: Sample, old_s: float) -> bool:
        """Whether an older version was good enough for this request."""
        if sample.at > self.at + old_s + _SLACK_S:
            return False
        if sample.at <= self.purged_at:
            return True
        return sample.replica != 0 and any(since <= sample.at <= until for since, until in self.graces)


def outdated(samples: Iterable[Sample], changes: Sequence[Change], api_ill: tuple[float, float]) -> list[str]:
    """The answers that were older than they may be. Between the instants `api_ill` the API fails."""
    found = []
    for sample in samples:
        kind = KINDS[sample.kind]
        ill = api_ill[0] <= sample.at <= api_ill[1]
        old_s = max(kind.old_s, kind.old_on_error_s) if ill else kind.old_s
        if sample.version and not sample.is_missed:
            found += [
                f"{kind.name} of replica {sample.replica}: version {sample.version}, "
                f"{sample.at - change.at:.2f} s after version {change.version}"
                for change in changes
                if sample.version < change.version and not change.allows(sample, old_s)
            ]
    return found


def p99_ms(samples: Iterable[Sample]) -> float:
    """The latency that one in a hundred exceeds, in milliseconds; NaN without samples."""
    took = sorted(sample.took_s for sample in samples)
    return took[ceil(len(took) * 0.99) - 1] * 1000 if took else float("nan")
