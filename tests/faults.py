"""A TCP proxy that misbehaves on demand: between a client and a server, switchable while it runs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to the server's answers. The default is nothing."""

    delay_s: float = 0.0
    """Each piece of an answer is late by so much, as on a long way: those that follow are not any later for it."""
    stall: bool = False
    """Nothing arrives, nothing is closed."""
    refuse: bool = False
    """New connections are reset at once."""
    cut_after: int | None = None
    """So many bytes of the next answer arrive, then the connection ends."""
    reset: bool = True
    """How it ends: RST, or FIN."""
    corrupt: bool = False
    """Every byte of an answer is wrong."""
    answer: bytes | None = None
    """What the client gets instead of the server's answer, to everything it sends."""


NONE = Fault()
# Pieces of an answer that are late, at most.
_UNDER_WAY = 1000


@dataclass(slots=True)
class FaultProxy:
    """Listens on `port`. Set `fault` at any time; it applies to what comes next, on all connections."""

    target: tuple[str, int]
    port: int = 0
    fault: Fault = NONE
    accepted: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _pipes: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def open_connections(self) -> int:
        return len(self._writers)

    def set(self, **changes: Any) -> None:
        self.fault = replace(NONE, **changes)

    def reset_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.fault.refuse:
            writer.transport.abort()
            return
        if (me := asyncio.current_task()) is not None:
            self._pipes.add(me)
            me.add_done_callback(self._pipes.discard)
        self._writers.add(writer)
        try:
            answers, upstream = await asyncio.open_connection(*self.target)
            try:
                await self._pipe((reader, writer), (answers, upstream))
            finally:
                upstream.close()
        except (OSError, asyncio.CancelledError):
            # Cancelled: the test is over, and nobody awaits us.
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pipe(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        ways = [
            asyncio.ensure_future(self._forth(*client, server[1])),
            asyncio.ensure_future(self._back(server[0], client[1])),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def close(self) -> None:
        for pipe in tuple(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _forth(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.fault.answer is not None:
                    writer.write(self.fault.answer)
                else:
                    upstream.write(data)

    async def _late(self, answers: asyncio.StreamReader) -> AsyncGenerator[tuple[bytes, Fault], None]:
        """Pieces, each with the fault that was there when it came."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes, Fault]] = asyncio.Queue(_UNDER_WAY)

        async def read() -> None:
            data = b"-"
            while data:
                try:
                    data = await answers.read(65536)
                except OSError:
                    data = b""
                await under_way.put((loop.time() + self.fault.delay_s, data, self.fault))

        reading = asyncio.ensure_future(read())
        try:
            while True:
                due, data, fault = await under_way.get()
                if not data:
                    return
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                yield data, fault
        finally:
            reading.cancel()

    async def _back(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            async with aclosing(self._late(answers)) as pieces:
                async for data, fault in pieces:
                    if not await self._passed_on(data, fault, writer):
                        return

    async def _passed_on(self, data: bytes, fault: Fault, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        while self.fault.stall:
            await asyncio.sleep(0.005)
        if fault.corrupt:
            data = bytes(byte ^ 0x55 for byte in data)
        writer.write(data[: fault.cut_after])
        if fault.cut_after is None:
            return True
        await writer.drain()
        if fault.reset:
            writer.transport.abort()
        return False


@asynccontextmanager
async def fault_proxy(port: int, host: str = "127.0.0.1") -> AsyncIterator[FaultProxy]:
    """A fault proxy before host:port, on a free port."""
    proxy = FaultProxy((host, port))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
