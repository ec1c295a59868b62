"""A Redis that lies, or whose bytes somebody else wrote: a miss, never an error, and never much memory."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from zlib import crc32

import msgspec
import pytest
import pytest_asyncio
import zstandard

from proxy.store.entry import Entry
from tests import servers
from tests.claims import attack
from tests.faults import NONE, FaultProxy, fault_proxy
from tests.flow.attacks.site import Site
from tests.flow.origin import Origin, ok, origin
from tests.flow.processes import running

pytestmark = pytest.mark.asyncio(loop_scope="module")

LYING = "lying Redis"
PREFIX = struct.Struct(">2sBBI16s")
ZSTD = 1
# What a lie may cost while it is looked at: an answer's worth, and what allocators keep.
MEMORY = 24 * 1024 * 1024


@pytest.fixture(scope="module")
def redis() -> Iterator[servers.Server]:
    if servers.binary() is None:
        pytest.skip(f"no Redis: {servers.REMEDY}")
    with servers.redis() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def way(redis: servers.Server) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(redis.port) as faults:
        yield faults


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lied_to(api: Origin, way: FaultProxy) -> AsyncIterator[Site]:
    config = f"""
upstream: {{url: {api.url}}}
redis: {{url: 'redis://127.0.0.1:{way.port}', timeout: 200ms, probe_every: 20ms}}
routes: [{{match: "/**", ttl: 5m, memory: false}}]
"""
    api.on("/lie", ok(b"the truth " * 200))
    async with running(config) as proxy:
        yield Site(api=api, proxy=proxy, path="/lie")


async def stored(site: Site, redis: servers.Server, at: str) -> tuple[bytes, bytes]:
    """The key and the bytes of an answer that Redis has."""
    before = set(redis.command("KEYS", "crowdgate:e:*"))
    async with asyncio.timeout(10):
        while not (new := set(redis.command("KEYS", "crowdgate:e:*")) - before):
            await site.get(at)
            await asyncio.sleep(0.01)
    (key,) = new
    return key, redis.command("GET", key)


def sealed(version: int, flags: int, head: bytes, body: bytes, size: int | None = None) -> bytes:
    """A value whose checksum is right, whatever is in it."""
    asked = b"0" * 16
    with suppress(msgspec.DecodeError):
        asked = b"%016d" % msgspec.msgpack.decode(head, type=Entry).asked
    prefix = PREFIX.pack(b"CG", version, flags, len(head) if size is None else size, asked)
    return prefix + struct.pack(">I", crc32(head + body, crc32(prefix))) + head + body


def parts(data: bytes) -> tuple[int, int, bytes, bytes]:
    _, version, flags, size, _ = PREFIX.unpack_from(data)
    rest = data[PREFIX.size + 4 :]
    return version, flags, rest[:size], rest[size:]


def forgeries(data: bytes, other: bytes) -> dict[str, bytes]:
    version, flags, head, body = parts(data)
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(300_000_000))
    unsized = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(bytes(300_000_000))
    lied = zstandard.ZstdCompressor(level=1).compress(bytes(1_000_000))
    # The frame says that it holds a hundred bytes (section 3.1.1.1 of RFC 8878).
    lied = lied[:4] + b"\x20\x64" + lied[4 + 1 + 4 :]
    return {
        "nothing": b"",
        "text": b"hello",
        "random bytes": bytes(range(256)) * 8,
        "half of it": data[: len(data) // 2],
        "more than it": data + b"x",
        "a flipped bit in the head": data[:40] + bytes([data[40] ^ 1]) + data[41:],
        "a flipped bit in the body": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
        "another answer's bytes": other,
        "a later version": sealed(version + 1, flags, head, body),
        "an earlier version": sealed(version - 1, flags, head, body),
        "unknown flags": sealed(version, flags | 0x80, head, body),
        "a head longer than all": sealed(version, flags, head, body, size=0xFFFFFFFF),
        "an empty head": sealed(version, flags, b"", body),
        "a head nested a million deep": sealed(version, flags, b"\x91" * 1_000_000, b""),
        "a head of four thousand million members": sealed(version, flags, b"\xdd\xff\xff\xff\xff", b""),
        "a head with a text of four thousand million bytes": sealed(
            version, flags, b"\x92\xdb\xff\xff\xff\xff", b""
        ),
        "a pickle": sealed(version, flags, b"cposix\nsystem\n(S'true'\ntR.", b""),
        "a bomb": sealed(version, ZSTD, head, bomb),
        "a bomb that does not say its size": sealed(version, ZSTD, head, unsized),
        "a bomb that lies about its size": sealed(version, ZSTD, head, lied),
        "two frames": sealed(version, ZSTD, head, body + body),
        "a body that is not compressed": sealed(version, ZSTD, head, b"plain"),
        "an endless plain body": sealed(version, 0, head, bytes(4_000_000)),
    }


@attack(
    LYING, "forged entries: another key's, another version's, cut, flipped, nested, bombs of 300 MB, a pickle"
)
async def test_a_forged_entry_is_a_miss(lied_to: Site, redis: servers.Server) -> None:
    _, other = await stored(lied_to, redis, "?other")
    key, data = await stored(lied_to, redis, "?forged")
    ttl = redis.command("PTTL", key)
    truth = b"the truth " * 200
    before = lied_to.proxy.rss
    for name, forged in forgeries(data, other).items():
        damaged = await lied_to.proxy.metric("crowdgate_damaged_entries_total")
        redis.command("SET", key, forged, "PX", ttl)
        got = await lied_to.get("?forged")
        assert (name, got.brief, got.cache[:12]) == (name, (200, truth), "fwd=uri-miss")
        # What is larger than redis.max_value is not even looked at.
        if forged and len(forged) < 2_000_000:
            counted = await lied_to.proxy.metric("crowdgate_damaged_entries_total") - damaged
            # Once more when the lease is won, and once where the express lane has looked first.
            assert (name, counted in {2, 3}) == (name, True)
        # And it is overwritten.
        async with asyncio.timeout(5):
            while redis.command("GET", key) == forged:
                await asyncio.sleep(0.005)
        assert (await lied_to.get("?forged")).cache.startswith("hit")
    assert lied_to.proxy.rss - before < MEMORY


GARBAGE = {
    "no RESP": b"garbage\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "zeros": bytes(100_000),
    "a string of a terabyte": b"$1099511627776\r\nx",
    "a string of 500 MB": b"$500000000\r\n" + b"x" * 65536,
    "a string shorter than nothing": b"$-2\r\n",
    "an array of a thousand million": b"*1000000000\r\n",
    "a map of a thousand million": b"%1000000000\r\n",
    "an array shorter than nothing": b"*-5\r\n",
    "arrays in arrays": b"*1\r\n" * 100_000,
    "a number without end": b":" + b"9" * 10_000 + b"\r\n",
    "a number that is none": b":nine\r\n",
    "half an answer": b"$5\r\nab",
    "a line without end": b"+" + b"x" * 100_000,
    "an error": b"-ERR none of your business\r\n",
    "many answers to one question": b"+OK\r\n" * 10_000,
    "another type than was asked for": b"*2\r\n:1\r\n:2\r\n",
    "null": b"$-1\r\n",
}


@attack(
    LYING,
    "answers that are no RESP, of absurd lengths, nested without end, more or fewer than were asked for",
)
async def test_garbage_is_a_miss(lied_to: Site, way: FaultProxy) -> None:
    truth = b"the truth " * 200
    before = lied_to.proxy.rss
    for number, (name, garbage) in enumerate(GARBAGE.items()):
        way.set(answer=garbage)
        way.reset_all()
        answers = await asyncio.gather(*(lied_to.get(f"?{number}-{each}") for each in range(5)))
        assert (name, {answer.brief for answer in answers}) == (name, {(200, truth)})
        way.fault = NONE
        way.reset_all()
    assert lied_to.proxy.rss - before < MEMORY
    async with asyncio.timeout(10):
        while "redis" not in (await lied_to.get("?back")).cache:
            await asyncio.sleep(0.02)


@attack(LYING, "a redirection (MOVED, ASK) to a server of somebody else's")
async def test_a_redirection_leads_nowhere(lied_to: Site, way: FaultProxy) -> None:
    async with origin() as evil:
        for word in (b"MOVED", b"ASK"):
            way.set(answer=b"-%s 1 127.0.0.1:%d\r\n" % (word, evil.port))
            way.reset_all()
            assert (await lied_to.get(f"?{word.decode()}")).status == 200
            await asyncio.sleep(0.1)
        way.fault = NONE
        way.reset_all()
        assert evil.accepted == 0
