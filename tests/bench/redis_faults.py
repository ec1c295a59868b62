"""What a request waits for Redis that is down or hung: redis-py as it comes, and our tier.

python tests/bench/redis_faults.py [--json FILE]
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from redis.asyncio import Redis as RedisPy
from redis.exceptions import RedisError

from proxy import logs
from proxy.settings import Redis
from proxy.store.redis import RedisTier
from proxy.tasks import Tasks
from tests import servers

CAP_S = 10.0
Get = Callable[[], Awaitable[object]]


class Unseen:
    def done(self, op: str, seconds: float) -> None: ...

    def failed(self, kind: str) -> None: ...

    def up(self, is_up: bool) -> None: ...


async def seconds_of(get: Get) -> float:
    """Of one GET, at most CAP_S."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(CAP_S):
            await get()
    except (RedisError, OSError):
        pass
    return time.monotonic() - started


async def measure(server: servers.Server, get: Get, later: int) -> dict[str, dict[str, float]]:
    """Healthy, hung and down: the first GET, the median of those a second later, and seconds until it is used again."""
    healthy = [await seconds_of(get) for _ in range(2000)]
    figures = {"healthy": {"median_s": statistics.median(healthy), "max_s": max(healthy)}}
    for state, begin, end in (("hung", server.pause, server.resume), ("down", server.kill, server.start)):
        begin()
        try:
            first = await seconds_of(get)
            await asyncio.sleep(1)
            rest = [await seconds_of(get) for _ in range(later)]
        finally:
            end()
            server.command("SET", "crowdgate:k", "v" * 2000)
        figures[state] = {"first_s": first, "later_s": statistics.median(rest) if rest else first}
        figures[state]["back_s"] = await seconds_until_served(get)
    return figures


async def seconds_until_served(get: Get) -> float:
    started = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(CAP_S):
                if await get() is not None:
                    return time.monotonic() - started
        except (RedisError, OSError):
            pass
        await asyncio.sleep(0.005)


async def redis_py(server: servers.Server) -> dict[str, dict[str, float]]:
    client = RedisPy(port=server.port)
    try:
        return await measure(server, lambda: client.get("crowdgate:k"), later=0)
    finally:
        await client.aclose()


async def ours(server: servers.Server) -> dict[str, dict[str, float]]:
    tasks = Tasks()
    tier = RedisTier(Redis(url=server.url), Unseen(), tasks)
    await tier.start()
    try:
        return await measure(server, lambda: tier.get("k"), later=1000)
    finally:
        await tier.close()
        await tasks.close(1)


async def throughput(get: Get, callers: int = 64, each: int = 300) -> dict[str, float]:
    async def caller() -> None:
        for _ in range(each):
            await get()

    await get()
    started, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    count = callers * each
    return {
        "gets_per_s": count / (time.monotonic() - started),
        "cpu_us_per_get": (time.process_time() - cpu) / count * 1e6,
    }


async def speeds(server: servers.Server) -> dict[str, dict[str, float]]:
    server.command("SET", "crowdgate:k", "v" * 2000)
    figures: dict[str, dict[str, float]] = {}
    for protocol in (2, 3):
        client = RedisPy(port=server.port, protocol=protocol, max_connections=64)
        figures[f"redis-py, RESP{protocol}"] = await throughput(partial(client.get, "crowdgate:k"))
        await client.aclose()
    tasks = Tasks()
    tier = RedisTier(Redis(url=server.url), Unseen(), tasks)
    await tier.start()
    figures["crowdgate"] = await throughput(lambda: tier.get("k"))
    await tier.close()
    await tasks.close(1)
    return figures


async def main(json_file: str | None) -> None:
    figures: dict[str, Any] = {"cap_s": CAP_S, "faults": {}}
    for name, subject in (("redis-py", redis_py), ("crowdgate", ours)):
        with servers.redis() as server:
            server.command("SET", "crowdgate:k", "v" * 2000)
            figures["faults"][name] = await subject(server)
    with servers.redis() as server:
        figures["speed"] = await speeds(server)
    if json_file is not None:
        text = json.dumps(figures, indent=2) + "\n"
        if json_file == "-":
            sys.stdout.write(text)
            return
        await asyncio.to_thread(Path(json_file).write_text, text)
    report(figures)


def report(figures: dict[str, Any]) -> None:
    print("Seconds that a GET takes (timeout of crowdgate: 50 ms)")
    print(f"{'':12}{'healthy':>12}{'down: first':>14}{'a second on':>14}{'back in use':>14}", end="")
    print(f"{'hung: first':>14}{'a second on':>14}{'back in use':>14}")
    for name, of in figures["faults"].items():
        cells = [of["healthy"]["median_s"], *of["down"].values(), *of["hung"].values()]
        widths = [12, 14, 14, 14, 14, 14, 14]
        print(
            f"{name:12}"
            + "".join(f"{_told(cell):>{width}}" for cell, width in zip(cells, widths, strict=True))
        )
    print("\n64 callers at once, 2 kB values")
    for name, of in figures["speed"].items():
        print(f"{name:18}{of['gets_per_s']:10.0f} GET/s{of['cpu_us_per_get']:8.1f} µs CPU each")


def _told(seconds: float) -> str:
    if seconds >= CAP_S:
        return f"> {CAP_S:g} s"
    return f"{seconds:.6f}" if seconds < 0.001 else f"{seconds:.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="- for standard output")
    logs.configure(level="warning", form="console")
    asyncio.run(main(parser.parse_args().json))
