"""The API of the tests: a bare socket that records what it is asked, byte by byte, and answers as badly as it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property


@dataclass
class Asked:
    """One request, and the means to answer it."""

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytes = b""
    """What `content` has read."""

    @cached_property
    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        lines = self.head[:-4].split(b"\r\n")[1:]
        return tuple((name, value) for name, _, value in (line.partition(b": ") for line in lines))

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode("latin-1")

    def get(self, name: str) -> str:
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.fields if key.lower() == wanted), "")

    async def content(self) -> bytes:
        """The body, read to its end. Raises IncompleteReadError where it breaks off."""
        if self.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                self.body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        elif length := self.get("content-length"):
            self.body = await self.reader.readexactly(int(length))
        return self.body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self, within_s: float = 5.0) -> bool:
        """Whether the proxy closes this connection in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                try:
                    return await self.reader.read(1) == b""
                except ConnectionError:
                    return True
        return False

    def close(self) -> None:
        self.writer.close()


Answer = Callable[[Asked], Awaitable[None]]


def ok(body: bytes = b"{}", *lines: str, status: str = "200 OK") -> Answer:
    """An answer with fields as they are to be sent, and a Content-Length."""

    async def answer(asked: Asked) -> None:
        await asked.content()
        await asked.send(framed(b"" if asked.method == "HEAD" else body, *lines, status=status, of=len(body)))

    return answer


def framed(body: bytes, *lines: str, status: str = "200 OK", of: int | None = None) -> bytes:
    length = len(body) if of is None else of
    head = "\r\n".join((f"HTTP/1.1 {status}", *lines, f"Content-Length: {length}", "", ""))
    return head.encode("latin-1") + body


def raw(data: bytes, *, close: bool = False) -> Answer:
    """Exactly these bytes."""

    async def answer(asked: Asked) -> None:
        await asked.content()
        await asked.send(data)
        if close:
            asked.close()

    return answer


def cut_off(seen: asyncio.Event) -> Answer:
    """No answer to a body that breaks off; the event says that it did."""

    async def answer(asked: Asked) -> None:
        try:
            await asked.content()
        except asyncio.IncompleteReadError:
            seen.set()

    return answer


def after(seconds: float, then: Answer) -> Answer:
    async def answer(asked: Asked) -> None:
        await asyncio.sleep(seconds)
        await then(asked)

    return answer


def once(event: asyncio.Event, then: Answer) -> Answer:
    """Waits for the event first."""

    async def answer(asked: Asked) -> None:
        await event.wait()
        await then(asked)

    return answer


def numbered(*lines: str) -> Answer:
    """A body that is never twice the same: `1`, `2`, .."""
    count = 0

    async def answer(asked: Asked) -> None:
        nonlocal count
        count += 1
        await ok(b"%d" % count, *lines)(asked)

    return answer


@dataclass
class Origin:
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    accepted: int = 0
    open: int = 0
    """Connections."""
    _answers: dict[str, Answer] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, path: str, answer: Answer) -> None:
        """From now on, this is the answer to all that begins with `path`; the longest path wins."""
        self._answers[path] = answer

    def of(self, path: str) -> list[Asked]:
        """The requests for a path, whatever their query."""
        return [asked for asked in self.asked if asked.target.partition("?")[0] == path]

    def count(self, path: str) -> int:
        return len(self.of(path))

    async def came(self, path: str, count: int = 1, within_s: float = 10.0) -> Asked:
        """The `count`th request for a path, which is waited for."""
        async with asyncio.timeout(within_s):
            while self.count(path) < count:
                await asyncio.sleep(0.005)
        return self.of(path)[count - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        self.open += 1
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The proxy has closed, or the test is over.
            pass
        finally:
            self.open -= 1
            writer.transport.abort() if writer.transport.is_closing() is False else None

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            asked = Asked(await reader.readuntil(b"\r\n\r\n"), reader, writer)
            self.asked.append(asked)
            path = max((known for known in self._answers if asked.target.startswith(known)), key=len)
            await self._answers[path](asked)
        # Closed gracefully: what was written is still to go out.
        await writer.wait_closed()

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def origin(port: int = 0) -> AsyncIterator[Origin]:
    """An API on a free port, or again on the one it had."""
    api = Origin()
    api.on("/", ok())
    server = await asyncio.start_server(api.serve, "127.0.0.1", port, limit=2**20, backlog=1024)
    api.port = server.sockets[0].getsockname()[1]
    try:
        yield api
    finally:
        server.close()
        await api.close()
