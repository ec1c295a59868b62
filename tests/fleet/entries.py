"""A great many stored entries, all real: one is stored by a proxy, the others are made like it.

Here alone it is known how an entry is made and under which name Redis has it.
"""

import os
import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import hiredis
import msgspec

from proxy import config_file
from proxy.policy.key import key_of
from proxy.policy.routes import RouteTable
from proxy.store.entry import Entry, decode, encode
from tests.servers import Server

# Redis answers each of them before the next are sent, so that neither side's buffers grow.
_BATCH = 5000
_MAX_BODY = 2**20


class Multiplier:
    """Makes entries like the one that is stored."""

    def __init__(self, server: Server, config: Path) -> None:
        """Redis must hold a single entry, of a route in this config."""
        (self._name,) = server.command("KEYS", "crowdgate:e:*")
        self._ttl_ms: int = server.command("PTTL", self._name)
        key = self._name.decode().removeprefix("crowdgate:")
        self._entry = decode(server.command("GET", self._name), key=key, max_body=_MAX_BODY)
        self._routes = RouteTable.of(config_file.load(str(config), os.environ).routes)
        self._port = server.port
        assert self._key(self._entry.url) == key, "its key is made in another way"

    def write(self, targets: Iterator[tuple[str, bytes]]) -> int:
        """Store an entry for each target with its body, of the length of the first one's. Returns how many."""
        count, commands = 0, map(self._command, targets)
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            while batch := list(islice(commands, _BATCH)):
                connection.sendall(b"".join(batch))
                _await_ok(connection, len(batch))
                count += len(batch)
        return count

    def _command(self, what: tuple[str, bytes]) -> bytes:
        target, body = what
        assert len(body) == len(self._entry.body)
        key = self._key(target)
        entry: Entry = msgspec.structs.replace(self._entry, key=key, url=target, body=body)
        data = encode(entry, compress_above=_MAX_BODY)
        words: Any = ("SET", f"crowdgate:{key}", data, "PX", self._ttl_ms)
        return bytes(hiredis.pack_command(words))

    def _key(self, target: str) -> str:
        match = self._routes.find("GET", target)
        assert match is not None
        return key_of(match.route, target.encode(), ((b"Host", b"api.test"),)).text


def _await_ok(connection: socket.socket, count: int) -> None:
    reader = hiredis.Reader()
    while count:
        reader.feed(connection.recv(65536))
        while (reply := reader.gets()) is not False:
            assert reply == b"OK", reply
            count -= 1
