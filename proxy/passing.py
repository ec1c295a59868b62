"""GETs that are not cached: passed on and answered as they come, by two expressions and without a task.

Only the plain ones: a request that goes on with nothing changed but what every request gets, over a connection that is
there, and an answer that has come whole with its head and is as plain. `handler` would do just the same with them, and
does it with all others, also with one that turns out not to be plain when half of it is done.
"""

from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Protocol

from proxy.config import Config
from proxy.handler import Handler
from proxy.messages import Answer
from proxy.metrics import NO_ROUTE, Cell, Metrics
from proxy.policy.outcome import Handling, Outcome
from proxy.shapes import Often, Shape
from proxy.upstream import AtOnce
from proxy.upstream_connection import UpstreamError
from proxy.wire.request import is_host
from proxy.wire.response import OUTAGES, ResponseHead
from proxy.wire.shape import Kept, answer_like
from proxy.wire.via import own_via
from proxy.writing import CLOSE

# Paths and hosts whose requests are known to pass: those of a crowd. What is forgotten, or is long, is looked at again.
_MAX_KNOWN = 4096
_LONG = 256
# No body, or none that counts.
_EMPTY = frozenset({204, 304})


class Client(Protocol):
    """Whoever asks."""

    @property
    def stays(self) -> bool:
        """Whether its connection goes on after this answer."""

    def tell(self, head: ResponseHead) -> None:
        """A 1xx answer."""

    def passed(self, reply: bytes) -> None:
        """The answer, whole."""

    def pass_slowly(self, begun: Answer | Coroutine[Any, Any, Answer] | None) -> None:
        """It's not as plain as that: this is the answer, or leads to it; or it is to be asked for from the beginning."""


class Way:
    """How a route's requests pass. One of them has no route."""

    __slots__ = ("cells", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.cells: dict[int, tuple[bytes, Cell]] = {}
        """By status: what we say about such an answer, and where it is counted."""


class Passages:
    """What all such requests share."""

    def __init__(self, handler: Handler, metrics: Metrics) -> None:
        self._handler = handler
        self.metrics = metrics
        self._config: Config | None = None
        self._via = b""
        self._ways: dict[bytes, Way | None] = {}
        """By path; None where the answer may be stored."""
        self._named: dict[str, Way] = {}
        self._hosts: set[bytes] = set()
        self._answers: Often[Kept | None] = Often(answer_like)

    def begin(self, client: Client, shape: Shape, data: bytes, values: tuple[bytes, ...]) -> "Passage | None":
        """Pass a request on, if it is plain. `values` are those that count, the target first."""
        config = self._handler.config
        if config is not self._config:
            self._begin_anew(config)
        kept = shape.kept
        if kept is None:
            return None
        way = self._way(config, values[0].partition(b"?")[0])
        if way is None or not self._is_host(values[shape.host_at]):
            return None
        found = kept.pattern.fullmatch(data)
        if found is None or (taken := config.upstream.at_once()) is None:
            return None
        passage = Passage(self, client, way, taken)
        self.metrics.inflight += 1
        taken.send(b"%b%b\r\n" % (kept.kept(found), self._via), passage)
        return passage

    def _begin_anew(self, config: Config) -> None:
        self._config = config
        self._via = b"" if config.settings.transparent else b"Via: %b\r\n" % own_via()
        self._ways.clear()
        self._named.clear()

    def _way(self, config: Config, path: bytes) -> Way | None:
        try:
            return self._ways[path]
        except KeyError:
            pass
        match = config.routes.find("GET", path.decode("utf-8", "surrogateescape"))
        way = None
        if match is None or not match.route.caches:
            name = NO_ROUTE if match is None else match.route.name
            way = self._named.setdefault(name, Way(name))
        if len(self._ways) >= _MAX_KNOWN:
            self._ways.clear()
        if len(path) <= _LONG:
            self._ways[path] = way
        return way

    def _is_host(self, host: bytes) -> bool:
        if host in self._hosts:
            return True
        host = host.rstrip(b" \t")
        if not is_host(host):
            return False
        if len(self._hosts) >= _MAX_KNOWN:
            self._hosts.clear()
        if len(host) <= _LONG:
            self._hosts.add(host)
        return True

    def answer(self, data: bytes) -> tuple[int, bytes, bytes] | None:
        """Status, head without its closing line, and body of a plain answer that `data` is; else None."""
        for kept in self._answers.made.values():
            found = None if kept is None else kept.pattern.match(data)
            if kept is None or found is None:
                continue
            status = int(found[kept.status])
            body = data[found.end() :]
            if int(found[kept.length]) != len(body) or status in OUTAGES or status in _EMPTY:
                return None
            return status, kept.kept(found), body
        return None

    def learn(self, head: ResponseHead) -> None:
        """An answer that was not plain, or looks like none that is known yet."""
        self._answers.of(tuple(name for name, _ in head.fields))

    def said(self, way: Way, status: int) -> tuple[bytes, Cell]:
        """What we say about such an answer, and where it is counted."""
        found = way.cells.get(status)
        if found is None:
            handling = Handling(outcome=Outcome.BYPASS, forward="bypass", forward_status=status)
            said = self._handler.replies(0.0).said(handling)
            found = said, self.metrics.cell(way.name, "GET", status, Outcome.BYPASS)
            way.cells[status] = found
        return found

    def failed(self, way: Way, error: UpstreamError) -> Answer:
        return self._handler.failed(way.name, error, "bypass")

    async def go_on(self, way: Way, taken: AtOnce) -> Answer:
        """The answer that has begun and is not plain."""
        try:
            exchange = await taken.exchange(way.name)
        except UpstreamError as error:
            return self.failed(way, error)
        self.learn(exchange.head)
        return self._handler.live(way.name, exchange, "bypass", "")


class Passage:
    """One request, from when it was passed on until it is answered, or is no longer plain."""

    __slots__ = ("_client", "_ended", "_passages", "_started", "_taken", "_way")

    def __init__(self, passages: Passages, client: Client, way: Way, taken: AtOnce) -> None:
        self._passages = passages
        self._client = client
        self._way = way
        self._taken = taken
        self._started = monotonic()
        self._ended = False

    # -- the connection to the API calls these; one of those that tell how it ended, once --

    @property
    def informational(self) -> Callable[[ResponseHead], None]:
        """Where 1xx answers go."""
        return self._client.tell

    def came(self, data: bytes) -> bool:
        """Its first bytes. Whether that was all; if not, the connection reads them as it reads any."""
        passages, client = self._passages, self._client
        answer = passages.answer(data)
        passages.metrics.inflight -= 1
        if answer is None:
            client.pass_slowly(passages.go_on(self._way, self._taken))
            return False
        status, head, body = answer
        seconds = monotonic() - self._started
        self._taken.answered(self._way.name, status)
        said, cell = passages.said(self._way, status)
        cell.observe(seconds)
        client.passed(b"%b%b%b\r\n%b" % (head, said, b"" if client.stays else CLOSE, body))
        return True

    def lost(self) -> None:
        """The connection was closed before anything came: the API closes what is idle."""
        self._passages.metrics.inflight -= 1
        self.abandon()
        self._client.pass_slowly(None)

    def late(self, error: UpstreamError) -> None:
        """Nothing came in time."""
        self._passages.metrics.inflight -= 1
        self._ended = True
        self._taken.failed(self._way.name, error)
        self._client.pass_slowly(self._passages.failed(self._way, error))

    # -- the client calls these --

    def abandon(self) -> None:
        """Nobody wants the answer that has begun."""
        if not self._ended:
            self._ended = True
            self._taken.abandon()

    def leave(self) -> None:
        """Nobody wants the answer any more."""
        self._passages.metrics.inflight -= 1
        self.abandon()
