"""The API of the fault matrix: a process of its own, so that it can be killed and stopped like one.

What it says is a function of what it is asked and of its version (`oracle.body_of`). Its mode and its version are set
through a second port, which knows nothing of faults.

python -m tests.flow.faults.api PORT CONTROL_PORT VERSION
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl

from tests.flow.client import fetch
from tests.flow.faults.oracle import body_of, ill_body_of
from tests.servers import _die_with_parent, free_port

_ROOT = Path(__file__).parents[3]
_START_S = 20.0
# 130 bytes or so: more than a second for each answer.
_BYTE_EVERY_S = 0.01
MODES = ("well", "slow", "cut", "ill")


@dataclass(slots=True)
class _State:
    version: int
    mode: str = "well"
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by the first segment of their path."""


async def _serve(state: _State, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while not writer.is_closing():
            await _answer(state, reader, writer)
    except (OSError, asyncio.IncompleteReadError):
        # Who asked is gone.
        pass
    finally:
        writer.close()


async def _answer(state: _State, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    target = lines[0].split(" ")[1]
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    posted = await reader.readexactly(int(fields.get("content-length", "0")))
    state.asked[target.split("/")[1]] += 1
    if state.mode == "ill":
        status = ("500 Ill", "503 Ill")[state.asked.total() % 2]
        writer.write(_framed(status, ill_body_of(target)))
        return
    body = body_of(target, fields.get("authorization", ""), state.version, posted)
    etag = f'"{body[-41:-1].decode()}"'
    if fields.get("if-none-match") == etag and state.mode == "well":
        writer.write(_framed("304 Not Modified", b"", f"ETag: {etag}"))
        return
    data = _framed("200 OK", body, f"ETag: {etag}")
    await _send(state.mode, writer, data, len(data) - len(body))


async def _send(mode: str, writer: asyncio.StreamWriter, data: bytes, head: int) -> None:
    if mode == "cut":
        writer.write(data[: (head + len(data)) // 2])
        writer.close()
    elif mode == "slow":
        writer.write(data[:head])
        for byte in data[head:]:
            await asyncio.sleep(_BYTE_EVERY_S)
            if writer.is_closing():
                return
            writer.write(bytes([byte]))
    else:
        writer.write(data)


def _framed(status: str, body: bytes, *lines: str) -> bytes:
    length = () if status.startswith("304") else (f"Content-Length: {len(body)}",)
    head = (f"HTTP/1.1 {status}", f"Date: {formatdate(usegmt=True)}", *lines, *length, "", "")
    return "\r\n".join(head).encode() + body


async def _control(state: _State, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    target = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
    said = dict(parse_qsl(target.partition("?")[2]))
    state.mode = said.get("mode", state.mode)
    state.version = int(said.get("version", state.version))
    writer.write(_framed("200 OK", json.dumps(state.asked).encode()))
    writer.close()


async def _run(port: int, control_port: int, version: int) -> None:
    state = _State(version)
    for serve, at in ((_serve, port), (_control, control_port)):
        await asyncio.start_server(partial(serve, state), "127.0.0.1", at, backlog=1024)
    await asyncio.Event().wait()


class Api:
    """The process. It keeps its ports over restarts."""

    def __init__(self) -> None:
        self.port = free_port()
        self.version = 1
        self._control_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        arguments = (str(self.port), str(self._control_port), str(self.version))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.flow.faults.api", *arguments],
            cwd=_ROOT,
            # One prctl and no Python objects between fork and exec: safe enough for tests.
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
        )
        async with asyncio.timeout(_START_S):
            while True:
                try:
                    await self.asked()
                except OSError:
                    assert self._process.poll() is None, "the API did not start"
                    await asyncio.sleep(0.01)
                else:
                    return

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections are still accepted, by the kernel, and nothing is ever answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def change(self) -> int:
        """From now on all bodies are new; returns their version."""
        self.version += 1
        await self.asked(f"?version={self.version}")
        return self.version

    async def be(self, mode: str) -> None:
        assert mode in MODES
        await self.asked(f"?mode={mode}")

    async def asked(self, query: str = "") -> Counter[str]:
        """What it was asked, by kind."""
        return Counter(json.loads((await fetch(self._control_port, f"/{query}")).body))


if __name__ == "__main__":
    import uvloop

    uvloop.run(_run(*map(int, sys.argv[1:4])))
