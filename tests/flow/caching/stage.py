"""One URL: what the API answers there in turn, what a client asks, and where each answer came from."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from itertools import count
from time import time
from typing import Any

import pytest

from tests.flow.client import Response, connected, request
from tests.flow.origin import Asked, Origin
from tests.flow.processes import Proxy

ETAG = 'ETag: "v1"'
# Long ago, so that it is a strong validator (RFC 9110 section 8.8.2.2).
MODIFIED = "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT"
# Stale on arrival; with a validator it is kept all the same, to be asked about.
STALE = ("Cache-Control: max-age=60", "Age: 90")
FRESH = "Cache-Control: max-age=60"

# No answer here takes longer than a second or two.
_PATIENCE_S = 8.0


class Source(Enum):
    """Where an answer came from."""

    STORE = "the store, and the API was not asked"
    API = "the API, which was asked for it"
    VALIDATED = "the API, which was asked about what is stored"


STORE, API, VALIDATED = Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer of the API; see `reply`."""

    lines: tuple[str, ...] = ()
    status: int = 200
    body: bytes | None = None
    early: bytes = b""
    delay_s: float = 0.0
    raw: bytes | None = None
    close: bool = False

    def data(self, number: int, method: str) -> bytes:
        if self.raw is not None:
            return self.raw
        body = b"%d" % number if self.body is None else self.body
        lines = list(map(_dater(), self.lines))
        if self.status in (204, 205, 304):
            body = b""
        if self.status not in (204, 304) and not any(
            line.lower().startswith("content-length:") for line in lines
        ):
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join((f"HTTP/1.1 {self.status} Status", *lines, "", ""))
        return head.encode("latin-1") + (b"" if method == "HEAD" else body)


def reply(
    *lines: str, status: int = 200, body: bytes | None = None, delay_s: float = 0.0, early: bytes = b""
) -> Reply:
    """An answer with fields as they are to be sent, and a Content-Length; `early` goes before it.

    `<-60>` in a line is the HTTP-date of 60 seconds ago, `<+60|FORMAT>` another one as `strftime` has it. Without a
    `body` it is the number of the request: no two answers are the same.
    """
    return Reply(lines=lines, status=status, body=body, delay_s=delay_s, early=early)


def exactly(raw: bytes, *, close: bool = False) -> Reply:
    """An answer of these bytes; with `close` the connection ends after them."""
    return Reply(raw=raw, close=close)


# Connected, asked, and gone without a word.
SILENT = exactly(b"", close=True)

_INSTANT = re.compile(r"<([+-]\d+)(?:\|([^>]*))?>")
_IMF = "%a, %d %b %Y %H:%M:%S GMT"


def _dater() -> Callable[[str], str]:
    # One now for all lines of an answer: what is between its dates is exact.
    now = int(time())

    def instant(found: re.Match[str]) -> str:
        return datetime.fromtimestamp(now + int(found[1]), UTC).strftime(found[2] or _IMF)

    return lambda line: _INSTANT.sub(instant, line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An answer that a client got, and what the API was asked meanwhile."""

    response: Response
    early: tuple[Response, ...]
    asked: tuple[Asked, ...]
    lines: tuple[str, ...]
    """What the client sent."""

    @property
    def source(self) -> Source:
        if not self.asked:
            return STORE
        own = {line.partition(":")[0].lower() for line in self.lines}
        added = {"if-none-match", "if-modified-since"} - own
        return VALIDATED if any(self.asked[0].get(name) for name in added) else API

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def body(self) -> bytes:
        return self.response.body

    def get(self, name: str) -> str:
        """A field's first value; empty if there is none."""
        return self.response.get(name)

    def all(self, name: str) -> list[str]:
        """A field's values, line by line."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.response.fields if key.lower() == wanted]

    def has(self, name: str) -> bool:
        return bool(self.all(name))

    @property
    def age(self) -> int:
        """The only Age; -1 if there is none."""
        ages = self.all("age")
        assert len(ages) < 2, ages
        return int(ages[0]) if ages else -1


_numbers = count(1)


class Stage:
    """A URL of its own, and whatever is below it."""

    def __init__(self, api: Origin, proxy: Proxy, root: str = "") -> None:
        self.api = api
        self.proxy = proxy
        self.path = f"{root}/stage-{next(_numbers):05}"
        self.asked: list[Asked] = []
        api.on(self.path, self._answer)
        self._script: Callable[[Asked], Reply] = lambda _: reply()

    # -- the API --

    def answers(self, *lines: str, status: int = 200, body: bytes | None = None) -> None:
        """What the API answers from now on."""
        self.answers_by(lambda _: reply(*lines, status=status, body=body))

    def answers_in_turn(self, *replies: Reply) -> None:
        """What the API answers, request by request; the last is repeated."""
        start = len(self.asked) + 1
        self.answers_by(lambda _: replies[min(len(self.asked) - start, len(replies) - 1)])

    def answers_by(self, script: Callable[[Asked], Reply]) -> None:
        self._script = script

    async def _answer(self, asked: Asked) -> None:
        self.asked.append(asked)
        number = len(self.asked)
        said = self._script(asked)
        await asked.content()
        if said.early:
            await asked.send(said.early)
        if said.delay_s:
            await asyncio.sleep(said.delay_s)
        await asked.send(said.data(number, asked.method))
        if said.close:
            asked.close()

    # -- the client --

    async def ask(self, *lines: str, method: str = "GET", body: bytes = b"", at: str = "") -> Seen:
        """One request; `at` follows the path."""
        before = len(self.asked)
        async with asyncio.timeout(_PATIENCE_S), connected(self.proxy.port) as client:
            await client.send(request(self.path + at, *lines, method=method, body=body))
            response = await client.response(method)
            early = tuple(client.early)
        return Seen(response=response, early=early, asked=tuple(self.asked[before:]), lines=lines)

    async def second(self, *lines: str, first: Sequence[str] = (), method: str = "GET") -> Seen:
        """The second of two answers: asked for with `lines`, after one with the lines of `first`."""
        await self.ask(*first)
        return await self.ask(*lines, method=method)

    async def reuse(self, *lines: str, first: Sequence[str] = ()) -> Source:
        """Where the second of two answers comes from; what comes from the store must be what was stored."""
        before = await self.ask(*first)
        after = await self.ask(*lines)
        if after.source is STORE:
            assert before.response.brief == after.response.brief
        return after.source


def table(names: str, rows: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Cases by their names. A row of several values is a tuple."""
    values = [
        pytest.param(*(row if isinstance(row, tuple) else (row,)), id=name) for name, row in rows.items()
    ]
    return pytest.mark.parametrize(names.split(", ") if ", " in names else names, values)
