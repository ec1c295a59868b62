"""A whole proxy inside the test's own process, before an API that is a bare socket: on free ports, with its admin port."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy import config_file
from proxy.app import Proxy, running
from tests.flow.client import Response, fetch
from tests.flow.origin import Origin, numbered, ok, origin

ROUTES = """
routes:
  - {name: events, match: /api/events, query: [status, page], ttl: 60s, stale_while_revalidate: 60s, tags: [events]}
  - {name: event, match: "/api/events/{id}", ttl: 60s, tags: ["event:{id}"]}
  - {name: register, match: "/api/events/{id}/participants", methods: [POST], purge: ["event:{id}"]}
warm:
  - {name: first, path: /api/events/1}
  - {name: failing, path: /api/events/broken}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A running proxy, its config file and its API."""

    proxy: Proxy
    config: Path
    api: Origin

    @property
    def port(self) -> int:
        return int(self.proxy.addresses["data"].rpartition(":")[2])

    @property
    def admin_port(self) -> int:
        return int(self.proxy.addresses["admin"].rpartition(":")[2])

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    async def get(self, target: str, *lines: str) -> Response:
        """As a client of the API."""
        return await fetch(self.port, target, *lines)

    async def ask(self, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> Response:
        """As a caller of the admin port."""
        host = (
            () if any(line.startswith("Host:") for line in lines) else (f"Host: 127.0.0.1:{self.admin_port}",)
        )
        return await fetch(self.admin_port, target, *host, *lines, method=method, body=body)

    def write(self, more: str) -> None:
        self.config.write_text(_text(self.api, more))


def _text(api: Origin, more: str) -> str:
    own = "" if "admin:" in more else "admin: {listen: '127.0.0.1:0'}\n"
    return f"listen: 127.0.0.1:0\n{own}upstream: {{url: {api.url}}}\nlog: {{level: error}}\n{more}"


@asynccontextmanager
async def live(folder: Path, more: str = ROUTES) -> AsyncIterator[Live]:
    """Ready, all warmed but what fails."""
    async with origin() as api:
        api.on("/api", numbered("Content-Type: application/json"))
        api.on("/api/events/broken", ok(status="500 Internal Server Error"))
        config = folder / "config.yaml"
        config.write_text(_text(api, more))
        async with running(Proxy(str(config), config_file.load(str(config), os.environ))) as proxy:
            async with asyncio.timeout(20):
                while proxy.unready():
                    await asyncio.sleep(0.005)
            yield Live(proxy=proxy, config=config, api=api)


@contextmanager
def in_a_thread(folder: Path, more: str = ROUTES) -> Iterator[Live]:
    """The same for tests that block: the proxy has a thread and a loop of its own."""
    started: list[Live] = []
    is_up, loops, ending = threading.Event(), [], asyncio.Event()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        async with live(folder, more) as running_proxy:
            started.append(running_proxy)
            is_up.set()
            await ending.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert is_up.wait(20), "the proxy did not start"
        yield started[0]
    finally:
        loops[0].call_soon_threadsafe(ending.set)
        thread.join(20)
    assert not thread.is_alive()
