"""A stored answer, and its bytes in Redis.

Layout: `CG` and a version, flags, CRC-32 of all that follows, length of the head, the head (MessagePack), the body (as it
came from the API, or zstd). Bytes that are damaged, foreign, of another version or stored under another key are
`Damaged`: the caller counts a miss and overwrites them. Nothing in them is ever executed.
"""

import struct
from zlib import crc32

import msgspec
import zstandard

from proxy.policy.freshness import Times
from proxy.policy.purges import Concerned
from proxy.policy.storable import Lifetime
from proxy.wire.fields import Fields, from_block, values

VERSION = 1
_PREFIX = struct.Struct(">2sBBII")
_MAGIC = b"CG"
_ZSTD = 1
# Level 1: 23 us for 15 KB of JSON at 6.6x; level 3 takes twice as long for 6.0x (measured).
_compressor = zstandard.ZstdCompressor(level=1, write_content_size=True)
_decompressor = zstandard.ZstdDecompressor()
# Objects of an entry beside its bytes: the struct, its numbers, its strings (measured by tests/bench/memory.py).
_OVERHEAD_BYTES = 560


class Damaged(Exception):
    """Bytes from Redis that are no entry of ours; the message is a short reason for the metric."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """An answer of the API, whole, with everything that decides its use. Instants are Unix seconds."""

    key: str
    """The key under which it is stored: a reader checks it, so that no body is served for another key."""
    route: str
    url: str
    tags: tuple[str, ...]
    born: int
    """The last purge seen before the API was asked (see `policy.purges`)."""
    status: int
    reason: bytes
    head: bytes
    """End-to-end fields as lines, each with its CRLF."""
    etag: bytes
    last_modified: bytes
    generated: float
    fresh_until: float
    revalidate_s: float
    error_s: float
    keep_until: float
    explicit: bool
    vary: tuple[str, ...] = ()
    """Not an answer but the names of the headers that its variants' keys are made of."""
    body: bytes = b""

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.head) + len(self.body) + len(self.url) + len(self.key) + _OVERHEAD_BYTES

    @property
    def fields(self) -> Fields:
        """The head as fields."""
        return from_block(self.head)

    @property
    def concerned(self) -> Concerned:
        """What purges are matched against."""
        return Concerned(born=self.born, route=self.route, url=self.url, tags=self.tags)

    def times(self, soft_purged: float = 0.0) -> Times:
        """What freshness is decided by."""
        return Times(
            generated=self.generated,
            fresh_until=self.fresh_until,
            revalidate_s=self.revalidate_s,
            error_s=self.error_s,
            keep_until=self.keep_until,
            soft_purged=soft_purged,
        )

    def living(self, lifetime: Lifetime, *, fields: Fields, head: bytes, born: int) -> "Entry":
        """The same body with the fields and times that a 304 gave it."""
        return msgspec.structs.replace(
            self,
            head=head,
            born=born,
            etag=first(fields, b"etag"),
            last_modified=first(fields, b"last-modified"),
            generated=lifetime.generated,
            fresh_until=lifetime.fresh_until,
            revalidate_s=lifetime.revalidate_s,
            error_s=lifetime.error_s,
            keep_until=lifetime.keep_until,
            explicit=lifetime.explicit,
        )


def first(fields: Fields, name: bytes) -> bytes:
    """The first value of a field, or nothing."""
    return next(iter(values(fields, name)), b"")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def encode(entry: Entry, *, compress_above: int) -> bytes:
    """An entry as bytes for Redis. Bodies of more than `compress_above` bytes are compressed where that pays."""
    head = _encoder.encode(msgspec.structs.replace(entry, body=b""))
    body, flags = entry.body, 0
    if len(body) > compress_above:
        packed = _compressor.compress(body)
        if len(packed) < len(body):
            body, flags = packed, _ZSTD
    payload = head + body
    return _PREFIX.pack(_MAGIC, VERSION, flags, crc32(payload), len(head)) + payload


def decode(data: bytes, *, key: str, max_body: int) -> Entry:
    """The entry in `data`, which must have been stored under `key` with a body of at most `max_body` bytes.

    Raises Damaged.
    """
    if len(data) < _PREFIX.size:
        raise Damaged("short")
    magic, version, flags, checksum, head_size = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise Damaged("foreign")
    if version != VERSION or flags & ~_ZSTD:
        raise Damaged("version")
    payload = memoryview(data)[_PREFIX.size :]
    if crc32(payload) != checksum or head_size > len(payload):
        raise Damaged("checksum")
    try:
        entry = _decoder.decode(payload[:head_size])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Damaged("head") from error
    if entry.key != key:
        raise Damaged("key")
    return msgspec.structs.replace(entry, body=_body(payload[head_size:], flags, max_body))


def _body(packed: memoryview, flags: int, max_body: int) -> bytes:
    if not flags & _ZSTD:
        if len(packed) > max_body:
            raise Damaged("too large")
        return bytes(packed)
    try:
        # The frame names its size, so that a small value can't unfold into a large one.
        size = zstandard.frame_content_size(packed)
        if size < 0 or size > max_body:
            raise Damaged("too large")
        return _decompressor.decompress(packed, max_output_size=max_body)
    except zstandard.ZstdError as error:
        raise Damaged("body") from error
