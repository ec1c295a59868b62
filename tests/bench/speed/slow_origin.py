"""An API that takes 200 ms for an answer and counts what it is asked: python -m tests.bench.speed.slow_origin PORT."""

import asyncio
import sys
from typing import cast

import uvloop

from tests.bench.speed import configs

ANSWER_S = 0.2
COUNT_PATH = b"/origin-status"
_BODY = b'{"participants":[{"id":1001,"name":"Ada Lovelace"}],' + b" " * 940 + configs.END_OF_BODY


class Origin(asyncio.Protocol):
    asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by type.
        self._transport = cast("asyncio.Transport", transport)
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            head, self._unread = self._unread[:end], self._unread[end + 4 :]
            if head.split(b" ", 2)[1] == COUNT_PATH:
                self._answer(b"%d" % Origin.asked)
                continue
            Origin.asked += 1
            asyncio.get_running_loop().call_later(ANSWER_S, self._answer, _BODY)

    def _answer(self, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: public, max-age=600\r\n"
                b'ETag: "5f1d"\r\nContent-Length: %d\r\n\r\n%b' % (len(body), body)
            )


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
