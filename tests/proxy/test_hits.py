"""Recognised requests, before a store that the test writes, at an instant that the test sets.

Whatever happens, an answer that is ready is, byte for byte, what the handler would make at that instant; where the handler
would not answer from memory, nothing is ready.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from proxy import settings
from proxy.config import Config, hostless_urls
from proxy.express import Express
from proxy.handler import Handler, Lookup
from proxy.hits import Hit, Hits
from proxy.leases import Leases
from proxy.messages import Incoming
from proxy.metrics import REQUESTS, Metrics, read, total
from proxy.policy import freshness
from proxy.policy.freshness import Use
from proxy.policy.outcome import Handling, Outcome
from proxy.policy.purges import Kind
from proxy.policy.routes import RouteTable
from proxy.purge_log import CLOCK, PurgeLog
from proxy.store.entry import Entry
from proxy.store.memory import Memory
from proxy.store.tiers import Copy, Tiers, variant_key
from proxy.tasks import Tasks
from proxy.upstream import Upstream
from proxy.wire.request import Limits, parse_head
from proxy.writing import head_of
from tests import servers
from tests.entries import an_entry
from tests.flow.client import Client, request
from tests.flow.origin import Asked, framed, numbered, ok
from tests.proxy.quick import Quick, client_of, known, quick
from tests.redis_tiers import needs_redis

NOW = 1_800_000_000.25
LIMITS = Limits(max_line=8190, max_field=8190, max_fields=128, max_head=65536)
OFTEN = 8
"""Requests that look alike before an expression is made for them."""
ROUTES = (
    settings.Route(match="/a/**", name="a", ttl=60.0, tags=("all",)),
    settings.Route(match="/own/**", name="own", per="X-User", tags=("all",)),
    settings.Route(match="/told/**", name="told", vary=("Accept-Language",), tags=("all",)),
)
HEAD = b'ETag: "v1"\r\nDate: Fri, 15 Jan 2027 08:00:00 GMT\r\nContent-Length: 10\r\n'


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expressions are made one after the other."""
    monkeypatch.setattr("proxy.shapes._PAUSES", 0)


@dataclass
class Core:
    """All that hits need, at an instant."""

    now: float = NOW
    ready_size: int = 2**20
    metrics: Metrics = field(default_factory=lambda: Metrics("1"))
    tasks: Tasks = field(default_factory=Tasks)
    log: PurgeLog = field(init=False)
    memory: Memory[Copy] = field(init=False)
    tiers: Tiers = field(init=False)
    handler: Handler = field(init=False)
    hits: Hits = field(init=False)

    def __post_init__(self) -> None:
        self.log = PurgeLog(None, self.metrics, self.tasks)
        self.memory = Memory(max_bytes=2**20, max_object_bytes=2**20)
        self.tiers = Tiers(self.memory, None, self.log, lambda _: None)
        self.handler = Handler(
            self.config(),
            self.tiers,
            self.log,
            Leases(None, self.metrics, self.tasks),
            self.metrics,
            tasks=self.tasks,
            clock=lambda: self.now,
        )
        self.hits = Hits(self.handler, self.tiers, self.log, self.metrics, LIMITS)
        self.hits.forget()

    def config(self, routes: tuple[settings.Route, ...] = ROUTES) -> Config:
        wanted = settings.Settings(
            upstream=settings.Upstream(url="http://127.0.0.1:9"),
            routes=routes,
            memory=settings.Memory(ready_size=self.ready_size),
        )
        table = RouteTable.of(routes)
        upstream = Upstream(wanted.upstream, self.metrics.upstream)
        return Config(settings=wanted, routes=table, upstream=upstream, hostless=hostless_urls((), table))

    # -- what is stored --

    def store(self, data: bytes, **members: Any) -> Entry:
        """An answer to a request, made at this instant; `vary` makes it one variant."""
        lookup = self._lookup(data)
        base = lookup.text
        entry = an_entry(
            self.now,
            **{
                "key": base,
                "url": lookup.key.url.decode("latin-1"),
                "tags": lookup.match.tags,
                "route": lookup.route.name,
                "lines": HEAD,
                "body": b"0123456789",
                "keep_until": self.now + 1000,
                "born": self.log.purges.last,
                **members,
            },
        )
        if entry.vary:
            entry = an_entry(**{**_members(entry), "key": variant_key(base, entry, lookup.incoming.fields)})
        assert self.tiers.keep(entry, base, lookup.route, self.now)
        return entry

    def key(self, data: bytes) -> str:
        return self._lookup(data).text

    def _lookup(self, data: bytes) -> Lookup:
        asked_for = self.handler._asked_for(self.handler.config, _incoming(data))
        assert isinstance(asked_for, Lookup)
        return asked_for

    # -- what is answered --

    def ready(self, data: bytes) -> bytes | None:
        """What is ready for a request."""
        like = self.hits.alike(data)
        hit = None if like is None else self.hits.find(*like)
        if hit is None or not self.hits.holds(hit, self.now):
            return None
        hit.copy.hits += 1
        return hit.head + hit.body

    def slowly(self, data: bytes) -> bytes | None:
        """What the handler answers from memory at once, without asking anybody for anything."""
        lookup = self._lookup(data)
        found = self.handler._recalled(lookup, self.now)
        if found is None or freshness.use(found.times, lookup.wanted, self.now) is not Use.FRESH:
            return None
        answer = self.handler._stored(lookup, found, Handling(outcome=Outcome.HIT_MEMORY, detail="memory"))
        assert isinstance(answer.body, bytes)
        return head_of(answer) + answer.body

    def ask(self, data: bytes) -> tuple[bytes | None, bool]:
        """An answer from memory, if there is one, and whether it was ready."""
        # First: the handler takes out of memory what it finds to be over.
        quick, slow = self.ready(data), self.slowly(data)
        if quick is not None:
            assert quick == slow
            return quick, True
        self.hits.learn(data, _incoming(data), Outcome.MISS if slow is None else Outcome.HIT_MEMORY)
        return slow, False

    def known(self, data: bytes) -> Hit:
        """A request is asked for until it is recognised."""
        for _ in range(OFTEN + 1):
            self.ask(data)
        like = self.hits.alike(data)
        hit = None if like is None else self.hits.find(*like)
        assert hit is not None
        assert self.ready(data) is not None
        return hit

    async def purge(self, kind: Kind, value: str, *, soft: bool = False) -> None:
        await self.log.purge([(kind, value)], soft=soft)


def _members(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__struct_fields__}


def _incoming(data: bytes) -> Incoming:
    head = parse_head(data[:-2], LIMITS)
    return Incoming(method=head.method, target=head.target, fields=head.fields)


def get(target: str = "/a/1", *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: a", *lines, "", "")).encode("latin-1")


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Core:
    made = Core()
    for module in ("hits", "express"):
        monkeypatch.setattr(f"proxy.{module}.time", lambda: made.now)
    return made


# -- learning --


def test_a_request_that_comes_often_is_recognised_and_answered_with_the_handler_s_bytes(core: Core) -> None:
    core.store(get())
    seen = [core.ask(get()) for _ in range(OFTEN + 2)]

    assert {body for body, _ in seen} == {core.slowly(get())}
    assert [ready for _, ready in seen] == [False] * OFTEN + [True] * 2


def test_values_that_do_not_count_may_be_new_each_time(core: Core) -> None:
    core.store(get())
    core.known(get("/a/1", "Traceparent: 0", "Cookie: a=0", "X-Forwarded-For: 10.0.0.0"))

    for number in range(20):
        data = get(
            "/a/1", f"Traceparent: {number}", f"Cookie: a={number}", f"X-Forwarded-For: 10.0.0.{number}"
        )
        assert core.ask(data)[1]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(get("/a/2"), id="target"),
        pytest.param(get("/a/1?"), id="query"),
        pytest.param(get().replace(b"Host: a", b"Host: b"), id="host"),
        pytest.param(get().replace(b"Host: a", b"host: a"), id="the case of a name"),
        pytest.param(get(method="HEAD"), id="method"),
        pytest.param(get("/a/1", "X-a: 1"), id="another field"),
        pytest.param(get("/a/1", "X-Forwarded-Host: b"), id="what proxies say"),
    ],
)
def test_what_counts_makes_another_request(core: Core, other: bytes) -> None:
    core.store(get())
    core.known(get())

    assert core.ready(other) is None


@pytest.mark.parametrize(
    ("line", "others"),
    [
        pytest.param("If-None-Match", ('"v1"', '"v2"', "*", 'W/"v1"'), id="conditions"),
        pytest.param("Range", ("bytes=0-3", "bytes=0-", "bytes=90-"), id="ranges"),
        pytest.param("Accept-Encoding", ("gzip", "br", ""), id="what does not count"),
        pytest.param("Authorization", ("Bearer 1", "Bearer 2"), id="credentials"),
    ],
)
def test_whatever_else_is_asked_is_answered_as_the_handler_would(
    core: Core, line: str, others: tuple[str, ...]
) -> None:
    core.store(get())
    for value in others:
        for _ in range(OFTEN + 2):
            # `ask` compares.
            assert core.ask(get("/a/1", f"{line}: {value}"))[0] is not None


@pytest.mark.parametrize(
    "line",
    [
        "Cache-Control: no-cache",
        "Cache-Control: max-stale",
        "Cache-Control: no-store",
        "If-Match: a",
        "Pragma: no-cache",
    ],
)
def test_what_is_not_plain_is_never_ready(core: Core, line: str) -> None:
    core.store(get())
    data = get("/a/1", line)
    for _ in range(2 * OFTEN):
        core.hits.learn(data, _incoming(data), Outcome.HIT_MEMORY)

    assert core.ready(data) is None


def test_personal_requests_get_only_what_the_api_itself_lets_be_shared(core: Core) -> None:
    data = get("/a/1", "Cookie: a")
    core.store(data, explicit=True)
    hit = core.known(data)
    core.store(data, explicit=False, body=b"only the route says so")

    assert not core.hits.holds(hit, core.now)
    assert core.ask(data) == (None, False)


def test_principals_have_answers_of_their_own(core: Core) -> None:
    for user in ("one", "other"):
        core.store(get("/own/1", f"X-User: {user}"), body=user.encode())
        core.known(get("/own/1", f"X-User: {user}"))

    for user in ("one", "other", "one"):
        answer, ready = core.ask(get("/own/1", f"X-User: {user}"))
        assert answer is not None
        assert (answer.endswith(user.encode()), ready) == (True, True)
    assert core.ready(get("/own/1", "X-User: third")) is None


# -- until when --


def test_within_its_life_an_answer_says_how_old_it_is_and_then_it_is_no_longer_ready(core: Core) -> None:
    entry = core.store(get())
    core.known(get())
    for tenths in range(1, 620):
        core.now = NOW + tenths / 10
        answer, ready = core.ask(get())
        assert ready == (core.now < entry.fresh_until)
        assert (answer is None) == (core.now >= entry.fresh_until)


def test_a_clock_that_is_set_makes_nothing_wrong(core: Core) -> None:
    core.store(get())
    core.known(get())
    chance = random.Random(1)
    for _ in range(2000):
        core.now = NOW + chance.choice(
            (chance.uniform(-200, 200), chance.uniform(-2, 2), chance.uniform(0, 60))
        )
        # `ask` compares.
        core.ask(get())


async def test_a_purge_ends_it(core: Core) -> None:
    core.store(get())
    hit = core.known(get())
    await core.purge(Kind.TAG, "all")

    assert not core.hits.holds(hit, core.now)
    assert core.ask(get()) == (None, False)


async def test_so_does_a_soft_one(core: Core) -> None:
    core.store(get(), revalidate_s=60.0)
    hit = core.known(get())
    await core.purge(Kind.URL, "/a/1", soft=True)

    assert not core.hits.holds(hit, core.now)
    assert core.slowly(get()) is None


async def test_a_purge_of_something_else_changes_nothing(core: Core) -> None:
    core.store(get())
    core.now += 0.1
    hit = core.known(get())
    before = hit.head
    await core.purge(Kind.TAG, "others")

    assert core.ask(get())[1]
    assert hit.head is before


async def test_what_is_stored_anew_after_a_purge_is_ready_at_once(core: Core) -> None:
    core.store(get())
    core.known(get())
    await core.purge(Kind.TAG, "all")
    assert core.ready(get()) is None
    core.store(get(), body=b"9876543210")

    answer, ready = core.ask(get())
    assert answer is not None
    assert (answer.endswith(b"9876543210"), ready) == (True, True)


def test_what_takes_its_place_is_what_is_answered(core: Core) -> None:
    core.store(get())
    hit = core.known(get())
    core.store(get(), body=b"another", lines=b"Content-Length: 7\r\n", fresh_until=core.now + 5)

    answer, ready = core.ask(get())
    assert answer is not None
    assert (answer.endswith(b"\r\n\r\nanother"), b"ttl=5" in answer, ready) == (True, True, True)
    assert hit.body == b"another"


@pytest.mark.parametrize(
    "drop",
    [
        pytest.param(lambda core: core.memory.pop(core.key(get())), id="popped"),
        pytest.param(lambda core: core.memory.resize(0), id="evicted"),
        pytest.param(lambda core: core.memory.clear(), id="cleared"),
        pytest.param(lambda core: core.memory.sweep(inf), id="swept"),
    ],
)
def test_what_leaves_memory_is_no_longer_ready(core: Core, drop: Callable[[Core], Any]) -> None:
    core.store(get())
    hit = core.known(get())
    drop(core)

    assert not core.hits.holds(hit, core.now)


def test_what_is_dropped_by_a_new_config_is_not_used_though_a_connection_has_it(core: Core) -> None:
    core.store(get())
    hit = core.known(get())
    core.handler.config = core.config((settings.Route(match="/a/**", name="a", per="X-User"),))
    core.hits.forget()

    assert not core.hits.holds(hit, core.now)
    assert core.ready(get()) is None
    assert (hit.known, hit.head, hit.body) == (None, b"", b"")


def test_with_a_new_config_what_counts_is_looked_at_anew(core: Core) -> None:
    core.store(get("/a/1", "X-Tenant: 1"))
    core.known(get("/a/1", "X-Tenant: 1"))
    core.handler.config = core.config((settings.Route(match="/a/**", name="a", vary=("X-Tenant",)),))
    core.hits.forget()
    for tenant in ("1", "2"):
        core.store(get("/a/1", f"X-Tenant: {tenant}"), body=tenant.encode())
        core.known(get("/a/1", f"X-Tenant: {tenant}"))

    answers = [core.ask(get("/a/1", f"X-Tenant: {tenant}"))[0] for tenant in ("1", "2")]
    assert [(answer or b"")[-1:] for answer in answers] == [b"1", b"2"]


def test_once_closed_nothing_is_recognised_or_learned(core: Core) -> None:
    core.store(get())
    hit = core.known(get())
    core.hits.close()
    for _ in range(2 * OFTEN):
        assert core.ask(get())[1] is False

    assert not core.hits.holds(hit, core.now)
    assert core.hits.shape_of(_incoming(get())) is None


# -- while the purge log can't be read --


def test_while_the_log_can_t_be_read_memory_is_used_for_so_long_and_no_longer(core: Core) -> None:
    core.store(get(), fresh_until=core.now + 600)
    core.known(get())
    core.log.readable = False
    core.tiers.limits = settings.Memory(max_age=10.0)
    ready = []
    for _ in range(12):
        ready.append(core.ask(get())[1])
        core.now += 1

    assert ready == [True] * 11 + [False]


def test_what_may_have_been_slept_through_is_not_trusted(core: Core) -> None:
    core.store(get())
    hit = core.known(get())
    core.log.trusted_until = -inf

    assert not core.hits.holds(hit, core.now)
    core.log.trusted_until = inf
    assert core.hits.holds(hit, core.now)


def test_a_process_that_was_not_run_finds_out_by_itself(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    core.store(get())
    hit = core.known(get())
    core.log.trusted_until = 100.0
    for clock, held in ((99.9, True), (100.0, False)):
        for module in ("hits", "purge_log"):
            monkeypatch.setattr(
                f"proxy.{module}.clock_gettime", lambda which, at=clock: at if which == CLOCK else 0
            )
        assert core.hits.holds(hit, core.now) is held


# -- Vary --


@pytest.mark.parametrize("name", ["Accept-Encoding", "Accept-Language"])
def test_variants_are_told_apart(core: Core, name: str) -> None:
    # By what counts for all answers, and by what counts since a route names it.
    for value in ("en", "de"):
        core.store(get("/a/1", f"{name}: {value}"), vary=(name.lower(),), body=value.encode())
    for value in ("en", "de") * 2 * OFTEN:
        answer, _ = core.ask(get("/a/1", f"{name}: {value}"))
        assert answer is not None
        assert answer.endswith(value.encode())

    assert all(core.ask(get("/a/1", f"{name}: {value}"))[1] for value in ("en", "de"))
    assert core.ready(get("/a/1", f"{name}: fr")) is None


def test_what_varies_by_something_else_is_left_to_the_handler_and_changes_nothing_for_others(
    core: Core,
) -> None:
    core.store(get("/a/2", "X-Kind: 0"))
    core.known(get("/a/2", "X-Kind: 0"))
    for kind in ("1", "2"):
        core.store(get("/a/1", f"X-Kind: {kind}"), vary=("x-kind",), body=kind.encode())
    for kind in ("1", "2") * 2 * OFTEN:
        answer, ready = core.ask(get("/a/1", f"X-Kind: {kind}"))
        assert answer is not None
        assert (answer.endswith(kind.encode()), ready) == (True, False)

    assert core.ask(get("/a/2", "X-Kind: 1"))[1]


def test_an_answer_that_begins_to_vary_by_what_does_not_count_is_answered_right_from_then_on(
    core: Core,
) -> None:
    core.store(get("/a/1", "X-Kind: 1"))
    core.known(get("/a/1", "X-Kind: 1"))
    assert core.ask(get("/a/1", "X-Kind: 2"))[1]
    for kind in ("1", "2"):
        core.store(get("/a/1", f"X-Kind: {kind}"), vary=("x-kind",), body=kind.encode())

    for kind in ("1", "2") * OFTEN:
        answer, _ = core.ask(get("/a/1", f"X-Kind: {kind}"))
        assert answer is not None
        assert answer.endswith(kind.encode())
    # And back.
    core.store(get("/a/1"), body=b"same to all")
    for kind in ("1", "2"):
        assert core.ask(get("/a/1", f"X-Kind: {kind}"))[1]


def test_a_variant_that_is_asked_for_keeps_what_leads_to_it_in_memory(core: Core) -> None:
    data = get("/told/1", "Accept-Language: en")
    core.store(data, vary=("accept-language",))
    hit = core.known(data)
    assert hit.sign is not hit.node

    for node in (hit.sign, hit.node):
        node.uses = 0
    assert _served(core, hit)
    assert (hit.sign.uses, hit.node.uses) == (1, 1)


def _served(core: Core, hit: Hit) -> bool:
    """As the express lane does, to a client that has just left."""
    lane = object.__new__(Express)
    lane._hits, lane._transport = core.hits, None
    return lane._answer_hit(hit, b"")


# -- everything at once --

_LANGUAGES = ("en", "de")
_TARGETS = ("/a/1", "/a/2", "/told/1", "/own/1")
_STEPS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(_TARGETS), st.sampled_from(_LANGUAGES)),
    st.tuples(st.just("ask"), st.sampled_from(_TARGETS), st.sampled_from(_LANGUAGES)),
    st.tuples(st.just("ask"), st.sampled_from(_TARGETS), st.sampled_from(_LANGUAGES)),
    st.tuples(st.just("store"), st.sampled_from(_TARGETS), st.sampled_from(_LANGUAGES), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.floats(-90, 90) | st.floats(0, 1.1) | st.sampled_from((0.75, 1.0, 60.0))),
    st.tuples(st.just("purge"), st.sampled_from((Kind.TAG, Kind.URL)), st.booleans()),
    st.tuples(st.just("drop"), st.sampled_from(_TARGETS)),
    st.tuples(st.just("log"), st.booleans()),
    st.tuples(st.just("doubt"), st.booleans()),
    st.tuples(st.just("forget")),
)


def _data(target: str, language: str) -> bytes:
    return get(target, f"Accept-Language: {language}", f"X-User: {language}", "X-Kind: 1")


async def _play(core: Core, steps: list[tuple[Any, ...]]) -> int:
    """How often an answer was ready. `Core.ask` compares."""
    count = 0
    for step in steps:
        match step:
            case ("ask", target, language):
                # Often enough to be recognised.
                for _ in range(OFTEN + 2):
                    count += core.ask(_data(target, language))[1]
            case ("store", target, language, kind):
                vary = ((), ("accept-language",), ("x-kind",), ("accept-language", "x-user"))[kind]
                core.store(_data(target, language), vary=vary, body=f"{target} {language}"[-10:].encode())
            case ("wait", seconds):
                core.now += seconds
            case ("purge", kind, soft):
                await core.purge(kind, "all" if kind is Kind.TAG else "/a/1", soft=soft)
            case ("drop", target):
                core.memory.pop(core.key(_data(target, "en")))
            case ("log", readable):
                core.log.readable = readable
            case ("doubt", trusted):
                core.log.trusted_until = inf if trusted else -inf
            case _:
                core.hits.forget()
    return count


def test_whatever_happens_what_is_ready_is_what_the_handler_would_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready = 0

    @profile(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(steps=st.lists(_STEPS, min_size=3, max_size=25))
    def check(steps: list[tuple[Any, ...]]) -> None:
        nonlocal ready
        core = Core()
        monkeypatch.setattr("proxy.hits.time", lambda: core.now)
        for target in _TARGETS:
            core.store(_data(target, "en"))
        ready += asyncio.run(_play(core, steps))

    check()
    assert ready > 500


# -- metrics --


def test_what_is_ready_knows_where_it_is_counted(core: Core) -> None:
    core.store(get())
    hit = core.known(get())
    hit.cell.count += 3
    core.store(get(), status=404)
    core.ask(get())
    hit.cell.count += 1

    samples = read(core.metrics.render().decode())
    counted = {
        code: total(samples, REQUESTS, route="a", method="GET", code=code, cache="hit_memory")
        for code in ("200", "404")
    }
    assert counted == {"200": 3, "404": 1}


# -- ahead of time --


def _odds(core: Core, hit: Hit) -> float:
    """The handler's own at this instant."""
    copy = hit.copy
    if copy.hits < 10 or core.now < copy.due_from:
        return 0.0
    every_s = (core.now - copy.since) / copy.hits
    times = copy.entry.times(copy.standing.soft_at)
    return freshness.odds(times, took_s=copy.entry.took_s, every_s=every_s, now=core.now)


@pytest.mark.parametrize("took_s", [0.001, 0.3])
@pytest.mark.parametrize(
    ("ttl_s", "per_second"),
    [pytest.param(5, 400, id="short"), pytest.param(60, 40, id="usual"), pytest.param(600, 40, id="long")],
)
def test_the_die_is_cast_about_as_often_as_the_handler_would(
    core: Core, took_s: float, ttl_s: int, per_second: int
) -> None:
    core.store(get(), fresh_until=core.now + ttl_s, took_s=took_s)
    hit = core.known(get())
    quick = slow = 0.0
    for count in range(1, ttl_s * per_second):
        core.now = NOW + count / per_second
        hit.copy.hits += 1
        if count < 0.8 * ttl_s * per_second:
            # Nobody has a chance yet to speak of.
            continue
        assert core.hits.holds(hit, core.now)
        odds = _odds(core, hit)
        slow += odds
        quick += min(hit.luck, odds)

    assert slow > 1, "popular enough for somebody to be chosen"
    assert 0.9 * slow <= quick <= slow


def test_whoever_is_chosen_goes_to_the_handler_s_own_dice(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.store(get(), took_s=0.3)
    core.known(get())
    chosen: list[float] = []

    def refresh(_config: Config, _lookup: Lookup, _found: Any, now: float, chance: float) -> None:
        chosen.append(chance)
        assert now == core.now

    monkeypatch.setattr(core.handler, "_refresh_early", refresh)
    core.now += 59
    core.hits.chosen(_incoming(get()), 0.25)

    assert chosen == [0.25]


# -- bounds --


def test_what_is_known_keeps_to_its_size_and_what_goes_is_not_used_any_more(core: Core) -> None:
    core.ready_size = 20_000
    core.handler.config = core.config()
    core.hits.forget()
    held = []
    for number in range(60):
        core.store(get(f"/a/{number}"))
        held.append(core.known(get(f"/a/{number}")))
        assert core.hits._table.currsize <= 20_000

    ended = [hit for hit in held if hit.known is None]
    assert 40 < len(ended) < 60
    assert not any(core.hits.holds(hit, core.now) for hit in ended)


def test_what_is_asked_for_again_and_again_stays(core: Core) -> None:
    core.ready_size = 20_000
    core.handler.config = core.config()
    core.hits.forget()
    core.store(get("/a/hot"))
    core.known(get("/a/hot"))
    for number in range(100):
        core.store(get(f"/a/{number}"))
        core.known(get(f"/a/{number}"))
        core.ask(get("/a/hot"))

    assert core.ask(get("/a/hot"))[1]


def test_nothing_may_be_known_at_all(core: Core) -> None:
    core.ready_size = 0
    core.handler.config = core.config()
    core.hits.forget()
    core.store(get())
    for _ in range(3 * OFTEN):
        answer, ready = core.ask(get())
        assert (answer is not None, ready) == (True, False)

    assert len(core.hits._table) == 0


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("If-None-Match: {}", id="conditions"),
        pytest.param("X-Forwarded-Host: {}", id="what proxies say"),
        pytest.param("X-User: {}", id="principals"),
    ],
)
def test_what_a_client_makes_up_is_counted(core: Core, line: str) -> None:
    core.ready_size = 200_000
    core.handler.config = core.config()
    core.hits.forget()
    for number in range(100):
        data = get("/own/1", line.format(f"{number:04}" * 900))
        core.store(data)
        for _ in range(OFTEN + 1):
            core.ask(data)

    nodes = core.hits._table.nodes
    assert 0 < sum(sum(map(len, values)) for _, values in nodes) <= 200_000


def test_parts_of_bodies_are_not_kept_beside_the_whole(core: Core) -> None:
    core.store(get(), body=bytes(100_000), lines=b"Content-Length: 100000\r\n")
    for number in range(50):
        for _ in range(OFTEN + 1):
            answer, _ = core.ask(get("/a/1", f"Range: bytes={number}-{99_000 + number}"))
            assert answer is not None
            assert answer.startswith(b"HTTP/1.1 206")

    kept = {id(node.value.body): len(node.value.body) for node in core.hits._table.nodes.values()}
    assert sum(kept.values()) <= 100_000


def test_long_heads_are_not_recognised(core: Core) -> None:
    data = get("/a/1", *(f"X-{number}: {'a' * 2000}" for number in range(5)))
    core.store(data)
    for _ in range(3 * OFTEN):
        assert core.ask(data)[1] is False


# -- from Redis --

_FAR = """
redis: {{url: '{url}', timeout: {timeout}}}
routes: [{{name: far, match: "/far/**", ttl: 60s, memory: false, tags: [far]}}]
"""


@pytest.fixture
def redis_server() -> Iterator[servers.Server]:
    with servers.redis() as server:
        yield server


@asynccontextmanager
async def before_redis(folder: Path, url: str, timeout: str = "2s") -> AsyncIterator[tuple[Quick, Client]]:
    """A proxy that keeps answers in Redis alone, and a client that has asked for one often."""
    async with quick(folder, _FAR.format(url=url, timeout=timeout)) as seen, client_of(seen) as client:
        seen.api.on("/far", numbered("Content-Type: text/plain"))
        await known(seen, client, "/far/1")
        seen.slowly.clear()
        yield seen, client


def reads(seen: Quick) -> float:
    """How often Redis was asked for a value."""
    samples = read(seen.one.proxy.metrics.render().decode())
    return total(samples, "crowdgate_redis_seconds_count", op="get")


@needs_redis
async def test_what_redis_has_is_answered_without_the_handler_and_as_it_would(
    tmp_path: Path, redis_server: servers.Server
) -> None:
    async with before_redis(tmp_path, redis_server.url) as (seen, client):
        quick_one = await client.ask("/far/1")
        assert seen.slowly == []
        slow_one = await client.ask("/far/1", "X-Not: seen often")
        assert seen.slowly == [b"/far/1"]

        assert (quick_one.brief, quick_one.cache[:3]) == ((200, b"1"), "hit")
        assert "detail=redis" in quick_one.cache
        assert quick_one == slow_one
        head = await known(seen, client, "/far/1", method="HEAD")
        assert (head.status, head.get("content-length"), head.body) == (200, "1", b"")
        assert (await client.ask("/far/1")).body == b"1"


@needs_redis
async def test_a_crowd_asks_redis_once(tmp_path: Path, redis_server: servers.Server) -> None:
    async with before_redis(tmp_path, redis_server.url) as (seen, _), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(seen)) for _ in range(30)]
        for client in clients:
            await client.ask("/far/1")
        before = reads(seen)
        for client in clients:
            client.writer.write(request("/far/1"))
        answers = [await client.response() for client in clients]

        assert {answer.brief for answer in answers} == {(200, b"1")}
        assert reads(seen) - before < 10
        assert seen.slowly == []


@needs_redis
@pytest.mark.parametrize("soft", [False, True])
async def test_a_purge_holds_for_what_redis_has(
    tmp_path: Path, redis_server: servers.Server, soft: bool
) -> None:
    async with before_redis(tmp_path, redis_server.url) as (seen, client):
        await seen.one.proxy.purge([(Kind.TAG, "far")], soft=soft)
        bodies = [(await client.ask("/far/1")).body for _ in range(3)]

        assert bodies == [b"2"] * 3
        await known(seen, client, "/far/1")
        seen.slowly.clear()
        assert ((await client.ask("/far/1")).body, seen.slowly) == (b"2", [])


@needs_redis
async def test_what_takes_its_place_in_redis_is_answered_at_once(
    tmp_path: Path, redis_server: servers.Server
) -> None:
    async with before_redis(tmp_path, redis_server.url) as (_, client):
        assert (await client.ask("/far/1", "Cache-Control: no-cache")).body == b"2"

        assert [(await client.ask("/far/1")).body for _ in range(3)] == [b"2"] * 3


@needs_redis
@pytest.mark.parametrize(
    "value", [b"", b"garbage", b"CG\x04" + bytes(100)], ids=["empty", "foreign", "damaged"]
)
async def test_what_is_no_entry_is_a_miss(tmp_path: Path, redis_server: servers.Server, value: bytes) -> None:
    async with before_redis(tmp_path, redis_server.url) as (_, client):
        keys = redis_server.command("KEYS", "crowdgate:*e:far*")
        assert keys
        for key in keys:
            redis_server.command("SET", key, value)

        assert (await client.ask("/far/1")).brief == (200, b"2")


@needs_redis
async def test_what_redis_has_no_more_is_asked_of_the_api(
    tmp_path: Path, redis_server: servers.Server
) -> None:
    async with before_redis(tmp_path, redis_server.url) as (_, client):
        for key in redis_server.command("KEYS", "crowdgate:*e:far*"):
            redis_server.command("DEL", key)

        assert (await client.ask("/far/1")).brief == (200, b"2")


@needs_redis
@pytest.mark.parametrize("fault", ["dead", "silent"])
async def test_without_redis_the_api_is_asked_and_nothing_is_left(
    tmp_path: Path, redis_server: servers.Server, fault: str
) -> None:
    async with before_redis(tmp_path, redis_server.url, "200ms") as (seen, client):
        if fault == "dead":
            redis_server.kill()
        else:
            redis_server.pause()
        try:
            for _ in range(3):
                response = await client.ask("/far/1")
                assert response.status == 200
                assert int(response.body) >= 2
        finally:
            redis_server.restart() if fault == "dead" else redis_server.resume()
        assert seen.one.proxy.metrics.inflight == 0


@needs_redis
async def test_a_client_that_leaves_while_redis_is_asked_leaves_nothing_behind(
    tmp_path: Path, redis_server: servers.Server
) -> None:
    async with before_redis(tmp_path, redis_server.url) as (seen, client):
        async with client_of(seen) as other:
            await other.ask("/far/1")
            redis_server.pause()
            try:
                for each in (client, other):
                    each.writer.write(request("/far/1"))
                await asyncio.sleep(0.03)
                assert seen.one.proxy.metrics.inflight == 2
                other.abort()
                await asyncio.sleep(0.03)
            finally:
                redis_server.resume()
            assert (await client.response()).brief == (200, b"1")
        async with asyncio.timeout(5):
            while seen.one.proxy.metrics.inflight:
                await asyncio.sleep(0.005)


@needs_redis
async def test_requests_behind_one_that_waits_for_redis_come_in_their_turn(
    tmp_path: Path, redis_server: servers.Server
) -> None:
    async with before_redis(tmp_path, redis_server.url) as (seen, client):
        seen.api.on("/other", ok(b"other"))
        for _ in range(5):
            client.writer.write(request("/far/1") + request("/other") + request("/far/1", method="HEAD"))
        bodies = []
        for _ in range(5):
            bodies += [(await client.response(method)).body for method in ("GET", "GET", "HEAD")]

        assert bodies == [b"1", b"other", b""] * 5


@needs_redis
async def test_draining_while_redis_is_asked_ends_the_connection(
    tmp_path: Path, redis_server: servers.Server
) -> None:
    async with before_redis(tmp_path, redis_server.url) as (seen, client):
        redis_server.pause()
        try:
            client.writer.write(request("/far/1"))
            await asyncio.sleep(0.03)
            seen.one.proxy.front.draining = True
            seen.one.proxy.hits.close()
        finally:
            redis_server.resume()
        response = await client.response()

        assert (response.brief, response.get("connection")) == ((200, b"1"), "close")
        assert await client.rest(2) == b""


@needs_redis
async def test_whoever_asks_for_the_end_of_the_connection_gets_it_from_redis_too(
    tmp_path: Path, redis_server: servers.Server
) -> None:
    async with before_redis(tmp_path, redis_server.url) as (seen, _):
        for _ in range(2 * OFTEN):
            async with client_of(seen) as client:
                response = await client.ask("/far/1", "Connection: close")
                assert (response.body, response.get("connection")) == (b"1", "close")
                assert await client.rest(1) == b""


@needs_redis
async def test_variants_in_redis_are_told_apart(tmp_path: Path, redis_server: servers.Server) -> None:
    async with before_redis(tmp_path, redis_server.url) as (seen, client):
        seen.api.on("/far/told", telling(of="x-kind"))
        for kind in ("1", "2") * 2 * OFTEN:
            response = await client.ask("/far/told", f"X-Kind: {kind}")
            assert response.body == kind.encode()
        assert (await client.ask("/far/told", "X-Kind: 3")).body == b"3"
        assert seen.api.count("/far/told") == 3


def telling(of: str) -> Any:
    async def answer(asked: Asked) -> None:
        await asked.send(framed(asked.get(of).encode(), f"Vary: {of}"))

    return answer
