"""What clients ask for: the bytes of the requests, and in which order the keys come."""

import itertools
import random
import struct

KEYS = 10_000
FIRST_KEY = 10_000
"""Keys are events 10000 to 19999: five digits each, so that all requests are as long as one another."""
HOT_KEY = 12_345

# In a template these bytes, which no head may contain, are what the load generator writes anew for each request.
HEX = "\x01"
"""One random hexadecimal digit. Always an even number of them in a row."""
KEY = "\x02"
"""One digit of the key's number."""

_TARGET = f"/api/events/{KEY * 5}/participants?page=1&size=20"
# What an app's web view sends: eight fields, of lengths as they are in the wild.
_FIELDS = (
    "Host: api.example.com",
    "User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Accept: application/json, text/plain, */*",
    "Accept-Language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
    "Accept-Encoding: gzip, deflate, br",
    "Referer: https://events.example.com/summer-festival/participants",
    "X-App-Version: 7.14.2",
    "Connection: keep-alive",
)
_TRACE = (
    f"traceparent: 00-{HEX * 32}-{HEX * 16}-01",
    "x-request-id: " + "-".join(HEX * digits for digits in (8, 4, 4, 4, 12)),
)
_POSTED = b'{"name":"Ada Lovelace","email":"ada@example.com","note":"%s"}'


def get(*, traced: bool = False) -> bytes:
    """The template of a GET; with `traced`, each request made from it is a new one."""
    return _head("GET", *(_TRACE if traced else ()))


def post(body_bytes: int = 200) -> bytes:
    """The template of a POST with a JSON body of so many bytes."""
    body = _POSTED % (b"x" * (body_bytes - len(_POSTED) + 2))
    return _head("POST", "Content-Type: application/json", f"Content-Length: {len(body)}") + body


def one(template: bytes, key: int = HOT_KEY) -> bytes:
    """A request for that key, as the load generator makes it."""
    chance = random.Random(key)
    return bytes(
        ord(chance.choice("0123456789abcdef")) if byte == ord(HEX) else byte for byte in keyed(template, key)
    )


def keyed(template: bytes, key: int) -> bytes:
    return template.replace(KEY.encode() * 5, b"%05d" % key)


def target(key: int) -> str:
    return _TARGET.replace(KEY * 5, f"{key:05d}")


def zipf(count: int, *, keys: int = KEYS, exponent: float = 1.0, seed: int = 1) -> list[int]:
    """So many draws of a key; the nth most popular is asked for with a weight of n^-exponent."""
    chance = random.Random(seed)
    order = list(range(FIRST_KEY, FIRST_KEY + keys))
    # Popular keys are not neighbours.
    chance.shuffle(order)
    weights = itertools.accumulate((rank + 1) ** -exponent for rank in range(keys))
    return chance.choices(order, cum_weights=list(weights), k=count)


def uniform(count: int, *, keys: int = KEYS, seed: int = 1) -> list[int]:
    return random.Random(seed).choices(range(FIRST_KEY, FIRST_KEY + keys), k=count)


def packed(draws: list[int]) -> bytes:
    """Draws as the load generator reads them: 32 bits each."""
    return struct.pack(f"={len(draws)}I", *draws)


def _head(method: str, *more: str) -> bytes:
    return "\r\n".join((f"{method} {_TARGET} HTTP/1.1", *_FIELDS, *more, "", "")).encode()
