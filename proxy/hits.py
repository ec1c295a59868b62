"""Requests that memory answers: recognised by their bytes, answered with bytes that are ready.

What a request is answered with is decided by the handler, as for any other, and remembered for all requests that are the
same (`policy.relevant`), until anything may have changed: the second that Age and ttl speak of, the log of purges, the
entry in memory, the config.
"""

from math import floor
from time import clock_gettime, time
from typing import Protocol, cast

from proxy.handler import Handler, Lookup
from proxy.messages import Answer, Incoming
from proxy.metrics import Cell, Metrics
from proxy.policy.freshness import Times, odds
from proxy.policy.outcome import Outcome
from proxy.policy.relevant import is_relevant
from proxy.purge_log import CLOCK, PurgeLog
from proxy.shapes import Names, Often, Shape
from proxy.store.memory import Memory
from proxy.store.s3fifo import Node
from proxy.store.tiers import POPULAR, Copy
from proxy.wire.request import Limits
from proxy.writing import head_of

# Names that answers vary by, beside those of the routes. An API has a handful.
_MAX_VARYING = 32
# What a hit takes beside its head and the values that count (measured by tests/bench/memory.py).
_HIT_BYTES = 1200
_END = b"\r\n"

_STORED = frozenset({Outcome.HIT_MEMORY, Outcome.HIT_REDIS})

Values = tuple[bytes, ...]
"""The target of a request, and of its fields what counts."""


class Waiting(Protocol):
    """Whoever waits for Redis."""

    def looked(self, hit: "Hit", answer: Answer | None) -> None:
        """This is the answer; None: it's not as simple as that."""


_NOWHERE: Node[str, Copy] = Node("", cast("Copy", None), 0, 0.0)


class Hit:
    """What a request is answered with, and how long that holds."""

    __slots__ = (
        "answer",
        "body",
        "cell",
        "copy",
        "epoch",
        "fresh_until",
        "head",
        "incoming",
        "is_shared",
        "lookup",
        "luck",
        "node",
        "sign",
        "signpost",
        "since",
        "times",
        "told_at",
        "until",
        "waiting",
    )
    answer: Answer
    """Without its head and body."""
    cell: Cell
    times: Times

    def __init__(self, lookup: Lookup) -> None:
        self.lookup: Lookup | None = lookup
        """Of the request without the values that don't count; None when this is not to be used any more."""
        self.incoming = lookup.incoming
        self.head = self.body = b""
        self.since = self.until = 0.0
        """Between these (Unix seconds) the head is right."""
        self.told_at = 0
        """Where in the head that begins which changes with time."""
        self.fresh_until = 0.0
        """Until then nothing else does, if nothing happens."""
        self.epoch = -1
        self.copy = cast("Copy", None)
        self.node = _NOWHERE
        self.signpost = cast("Copy", None)
        """What led to the copy: the copy itself where it does not vary."""
        self.sign = _NOWHERE
        self.is_shared = False
        """Whether it came from Redis the last time that memory had nothing."""
        self.waiting: list[Waiting] | None = None
        """For whom Redis is being asked."""
        self.luck = 0.0
        """The odds that a request is the one to have the answer refreshed ahead of time; a little too high."""


class Hits:
    """All that is known of such requests, within a bound on bytes (`max_bytes`, which may be changed at any time)."""

    def __init__(
        self,
        handler: Handler,
        purge_log: PurgeLog,
        memory: Memory[Copy],
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self._handler = handler
        self.log = purge_log
        self.purges = purge_log.purges
        self._memory = memory
        self._metrics = metrics
        # No line and no field of what is shorter can be too long.
        self.max_head = min(limits.max_line, limits.max_field, limits.max_head)
        self.max_bytes = 16 * 1024 * 1024
        self._young: dict[tuple[Shape, Values], Hit] = {}
        self._old: dict[tuple[Shape, Values], Hit] = {}
        """What nobody has asked for since room was last made."""
        self._young_bytes = 0
        self._shapes = Often(self._shape)
        self._varying: frozenset[bytes] = frozenset()
        self.closed = False
        """Whether nothing is recognised any more."""

    def _shape(self, names: Names) -> Shape:
        method, *fields = names
        return Shape(method, tuple(fields), self._counts)

    def alike(self, data: bytes) -> tuple[Shape, Values] | None:
        """What the head `data` looks like, and its values that count."""
        if len(data) > self.max_head:
            return None
        for shape in self._shapes.made.values():
            if (found := shape.match(data)) is not None:
                return shape, found.groups()
        return None

    def find(self, shape: Shape, values: Values) -> Hit | None:
        """What is known of such a request."""
        key = (shape, values)
        hit = self._young.get(key)
        if hit is None and (hit := self._old.pop(key, None)) is not None:
            self._keep(key, hit)
        return hit

    def holds(self, hit: Hit, now: float) -> bool:
        """Whether a hit's head and body are the answer at `now`. If not, they may be after this; if so, it returns True."""
        return (
            hit.since <= now < hit.until
            and hit.epoch == self.purges.epoch
            and hit.node.value is hit.copy
            and hit.sign.value is hit.signpost
            and self.log.readable
            and clock_gettime(CLOCK) < self.log.trusted_until
        ) or self._renew(hit, now)

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
        lookup = hit.lookup
        if lookup is None:
            return False
        if hit.since <= now < hit.fresh_until and self._is_current(hit):
            # As it was, but for the second.
            self._tell_time(hit, now)
            return True
        copy = self._handler.fresh(lookup, now)
        if copy is None or not self._known_to_vary(copy):
            return False
        if copy is not hit.copy or not hit.since <= now < hit.until:
            self._render(hit, lookup, copy, now)
        sign = self._memory.node(lookup.text)
        node = self._memory.node(copy.entry.key)
        if sign is None or node is None:
            return False
        hit.copy, hit.node, hit.signpost, hit.sign = copy, node, sign.value, sign
        hit.epoch = self.purges.epoch
        return True

    def _known_to_vary(self, copy: Copy) -> bool:
        """Whether all that the answer varies by are values that count."""
        return all(self._counts(name.encode("latin-1")) for name in copy.entry.vary)

    def _render(self, hit: Hit, lookup: Lookup, copy: Copy, now: float) -> None:
        answer = self._handler.shown(lookup, copy, now)
        assert isinstance(answer.body, bytes)  # noqa: S101 - nothing that is stored is a stream
        hit.head, hit.body = head_of(answer), answer.body if lookup.incoming.method == "GET" else b""
        hit.cell = self._metrics.cell(
            answer.route, lookup.incoming.method, answer.status, answer.handling.outcome
        )
        answer.head = answer.body = b""
        hit.answer = answer
        hit.times = copy.entry.times(copy.standing.soft_at)
        hit.fresh_until = min(copy.until, hit.times.effective_fresh_until)
        hit.told_at = len(hit.head) - len(_END) - len(self._handler.replies(now).of_memory(hit.times))
        self._hold_until(hit, copy, now)

    def _tell_time(self, hit: Hit, now: float) -> None:
        told = self._handler.replies(now).of_memory(hit.times)
        hit.head = b"%b%b%b" % (hit.head[: hit.told_at], told, _END)
        self._hold_until(hit, hit.copy, now)

    @staticmethod
    def _hold_until(hit: Hit, copy: Copy, now: float) -> None:
        """Until the next second, as Age and ttl count them."""
        generated, fresh_until = hit.times.generated, hit.times.effective_fresh_until
        next_age = generated + floor(max(now - generated, 0.0)) + 1
        hit.since = now
        hit.until = min(hit.fresh_until, next_age, fresh_until - floor(fresh_until - now))
        hit.luck = 0.0
        if hit.until > copy.due_from and copy.hits >= POPULAR:
            every_s = (now - copy.since) / copy.hits
            hit.luck = odds(hit.times, took_s=copy.entry.took_s, every_s=every_s, now=hit.until)

    def ask_redis(self, hit: Hit, client: Waiting) -> bool:
        """Ask Redis for a hit that memory has no more, if that has it as far as is known. The `client` is told."""
        lookup = hit.lookup
        if lookup is None or not hit.is_shared:
            return False
        if hit.waiting is not None:
            hit.waiting.append(client)
            return True
        signpost = self._memory.peek(lookup.text)
        if signpost is not None and not self._known_to_vary(signpost):
            return False
        hit.waiting = [client]
        if not self._handler.look(lookup, lambda answer: self._looked(hit, answer)):
            hit.waiting = None
            return False
        return True

    def _looked(self, hit: Hit, answer: Answer | None) -> None:
        waiting, hit.waiting = hit.waiting or [], None
        hit.is_shared = answer is not None
        for client in waiting:
            client.looked(hit, answer)

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
        shape = self.shape_of(incoming)
        found = None if shape is None or len(data) > self.max_head else shape.match(data)
        if shape is None or found is None or outcome not in _STORED:
            return shape
        key, is_shared = (shape, found.groups()), outcome is Outcome.HIT_REDIS
        if (known := self.find(*key)) is not None:
            known.is_shared = known.is_shared or is_shared
            return shape
        fields = tuple(
            field if self._counts(field[0]) else blank
            for field, blank in zip(incoming.fields, shape.blank, strict=True)
        )
        slim = Incoming(method=incoming.method, target=incoming.target, fields=fields)
        lookup = self._handler.known(slim)
        if lookup is None:
            return shape
        hit, now = Hit(lookup), time()
        hit.is_shared = is_shared
        if is_shared or self._renew(hit, now):
            self._keep(key, hit)
        else:
            self._learn_to_vary(lookup, now)
        return shape

    def _counts(self, name: bytes) -> bool:
        return is_relevant(name, self._handler.config.routes.telling | self._varying)

    def _learn_to_vary(self, lookup: Lookup, now: float) -> None:
        """From now on the values count by which this answer varies."""
        copy = self._handler.fresh(lookup, now)
        names = () if copy is None else tuple(name.encode("latin-1") for name in copy.entry.vary)
        varying = self._varying.union(names)
        if varying != self._varying and len(varying) <= _MAX_VARYING:
            self.forget()
            self._varying = varying

    # -- room --

    def _keep(self, key: tuple[Shape, Values], hit: Hit) -> None:
        self._young[key] = hit
        self._young_bytes += _HIT_BYTES + len(hit.head) + sum(map(len, key[1]))
        if 2 * self._young_bytes > self.max_bytes:
            _end(self._old)
            self._old, self._young, self._young_bytes = self._young, self._old, 0

    def forget(self) -> None:
        """Recognise nothing until it was learned anew: the config has changed."""
        _end(self._young)
        _end(self._old)
        self._young_bytes = 0
        self._shapes.forget()
        self._varying = frozenset()

    def close(self) -> None:
        """Recognise nothing any more: connections are to be told to end."""
        self.closed = True
        self.forget()


def _end(hits: dict[tuple[Shape, Values], Hit]) -> None:
    for hit in hits.values():
        # A connection may still have it.
        hit.lookup, hit.until, hit.head, hit.body = None, 0.0, b"", b""
    hits.clear()
