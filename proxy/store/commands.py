"""What Redis is asked for beyond values, and what its answers mean: records of a stream, a key's claim, scripts.

Scripts are one key each, so that they run on any cluster, and are sent whole: Redis keeps what it compiled, and there is no
second round trip after a failover to a server that has not seen them.
"""

import re
from collections.abc import Iterable
from typing import Any

from proxy.store.entry import ASKED_AT, MAGIC
from proxy.store.lanes import Command, Reply
from proxy.store.shared import Claim

# Names that Redis looks at in one step: a fraction of a millisecond.
_AT_ONCE = 50
_BEGINNING = 8192
# Entries that are not alike differ in their first bytes: when they were asked for, and their checksum.
_TOLD_BY = 64
_GLOB = re.compile(rb"[][*?\\^-]")


class Absurd(Exception):
    """An answer that makes no sense."""


# Two replicas may fetch the same at once, and the one that asked first may come in last. What was asked for later stays,
# unless it claims to be from Redis' own future: then whoever stored it had a clock that was wrong.
_PUT_NEWER = f"""
local old = redis.pcall('GETRANGE', KEYS[1], 0, {ASKED_AT.stop - 1})
if type(old) == 'string' and string.sub(old, 1, {len(MAGIC)}) == '{MAGIC.decode()}' then
  local asked = tonumber(string.sub(old, {ASKED_AT.start + 1}, {ASKED_AT.stop}))
  if asked and asked > tonumber(ARGV[3]) then
    local time = redis.call('TIME')
    if asked <= time[1] * 1000000 + time[2] then return 0 end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""".strip()

_SWAP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('UNLINK', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
""".strip()


def put_newer(name: bytes, value: bytes, ttl_ms: int, asked: int) -> Command:
    """Stores an entry, unless one is there that was asked for later. Answers 1, or 0."""
    return Command(("EVAL", _PUT_NEWER, 1, name, value, ttl_ms, asked), int)


def put(name: bytes, value: bytes, ttl_ms: int) -> Command:
    return Command(("SET", name, value, "PX", ttl_ms))


def swap(name: bytes, old: bytes, new: bytes, ttl_ms: int) -> Command:
    """Replaces a value that is still `old`, or drops it where `new` is empty. Answers 1, or 0."""
    return Command(("EVAL", _SWAP, 1, name, old, new, ttl_ms), int)


_DROP = """
if redis.call('GETRANGE', KEYS[1], 0, string.len(ARGV[1]) - 1) ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
""".strip()


def beginning(name: bytes) -> Command:
    """Enough of an entry to tell what it is about, but for one with an enormous head."""
    return Command(("GETRANGE", name, 0, _BEGINNING - 1))


def drop(name: bytes, begin: bytes) -> Command:
    """Drops a value that still begins so. Answers 1, or 0."""
    return Command(("EVAL", _DROP, 1, name, begin[:_TOLD_BY]), int)


def scan(cursor: int, prefix: bytes) -> Command:
    """Some of the names that begin so, of one server. Redis looks at about as many as it is told, whatever they are."""
    pattern = _GLOB.sub(rb"\\\g<0>", prefix) + b"*"
    return Command(("SCAN", cursor, "MATCH", pattern, "COUNT", _AT_ONCE), list)


def scanned(reply: Any, prefix: bytes) -> tuple[int, list[bytes]]:
    """Where to go on, 0 at the end, and the names. Raises Absurd."""
    try:
        cursor, names = reply
        return int(cursor), [name for name in names if name.startswith(prefix) and _is_text(name)]
    except (TypeError, ValueError, AttributeError) as error:
        raise Absurd("scan") from error


def _is_text(name: bytes) -> bool:
    try:
        name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def lease(entry: bytes, kind: str) -> bytes:
    """What follows the prefix in the name of an entry's lease. A cluster has both on one node."""
    return b"lease:{%b}%b" % (entry, kind.encode())


def claim(name: bytes, entry: bytes, token: bytes, ttl_ms: int) -> tuple[Command, ...]:
    return (
        Command(("SET", name, token, "NX", "PX", ttl_ms), (bytes, type(None))),
        Command(("GET", name), (bytes, type(None))),
        Command(("EXISTS", entry), int),
        Command(("TIME",), list),
    )


def claimed(replies: list[Reply]) -> Claim:
    """Raises Absurd."""
    try:
        _, holder, exists, (seconds, microseconds) = replies
        at_us = int(seconds) * 1_000_000 + int(microseconds)
    except (TypeError, ValueError) as error:
        raise Absurd("claim") from error
    if not isinstance(holder, bytes | None) or not isinstance(exists, int):
        raise Absurd("claim")
    # Nobody's: the lease has just ended, between the two.
    return Claim(holder=holder or b"", has_entry=exists > 0, at_us=at_us)


# Milliseconds and a sequence number, each of at most 64 bits.
_STREAM_ID = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}\Z")


def stream_id(raw: Any) -> str:
    """Raises Absurd."""
    if not isinstance(raw, bytes) or not _STREAM_ID.match(raw):
        raise Absurd("stream id")
    return raw.decode()


def records_of_one(reply: Any) -> list[tuple[str, dict[bytes, bytes]]]:
    """The records of the only stream that was asked for. Raises Absurd."""
    try:
        return records(reply[0][1]) if reply else []
    except (TypeError, LookupError) as error:
        raise Absurd("streams") from error


def records(reply: Iterable[Any]) -> list[tuple[str, dict[bytes, bytes]]]:
    """A stream's records, as RESP2 lists them: [[id, [field, value, ..]], ..]. Raises Absurd."""
    try:
        return [
            (stream_id(record_id), dict(zip(parts[::2], parts[1::2], strict=True)))
            for record_id, parts in reply
        ]
    except (TypeError, ValueError, AttributeError) as error:
        raise Absurd("records") from error


def table(reply: Any) -> dict[str, bytes]:
    """A hash, as RESP2 lists it: [field, value, ..]. Raises Absurd."""
    try:
        pairs = dict(zip(reply[::2], reply[1::2], strict=True))
    except (TypeError, ValueError) as error:
        raise Absurd("hash") from error
    if not all(isinstance(part, bytes) for pair in pairs.items() for part in pair):
        raise Absurd("hash")
    return {field.decode("utf-8", "replace"): value for field, value in pairs.items()}
