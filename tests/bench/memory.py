"""What one cached answer really takes in memory, and what the budget charges for it.

python -m tests.bench.memory [--json FILE]
"""

import argparse
import asyncio
import gc
import json
import sys
import tracemalloc
from pathlib import Path

from proxy import settings
from proxy.metrics import Metrics
from proxy.policy.routes import prepare
from proxy.purge_log import PurgeLog
from proxy.store.entry import Entry
from proxy.store.memory import Memory
from proxy.store.tiers import Copy, Tiers
from proxy.tasks import Tasks

COUNT = 20_000
ROUTE = prepare(settings.Route(match="/api/events/{id}", name="events", ttl=300.0))


def entry(number: int, size: int) -> Entry:
    """An answer such as an API gives: ten header fields, a body of `size` bytes."""
    head = b"".join(b"X-Field-%d: some value of a header\r\n" % field for field in range(6))
    head += b'Content-Type: application/json\r\nETag: "%016x"\r\n' % number
    head += b"Date: Wed, 25 Nov 2026 04:09:53 GMT\r\nContent-Length: %d\r\n" % size
    return Entry(
        key=f"e:events.0123abcd:{number:032x}",
        route="events",
        url=f"/api/events/{number}",
        tags=("events", f"event:{number}"),
        born=(1_700_000_000_000 + number) << 20,
        status=200,
        reason=b"OK",
        lines=head,
        generated=1.7e9 + number,
        fresh_until=1.7e9 + number + 300,
        revalidate_s=30.0,
        error_s=600.0,
        keep_until=1.7e9 + number + 900,
        explicit=False,
        body=bytes([number % 256]) * size,
    )


async def measure(size: int, count: int = COUNT) -> dict[str, float]:
    """Bytes per entry with a body of `size` bytes: really taken, and charged."""
    memory: Memory[Copy] = Memory(max_bytes=2**40, max_object_bytes=2**30)
    tiers = Tiers(memory, None, PurgeLog(None, Metrics("bench"), Tasks()), lambda _: None)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(count):
        tiers.remember(entry(number, size), ROUTE, 1.7e9 + number)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"body_bytes": size, "real_bytes": (after - before) / count, "charged_bytes": memory.bytes / count}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    rows = [asyncio.run(measure(size)) for size in (0, 1024, 16 * 1024)]
    print(f"{'body':>8} {'really taken':>14} {'charged':>10}")
    for row in rows:
        print(f"{row['body_bytes']:>8.0f} {row['real_bytes']:>14.0f} {row['charged_bytes']:>10.0f}")
    if options.json:
        text = json.dumps({"entries": rows}, indent=2)
        sys.stdout.write(text + "\n") if options.json == "-" else Path(options.json).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
