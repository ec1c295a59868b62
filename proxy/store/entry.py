"""A stored answer, and its bytes in Redis.

Layout: `CG` and a version, flags, length of the head, when the API was asked (16 digits), CRC-32 of all else, the head
(MessagePack), the body (as it came from the API, or zstd). Bytes that are damaged, foreign, of another version or stored
under another key are `Damaged`: the caller counts a miss and overwrites them. Nothing in them is ever executed.
"""

import struct
from dataclasses import dataclass
from math import isfinite
from sys import intern
from zlib import crc32

import msgspec
import zstandard

from proxy.policy.freshness import Times
from proxy.policy.purges import Concerned
from proxy.policy.storable import IMMUTABLE, NEVER_STALE, Lifetime
from proxy.store.heads import Form
from proxy.wire.fields import Fields, block, first, from_block
from proxy.wire.response import common_reason

VERSION = 5
# What begins as entries of this version do, and where in them it says when the API was asked: scripts read it too.
MAGIC = b"CG%c" % VERSION
ASKED_AT = slice(8, 24)
_PREFIX = struct.Struct(">3sBI16s")
_CHECKSUM = struct.Struct(">I")
_HEAD_AT = _PREFIX.size + _CHECKSUM.size
_ZSTD = 1
# Level 1: 23 us for 15 KB of JSON at 6.6x; level 3 takes twice as long for 6.0x (measured).
_compressor = zstandard.ZstdCompressor(level=1, write_content_size=True)
_decompressor = zstandard.ZstdDecompressor()
# Objects of an entry beside its bytes: the struct, its numbers, its strings (measured by tests/bench/memory.py).
_OVERHEAD_BYTES = 400
_TAG_OVERHEAD_BYTES = 64


class Damaged(Exception):
    """Bytes from Redis that are no entry of ours; the message is a short reason for the metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """How an answer was come by; see `Entry`."""

    born: int
    asked: int
    took_s: float


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
    lines: bytes
    """End-to-end fields as lines, each with its CRLF; what fills its form where it has one."""
    generated: float
    fresh_until: float
    revalidate_s: float
    error_s: float
    keep_until: float
    explicit: bool
    binds: tuple[str, ...] = ()
    """What else its directives say for as long as it is kept: NEVER_STALE, IMMUTABLE."""
    vary: tuple[str, ...] = ()
    """The names of the headers that its key is made of; of a signpost, its variants' keys."""
    asked: int = 0
    """When the API was asked for it, in microseconds since 1970 by Redis' clock: of two, the one asked for later stays."""
    took_s: float = 0.0
    """How long the API took: so long before it is due, refreshing it is under way too late."""
    body: bytes = b""
    form: Form | None = None
    """What the head has in common with others, in memory only: bytes from Redis that bring one are damaged."""

    @property
    def head(self) -> bytes:
        """End-to-end fields as lines, each with its CRLF."""
        return self.lines if self.form is None else self.form.head(self.lines)

    @property
    def is_signpost(self) -> bool:
        """Whether it only says by which headers its variants differ."""
        return not self.status

    @property
    def size(self) -> int:
        """Bytes in memory."""
        texts = (*self.tags, *self.vary)
        words = sum(map(len, texts)) + len(texts) * _TAG_OVERHEAD_BYTES
        return len(self.lines) + len(self.body) + len(self.url) + len(self.key) + words + _OVERHEAD_BYTES

    @property
    def fields(self) -> Fields:
        """The head as fields."""
        return from_block(self.head)

    @property
    def etag(self) -> bytes:
        """As the head has it; empty if it has none."""
        return first(self.fields, b"etag")

    @property
    def last_modified(self) -> bytes:
        """As the head has it; empty if it has none."""
        return first(self.fields, b"last-modified")

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
            never_stale=NEVER_STALE in self.binds,
            immutable=IMMUTABLE in self.binds,
            soft_purged=soft_purged,
        )

    def living(self, lifetime: Lifetime, *, fields: Fields, tags: tuple[str, ...], got: Got) -> "Entry":
        """The same body with the fields, tags and times that a 304 gave it."""
        return msgspec.structs.replace(
            self,
            tags=tags,
            lines=block(fields),
            form=None,
            born=got.born,
            asked=got.asked,
            took_s=got.took_s,
            generated=lifetime.generated,
            fresh_until=lifetime.fresh_until,
            revalidate_s=lifetime.revalidate_s,
            error_s=lifetime.error_s,
            keep_until=lifetime.keep_until,
            explicit=lifetime.explicit,
            binds=lifetime.binds,
        )


class _Beginning(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first members of an entry."""

    key: str
    route: str
    url: str
    tags: tuple[str, ...]
    born: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)
_beginning_decoder = msgspec.msgpack.Decoder(_Beginning)


def encode(entry: Entry, *, compress_above: int) -> bytes:
    """An entry as bytes for Redis. Bodies of more than `compress_above` bytes are compressed where that pays."""
    tags = tuple(map(_packed, entry.tags))
    bare = msgspec.structs.replace(
        entry, lines=entry.head, form=None, body=b"", url=_packed(entry.url), tags=tags
    )
    head = _encoder.encode(bare)
    body, flags = entry.body, 0
    if len(body) > compress_above:
        packed = _compressor.compress(body)
        if len(packed) < len(body):
            body, flags = packed, _ZSTD
    prefix = _PREFIX.pack(MAGIC, flags, len(head), b"%016d" % entry.asked)
    payload = head + body
    return prefix + _CHECKSUM.pack(crc32(payload, crc32(prefix))) + payload


def decode(data: bytes, *, key: str, max_body: int) -> Entry:
    """The entry in `data`, which must have been stored under `key` with a body of at most `max_body` bytes.

    Raises Damaged.
    """
    if len(data) < _HEAD_AT:
        raise Damaged("short")
    magic, flags, head_size, asked = _PREFIX.unpack_from(data)
    if magic[:2] != MAGIC[:2]:
        raise Damaged("foreign")
    if magic != MAGIC or flags & ~_ZSTD:
        raise Damaged("version")
    payload = memoryview(data)[_HEAD_AT:]
    (checksum,) = _CHECKSUM.unpack_from(data, _PREFIX.size)
    if crc32(payload, crc32(data[: _PREFIX.size])) != checksum or head_size > len(payload):
        raise Damaged("checksum")
    try:
        entry = _decoder.decode(payload[:head_size])
        url, tags = _unpacked(entry.url), tuple(map(_unpacked, entry.tags))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Damaged("head") from error
    if entry.key != key:
        raise Damaged("key")
    if b"%016d" % entry.asked != asked:
        raise Damaged("asked")
    instants = (
        entry.generated,
        entry.took_s,
        entry.fresh_until,
        entry.revalidate_s,
        entry.error_s,
        entry.keep_until,
    )
    if not all(map(isfinite, instants)):
        # What is compared with them would be good for ever.
        raise Damaged("times")
    body = _body(payload[head_size:], flags, max_body)
    # Of these there is one for thousands of entries.
    route, reason = intern(entry.route), common_reason(entry.reason)
    return msgspec.structs.replace(entry, route=route, reason=reason, url=url, tags=tags, body=body)


class Beginning(msgspec.Struct, frozen=True, gc=False):
    """What tells an entry from all others that are not damaged: when it was asked for, its size and its checksum."""

    data: bytes
    checksum: int
    summed: int
    """The checksum of what is before the head."""
    body_at: int
    flags: int


def beginning(data: bytes) -> Beginning:
    """That of an entry that was decoded."""
    magic, flags, head_size, asked = _PREFIX.unpack_from(data)
    (checksum,) = _CHECKSUM.unpack_from(data, _PREFIX.size)
    return Beginning(
        data=data[:_HEAD_AT],
        checksum=checksum,
        summed=crc32(_PREFIX.pack(magic, flags, head_size, asked)),
        body_at=_HEAD_AT + head_size,
        flags=flags,
    )


def body_of(data: bytes, *, begins: Beginning, max_body: int) -> bytes | None:
    """The body in `data`, if that is an entry that begins as one that was decoded; else None. Raises Damaged."""
    if not data.startswith(begins.data):
        return None
    payload = memoryview(data)[_HEAD_AT:]
    if crc32(payload, begins.summed) != begins.checksum:
        raise Damaged("checksum")
    return _body(payload[begins.body_at - _HEAD_AT :], begins.flags, max_body)


def head_end(data: bytes) -> int:
    """How many bytes an entry has before its body. Raises Damaged, also for entries of another version."""
    if len(data) < _HEAD_AT:
        raise Damaged("short")
    magic, _, head_size, _ = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise Damaged("version")
    return _HEAD_AT + int(head_size)


def concerned_in(data: bytes, *, key: str) -> Concerned:
    """What purges are matched against, of an entry whose first `head_end` bytes are these. Raises Damaged.

    Without its body nobody can tell whether they are as they were stored: enough to drop it by, not to serve it.
    """
    try:
        head = _beginning_decoder.decode(memoryview(data)[_HEAD_AT : head_end(data)])
        url, tags = _unpacked(head.url), tuple(map(_unpacked, head.tags))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Damaged("head") from error
    if head.key != key:
        raise Damaged("key")
    return Concerned(born=head.born, route=head.route, url=url, tags=tags)


# A URL and the tags made of it hold whatever bytes a client sent, as `surrogateescape` has them; MessagePack's text is
# UTF-8 and nothing else.
def _packed(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def _unpacked(text: str) -> str:
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogateescape")


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
        return _decompressor.decompress(packed, max_output_size=max_body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damaged("body") from error
