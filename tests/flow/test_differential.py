"""With the proxy or without it: random requests and answers, sent both ways, must come out as the same bytes.

What may differ is what RFC 9110 and 9112 demand of a hop, and what the docs say that the proxy adds. It is spelt out
here, in `_for_the_api` and `_for_the_client`, from the bytes that were sent, and without the proxy's code.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.claims import attack, clause
from tests.flow.processes import running
from tests.fuzz.search import PATIENCE_S, search

pytestmark = pytest.mark.timeout(PATIENCE_S)

Fields = tuple[tuple[bytes, bytes], ...]

_ANSWER_S = 5.0
"""No answer here takes longer, and none means that two sides disagree about where something ends."""
_OWS = (b"", b" ", b"\t", b"  ")


# -- what is sent --


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    framing: str
    """`none`, `length`, `chunked`; of an answer also `close`."""
    pieces: tuple[bytes, ...]

    @property
    def content(self) -> bytes:
        return b"" if self.framing == "none" else b"".join(self.pieces)

    @property
    def fields(self) -> Fields:
        if self.framing == "length":
            return ((b"Content-Length", b"%d" % len(self.content)),)
        return ((b"Transfer-Encoding", b"chunked"),) if self.framing == "chunked" else ()

    @property
    def sent(self) -> bytes:
        if self.framing != "chunked":
            return self.content
        chunks = (b"%X;a=b\r\n%b\r\n" % (len(piece), piece) for piece in self.pieces if piece)
        return b"".join(chunks) + b"0\r\nX-Trailer: 1\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A client's request."""

    method: bytes
    origin: bytes
    """`http://..` where the target is in absolute form."""
    suffix: bytes
    """Of the target: it follows the path of the route."""
    http_1_0: bool
    host: bytes | None
    host_at: int
    connection: tuple[bytes, ...]
    fields: Fields
    space: tuple[bytes, bytes]
    """Before and after every value."""
    body: Body

    def target(self, root: bytes) -> bytes:
        return root + self.suffix

    @property
    def all_fields(self) -> Fields:
        fields = list(self.fields)
        if self.host is not None:
            fields.insert(self.host_at, (b"Host", self.host))
        fields += [(b"connection", b", ".join(self.connection))] if self.connection else []
        return (*fields, *self.body.fields)

    def bytes(self, root: bytes) -> bytes:
        version = b"HTTP/1.0" if self.http_1_0 else b"HTTP/1.1"
        line = b"%b %b %b\r\n" % (self.method, self.origin + self.target(root), version)
        before, after = self.space
        fields = (b"%b:%b%b%b\r\n" % (name, before, value, after) for name, value in self.all_fields)
        return b"".join((line, *fields, b"\r\n", self.body.sent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An answer of the API."""

    version: bytes
    status: int
    reason: bytes
    fields: Fields
    body: Body

    def bytes(self, method: bytes) -> bytes:
        line = b"%b %d %b\r\n" % (self.version, self.status, self.reason)
        fields = (b"%b: %b\r\n" % pair for pair in (*self.fields, *self.body.fields))
        return b"".join((line, *fields, b"\r\n", b"" if method == b"HEAD" else self.body.sent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request as the API got it, or an answer as a client got it."""

    line: bytes
    fields: Fields
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


# -- what to expect --

# RFC 9111 section 3.1: a cache must not store them, though it passes them on.
_NEVER_STORED = {b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization"}
_HOP = {
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"
}  # fmt: skip


def _less(fields: Fields, names: set[bytes]) -> Fields:
    return tuple(pair for pair in fields if pair[0].lower() not in names)


def _for_the_api(sent: Sent, way: "Way", authority: bytes) -> Message:
    """What the API must get."""
    fields = _less(sent.all_fields, _HOP | {name.lower() for name in sent.connection})
    if sent.origin:
        fields = ((b"Host", sent.origin.removeprefix(b"http://")), *_less(fields, {b"host"}))
    elif sent.host is None:
        fields = ((b"Host", authority), *fields)
    if not way.transparent:
        fields += ((b"Via", b"1.0 crowdgate" if sent.http_1_0 else b"1.1 crowdgate"),)
    fields += ((b"Transfer-Encoding", b"chunked"),) if sent.body.framing == "chunked" else ()
    line = b"%b %b HTTP/1.1" % (sent.method, sent.target(way.root))
    return Message(line=line, fields=fields, body=sent.body.content)


def _for_the_client(given: Given, direct: Message) -> Message:
    """What a client must get through the proxy, but for what `_comparable` leaves out."""
    connection = [
        name.strip().lower() for value in direct.values(b"connection") for name in value.split(b",")
    ]
    line = b"HTTP/1.1 %d %b" % (given.status, given.reason)
    return Message(line=line, fields=_less(direct.fields, _HOP.union(connection)), body=direct.body)


@dataclass(frozen=True, slots=True)
class Way:
    """How a request went."""

    root: bytes
    transparent: bool
    warm: bool = False


def _comparable(got: Message, wanted: Message, way: Way) -> Message:
    """An answer less what this hop added and what only the hop is about. Raises AssertionError for what it may not add."""
    fields = _less(got.fields, {b"connection", b"transfer-encoding", b"keep-alive"})
    fields, said = _last(fields, b"Cache-Status", "crowdgate")
    assert bool(said) is not way.transparent, "Cache-Status is for those who want it"
    if not wanted.values(b"date"):
        # RFC 9110 section 6.6.1: who passes on an answer without one adds it.
        assert len(got.values(b"date")) == 1
        fields = _less(fields, {b"date"})
    if way.root.startswith(b"/kept"):
        # The length of what is stored is known, and its age is ours to say.
        fields = _less(fields, {b"age"})
        if not wanted.values(b"content-length"):
            fields = _less(fields, {b"content-length"})
    return replace(got, fields=fields)


def _last(fields: Fields, name: bytes, ours: str) -> tuple[Fields, bool]:
    """The fields without the last of a name, if that is our word."""
    at = max((at for at, pair in enumerate(fields) if pair[0] == name), default=-1)
    if at < 0 or not fields[at][1].startswith(ours.encode()):
        return fields, False
    return fields[:at] + fields[at + 1 :], True


# -- random messages --

_TOKEN = b"!#$%&'*+-.^`|~09AZaz"
_TEXT = bytes(at for at in range(0x21, 0x100) if at != 0x7F)
_SEGMENTS = (
    *(b"a", b"?", b"/", b"//", b"/%2F", b"%2f", b"%zz", b"%", b";", b";b=c", b"/..", b"/../", b"/./", b"\\"),
    *(
        b"&",
        b"=",
        b"%00",
        b"%0d%0a",
        b"%23",
        b"{}|^`",
        b'"<>',
        b"\xc3\xa9",
        b"\xff",
        b"\x80",
        b"+",
        b"*",
        b"@:80",
    ),
    *(b"http://x/", b"?a=1&a=2", b"?b=1&a=2", b"~", b"'", b"[1]"),
)
_ENDS = (b"", b"?", b"/", b"", b"&", b"=", b"%")
_METHODS = (
    *(b"GET",) * 6, *(b"HEAD",) * 2,
    *(b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PURGE", b"M-SEARCH", b"get", b"!#$%&'*+-.^_`|~", b"X"),
)  # fmt: skip
_REQUEST_NAMES = (
    *(
        b"Accept",
        b"ACCEPT",
        b"accept-Language",
        b"Cookie",
        b"Authorization",
        b"User-Agent",
        b"user-agent",
        b"Via",
    ),
    *(
        b"Content-Type",
        b"X-Forwarded-For",
        b"X-a",
        b"x-A",
        b"Referer",
        b"Origin",
        b"Keep-Alive",
        b"Accept-Encoding",
    ),
)
_ANSWER_NAMES = (
    *(
        b"Server",
        b"SERVER",
        b"x-a",
        b"X-A",
        b"Set-Cookie",
        b"set-cookie",
        b"Content-Type",
        b"Link",
        b"Via",
        b"Vary",
    ),
    *(
        b"Warning",
        b"Last-Modified",
        b"Expires",
        b"Age",
        b"Cache-Status",
        b"Content-Encoding",
        b"Location",
        b"P3P",
    ),
    *(b"WWW-Authenticate", b"Allow", b"Content-Language", b"Proxy-Authenticate", b"Date", b"ETag"),
)
# What changes how a request is answered, or where its end is, has tests of its own.
_NOT_RANDOM = {
    *(
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"upgrade",
        b"expect",
        b"te",
        b"trailer",
    ),
    *(b"cache-control", b"pragma", b"range"),
}


def _texts(alphabet: bytes, least: int, most: int) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), min_size=least, max_size=most).map(bytes)


def _joined(pieces: st.SearchStrategy[bytes], most: int, by: bytes = b"") -> st.SearchStrategy[bytes]:
    return st.lists(pieces, max_size=most).map(by.join)


def _fields(names: tuple[bytes, ...]) -> st.SearchStrategy[Fields]:
    name = st.sampled_from(names) | _texts(_TOKEN, 1, 9).filter(lambda text: text.lower() not in _NOT_RANDOM)
    words = _joined(_texts(_TEXT, 1, 5), 3, b" ") | st.sampled_from(
        (b"a\tb", b"a, b", b'"a"', b"x=1; y", b"")
    )
    return st.lists(st.tuples(name, words), max_size=6).map(tuple)


def _bodies(*framings: str) -> st.SearchStrategy[Body]:
    pieces = st.lists(st.binary(min_size=1, max_size=20), max_size=3).map(tuple)
    return st.builds(Body, framing=st.sampled_from(framings), pieces=pieces)


def _sound(sent: Sent) -> Sent:
    """The nearest request that is right: chunks and a missing Host belong to one version each."""
    if sent.http_1_0:
        framing = "length" if sent.body.framing == "chunked" else sent.body.framing
        return replace(sent, body=replace(sent.body, framing=framing))
    return replace(sent, host=sent.host or b"api.test")


REQUESTS = st.builds(
    Sent,
    method=st.sampled_from(_METHODS),
    origin=st.sampled_from((*[b""] * 8, b"http://Absolute.test:80", b"http://api.test")),
    suffix=st.builds(bytes.__add__, _joined(st.sampled_from(_SEGMENTS), 4), st.sampled_from(_ENDS)),
    http_1_0=st.sampled_from((False, False, False, True)),
    host=st.sampled_from((b"api.test", b"API.Test:81", b"127.0.0.1", b"[::1]:80", None)),
    host_at=st.integers(0, 3),
    connection=st.sampled_from(((), (), (), (b"keep-alive",), (b"close",), (b"X-a", b"keep-alive"))),
    fields=_fields(_REQUEST_NAMES),
    space=st.tuples(st.sampled_from(_OWS), st.sampled_from(_OWS)),
    body=_bodies("none", "none", "length", "chunked"),
).map(_sound)


def _right(given: Given) -> Given:
    """The nearest answer that is right: what has no body says nothing of one; HTTP/1.0 knows no chunks."""
    body = given.body
    if given.status in (204, 304):
        body = replace(body, framing="none")
    elif body.framing == "none":
        body = replace(body, framing="length", pieces=())
    elif body.framing == "chunked" and given.version == b"HTTP/1.0":
        body = replace(body, framing="close")
    return replace(given, body=body)


ANSWERS = st.builds(
    Given,
    version=st.sampled_from((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0")),
    status=st.sampled_from(
        (200, 200, 200, 200, 201, 203, 204, 206, 299, 301, 304, 400, 404, 418, 499, 500, 503, 599)
    ),
    reason=st.sampled_from((b"OK", b"", b"Not  OK\t", b"\xe4hm")) | _texts(_TEXT, 0, 5),
    fields=_fields(_ANSWER_NAMES),
    body=_bodies("none", "length", "length", "chunked", "close"),
).map(_right)


# -- both ends --


async def _read(reader: asyncio.StreamReader, method: bytes | None) -> Message | None:
    """A message, read strictly; None at the connection's end. `method` is what an answer is to; a request has none."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *lines = head[:-4].split(b"\r\n")
    pairs = [text.partition(b":") for text in lines]
    message = Message(
        line=line, fields=tuple((name, value.strip(b" \t")) for name, _, value in pairs), body=b""
    )
    assert all(b"\n" not in text and b"\r" not in text for text in lines), head
    lengths, codings = message.values(b"content-length"), message.values(b"transfer-encoding")
    assert len(lengths) + len(codings) <= 1, f"its end is not clear: {head!r}"
    if method is not None and line.split(b" ")[1] in {b"204", b"304"}:
        assert not codings, f"chunks without a body: {head!r}"
        return message
    if method == b"HEAD":
        return message
    if codings:
        return replace(message, body=await _chunks(reader))
    if lengths:
        return replace(message, body=await reader.readexactly(int(lengths[0])))
    return message if method is None else replace(message, body=await reader.read())


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        assert await reader.readexactly(2) == b"\r\n"
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return b"".join(pieces)


@dataclass
class Api:
    """Notes what it gets, and answers all with the same."""

    given: Given | None = None
    got: list[Message] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while (request := await _read(reader, None)) is not None:
                self.got.append(request)
                assert self.given is not None
                writer.write(self.given.bytes(request.line.split(b" ")[0]))
                await writer.drain()
                if self.given.body.framing == "close":
                    break
        writer.close()


async def _exchange(port: int, data: bytes, method: bytes) -> Message:
    """One answer. Whoever keeps the connection must also understand what comes next on it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(_ANSWER_S):
            writer.write(data)
            answer = await _read(reader, method)
            assert answer is not None
            writer.write(b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n")
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                following = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
                assert following.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), following
            return answer
    finally:
        writer.transport.abort()


# -- running it --


@dataclass
class Stage:
    runner: asyncio.Runner
    api: Api
    port: int
    proxies: dict[bool, int]
    """Ports; by whether the proxy is transparent."""
    played: int = 0

    def play(self, pair: tuple[Sent, Given]) -> None:
        self.runner.run(self._play(*pair))

    async def _play(self, sent: Sent, given: Given) -> None:
        self.played += 1
        self.api.given = given
        for transparent in self.proxies:
            for name in (b"kept", b"passed"):
                root = b"/%b/%d/" % (name, self.played)
                await self._both(sent, given, Way(root, transparent))
                if name == b"kept":
                    await self._both(sent, given, Way(root, transparent, warm=True))

    async def _both(self, sent: Sent, given: Given, way: Way) -> None:
        data = sent.bytes(way.root)
        direct = await _exchange(self.port, data, sent.method)
        self.api.got.clear()
        through = await _exchange(self.proxies[way.transparent], data, sent.method)
        wanted = _for_the_client(given, direct)
        if way.root.startswith(b"/kept"):
            wanted = replace(wanted, fields=_less(wanted.fields, {b"age"}))
        seen = _comparable(through, wanted, way)
        if way.warm:
            wanted, seen = (
                replace(each, fields=_less(each.fields, _NEVER_STORED)) for each in (wanted, seen)
            )
        assert wanted == seen, f"{way}\nsent {data!r}\ngot {through}"
        got = [request for request in self.api.got if request.values(b"host") != [b"next"]]
        if not way.warm:
            asked = _for_the_api(sent, way, b"127.0.0.1:%d" % self.port)
            if not sent.body.content and sent.body.framing == "length":
                # Where one fetch is for everybody, nothing need be said of a body that isn't there.
                asked, *got = (
                    replace(each, fields=_less(each.fields, {b"content-length"})) for each in (asked, *got)
                )
            assert [asked] == got, f"{way}\nsent {data!r}"


@pytest.fixture(scope="module")
def stage(nothing_is_left: None) -> Iterator[Stage]:
    """A proxy that adds what proxies should, and one that is asked not to."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Stage:
            api = Api()
            server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
            proxies = {}
            for transparent in (True, False):
                config = f"""
upstream: {{url: 'http://127.0.0.1:{port}'}}
transparent: {str(transparent).lower()}
routes: [{{match: "/kept/**", ttl: 1m}}]
"""
                proxies[transparent] = (await stack.enter_async_context(running(config))).port
            return Stage(runner, api, port, proxies)

        async def end() -> None:
            await stack.aclose()
            tasks: set[asyncio.Task[Any]] = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        try:
            yield runner.run(start())
        finally:
            runner.run(end())


@attack(
    "smuggling",
    "random requests and answers: what one side takes for the end of a message, so does the other",
)
@clause("RFC 9110", "7.6.1", "what belongs to a hop ends there, and all else is passed on as it came")
def test_with_the_proxy_or_without_it_is_the_same(stage: Stage) -> None:
    search(st.tuples(REQUESTS, ANSWERS), stage.play, examples=400)
