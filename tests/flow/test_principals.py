"""Whose answer reaches whom: random histories of several principals, and rules of RFC 9111 to judge them by.

Every answer of the API says in its fields and in its body for which request it was made; everything that a client gets is
looked up by that, and judged by `Oracle`, which knows the routes' options and the RFC, and nothing of the proxy's code.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, fields
from typing import Any

import pytest
from hypothesis import strategies as st

from proxy import settings
from tests import servers
from tests.claims import attack, clause
from tests.flow.client import Response, connected, request
from tests.flow.origin import Asked, Origin, origin
from tests.flow.processes import running
from tests.fuzz.search import PATIENCE_S, search

pytestmark = pytest.mark.timeout(PATIENCE_S)

# Shorter than the pause between two waves of requests, and long enough for a crowd to share a flight.
_SHORT, _PAUSE_S = "30ms", 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A route, by what of it decides who may share."""

    passes: bool = False
    ttl: str = ""
    per: str = ""
    forced: bool = False
    vary: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    """Besides 200, those for which the route gives a freshness."""
    window: str = ""
    authorization: bool = False
    cookie: bool = False
    private: bool = False
    set_cookie: bool = False

    def yaml(self, name: str) -> str:
        store = [f"{at}: true" for at in _PROMISES if getattr(self, at)]
        pieces = [f'match: "/{name}/**"']
        pieces += [f"ttl: {self.ttl}"] if self.ttl else []
        pieces += [f"per: {self.per}"] if self.per else []
        pieces += ["force_ttl: true"] if self.forced else []
        pieces += [f"vary: [{', '.join(self.vary)}]"] if self.vary else []
        pieces += (
            [f"status_ttl: {{{', '.join(f'{at}: 1m' for at in self.statuses)}}}"] if self.statuses else []
        )
        pieces += [f"{self.window}: 1m"] if self.window else []
        pieces += [f"store: {{{', '.join(store)}}}"] if store else []
        return f"  - {{{', '.join(pieces)}}}\n"


_PROMISES = ("authorization", "cookie", "private", "set_cookie")
KINDS = {
    "ttl": Kind(ttl="1m"),
    "plain": Kind(),
    "per": Kind(ttl="1m", per="x-user"),
    "token": Kind(ttl="1m", per="authorization"),
    "session": Kind(ttl="1m", per="cookie"),
    "own": Kind(ttl="1m", per="x-user", private=True),
    "forced": Kind(ttl="1m", forced=True),
    "authorized": Kind(ttl="1m", authorization=True),
    "cookied": Kind(ttl="1m", cookie=True),
    "given": Kind(ttl="1m", set_cookie=True),
    "promised": Kind(ttl="1m", authorization=True, cookie=True),
    "swr": Kind(ttl=_SHORT, window="stale_while_revalidate"),
    "sie": Kind(ttl=_SHORT, window="stale_if_error"),
    "vary": Kind(ttl="1m", vary=("x-lang",)),
    "status": Kind(ttl="1m", statuses=(404, 503)),
    "passed": Kind(passes=True),
}
ROUTES = "".join(kind.yaml(name) for name, kind in KINDS.items() if not kind.passes)


# -- a history: who asks for what, and what the API answers --


@dataclass(frozen=True, slots=True)
class Principal:
    authorization: str | None
    cookie: str | None
    x_user: str | None
    x_lang: str | None

    @property
    def lines(self) -> list[str]:
        """Its fields, as they are sent."""
        values = ((at.name.replace("_", "-").title(), getattr(self, at.name)) for at in fields(self))
        return [f"{name}: {value}" for name, value in values if value is not None]

    def says(self, name: str) -> str | None:
        value: str | None = getattr(self, name.lower().replace("-", "_"), None)
        return value


@dataclass(frozen=True, slots=True)
class Ask:
    who: int
    place: int
    method: str
    wish: str
    """A field of the request, or nothing."""


@dataclass(frozen=True, slots=True)
class Connection:
    asks: tuple[Ask, ...]
    """Sent all at once."""
    leaves_ms: int | None
    """The client goes away without having read anything."""


@dataclass(frozen=True, slots=True)
class Answer:
    control: tuple[str, ...]
    vary: tuple[str, ...]
    cookie: bool
    etag: bool
    status: int
    slow_ms: int
    shape: str


@dataclass(frozen=True, slots=True)
class Place:
    """A URL, and what the API answers there: first this, then that, at last always the last."""

    kind: str
    cdn: tuple[str, ...]
    """Its CDN-Cache-Control: always the same, or nobody could say what a 304 leaves of it."""
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class History:
    principals: tuple[Principal, ...]
    places: tuple[Place, ...]
    waves: tuple[tuple[Connection, ...], ...]
    pauses: bool


_PRIVATE_FIELD, _STALE_FIELD = 'private="x-secret"', 'no-cache="x-secret"'
_CONTROLS: tuple[tuple[str, ...], ...] = (
    *[()] * 12,
    ("max-age=60",),
    ("public", "max-age=60"),
    ("private",),
    ("private", "max-age=60"),
    ("no-store",),
    ("s-maxage=60",),
    ("must-revalidate", "max-age=60"),
    ("no-cache",),
    ("public", "no-cache"),
    ("max-age=0",),
    ("public",),
    ("public", "max-age=0", "must-revalidate"),
    (_PRIVATE_FIELD, "max-age=60"),
    (_STALE_FIELD, "public", "max-age=60"),
    ("public", "s-maxage=60", "private"),
    ("public", "max-age=60", "no-store"),
)
_VARIES = ((), ("x-lang",), ("x-lang",), ("authorization",), ("cookie", "x-user"), ("*",))
_WISHES = (
    "",
    "Cache-Control: no-cache",
    "Cache-Control: min-fresh=50",
    "Cache-Control: max-age=0",
    "Cache-Control: no-store",
    "Cache-Control: only-if-cached",
    "If-None-Match: *",
    'If-None-Match: "0"',
    "Range: bytes=0-30",
    "Pragma: no-cache",
)


def _tuples(of: st.SearchStrategy[Any], least: int, most: int) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, min_size=least, max_size=most).map(tuple)


def _maybe(*others: str | None) -> st.SearchStrategy[str | None]:
    return st.sampled_from((None, *others))


ANSWERS = st.builds(
    Answer,
    st.sampled_from(_CONTROLS),
    st.sampled_from((*[()] * 5, *_VARIES)),
    st.sampled_from((*[False] * 6, True)),
    st.booleans(),
    st.sampled_from((*[200] * 8, 203, 404, 500, 503)),
    st.sampled_from((4, 0, 8)),
    st.sampled_from((*["length"] * 5, "chunked", "broken")),
)
PRINCIPALS = st.builds(
    Principal,
    _maybe(None, None, "Bearer a", "Bearer b"),
    _maybe(None, None, "s=a", "s=b"),
    _maybe("a", "b"),
    _maybe("de", "en"),
)
PLACES = st.builds(
    Place,
    st.sampled_from((*KINDS, "ttl", "ttl", "per", "token", "session")),
    st.sampled_from((*[()] * 12, ("max-age=60",), ("public", "max-age=60"), ("private",), ("no-store",))),
    _tuples(ANSWERS, 1, 3),
)


@st.composite
def histories(draw: st.DrawFn) -> History:
    # A stranger is always there: what is made for strangers and what is not must not mix.
    others = st.lists(PRINCIPALS, min_size=1, max_size=2, unique=True)
    principals = (Principal(None, None, None, None), *draw(others))
    crowd = draw(st.booleans())
    places = draw(_tuples(PLACES, 1, 1 if crowd else 3))
    asks = st.builds(
        Ask,
        st.integers(0, len(principals) - 1),
        st.integers(0, len(places) - 1),
        st.sampled_from(("GET",) * 9 + ("HEAD",)),
        st.sampled_from((*[""] * 14, *_WISHES)),
    )
    leaves = st.sampled_from((None, None, None, None, 1, 4))
    if crowd:
        # All want the same at the same moment.
        connections = st.builds(Connection, _tuples(asks, 1, 1), leaves)
        waves = draw(_tuples(_tuples(connections, 4, 8), 1, 2))
    else:
        connections = st.builds(Connection, _tuples(asks, 1, 4), leaves)
        waves = draw(_tuples(_tuples(connections, 1, 4), 1, 3))
    return History(principals, places, waves, draw(st.booleans()))


_PEOPLE = (
    Principal(None, None, None, None),
    Principal("Bearer a", None, "a", "de"),
    Principal("Bearer b", None, "b", "en"),
    Principal(None, "s=a", "a", "de"),
    Principal(None, "s=b", "b", "en"),
)


def everybody(kind: str, people: tuple[int, ...]) -> History:
    """All of them ask at once for what is answered in each of all ways, and then once more."""
    answers = [Answer(control, (), False, False, 200, 8, "length") for control in dict.fromkeys(_CONTROLS)]
    answers += [Answer((), vary, False, False, 200, 8, "length") for vary in dict.fromkeys(_VARIES) if vary]
    answers.append(Answer((), (), True, False, 200, 8, "length"))
    wave = tuple(
        Connection((Ask(who, place, "GET", ""),), None) for place in range(len(answers)) for who in people
    )
    places = tuple(Place(kind, (), (answer,)) for answer in answers)
    return History(_PEOPLE, places, (wave, wave[::-1]), False)


# -- the API --


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An answer that the API gave: for which request, and saying what."""

    serial: int
    for_ask: int
    who: Principal
    target: str
    wish: str
    answer: Answer
    control: tuple[str, ...]
    vary: tuple[str, ...]
    status: int
    about: int | None = None
    """Of a 304, the answer that it speaks of."""
    has_body: bool = True

    def renews(self, other: "Made") -> bool:
        """Whether it may change what is stored of another: a 304, or an answer to HEAD that looks the same."""
        unlike = self.answer.etag or other.answer.etag or self.status != other.status
        looks_it = not self.has_body and self.about is None and self.target == other.target and not unlike
        return self.about == other.serial or looks_it


@dataclass
class World:
    """One history as it happens."""

    number: int
    history: History
    made: list[Made] = field(default_factory=list)
    asked: list[tuple[Ask, str]] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)
    """What happened, and to which URL."""

    def target(self, place: int) -> str:
        return f"/{self.history.places[place].kind}/{self.number}/{place}"

    def sent(self, ask: Ask) -> bytes:
        """A request's bytes, and a note of it. Its number is in a field that reaches the API."""
        number, target = len(self.asked), self.target(ask.place)
        self.asked.append((ask, target))
        lines = [*self.history.principals[ask.who].lines, *([ask.wish] if ask.wish else [])]
        self.log.append((target, f"ask {number}: {ask.method} {target} {lines}"))
        return request(target, *lines, f"X-Ask: {number}", method=ask.method)

    def story(self, target: str) -> list[str]:
        """What happened to one URL."""
        return [line for about, line in self.log if about == target]

    async def answers(self, asked: Asked) -> None:
        """What the API does with a request."""
        number = int(asked.get("x-ask"))
        ask, target = self.asked[number]
        place = self.history.places[ask.place]
        turn = sum(1 for made in self.made if made.target == target)
        answer = place.answers[min(turn, len(place.answers) - 1)]
        made = self._make(number, answer, asked)
        self.made.append(made)
        said = f"  API answers ask {number}, as {made.serial}: {made.status} {_said(made, place)}"
        self.log.append((target, said))
        await asyncio.sleep(answer.slow_ms / 1000)
        await _give(asked, made, place)

    def _make(self, number: int, answer: Answer, asked: Asked) -> Made:
        serial = len(self.made)
        ask, target = self.asked[number]
        known = {f'"{made.serial}"': made for made in self.made if made.target == target and made.answer.etag}
        about = known.get(asked.get("if-none-match")) if answer.etag and answer.status == 200 else None
        # A 304 always says what holds from now on: else that would depend on what was merged before.
        control = answer.control if about is None else answer.control or about.control or ("x-nothing",)
        return Made(
            serial=serial,
            for_ask=number,
            who=self.history.principals[ask.who],
            target=target,
            wish=ask.wish,
            answer=answer,
            control=control,
            vary=answer.vary or (about.vary if about else ()),
            status=304 if about else 206 if _wants_part(asked, answer) else answer.status,
            about=about.serial if about else None,
            has_body=about is None and asked.method != "HEAD",
        )


def _wants_part(asked: Asked, answer: Answer) -> bool:
    whole = asked.method == "HEAD" or answer.status != 200 or answer.shape != "length"
    return asked.get("range") != "" and not whole


def _said(made: Made, place: Place) -> list[str]:
    lines = [f"X-Serial: {made.serial}", f"X-Secret: {made.serial}"]
    lines += [f"Cache-Control: {', '.join(made.control)}"] if made.control else []
    lines += [f"CDN-Cache-Control: {', '.join(place.cdn)}"] if place.cdn else []
    lines += [f"Vary: {', '.join(made.vary)}"] if made.vary else []
    lines += [f"Set-Cookie: s={made.serial}"] if made.answer.cookie else []
    lines += [f'ETag: "{made.serial if made.about is None else made.about}"'] if made.answer.etag else []
    return lines


async def _give(asked: Asked, made: Made, place: Place) -> None:
    body = json.dumps({"serial": made.serial, "for": made.who.lines, "more": "x" * 30}).encode()
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {made.status} X", *_said(made, place)))
    if made.status == 304:
        await asked.send(f"{head}\r\n".encode())
    elif made.status == 206:
        part = f"{head}Content-Range: bytes 0-30/{len(body)}\r\nContent-Length: 31\r\n\r\n"
        await asked.send(part.encode() + body[:31])
    elif made.answer.shape == "chunked":
        chunk = b"" if asked.method == "HEAD" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        await asked.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk)
    elif made.answer.shape == "broken":
        await asked.send(f"{head}Content-Length: {len(body) + 100}\r\n\r\n".encode() + body)
        asked.close()
    else:
        content = b"" if asked.method == "HEAD" else body
        await asked.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + content)


# -- the rules --

_HAS_TARGETS = "targets" in settings.Route.__struct_fields__
_ALLOWING = {"public", "s-maxage", "must-revalidate"}  # RFC 9111 section 3.5


@dataclass
class Oracle:
    world: World
    shared: int = 0
    """Answers that reached somebody for whom they were not made."""

    def judge(self, number: int, response: Response) -> None:
        """Raises AssertionError with the whole history where an answer went where it may not."""
        for what, serial in _serials(response):
            made = self.world.made[serial]
            why = self.refusal(made, number)
            if not why and made.for_ask != number:
                why = self._not_with_it(what, made, number)
            if why:
                story = "\n".join(self.world.story(self.world.asked[number][1]))
                raise AssertionError(f"ask {number} got {what} of answer {serial}: {why}\n{story}")
            self.shared += made.for_ask != number

    def refusal(self, made: Made, number: int) -> str:
        """Why an answer may not reach a request; nothing if it may."""
        if made.for_ask == number:
            return ""
        if never := self._not_stored(made):
            return never
        # What is stored is as good as what renewed it says, and good for whom the API was asked about it.
        renewed = [other for other in self.world.made if other.renews(made)]
        if any(other.for_ask == number and other.about == made.serial for other in renewed):
            return ""
        if any(not self._refusal(other, number) for other in renewed):
            return ""
        return self._refusal(made, number)

    def _refusal(self, made: Made, number: int) -> str:
        ask, target = self.world.asked[number]
        if made.target != target:
            return "it belongs to another URL"
        who = self.world.history.principals[ask.who]
        return self._not_stored(made) or self._not_for(made, who) or self._not_fresh(made)

    def _not_with_it(self, what: str, made: Made, number: int) -> str:
        """Why a field may not go where its answer goes."""
        if what == "x-secret" and self._withheld(made, number):
            return "its field is named by private= or no-cache="
        sets_cookie = what == "set-cookie" and not self._kind(made.for_ask).set_cookie
        return "Set-Cookie is its own client's" if sets_cookie else ""

    def _kind(self, number: int) -> Kind:
        return KINDS[self.world.history.places[self.world.asked[number][0].place].kind]

    def _directives(self, made: Made) -> set[str]:
        cdn = self.world.history.places[self.world.asked[made.for_ask][0].place].cdn
        return set(cdn if cdn and _HAS_TARGETS else made.control)

    def _names(self, made: Made) -> set[str]:
        return {said.partition("=")[0] for said in self._directives(made) if '"' not in said}

    def _withheld(self, made: Made, number: int) -> bool:
        """Whether a field of it is not for this request. (Validated, what `no-cache` names may be used again.)"""
        kind = self._kind(made.for_ask)
        allowed = {_PRIVATE_FIELD} if kind.private and kind.per else set()
        if any(other.for_ask == number and other.about == made.serial for other in self.world.made):
            allowed.add(_STALE_FIELD)
        return bool({_PRIVATE_FIELD, _STALE_FIELD} & self._directives(made) - allowed)

    def _not_stored(self, made: Made) -> str:
        kind, names = self._kind(made.for_ask), self._names(made)
        if kind.passes:
            return "its route caches nothing"
        if "no-store" in names or made.wish == "Cache-Control: no-store":
            return "no-store"
        if "private" in names and not (kind.private and kind.per):
            return "private"
        # (Of a 304 all else may be news for everybody: it says that everybody's answer is still good.)
        if made.answer.cookie and made.about is None and not kind.set_cookie:
            return "it sets a cookie"
        if made.answer.shape == "broken" and made.has_body:
            return "it broke off"
        if made.who.authorization and kind.per != "authorization" and not kind.authorization:
            return "" if names & _ALLOWING else "RFC 9111 section 3.5"
        return ""

    def _not_for(self, made: Made, who: Principal) -> str:
        kind = self._kind(made.for_ask)
        if kind.per and made.who.says(kind.per) != who.says(kind.per):
            return f"per: {kind.per}"
        for name in (*kind.vary, *made.vary):
            if name == "*" or made.who.says(name) != who.says(name):
                return f"Vary: {name}"
        if self._is_explicit(made):
            return ""
        if self._carries("cookie", made.who, kind) or self._carries("cookie", who, kind):
            return "a cookie, and a freshness that is not the API's own"
        # Between two of those RFC 9111 section 3.5 decides; what a stranger got may be a request to log in.
        strange = self._carries("authorization", who, kind) and not self._carries(
            "authorization", made.who, kind
        )
        return "a stranger's, and a freshness that is not the API's own" if strange else ""

    def _carries(self, name: str, who: Principal, kind: Kind) -> bool:
        """Whether somebody shows credentials of which the route says nothing."""
        return who.says(name) is not None and kind.per != name and not getattr(kind, name)

    def _is_explicit(self, made: Made) -> bool:
        """The API itself says how long it is fresh, and the route lets that count."""
        forced = self._kind(made.for_ask).forced
        return not forced and bool(self._names(made) & {"max-age", "s-maxage", "no-cache"})

    def _not_fresh(self, made: Made) -> str:
        kind, names = self._kind(made.for_ask), self._names(made)
        if "no-cache" in names and not kind.forced:
            return "no-cache"
        if not self._is_explicit(made):
            return "" if kind.ttl and made.status in {200, 203, 206, 304, *kind.statuses} else "no freshness"
        dead = "max-age=0" in self._directives(made) and "s-maxage" not in names
        return "stale" if dead and ("must-revalidate" in names or not kind.window) else ""


def _serials(response: Response) -> Iterator[tuple[str, int]]:
    """Which answers a response is made of, and by what that shows."""
    for name, value in response.fields:
        lower = name.decode().lower()
        if lower in {"x-serial", "x-secret", "set-cookie"}:
            yield lower, int(value.removeprefix(b"s="))
    if found := re.match(rb'\{"serial": (\d+)', response.body):
        yield "the body", int(found[1])


# -- running it --


@dataclass
class Stage:
    """Proxies before an API, and the loop in which all this happens."""

    runner: asyncio.Runner
    api: Origin
    ports: list[int]
    worlds: list[World] = field(default_factory=list)
    shared: int = 0
    answered: int = 0

    def play(self, history: History) -> None:
        self.runner.run(self._play(history))

    async def _play(self, history: History) -> None:
        self.api.asked.clear()
        world = World(len(self.worlds), history)
        self.worlds.append(world)
        oracle = Oracle(world)
        for wave in history.waves:
            got = await asyncio.gather(*(self._connect(world, at, each) for at, each in enumerate(wave)))
            for number, response in (pair for pairs in got for pair in pairs):
                world.log.append(
                    (
                        world.asked[number][1],
                        f"  ask {number} gets {response.status} {dict(_serials(response))} {response.cache}",
                    )
                )
            for number, response in (pair for pairs in got for pair in pairs):
                oracle.judge(number, response)
                self.answered += 1
            if history.pauses and any(KINDS[place.kind].window for place in history.places):
                await asyncio.sleep(_PAUSE_S)
        self.shared += oracle.shared

    async def _connect(self, world: World, at: int, connection: Connection) -> list[tuple[int, Response]]:
        """What a client got, as far as it got something: after an answer that broke off there is no more."""
        got: list[tuple[int, Response]] = []
        async with connected(self.ports[at % len(self.ports)]) as client:
            first = len(world.asked)
            await client.send(b"".join(map(world.sent, connection.asks)))
            if connection.leaves_ms is not None:
                said = f"  from {first} on, {len(connection.asks)} leave after {connection.leaves_ms} ms"
                world.log += [(target, said) for target in dict.fromkeys(at for _, at in world.asked[first:])]
                await asyncio.sleep(connection.leaves_ms / 1000)
                return got
            for number, ask in enumerate(connection.asks, first):
                with suppress(asyncio.IncompleteReadError, ConnectionError):
                    got.append((number, await client.response(ask.method)))
        return got


@pytest.fixture(scope="module", params=["memory", "redis"])
def stage(request: pytest.FixtureRequest, nothing_is_left: None) -> Iterator[Stage]:
    """One proxy with memory only, or two that share a Redis."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Stage:
            api = await stack.enter_async_context(origin())
            config, count = f"upstream: {{url: {api.url}}}\nroutes:\n{ROUTES}", 1
            if request.param == "redis":
                if servers.binary() is None:
                    pytest.skip(f"no Redis: {servers.REMEDY}")
                # A second is long on a machine that does other things as well: none of this is about deadlines.
                url = stack.enter_context(servers.redis()).url
                config, count = f"{config}redis: {{url: '{url}', timeout: 1s}}\n", 2
            proxies = [await stack.enter_async_context(running(config)) for _ in range(count)]
            started = Stage(runner, api, [proxy.port for proxy in proxies])

            async def answer(asked: Asked) -> None:
                await started.worlds[int(asked.target.split("/")[2])].answers(asked)

            api.on("/", answer)
            return started

        try:
            yield runner.run(start())
        finally:
            runner.run(stack.aclose())


@attack(
    "personal answers",
    "random histories of principals on routes of every kind: nobody gets another one's answer",
)
@clause("RFC 9111", "3.5", "an answer to a request with Authorization is shared only where it says so")
@clause("RFC 9111", "5.2.2.7", "a private answer reaches its own client and nobody else")
def test_no_principal_gets_what_was_made_for_another(stage: Stage) -> None:
    everyone = tuple(range(len(_PEOPLE)))
    for kind in KINDS:
        # Whoever comes first asks the API for the others.
        stage.play(everybody(kind, everyone))
        stage.play(everybody(kind, everyone[::-1]))
    search(histories(), stage.play, examples=150)

    # Else it would prove nothing.
    assert stage.answered > 500
    assert stage.shared > 50
