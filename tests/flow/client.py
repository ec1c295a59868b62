"""A client made of a socket and nothing else: it sends exactly the bytes it is given and shows those that came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

# No answer in these tests takes longer, however loaded the machine is: a test that hangs says so.
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    version: bytes
    status: int
    reason: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""
    whole: bool = True
    """Whether the body ended as the head said it would."""

    def get(self, name: str) -> str:
        """A field's first value; empty if there is none."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.fields if key.lower() == wanted), "")

    @property
    def cache(self) -> str:
        """Our word on how it was answered: `hit; ttl=59; detail=memory`."""
        return self.get("cache-status").removeprefix("crowdgate; ")

    @property
    def brief(self) -> tuple[int, bytes]:
        return self.status, self.body


def request(target: str, *lines: str, method: str = "GET", body: bytes = b"", version: str = "1.1") -> bytes:
    """A request's bytes. `lines` are fields as they are to be sent; Host and Content-Length come by themselves."""
    fields = list(lines)
    if not any(line.lower().startswith("host:") for line in lines):
        fields.insert(0, "Host: api.test")
    if body and not any(line.lower().startswith("transfer-encoding:") for line in lines):
        fields.append(f"Content-Length: {len(body)}")
    head = "\r\n".join((f"{method} {target} HTTP/{version}", *fields, "", ""))
    return head.encode("latin-1") + body


@dataclass(slots=True)
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    early: list[Response] = field(default_factory=list)
    """1xx answers that came before the last final one."""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> Response:
        await self.send(request(target, *lines, method=method, body=body))
        return await self.response(method)

    async def response(self, method: str = "GET") -> Response:
        """The next final answer, whole or as far as it came."""
        async with asyncio.timeout(_PATIENCE_S):
            head = await self.head()
            body, whole = await self._body(head, method)
            return replace(head, body=body, whole=whole)

    async def head(self) -> Response:
        self.early.clear()
        while True:
            async with asyncio.timeout(_PATIENCE_S):
                head = _parse(await self.reader.readuntil(b"\r\n\r\n"))
            if head.status >= 200 or head.status == 101:
                return head
            self.early.append(head)

    async def _body(self, head: Response, method: str) -> tuple[bytes, bool]:
        if method == "HEAD" or head.status in (101, 204, 304):
            return b"", True
        if head.get("transfer-encoding") == "chunked":
            return await self._chunks()
        if length := head.get("content-length"):
            return await self._exactly(int(length))
        try:
            return await self.reader.read(), True
        except ConnectionError:
            return b"", False

    async def _chunks(self) -> tuple[bytes, bool]:
        pieces: list[bytes] = []
        while piece := await self.chunk():
            pieces.append(piece)
        return b"".join(pieces), piece is not None

    async def chunk(self) -> bytes | None:
        """The next chunk; empty at the body's end, None where it broke off."""
        try:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def _exactly(self, size: int) -> tuple[bytes, bool]:
        try:
            return await self.reader.readexactly(size), True
        except asyncio.IncompleteReadError as error:
            return error.partial, False
        except ConnectionError:
            return b"", False

    async def rest(self, within_s: float = _PATIENCE_S) -> bytes:
        """All that still comes until the other side closes. Raises TimeoutError where it does not."""
        async with asyncio.timeout(within_s):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def abort(self) -> None:
        self.writer.transport.abort()


def _parse(block: bytes) -> Response:
    first, *lines = block[:-4].split(b"\r\n")
    version, status, reason = first.split(b" ", 2)
    pairs = [line.partition(b": ") for line in lines]
    fields = tuple((name, value) for name, _, value in pairs)
    return Response(version=version, status=int(status), reason=reason, fields=fields)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        yield Client(reader, writer)
    finally:
        # Abort: a test that is over waits for nobody to take what is still in a buffer.
        writer.transport.abort()


async def fetch(port: int, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> Response:
    """One request on a connection of its own."""
    async with connected(port) as client:
        return await client.ask(target, *lines, method=method, body=body)
