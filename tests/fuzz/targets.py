"""Every parser that reads what others wrote, as a function of bytes that says what must hold whatever they are.

A target raises nothing: what its parser may raise, it expects. What it asserts is meant for any input: bounded time and
memory, the same however the bytes are split, the same again when written and read once more, and no two readings of one
input where that would let somebody pass for somebody else. `within_bounds` runs one; tests/fuzz/run.py hunts with it.
"""

import asyncio
import re
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from math import inf, isfinite
from typing import Any
from urllib.parse import parse_qsl
from zlib import crc32

import msgspec
import zstandard
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection
from redis.exceptions import AskError

from proxy import metrics, settings
from proxy.admin_input import BadInput, entries_asked, purge_asked, warm_asked
from proxy.config_file import decode as decode_text
from proxy.config_file import parse as parse_config
from proxy.config_problems import BadConfig
from proxy.policy.asked import bypass_reason
from proxy.policy.cache_control import (
    MAX_DELTA_S,
    delta_seconds,
    directives,
    format_http_date,
    http_date,
    initial_age,
)
from proxy.policy.key import Key, key_of, variant, vary_value
from proxy.policy.purges import Glob, Kind, from_fields, record_id, stream_id, to_fields
from proxy.policy.ranges import Part, part_of
from proxy.policy.routes import RouteTable, meant_name, select_query
from proxy.policy.tags import response_tags, too_many
from proxy.policy.targeted import strings, targeted
from proxy.policy.validators import Condition, entity_tags, evaluate
from proxy.policy.writes import purged_by, purged_by_answer
from proxy.store.entry import ASKED_AT, Damaged, Entry, concerned_in, decode, encode
from proxy.store.lanes import ERRORS, Command, exchange
from proxy.store.links import ClusterLink
from proxy.store.tiers import variant_key
from proxy.wire.chunked import BadChunks, ChunkReader
from proxy.wire.fields import Fields, block, end_to_end, first, from_block, from_lines, values
from proxy.wire.request import BadRequest, HeadReader, Limits, RequestHead
from proxy.wire.request import parse_head as parse_request
from proxy.wire.response import BadResponse, Body
from proxy.wire.response import parse_head as parse_response
from tests.entries import an_entry

Target = Callable[[bytes], None]

_NOW = 1_800_000_000.0
# Of the processor, for inputs of some KiB: what grows with the square of its input takes longer on any machine. Ten times
# that where every line is traced for coverage.
_MAX_S = 5.0
_TRACED = 10
_MAX_GROWTH_KIB = 96 * 1024


def within_bounds(target: Target, data: bytes) -> None:
    """Runs a target. Raises AssertionError where it takes too long or too much memory, or its own."""
    before_s, before_kib = time.process_time(), _peak_kib()
    target(data)
    took, grew = time.process_time() - before_s, _peak_kib() - before_kib
    assert took < _MAX_S * (_TRACED if sys.gettrace() else 1), f"{took:.1f} s for {len(data)} bytes"
    assert grew < _MAX_GROWTH_KIB, f"{grew // 1024} MiB for {len(data)} bytes"


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


# What may stand in a field once a message's reader has let it through.
_CLEAN = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


def _assert_clean(fields: Fields) -> None:
    for name, value in fields:
        assert _NAME.match(name), name
        assert _CLEAN.match(value), value
        assert value == value.strip(b" \t"), value
    assert from_lines(block(fields)) == fields
    assert from_block(block(fields)) == fields


def _as_fields(data: bytes, *names: bytes) -> Fields:
    """Lines as values of fields, the names in turn; what no reader lets through is left out."""
    lines = [line.strip(b" \t") for line in data.split(b"\n") if _CLEAN.match(line)]
    return tuple((names[at % len(names)], line) for at, line in enumerate(lines))


# -- messages --

_LIMITS = Limits(max_line=512, max_field=256, max_fields=24, max_head=2048)


def request_head(data: bytes) -> None:
    """However it is split, the same head is read up to the same place; written again, it is the same."""
    read = _read_head(data, len(data) or 1)
    for size in (1, 7):
        otherwise = _read_head(data, size)
        if otherwise != read:
            # What can't become a head may be refused sooner or later.
            assert {read, otherwise} == {"half", "refused"}
            assert _read_head(data + b"\r\n\r\n", len(data) + 4) == "refused"
    if isinstance(read, tuple):
        _assert_one_reading(read[0])


def _read_head(data: bytes, size: int) -> tuple[RequestHead, int] | str:
    reader = HeadReader(_LIMITS)
    for at, piece in enumerate(_pieces(data, size)):
        try:
            head, place = reader.feed(piece)
        except BadRequest as error:
            return "refused" if 400 <= error.status <= 505 else str(error.status)
        if head is not None:
            return head, at * size + place
    return "half"


def _assert_one_reading(head: RequestHead) -> None:
    _assert_clean(head.fields)
    lengths, codings = values(head.fields, b"content-length"), values(head.fields, b"transfer-encoding")
    assert len(lengths) + len(codings) <= 1
    assert (head.body is Body.LENGTH, head.body is Body.CHUNKED) == (bool(lengths), bool(codings))
    assert len(values(head.fields, b"host")) == 1 or head.http_1_0
    assert re.match(rb"/|\*\Z", head.target)
    assert not re.search(rb"[\x00-\x20\x7f#]", head.target)
    line = b"%b %b HTTP/1.%d\r\n" % (head.method.encode(), head.target, not head.http_1_0)
    if len(line) <= _LIMITS.max_line:
        again = parse_request(line + block(head.fields), _WIDE)
        assert again == head
    # What the next hop needs to read it the same way is never taken away.
    kept = {name.lower() for name, _ in end_to_end(head.fields)}
    assert kept >= {name.lower() for name, _ in head.fields} & {b"host", b"content-length", b"authorization"}
    bypass_reason(head.target, head.fields, has_body=head.body is not Body.NONE)


_WIDE = Limits(max_line=4096, max_field=4096, max_fields=64, max_head=8192)


def response_head(data: bytes) -> None:
    """One reading of where its body ends, and the same again once it is written."""
    method = "HEAD" if data.startswith(b"HEAD") else "GET"
    try:
        head = parse_response(data.removeprefix(b"HEAD"), method=method)
    except BadResponse:
        return
    _assert_clean(head.fields)
    assert _CLEAN.match(head.reason)
    lengths, codings = values(head.fields, b"content-length"), values(head.fields, b"transfer-encoding")
    assert len(lengths) + len(codings) <= 1
    bodiless = method == "HEAD" or head.status < 200 or head.status in (204, 304)
    assert (head.body is Body.NONE) == bodiless
    line = b"%b %d %b\r\n" % (head.version, head.status, head.reason)
    assert parse_response((line + block(head.fields)).removesuffix(b"\r\n"), method=method) == head


def chunks(data: bytes) -> None:
    """However it is split, the same body; and what was put into chunks comes out again."""
    whole = _unchunked(data, len(data) or 1)
    for size in (1, 5):
        assert _unchunked(data, size) == whole
    sizes = [1 + byte % 9 for byte in data[:50]]
    pieces: list[bytes] = []
    place = 0
    for size in sizes:
        pieces.append(data[place : place + size])
        place += size
    sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
    assert _unchunked(sent + b"rest", 3) == (b"".join(pieces), len(sent), True)


def _unchunked(data: bytes, size: int) -> tuple[bytes, int, bool] | None:
    reader, body, read = ChunkReader(), bytearray(), 0
    for piece in _pieces(data, size):
        try:
            found, place = reader.feed(piece)
        except BadChunks:
            return None
        body += b"".join(found)
        read += place
        if reader.done:
            break
    return bytes(body), read, reader.done


# -- what fields say --


def cache_control(data: bytes) -> None:
    """Never raises, and never misses a directive that stands by itself, whatever is before or behind it."""
    fields = _as_fields(data, b"Cache-Control")
    said = directives(fields)
    for name, argument in said.items():
        assert name == name.lower()
        seconds = delta_seconds(argument)
        assert seconds is None or 0 <= seconds <= MAX_DELTA_S
    assert "no-store" in directives((*fields, (b"cache-control", b"no-store")))
    for _, value in fields:
        assert "no-store" in directives(((b"Cache-Control", value + b", no-store"),))
        if b'"' not in value:
            assert "no-store" in directives(((b"Cache-Control", b"no-store, " + value),))


def targets(data: bytes) -> None:
    """A field that isn't a Dictionary, or a List of Strings, says nothing."""
    fields = _as_fields(data, b"CDN-Cache-Control", b"Cache-Groups")
    said = targeted(fields, (b"cdn-cache-control", b"x-none"))
    assert said is None or said
    for name, argument in (said or {}).items():
        assert re.fullmatch(r"[a-z*][a-z0-9_.*-]*", name)
        assert argument is None or isinstance(argument, str)
    for member in strings(fields, b"cache-groups"):
        assert re.fullmatch(r"[\x20-\x7e]*", member)


def dates(data: bytes) -> None:
    """A date is an instant that can be written and read again."""
    at = http_date(data, now=_NOW)
    if at is not None:
        assert isfinite(at)
        assert http_date(format_http_date(at), now=_NOW) == at


def age(data: bytes) -> None:
    """No answer is younger than nothing, or than its Date says."""
    fields = _as_fields(data, b"Age", b"Date", b"age")
    old = initial_age(fields, requested_at=_NOW - 2, received_at=_NOW)
    assert 0 <= old < inf
    date = http_date(first(fields, b"date"), now=_NOW)
    assert date is None or old >= int(_NOW) - date


def etags(data: bytes) -> None:
    """What is read as a list of entity tags is one, and is read the same when it is written again."""
    found = entity_tags(data)
    assert all(re.fullmatch(rb'"[^"\x00-\x20\x7f]*"', tag) for tag in found)
    assert entity_tags(b", ".join(found)) == found
    fields = _as_fields(data, b"If-None-Match", b"If-Modified-Since", b"If-Range", b"Range")
    evaluate(fields, etag=b'"a"', last_modified=b"Tue, 01 Sep 2026 10:00:00 GMT", now=_NOW)
    if found:
        held = evaluate(((b"if-none-match", data),), etag=found[-1], last_modified=b"", now=_NOW)
        assert held is Condition.NOT_MODIFIED


def ranges(data: bytes) -> None:
    """A part lies within what is stored."""
    stored: Fields = ((b"ETag", b'"a"'), (b"Last-Modified", b"Tue, 01 Sep 2026 10:00:00 GMT"))
    for size in (0, 1, 100):
        found = part_of(_as_fields(data, b"Range", b"If-Range"), stored, size, now=_NOW)
        if isinstance(found, Part):
            assert 0 <= found.first <= found.last < size


def tags(data: bytes) -> None:
    """Tags have bytes in them, and as text they purge what they were stored with."""
    fields = _as_fields(data, b"Surrogate-Key", b"Cache-Tag", b"Cache-Groups")
    found = response_tags(fields, b"api.test")
    too_many(fields)
    assert all(found)
    for tag in found:
        record = from_fields(1, to_fields(Kind.TAG, tag, soft=False))
        assert record is not None
        assert record.value == tag


# -- routes, keys, purges --

_ROUTES = RouteTable.of(
    (
        settings.Route(match="/e/{id}", query=("page", "a_b"), tags=("event:{id}",), ttl=1.0),
        settings.Route(match="/n/**", query="none", vary=("accept-language",)),
        settings.Route(match="/p/{name}.json", per="authorization"),
        settings.Route(match="/w/{id}", methods=("POST",), purge=("event:{id}",)),
        settings.Route(match="/**"),
    )
)


def query(data: bytes) -> None:
    """Requests that an API could tell apart by what the key is made of have different keys."""
    if not _CLEAN.match(data) or b" " in data:
        return
    pieces = data.split(b"&")
    others = [
        b"&".join(each) for each in (pieces[::-1], sorted(pieces), pieces[1:], pieces[:-1], [*pieces, b"x=1"])
    ]
    others += [data.replace(b";", b"&"), data.replace(b"%61", b"a"), data.lower(), data.replace(b"+", b"%20")]
    others += [
        b"&".join([*pieces[:at], two, one, *pieces[at + 2 :]])
        for at, (one, two) in enumerate(pairwise(pieces[:10]))
    ]
    for wanted in (None, frozenset({b"page", b"a_b"})):
        selected = select_query(data, wanted)
        assert select_query(selected, wanted) == selected
        for other in others:
            if select_query(other, wanted) == selected:
                for seen, seen_otherwise in zip(_views(data), _views(other), strict=True):
                    _assert_alike(seen, seen_otherwise, wanted)


def _views(query_string: bytes) -> list[dict[str, list[str]]]:
    """What frameworks make of a query: Python's, those for which `;` separates too, those without case, PHP."""
    text = query_string.decode("latin-1")
    plain = parse_qsl(text, keep_blank_values=True, encoding="latin-1")
    semicolon = parse_qsl(text.replace(";", "&"), keep_blank_values=True, encoding="latin-1")
    views: list[dict[str, list[str]]] = []
    for pairs in (plain, semicolon, [(name.lower(), value) for name, value in plain], list(_php(plain))):
        view: dict[str, list[str]] = {}
        for name, value in pairs:
            view.setdefault(name, []).append(value)
        views.append(view)
    return views


def _php(pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for name, value in pairs:
        begin = name.lstrip(" ").partition("\0")[0]
        base, bracket, rest = begin.partition("[")
        if bracket and "]" not in rest:
            base, bracket, rest = base + "_" + rest, "", ""
        yield base.replace(".", "_").replace(" ", "_"), bracket + rest + "=" + value


def _assert_alike(
    one: dict[str, list[str]], other: dict[str, list[str]], wanted: frozenset[bytes] | None
) -> None:
    names = one.keys() | other.keys() if wanted is None else {name.decode() for name in wanted}
    for name in names:
        assert one.get(name) == other.get(name), name


def keys(data: bytes) -> None:
    """Where one part ends and the next begins makes a difference; so does whatever a route's key is made of."""
    route = _ROUTES.routes[0]
    first, second, third, fourth = (*data.split(b"\n", 3), b"", b"", b"")[:4]
    moved = (first + second[:1], second[1:])
    keys_made = {
        parts: Key(route=route, host=parts[0], url=parts[1], principal=parts[2], vary=(parts[3],)).text
        for parts in ((first, second, third, fourth), (*moved, third, fourth), (second, first, fourth, third))
    }
    assert len(set(keys_made.values())) == len(keys_made)
    fields = (
        (b"Host", first),
        (b"X-Forwarded-Host", second),
        (b"Authorization", third),
        (b"X-Script-Name", fourth),
    )
    for each in _ROUTES.routes:
        made = key_of(each, b"/e/1", fields).text
        assert made == key_of(each, b"/e/1", ((b"host", first.upper()), (b"a", b"b"), *fields[1:])).text
        assert made != key_of(each, b"/e/2", fields).text
        assert made != key_of(each, b"/e/1", ((b"host", first + b"x"), *fields[1:])).text
        assert (
            made
            != key_of(
                each, b"/e/1", ((b"host", first), (b"x-forwarded-host", second + b"x"), *fields[2:])
            ).text
        )
    assert meant_name(data.partition(b"&")[0]) == meant_name(data.partition(b"&")[0].partition(b"=")[0])


def vary(data: bytes) -> None:
    """Values that mean something else are another variant; what is one variant in memory is the same one in Redis."""
    lines = [line.strip(b" \t") for line in data.split(b"\n") if _CLEAN.match(line)]
    split = [piece.strip(b" \t") for line in lines for piece in line.split(b",")]
    others = [
        split,
        [b", ".join(lines)],
        [line.swapcase() for line in lines],
        [line.replace(b" ", b"") for line in lines],
    ]
    for name in (b"accept-language", b"accept", b"cookie", b"x-own"):
        one = tuple((name, line) for line in lines)
        for other in (tuple((name, line) for line in each) for each in others):
            if variant("k", (name,), one) == variant("k", (name,), other):
                assert _meant(name, one) == _meant(name, other), name
    assert vary_value((), b"cookie") != vary_value(((b"Cookie", data),), b"cookie")
    # An answer is stored under the names as the API sent them, and looked for under those that were stored.
    names = tuple(sorted({line.lower() for line in lines}))
    stored = msgspec.structs.replace(_ENTRY, vary=tuple(name.decode("latin-1") for name in names))
    assert variant_key("k", stored, ((b"Cookie", b"a"),)) == variant("k", names, ((b"Cookie", b"a"),))


def _meant(name: bytes, fields: Fields) -> list[bytes]:
    found = [value for _, value in fields]
    if name == b"cookie":
        return found
    pieces = [piece.strip() for value in found for piece in value.split(b",")]
    if name == b"accept-language":
        return [piece.lower() for piece in pieces if piece]
    return pieces if fields else [b"none"]


def routes(data: bytes) -> None:
    """Any target finds its route, and what it purges, in little time; nothing of that raises."""
    target, _, reference = data.partition(b"\n")
    path = target.partition(b"?")[0].decode("utf-8", "surrogateescape")
    for method in ("GET", "POST"):
        match = _ROUTES.find(method, path)
        purged_by(method, target, match, _ROUTES)
        if match is not None:
            assert all(isinstance(tag, str) for tag in (*match.tags, *match.purges))
    fields = _as_fields(reference, b"Location", b"Content-Location", b"Cache-Group-Invalidation")
    if target.startswith(b"/"):
        for _, value in purged_by_answer(target, b"api.test", fields, _ROUTES):
            assert value


def globs(data: bytes) -> None:
    """`*` is any run of characters and all else is itself, as the simplest of all matchers has it."""
    pattern, _, text = data.decode("latin-1").partition("\n")
    assert Glob.of(pattern).matches(text) == _fits(pattern, text)


def _fits(pattern: str, text: str) -> bool:
    at, star, mark, place = 0, -1, 0, 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, mark, at = at, place, at + 1
        elif at < len(pattern) and pattern[at] == text[place]:
            at, place = at + 1, place + 1
        elif star >= 0:
            mark += 1
            at, place = star + 1, mark
        else:
            return False
    return not pattern[at:].strip("*")


def records(data: bytes) -> None:
    """A record of the purge log is one of ours, or none; its id is one number that orders alike."""
    first, _, rest = data.partition(b"\n")
    from_fields(1, {b"k": first, b"v": rest, b"s": data[:1]})
    if re.fullmatch(rb"[0-9]{1,13}-[0-9]{1,5}", first):
        at = record_id(first.decode())
        assert record_id(stream_id(at)) == at


# -- the store --

_MAX_BODY = 64 * 1024
_ENTRY = an_entry(
    _NOW,
    key="k",
    url="/events?page=1",
    tags=("events", "event:1"),
    born=1,
    lines=b"Content-Type: application/json\r\nX-Latin: \xe9\r\n",
    revalidate_s=1.0,
    error_s=1.0,
    keep_until=_NOW + 600,
    body=b'{"events": []}' * 40,
)
_SOUND = encode(_ENTRY, compress_above=64)
_HEAD_AT = 28


def entry(data: bytes) -> None:
    """Damaged, or an entry: as it came, as ours with bits flipped, as a head or a body with a right checksum."""
    how, rest = data[:1], data[1:]
    if how == b"f":
        flipped = bytearray(_SOUND)
        for place, bits in struct.iter_unpack(">HB", rest[: len(rest) // 3 * 3]):
            flipped[place % len(flipped)] ^= bits
        _decoded(bytes(flipped))
    elif how == b"t":
        _decoded(_SOUND[: int.from_bytes(rest[:2], "big") % len(_SOUND)] + rest[2:])
    elif how == b"h":
        _decoded(_sealed(rest, b"", 0))
    elif how in (b"b", b"z"):
        size = struct.unpack_from(">I", _SOUND, 4)[0]
        body = zstandard.ZstdCompressor().compress(rest) if how == b"z" else rest
        found = _decoded(_sealed(_SOUND[_HEAD_AT : _HEAD_AT + size], body, 1))
        assert how == b"b" or len(rest) > _MAX_BODY or (found is not None and found.body == rest)
    else:
        _decoded(data)


def _sealed(head: bytes, body: bytes, flags: int) -> bytes:
    prefix = _SOUND[:3] + struct.pack(">BI", flags, len(head)) + _SOUND[ASKED_AT]
    return prefix + struct.pack(">I", crc32(head + body, crc32(prefix))) + head + body


def _decoded(data: bytes) -> Entry | None:
    found = _whole(data)
    try:
        # What a sweeper tells by its beginning is what the whole of it says.
        beginning = concerned_in(data, key="k")
    except Damaged:
        beginning = None
    assert found is None or beginning == found.concerned
    return found


def _whole(data: bytes) -> Entry | None:
    try:
        found = decode(data, key="k", max_body=_MAX_BODY)
    except Damaged:
        return None
    assert found.key == "k"
    assert len(found.body) <= _MAX_BODY
    assert found.size > 0
    assert found.fields is not None
    assert found.times().generated is found.generated
    assert found.concerned.url == found.url
    if all(isfinite(at) for at in msgspec.structs.astuple(found) if isinstance(at, float)):
        assert decode(encode(found, compress_above=64), key="k", max_body=_MAX_BODY) == found
    return found


def redis_replies(data: bytes) -> None:
    """Answers to three commands, or one of the errors that callers expect; redirections lead somewhere, or are errors."""
    runner = _runner()
    runner.run(_asked(data))


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


class _Nowhere:
    """What is sent is of no interest."""

    def write(self, data: Any) -> None: ...

    def writelines(self, data: Any) -> None: ...

    def close(self) -> None: ...

    async def drain(self) -> None: ...

    async def wait_closed(self) -> None: ...


async def _asked(data: bytes) -> None:
    connection = Connection(host="127.0.0.1", port=1)
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    connection._reader, connection._writer = reader, _Nowhere()  # type: ignore[assignment]
    connection._parser.on_connect(connection)  # type: ignore[no-untyped-call]
    commands = (
        Command(("GETRANGE", "k", 0, 1)),
        Command(("PTTL", "k"), int),
        Command(("XREAD",), (list, type(None))),
    )
    try:
        replies = await exchange(connection, commands)
    except ERRORS:
        return
    finally:
        await connection.disconnect(nowait=True)
    assert len(replies) == len(commands)
    for reply in replies:
        if isinstance(reply, AskError):
            await _redirected(reply)


async def _redirected(reply: AskError) -> None:
    link = ClusterLink(
        [{"host": "127.0.0.1", "port": 1}], 1, lambda coroutine, _: asyncio.ensure_future(coroutine)
    )
    try:
        node = await link._follow(reply, ClusterNode("127.0.0.1", 1))
    except ERRORS:
        return
    assert node.name


# -- what operators write --


def config(data: bytes) -> None:
    """Settings that work, or a clear list of what is wrong."""
    try:
        text = decode_text(data, name="f")
        found = parse_config(text, name="f", environ={"NAME": "value"}, read=_no_file)
    except BadConfig as error:
        _assert_clear(error)
        return
    RouteTable.of(found.routes)
    assert all(route.name for route in found.routes)


def _assert_clear(error: BadConfig) -> None:
    assert 1 <= len(error.problems) <= 202
    assert all(problem.message for problem in error.problems)
    assert len(str(error)) < 400_000


def _no_file(_name: str) -> str:
    raise FileNotFoundError(2, "No such file or directory")


def admin(data: bytes) -> None:
    """What is to be done, or one sentence."""
    known = ("events", "event")
    try:
        asked = purge_asked(data, known)
    except BadInput as error:
        _assert_sentence(error)
    else:
        assert asked.names
        assert all(value for _, value in asked.names)
    try:
        assert set(warm_asked(data, known)) <= set(known)
    except BadInput as error:
        _assert_sentence(error)
    try:
        assert 1 <= entries_asked(parse_qsl(data.decode("latin-1")), known).limit <= 1000
    except BadInput as error:
        _assert_sentence(error)


def _assert_sentence(error: BadInput) -> None:
    assert 0 < len(str(error)) < 1000


def metrics_text(data: bytes) -> None:
    """Samples, or ValueError."""
    try:
        samples = metrics.read(data.decode("utf-8", "replace"))
    except ValueError:
        return
    assert all(isinstance(sample.value, float) for sample in samples)
    metrics.total(samples, metrics.REQUESTS, route="events")


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        *(request_head, response_head, chunks),
        *(cache_control, targets, dates, age, etags, ranges, tags),
        *(query, keys, vary, routes, globs, records),
        *(entry, redis_replies),
        *(config, admin, metrics_text),
    )
}
