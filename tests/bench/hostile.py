"""What a hostile request costs the whole proxy: CPU beside a plain request, and memory of a connection that is held on to.

python -m tests.bench.hostile [--json FILE] [--only TEXT] [--slow-only | --fast-only]

A real proxy as a process of its own, before an API in this one. CPU time is the kernel's word for that process, around a batch
of requests that come one after another on one connection; or each on its own, for what closes the connection. The ratio is
to plain requests of the same kind: to a hit, and to one that passes through to the API.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from tests.flow.client import Client, connected, request
from tests.flow.origin import Asked, Origin, framed, ok, origin
from tests.flow.processes import Proxy, running

# A batch goes on until the proxy has worked for so long: a scheduler's tick is 1 to 4 ms.
_BATCH_CPU_S = 0.1
_MAX_REQUESTS = 2000
_WARM_UP = 10
_STEP = 25
# Values as long as client.max_field takes them, less the name.
_LONG = 8000
_CLIENTS = 60

_CONFIG = """
memory: {max_size: 32MiB}
client: {header_timeout: 1m, body_timeout: 1m, write_timeout: 1m}
routes:
  - {match: "/hit/**", ttl: 10m}
  - {match: "/queried", ttl: 10m, query: [status, page]}
  - {match: "/varied", ttl: 10m}
  - {match: "/by-route", ttl: 10m, vary: [accept, accept-language, user-agent]}
"""
_numbers = count(1)

Make = Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of request. `units` is by what its cost is divided: more than one request, or KiB of a body."""

    name: str
    make: Make
    closes: bool = False
    units: float = 1.0
    answers: int = 1
    method: str = "GET"
    pieces: int = 0
    """Send so many bytes at a time; 0 for all at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """CPU of one case, per request or unit."""

    name: str
    cpu_us: float
    to_hit: float
    to_pass: float
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Memory of a connection that its client does not let go."""

    name: str
    kib: float


def always(data: bytes) -> Make:
    return lambda: data


def get(target: str, *lines: str) -> Make:
    return always(request(target, *lines))


def filled(piece: str, size: int = _LONG) -> str:
    """As many of a piece as fit."""
    return piece * (size // len(piece))


def _numbered(target: str, *lines: str) -> Make:
    """Never the same twice: `#` is a number."""

    def make() -> bytes:
        number = str(next(_numbers))
        return request(target.replace("#", number), *(line.replace("#", number) for line in lines))

    return make


def plain() -> tuple[Case, ...]:
    """What the others are measured against: a hit and a pass-through, on a kept connection and on one of their own."""
    return (
        Case(name="plain hit", make=get("/hit/a")),
        Case(name="plain pass-through", make=get("/pass")),
        Case(name="plain hit, new connection", make=get("/hit/a"), closes=True),
        Case(name="plain pass-through, new connection", make=get("/pass"), closes=True),
        Case(name="plain miss", make=_numbered("/hit/a?#")),
        Case(name="plain POST of 1 KiB", make=always(request("/pass", method="POST", body=b"x" * 1024))),
    )


def large_heads() -> Iterable[Case]:
    many = [f"X-Field-{number}: v" for number in range(120)]
    huge = [f"X-{number}: {'y' * 7500}" for number in range(8)]
    for name, target in (("hit", "/hit/a"), ("pass", "/pass")):
        yield Case(name=f"{name}: 121 fields", make=get(target, *many))
        yield Case(name=f"{name}: head of 60 KiB", make=get(target, *huge))
        yield Case(name=f"{name}: field of 8 KB", make=get(target, "X: " + "y" * _LONG))
        yield Case(name=f"{name}: 121 times the same field", make=get(target, *["Accept: a, b"] * 120))
        yield Case(name=f"{name}: 121 X-Forwarded-Host", make=get(target, *["X-Forwarded-Host: a"] * 120))
        yield Case(
            name=f"{name}: 121 Cache-Control", make=get(target, *["Cache-Control: max-age=9, x"] * 120)
        )


def targets() -> Iterable[Case]:
    parameters = {
        "2,000 parameters": filled("a=1&"),
        "8,000 empty parameters": filled("&"),
        "2,600 encoded names": filled("%61&"),
        "1,000 selected": filled("status=1&"),
        "800 selected, encoded": filled("%73tatus=1&"),
        "4,000 behind semicolons": filled("a;"),
        "brackets": filled("a[]["),
        "plus and percent": filled("+%"),
    }
    for name, query in parameters.items():
        yield Case(name=f"query: {name}, hit", make=get(f"/queried?{query}"))
        yield Case(name=f"query: {name}, miss", make=_numbered(f"/queried?{query[:-20]}&page=#"))
        yield Case(name=f"all of: {name}, hit", make=get(f"/hit/a?{query}"))
    paths = {
        "deep": filled("/a"),
        "encoded": "/" + filled("%61"),
        "dots": filled("/.."),
        "slashes": filled("/"),
    }
    for name, path in paths.items():
        yield Case(name=f"path: {name}, hit", make=get(f"/hit{path}"))
        yield Case(name=f"path: {name}, pass", make=get(f"/pass{path}"))
        yield Case(name=f"path: {name}, PUT", make=always(request(f"/hit{path}", method="PUT", body=b"x")))


def fields() -> Iterable[Case]:
    values = {
        "Cache-Control": {
            "commas": ",",
            "quoted": 'a="b,",',
            "directives": "max-age=1,",
            "open quotes": 'a="',
            "escapes": '"\\',
        },
        "Pragma": {"commas": ","},
        "Accept": {"ranges": "a/b;q=0.1,", "commas": ","},
        "Accept-Language": {"languages": "de;q=0.1, ", "commas": ","},
        "If-None-Match": {
            "tags": '"x",',
            "weak": 'W/"x" , ',
            "commas": " ,",
            "no tags": "x,",
            "open quotes": '"',
        },
        "If-Modified-Since": {"commas": ",", "digits": "1"},
        "Forwarded": {
            "for": "for=a;",
            "quoted": 'for="a";',
            "open quotes": 'for="',
            "escapes": 'for="\\"',
            "mixed": "for=for=",
        },
        "Cookie": {"pairs": "a=b; "},
        "Range": {"parts": "0-0,", "digits": "9"},
        "If-Range": {"quotes": '"'},
        "Connection": {"names": "a,", "commas": ","},
        "Via": {"hops": "1.1 a, ", "commas": ","},
        "X-Forwarded-For": {"addresses": "1.1.1.1, "},
        "Upgrade": {"protocols": "h2c, "},
        "Expect": {"commas": ","},
        "Authorization": {"letters": "x"},
        "Host": {"letters": "a", "encoded": "%61"},
    }
    for name, kinds in values.items():
        for kind, piece in kinds.items():
            line = f"{name}: {'bytes=' if name == 'Range' else ''}{filled(piece)}"
            yield Case(name=f"{name}, 8 KB of {kind}, hit", make=get("/hit/a", line))
            yield Case(name=f"{name}, 60 KB of {kind}, hit", make=get("/hit/a", *[line[:7500]] * 8))
    for name, piece in (("Accept", "a/b;q=0.1,"), ("Accept-Language", "de, "), ("User-Agent", 'x"')):
        line = f"{name}: {filled(piece)}"
        yield Case(name=f"varied by the API: {name}, 8 KB", make=get("/varied", line))
        yield Case(name=f"varied by the route: {name}, 8 KB", make=get("/by-route", line))
    yield Case(name="varied by the API: a new language", make=_numbered("/varied", "Accept-Language: x-#"))
    yield Case(name="a new host", make=_numbered("/hit/a", "Host: h#.test"))
    yield Case(name="no-cache", make=get("/hit/a", "Cache-Control: no-cache"))
    yield Case(name="a range of what is stored", make=get("/hit/a", "Range: bytes=0-1"))


def bodies() -> Iterable[Case]:
    kib = 16
    chunks = b"1\r\nx\r\n" * (1024 * kib) + b"0\r\n\r\n"
    extended = b"1;a=b\r\nx\r\n" * (1024 * kib) + b"0\r\n\r\n"
    head = request("/pass", "Transfer-Encoding: chunked", method="POST")
    yield Case(name="chunks of a byte, per KiB", make=always(head + chunks), units=kib)
    yield Case(name="chunks with extensions, per KiB", make=always(head + extended), units=kib)
    yield Case(name="a GET with a body", make=always(request("/hit/a", body=b"x")))
    yield Case(name="32 pipelined hits, each", make=always(request("/hit/a") * 32), units=32, answers=32)
    yield Case(
        name="32 pipelined pass-throughs, each", make=always(request("/pass") * 32), units=32, answers=32
    )


def refused() -> Iterable[Case]:
    head = b"GET /hit/a HTTP/1.1\r\nHost: a\r\n"
    heads = {
        "garbage": b"garbage\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "no Host": b"GET / HTTP/1.1\r\n\r\n",
        "two Hosts": head + b"Host: b\r\n\r\n",
        "space before the colon": head + b"X : a\r\n\r\n",
        "bare LF": head + b"X: a\nY: b\r\n\r\n",
        "NUL": head + b"X: \x00\r\n\r\n",
        "two framings": head + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "line of 9 KB": b"GET /" + b"q" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        "field of 9 KB": head + b"X: " + b"q" * 9000 + b"\r\n\r\n",
        "300 fields": head + b"X: a\r\n" * 300 + b"\r\n",
        "10,000 fields": head + b"X: a\r\n" * 10_000 + b"\r\n",
        "head of 70 KB": head + (b"X: " + b"y" * 7500 + b"\r\n") * 9 + b"\r\n",
        "60 KB, bad at its end": head + (b"X: " + b"y" * 7500 + b"\r\n") * 8 + b"X : y\r\n\r\n",
        "60 KB of space": head + (b"X: " + b" \t" * 3700 + b"\r\n") * 8 + b"X : y\r\n\r\n",
        "bad chunks": b"POST /pass HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    }
    for name, data in heads.items():
        yield Case(name=f"refused: {name}", make=always(data), closes=True)
    small = request("/hit/a")
    yield Case(
        name="a head by the byte, per packet", make=always(small), closes=True, pieces=1, units=len(small)
    )
    large = request("/hit/a", *[f"X: {'y' * 7500}"] * 8)
    yield Case(
        name="a head of 60 KB, per packet of 1 KB", make=always(large), closes=True, pieces=1000, units=60
    )


def cases() -> list[Case]:
    """All, the plain ones first."""
    return [*plain(), *large_heads(), *targets(), *fields(), *bodies(), *refused()]


# -- measuring --


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, as the scheduler counts it: utime and stime have ticks of 10 ms."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def told(asked: Asked) -> None:
    await asked.content()
    vary = ("Vary: Accept, Accept-Language, User-Agent",) if asked.target.startswith("/varied") else ()
    await asked.send(framed(b"" if asked.method == "HEAD" else b"x" * 500, 'ETag: "v"', *vary, of=500))


@asynccontextmanager
async def stage() -> AsyncIterator[tuple[Proxy, Origin]]:
    """A proxy and its API."""
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(origin())
        api.on("/", told)
        yield await stack.enter_async_context(running(f"upstream: {{url: {api.url}}}\n{_CONFIG}")), api


async def once(client: Client, case: Case) -> bool:
    """Whether the connection goes on."""
    data = case.make()
    if case.pieces:
        for start in range(0, len(data), case.pieces):
            await client.send(data[start : start + case.pieces])
            # So that each is a packet, and an event, of its own.
            await asyncio.sleep(0.0003)
    else:
        await client.send(data)
    answers = [await client.response(case.method) for _ in range(case.answers)]
    return not case.closes and answers[-1].get("connection") != "close"


async def batch(port: int, case: Case, size: int) -> bool:
    """So many requests. Whether one connection was enough for them."""
    kept = True
    while size:
        async with connected(port) as client:
            while size:
                size -= 1
                if not await once(client, case):
                    kept = False
                    break
    return kept


async def measured(
    proxy: Proxy, api: Origin, case: Case, *, batch_cpu_s: float = _BATCH_CPU_S
) -> tuple[float, int, bool]:
    """CPU seconds per unit, how many requests it took to tell, and whether they shared a connection."""
    api.asked.clear()
    pid = proxy.process.pid
    weight = case.units * (20 if case.pieces else 1)
    kept = await batch(proxy.port, case, max(2, int(_WARM_UP / weight)))
    before, asked = cpu_s(pid), 0
    while asked < _MAX_REQUESTS and cpu_s(pid) - before < batch_cpu_s:
        step = max(1, int(_STEP / weight))
        await batch(proxy.port, case, step)
        asked += step
    return (cpu_s(pid) - before) / asked / case.units, asked, kept


async def figures(only: str = "") -> list[Figure]:
    """Of all cases whose names hold `only`."""
    async with stage() as (proxy, api):
        base = {case.name: (await measured(proxy, api, case))[0] for case in plain()}
        made = []
        for case in cases():
            if only.lower() not in case.name.lower():
                continue
            seconds, asked, kept = await measured(proxy, api, case)
            # A packet, a pipelined request or a KiB has no connection of its own.
            end = "" if kept or case.units > 1 else ", new connection"
            hit, passed = (base[name + end] for name in ("plain hit", "plain pass-through"))
            made.append(
                Figure(
                    name=case.name,
                    cpu_us=seconds * 1e6,
                    to_hit=seconds / hit,
                    to_pass=seconds / passed,
                    requests=asked,
                )
            )
        return made


# -- held connections --


def _paused(client: Client, data: bytes) -> None:
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.writer.write(data)


def _sent(client: Client, data: bytes) -> None:
    client.writer.write(data)


_Act = Callable[[Client, bytes], None]
HELD_CASES: dict[str, tuple[_Act, bytes]] = {
    "idle": (_sent, b""),
    "half a head": (_sent, b"GET /hit/a HTTP/1.1\r\nHost: a\r\nX-"),
    "a head of 60 KB, not ended": (
        _sent,
        b"GET /hit/a HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"y" * 7500 + b"\r\n") * 8,
    ),
    "120 fields, not ended": (_sent, b"GET /hit/a HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 120),
    "half a body": (_sent, request("/hold", "Content-Length: 9000000", method="POST") + b"x" * 100_000),
    "half a chunk": (
        _sent,
        request("/hold", "Transfer-Encoding: chunked", method="POST") + b"ffffff\r\n" + b"x" * 100_000,
    ),
    "waiting for the API": (_sent, request("/hold")),
    "32 pipelined behind a slow one": (_sent, request("/hold") + request("/hit/a") * 3000),
    "32 heads of 60 KB behind a slow one": (
        _sent,
        request("/hold") + request("/hit/a", *[f"X: {'y' * 7500}"] * 8) * 64,
    ),
    "a stored answer of 1 MB, not read": (_paused, request("/hit/large")),
    "40 of them, not read": (_paused, request("/hit/large") * 40),
    "a stream of 30 MB, not read": (_paused, request("/stream")),
    "10,000 pipelined hits, not read": (_paused, request("/hit/a") * 10_000),
}


async def held(name: str, *, pause_s: float = 1.0) -> Held:
    """In a proxy of its own: memory once taken does not show when it is free again."""
    act, data = HELD_CASES[name]
    async with stage() as (proxy, api):
        forever = asyncio.Event()

        async def hold(_: Asked) -> None:
            await forever.wait()

        async def stream(asked: Asked) -> None:
            await asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n")
            for _ in range(300):
                await asked.send(bytes(100_000))

        api.on("/hold", hold)
        api.on("/stream", stream)
        api.on("/hit/large", ok(bytes(1_000_000)))
        async with AsyncExitStack() as stack:
            for target in ("/hit/large", "/hit/a", "/pass"):
                async with connected(proxy.port) as client:
                    await client.ask(target)
            clients = [await stack.enter_async_context(connected(proxy.port)) for _ in range(2 * _CLIENTS)]
            # Half of them warm it up: pools, buffers and code are no connection's own.
            for client in clients[:_CLIENTS]:
                act(client, data)
            await asyncio.sleep(pause_s)
            before = proxy.rss
            for client in clients[_CLIENTS:]:
                act(client, data)
            await asyncio.sleep(pause_s)
            return Held(name=name, kib=max(0.0, (proxy.rss - before) / _CLIENTS / 1024))


def report(fast: list[Figure], slow: list[Held]) -> None:
    if fast:
        print(f"{'CPU per request':58} {'µs':>8} {'x hit':>8} {'x pass':>8}")
    for figure in fast:
        mark = "  <-- above 10" if figure.to_pass > 10 else ""
        print(f"{figure.name:58} {figure.cpu_us:8.0f} {figure.to_hit:8.1f} {figure.to_pass:8.1f}{mark}")
    if slow:
        print(f"\n{'Memory per held connection':58} {'KiB':>8}")
    for each in slow:
        print(f"{each.name:58} {each.kib:8.0f}{'  <-- above 1024' if each.kib > 1024 else ''}")


async def main(options: argparse.Namespace) -> None:
    fast = [] if options.slow_only else await figures(options.only)
    names = [] if options.fast_only else [name for name in HELD_CASES if options.only.lower() in name]
    slow = [await held(name) for name in names]
    if options.json:
        rows = {"cpu": list(map(asdict, fast)), "memory": list(map(asdict, slow))}
        text = json.dumps(rows, indent=2) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
            return
        await asyncio.to_thread(Path(options.json).write_text, text)
    report(fast, slow)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="- for standard output")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose names hold it")
    parser.add_argument("--slow-only", action="store_true", help="memory alone")
    parser.add_argument("--fast-only", action="store_true", help="CPU alone")
    with suppress(KeyboardInterrupt):
        asyncio.run(main(parser.parse_args()))
