"""A changed config takes effect within two seconds, however it was changed; a bad one changes nothing."""

import asyncio
import json
import signal
import time
from pathlib import Path

from tests.flow.client import connected, fetch, request
from tests.flow.origin import Origin, numbered, ok, once, origin
from tests.flow.processes import _LOCAL, Proxy, running

# Also on a loaded machine: the file is looked at every second.
TAKES_S = 2.0


def config(api: Origin, more: str = "") -> str:
    return f"upstream: {{url: {api.url}}}\nroutes:\n  - {{match: '/kept', ttl: 1m}}\n{more}"


NEW = "  - {match: '/new', ttl: 1m}\n"
BAD = "  - {match: '/new', tll: 1m}\n"


async def seconds_until_new(proxy: Proxy) -> float:
    """Until the new route caches."""
    started = time.monotonic()
    async with asyncio.timeout(10):
        while not (await fetch(proxy.port, "/new")).cache.startswith("hit"):
            await asyncio.sleep(0.02)
    return time.monotonic() - started


async def test_a_changed_file_takes_effect_and_keeps_the_cache(api: Origin) -> None:
    api.on("/kept", numbered())
    async with running(config(api)) as proxy:
        await fetch(proxy.port, "/kept")
        proxy.write(config(api, NEW))

        assert await seconds_until_new(proxy) < TAKES_S
        assert (await fetch(proxy.port, "/kept")).body == b"1"


async def test_a_configmap_s_swapped_link_takes_effect(api: Origin) -> None:
    async with running(config(api), link=True) as proxy:
        folder: Path = proxy.config.parent
        (folder / "..v2").mkdir()
        (folder / "..v2" / "config.yaml").write_text(_LOCAL + config(api, NEW))
        (folder / "..data_tmp").symlink_to("..v2")
        (folder / "..data_tmp").replace(folder / "..data")

        assert await seconds_until_new(proxy) < TAKES_S


async def test_sighup_and_the_admin_port_take_effect_at_once(api: Origin) -> None:
    async with running(config(api)) as proxy:
        proxy.write(config(api, NEW))
        proxy.send(signal.SIGHUP)
        assert await seconds_until_new(proxy) < 0.7

        proxy.write(config(api, NEW + "  - {match: '/newer', ttl: 1m}\n"))
        reloaded = await proxy.asked("/api/reload", method="POST")
        assert (reloaded.status, json.loads(reloaded.body)["reloaded"]) == (200, True)
        assert "stored" in (await fetch(proxy.port, "/newer")).cache


async def test_a_bad_file_keeps_the_last_good_one_and_is_counted(api: Origin) -> None:
    async with running(config(api), defects=True) as proxy:
        proxy.write(config(api, BAD))
        reloaded = await proxy.asked("/api/reload", method="POST")
        assert (reloaded.status, "tll" in reloaded.body.decode()) == (422, True)
        await proxy.until("crowdgate_config_reload_failures_total", 1, within_s=TAKES_S)
        assert (await fetch(proxy.port, "/kept")).status == 200
        assert (await proxy.asked("/readyz")).status == 200
        assert "tll" in str(proxy.log("config not reloaded; the last good one goes on")[0]["problems"])

        proxy.write(config(api, NEW))
        assert await seconds_until_new(proxy) < TAKES_S


async def test_a_file_that_goes_missing_changes_nothing(api: Origin) -> None:
    async with running(config(api)) as proxy:
        proxy.config.unlink()
        await asyncio.sleep(1.2)
        assert (await fetch(proxy.port, "/kept")).status == 200
        proxy.write(config(api, NEW))

        assert await seconds_until_new(proxy) < TAKES_S


async def test_requests_in_flight_are_unharmed_and_the_next_go_to_the_new_api(api: Origin) -> None:
    release = asyncio.Event()
    api.on("/", once(release, ok(b"old")))
    async with origin() as other, running(config(api)) as proxy, connected(proxy.port) as client:
        other.on("/", ok(b"new"))
        await client.send(request("/passed"))
        await api.came("/passed")
        proxy.write(config(other))
        assert (await proxy.asked("/api/reload", method="POST")).status == 200

        assert (await fetch(proxy.port, "/passed")).body == b"new"
        release.set()
        assert (await client.response()).body == b"old"
        assert (await client.ask("/passed")).body == b"new"


async def test_a_route_that_means_something_else_now_does_not_serve_what_was_stored(api: Origin) -> None:
    api.on("/kept", numbered())
    async with running(config(api)) as proxy:
        await fetch(proxy.port, "/kept")
        proxy.write(config(api).replace("ttl: 1m", "ttl: 1m, per: authorization"))
        await proxy.asked("/api/reload", method="POST")

        assert (await fetch(proxy.port, "/kept")).body == b"2"


async def test_what_needs_a_restart_is_told(api: Origin) -> None:
    async with running(config(api)) as proxy:
        proxy.config.write_text(_LOCAL.replace("127.0.0.1:0\n", "127.0.0.1:1\n") + config(api))
        reloaded = await proxy.asked("/api/reload", method="POST")

        assert json.loads(reloaded.body)["needs_restart"] == ["listen"]
        assert (await fetch(proxy.port, "/kept")).status == 200
