"""What is cached in the soak: resources of every kind of route, and an API that knows the right answer to every request."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from zlib import crc32

from tests.flow.client import Response
from tests.flow.origin import Asked, Origin, framed

MAX_AGE_S = 3.0
SOFT_S = 2.0
LANGUAGES = ("de", "en", "fr")
PRINCIPALS = ("Bearer ada", "Bearer bea", "Bearer cem", "Bearer dan")
SHELVES = 8
_COUNTS = {"items": 80, "local": 20, "far": 20, "mine": 20, "spoken": 20, "soft": 20}
_WORDS = ("jazz", "folk", "film", "food", "yoga")
FAMILIES = (*_COUNTS, "search")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Something that the API has one version of at a time."""

    family: str
    name: str
    """Its URL as it is stored."""

    @property
    def tag(self) -> str:
        """The tag that names it alone; a search has none."""
        return f"{self.family}:{self.name.rpartition('/')[2]}"

    @property
    def shelf(self) -> str:
        """A tag that the API gives it."""
        return f"shelf-{crc32(self.name.encode()) % SHELVES}"


def _resources() -> Iterator[Resource]:
    for family, count in _COUNTS.items():
        for number in range(count):
            yield Resource(family=family, name=f"/{family}/{number}")
    for word in _WORDS:
        for page in range(4):
            yield Resource(family="search", name=f"/search?page={page}&q={word}")


RESOURCES = tuple(_resources())
BY_NAME = {resource.name: resource for resource in RESOURCES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request for a resource, and by what its answer differs from others."""

    resource: Resource
    target: str
    lines: tuple[str, ...] = ()
    who: str = ""
    language: str = ""


def ask_for(resource: Resource, chance: random.Random) -> Ask:
    """A request as some client would send it."""
    if resource.family == "mine":
        who = chance.choice(PRINCIPALS)
        return Ask(resource=resource, target=resource.name, lines=(f"Authorization: {who}",), who=who)
    if resource.family == "spoken":
        language = chance.choice(LANGUAGES)
        lines = (f"Accept-Language: {language}",)
        return Ask(resource=resource, target=resource.name, lines=lines, language=language)
    if resource.family == "search":
        page, _, word = resource.name.removeprefix("/search?").partition("&")
        return Ask(
            resource=resource, target=chance.choice((resource.name, f"/search?{word}&{page}&from=mail"))
        )
    return Ask(resource=resource, target=resource.name)


def body_of(resource: Resource, version: int, *, who: str = "", language: str = "") -> bytes:
    """The only right answer. Its filling differs wherever anything differs, so that no mixture of two passes for one."""
    first = f"{version}|{resource.name}|{who}|{language}|".encode()
    size = 200 + crc32(resource.name.encode()) % 8000
    return (first * (size // len(first) + 1))[:size]


def version_in(response: Response, ask: Ask) -> int | None:
    """The version that was served; None if the body is no answer to this request."""
    found = re.match(rb"([0-9]{1,9})\|", response.body)
    if found is None:
        return None
    version = int(found[1])
    right = body_of(ask.resource, version, who=ask.who, language=ask.language)
    return version if right == response.body else None


def config(api_url: str, redis: str, *, variant: int) -> str:
    """Either of two configs that a reload may change between: sizes and times differ, keys and tags do not."""
    return f"""
upstream: {{url: {api_url}, timeout: 15s}}
{redis}
memory: {{max_age: {MAX_AGE_S:g}s, max_size: {(1024, 768)[variant]}KiB, max_object: 64KiB}}
routes:
  - {{name: items, match: "/items/{{id}}", ttl: {(4, 6)[variant]}s, stale_if_error: 10s, tags: [items, "items:{{id}}"]}}
  - {{name: local, match: "/local/{{id}}", ttl: 1m, redis: false, tags: [local, "local:{{id}}"]}}
  - {{name: far, match: "/far/{{id}}", ttl: 4s, memory: false, tags: [far, "far:{{id}}"]}}
  - {{name: mine, match: "/mine/{{id}}", ttl: 1m, per: authorization, tags: [mine, "mine:{{id}}"]}}
  - {{name: spoken, match: "/spoken/{{id}}", ttl: 1m, tags: [spoken, "spoken:{{id}}"]}}
  - {{name: soft, match: "/soft/{{id}}", ttl: 4s, stale_while_revalidate: {SOFT_S:g}s, tags: [soft, "soft:{{id}}"]}}
  - {{name: search, match: "/search", ttl: {(3, 5)[variant]}s, query: [q, page], tags: [search]}}
""" + "".join(_writes())


def _writes() -> Iterator[str]:
    for family in _COUNTS:
        yield f'  - {{name: write-{family}, match: "/{family}/{{id}}", methods: [POST], purge: ["{family}:{{id}}"]}}\n'


class Api:
    """The API: versions, and moods."""

    def __init__(self, origin: Origin, chance: random.Random) -> None:
        self._origin = origin
        self._chance = chance
        self._calm = asyncio.Event()
        self._calm.set()
        self.failing = False
        self.versions: Counter[str] = Counter({resource.name: 1 for resource in RESOURCES})
        self.requests = 0
        origin.on("/", self.answer)

    def bump(self, resource: Resource) -> None:
        """Change a resource behind everybody's back."""
        self.versions[resource.name] += 1

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """It answers nothing, and everything once it is over."""
        self._calm.clear()
        try:
            yield
        finally:
            self._calm.set()

    async def answer(self, asked: Asked) -> None:
        # The origin remembers all that it is asked, and this goes on for hours.
        self._origin.asked.clear()
        self.requests += 1
        await asked.content()
        if asked.method == "POST":
            await self._write(asked)
        else:
            await self._read(asked)

    async def _write(self, asked: Asked) -> None:
        await self._calm.wait()
        if self.failing:
            await asked.send(framed(b"ill", status="503 Ill"))
            return
        self.versions[asked.target] += 1
        await asked.send(framed(b"%d" % self.versions[asked.target], status="201 Created"))

    async def _read(self, asked: Asked) -> None:
        resource = BY_NAME[_canonical(asked.target)]
        # Known at once and told later: whatever is changed meanwhile must not be undone by this answer.
        version = self.versions[resource.name]
        await asyncio.sleep(self._chance.choice((0.0, 0.002, 0.01, 0.04)))
        if self._chance.random() < 0.02:
            await asyncio.sleep(0.3)
        await self._calm.wait()
        if self.failing:
            await asked.send(framed(b"ill", status="503 Ill"))
            return
        who = asked.get("authorization") if resource.family == "mine" else ""
        language = asked.get("accept-language") if resource.family == "spoken" else ""
        body = body_of(resource, version, who=who, language=language)
        etag = f'"{crc32(body):08x}-{version}"'
        lines = [f"ETag: {etag}", f"Surrogate-Key: {resource.shelf}"]
        if resource.family == "spoken":
            lines.append("Vary: Accept-Language")
        if asked.get("if-none-match") == etag:
            await asked.send(_not_modified(lines))
        else:
            await asked.send(framed(body, *lines))


def _canonical(target: str) -> str:
    path, _, query = target.partition("?")
    if not query:
        return path
    page, word = re.search(r"page=[0-9]+", query), re.search(r"q=[a-z]+", query)
    assert page is not None
    assert word is not None
    return f"{path}?{page[0]}&{word[0]}"


def _not_modified(lines: list[str]) -> bytes:
    return "\r\n".join(("HTTP/1.1 304 Not Modified", *lines, "", "")).encode()
