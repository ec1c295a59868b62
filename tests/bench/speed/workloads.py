"""What is measured: each workload starts its servers, proves that they answer rightly, and measures in rounds by turns."""

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tests import servers
from tests.bench.speed import asked, clients, configs, load, machine, peers
from tests.bench.speed.configs import Job, Kind
from tests.bench.speed.figures import Burst, Memory, Pace, Round, middle
from tests.bench.speed.peers import CROWDGATE, HAPROXY, NGINX, REDIS_PY, VARNISH
from tests.bench.speed.programs import Program
from tests.bench.speed.slow_origin import COUNT_PATH
from tests.bench.speed.table import SATURATED

PROXIES = (NGINX, VARNISH, HAPROXY, CROWDGATE)
_FEW = 5
"""So many requests may reach the API in a round of hits: an entry that expires is fetched once."""
_DRAWS = 500_000
_CROWD = 1000
_OBJECTS = 20_000
_STARTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How much is measured, of whom, and where."""

    where: peers.Place
    cores: machine.Cores
    rounds: int
    seconds: int
    connections: int
    names: Sequence[str]
    """The servers that were asked for and are installed."""
    failures: dict[str, str] = field(default_factory=dict)
    """What went wrong, by workload and server. A server that fails has no figures; the others have theirs."""

    @property
    def generator(self) -> load.Generator:
        return load.Generator(core=self.cores.load, connections=self.connections)

    def those_of(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self.names]

    @contextmanager
    def forgiving(self, server: str) -> Iterator[None]:
        """What goes wrong within is that server's failure, and not the end."""
        try:
            yield
        except (RuntimeError, OSError, EOFError) as problem:
            self.failures[server] = f"{type(problem).__name__}: {problem}"
            say(f"  FAILED: {server}: {problem}")


Rows = dict[str, dict[str, Any]]
"""The figures of each server."""
R = TypeVar("R", Round, Pace, Burst)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Something to measure."""

    name: str
    title: str
    measure: Callable[[Bench], Rows]


# -- as fast as answers come --


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """Requests as fast as answers come, from `connections` clients."""

    kind: Kind
    template: bytes
    draws: list[int] | None = None
    """The keys, in the order in which they are asked for; without it, one."""
    names: Sequence[str] = PROXIES

    @property
    def keys(self) -> list[int]:
        return sorted(set(self.draws)) if self.draws else [asked.HOT_KEY]


def saturation(what: Saturation) -> Callable[[Bench], Rows]:
    return lambda bench: _saturated(bench, what)


def _saturated(bench: Bench, what: Saturation) -> Rows:
    files = load.asked_for(bench.where, what.template, what.draws)
    with _site(bench, what.kind) as site, ExitStack() as stack:

        def prepare(server: Program) -> None:
            clients.answers(server.port, [asked.one(what.template, key) for key in what.keys])
            _check(server, site, what)
            # What adapts to its load, and files that are opened once, do it now.
            bench.generator.saturate(server, files, min(2, bench.seconds))

        running = _running(bench, stack, bench.those_of(what.names), site.job, prepare)
        rounds = _by_turns(bench, running, lambda server: _round(bench, server, site, what, files))
        for server in running:
            with bench.forgiving(server.name):
                _check(server, site, what)
    return _middles(bench, rounds)


def _round(bench: Bench, server: Program, site: "Site", what: Saturation, files: load.Asked) -> Round:
    origin_before, redis_before = site.settled_requests(), site.redis_commands()
    found = bench.generator.saturate(server, files, bench.seconds)
    reached = site.origin_requests() - origin_before
    return replace(
        found,
        errors=found.errors + _unlike(what.kind, found.requests, reached),
        origin_requests=reached,
        redis_commands=site.redis_commands() - redis_before,
    )


def _unlike(kind: Kind, requests: int, reached: int) -> int:
    """How many requests were not what they are measured as: hits, or passed on."""
    if kind is Kind.PASS:
        return max(0, requests - reached)
    return reached if reached > _FEW else 0


def _check(server: Program, site: "Site", what: Saturation) -> None:
    """Answers are the API's own, byte for byte, and hits are hits."""
    chosen = what.keys[:: max(1, len(what.keys) // 50)]
    requests = [asked.one(what.template, key) for key in chosen]
    expected = [response.brief for response in clients.answers(site.origin.port, requests)]
    before = site.settled_requests()
    found = [response.brief for response in clients.answers(server.port, requests)]
    reached = site.origin_requests() - before
    if found != expected or {status for status, _ in found} != {200}:
        raise RuntimeError(f"{server.name} answers otherwise than the API")
    if reached != (len(requests) if what.kind is Kind.PASS else 0):
        raise RuntimeError(f"{server.name}: {reached} of {len(requests)} requests reached the API")


# -- latency --


def latency(bench: Bench) -> Rows:
    """Hits at half of what the slower of nginx and crowdgate can do; others at half of their own, if that is less."""
    what = Saturation(kind=Kind.CACHE, template=asked.get())
    files = load.asked_for(bench.where, what.template)
    most: dict[str, float] = {}
    with _site(bench, what.kind) as site, ExitStack() as stack:

        def prepare(server: Program) -> None:
            clients.answers(server.port, [asked.one(what.template)])
            _check(server, site, what)
            most[server.name] = bench.generator.saturate(server, files, bench.seconds).requests_per_s

        running = _running(bench, stack, bench.those_of(what.names), site.job, prepare)
        common = min(most.get(NGINX, float("inf")), most.get(CROWDGATE, float("inf")))

        def paced(server: Program) -> Pace:
            rate = round(min(common, most[server.name]) / 2)
            return bench.generator.pace(server, files, rate=rate, seconds=bench.seconds)

        rounds = _by_turns(bench, running, paced)
    return {
        name: {**row, "saturation_requests_per_s": most[name]}
        for name, row in _middles(bench, rounds).items()
    }


# -- a cold start --


def burst(bench: Bench) -> Rows:
    """A crowd asks at once for one key that nobody has asked for before."""
    template = asked.get(traced=True)
    keys = iter(range(asked.FIRST_KEY, asked.FIRST_KEY + asked.KEYS))
    origin = peers.slow_origin(bench.where, bench.cores.origin)
    with ExitStack() as stack:
        stack.callback(origin.stop)
        job = Job(kind=Kind.CACHE, origin_port=origin.start().port)
        running = _running(bench, stack, bench.those_of(PROXIES), job, lambda _: None)

        def asked_so_far() -> int:
            request = b"GET %b HTTP/1.1\r\nHost: origin\r\n\r\n" % COUNT_PATH
            return int(clients.answers(origin.port, [request])[0].body)

        def come(server: Program) -> Burst:
            before = asked_so_far()
            found = clients.crowd(server.port, asked.one(template, next(keys)), configs.END_OF_BODY, _CROWD)
            return replace(found, origin_requests=asked_so_far() - before)

        rounds = _by_turns(bench, running, come)
    return _middles(bench, rounds)


# -- memory --


def memory(bench: Bench) -> Rows:
    """Of the idle process, and per answer of 1 KiB; and how soon a process is ready."""
    found: Rows = {}
    for name in bench.those_of(PROXIES):
        say(f"  {name}")
        with bench.forgiving(name), _site(bench, Kind.CACHE) as site:
            ready_s = _ready_s(bench, name, site.job)
            with _started(bench, name, site.job) as server:
                found[name] = middle([replace(_filled(server), ready_s=ready_s)])
    return found


def _filled(server: Program) -> Memory:
    template = asked.get()
    # What is done once, after the start, is over.
    time.sleep(1)
    idle_bytes = machine.resident_bytes(server.pids)
    # What serving takes, and not storing: buffers, connections, code that is loaded late.
    clients.answers(server.port, [asked.one(template)] * 2000)
    before = machine.resident_bytes(server.pids) + server.cache_bytes
    clients.answers(server.port, [asked.one(template, key) for key in range(20_000, 20_000 + _OBJECTS)])
    time.sleep(1)
    grown = machine.resident_bytes(server.pids) + server.cache_bytes - before
    return Memory(
        idle_bytes=idle_bytes,
        bytes_per_object=None if server.name == HAPROXY else grown / _OBJECTS,
        objects=_OBJECTS,
        ready_s=None,
    )


def _ready_s(bench: Bench, name: str, job: Job) -> float | None:
    """Median of some starts, from the start of the process until it says that it is ready."""
    took: list[float] = []
    for _ in range(_STARTS):
        server = peers.peer(name, job, bench.where, bench.cores.server)
        if server.command.admin_port is None:
            return None
        started = time.monotonic()
        server.launch()
        try:
            while not _is_ready(server.command.admin_port):
                if time.monotonic() - started > 20:
                    raise RuntimeError(f"{name} does not become ready")
                time.sleep(0.002)
            took.append(time.monotonic() - started)
        finally:
            server.stop()
    return sorted(took)[len(took) // 2]


def _is_ready(port: int) -> bool:
    try:
        return clients.answers(port, [b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])[0].status == 200
    except OSError:
        return False


# -- what all share --


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is behind the servers."""

    origin: Program
    redis: servers.Server | None
    kind: Kind
    questions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """How often it was asked for its count, which counts too."""

    @property
    def job(self) -> Job:
        redis_port = None if self.redis is None else self.redis.port
        return Job(kind=self.kind, origin_port=self.origin.port, redis_port=redis_port)

    def origin_requests(self) -> int:
        """How many the API has answered, this question apart."""
        request = b"GET /origin-status HTTP/1.1\r\nHost: origin\r\n\r\n"
        body = clients.answers(self.origin.port, [request])[0].body
        # Active connections: N, server accepts handled requests: N N N
        return int(body.split()[9]) - next(self.questions)

    def settled_requests(self) -> int:
        """The same, once what wrk left in flight at its end is through."""
        found = -1
        while found != (now := self.origin_requests()):
            found = now
            time.sleep(0.1)
        return found

    def redis_commands(self) -> int:
        return 0 if self.redis is None else int(self.redis.info("stats")["total_commands_processed"])


@contextmanager
def _site(bench: Bench, kind: Kind) -> Iterator[Site]:
    with ExitStack() as stack:
        redis = None
        if kind is Kind.REDIS:
            redis = stack.enter_context(servers.redis())
            os.sched_setaffinity(redis.pid, {bench.cores.redis})
        origin = peers.origin(bench.where, bench.cores.origin)
        stack.callback(origin.stop)
        yield Site(origin=origin.start(), redis=redis, kind=kind)


@contextmanager
def _started(bench: Bench, name: str, job: Job) -> Iterator[Program]:
    server = peers.peer(name, job, bench.where, bench.cores.server)
    try:
        yield server.start()
    finally:
        server.stop()


def _running(
    bench: Bench, stack: ExitStack, names: Sequence[str], job: Job, prepare: Callable[[Program], None]
) -> list[Program]:
    """Those that start and can be prepared. The stack ends them."""
    found: list[Program] = []
    for name in names:
        with bench.forgiving(name):
            server = stack.enter_context(_started(bench, name, job))
            prepare(server)
            found.append(server)
    return found


def _by_turns(
    bench: Bench, running: Sequence[Program], measure: Callable[[Program], R]
) -> dict[str, list[R]]:
    """First round of all, second round of all, ...: what else the machine does hits all alike."""
    found: dict[str, list[R]] = {server.name: [] for server in running}
    for number in range(bench.rounds):
        for server in running:
            if server.name not in bench.failures:
                with bench.forgiving(server.name):
                    found[server.name].append(measure(server))
        say(f"  round {number + 1} of {bench.rounds}")
    return found


def _middles(bench: Bench, rounds: dict[str, list[R]]) -> Rows:
    return {name: middle(found) for name, found in rounds.items() if name not in bench.failures}


def say(text: str) -> None:
    """Progress, apart from what is reported."""
    print(text, file=sys.stderr, flush=True)


def workloads() -> list[Workload]:
    """All, in the order of the report."""
    plain, traced = asked.get(), asked.get(traced=True)
    zipf, uniform = asked.zipf(_DRAWS), asked.uniform(_DRAWS)
    saturations = {
        "identical": Saturation(kind=Kind.CACHE, template=plain),
        "different": Saturation(kind=Kind.CACHE, template=traced),
        "zipf": Saturation(kind=Kind.CACHE, template=plain, draws=zipf),
        "redis": Saturation(kind=Kind.REDIS, template=plain, draws=uniform, names=(REDIS_PY, CROWDGATE)),
        "pass": Saturation(kind=Kind.PASS, template=traced),
        "post": Saturation(kind=Kind.PASS, template=asked.post()),
    }
    return [
        *(
            Workload(name=name, title=SATURATED[name], measure=saturation(what))
            for name, what in saturations.items()
        ),
        Workload(name="burst", title="Cold start: 1,000 clients, one key", measure=burst),
        Workload(name="latency", title="Hits at half of saturation", measure=latency),
        Workload(name="memory", title="Memory and start", measure=memory),
    ]
