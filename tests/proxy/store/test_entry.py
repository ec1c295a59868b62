import struct
from math import inf, nan
from zlib import crc32

import msgspec
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.policy.freshness import Times
from proxy.policy.purges import Concerned
from proxy.policy.storable import IMMUTABLE, NEVER_STALE, Lifetime
from proxy.store.entry import VERSION, Damaged, Entry, Got, concerned_in, decode, encode, head_end
from proxy.wire.fields import Fields, block

MAX_BODY = 1_000_000

ENTRY = Entry(
    key="e:events.1:00ff",
    route="events",
    url="/events?page=1",
    tags=("events", "event:7"),
    born=1_800_000_000_000 << 20,
    status=200,
    reason=b"OK",
    lines=b"Content-Type: application/json\r\nSurrogate-Key: event:7\r\n",
    generated=1_800_000_000.25,
    fresh_until=1_800_000_060.25,
    revalidate_s=30.0,
    error_s=600.0,
    keep_until=1_800_000_660.25,
    explicit=True,
    asked=1_800_000_000_000_000,
    took_s=0.25,
    vary=("accept-encoding",),
    body=b'{"events": []}' * 20,
)


def changed(entry: Entry = ENTRY, /, **fields: object) -> Entry:
    return msgspec.structs.replace(entry, **fields)


def read(data: bytes, *, key: str = ENTRY.key, max_body: int = MAX_BODY) -> Entry | str:
    """The entry in the bytes, or why there is none."""
    try:
        return decode(data, key=key, max_body=max_body)
    except Damaged as damage:
        return str(damage)


# -- there and back --

INSTANTS = st.floats(allow_nan=False, allow_infinity=False)
# Whatever bytes a client sent, as a URL and the tags made of it have them.
SENT = st.text(max_size=12) | st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
ENTRIES = st.builds(
    Entry,
    key=st.text(max_size=20),
    route=st.text(max_size=9),
    url=SENT,
    tags=st.lists(SENT, max_size=4).map(tuple),
    born=st.integers(0, 2**63),
    status=st.integers(0, 999),
    reason=st.binary(max_size=9),
    lines=st.binary(max_size=40),
    generated=INSTANTS,
    fresh_until=INSTANTS,
    revalidate_s=INSTANTS,
    error_s=INSTANTS,
    keep_until=INSTANTS,
    explicit=st.booleans(),
    asked=st.integers(0, 10**16 - 1),
    took_s=INSTANTS,
    binds=st.sampled_from([(), (NEVER_STALE,), (IMMUTABLE,), (NEVER_STALE, IMMUTABLE)]),
    vary=st.lists(st.text(max_size=9), max_size=2).map(tuple),
    body=st.binary(max_size=60) | st.builds(bytes.__mul__, st.binary(max_size=3), st.integers(0, 300)),
)


@given(ENTRIES, st.integers(0, 500))
@example(changed(url="/\udcff\u20ac", tags=("event:\udcff",)), 0)
def test_an_entry_comes_back_as_it_was(entry: Entry, compress_above: int) -> None:
    assert entry == read(encode(entry, compress_above=compress_above), key=entry.key)


@pytest.mark.parametrize(
    ("body", "above", "packed"),
    [
        pytest.param(b"a" * 101, 100, True, id="larger bodies are compressed"),
        pytest.param(b"a" * 100, 100, False, id="smaller ones are not"),
        pytest.param(bytes(range(256)), 100, False, id="nor are those that would not get smaller"),
        pytest.param(b"", 0, False, id="nor is nothing"),
    ],
)
def test_a_body_is_compressed_where_that_pays(body: bytes, above: int, *, packed: bool) -> None:
    data = encode(changed(body=body), compress_above=above)

    assert packed != data.endswith(body) or not body


# -- damage --

PLAIN = encode(ENTRY, compress_above=10_000)
PACKED = encode(ENTRY, compress_above=0)
# The body is itself a whole zstd frame, so that a lost flag would give another body and no error.
TWICE = encode(changed(body=zstandard.compress(ENTRY.body)), compress_above=10_000)
SAMPLES = st.sampled_from([PLAIN, PACKED, TWICE])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(PACKED, id="packed"),
        pytest.param(TWICE, id="zstd twice"),
    ],
)
def test_an_entry_with_any_single_bit_flipped_is_none(data: bytes) -> None:
    flipped = [
        data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        for at in range(len(data))
        for bit in range(8)
    ]

    assert not [read(one) for one in flipped if isinstance(read(one), Entry)]


@pytest.mark.parametrize(
    "data",
    [pytest.param(PLAIN, id="plain"), pytest.param(PACKED, id="packed"), pytest.param(TWICE, id="twice")],
)
def test_an_entry_that_was_cut_anywhere_is_none(data: bytes) -> None:
    assert not [at for at in range(len(data)) if isinstance(read(data[:at]), Entry)]


@pytest.mark.parametrize(
    "data",
    [pytest.param(PLAIN, id="plain"), pytest.param(PACKED, id="packed"), pytest.param(TWICE, id="twice")],
)
def test_an_entry_with_any_byte_missing_or_one_more_is_none(data: bytes) -> None:
    damaged = [
        data[:at] + more + data[at + 1 - len(more) :] for at in range(len(data)) for more in (b"", b"x")
    ]

    assert not [one for one in damaged if one != data and isinstance(read(one), Entry)]


@given(SAMPLES, st.integers(0, 999), st.binary(max_size=5))
def test_an_entry_with_any_bytes_replaced_is_none(data: bytes, at: int, by: bytes) -> None:
    at %= len(data)
    damaged = data[:at] + by + data[at + len(by) :]

    assert damaged == data or isinstance(read(damaged), str)


@given(st.binary(max_size=80))
def test_any_bytes_are_an_entry_or_damaged_and_nothing_else(data: bytes) -> None:
    assert isinstance(read(data), str)


# -- bytes that a newer version, somebody else or an attacker wrote, with a checksum that is right --


def forged(
    head: bytes,
    body: bytes = b"",
    *,
    magic: bytes = b"CG",
    version: int = VERSION,
    flags: int = 0,
    size: int = -1,
    asked: bytes = b"%016d" % 1_800_000_000_000_000,
) -> bytes:
    prefix = struct.pack(">2sBBI16s", magic, version, flags, len(head) if size < 0 else size, asked)
    return prefix + struct.pack(">I", crc32(prefix + head + body)) + head + body


HEAD = msgspec.msgpack.encode(changed(body=b""))
BOMB = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(10 * MAX_BODY))
UNSIZED = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10 * MAX_BODY))
FRAME = zstandard.compress(b"hello" * 9)
# A frame's size stands in its sixth byte where it is less than 256.
LYING = FRAME[:5] + bytes([3]) + FRAME[6:]
OTHER = [changed(url=7), changed(tags=(7,)), changed(status="x"), changed(key=None)]


def test_what_is_forged_below_is_an_entry_but_for_what_is_changed() -> None:
    assert (changed(body=b"x"), changed(body=b"hello" * 9)) == (
        read(forged(HEAD, b"x")),
        read(forged(HEAD, FRAME, flags=1)),
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"", "short", id="nothing"),
        pytest.param(PLAIN[:11], "short", id="no whole prefix"),
        pytest.param(forged(HEAD, magic=b"XX"), "foreign", id="another magic"),
        pytest.param(b'{"some": "JSON of other programs"}', "foreign", id="another program's"),
        pytest.param(forged(HEAD, version=VERSION - 1), "version", id="an older version"),
        pytest.param(forged(HEAD, version=VERSION + 1), "version", id="a newer version"),
        pytest.param(forged(HEAD, flags=2), "version", id="a flag that is not known"),
        pytest.param(forged(HEAD, flags=3), "version", id="such a flag beside ours"),
        pytest.param(forged(HEAD, size=len(HEAD) + 1), "checksum", id="a head longer than all"),
        pytest.param(forged(HEAD, size=2**32 - 1), "checksum", id="a head of 4 GiB"),
        pytest.param(forged(HEAD, b"x", size=len(HEAD) + 1), "head", id="a head that reaches into the body"),
        pytest.param(forged(HEAD, size=len(HEAD) - 1), "head", id="a head that ends too early"),
        *(
            pytest.param(
                forged(msgspec.msgpack.encode(changed(ENTRY, **{name: at}, body=b""))),
                "times",
                id=f"{name} {at}",
            )
            for name in ("generated", "took_s", "fresh_until", "revalidate_s", "error_s", "keep_until")
            for at in (nan, inf)
        ),
        pytest.param(
            forged(HEAD, asked=b"%016d" % 1_900_000_000_000_000),
            "asked",
            id="asked for at another time outside",
        ),
        pytest.param(forged(b""), "head", id="no head"),
        pytest.param(forged(b"\xc0"), "head", id="a head that is nothing"),
        pytest.param(forged(b"\x80"), "head", id="a head of another shape"),
        pytest.param(forged(b"\x91" * 100_000), "head", id="a head nested 100,000 deep"),
        pytest.param(
            forged(HEAD[:1] + HEAD[1:].replace(b"events.1", b"events\xff1")),
            "head",
            id="a key that is no UTF-8",
        ),
        *(
            pytest.param(forged(msgspec.msgpack.encode(other)), "head", id=f"a member of another type {n}")
            for n, other in enumerate(OTHER)
        ),
        pytest.param(
            forged(msgspec.msgpack.encode(changed(url="/\u20ac"))), "head", id="a URL never written so"
        ),
        *(
            pytest.param(forged(HEAD[:-1] + msgspec.msgpack.encode(form)), "head", id=f"a form {form!r}")
            for form in ("A: %99999999b\r\n", ["A: %b\r\n", [None]], {"_pattern": "x"}, 1, True)
        ),
        pytest.param(forged(HEAD, bytes(MAX_BODY + 1)), "too large", id="a body that is too large"),
        pytest.param(forged(HEAD, BOMB, flags=1), "too large", id="a decompression bomb"),
        pytest.param(forged(HEAD, UNSIZED, flags=1), "too large", id="a bomb that does not tell its size"),
        pytest.param(forged(HEAD, LYING, flags=1), "body", id="a bomb that lies about its size"),
        pytest.param(forged(HEAD, b"no zstd", flags=1), "body", id="no zstd"),
        pytest.param(forged(HEAD, b"", flags=1), "body", id="no body where one should be"),
        pytest.param(forged(HEAD, FRAME[:-1], flags=1), "body", id="a frame cut short"),
        pytest.param(forged(HEAD, FRAME + b"x", flags=1), "body", id="something behind the frame"),
    ],
)
def test_bytes_that_are_no_entry_of_ours_say_why(data: bytes, why: str) -> None:
    assert why == read(data)


def test_an_entry_of_another_key_is_none() -> None:
    assert read(PLAIN, key="e:events.1:00fe") == "key"


def test_a_body_of_just_the_size_that_is_allowed_is_read() -> None:
    sizes = [len(ENTRY.body), len(ENTRY.body) - 1]

    assert [ENTRY, "too large"] == [read(PLAIN, max_body=size) for size in sizes]
    assert [ENTRY, "too large"] == [read(PACKED, max_body=size) for size in sizes]


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 1))
def test_whatever_is_forged_is_an_entry_or_damaged_and_nothing_else(
    head: bytes, body: bytes, flags: int
) -> None:
    assert [read(forged(head, body, flags=flags)), read(forged(HEAD, body, flags=flags))]


# -- what it tells --


def test_a_larger_entry_counts_for_more() -> None:
    more = {"body": 1, "lines": 1, "url": 1, "key": 1}
    grown = [
        changed(**{name: getattr(ENTRY, name) + ("x" if name in {"url", "key"} else b"x")}).size
        for name in more
    ]

    assert [ENTRY.size + 1] * 4 == grown
    assert changed(tags=(*ENTRY.tags, "x" * 100)).size >= ENTRY.size + 100 + 49


def test_the_fields_are_those_of_the_head() -> None:
    assert ((b"Content-Type", b"application/json"), (b"Surrogate-Key", b"event:7")) == ENTRY.fields


def test_purges_are_matched_against_what_it_is_known_by() -> None:
    expected = Concerned(born=ENTRY.born, route="events", url="/events?page=1", tags=("events", "event:7"))

    assert expected == ENTRY.concerned


@given(ENTRIES)
@example(changed(url="/\udcff\u20ac", tags=("event:\udcff",)))
def test_its_beginning_tells_what_purges_are_matched_against(entry: Entry) -> None:
    data = encode(entry, compress_above=100)

    assert concerned_in(data[: head_end(data)], key=entry.key) == entry.concerned


@pytest.mark.parametrize("cut", [0, 10, 27, 28, 60], ids=str)
def test_too_little_of_an_entry_tells_nothing(cut: int) -> None:
    with pytest.raises(Damaged):
        concerned_in(encode(ENTRY, compress_above=100)[:cut], key=ENTRY.key)


def test_the_beginning_of_another_key_or_version_tells_nothing() -> None:
    data = encode(ENTRY, compress_above=100)
    for other, key in ((data, "e:other"), (b"CG\x02" + data[3:], ENTRY.key)):
        with pytest.raises(Damaged):
            concerned_in(other, key=key)


def test_freshness_is_decided_by_its_times_and_its_soft_purge() -> None:
    expected = Times(
        generated=ENTRY.generated,
        fresh_until=ENTRY.fresh_until,
        revalidate_s=30.0,
        error_s=600.0,
        keep_until=ENTRY.keep_until,
        soft_purged=7.0,
    )

    assert expected == ENTRY.times(7.0)


LIFE = Lifetime(generated=1.0, fresh_until=2.0, revalidate_s=3.0, error_s=4.0, keep_until=5.0, explicit=False)


def living(fields: Fields, entry: Entry = ENTRY) -> Entry:
    return entry.living(
        LIFE, fields=fields, tags=("new",), got=Got(born=9, asked=1_800_000_001_000_000, took_s=0.5)
    )


def test_a_304_gives_an_entry_new_fields_and_times_and_leaves_the_body() -> None:
    fields: Fields = ((b"ETag", b'"b"'), (b"Last-Modified", b"x"), (b"Surrogate-Key", b"event:7"))
    expected = changed(
        lines=block(fields),
        tags=("new",),
        born=9,
        asked=1_800_000_001_000_000,
        took_s=0.5,
        generated=1.0,
        fresh_until=2.0,
        revalidate_s=3.0,
        error_s=4.0,
        keep_until=5.0,
        explicit=False,
    )

    assert expected == living(fields)
    assert (b'"b"', b"x") == (living(fields).etag, living(fields).last_modified)
