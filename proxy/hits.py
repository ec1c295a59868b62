"""Requests that memory answers: recognised by their bytes, answered with bytes that are ready.

What a request is answered with is decided by the handler, as for any other, and remembered for all requests that are the
same (`policy.relevant`), until anything may have changed: the second that Age and ttl speak of, the log of purges, the
entry in memory, the config.
"""

from math import floor
from time import clock_gettime, time
from typing import Protocol, cast

import msgspec

from proxy import settings
from proxy.handler import Handler
from proxy.logs import Logger
from proxy.messages import Answer, Incoming
from proxy.metrics import Cell, Metrics
from proxy.policy import freshness
from proxy.policy.freshness import ANYTHING, Times, Use, odds
from proxy.policy.outcome import FROM_MEMORY, FROM_REDIS, Handling, Outcome
from proxy.policy.relevant import is_relevant
from proxy.policy.routes import Route
from proxy.purge_log import CLOCK, PurgeLog
from proxy.shapes import Names, Often, Shape
from proxy.store.entry import Beginning, beginning
from proxy.store.s3fifo import MAX_USES, S3FIFO, Node
from proxy.store.tiers import POPULAR, Copy, Found, Raw, Tiers, variant_key
from proxy.wire.request import Limits
from proxy.writing import head_of

log = Logger(__name__)

# What a hit takes beside its head and its target (measured by tests/bench/memory.py).
_HIT_BYTES = 930
# What it takes to know an answer of Redis, its head included.
_SHARED_BYTES = 700
# A browser's is 1 to 2 KiB. To try 32 expressions on a longer one would cost more than to read it.
_MAX_HEAD = 4096
# The values of Host, Accept-Encoding and so on: hits share them.
_MAX_FIELDS = 2000
_LONG = 256
_END = b"\r\n"

_STORED = frozenset({Outcome.HIT_MEMORY, Outcome.HIT_REDIS})

Values = tuple[bytes, ...]
"""The target of a request, and of its fields what counts."""


class Waiting(Protocol):
    """Whoever waits for Redis."""

    def looked(self, hit: "Hit", reply: bytes | None) -> None:
        """This is the answer, whole; None: it's not as simple as that."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A request, as far as it takes to answer its like from what is stored."""

    incoming: Incoming
    """Without the values that don't count."""
    text: str
    """Its key."""
    route: Route
    personal: bool
    """Whether only what the API says may be shared is for it."""


class Told:
    """The head of an answer, which is right for some time."""

    __slots__ = ("answer", "cell", "epoch", "fresh_until", "head", "since", "times", "told_at", "until")
    answer: Answer
    """Without its head and body."""
    cell: Cell
    times: Times

    def __init__(self) -> None:
        self.head = b""
        self.since = self.until = 0.0
        """Between these (Unix seconds) the head is right."""
        self.told_at = 0
        """Where in the head that begins which changes with time."""
        self.fresh_until = 0.0
        """Until then nothing else does, if nothing happens."""
        self.epoch = -1


class Shared(Told):
    """An answer that Redis has and memory has not: all but its body."""

    __slots__ = ("begins", "key")

    def __init__(self, key: str, begins: Beginning) -> None:
        super().__init__()
        self.key = key
        self.begins = begins


_NOWHERE: Node[str, Copy] = Node("", cast("Copy", None), 0, 0.0)


class Hit(Told):
    """What a request is answered with, and how long that holds."""

    __slots__ = (
        "body",
        "copy",
        "is_shared",
        "known",
        "luck",
        "node",
        "shared",
        "sign",
        "signpost",
        "waiting",
    )

    def __init__(self, known: Known) -> None:
        super().__init__()
        self.known: Known | None = known
        """None when this is not to be used any more."""
        self.body = b""
        self.copy = cast("Copy", None)
        self.node = _NOWHERE
        self.signpost = cast("Copy", None)
        """What led to the copy: the copy itself where it does not vary."""
        self.sign = _NOWHERE
        self.is_shared = False
        """Whether it came from Redis the last time that memory had nothing."""
        self.shared: Shared | None = None
        self.waiting: list[Waiting] | None = None
        """For whom Redis is being asked."""
        self.luck = 0.0
        """The odds that a request is the one to have the answer refreshed ahead of time; a little too high."""

    def end(self) -> None:
        """Not to be used any more, though a connection may still have it."""
        self.known, self.shared, self.until, self.head, self.body = None, None, 0.0, b"", b""


class _Table(S3FIFO[tuple[Shape, Values], Hit]):
    """Of all hits those that are asked for."""

    def popitem(self) -> tuple[tuple[Shape, Values], Hit]:
        key, hit = super().popitem()
        hit.end()
        return key, hit


class Hits:
    """All that is known of such requests, within a bound on bytes."""

    def __init__(
        self, handler: Handler, tiers: Tiers, purge_log: PurgeLog, metrics: Metrics, limits: Limits
    ) -> None:
        self._handler = handler
        self._tiers = tiers
        self.log = purge_log
        self.purges = purge_log.purges
        self._metrics = metrics
        # No line and no field of what is shorter can be too long.
        self.max_head = min(_MAX_HEAD, limits.max_line, limits.max_field, limits.max_head)
        self._table = _Table(settings.Memory().ready_size)
        self._shapes = Often(self._shape, lambda shape: shape.uses)
        self._telling: frozenset[bytes] = frozenset()
        """By which headers, beside those that always count, routes tell requests apart."""
        self._fields: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}
        self._answers: dict[tuple[str, int, Handling], Answer] = {}
        self.closed = False
        """Whether nothing is recognised any more."""

    def _shape(self, names: Names) -> Shape:
        method, *fields = names
        return Shape(method, tuple(fields), self._counts)

    def alike(self, data: bytes) -> tuple[Shape, Values] | None:
        """What the head `data` looks like, and its values that count."""
        if len(data) > self.max_head:
            return None
        lines = data.count(b"\r\n")
        for shape in self._shapes.made.values():
            if shape.lines == lines and (found := shape.match(data)) is not None:
                return shape, found.groups()
        return None

    def find(self, shape: Shape, values: Values) -> Hit | None:
        """What is known of such a request."""
        shape.uses += 1
        node = self._table.nodes.get((shape, values))
        if node is None:
            return None
        if node.uses < MAX_USES:
            node.uses += 1
        return node.value

    def holds(self, hit: Hit, now: float) -> bool:
        """Whether a hit's head and body are the answer at `now`. If not, they may be after this; if so, it returns True."""
        return (hit.since <= now < hit.until and self._is_current(hit)) or self._renew(hit, now)

    def _is_current(self, hit: Hit) -> bool:
        """Whether nothing has changed but the time."""
        return (
            hit.epoch == self.purges.epoch
            and hit.node.value is hit.copy
            and hit.sign.value is hit.signpost
            and self.log.readable
            and clock_gettime(CLOCK) < self.log.trusted_until
        )

    def _renew(self, hit: Hit, now: float) -> bool:
        known = hit.known
        # Of a route that keeps nothing in memory there's nothing to look for.
        if known is None or not known.route.settings.memory:
            return False
        if hit.since <= now < hit.fresh_until and self._is_current(hit):
            # As it was, but for the second.
            self._tell_time(hit, FROM_MEMORY, now)
            self._chance(hit, hit.copy, now)
            return True
        copy = self._fresh(known, now)
        if copy is None or not self._known_to_vary(copy):
            return False
        if copy is not hit.copy or not hit.since <= now < hit.until:
            self._render(hit, known, copy, now)
            if hit.body and hit.body is not copy.entry.body:
                # A part of it, which would take memory of its own.
                hit.end()
                return False
        memory = self._tiers.memory
        sign, node = memory.node(known.text), memory.node(copy.entry.key)
        if sign is None or node is None:
            return False
        hit.copy, hit.node, hit.signpost, hit.sign = copy, node, sign.value, sign
        hit.epoch = self.purges.epoch
        return True

    def _fresh(self, known: Known, now: float) -> Copy | None:
        """The copy in memory that answers a request without more ado."""
        copy = self._tiers.copy_for(known.text, known.incoming.fields, now)
        return copy if copy is not None and self._is_for(known, _found(copy), now) else None

    def _known_to_vary(self, copy: Copy) -> bool:
        """Whether all that the answer varies by are values that count. Where they don't, the handler answers."""
        return all(self._counts(name.encode("latin-1")) for name in copy.entry.vary)

    def _render(self, hit: Hit, known: Known, copy: Copy, now: float) -> None:
        body = self._tell(hit, known, _found(copy), FROM_MEMORY, now)
        hit.body = body if known.incoming.method == "GET" else b""
        hit.fresh_until = min(hit.fresh_until, copy.until)
        _hold_until(hit, now)
        self._chance(hit, copy, now)

    def _tell(self, told: Told, known: Known, found: Found, handling: Handling, now: float) -> bytes:
        """Have the head of an answer ready. Returns its body."""
        replies, route = self._handler.replies(now), known.route.name
        answer = replies.stored(known.incoming, found, handling, route=route)
        body = cast("bytes", answer.body)
        told.head = head_of(answer)
        told.cell = self._metrics.cell(route, known.incoming.method, answer.status, handling.outcome)
        told.times = found.times
        told.fresh_until = told.times.effective_fresh_until
        told.told_at = len(told.head) - len(_END) - len(replies.of_store(told.times, handling))
        told.epoch = self.purges.epoch
        answer.head = answer.body = b""
        # Those of a route are all alike.
        told.answer = self._answers.setdefault((route, answer.status, handling), answer)
        _hold_until(told, now)
        return body

    def _tell_time(self, told: Told, handling: Handling, now: float) -> None:
        """Have the head say how old the answer is now."""
        said = self._handler.replies(now).of_store(told.times, handling)
        told.head = b"%b%b%b" % (told.head[: told.told_at], said, _END)
        _hold_until(told, now)

    @staticmethod
    def _chance(hit: Hit, copy: Copy, now: float) -> None:
        hit.luck = 0.0
        if hit.until > copy.due_from and copy.hits >= POPULAR:
            every_s = (now - copy.since) / copy.hits
            hit.luck = odds(hit.times, took_s=copy.entry.took_s, every_s=every_s, now=hit.until)

    # -- from Redis --

    def ask_redis(self, hit: Hit, client: Waiting) -> bool:
        """Ask Redis for a hit that memory has no more, if that has it as far as is known. The `client` is told."""
        known = hit.known
        if known is None or not hit.is_shared:
            return False
        if hit.waiting is not None:
            hit.waiting.append(client)
            return True
        signpost = self._tiers.memory.peek(known.text)
        if signpost is not None and not self._known_to_vary(signpost):
            return False
        hit.waiting = [client]
        fields = known.incoming.fields
        if not self._tiers.look(
            known.text, fields, known.route, lambda key, raw: self._looked(hit, key, raw)
        ):
            hit.waiting = None
            return False
        return True

    def _looked(self, hit: Hit, key: str, raw: Raw | None) -> None:
        waiting, hit.waiting = hit.waiting or [], None
        known, reply = hit.known, None
        if known is not None and raw is not None:
            now = time()
            reply = self._as_before(hit.shared, key, raw, now) or self._anew(hit, known, key, raw, now)
        hit.is_shared = reply is not None
        for client in waiting:
            try:
                client.looked(hit, reply)
            except Exception as error:
                # The others wait as well.
                log.error("defect while answering", exc_info=error)  # noqa: TRY400 - our own logger

    def _as_before(self, shared: Shared | None, key: str, raw: Raw, now: float) -> bytes | None:
        """The answer, if it is the one that Redis had the last time."""
        if shared is None or shared.key != key or not shared.since <= now < shared.fresh_until:
            return None
        if shared.epoch != self.purges.epoch or not self.log.readable or self.log.in_doubt:
            return None
        body = self._tiers.body_of(raw, shared.begins)
        if body is None:
            return None
        if now >= shared.until:
            self._tell_time(shared, FROM_REDIS, now)
        return shared.head + body

    def _anew(self, hit: Hit, known: Known, key: str, raw: Raw, now: float) -> bytes | None:
        found = self._tiers.found_in(key, raw, known.route)
        if found is None or not self._is_for(known, found, now):
            return None
        shared = hit.shared = Shared(key, beginning(raw[0]))
        body = self._tell(shared, known, found, FROM_REDIS, now)
        if known.incoming.method == "HEAD":
            body = b""
        if body is not found.entry.body or known.route.settings.memory:
            # It's not all of it, or memory has it from now on.
            shared.fresh_until = 0.0
        return shared.head + body

    @staticmethod
    def _is_for(known: Known, found: Found, now: float) -> bool:
        entry = found.entry
        if known.personal and not entry.explicit:
            return False
        if entry.vary and entry.key != variant_key(known.text, entry, known.incoming.fields):
            return False
        return freshness.use(found.times, ANYTHING, now) is Use.FRESH

    def chosen(self, incoming: Incoming, chance: float) -> None:
        """A request that is answered so may be the one to have its answer refreshed (see `Handler.chosen`)."""
        self._handler.chosen(incoming, chance)

    # -- learning --

    def shape_of(self, incoming: Incoming) -> Shape | None:
        """What a request looks like, if such requests come often. To be called for each that was not recognised."""
        if self.closed:
            return None
        return self._shapes.of((incoming.method.encode(), *(name for name, _ in incoming.fields)))

    def learn(self, data: bytes, incoming: Incoming, outcome: Outcome) -> Shape | None:
        """Recognise such requests from now on, if they come often. This one, with this head, has just been answered so."""
        if len(data) > self.max_head:
            return None
        shape = self.shape_of(incoming)
        found = None if shape is None else shape.match(data)
        if shape is None or found is None or outcome not in _STORED:
            return shape
        values, is_shared = found.groups(), outcome is Outcome.HIT_REDIS
        if (hit := self.find(shape, values)) is not None:
            hit.is_shared = hit.is_shared or is_shared
            return shape
        known = self._known(shape, incoming)
        if known is None:
            return shape
        counted = [
            field[1] for field, counts in zip(known.incoming.fields, shape.counts, strict=True) if counts
        ]
        if values == (known.incoming.target, *counted):
            # The same, of which there is only one in memory.
            values = (known.incoming.target, *counted)
        hit, now = Hit(known), time()
        hit.is_shared = is_shared
        if is_shared or self._renew(hit, now):
            # Twice, where the values are not those of the fields that are kept.
            size = _HIT_BYTES + len(hit.head) + sum(map(len, (*values, *counted))) + is_shared * _SHARED_BYTES
            if size <= self._table.maxsize:
                self._table.admit((shape, values), hit, size)
        return shape

    def _known(self, shape: Shape, incoming: Incoming) -> Known | None:
        fields = tuple(
            self._one(field) if counts else blank
            for field, counts, blank in zip(incoming.fields, shape.counts, shape.blank, strict=True)
        )
        slim = Incoming(method=incoming.method, target=incoming.target, fields=fields)
        lookup = self._handler.known(slim)
        if lookup is None:
            return None
        # Another one: the path, which the first was asked for, stays with it.
        slim = Incoming(method=incoming.method, target=incoming.target, fields=fields)
        kept = self._tiers.memory.node(lookup.text)
        text = lookup.text if kept is None else kept.key
        return Known(incoming=slim, text=text, route=lookup.route, personal=lookup.asked.personal)

    def _one(self, field: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """The same field for all who send it."""
        if len(field[1]) > _LONG:
            return field
        if len(self._fields) >= _MAX_FIELDS:
            self._fields.clear()
        return self._fields.setdefault(field, field)

    def _counts(self, name: bytes) -> bool:
        return is_relevant(name, self._telling)

    def forget(self) -> None:
        """Recognise nothing until it was learned anew: the config has changed."""
        config = self._handler.config
        for node in self._table.nodes.values():
            node.value.end()
        self._table.clear()
        self._table.resize(config.settings.memory.ready_size)
        self._shapes.forget()
        self._fields.clear()
        self._answers.clear()
        self._telling = config.routes.telling

    def close(self) -> None:
        """Recognise nothing any more: connections are to be told to end."""
        self.closed = True
        self.forget()


def _found(copy: Copy) -> Found:
    return Found(entry=copy.entry, soft_purged=copy.standing.soft_at)


def _hold_until(told: Told, now: float) -> None:
    """Until the next second, as Age and ttl count them."""
    generated, fresh_until = told.times.generated, told.times.effective_fresh_until
    next_age = generated + floor(max(now - generated, 0.0)) + 1
    told.since = now
    told.until = min(told.fresh_until, next_age, fresh_until - floor(fresh_until - now))
