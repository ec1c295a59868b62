"""What a hostile request costs the parser in CPU, beside a plain one.

python -m tests.bench.hostile_heads [--json FILE]

What counts is what a client gets us to do for what it sends. `x a request`: the whole proxy's work for this one, in plain
ones; ten is the most that is allowed to a head. `x its bytes`: in as many bytes of the smallest requests; a body may be as
long as it likes, so that counts there. Of requests without an end the cost is that of what is read before they are refused.
"""

import argparse
import json
import sys
from pathlib import Path
from time import process_time

from proxy.settings import Client
from proxy.wire.chunked import BadChunks, ChunkReader
from proxy.wire.request import BadRequest, HeadReader, Limits
from proxy.wire.response import Body

# As README.md has it: a hit, answered through aiohttp's server.
WHOLE_US = 70.0

_CLIENT = Client()
LIMITS = Limits(
    max_line=_CLIENT.max_line,
    max_field=_CLIENT.max_field,
    max_fields=_CLIENT.max_fields,
    max_head=_CLIENT.max_head,
)
GET = b"GET /api/events?page=2 HTTP/1.1\r\n"
HOST = b"Host: api.test\r\n"
BROWSER = HOST + (
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef\r\nReferer: https://www.example.com/events\r\n"
    b"X-Request-Id: 0123456789abcdef\r\nCache-Control: max-age=0\r\n"
)
UPLOAD = b"POST /a HTTP/1.1\r\n" + HOST
CHUNKED = UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n"
PLAIN = "a browser's GET"
SMALLEST = "the smallest GET"

CASES = {
    PLAIN: GET + BROWSER + b"\r\n",
    SMALLEST: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "TE beside CL": UPLOAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a bare LF": GET + HOST + b"A: b\n\r\n\r\n",
    "the longest target": b"GET /" + b"a" * 8100 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target without end": b"GET /" + b"a" * 300_000,
    "a name without end": GET + HOST + b"a" * 300_000,
    "a field without end": GET + HOST + b"A: " + b"b" * 300_000,
    "white space without end": GET + HOST + b"A: b" + b" " * 300_000,
    "fields without end": GET + HOST + b"A:\r\n" * 100_000,
    "128 fields": GET + HOST + b"A: b\r\n" * 127 + b"\r\n",
    "128 fields, then a control character": GET + HOST + b"A: b\r\n" * 126 + b"A: \0\r\n\r\n",
    "128 fields with underscores": GET + HOST + b"x_forwarded_: b\r\n" * 127 + b"\r\n",
    "128 names of hosts": GET + HOST * 128 + b"\r\n",
    "64 KB of fields": GET + HOST + (b"A: " + b"b " * 4000 + b"\r\n") * 8 + b"\r\n",
    "64 KB of white space": GET + HOST + (b"A: b" + b" " * 8000 + b"\r\n") * 8 + b"\r\n",
    "4000 members of Connection": GET + HOST + b"Connection: " + b"a," * 4000 + b"\r\n\r\n",
    "64 KB of Connection": GET + HOST + (b"Connection: " + b"a," * 4080 + b"\r\n") * 7 + b"\r\n",
    "64 KB of Upgrade": GET
    + HOST
    + b"Connection: upgrade\r\n"
    + (b"Upgrade: " + b"a," * 4080 + b"\r\n") * 7
    + b"\r\n",
    "4000 codings": UPLOAD + b"Transfer-Encoding: " + b"a," * 4000 + b"chunked\r\n\r\n",
    "a host of 2700 percent signs": GET + b"Host: " + b"%41" * 2700 + b"\r\n\r\n",
    "an absolute target of 8 KB": b"GET http://" + b"a" * 8100 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "4 KB of tiny chunks": CHUNKED + b"1\r\nx\r\n" * 700 + b"0\r\n\r\n",
    "4 KB of chunks with extensions": CHUNKED + b"1;a=b\r\nx\r\n" * 400 + b"0\r\n\r\n",
    "256 KB of tiny chunks": CHUNKED + b"1\r\nx\r\n" * 43_000 + b"0\r\n\r\n",
    "long extensions without end": CHUNKED + (b"1;" + b"a" * 200 + b"\r\nx\r\n") * 2000,
    "trailers without end": CHUNKED + b"0\r\n" + b"A: b\r\n" * 40_000,
}


def parse(data: bytes, size: int) -> int:
    """Reads it in pieces of `size`, to its end or to its refusal. How many bytes that took."""
    heads, chunks = HeadReader(LIMITS), None
    for begin in range(0, len(data), size):
        piece, place = data[begin : begin + size], 0
        try:
            while place < len(piece):
                if chunks is not None:
                    _, place = chunks.feed(piece, place)
                    chunks = None if chunks.done else chunks
                else:
                    head, place = heads.feed(piece, place)
                    chunks = ChunkReader() if head is not None and head.body is Body.CHUNKED else None
        except (BadRequest, BadChunks):
            return begin + len(piece)
    return len(data)


def measure(data: bytes, size: int) -> tuple[float, int]:
    """Microseconds of CPU for one, and the bytes that were read: the best of five runs of at least 20 ms."""
    best, read = float("inf"), 0
    for _ in range(5):
        count, began = 0, process_time()
        while (spent := process_time() - began) < 0.02:
            read = parse(data, size)
            count += 1
        best = min(best, spent / count * 1e6)
    return best, read


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    # 64 KiB: a read of a socket. One byte at a time is the slowest that a client can be.
    measured = {name: measure(data, 64 * 1024) for name, data in CASES.items()}
    measured["a browser's GET by the byte"] = measure(CASES[PLAIN], 1)
    plain, (smallest, size) = measured[PLAIN][0], measured[SMALLEST]
    rest = WHOLE_US - plain
    rows = [
        {
            "case": name,
            "bytes": read,
            "us": round(us, 1),
            "of_its_parse": round(us / plain, 1),
            "of_a_request": round((us + rest) / WHOLE_US, 1),
            "of_its_bytes": round((us + rest) / read / ((smallest + rest) / size), 2),
        }
        for name, (us, read) in measured.items()
    ]
    print(f"{'':38} {'bytes':>8} {'CPU us':>9} {'x its parse':>12} {'x a request':>12} {'x its bytes':>12}")
    for row in rows:
        print(
            f"{row['case']:38} {row['bytes']:>8} {row['us']:>9}"
            f" {row['of_its_parse']:>12} {row['of_a_request']:>12} {row['of_its_bytes']:>12}"
        )
    if options.json:
        text = json.dumps({"heads": rows}, indent=2)
        sys.stdout.write(text + "\n") if options.json == "-" else Path(options.json).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
