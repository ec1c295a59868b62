"""With the express lane or without it: random requests in random order must come out as the same bytes, on both sides.

Two proxies with the same config stand before two APIs that answer alike. One has the lane, the other has
CROWDGATE_CLIENT__EXPRESS=false. What time alone changes (Date, Age, ttl) may differ by a second.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import strategies as st

from proxy import metrics
from tests.claims import attack
from tests.flow import lanes
from tests.flow.attacks.test_attack_unkeyed import EVIL, OVERRIDES, UNDERSCORED
from tests.flow.client import Client, connected, request
from tests.flow.origin import Asked, Origin, origin
from tests.flow.processes import Proxy, running
from tests.flow.test_differential import REQUESTS
from tests.fuzz.search import PATIENCE_S, search

pytestmark = pytest.mark.timeout(PATIENCE_S)

_CONFIG = """
upstream: {{url: {url}}}
client: {{header_timeout: 400ms, body_timeout: 400ms, max_body: 100KiB}}
routes:
  - {{name: kept, match: "/kept/**", ttl: 1m, tags: [all]}}
  - {{name: told, match: "/told/{{n}}/{{kind}}", ttl: 1m, vary: [Accept-Language], query: [a], tags: [all, "n:{{n}}"]}}
  - {{name: own, match: "/own/**", ttl: 1m, per: Authorization, tags: [all]}}
  - {{name: user, match: "/user/**", ttl: 1m, per: X-User, query: sorted, unkeyed: [X-Forwarded-Proto]}}
  - {{name: deaf, match: "/deaf/**", ttl: 1m, request_directives: ignore, query: none}}
  - {{name: theirs, match: "/theirs/**"}}
  - {{name: open, match: "/open/**", ttl: 1m, store: {{cookie: true, authorization: true, set_cookie: true}}}}
  - {{name: failing, match: "/failing/**", ttl: 1m, status_ttl: {{404: 1m, 500: 1m}}}}
  - {{name: write, match: "/write/**", methods: [POST, PUT, DELETE], purge: [all]}}
"""
_PATIENCE_S = 10.0
# Longer than any timeout of the config.
_QUIET_S = 1.5

# -- the API --

_MOMENT = "Date: Sun, 01 Nov 2026 10:00:00 GMT"
_VALIDATORS = ('ETag: "v1"', "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT")
# What it says, by the last part of the path.
_SAID: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain": ("200 OK", ("Content-Type: text/plain",)),
    "simple": ("200 OK", ("Content-Type: text/plain", _MOMENT, "Server: api")),
    "dated": ("200 OK", (_MOMENT, "Cache-Control: max-age=90000000", *_VALIDATORS)),
    "valid": ("200 OK", _VALIDATORS),
    "language": ("200 OK", ("Vary: Accept-Language",)),
    "coding": ("200 OK", ("Vary: Accept-Encoding, X-Kind", "Content-Encoding: x")),
    "any": ("200 OK", ("Vary: *",)),
    "cookie": ("200 OK", ("Set-Cookie: a=b",)),
    "private": ("200 OK", ("Cache-Control: private, max-age=60",)),
    "unstored": ("200 OK", ("Cache-Control: no-store",)),
    "public": ("200 OK", ("Cache-Control: public, max-age=60", "Age: 7", "Via: 1.1 other")),
    "checked": ("200 OK", ("Cache-Control: max-age=60, must-revalidate", "Surrogate-Key: s")),
    "missing": ("404 Not Found", ("Content-Type: text/plain",)),
    "failed": ("500 Ill", (_MOMENT,)),
    "out": ("503 Out", (_MOMENT, "Retry-After: 1")),
    "moved": ("301 Moved Permanently", ("Location: /kept/x",)),
    "nothing": ("204 No Content", (_MOMENT,)),
    "hop": ("200 OK", (_MOMENT, "Connection: keep-alive, X-Hop", "Keep-Alive: timeout=5", "X-Hop: 1")),
    "odd": ("200 \xe4h  OK", (_MOMENT, "X-A:  spaces ", "x-a: 1", "X-Empty:", "Server: \xff")),
    "chunked": ("200 OK", (_MOMENT, "Transfer-Encoding: chunked")),
    "ending": ("200 OK", (_MOMENT, "Connection: close")),
    "large": ("200 OK", (_MOMENT,)),
    "early": ("200 OK", (_MOMENT,)),
}  # fmt: skip


async def _answer(asked: Asked) -> None:
    """The same to the same; what is asked for again is answered otherwise."""
    body = await asked.content()
    kind = asked.target.partition("?")[0].rpartition("/")[2]
    status, lines = _SAID.get(kind, _SAID["plain"])
    told = f"{asked.method} {asked.target} {asked.fields!r} {body[:50]!r}".encode()
    told = re.sub(rb"127\.0\.0\.1:\d+", b"API", told) + bytes(70_000 if kind == "large" else 0)
    if b'If-None-Match: "v1"' in asked.head and _VALIDATORS[0] in lines:
        status, told = "304 Not Modified", b""
    lines = tuple(line for line in lines if status[:3] != "304" or not line.startswith("Content"))
    framing = () if "chunked" in kind or status[:3] in ("204", "304") else (f"Content-Length: {len(told)}",)
    head = "\r\n".join((f"HTTP/1.1 {status}", *lines, *framing, "", "")).encode("latin-1")
    if kind == "early":
        head = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + head
    if asked.method == "HEAD" or status[:3] in ("204", "304"):
        told = b""
    elif "chunked" in kind:
        told = b"%x\r\n%b\r\n0\r\nT: 1\r\n\r\n" % (len(told), told)
    await asked.send(head + told)
    if kind == "ending":
        asked.close()


# -- what is sent --

_PREFIXES = (
    *("kept", "kept", "told", "own", "user", "deaf", "theirs", "open", "failing", "write"),
    *("other", "other", "other", "other"),
)
_LINES = (
    *("Accept: text/html", "Accept-Language: en", "Accept-Language: de, en", "accept-language: DE,en"),
    *("Accept-Encoding: gzip", "Accept-Encoding: br", "X-Kind: 1", "X-Kind: 2", "User-Agent: a b"),
    *("Authorization: Bearer 1", "Authorization: Bearer 2", "X-User: 1", "X-User: 2", "Cookie: a=b", "Cookie: c"),
    *("Origin: http://a", "Referer: http://a/", "Traceparent: 00-1", "X-Request-Id: 7", "Via: 1.1 other"),
    *('If-None-Match: "v1"', "If-None-Match: *", 'If-None-Match: W/"v1", "x"', 'If-None-Match: "no"'),
    *("If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT", "If-Modified-Since: never", 'If-Match: "v1"'),
    *("Range: bytes=0-3", "Range: bytes=5-", "Range: bytes=-2", "Range: bytes=90000-", "Range: lines=1"),
    *('If-Range: "v1"', "If-Range: Thu, 01 Jan 2026 00:00:00 GMT", "If-Unmodified-Since: never"),
    *("Cache-Control: no-cache", "Cache-Control: no-store", "Cache-Control: max-age=0", "Cache-Control: max-stale"),
    *("Cache-Control: only-if-cached", "Cache-Control: min-fresh=9", "Cache-Control: ", "Pragma: no-cache"),
    *("Connection: keep-alive", "Connection: close", "Connection: X-Kind", "Connection: TE", "TE: trailers"),
    *("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", "Keep-Alive: 5"),
    *("Content-Length: 0", "Max-Forwards: 1", "X-Spaces:  a\t", "X-Empty:", "X-Latin: \xe9", "Host: other.test:80"),
    *("Expect: nothing", "Proxy-Connection: keep-alive", "Via: 1.1 crowdgate, 1.0 crowdgate", "x-forwarded-for: a"),
    "Via: " + ", ".join(["1.1 crowdgate"] * 10),
    *EVIL,
    *OVERRIDES,
    *UNDERSCORED,
)  # fmt: skip
_QUERIES = (
    "",
    "",
    "",
    "?",
    "?a=1",
    "?b=1&a=1",
    "?a=2&b=1",
    "?a=1&a=2",
    "?A=1;a=2",
    "?%61=1",
    "?" + "&" * 300,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A request, some times over on the same connection."""

    method: str
    prefix: str
    kind: str
    query: str
    lines: tuple[str, ...]
    times: int
    version: str = "1.1"
    together: bool = False
    """Sent at once, and read then."""

    def data(self, number: int) -> bytes:
        target = f"/{self.prefix}/{number}/{self.kind}{self.query}"
        body = b"body" if self.method in {"POST", "PUT"} else b""
        return request(target, *self.lines, method=self.method, body=body, version=self.version)


def _families() -> list[list[str]]:
    """Lines of the same name, each with a value that means something else."""
    families: dict[str, list[str]] = {}
    for line in _LINES:
        families.setdefault(line.partition(":")[0], []).append(line)
    return [[*lines, f"{name}: other"] for name, lines in families.items()]


_PURGES = st.sampled_from(
    (
        {"tags": ["all"]}, {"tags": ["all"], "soft": True}, {"tags": ["nothing"]}, {"tags": ["s"]},
        {"routes": ["kept"]}, {"patterns": ["/kept/*"]}, {"patterns": ["*"], "soft": True},
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Play:
    """Steps, played again with something in between: so that what is known is used, and what has changed is noticed."""

    steps: tuple[Step, ...]
    between: tuple[dict[str, Any], ...]


@st.composite
def _alike(draw: st.DrawFn) -> tuple[Step, ...]:
    """Requests of one kind for one URL, that differ by the values of some fields: what is known of one is not to be
    taken for what is known of another."""
    names = draw(st.lists(st.sampled_from(_families()), max_size=3))
    method = draw(
        st.sampled_from((*["GET"] * 16, "HEAD", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE"))
    )
    where = {
        "prefix": draw(st.sampled_from(_PREFIXES)),
        "kind": draw(st.sampled_from((*sorted(_SAID), *["simple"] * 6, *["valid"] * 6))),
        "query": draw(st.sampled_from(_QUERIES)),
        "version": draw(st.sampled_from((*["1.1"] * 12, "1.0"))),
    }
    steps = []
    for _ in range(draw(st.integers(2, 5))):
        lines = tuple(draw(st.sampled_from(name)) for name in names)
        times = draw(st.sampled_from((1, 3, 12)))
        steps.append(Step(method=method, lines=lines, times=times, together=draw(st.booleans()), **where))
    return tuple(steps)


_PLAYS = st.builds(Play, steps=_alike(), between=st.lists(_PURGES, max_size=2).map(tuple))

# -- both sides --

_TIMES = re.compile(rb"(?<=\r\nAge: )([0-9]+)|(?<=ttl=)(-?[0-9]+)|(?<=\r\nDate: )([^\r]+)")


def _assert_alike(one: bytes, other: bytes, what: Any) -> None:
    """The same bytes, but for a second."""
    assert _TIMES.sub(b"~", one) == _TIMES.sub(b"~", other), what
    for first, second in zip(_TIMES.finditer(one), _TIMES.finditer(other), strict=True):
        if (first[1] or first[2]) and abs(int(first[0]) - int(second[0])) > 1:
            raise AssertionError((what, first[0], second[0]))


@dataclass
class Side:
    """One proxy, its API, and a client of it."""

    proxy: Proxy
    api: Origin
    client: Client | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def send(self, data: bytes, method: str, times: int, *, together: bool) -> list[bytes]:
        """The answers, byte by byte, 1xx among them; the last may be an end."""
        answers: list[bytes] = []
        while len(answers) < times:
            client, count = await self._connected(), times - len(answers) if together else 1
            client.writer.write(data * count)
            for _ in range(count):
                answers.append(await asyncio.wait_for(_raw(client.reader, method), _PATIENCE_S))
                if _ends(answers[-1]):
                    await self.leave()
                    break
        return answers

    async def _connected(self) -> Client:
        if self.client is None:
            self.client = await self.stack.enter_async_context(connected(self.proxy.port))
        return self.client

    async def leave(self) -> None:
        self.client = None
        await self.stack.aclose()

    async def whole(self, data: bytes) -> bytes:
        """All that comes for these bytes on a connection of their own, up to its end or until nothing more comes."""
        got = b""
        async with connected(self.proxy.port) as client:
            client.writer.write(data)
            with suppress(TimeoutError, ConnectionError):
                while piece := await asyncio.wait_for(client.reader.read(2**20), _QUIET_S):
                    got += piece
                got += b"<end>"
        return got

    def asked(self) -> list[tuple[bytes, bytes]]:
        """What the API was asked since the last time."""
        seen = [(asked.head.replace(b":%d" % self.api.port, b":API"), asked.body) for asked in self.api.asked]
        self.api.asked.clear()
        return seen

    async def purge(self, names: dict[str, Any]) -> None:
        answer = await self.proxy.asked("/api/purge", method="POST", body=orjson.dumps(names))
        assert answer.status == 200, answer

    async def entries(self) -> float:
        return await self.proxy.metric(metrics.MEMORY_ENTRIES)

    async def counted(self) -> Counter[str]:
        text = (await self.proxy.asked("/metrics")).body.decode()
        wanted = {
            *(
                metrics.REQUESTS,
                metrics.UPSTREAM_REQUESTS,
                metrics.BAD_REQUESTS,
                metrics.PURGES,
            ),
            *(metrics.INFLIGHT, metrics.UPSTREAM_INFLIGHT, metrics.CONNECTIONS),
            *("crowdgate_request_seconds_count", "crowdgate_upstream_seconds_count"),
        }
        samples = metrics.read(text)
        counts = {
            f"{sample.name} {sorted(sample.labels.items())}": int(sample.value)
            for sample in samples
            if sample.name in wanted
        }
        return Counter(counts)


def _ends(answer: bytes) -> bool:
    return not answer or b"\r\nConnection: close\r\n" in answer


async def _raw(reader: asyncio.StreamReader, method: str) -> bytes:
    """An answer as it comes; nothing where there is an end instead."""
    head = b""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        head = await reader.readuntil(b"\r\n\r\n")
        while head.rpartition(b"HTTP/1.1 ")[2].startswith(b"1"):
            head += await reader.readuntil(b"\r\n\r\n")
        last = head[head.rindex(b"HTTP/1.1 ") :]
        if method == "HEAD" or last.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")):
            return head
        if (length := re.search(rb"\r\ncontent-length: ?([0-9]+)", last, re.IGNORECASE)) is not None:
            return head + await reader.readexactly(int(length[1]))
        if b"\r\nTransfer-Encoding: chunked" in last:
            return head + await reader.readuntil(b"0\r\n\r\n")
        return head + await reader.read()
    return head


@dataclass
class Stage:
    runner: asyncio.Runner
    express: Side
    aiohttp: Side
    ways: Path
    number: int = 0

    def play(self, example: Play) -> None:
        self.runner.run(self._play(example))

    async def _play(self, example: Play) -> None:
        self.number += 1
        for side in (self.express, self.aiohttp):
            await side.leave()
            # What a failure has left.
            side.asked()
        for names in (None, *example.between):
            if names is not None:
                await asyncio.gather(*(side.purge(names) for side in (self.express, self.aiohttp)))
            for step in example.steps:
                await self._step(step)

    async def _step(self, step: Step) -> None:
        data = step.data(self.number)
        quick, slow = await asyncio.gather(
            *(
                side.send(data, step.method, step.times, together=step.together)
                for side in (self.express, self.aiohttp)
            )
        )
        for number, (one, other) in enumerate(zip(quick, slow, strict=True)):
            _assert_alike(one, other, (step, number))
        assert self.express.asked() == self.aiohttp.asked(), step

    def both(self, data: bytes) -> None:
        self.runner.run(self._both(data))

    async def _both(self, data: bytes) -> None:
        one, other = await asyncio.gather(self.express.whole(data), self.aiohttp.whole(data))
        _assert_alike(one, other, data)
        assert self.express.asked() == self.aiohttp.asked(), data

    async def counted(self) -> tuple[Counter[str], Counter[str]]:
        for side in (self.express, self.aiohttp):
            await side.leave()
            async with asyncio.timeout(_PATIENCE_S):
                while await side.proxy.metric(metrics.CONNECTIONS) or await side.proxy.metric(
                    metrics.INFLIGHT
                ):
                    await asyncio.sleep(0.01)
        return await self.express.counted(), await self.aiohttp.counted()

    async def store_the_same(self) -> None:
        """Wait until sweepers have let both go of what was purged: all else must be in both."""
        async with asyncio.timeout(_PATIENCE_S):
            while await self.express.entries() != await self.aiohttp.entries():
                await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def stage(nothing_is_left: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    ways = tmp_path_factory.mktemp("ways") / "ways"
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def side(module: str, **env: str) -> Side:
            api = await stack.enter_async_context(origin())
            for target in ("/", "*"):
                api.on(target, _answer)
            config = _CONFIG.format(url=api.url)
            return Side(await stack.enter_async_context(running(config, module=module, env=env)), api)

        async def start() -> Stage:
            express = await side("tests.flow.lanes", **{lanes.WAYS: str(ways)})
            aiohttp = await side("proxy", **lanes.by("aiohttp")["env"])
            return Stage(runner, express, aiohttp, ways)

        made = runner.run(start())
        try:
            yield made
        finally:
            runner.run(made.express.leave())
            runner.run(made.aiohttp.leave())
            runner.run(stack.aclose())


@pytest.mark.parametrize(
    ("lane", "taken"),
    [
        # The tests of tests/flow/caching and tests/flow/attacks go by these.
        pytest.param("known", {"hits": 1, "redis": 0, "passed": 1, "not plain": 1}, id="known"),
        pytest.param("express", {"hits": 0, "redis": 0, "passed": 0, "not plain": 0}, id="express"),
        pytest.param("aiohttp", {"hits": 0, "redis": 0, "passed": 0, "not plain": 0}, id="aiohttp"),
    ],
)
async def test_a_few_requests_take_the_quick_ways_only_where_all_is_to_be_known_at_once(
    tmp_path: Path, lane: str, taken: dict[str, int]
) -> None:
    async with origin() as api:
        api.on("/", _answer)
        how = lanes.by(lane, **{lanes.WAYS: str(tmp_path / "ways")})
        how["module"] = "tests.flow.lanes"
        config = f"upstream: {{url: {api.url}}}\nroutes: [{{match: '/kept/**', ttl: 1m}}]\n"
        async with running(config, **how) as proxy, connected(proxy.port) as client:
            for target in ("/kept/plain", "/other/simple"):
                for _ in range(2):
                    assert (await client.ask(target)).status == 200
        assert lanes.ways(tmp_path / "ways") == taken


async def test_the_lane_that_is_turned_off_is_off(tmp_path: Path) -> None:
    async with origin() as api:
        api.on("/", _answer)
        how = lanes.by("aiohttp", **{lanes.WAYS: str(tmp_path / "ways")})
        how["module"] = "tests.flow.lanes"
        config = f"upstream: {{url: {api.url}}}\nroutes: [{{match: '/kept/**', ttl: 1m}}]\n"
        async with running(config, **how) as proxy, connected(proxy.port) as client:
            for _ in range(60):
                await client.ask("/kept/plain")
                await client.ask("/other/simple")
        assert sum(lanes.ways(tmp_path / "ways").values()) == 0


_PLAIN = ("Accept: text/html", "Authorization: Bearer 1", "X-User: 1", "Accept-Language: en", "X-Kind: 1")


@pytest.mark.parametrize("prefix", sorted(set(_PREFIXES)))
def test_each_kind_of_answer_comes_alike_by_both_lanes_however_often_it_comes(
    stage: Stage, prefix: str
) -> None:
    way = "passed" if prefix in {"other", "write"} else "hits"
    before = lanes.ways(stage.ways)[way]
    for kind in _SAID:
        steps = tuple(
            Step(
                method=method,
                prefix=prefix,
                kind=kind,
                query="?a=1",
                lines=_PLAIN,
                times=14,
                together=together,
            )
            for method, together in (("GET", False), ("GET", True), ("HEAD", False))
        )
        stage.play(Play(steps, ()))

    assert lanes.ways(stage.ways)[way] > before + 25


@pytest.mark.parametrize(
    ("prefix", "kind"), [("kept", "valid"), ("own", "valid"), ("user", "valid"), ("other", "simple")]
)
def test_each_value_of_each_field_is_heeded_alike_by_both_lanes(stage: Stage, prefix: str, kind: str) -> None:
    for name in _families():
        # First what stores the whole; then the first until it is known, the others in its place, and it again.
        asked = [("X-A: 1", 1), (name[0], 12), *((line, 3) for line in name), (name[0], 2)]
        steps = tuple(
            Step(method="GET", prefix=prefix, kind=kind, query="?a=1", lines=("X-Kind: 1", line), times=times)
            for line, times in asked
        )
        stage.play(Play(steps, ()))


@attack("smuggling", "both lanes: whatever is asked, and however often, each answers as the other would")
def test_both_lanes_answer_alike_and_ask_the_api_alike(stage: Stage) -> None:
    before = lanes.ways(stage.ways)
    search(_PLAYS, stage.play, examples=150)

    taken = Counter(lanes.ways(stage.ways))
    taken.subtract(before)
    assert min(taken["hits"], taken["passed"], taken["not plain"]) > 50, taken


_FOLLOWED = request("/other/followed", "Connection: close")


@attack("smuggling", "both lanes: random messages of every kind")
def test_random_requests_are_the_same_to_both_lanes(stage: Stage) -> None:
    count = 0

    def check(sent: Any) -> None:
        nonlocal count
        count += 1
        stage.both(sent.bytes(b"/kept/random-%d/" % count) * 2 + _FOLLOWED)

    search(REQUESTS, check, examples=200)


_CORPUS = sorted((Path(__file__).parents[1] / "fuzz" / "corpus" / "request_head").iterdir())


@attack("hostile bytes", "both lanes: heads that are malformed, cut off, or have broken a parser before")
def test_heads_that_are_known_to_be_odd_are_the_same_to_both_lanes(stage: Stage) -> None:
    async def all_of_them() -> None:
        for path in _CORPUS:
            data = path.read_bytes()
            for more in (b"", _FOLLOWED, b"\r\n\r\n" + _FOLLOWED):
                jobs.append((path.name, asyncio.gather(*(side.whole(data + more) for side in sides))))
        for name, job in jobs:
            one, other = await job
            _assert_alike(one, other, name)

    sides, jobs = (stage.express, stage.aiohttp), list[tuple[str, Any]]()
    stage.runner.run(all_of_them())
    heads = [Counter(head for head, _ in side.asked()) for side in sides]
    assert heads[0] == heads[1]


def test_both_lanes_have_counted_and_stored_the_same(stage: Stage) -> None:
    quick, slow = stage.runner.run(stage.counted())
    assert sum(quick.values()) > 0
    assert quick == slow
    stage.runner.run(stage.store_the_same())
