"""The handler before a real API, without ports of its own; whole processes are in tests/flow/."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy import settings
from proxy.config import Config, hostless_urls
from proxy.handler import Handler
from proxy.leases import Leases
from proxy.messages import Answer, Incoming
from proxy.metrics import Metrics
from proxy.policy.purges import Kind
from proxy.policy.routes import RouteTable
from proxy.purge_log import PurgeLog
from proxy.store.memory import Memory
from proxy.store.tiers import Copy, Tiers
from proxy.tasks import Tasks
from proxy.upstream import ClientBodyError, Exchange, Upstream
from tests.flow.origin import Asked, Origin, numbered, ok, once, origin, raw
from tests.servers import free_port

ROUTES = (
    settings.Route(match="/kept/**", ttl=60.0, tags=("kept",)),
    settings.Route(match="/short/**", ttl=1.0, stale_if_error=60.0),
    settings.Route(match="/stale/**", ttl=1.0, stale_while_revalidate=60.0),
    settings.Route(match="/theirs/**"),
    settings.Route(match="/write", methods=("POST",), purge=("kept",)),
)


@dataclass
class Core:
    """All of a proxy but its ports, at an instant that the test sets."""

    api: Origin
    tasks: Tasks = field(default_factory=Tasks)
    now: float = 1_800_000_000.0
    upstream: Upstream = field(init=False)
    log: PurgeLog = field(init=False)
    handler: Handler = field(init=False)

    def __post_init__(self) -> None:
        metrics = Metrics("1")
        wanted = settings.Settings(
            upstream=settings.Upstream(url=self.api.url, timeout=0.3),
            routes=ROUTES,
            warm=(settings.Warm(name="any-host", path="/kept/warm"),),
        )
        routes = RouteTable.of(ROUTES)
        self.upstream = Upstream(wanted.upstream, metrics.upstream)
        config = Config(
            settings=wanted,
            routes=routes,
            upstream=self.upstream,
            hostless=hostless_urls(wanted.warm, routes),
        )
        memory: Memory[Copy] = Memory(max_bytes=2**20, max_object_bytes=2**20)
        self.log = PurgeLog(None, metrics, self.tasks)
        tiers = Tiers(memory, None, self.log, lambda _: None)
        leases = Leases(None, metrics, self.tasks)
        self.handler = Handler(
            config, tiers, self.log, leases, metrics, tasks=self.tasks, clock=lambda: self.now
        )

    async def answer(self, target: str, *fields: tuple[bytes, bytes], **more: Any) -> Answer:
        return await self.handler.answer(incoming(target, *fields, **more))

    async def body(self, target: str, *fields: tuple[bytes, bytes], **more: Any) -> bytes:
        return await read(await self.answer(target, *fields, **more))

    async def warm(self, target: str, *, forced: bool = False) -> tuple[str, float | None]:
        warmed = await self.handler.warm(incoming(target), forced=forced)
        return warmed.result, warmed.fresh_s

    def purged(self, tag: str) -> bool:
        return (Kind.TAG, tag) in self.log.purges._hard


def incoming(target: str, *fields: tuple[bytes, bytes], method: str = "GET", **more: Any) -> Incoming:
    return Incoming(method=method, target=target.encode(), fields=((b"Host", b"a"), *fields), **more)


async def read(answer: Answer) -> bytes:
    if isinstance(answer.body, bytes):
        return answer.body
    body = b""
    while piece := await answer.body.read():
        body += piece
    return body


@pytest.fixture
async def api() -> AsyncIterator[Origin]:
    async with origin() as started:
        yield started


@pytest.fixture
async def core(api: Origin) -> AsyncIterator[Core]:
    made = Core(api)
    yield made
    await made.tasks.close(1)
    made.upstream.close()
    assert made.upstream.inflight == 0


AGED = (b"Cache-Control", b"max-age=0")


# --- from the store ---


async def test_a_stored_answer_is_fresh_until_the_last_moment(api: Origin, core: Core) -> None:
    api.on("/", numbered())
    bodies = []
    for second in (0, 59.999, 60):
        core.now = 1_800_000_000.0 + second
        bodies.append(await core.body("/kept/a"))

    assert bodies == [b"1", b"1", b"2"]


async def test_after_a_failure_the_next_are_not_kept_waiting_for_another(api: Origin, core: Core) -> None:
    await core.body("/short/a")
    core.now += 2
    api.on("/", ok(b"ill", status="503 Ill"))
    statuses = [(await core.answer("/short/a")).handling.outcome.value for _ in range(3)]
    assert (statuses, api.count("/short/a")) == (["stale"] * 3, 2)


async def test_an_error_that_may_be_one_request_s_own_prolongs_nobody_s_stale(
    api: Origin, core: Core
) -> None:
    await core.body("/short/a")
    core.now += 2
    api.on("/", ok(b"ill", status="500 Ill"))
    statuses = [(await core.answer("/short/a")).handling.outcome.value for _ in range(3)]
    assert (statuses, api.count("/short/a")) == (["stale"] * 3, 4)


async def test_a_purge_of_something_else_does_not_end_a_flight(api: Origin, core: Core) -> None:
    release = asyncio.Event()
    api.on("/", once(release, numbered()))
    waiting = [asyncio.ensure_future(core.body("/kept/a"))]
    await api.came("/kept/a")
    for number in range(3):
        await core.log.purge([(Kind.TAG, f"other-{number}")])
        waiting.append(asyncio.ensure_future(core.body("/kept/a")))
        await asyncio.sleep(0)
    release.set()

    assert (await asyncio.gather(*waiting), api.count("/kept/a")) == ([b"1"] * 4, 1)


async def test_who_comes_after_a_purge_does_not_get_what_was_asked_for_before_it(
    api: Origin, core: Core
) -> None:
    release = asyncio.Event()
    api.on("/", once(release, numbered()))
    before = asyncio.ensure_future(core.body("/kept/a"))
    await api.came("/kept/a")
    await core.log.purge([(Kind.TAG, "kept")])
    after = [asyncio.ensure_future(core.body("/kept/a")) for _ in range(3)]
    await asyncio.sleep(0)
    release.set()

    assert (await before, await asyncio.gather(*after), api.count("/kept/a")) == (b"1", [b"2"] * 3, 2)

    core.now += 1
    api.on("/", ok(b"well"))
    assert await core.body("/short/a") == b"well"


async def test_what_may_not_be_shared_unasked_answers_only_the_one_who_asked(api: Origin, core: Core) -> None:
    release = asyncio.Event()
    api.on("/", once(release, numbered("Cache-Control: no-cache", 'ETag: "a"')))
    waiting = [asyncio.ensure_future(core.body("/theirs/a")) for _ in range(3)]
    await api.came("/theirs/a")
    release.set()

    assert sorted(await asyncio.gather(*waiting)) == [b"1", b"2", b"3"]


async def test_an_api_that_changes_its_mind_about_vary_is_asked_by_each_alone(
    api: Origin, core: Core
) -> None:
    names = iter([b"X-A", b"X-B", b"X-A", b"X-B"])

    async def undecided(asked: Asked) -> None:
        await asyncio.sleep(0.05)
        mine = asked.get("x-a") + asked.get("x-b")
        await ok(mine.encode(), f"Vary: {next(names).decode()}")(asked)

    api.on("/", undecided)
    people = [b"1", b"2", b"3", b"4"]
    bodies = await asyncio.gather(*(core.body("/kept/a", (b"X-A", p), (b"X-B", p)) for p in people))

    assert bodies == [p * 2 for p in people]


async def test_a_stale_variant_is_refreshed_for_itself(api: Origin, core: Core) -> None:
    async def mine(asked: Asked) -> None:
        await ok(asked.get("x").encode() + b"%d" % len(api.asked), "Vary: X")(asked)

    api.on("/", mine)
    people = [(b"X", b"a"), (b"X", b"b")]
    old = [await core.body("/stale/v", who) for who in people]
    core.now += 2
    assert await asyncio.gather(*(core.body("/stale/v", who) for who in people)) == old
    await api.came("/stale/v", count=4)
    async with asyncio.timeout(1):
        while core.upstream.inflight or len(core.tasks):
            await asyncio.sleep(0.005)

    assert [(await core.body("/stale/v", who))[:1] for who in people] == [b"a", b"b"]
    assert sorted(asked.get("x") for asked in api.asked) == ["a", "a", "b", "b"]


async def test_a_personal_request_is_not_given_what_only_the_route_calls_fresh(
    api: Origin, core: Core
) -> None:
    api.on("/", numbered())
    first = await core.body("/kept/a")
    cookie = await core.body("/kept/a", (b"Cookie", b"session=1"))

    assert (first, cookie, await core.body("/kept/a")) == (b"1", b"2", b"1")


async def test_a_warm_resource_for_any_host_is_asked_under_the_api_s_own_name(
    api: Origin, core: Core
) -> None:
    api.on("/", numbered())
    assert await core.warm("/kept/warm") == ("ok", 60.0)
    bodies = [await core.body("/kept/warm"), await core.body("/kept/warm?", (b"Host", b"b"))]

    assert (bodies[0], api.asked[0].get("host")) == (b"1", f"127.0.0.1:{api.port}")


# --- ahead of expiry ---


async def hits(core: Core, count: int, seconds: float) -> list[bytes]:
    """What so many requests get, evenly over so long."""
    bodies = []
    for _ in range(count):
        core.now += seconds / count
        bodies.append(await core.body("/kept/a"))
        await asyncio.sleep(0)
    return bodies


async def test_something_popular_is_refreshed_before_it_expires_and_nobody_waits(
    api: Origin, core: Core
) -> None:
    api.on("/", numbered())
    await core.body("/kept/a")
    # Fifty a second: one of them is chosen in time.
    bodies = await hits(core, 3000, 59.9)
    await api.came("/kept/a", count=2)
    async with asyncio.timeout(5):
        while await core.body("/kept/a") != b"2":
            await asyncio.sleep(0.005)

    assert (set(bodies) <= {b"1", b"2"}, api.count("/kept/a")) == (True, 2)


async def test_what_hardly_anybody_wants_is_left_to_expire(api: Origin, core: Core) -> None:
    api.on("/", numbered())
    await core.body("/kept/a")
    await hits(core, 9, 59.9)

    assert api.count("/kept/a") == 1


async def test_a_refresh_ahead_of_time_that_fails_takes_nothing_from_anybody(api: Origin, core: Core) -> None:
    api.on("/", numbered())
    await core.body("/kept/a")
    await hits(core, 100, 20.0)
    api.on("/", ok(status="500 Ill"))
    bodies = await hits(core, 3000, 39.8)
    await api.came("/kept/a", count=2)

    assert set(bodies) == {b"1"}


# --- warming ---


async def test_warming_tells_how_it_went(api: Origin, core: Core) -> None:
    assert await core.warm("/kept/a") == ("ok", 60.0)
    core.now += 10
    assert await core.warm("/kept/a") == ("ok", 50.0)
    assert await core.warm("/kept/a", forced=True) == ("ok", 60.0)
    assert api.count("/kept/a") == 2

    api.on("/kept/cookie", ok(b"", "Set-Cookie: a=b"))
    api.on("/kept/gone", raw(b"", close=True))
    results = [await core.warm(target) for target in ("/kept/cookie", "/kept/gone", "/other", "/short/a")]
    assert results == [
        ("its answer may not be stored (set-cookie)", None),
        ("the API closed the connection before its answer was whole", None),
        ("no route that caches matches its path", None),
        ("ok", 1.0),
    ]
    core.now += 2
    api.on("/short/a", ok(b"", status="503 Ill"))
    assert await core.warm("/short/a") == ("the API failed (503); what was stored is kept", None)


async def test_warming_into_a_purge_is_not_stored(api: Origin, core: Core) -> None:
    release = asyncio.Event()
    api.on("/", once(release, ok()))
    warming = asyncio.ensure_future(core.warm("/kept/a"))
    await api.came("/kept/a")
    await core.log.purge([(Kind.TAG, "kept")])
    release.set()

    assert await warming == ("its answer was not stored", 60.0)


# --- writes ---


@pytest.mark.parametrize(
    ("status", "purges"), [("200 OK", True), ("303 See Other", True), ("404 Not Found", False)]
)
async def test_a_write_that_did_something_purges(
    api: Origin,
    core: Core,
    status: str,
    purges: bool,
) -> None:
    api.on("/", ok(status=status))
    await core.body("/write", method="POST")

    assert core.purged("kept") is purges


async def test_a_write_that_may_have_done_something_purges(api: Origin, core: Core) -> None:
    api.on("/", raw(b"", close=True))
    assert (await core.answer("/write", method="POST")).status == 502

    assert core.purged("kept")


async def test_a_write_that_never_reached_the_api_purges_nothing() -> None:
    core = Core(Origin(port=free_port()))
    assert (await core.answer("/write", method="POST")).status == 502

    assert not core.purged("kept")


async def test_a_write_whose_client_left_and_whose_api_fell_silent_is_purged(api: Origin, core: Core) -> None:
    api.on("/", once(asyncio.Event(), ok()))
    writing = asyncio.ensure_future(core.answer("/write", method="POST"))
    await api.came("/write")
    writing.cancel()
    await asyncio.wait({writing})
    assert not core.purged("kept")

    async with asyncio.timeout(3):
        while not core.purged("kept"):
            await asyncio.sleep(0.01)


async def test_a_write_that_breaks_off_purges_nothing(api: Origin, core: Core) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ClientBodyError("broke off")

    before = core.log.purges.epoch
    with pytest.raises(ClientBodyError):
        await core.answer("/write", method="POST", body=broken(), chunked=True)
    await asyncio.sleep(0.01)
    assert core.log.purges.epoch == before


# --- what is only passed on ---


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([(b"X-HTTP-Method-Override", b"DELETE")], id="a method that is meant instead"),
        pytest.param([(b"X_Rewrite-URL", b"/b")], id="a URL that is meant instead"),
        pytest.param([(b"If-Match", b'"a"')], id="If-Match"),
        pytest.param([(b"Connection", b"upgrade"), (b"Upgrade", b"websocket")], id="an upgrade"),
    ],
)
async def test_a_request_for_something_else_than_the_whole_is_passed_on(
    api: Origin, core: Core, fields: list[tuple[bytes, bytes]]
) -> None:
    await core.body("/kept/a")
    answer = await core.answer("/kept/a", *fields)
    await read(answer)

    assert (isinstance(answer.body, Exchange), answer.handling.forward) == (True, "bypass")
    assert api.count("/kept/a") == 2


async def test_what_the_api_did_not_date_is_dated(api: Origin, core: Core) -> None:
    answer = await core.answer("/passed")
    await read(answer)

    assert b"\r\nDate: Fri, 15 Jan 2027 08:00:00 GMT\r\n" in b"\r\n" + answer.head


async def test_a_request_without_host_gets_the_api_s(api: Origin, core: Core) -> None:
    await read(await core.handler.answer(Incoming(method="GET", target=b"/passed", fields=())))

    assert api.asked[0].fields == (
        (b"Host", f"127.0.0.1:{api.port}".encode()),
        (b"Via", b"1.1 crowdgate"),
    )


class SlowRedis:
    """Takes its time and has nothing."""

    up = True

    async def get_with_ttl(self, _key: str) -> None:
        await asyncio.sleep(0.04)

    async def put(self, *_: Any) -> bool:
        return True


async def test_what_is_purged_while_redis_is_asked_is_not_revalidated(api: Origin, core: Core) -> None:
    core.handler._tiers._redis = SlowRedis()  # type: ignore[assignment]
    api.on("/", ok(b"body", "Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT"))
    await core.body("/short/a")
    core.now += 1.5
    asking = asyncio.ensure_future(core.body("/short/a"))
    await asyncio.sleep(0.02)
    await core.log.purge([(Kind.URL, "/short/a")])

    assert (await asking, [asked.get("if-modified-since") for asked in api.asked]) == (b"body", ["", ""])


class SlowWrites(SlowRedis):
    """Takes its time to store."""

    async def get_with_ttl(self, _key: str) -> None:
        return None

    async def put(self, *_: Any) -> bool:
        await asyncio.sleep(0.2)
        return True


async def test_what_is_stale_on_arrival_is_asked_about_although_it_is_still_being_stored(
    api: Origin, core: Core
) -> None:
    core.handler._tiers._redis = SlowWrites()  # type: ignore[assignment]
    api.on("/", ok(b"body", "Cache-Control: max-age=60", "Age: 61", 'ETag: "v1"'))
    await core.body("/theirs/a")
    await core.body("/theirs/a")

    assert [asked.get("if-none-match") for asked in api.asked] == ["", '"v1"']


async def test_a_reload_that_finds_it_private_has_the_next_ask_for_themselves(
    api: Origin, core: Core
) -> None:
    api.on("/", ok(b"public", "Cache-Control: max-age=60", 'ETag: "v1"'))
    await core.body("/theirs/a")
    api.on("/", ok(b"private", "Cache-Control: private"))
    await core.body("/theirs/a", (b"Cache-Control", b"no-cache"))
    bodies = [await core.body("/theirs/a")]
    api.on("/", ok(b"public again", "Cache-Control: max-age=60"))
    bodies += [await core.body("/theirs/a") for _ in range(2)]

    assert (bodies, api.count("/theirs/a")) == ([b"private", b"public again", b"public again"], 4)
