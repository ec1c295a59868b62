"""A TCP proxy that misbehaves on demand: between a client and a server, switchable while it runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to the server's answers. The default is nothing."""

    delay_s: float = 0.0
    """Each piece of an answer is late by so much; one round trip is one piece."""
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

    async def _back(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await answers.read(65536):
                fault = self.fault
                if fault.delay_s:
                    await asyncio.sleep(fault.delay_s)
                while self.fault.stall:
                    await asyncio.sleep(0.005)
                if fault.corrupt:
                    data = bytes(byte ^ 0x55 for byte in data)
                if fault.cut_after is not None:
                    writer.write(data[: fault.cut_after])
                    await writer.drain()
                    if fault.reset:
                        writer.transport.abort()
                    return
                writer.write(data)


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
