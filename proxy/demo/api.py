"""The sample API as a process: `python -m proxy.demo.api`."""

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NoReturn

import click
import uvloop
from aiohttp import web

from proxy.demo import build
from proxy.demo.app import application
from proxy.demo.database import Database, UnavailableError, UnfitError
from proxy.demo.sqlite import SQLite

PASSWORD_VARIABLE = "CROWDGATE_DEMO_PASSWORD"  # noqa: S105 - a variable's name

# What is under way gets this long to end when we are told to; the whole exit takes less than a second.
GRACE_S = 0.5


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: any free one."
)
@click.option(
    "--db",
    type=click.Path(dir_okay=False, path_type=Path),
    help="SQLite file that keeps what is written. Without it every run starts from a fresh sample.",
)
@click.option("--dsn", help="mysql://user:password@host:port/schema: MySQL or MariaDB instead of SQLite.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Holds the password that the DSN leaves out; so does ${PASSWORD_VARIABLE}.",
)
@click.option(
    "--scale",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.001, 10),
    help="Size of the crowd: 1 is 200,000 participants.",
)
def main(  # noqa: PLR0913, PLR0917 - click hands over each option
    host: str, port: int, db: Path | None, dsn: str | None, password_file: Path | None, scale: float
) -> None:
    """Serve the sample event API until SIGTERM or Ctrl-C.

    Prints one line on stdout when it is ready: listening on http://HOST:PORT.
    """
    if db and dsn:
        raise click.UsageError("--db and --dsn exclude each other: one database is enough")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Until the event loop listens to signals itself, and so also during a long build.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        with ExitStack() as stack:
            listener = stack.enter_context(_listener(host, port))
            if dsn:
                opening = _mysql(dsn, _password(password_file), scale)
            else:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crowdgate-demo-")))
                place = db or folder / "demo.sqlite3"
                build.copy_to(place, scale)
                opening = _sqlite(place)
            uvloop.run(serve(listener, opening))
    except (UnfitError, UnavailableError) as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"cannot keep the sample (--db, XDG_CACHE_HOME): {error}") from error


async def serve(listener: socket.socket, opening: AbstractAsyncContextManager[Database]) -> None:
    """Serves until SIGTERM or SIGINT, having said in one line on stdout that it does."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs is run by a task
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        async with opening as database:
            runner = web.AppRunner(application(database), access_log=None, shutdown_timeout=GRACE_S)
            await runner.setup()
            try:
                await web.SockSite(runner, listener).start()
                host, port = listener.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                print(f"listening on http://{shown}:{port}", flush=True)  # noqa: T201 - callers wait for it
                await asyncio.Event().wait()
            finally:
                await runner.cleanup()


@asynccontextmanager
async def _sqlite(path: Path) -> AsyncIterator[Database]:
    database = SQLite(path)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def _mysql(dsn: str, password: str, scale: float) -> AsyncIterator[Database]:
    try:
        # Here, since it is an extra: the sample on SQLite needs no MySQL client.
        from proxy.demo import build_mysql, mysql  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UnfitError(f"--dsn needs {error.name}: pip install 'crowdgate[demo]'") from error
    try:
        database = mysql.MySQL(mysql.parse(dsn, password))
    except ValueError as error:
        raise UnfitError(f"--dsn: {error}") from error
    await database.open()
    try:
        await build_mysql.build(database, scale)
        yield database
    finally:
        await database.close()


def _password(file: Path | None) -> str:
    if file:
        return file.read_text().strip()
    return os.environ.get(PASSWORD_VARIABLE, "")


def _listener(host: str, port: int) -> socket.socket:
    """Taken before anything is built, so that a taken port is told at once."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.UsageError(
                f"port {port} is taken on {host}: choose another with --port, or 0"
            ) from error
        raise click.UsageError(
            f"cannot listen on {host} port {port} (--host, --port): {error.strerror}"
        ) from error


def _leave(*_: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
