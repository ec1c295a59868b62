"""Asks the Kubernetes API, and is refused in one way whatever went wrong. Nothing is tried twice in silence, but after a 401,
which a new token may cure.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from scaler.credentials import Credentials
from scaler.objects import Kind, Status

FIELD_MANAGER = "crowdgate-scaler"
JSON_PATCH = "application/json-patch+json"
_TIMEOUT_S = 5.0
MAX_BYTES = 16 << 20
# Of what a server says, as much as a log line should have.
_LONGEST_MESSAGE = 300
_MAX_RETRY_AFTER_S = 300.0


class Outcome(Enum):
    """What came of a call."""

    DONE = "done"
    CONFLICT = "conflict"
    """Somebody else was first (409, or a test of the patch failed): read again, decide again."""
    DENIED = "denied"
    """Our token isn't taken (401), or may not do that (403)."""
    GONE = "gone"
    """There is no such thing (404)."""
    EXPIRED = "expired"
    """What was to be continued is too old (410): list again."""
    BUSY = "busy"
    """The server can't now (429, 5xx). A write may have been made all the same, after a 5xx."""
    REFUSED = "refused"
    """It never will (400, 422 of a validation, ...)."""
    UNREACHABLE = "unreachable"
    """No answer that can be used: a timeout, no connection, or bytes that no API server says. A write may have been made."""


class Refused(Exception):
    """A call that brought nothing."""

    def __init__(self, outcome: Outcome, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.retry_after_s = retry_after_s
        """For how long the server wants to be left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What came of a write."""

    outcome: Outcome
    reason: str = ""
    """Why it was not done: one sentence."""
    retry_after_s: float | None = None
    body: bytes = field(default=b"", repr=False, compare=False)
    """The object as it is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Time and chance, which tests bring along."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    """Of [0, 1)."""


_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, in the words of a Role's rules."""

    verb: str
    kind: Kind[Any]
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    content_type: str = "application/json"
    timeout_s: float = _TIMEOUT_S
    silence_s: float | None = None
    """Of a watch: nothing may come for so long."""

    @property
    def method(self) -> str:
        return _METHODS[self.verb]

    @property
    def what(self) -> str:
        """For a sentence: `deployments/scale "api"`."""
        return f'{self.kind.resource} "{self.name}"' if self.name else self.kind.resource

    @property
    def is_about_one(self) -> bool:
        """One object that is there already."""
        return self.verb in ("get", "update", "patch")

    def target(self, namespace: str) -> str:
        """Path and query."""
        kind = self.kind
        resource, _, subresource = kind.resource.partition("/")
        root = f"/apis/{kind.api}" if kind.group else f"/api/{kind.api}"
        parts = [root, "namespaces", quote(namespace, safe=""), resource]
        if self.is_about_one:
            parts += [quote(self.name, safe="")]
        if subresource:
            parts += [subresource]
        return "/".join(parts) + (f"?{urlencode(self.query)}" if self.query else "")

    def rule(self) -> str:
        """What a Role has to say for this to be allowed."""
        # The creation of a named object can't be told from that of any other.
        is_named = self.name and self.verb != "create"
        names = f", resourceNames: [{self.name}]" if is_named else ""
        group = self.kind.group or '""'
        return f"{{apiGroups: [{group}], resources: [{self.kind.resource}]{names}, verbs: [{self.verb}]}}"


class Api:
    """One API server, and one namespace of it. Use it as a context manager, in the event loop that it is to serve."""

    def __init__(
        self, credentials: Credentials, namespace: str, version: str, clocks: Clocks | None = None
    ) -> None:
        self.namespace = namespace
        self.clocks = clocks or Clocks()
        self._credentials = credentials
        self._agent = f"{FIELD_MANAGER}/{version}"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Api:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=16),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Nothing is gained by compression within a cluster, and 16 MiB stay 16 MiB.
            headers={"User-Agent": self._agent, "Accept": "application/json", "Accept-Encoding": "identity"},
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, call: Call) -> bytes:
        """The answer's body. Raises Refused."""
        async with self._answered(call) as response:
            return await _bounded(response, call)

    async def write(self, call: Call) -> Written:
        """Raises nothing: a refusal is an answer."""
        try:
            body = await self.ask(call)
        except Refused as refused:
            return Written(
                outcome=refused.outcome, reason=refused.reason, retry_after_s=refused.retry_after_s
            )
        return Written(outcome=Outcome.DONE, body=body)

    async def lines(self, call: Call) -> AsyncGenerator[bytes, None]:
        """The answer's lines, as they come. Raises Refused."""
        rest = bytearray()
        async with self._answered(call) as response:
            async for part in response.content.iter_any():
                rest += part
                if b"\n" in part:
                    *whole, rest = rest.split(b"\n")
                    for line in whole:
                        yield bytes(line)
                if len(rest) > MAX_BYTES:
                    raise Refused(
                        Outcome.UNREACHABLE, f"{call.verb} {call.what}: a line of more than {MAX_BYTES} bytes"
                    )

    @asynccontextmanager
    async def _answered(self, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer of 2xx. After a 401 newer credentials are tried, once: the call was not made."""
        try:
            async with self._sent(call) as response:
                if response.status != 401:
                    await _raise_for(response, call, self.namespace)
                    yield response
                    return
            self._credentials.reread()
            async with self._sent(call) as response:
                await _raise_for(response, call, self.namespace)
                yield response
        except TimeoutError as error:
            raise Refused(Outcome.UNREACHABLE, f"{call.verb} {call.what}: no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Refused(Outcome.UNREACHABLE, f"{call.verb} {call.what}: {_why(error)}") from error

    def _sent(self, call: Call) -> Any:
        if self._session is None:
            raise RuntimeError("Api is to be used as a context manager")
        credentials = self._credentials
        tls = credentials.tls()
        headers = credentials.headers()
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        return self._session.request(
            call.method,
            URL(credentials.server + call.target(self.namespace), encoded=True),
            data=call.body,
            headers=headers,
            # No API server sends its clients elsewhere, and whoever does shall not get the token.
            allow_redirects=False,
            ssl=True if tls is None else tls,
            server_hostname=credentials.server_name if tls is not None else None,
            timeout=aiohttp.ClientTimeout(total=call.timeout_s, sock_read=call.silence_s),
        )


async def _bounded(response: aiohttp.ClientResponse, call: Call) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_BYTES:
            raise Refused(
                Outcome.UNREACHABLE, f"{call.verb} {call.what}: an answer of more than {MAX_BYTES} bytes"
            )
        parts.append(part)
    return b"".join(parts)


async def _raise_for(response: aiohttp.ClientResponse, call: Call, namespace: str) -> None:
    if 200 <= response.status < 300:
        return
    said = status_of(await _bounded(response, call))
    raise refusal(response.status, said, call, namespace, response.headers.get("Retry-After", ""))


def refusal(code: int, said: Status, call: Call, namespace: str, retry_after: str = "") -> Refused:
    """A table: what each status means to a caller."""
    message = shortened(said.message)
    because = f" ({message})" if message else ""
    about = f"{call.verb} {call.what}"
    match code:
        case 401:
            return Refused(
                Outcome.DENIED, f"{about}: the API server takes neither our token nor a newer one{because}"
            )
        case 403:
            return Refused(
                Outcome.DENIED,
                f"not allowed to {about} in namespace {namespace}{because}: the Role needs {call.rule()}",
            )
        case 404:
            lacking = (
                f"there is none in namespace {namespace}"
                if call.is_about_one
                else f"the API server has no {call.kind.api}"
            )
            return Refused(Outcome.GONE, f"{about}: {lacking}{because}")
        case 409:
            return Refused(Outcome.CONFLICT, f"{about}: somebody else was first{because}")
        case 410:
            return Refused(Outcome.EXPIRED, f"{about}: too old to go on from{because}")
        case 422 if call.content_type == JSON_PATCH and not _names_a_field(said):
            # A patch whose test fails names no field, other than one that makes an invalid object.
            return Refused(Outcome.CONFLICT, f"{about}: it was not as expected any more{because}")
        case _ if code in (408, 429) or code >= 500:
            return Refused(
                Outcome.BUSY, f"{about}: the API server answered {code}{because}", _seconds(retry_after, said)
            )
        case _:
            return Refused(Outcome.REFUSED, f"{about}: the API server answered {code}{because}")


def _why(error: Exception) -> str:
    """The same for the same cause: aiohttp's own texts have addresses of objects in them."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            text = f"the API server is not who it should be ({error.certificate_error})"
        case aiohttp.ClientConnectorError():
            text = f"cannot connect ({error.os_error.strerror or error.os_error})"
        case _:
            text = str(error) or type(error).__name__
    return shortened(text)


def _names_a_field(said: Status) -> bool:
    return said.details is not None and any(cause.field for cause in said.details.causes or ())


def _seconds(retry_after: str, said: Status) -> float | None:
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _MAX_RETRY_AFTER_S)
    seconds = said.details.retry_after_seconds if said.details is not None else 0
    return min(float(seconds), _MAX_RETRY_AFTER_S) if seconds > 0 else None


def status_of(body: bytes | msgspec.Raw) -> Status:
    """Something in between may have answered, and not with a Status."""
    try:
        return msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Status()


def shortened(text: str) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in text[: _LONGEST_MESSAGE + 1])
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."
