"""Starts the proxy as its users do: as a process with a config file, found by what it says on standard error."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy import metrics
from tests.flow.client import Response, fetch
from tests.servers import _die_with_parent

_START_S = 20.0
_END_S = 15.0
_LOCAL = "listen: 127.0.0.1:0\nadmin: {listen: '127.0.0.1:0'}\n"


@dataclass(slots=True)
class Proxy:
    """A running proxy."""

    process: subprocess.Popen[bytes]
    config: Path
    port: int = 0
    admin_port: int = 0

    # -- what it says --

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """Its log lines so far; those of one event, if it is named."""
        lines = [json.loads(line) for line in self._log_text().splitlines() if line.startswith("{")]
        return [line for line in lines if event is None or line["event"] == event]

    def _log_text(self) -> str:
        return self.config.with_name("log").read_text(errors="replace")

    @property
    def rss(self) -> int:
        """Bytes of memory that it holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    @property
    def sockets(self) -> int:
        """How many it has open."""
        links = Path(f"/proc/{self.process.pid}/fd").iterdir()
        return sum(1 for link in links if os.path.islink(link) and "socket:" in str(link.readlink()))  # noqa: PTH114

    async def metric(self, name: str, **labels: str) -> float:
        text = (await self.asked("/metrics")).body.decode()
        return metrics.total(metrics.read(text), name, **labels)

    async def asked(self, target: str, *, method: str = "GET", body: bytes = b"") -> Response:
        """What its admin port answers."""
        return await fetch(
            self.admin_port, target, f"Host: 127.0.0.1:{self.admin_port}", method=method, body=body
        )

    async def until(self, name: str, wanted: float, *, within_s: float = 10.0, **labels: str) -> None:
        """Wait for a metric to be at least `wanted`."""
        async with asyncio.timeout(within_s):
            while await self.metric(name, **labels) < wanted:
                await asyncio.sleep(0.01)

    async def ready(self, within_s: float = _START_S) -> float:
        """Wait for readiness; the seconds that it took."""
        started = time.monotonic()
        async with asyncio.timeout(within_s):
            while not (self.admin_port and (await self.asked("/readyz")).status == 200):
                await asyncio.sleep(0.01)
        return time.monotonic() - started

    async def listening(self) -> None:
        """Wait until its ports are open."""
        async with asyncio.timeout(_START_S):
            while not (said := self.log("listening")):
                if self.process.poll() is not None:
                    raise AssertionError(f"the proxy did not start: {self._log_text()}")
                await asyncio.sleep(0.01)
        self.port, self.admin_port = (int(said[0][name].rpartition(":")[2]) for name in ("data", "admin"))

    # -- what is done to it --

    def write(self, text: str) -> None:
        """Replace its config, at once."""
        news = self.config.with_name("news")
        news.write_text(_LOCAL + text)
        news.replace(self.config)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, within_s: float = _END_S) -> int:
        """Its exit code."""
        async with asyncio.timeout(within_s):
            while (code := self.process.poll()) is None:
                await asyncio.sleep(0.005)
        return code

    async def stop(self) -> None:
        self.send(signal.SIGTERM)
        try:
            await self.ended(2.0)
        except TimeoutError:
            # A test that leaves requests open has no more interest in them.
            self.process.kill()
            await self.ended()


@asynccontextmanager
async def running(
    config: str,
    *,
    ready: bool = True,
    defects: bool = False,
    link: bool = False,
    module: str = "proxy",
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Proxy]:
    """A proxy on free ports. Once it is over, it must have logged no error, unless `defects` are meant to be.

    With `link`, the config is mounted as Kubernetes mounts a ConfigMap: behind a link to a directory. `env` is what it finds
    in its environment beside ours, `module` what is run.
    """
    with tempfile.TemporaryDirectory(prefix="flow-") as folder:
        path = Path(folder) / "config.yaml"
        if link:
            (Path(folder) / "..v1").mkdir()
            (Path(folder) / "..v1" / "config.yaml").write_text(_LOCAL + config)
            (Path(folder) / "..data").symlink_to("..v1")
            path.symlink_to("..data/config.yaml")
        else:
            path.write_text(_LOCAL + config)
        proxy = _start(path, module, {**os.environ, **(env or {})})
        try:
            await proxy.listening()
            if ready:
                await proxy.ready()
            yield proxy
            await proxy.stop()
        finally:
            if proxy.process.poll() is None:
                proxy.process.kill()
                proxy.process.wait()
        errors = [line for line in proxy.log() if line.get("level") == "error"]
        assert defects or not errors, errors


def _start(config: Path, module: str, env: Mapping[str, str]) -> Proxy:
    with config.with_name("log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "run", "--config", str(config)],
            env=env,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
        )
    return Proxy(process=process, config=config)
