"""That the values of all other fields are never looked at: whatever they are, a request is decided in the same way."""

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy import settings as options
from proxy.config import Config, hostless_urls
from proxy.handler import Handler, Lookup, _Passed
from proxy.leases import Leases
from proxy.messages import Answer, Incoming
from proxy.metrics import Metrics
from proxy.policy.outcome import FROM_MEMORY
from proxy.policy.relevant import READ, is_relevant
from proxy.policy.routes import RouteTable
from proxy.purge_log import PurgeLog
from proxy.store.memory import Memory
from proxy.store.tiers import Copy, Found, Tiers, variant_key
from proxy.tasks import Tasks
from proxy.upstream import Upstream
from proxy.wire.fields import Fields, block, from_block
from proxy.wire.request import BadRequest, Limits, parse_head
from tests.entries import an_entry

NOW = 1_800_000_000.0
_LIMITS = Limits(max_line=8190, max_field=8190, max_fields=128, max_head=65536)
_ROUTES = (
    options.Route(match="/plain/**", ttl=60.0),
    options.Route(match="/told/{by}", ttl=60.0, vary=("Accept-Language", "X-Tenant"), query=("a",)),
    options.Route(match="/own", ttl=60.0, per="Authorization"),
    options.Route(match="/named", ttl=60.0, per="X-User", unkeyed=("X-Forwarded-Proto",)),
    options.Route(match="/deaf", ttl=60.0, request_directives="ignore", query="sorted"),
    options.Route(match="/open", store=options.StorePolicy(authorization=True, cookie=True)),
    options.Route(match="/change", methods=("POST",)),
)
_TARGETS = (b"/plain/a", b"/told/a?b=1&a=2", b"/own", b"/named", b"/deaf?b&a", b"/open", b"/change", b"/none")
_VARIES = (b"accept", b"accept-encoding", b"origin")
"""By what an answer may vary, beside the routes' own: what varies by anything else is the handler's."""
_HOST = ((b"Host", b"a"),)
_ANSWER = (
    (b"ETag", b'"v1"'),
    (b"Last-Modified", b"Wed, 01 Jan 2020 00:00:00 GMT"),
    (b"Date", b"Fri, 15 Jan 2027 08:00:00 GMT"),
    (b"Content-Type", b"text/plain"),
)
_STORED = an_entry(NOW, lines=block(_ANSWER), body=b"0123456789")
_VARYING = an_entry(NOW, vary=tuple(name.decode() for name in _VARIES))


# -- what is decided of a request --


class Core:
    """A handler that nobody asks for more than a decision."""

    def __init__(self) -> None:
        wanted = options.Settings(
            upstream=options.Upstream(url="http://127.0.0.1:9"),
            routes=_ROUTES,
            warm=(options.Warm(name="any-host", path="/plain/warm"),),
        )
        metrics, tasks, routes = Metrics("1"), Tasks(), RouteTable.of(_ROUTES)
        hostless = hostless_urls(wanted.warm, routes)
        upstream = Upstream(wanted.upstream, metrics.upstream)
        memory: Memory[Copy] = Memory(max_bytes=2**20, max_object_bytes=2**20)
        log = PurgeLog(None, metrics, tasks)
        self.config = Config(settings=wanted, routes=routes, upstream=upstream, hostless=hostless)
        self.handler = Handler(
            self.config,
            Tiers(memory, None, log, lambda _: None),
            log,
            Leases(None, metrics, tasks),
            metrics,
            tasks=tasks,
            clock=lambda: NOW,
        )
        self.also = routes.telling

    def decision(self, method: bytes, target: bytes, fields: Fields) -> Any:
        """All that is decided before the API is asked, and what an answer from memory looks like."""
        lines = block(fields)
        try:
            head = parse_head(b"%b %b HTTP/1.1\r\n%b" % (method, target, lines), _LIMITS)
        except BadRequest as error:
            return error.status, str(error)
        incoming = Incoming(method=head.method, target=head.target, fields=head.fields)
        way = (head.body, head.length, head.keep_alive, head.expects_continue, head.websocket, head.target)
        match self.handler._asked_for(self.config, incoming):
            case Lookup() as lookup:
                return way, self._stored(lookup)
            case _Passed(match=match, forward=forward, detail=detail):
                return way, match and match.route.name, forward, detail
            case Answer() as answer:
                return way, answer.status, answer.head

    def _stored(self, lookup: Lookup) -> Any:
        incoming = lookup.incoming
        known = self.handler.known(incoming)
        shown = self.handler.replies(NOW).stored(incoming, Found(entry=_STORED), FROM_MEMORY, route="r")
        return (
            None if known is None else (known.text, known.asked.personal),
            (lookup.text, lookup.wanted, lookup.asked, lookup.is_partial, lookup.part is None),
            variant_key(lookup.text, _VARYING, incoming.fields),
            (shown.status, shown.head, shown.body),
        )

    def less(self, fields: Fields) -> Fields:
        """The fields without the values that don't count."""
        return tuple((name, value if is_relevant(name, self.also) else b"") for name, value in fields)


@pytest.fixture(scope="module")
def core() -> Core:
    return Core()


# -- whatever a header may be called, and say --


def _literals() -> Iterator[bytes]:
    """Every word that stands as bytes in what reads requests: what a header could be called, or say."""
    source = Path(__file__).parents[3] / "proxy"
    files = [*source.glob("policy/*.py"), *source.glob("wire/*.py"), source / "handler.py"]
    files.append(source / "replies.py")
    for path in sorted(files):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                yield from node.value.split()


_WORDS = sorted(
    {word.rstrip(b":").lower() for word in _literals() if re.fullmatch(rb"[A-Za-z][A-Za-z0-9-]+:?", word)}
)
_NAMES = sorted(
    {*_WORDS, *READ, b"x-trace", b"x-forwarded-host", b"x-forwarded-proto", b"x-tenant", b"x-user", b"x-a"}
)
_VALUES = (
    *(b"*", b"0", b"1", b"12", b"a", b"a, b", b'"v1"', b'W/"v1"', b'"v2", "v1"', b"bytes=0-1", b"bytes=90-"),
    *(b"Wed, 01 Jan 2020 00:00:00 GMT", b"Wed, 01 Jan 2019 00:00:00 GMT", b"Fri, 15 Jan 2027 08:00:00 GMT"),
    *(b"close", b"keep-alive", b"upgrade", b"x-a", b"host", b"100-continue", b"websocket", b"chunked"),
    *(b"no-store", b"no-cache", b"max-age=0", b"only-if-cached", b"max-stale", b"min-fresh=90"),
    *(b"1.1 crowdgate, " * 12, b"for=1;host=b", b"POST", b"/other", b"Bearer t", b"\xe9", b"a" * 2000),
    b"a" * 5000,
)
_BESIDE: tuple[Fields, ...] = (
    (),
    ((b"Range", b"bytes=2-3"),),
    ((b"Connection", b"upgrade, x-a"), (b"Upgrade", b"websocket")),
    ((b"Authorization", b"Bearer t"), (b"Cookie", b"a=b"), (b"Origin", b"http://a")),
    ((b"If-None-Match", b'"v0"'), (b"Cache-Control", b"max-age=5")),
)
"""Fields that may make others count."""


def _with(name: bytes, value: bytes, beside: Fields) -> Fields:
    host: Fields = () if name == b"host" else _HOST
    return (*host, *beside, (name, value))


def _cases() -> Iterator[tuple[bytes, bytes, Fields]]:
    """Every name with every value, once alone; with those that mean something, beside all the others."""
    for name in _NAMES:
        for value in _WORDS:
            yield name, value, ()
        for value, beside in product(_VALUES, _BESIDE):
            yield name, value, beside


def _counting(core: Core, names: frozenset[bytes], target: bytes) -> set[bytes]:
    """Those of the names whose values are looked at."""
    found: set[bytes] = set()
    blank: dict[tuple[bytes, Fields], Any] = {}
    for name, value, beside in _cases():
        if name not in names or name in found:
            continue
        if (name, beside) not in blank:
            blank[name, beside] = core.decision(b"GET", target, _with(name, b"", beside))
        if core.decision(b"GET", target, _with(name, value, beside)) != blank[name, beside]:
            found.add(name)
    return found


# Whoever adds a header to what is read has to add its name to `relevant.READ`: this is the test that says so.
def test_no_other_value_counts(core: Core) -> None:
    others = frozenset(name for name in _NAMES if not is_relevant(name, core.also))
    assert len(others) > 50

    assert _counting(core, others, b"/plain/a") == set()


# That they are sent is enough for what they do.
_BY_PRESENCE = {b"if-match", b"if-unmodified-since"}


def test_every_value_that_is_named_counts_so_this_would_be_seen_if_one_were_not(core: Core) -> None:
    named = READ - _BY_PRESENCE | {b"forwarded", b"x-forwarded-host", b"x-host"}

    assert named - _counting(core, named, b"/plain/a") == set()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param(b"accept-language", b"/told/a", id="vary"),
        pytest.param(b"x-tenant", b"/told/a", id="vary, a name of our own"),
        pytest.param(b"authorization", b"/own", id="per"),
        pytest.param(b"x-user", b"/named", id="per, a name of our own"),
    ],
)
def test_what_routes_tell_requests_apart_by_counts_on_all_of_them(
    core: Core, name: bytes, target: bytes
) -> None:
    assert is_relevant(name, core.also)
    assert not is_relevant(name, frozenset())
    assert _counting(core, frozenset({name}), target) == {name}
    assert _counting(core, frozenset({name}), b"/plain/a") == set()


# -- and many at once --


def _spelt(name: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from(sorted({name, name.title(), name.upper(), name.replace(b"-", b"_")}))


_TOKENS = st.text("abcxyzABC019-_.!", min_size=1, max_size=12).map(str.encode)
_ANY_NAME = st.sampled_from(_NAMES).flatmap(_spelt) | _TOKENS
_PRINTED = bytes({*range(0x20, 0x7F), *range(0x80, 0x100), 9})
_TEXT = st.lists(st.sampled_from(_PRINTED), max_size=20).map(bytes)
_ANY_VALUE = (st.sampled_from(_VALUES) | st.sampled_from(_WORDS) | _TEXT).map(lambda said: said.strip(b" \t"))
_ANY_FIELDS = st.lists(st.tuples(_ANY_NAME, _ANY_VALUE), max_size=8).map(tuple)


@settings(max_examples=800, deadline=None, derandomize=True, database=None)
@example(
    method=b"GET", target=b"/plain/a", fields=((b"IF-none-match", b'"v1"'), (b"Cookie", b"a")), other=b""
)
@given(
    method=st.sampled_from((b"GET", b"HEAD")),
    target=st.sampled_from(_TARGETS),
    fields=_ANY_FIELDS,
    other=_ANY_VALUE,
)
def test_requests_that_are_the_same_but_for_other_values_are_decided_in_the_same_way(
    core: Core, method: bytes, target: bytes, fields: Fields, other: bytes
) -> None:
    fields = (*_HOST, *fields)
    decided = core.decision(method, target, fields)
    replaced = tuple((name, value if is_relevant(name, core.also) else other) for name, value in fields)

    assert decided == core.decision(method, target, core.less(fields))
    assert decided == core.decision(method, target, replaced)


@given(name=_TOKENS)
def test_case_changes_nothing(name: bytes) -> None:
    also = frozenset({name.lower()})

    assert is_relevant(name, also)
    assert is_relevant(name.upper(), frozenset()) == is_relevant(name.lower(), frozenset())


@pytest.mark.parametrize("name", [b"X_Forwarded_Host", b"x-FORWARDED_host", b"X_Host"])
def test_what_gateways_take_for_a_name_that_counts_counts(name: bytes) -> None:
    assert is_relevant(name, frozenset())


@pytest.mark.parametrize(
    "name", [b"X-Forwarded-For", b"Traceparent", b"User-Agent", b"Cookie", b"Accept-Language"]
)
def test_who_asks_does_not(name: bytes) -> None:
    assert not is_relevant(name, frozenset())


def test_a_block_of_fields_is_what_it_is_made_of() -> None:
    # What the decision is made of, above, is what was meant.
    assert from_block(block(_ANSWER)) == _ANSWER
