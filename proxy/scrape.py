"""What every proxy is doing now: its admin port asked, its answer read, and what happened between two answers.

Scaler and tuner call this. Whatever a proxy answers, or fails to, is an outcome with its reason: nobody takes a proxy that
said nothing for one that has nothing to do. A proxy is asked for a few numbers alone (`name[]`), which are as many for one
route as for a thousand.
"""

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from time import monotonic

import aiohttp
from yarl import URL

from proxy.metrics import INFLIGHT, LOAD, LOAD_SECONDS, STARTED, UPSTREAM_INFLIGHT

_SERIES = {
    f'{LOAD}{{of="requests"}}': "requests",
    f'{LOAD}{{of="hits"}}': "hits",
    f'{LOAD}{{of="upstream_requests"}}': "upstream_requests",
    f'{LOAD}{{of="upstream_failures"}}': "upstream_failures",
    LOAD_SECONDS: "upstream_seconds",
    INFLIGHT: "inflight",
    UPSTREAM_INFLIGHT: "upstream_inflight",
    STARTED: "started_at",
}
_COUNTERS = ("requests", "hits", "upstream_requests", "upstream_failures", "upstream_seconds")
_NAMES = (LOAD, LOAD_SECONDS, INFLIGHT, UPSTREAM_INFLIGHT, STARTED)
# Brackets as they are: servers read them so, and they need no decoding.
TARGET = "/metrics?" + "&".join(f"name[]={name}" for name in _NAMES)
"""What a proxy is asked for."""

MAX_BYTES = 64 * 1024
"""Enough for any answer to `TARGET`, which has 1.2 KB: room for what later versions add."""
# One deadline of ours bounds the whole: aiohttp's own would be rounded up to whole seconds from 5 s on.
_NO_DEADLINE = aiohttp.ClientTimeout(total=None, sock_connect=None)
_NO_FIELDS = ("Accept", "Accept-Encoding", "User-Agent")
# In less time than this no rate can be known: counters step.
_LEAST_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One proxy's counters since its start, and what it has in hand."""

    requests: float
    """Answered, whichever way."""
    hits: float
    """Of these, answered without a request to the API of their own."""
    upstream_requests: float
    """To the API: for clients, for refreshes, for warming."""
    upstream_failures: float
    """Of these, without an answer or with 502, 503 or 504."""
    upstream_seconds: float
    """All of them took so long, to the heads of their answers; also those that failed."""
    inflight: float
    """Requests that are being answered."""
    upstream_inflight: float
    """Requests that the API is answering, to the ends of their answers."""
    started_at: float
    """The proxy's start, in Unix seconds by its own clock: with another one the counters began anew."""
    read_at: float
    """When this came, in seconds by our monotonic clock."""


class Why(Enum):
    """Why nothing is known of a proxy."""

    TIMEOUT = "timeout"
    """No whole answer in time."""
    REFUSED = "refused"
    """No connection: refused, unreachable, or a target that is no address."""
    LOST = "lost"
    """The connection ended before the answer did."""
    STATUS = "status"
    """Not 200."""
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    """No HTTP, or no metrics."""
    MISSING = "missing"
    """Metrics, but not all numbers that a load has."""
    IMPOSSIBLE = "impossible"
    """A number that is none, infinite or negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Nothing is known of a proxy, for this reason."""

    why: Why
    detail: str


Outcome = Load | Unknown
"""What asking one proxy gave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """One proxy between two answers, by the second."""

    requests: float
    hits: float
    upstream_requests: float
    upstream_failures: float
    upstream_concurrency: float
    """Requests that waited for the API at a time, on average (Little's law: their rate times their mean seconds)."""

    @property
    def upstream_mean_s(self) -> float | None:
        """To the head of the API's answer; None where it wasn't asked."""
        return self.upstream_concurrency / self.upstream_requests if self.upstream_requests else None


class NoRates(Enum):
    """Why two answers tell nothing of the time between them."""

    RESTARTED = "the proxy was started anew"
    WENT_BACK = "a counter went back"
    NO_TIME = "no time passed"


# -- decide --


def decode(text: str, read_at: float = 0.0) -> Outcome:
    """The load in a proxy's metrics. Series that aren't asked for are none of our business, but must be series."""
    if not text.endswith("\n"):
        # The last number may lack digits.
        return Unknown(why=Why.MALFORMED, detail="the last line has no end")
    found: dict[str, float] = {}
    for series, number in _lines(text):
        value = _number(number)
        if value is None:
            return Unknown(why=Why.MALFORMED, detail=f"no metric: {f'{series} {number}'[:60]!r}")
        name = _SERIES.get(series)
        if name is None:
            continue
        if name in found:
            return Unknown(why=Why.MALFORMED, detail=f"{series} comes twice")
        if not 0.0 <= value < math.inf:
            return Unknown(why=Why.IMPOSSIBLE, detail=f"{series} is {value}")
        found[name] = value
    if len(found) < len(_SERIES):
        missing = [series for series, name in _SERIES.items() if name not in found]
        return Unknown(why=Why.MISSING, detail=f"without {', '.join(missing)}")
    return Load(**found, read_at=read_at)


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        if line and line[0] != "#":
            series, _, number = line.rpartition(" ")
            yield series, number


def _number(text: str) -> float | None:
    try:
        # Python would take 1_000 as well.
        return None if "_" in text else float(text)
    except ValueError:
        return None


def rates(before: Load, after: Load, seconds: float) -> Rates | NoRates:
    """What happened in so many seconds between two answers of one proxy."""
    if before.started_at != after.started_at:
        return NoRates.RESTARTED
    if not _LEAST_S <= seconds < math.inf:
        return NoRates.NO_TIME
    passed = [getattr(after, name) - getattr(before, name) for name in _COUNTERS]
    if min(passed) < 0.0:
        return NoRates.WENT_BACK
    requests, hits, asked, failed, api_s = (each / seconds for each in passed)
    return Rates(
        requests=requests,
        hits=hits,
        upstream_requests=asked,
        upstream_failures=failed,
        upstream_concurrency=api_s,
    )


# -- talk --


def client_session(*, idle_s: float = 15.0) -> aiohttp.ClientSession:
    """A client that keeps its connections from one round to the next, if that comes within `idle_s`; close it.

    The admin port closes what is idle for 20 s. Made where a loop runs. No cookies, no proxy from the environment.
    """
    # One for each proxy stays open: a limit would make them wait for one another.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=idle_s)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)


async def scrape(
    session: aiohttp.ClientSession, targets: Sequence[str], *, timeout_s: float, max_bytes: int, at_once: int
) -> list[Outcome]:
    """What each proxy is doing, in the order of the targets: addresses of admin ports, as `http://10.1.2.3:9901`.

    Each has `timeout_s` from its turn to its answer's end. Raises nothing but the caller's own cancellation.
    """
    outcomes: dict[int, Outcome] = {}
    turns = iter(enumerate(targets))

    async def work() -> None:
        for place, target in turns:
            outcomes[place] = await _ask(session, target, timeout_s, max_bytes)

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(max(1, at_once), len(targets))):
            workers.create_task(work())
    return [outcomes[place] for place in range(len(targets))]


async def _ask(session: aiohttp.ClientSession, target: str, timeout_s: float, max_bytes: int) -> Outcome:
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _fetch(session, target, max_bytes)
    except TimeoutError:
        return Unknown(why=Why.TIMEOUT, detail=f"no answer within {timeout_s:g}s")
    except (aiohttp.ClientResponseError, UnicodeDecodeError) as error:
        return Unknown(why=Why.MALFORMED, detail=_brief(error))
    except (aiohttp.ClientConnectorError, aiohttp.NonHttpUrlClientError, ValueError) as error:
        # ValueError: no URL at all.
        return Unknown(why=Why.REFUSED, detail=_brief(error))
    except aiohttp.ClientError as error:
        return Unknown(why=Why.LOST, detail=_brief(error))
    return answer if isinstance(answer, Unknown) else decode(answer, monotonic())


def _brief(error: Exception) -> str:
    # aiohttp quotes what it was sent, over several lines.
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:100]}"


async def _fetch(session: aiohttp.ClientSession, target: str, max_bytes: int) -> str | Unknown:
    """The body, or why there is none. Raises aiohttp's errors, and UnicodeDecodeError."""
    async with session.get(
        URL(target + TARGET, encoded=True),
        timeout=_NO_DEADLINE,
        # A proxy's admin port sends nobody elsewhere and compresses nothing.
        allow_redirects=False,
        auto_decompress=False,
        skip_auto_headers=_NO_FIELDS,
    ) as response:
        if response.status != HTTPStatus.OK:
            return Unknown(why=Why.STATUS, detail=str(response.status))
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > max_bytes:
                return Unknown(why=Why.TOO_LARGE, detail=f"more than {max_bytes} bytes")
    return body.decode()
