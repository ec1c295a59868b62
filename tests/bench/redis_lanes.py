"""Lookups per second against one Redis: our tier, redis-py's client, and its pipelines of 100.

python tests/bench/redis_lanes.py [--seconds S] [--value BYTES] [--loop uvloop|asyncio] [--json FILE]

Where there are two processors or more, Redis has one and we have another.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import uvloop
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as RedisPy

from proxy import logs
from proxy.settings import Redis
from proxy.store.redis import RedisTier
from proxy.tasks import Tasks
from tests import servers

CALLERS = (1, 64, 512)
KEYS = 1000
PIPELINE = 100
# Asks for the value of a number, and says whether it came.
Ask = Callable[[int], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one subject with so many callers at once."""

    lookups_per_s: float
    cpu_us_per_lookup: float
    """Of this process: Redis' own is not in it."""
    p50_ms: float
    p99_ms: float
    """Of one call, which is 100 lookups where it is a pipeline of so many."""
    lookups: int
    failed: int


class Unseen:
    def done(self, op: str, seconds: float) -> None: ...

    def failed(self, kind: str) -> None: ...

    def up(self, is_up: bool) -> None: ...


@asynccontextmanager
async def tier_of(server: servers.Server) -> AsyncIterator[RedisTier]:
    tasks = Tasks()
    # 1 s: what a busy machine adds is not to take Redis out.
    tier = RedisTier(Redis(url=server.url, timeout=1.0), Unseen(), tasks)
    await tier.start()
    try:
        yield tier
    finally:
        await tier.close()
        await tasks.close(1)


@asynccontextmanager
async def client_of(server: servers.Server, protocol: int) -> AsyncIterator[RedisPy]:
    pool = BlockingConnectionPool(
        host="127.0.0.1", port=server.port, protocol=protocol, max_connections=64, timeout=None
    )
    client = RedisPy(connection_pool=pool)
    try:
        yield client
    finally:
        await client.aclose()
        await pool.disconnect()


async def measure(ask: Ask, callers: int, seconds: float, *, lookups_per_call: int = 1) -> Figures:
    times: list[float] = []
    failed = 0

    async def caller(number: int, until: float) -> None:
        nonlocal failed
        asked = number
        now = time.perf_counter()
        while now < until:
            if not await ask(asked % KEYS):
                failed += 1
                # A Redis that is out is not waited for: nobody else would have a turn.
                await asyncio.sleep(0.001)
            asked += 1
            before, now = now, time.perf_counter()
            times.append(now - before)

    warm_until = time.perf_counter() + min(0.5, seconds / 4)
    await asyncio.gather(*(caller(number, warm_until) for number in range(callers)))
    times.clear()
    failed = 0
    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller(number * 7, started + seconds) for number in range(callers)))
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    times.sort()
    lookups = len(times) * lookups_per_call
    return Figures(
        lookups_per_s=lookups / took,
        cpu_us_per_lookup=cpu / lookups * 1e6,
        p50_ms=times[len(times) // 2] * 1000,
        p99_ms=times[len(times) * 99 // 100] * 1000,
        lookups=lookups,
        failed=failed,
    )


async def ours(server: servers.Server, seconds: float) -> dict[str, Figures]:
    figures: dict[str, Figures] = {}
    async with tier_of(server) as tier:

        async def get(number: int) -> bool:
            return await tier.get(f"k{number}") is not None

        async def get_with_ttl(number: int) -> bool:
            return await tier.get_with_ttl(f"k{number}") is not None

        for name, ask in (("get", get), ("get_with_ttl", get_with_ttl)):
            for callers in CALLERS:
                figures[f"crowdgate {name}, {callers}"] = await measure(ask, callers, seconds)
    return figures


async def redis_py(server: servers.Server, seconds: float) -> dict[str, Figures]:
    figures: dict[str, Figures] = {}
    for protocol in (2, 3):
        async with client_of(server, protocol) as client:
            label = f"redis-py RESP{protocol}"

            async def get(number: int, client: RedisPy = client) -> bool:
                return await client.get(f"crowdgate:k{number}") is not None

            for callers in CALLERS:
                figures[f"{label} get, {callers}"] = await measure(get, callers, seconds)

            async def pipeline(number: int, client: RedisPy = client) -> bool:
                pipe = client.pipeline(transaction=False)
                for ahead in range(PIPELINE):
                    pipe.get(f"crowdgate:k{(number + ahead) % KEYS}")
                return None not in await pipe.execute()

            figures[f"{label} pipeline of {PIPELINE}, 1"] = await measure(
                pipeline, 1, seconds, lookups_per_call=PIPELINE
            )
    return figures


def pin(server: servers.Server) -> str:
    """Says who runs where."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(allowed) < 2:
        return "not pinned"
    os.sched_setaffinity(0, {allowed[0]})
    os.sched_setaffinity(server.pid, {allowed[1]})
    return f"client on cpu {allowed[0]}, redis on cpu {allowed[1]}"


async def main(options: argparse.Namespace) -> None:
    with servers.redis() as server:
        for number in range(KEYS):
            server.command("SET", f"crowdgate:k{number}", "v" * options.value, "PX", 3_600_000)
        pinned = pin(server)
        figures = await ours(server, options.seconds)
        if not options.ours:
            figures |= await redis_py(server, options.seconds)
    found = {
        "loop": options.loop,
        "value_bytes": options.value,
        "pinned": pinned,
        "subjects": {name: asdict(of) for name, of in figures.items()},
    }
    if options.json is not None:
        text = json.dumps(found, indent=2) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
            return
        await asyncio.to_thread(Path(options.json).write_text, text)
    report(figures, f"{options.loop}, values of {options.value} bytes, {pinned}")


def report(figures: dict[str, Figures], how: str) -> None:
    print(how)
    print(
        f"{'callers at once':34}{'lookups/s':>12}{'CPU µs each':>13}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}"
    )
    for name, of in figures.items():
        print(
            f"{name:34}{of.lookups_per_s:12,.0f}{of.cpu_us_per_lookup:13.1f}"
            f"{of.p50_ms:9.3f}{of.p99_ms:9.3f}{of.failed:8}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each subject")
    parser.add_argument("--value", type=int, default=2000, help="bytes of a value")
    parser.add_argument(
        "--loop", choices=("uvloop", "asyncio"), default="uvloop", help="the proxy runs on uvloop"
    )
    parser.add_argument("--ours", action="store_true", help="our tier alone")
    parser.add_argument("--json", metavar="FILE", help="- for standard output")
    logs.configure(level="warning", form="console")
    parsed = parser.parse_args()
    (uvloop.run if parsed.loop == "uvloop" else asyncio.run)(main(parsed))
