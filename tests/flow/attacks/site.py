"""What an attacker does to a site, and whether the next clean client is harmed.

The API tells in its answers all that it was asked, so that whatever got past the key is seen by whoever gets the answer.
What a clean client should get is no guess: the same bytes are sent to the API itself.
"""

from dataclasses import dataclass

from tests.flow.client import Response, connected, fetch
from tests.flow.origin import Answer, Asked, Origin, framed
from tests.flow.processes import Proxy

# What the proxy adds or what time changes: the rest must be the API's own.
_OURS = frozenset({b"age", b"cache-status", b"connection", b"date"})


def telling(*lines: str, of: str | None = None) -> Answer:
    """Answers that hold the whole request; or one field of it, `of`."""

    async def answer(asked: Asked) -> None:
        body = await asked.content()
        fields = [(name.lower(), value) for name, value in asked.fields if name.lower() != b"via"]
        told = asked.get(of) if of else f"{asked.method} {asked.target} {fields!r} {body!r}"
        length = len(told)
        await asked.send(framed(b"" if asked.method == "HEAD" else told.encode("latin-1"), *lines, of=length))

    return answer


def shown(response: Response) -> tuple[int, tuple[tuple[bytes, bytes], ...], bytes, bool]:
    """What a client sees of the API."""
    fields = tuple(field for field in response.fields if field[0].lower() not in _OURS)
    return response.status, fields, response.body, response.whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What lies below a path."""

    api: Origin
    proxy: Proxy
    path: str

    @property
    def asked(self) -> list[Asked]:
        """What the proxy asked of the API, here."""
        return [asked for asked in self.api.asked if self.path in asked.target and asked.get("via")]

    def answers(self, answer: Answer, at: str = "") -> None:
        self.api.on(self.path + at, answer)

    async def get(self, at: str = "", *lines: str, method: str = "GET", body: bytes = b"") -> Response:
        """By a connection of its own, as everybody comes."""
        return await fetch(self.proxy.port, self.path + at, *lines, method=method, body=body)

    async def send(self, data: bytes, method: str = "GET") -> Response:
        """Exactly these bytes, and the answer to them."""
        async with connected(self.proxy.port) as client:
            await client.send(data)
            return await client.response(method)

    async def unharmed(self, at: str = "", *lines: str) -> Response:
        """A clean client gets what the API itself answers to it."""
        served = await self.get(at, *lines)
        assert shown(await fetch(self.api.port, self.path + at, *lines)) == shown(served)
        return served

    async def unharmed_and_cached(self, at: str = "", *lines: str) -> None:
        """So does the next one; and the attack did not keep what is good from being stored."""
        await self.unharmed(at, *lines)
        assert (await self.unharmed(at, *lines)).cache.startswith("hit")
