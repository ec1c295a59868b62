import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.settings import Redis
from proxy.store.redis import RedisTier
from proxy.tasks import Tasks
from tests import servers
from tests.faults import fault_proxy
from tests.log_lines import capture_logs
from tests.redis_tiers import Seen, back_within, needs_redis, seconds, tier_on

pytestmark = needs_redis


async def test_a_database_of_the_url_is_used(server: servers.Server) -> None:
    async with tier_on(f"{server.url}/3") as (tier, _):
        await tier.put("k", b"v", 10)
    assert server.info("keyspace").keys() == {"db3"}


async def test_passwords_users_and_a_rotated_password_file_are_used_and_never_logged(tmp_path: Path) -> None:
    with servers.redis("--requirepass", "old-secret") as server, capture_logs() as logs:
        address = f"127.0.0.1:{server.port}"
        file = tmp_path / "password"
        for url, settings in [
            (f"redis://:old-secret@{address}", {}),
            (f"redis://default:old-secret@{address}", {}),
            (f"redis://{address}", {"password": "old-secret"}),
            (f"redis://{address}", {"username": "default", "password": "old-secret"}),
        ]:
            async with tier_on(url, **settings) as (tier, _):
                assert await tier.put("k", b"v", 60)
        async with tier_on(f"redis://:wrong-secret@{address}") as (tier, seen):
            assert (tier.up, await tier.get("k"), seen.failures) == (False, None, {})

        file.write_text("wrong-secret\n")
        async with tier_on(f"redis://{address}", password_file=str(file)) as (tier, _):
            assert not tier.up
            file.write_text("old-secret\n")
            await back_within(tier, 5)
        async with tier_on(f"redis://{address}", password_file=str(tmp_path / "absent")) as (tier, _):
            assert await tier.get("k") is None
    assert "secret" not in repr(logs)
    assert len(logs) <= 6


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_tls_with_a_ca_of_ones_own_is_one_context_for_all_connections(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    certificate = certified(tmp_path)

    async def main(port: int) -> None:
        async with tier_on(f"rediss://localhost:{port}", ca_file=str(certificate), timeout=1.0) as (
            tier,
            seen,
        ):
            assert await tier.put("k", b"v", 60)
            took, values = await seconds(asyncio.gather(*(tier.get("k") for _ in range(64))))
            assert (values, seen.failures) == ([b"v"] * 64, {})
            assert took < 0.5
            large = bytes(range(256)) * 4000
            assert await tier.put("large", large, 60)
            assert await asyncio.gather(*(tier.get("large") for _ in range(8))) == [large] * 8
        async with tier_on(f"rediss://localhost:{port}", timeout=0.2) as (tier, _):
            assert not tier.up

    with with_tls(tmp_path) as server, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main(server.port))


def certified(directory: Path) -> Path:
    """A certificate for this machine, and its key beside it."""
    if shutil.which("openssl") is None or b"tls" not in Path(str(servers.binary())).read_bytes():
        pytest.skip("needs openssl and a Redis with TLS: apt-get install openssl redis-server")
    certificate = directory / "certificate.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    files = ("-keyout", str(directory / "key.pem"), "-out", str(certificate))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files],
        check=True,
        capture_output=True,
    )
    return certificate


@contextmanager
def with_tls(directory: Path, *options: str) -> Iterator[servers.Server]:
    port = servers.free_port()
    files = (
        *("--tls-cert-file", str(directory / "certificate.pem")),
        *("--tls-key-file", str(directory / "key.pem")),
    )
    tls = ("--tls-port", str(port), "--port", "0", *files, "--tls-auth-clients", "no")
    with servers.redis(*tls, *options, port=port) as server:
        yield server


async def test_certificates_that_are_rotated_need_no_restart(tmp_path: Path) -> None:
    certificate = certified(tmp_path)
    with with_tls(tmp_path) as server:
        url = f"rediss://localhost:{server.port}"
        async with tier_on(url, ca_file=str(certificate), timeout=0.5) as (tier, _):
            assert await tier.put("k", b"v", 60)
            certified(tmp_path)
            server.restart()
            async with asyncio.timeout(5):
                while not await tier.put("k", b"v", 60):
                    await asyncio.sleep(0.02)


async def test_files_that_are_half_rotated_cost_no_connection(tmp_path: Path) -> None:
    certificate = certified(tmp_path)
    with with_tls(tmp_path) as server:
        url = f"rediss://localhost:{server.port}"
        async with tier_on(url, ca_file=str(certificate), timeout=0.5) as (tier, seen):
            certificate.write_text("-----BEGIN CERT")
            assert await tier.put("k", b"v", 60)
            certificate.unlink()
            await tier._link.mend("")
            assert (await tier.get("k"), seen.failures) == (b"v", {})


async def test_a_handshake_may_take_longer_than_an_answer(tmp_path: Path) -> None:
    certificate = certified(tmp_path)
    with with_tls(tmp_path, "--tls-protocols", "TLSv1.2") as server:
        async with fault_proxy(server.port) as proxy:
            # Two round trips, where one may take 50 ms.
            proxy.set(delay_s=0.03)
            async with tier_on(f"rediss://127.0.0.1:{proxy.port}", ca_file=str(certificate)) as (tier, _):
                async with asyncio.timeout(2):
                    while not await tier.put("k", b"v", 60):
                        await asyncio.sleep(0.02)
                assert await tier.get("k") == b"v"


@pytest.mark.parametrize("protocol", [2, 3])
async def test_sentinels_and_nodes_are_asked_in_either_protocol(protocol: int) -> None:
    with servers.replicated() as replicated:
        async with tier_on(f"{replicated.sentinel.url}?protocol={protocol}", mode="sentinel", timeout=1) as (
            tier,
            seen,
        ):
            assert await tier.put("k", b"v", 60)
            assert (await tier.get("k"), seen.failures) == (b"v", {})
    with servers.cluster(3) as nodes:
        async with tier_on(f"{nodes[0].url}?protocol={protocol}", mode="cluster", timeout=1) as (tier, seen):
            keys = [f"k{number}" for number in range(20)]
            assert all([await tier.put(key, b"v", 60) for key in keys])
            assert await asyncio.gather(*(tier.get(key) for key in keys)) == [b"v"] * 20
            assert seen.failures == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"url": "http://u:secret@h"}, "redis.url: Redis URL must specify", id="scheme"),
        pytest.param({"url": "redis://a,redis://b"}, "several addresses", id="several"),
        pytest.param({"url": "redis://h?socket_timeout=9"}, "'socket_timeout' is not supported", id="option"),
        pytest.param({"url": "redis://h?protocol=4"}, "'protocol' is 2 or 3", id="protocol"),
        pytest.param({"url": None}, "redis.url is required", id="none"),
        pytest.param(
            {"url": "unix:///x", "mode": "cluster"}, "needs redis:// or rediss://", id="unix cluster"
        ),
        pytest.param({"url": "rediss://h", "ca_file": "/no/such"}, "TLS cannot be set up", id="ca"),
    ],
)
def test_settings_that_do_not_fit_are_told_at_once_without_secrets(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        RedisTier(Redis(**settings), Seen(), Tasks())
    assert "secret" not in str(raised.value)
