"""Every setting of the proxy: its name, type, default, and why that default.

The config file, `check`, `schema`, the JSON Schema and docs/configuration.md all come from these structs. Durations are
seconds (`float`), sizes are bytes (`int`); in the file they are written `250ms 30s 5m 1h` and `64KiB 1MiB`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

DURATION = "duration"
SIZE = "size"
SECRET = "secret"  # noqa: S105 - the name of a kind of setting
SECRET_URL = "secret_url"  # noqa: S105 - a URL that may hold a password


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping of the config file."""


Seconds = Annotated[float, Meta(ge=0, extra={"kind": DURATION})]
PositiveSeconds = Annotated[float, Meta(gt=0, extra={"kind": DURATION})]
Bytes = Annotated[int, Meta(ge=0, extra={"kind": SIZE})]
Secret = Annotated[str, Meta(extra={"kind": SECRET})]
SecretUrl = Annotated[str, Meta(extra={"kind": SECRET_URL})]
Address = Annotated[
    str,
    Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]*):[0-9]{1,5}$", description="`host:port`"),
]
Host = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9.:_\[\]-]+$", description="a host, with its port if it has one")
]
Path = Annotated[str, Meta(pattern=r"^/", description="a path that begins with `/`")]
Target = Annotated[
    str,
    Meta(
        pattern=r"^/[!-\"$-~]*$",
        description="a path that begins with `/`, with its query, without spaces and `#`, all in ASCII",
    ),
]
QueryName = Annotated[
    str, Meta(pattern=r"^[^&=#\s]+$", description="a query parameter's name, spelt as in the URL")
]
Origin = Annotated[
    str,
    Meta(pattern=r"^http://[^/?#@\s]+/?$", description="`http://host:port`, without a path"),
]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="letters, digits, `.`, `_`, `-`")]
FieldName = Annotated[str, Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", description="a header's name")]
HostName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$",
        description="a host's name, without a port",
    ),
]
Method = Annotated[str, Meta(pattern=r"^[A-Z][A-Z-]*$", description="a method, in capitals")]
Status = Annotated[int, Meta(ge=200, le=599)]


class Admin(Group, frozen=True, kw_only=True):
    """The admin port: health, metrics, dashboard, purge, warm, reload."""

    listen: Annotated[Address, Meta(description="Where to listen.")] = "0.0.0.0:9901"
    token: Annotated[
        Secret | None,
        Meta(
            description="Bearer token that writes (POST) need. Without one, only loopback may write; reads are open."
        ),
    ] = None
    token_file: Annotated[str | None, Meta(description="File that holds the token.")] = None
    hosts: Annotated[
        tuple[HostName, ...],
        Meta(
            description="Names by which dashboard and /api may be read, beside addresses and localhost. "
            "Under any other name a page in somebody's browser could be asking (DNS rebinding)."
        ),
    ] = ()


class Upstream(Group, frozen=True, kw_only=True):
    """The API behind the proxy."""

    url: Annotated[Origin | None, Meta(description="The API's address. `url` or `urls` is required.")] = None
    urls: Annotated[
        tuple[Origin, ...],
        Meta(
            description="Several addresses of the same API: least requests in flight, failing ones ejected."
        ),
    ] = ()
    connect_timeout: Annotated[
        PositiveSeconds, Meta(description="To connect. 1s: the API is in the same pod.")
    ] = 1.0
    timeout: Annotated[
        PositiveSeconds, Meta(description="From the request sent to the head of the answer (first byte).")
    ] = 30.0
    read_timeout: Annotated[
        PositiveSeconds,
        Meta(
            description="Between two pieces of an answer's body. A stream of events has `stream_idle_timeout`."
        ),
    ] = 30.0
    write_timeout: Annotated[
        PositiveSeconds, Meta(description="For the API to accept a piece of a request's body.")
    ] = 30.0
    stream_idle_timeout: Annotated[
        PositiveSeconds,
        Meta(
            description="Silence on WebSocket tunnels and `text/event-stream` answers. 1h: they are quiet by nature."
        ),
    ] = 3600.0
    max_connections: Annotated[int, Meta(ge=1, description="Connections to the API, per address.")] = 256
    max_paced: Annotated[
        int | None,
        Meta(
            ge=1,
            description="Of them, how many may be held by what is only passed on, at the pace of its clients. "
            "Default: three quarters, so that slow clients leave some to what is stored for all.",
        ),
    ] = None
    queue_timeout: Annotated[
        PositiveSeconds,
        Meta(description="Wait for one of `max_connections`; beyond it the answer is 503 with Retry-After."),
    ] = 5.0
    keepalive: Annotated[
        Seconds,
        Meta(
            description="Idle connections are kept so long. 4s: below the 5s after which many servers close theirs."
        ),
    ] = 4.0
    reuse_for_writes: Annotated[
        Seconds,
        Meta(
            description="What may not be sent twice (POST, PATCH, whatever has a body) takes a connection whose last "
            "answer ended no longer ago, else a new one. 1s: no common server closes its own so soon. `0s`: always new ones."
        ),
    ] = 1.0
    max_head: Annotated[Bytes, Meta(description="Largest head of an answer.")] = 64 * 1024
    eject_after: Annotated[
        int,
        Meta(
            ge=1,
            description="Failures in a row (no connection, no answer, 502-504) that eject an address of `urls`.",
        ),
    ] = 5
    eject_for: Annotated[PositiveSeconds, Meta(description="How long an ejected address is left out.")] = 10.0


class Memory(Group, frozen=True, kw_only=True):
    """The first tier, in the process."""

    max_size: Annotated[Bytes, Meta(description="Budget of the tier, overhead included.")] = 64 * 1024 * 1024
    max_age: Annotated[
        PositiveSeconds,
        Meta(
            description="A copy that Redis also has is asked again after so long, "
            "and it is the longest that a purge may go unseen while Redis is away."
        ),
    ] = 60.0
    max_object: Annotated[
        Bytes, Meta(description="Larger answers are passed on and not stored, in either tier.")
    ] = 1024 * 1024
    max_variants: Annotated[
        int,
        Meta(
            ge=1,
            description="Answers of one URL that differ by Vary: more push out the oldest, and are not kept in Redis. "
            "64: languages times encodings; whoever invents header values gets no further.",
        ),
    ] = 64
    ready_size: Annotated[
        Bytes,
        Meta(
            description="For what the express lane knows of requests that memory or Redis answers, beside `max_size`. "
            "24MiB: some 13,000 different requests, at 1.2 to 1.8 KiB each. The rest is answered as well, in thrice the time."
        ),
    ] = 24 * 1024 * 1024
    preload_size: Annotated[
        Bytes,
        Meta(
            description="At the start memory is filled from Redis with so much of what other replicas are asked for most. "
            "16MiB: a quarter of `max_size`. 0: nothing."
        ),
    ] = 16 * 1024 * 1024
    preload_timeout: Annotated[
        PositiveSeconds, Meta(description="The most that this may take; readiness waits for it.")
    ] = 2.0


class Redis(Group, frozen=True, kw_only=True):
    """The second tier, shared by all replicas. No `redis:` section: memory only."""

    url: Annotated[
        SecretUrl | None,
        Meta(
            description="`redis://`, `rediss://` (TLS) or `unix://`; for cluster and sentinel one or more, separated by commas."
        ),
    ] = None
    mode: Annotated[
        Literal["standalone", "cluster", "sentinel", "embedded"],
        Meta(description="`embedded` starts a private Valkey beside the proxy: for trying and for tests."),
    ] = "standalone"
    prefix: Annotated[Name, Meta(description="Every key begins with it; nothing else is ever touched.")] = (
        "crowdgate"
    )
    timeout: Annotated[
        PositiveSeconds,
        Meta(
            description="The most that Redis may add to a request. 50ms: past that the API is the better bet."
        ),
    ] = 0.05
    username: Annotated[str | None, Meta(description="ACL user.")] = None
    password: Annotated[Secret | None, Meta(description="Password, if not in `url`.")] = None
    password_file: Annotated[str | None, Meta(description="File that holds the password.")] = None
    sentinel_service: Annotated[str, Meta(description="Name of the master that the sentinels watch.")] = (
        "mymaster"
    )
    sentinel_password: Annotated[Secret | None, Meta(description="Password of the sentinels themselves.")] = (
        None
    )
    ca_file: Annotated[str | None, Meta(description="CA certificates for `rediss://`.")] = None
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            description="Commands in flight to each Redis server, up to 64 in each of some connections: more wait, within "
            "`timeout`. 512 take Redis 3 ms: all that a crowd wants to know goes out in one turn of a busy process.",
        ),
    ] = 512
    max_value: Annotated[
        Bytes, Meta(description="Largest stored value that is accepted, before and after decompression.")
    ] = 2 * 1024 * 1024
    compress_above: Annotated[Bytes, Meta(description="Bodies larger than this are stored as zstd.")] = 1024
    breaker_failures: Annotated[
        int, Meta(ge=1, description="Failures in a row that take Redis out at once.")
    ] = 5
    probe_every: Annotated[PositiveSeconds, Meta(description="A Redis that is out is pinged so often.")] = 1.0
    lease: Annotated[
        PositiveSeconds,
        Meta(
            description="One replica asks the API for all, and says that it lives before so long is over: what one that was "
            "killed costs the others. They wait for it twice as long at most. 2s: a pause of a busy process is no death. "
            "Less than three times `timeout` is taken for that."
        ),
    ] = 2.0
    sweep: Annotated[
        Seconds,
        Meta(
            description="So often at most, after purges, one replica takes what they concern out of Redis, a few entries at a "
            "time, to make room. 0: it stays until it expires. It is never served, either way."
        ),
    ] = 60.0


class Client(Group, frozen=True, kw_only=True):
    """Limits and timeouts towards clients."""

    header_timeout: Annotated[
        PositiveSeconds,
        Meta(description="For a request's head to be whole, from its first byte or the connection's start."),
    ] = 10.0
    body_timeout: Annotated[PositiveSeconds, Meta(description="Between two pieces of a request's body.")] = (
        30.0
    )
    idle_timeout: Annotated[
        PositiveSeconds,
        Meta(
            description="A kept connection without a request. 75s: above the 60s of common load balancers: they close first."
        ),
    ] = 75.0
    write_timeout: Annotated[
        PositiveSeconds, Meta(description="For a client to take a piece of the answer.")
    ] = 60.0
    max_line: Annotated[Bytes, Meta(description="Longest request line.")] = 8190
    max_field: Annotated[Bytes, Meta(description="Longest header field.")] = 8190
    max_fields: Annotated[int, Meta(ge=1, description="Most header fields.")] = 128
    max_head: Annotated[
        Bytes,
        Meta(
            description="Largest head in all. 64 KiB: several times what browsers send; "
            "`max_fields` of `max_field` each would be a megabyte."
        ),
    ] = 64 * 1024
    max_body: Annotated[
        Bytes | None, Meta(description="Largest request body; null leaves that to the API. Beyond it: 413.")
    ] = None
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            description="Open client connections; more are closed at once. 10000: about 100 MB at the worst.",
        ),
    ] = 10_000

    express: Annotated[
        bool,
        Meta(
            description="Answer what comes whole in the express lane. false: all by aiohttp, several times slower and otherwise "
            "the same, to rule the lane out when something is wrong."
        ),
    ] = True


class Drain(Group, frozen=True, kw_only=True):
    """What SIGTERM starts: readiness fails at once, connections are told to close, requests in flight finish."""

    delay: Annotated[
        Seconds,
        Meta(
            description="Keep accepting so long after SIGTERM, for endpoints to be withdrawn. "
            "0s where a preStop hook sleeps."
        ),
    ] = 0.0
    timeout: Annotated[
        PositiveSeconds,
        Meta(description="Requests in flight may take so long. 20s: below Kubernetes' grace period of 30s."),
    ] = 20.0


class Log(Group, frozen=True, kw_only=True):
    """Lines on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="Least level.")] = "info"
    format: Annotated[Literal["json", "console"], Meta(description="`console` is for people.")] = "json"
    access: Annotated[bool, Meta(description="One line per request.")] = False


class StorePolicy(Group, frozen=True, kw_only=True):
    """What a route may store and share although it looks personal. Each is a promise about the API."""

    set_cookie: Annotated[
        bool, Meta(description="Answers with Set-Cookie: everybody gets the same cookie.")
    ] = False
    authorization: Annotated[
        bool,
        Meta(description="Answers to requests with Authorization: they do not depend on it. See also `per`."),
    ] = False
    cookie: Annotated[
        bool,
        Meta(
            description="Answers to requests with Cookie: they do not depend on it. "
            "Without it such answers are shared only where the API itself says how long they are fresh."
        ),
    ] = False
    private: Annotated[
        bool,
        Meta(
            description="Answers with `Cache-Control: private`. Only with `per`, since an entry is then one principal's own."
        ),
    ] = False


class Route(Group, frozen=True, kw_only=True):
    """How requests of one shape are treated. The first route that matches wins; no match passes through."""

    match: Annotated[
        Path,
        Meta(
            description="Path as sent: `{param}` is one segment, a last `**` the rest, all else literal.",
        ),
    ]
    name: Annotated[
        Name | None, Meta(description="Label in metrics and part of the key. Default: made from `match`.")
    ] = None
    methods: Annotated[tuple[Method, ...], Meta(min_length=1, description="GET covers HEAD.")] = ("GET",)
    query: Annotated[
        Literal["all", "sorted", "none"] | tuple[QueryName, ...],
        Meta(
            description="The query in the key: `all` as it was sent, all `sorted` by name, `none`, or a list of "
            "parameters, sorted. Others reach the API but not the key."
        ),
    ] = "all"
    vary: Annotated[
        tuple[FieldName, ...],
        Meta(description="Request headers in the key, beside what the answer's Vary names."),
    ] = ()
    unkeyed: Annotated[
        tuple[FieldName, ...],
        Meta(
            description="Fields such as X-Forwarded-Server or X-Forwarded-Proto that proxies add and that change no answer. "
            "Others of their kind are in the key."
        ),
    ] = ()
    per: Annotated[
        FieldName | None,
        Meta(
            description="Header that names the principal: nothing stored or in flight crosses principals. "
            "Without it, requests with Authorization follow RFC 9111 section 3.5."
        ),
    ] = None
    ttl: Annotated[
        Seconds | None,
        Meta(
            description="Freshness where the answer brings none of its own. Left out: only what the API says."
        ),
    ] = None
    force_ttl: Annotated[
        bool,
        Meta(
            description="`ttl` overrides the API's Cache-Control, though never private, no-store or Set-Cookie."
        ),
    ] = False
    targets: Annotated[
        tuple[FieldName, ...],
        Meta(
            description="Response fields that go before Cache-Control and Expires (RFC 9213): the first that is valid."
        ),
    ] = ("CDN-Cache-Control",)
    heuristic: Annotated[
        Seconds | None,
        Meta(
            description="Where nobody gives a freshness, guess it from Last-Modified (a tenth of its age), "
            "up to so long. Left out: no guessing."
        ),
    ] = None
    request_directives: Annotated[
        Literal["obey", "ignore"],
        Meta(
            description="What the client's Cache-Control and Pragma count for. `ignore`: nothing, "
            "so that nobody can have the API asked by reloading."
        ),
    ] = "obey"
    stale_while_revalidate: Annotated[
        Seconds | None, Meta(description="Serve stale so long while one request refreshes it.")
    ] = None
    stale_if_error: Annotated[
        Seconds | None, Meta(description="Serve stale so long while the API fails.")
    ] = None
    status_ttl: Annotated[
        dict[Status, Seconds],
        Meta(
            description="Freshness by status, such as `{404: 5s}`. Without it `ttl` is for 200, 203 and 204 only."
        ),
    ] = {}
    memory: Annotated[bool, Meta(description="Use the memory tier.")] = True
    redis: Annotated[bool, Meta(description="Use the Redis tier.")] = True
    store: Annotated[StorePolicy, Meta(description="Exceptions.")] = StorePolicy()
    tags: Annotated[
        tuple[str, ...],
        Meta(
            description="Purge tags, with the params of `match`. Also those in Surrogate-Key, Cache-Tag, Cache-Groups."
        ),
    ] = ()
    purge: Annotated[
        tuple[str, ...], Meta(description="Tags purged after a 2xx or 3xx to an unsafe method.")
    ] = ()


class Warm(Group, frozen=True, kw_only=True):
    """A resource that is fetched at start, before readiness, and kept warm."""

    name: Annotated[Name, Meta(description="Its name in logs and commands.")]
    path: Annotated[Target, Meta(description="What is fetched, with its query.")]
    every: Annotated[
        PositiveSeconds | None,
        Meta(description="Refreshed so often, by one replica for all. Default: 0.9 of its ttl."),
    ] = None
    required: Annotated[bool, Meta(description="Readiness waits for it (bounded).")] = False
    host: Annotated[
        Host | None,
        Meta(
            description="Host that is asked for. Left out: the answer is the same for every Host, "
            "and the API is always asked under its own address."
        ),
    ] = None
    headers: Annotated[
        dict[FieldName, Secret],
        Meta(description="Request headers, such as the principal of user_permissions."),
    ] = {}
    timeout: Annotated[PositiveSeconds, Meta(description="For the whole fetch.")] = 10.0


class Settings(Group, frozen=True, kw_only=True):
    """The whole file."""

    version: Annotated[Literal[1], Meta(description="Of this format.")] = 1
    listen: Annotated[Address, Meta(description="Where clients connect.")] = "0.0.0.0:8081"
    admin: Annotated[Admin, Meta(description="The admin port.")] = Admin()
    upstream: Annotated[Upstream, Meta(description="The API.")]
    memory: Annotated[Memory, Meta(description="The first tier.")] = Memory()
    redis: Annotated[Redis | None, Meta(description="The second tier.")] = None
    transparent: Annotated[
        bool,
        Meta(
            description="Add no Cache-Status to answers and no Via to requests, and Age only where RFC 9111 demands it."
        ),
    ] = False
    client: Annotated[Client, Meta(description="Towards clients.")] = Client()
    drain: Annotated[Drain, Meta(description="Shutting down.")] = Drain()
    log: Annotated[Log, Meta(description="Logging.")] = Log()
    routes: Annotated[
        tuple[Route, ...],
        Meta(
            max_length=1000,
            description="First match wins. At most 1000: each request is matched against all of them.",
        ),
    ] = ()
    warm: Annotated[tuple[Warm, ...], Meta(description="Critical resources.")] = ()
