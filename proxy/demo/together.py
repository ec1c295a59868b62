"""The sample API and a proxy in front of it, started and ended as one: what `crowdgate-proxy demo` runs.

The API is a child, since in real life it is a process of its own: it can be stopped and killed while the proxy goes on.
The proxy runs in this process: its errors and its end are ours then, and there is one process less that could be left.
"""

import asyncio
import errno
import os
import shlex
import shutil
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import uvloop

from proxy import config_file, logs
from proxy.app import CannotListen, Proxy, running
from proxy.config_problems import BadConfig
from proxy.store.embedded import EmbeddedError

_HOST = "127.0.0.1"
# The API takes less than a second to end.
_END_S = 1.0
_READY_S = 15.0

# Ctrl-C in a terminal reaches the whole session, so the API gets one of its own; and should this process be killed, the
# kernel ends the API (PR_SET_PDEATHSIG). The parent may have died before that was asked for.
_BECOME_MORTAL = """
import ctypes, os, signal, sys
parent, *command = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says. A port of 0 is any free one."""

    port: int
    admin_port: int
    api_port: int
    dsn: str | None
    scale: float
    redis: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The running API."""

    url: str
    process: Process


class CannotStart(Exception):
    """Why there is no demo: one sentence, with what to do."""


def run(options: Options) -> int:
    """Run until Ctrl-C or SIGTERM. The exit code: 0, or 1 where it could not start."""
    try:
        uvloop.run(_main(options))
    except KeyboardInterrupt:
        return 0
    except (CannotStart, CannotListen, EmbeddedError, BadConfig) as error:
        remedy = " (or --no-redis)" if isinstance(error, EmbeddedError) else ""
        print(f"crowdgate-proxy demo: {error}{remedy}", file=sys.stderr)  # noqa: T201 - for whoever started it
        return 1
    return 0


async def _main(options: Options) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs is run by a task
    asked: list[int] = []

    def end(number: int) -> None:
        if asked:
            # Asked twice: at once. The children die with this process.
            os._exit(1)
        asked.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    with suppress(asyncio.CancelledError):
        await _serve(options)


async def _serve(options: Options) -> None:
    _check_ports(options)
    async with _api(options) as api:
        path = str(files("proxy.demo").joinpath("demo.yaml"))
        # As variables, so that they also hold when the file is edited and loaded again.
        os.environ.update(_overrides(options, api))
        loaded = config_file.load(path, os.environ)
        logs.configure(level=loaded.log.level, form=loaded.log.format)
        async with running(Proxy(path, loaded)) as proxy:
            await _ready(proxy)
            say(_guide(proxy, api, path))
            with suppress(asyncio.CancelledError):
                await _until_asked(api)


async def _until_asked(api: Api) -> None:
    code = await api.process.wait()
    say(
        f"The sample API ended (exit code {code}). "
        "The proxy goes on with what it has stored, for as long as stale_if_error allows; Ctrl-C ends it."
    )
    await asyncio.Event().wait()


async def _ready(proxy: Proxy) -> None:
    """Wait until what is warmed is there, so that the first request is a hit."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_READY_S):
            while proxy.unready():  # noqa: ASYNC110 - the reasons are spread over the proxy
                await asyncio.sleep(0.02)


def _overrides(options: Options, api: Api) -> dict[str, str]:
    return {
        "CROWDGATE_LISTEN": f"{_HOST}:{options.port}",
        "CROWDGATE_ADMIN__LISTEN": f"{_HOST}:{options.admin_port}",
        "CROWDGATE_UPSTREAM__URL": api.url,
    } | ({} if options.redis else {"CROWDGATE_REDIS": "null"})


def _check_ports(options: Options) -> None:
    """Before anything is built, so that a taken port is told at once. Raises CannotStart."""
    ports = {"--port": options.port, "--admin-port": options.admin_port, "--api-port": options.api_port}
    seen: dict[int, str] = {}
    for option, port in ports.items():
        if port and port in seen:
            raise CannotStart(f"{seen[port]} and {option} are both {port}: choose two")
        seen[port] = option
        try:
            socket.create_server((_HOST, port)).close()
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
            raise CannotStart(
                f"port {port} {why} on {_HOST}: choose another with {option}, or 0 for any"
            ) from error


@asynccontextmanager
async def _api(options: Options) -> AsyncIterator[Api]:
    """The sample API as a child. Its progress and its errors go to our standard error. Raises CannotStart."""
    command = [sys.executable, "-m", "proxy.demo.api", "--host", _HOST, "--port", str(options.api_port)]
    command += ["--scale", f"{options.scale:g}"]
    command += ["--dsn", options.dsn] if options.dsn else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _BECOME_MORTAL, str(os.getpid()), *command),
        stdin=DEVNULL,
        stdout=PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        line = (await process.stdout.readline()).decode().strip()
        if not line.startswith("listening on "):
            code = await process.wait()
            raise CannotStart(f"the sample API did not start (exit code {code}); what it said is above")
        yield Api(url=line.removeprefix("listening on "), process=process)
    finally:
        await _ended(process)


async def _ended(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
        # One that somebody has stopped hears it only when it goes on.
        process.send_signal(signal.SIGCONT)
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def say(text: str) -> None:
    """For whoever started it; a closed pipe is no reason to end."""
    with suppress(OSError):
        print(text, flush=True)  # noqa: T201 - see above


def _guide(proxy: Proxy, api: Api, path: str) -> str:
    url, admin = f"http://{proxy.addresses['data']}", f"http://{proxy.addresses['admin']}"
    ours = _command()
    places = (
        ("through crowdgate", url),
        ("dashboard", f"{admin}/"),
        ("the API itself", f"{api.url} (process {api.process.pid})"),
        ("the config", f"{path} (edit it: it is loaded again at once)"),
    )
    tries = (
        (
            f"curl -si '{url}/api/events?status=running' | grep -i cache-status",
            "a hit: warmed before you came",
        ),
        (f"curl -si {url}/api/events/7 | grep -i -e cache-status -e ^age", "a miss, stored; again: a hit"),
        (
            f"curl -s --etag-save e7 -o /dev/null {url}/api/events/7; curl -si --etag-compare e7 {url}/api/events/7",
            "304 from the store: the API was not asked",
        ),
        (
            f'curl -si -d \'{{"name": "Ada", "email": "ada@example.org"}}\' {url}/api/events/7/participants',
            "201, and its route purges: event 7 and all lists are misses again",
        ),
        (
            f"curl -si -H 'Authorization: Bearer user-1' {url}/api/users/1/permissions",
            "a hit, for user-1 alone; as user-2 it is another entry",
        ),
        (
            f"seq 200 | xargs -P 40 -I_ curl -so /dev/null {url}/api/events/8/stats; curl -s {api.url}/_counts",
            "200 requests at once, of which one reached the API",
        ),
        (f"kill -STOP {api.process.pid}", "hits go on while the API hangs; kill -CONT wakes it up"),
        (f"{ours} stats --admin {admin}", "the figures; `top` shows them live"),
        (f"{ours} purge --admin {admin} --tag events", "the lists are misses again"),
    )
    width = max(len(name) for name, _ in places)
    lines = ["", "The demo is ready; Ctrl-C ends it.", ""]
    lines += [f"  {name.ljust(width)}  {place}" for name, place in places]
    lines += ["", "Worth a try:", ""]
    lines += [line for command, look in tries for line in (f"  {command}", f"      {look}")]
    return "\n".join([*lines, ""])


def _command() -> str:
    """How to call us: by the name alone where the shell finds it."""
    name = "crowdgate-proxy"
    if shutil.which(name):
        return name
    beside = Path(sys.executable).with_name(name)
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m proxy"
