"""The configs of everything that is started. A reason stands beside each line that is not obvious.

Every peer gets what an expert of it would write for this job on one core: nothing is written to disk or to a log, idle
connections are kept, and limits are out of the way.
"""

import getpass
import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Kind(Enum):
    """What a server is to do."""

    CACHE = "cache"
    """Store answers for ten minutes, the URL being the key, and fetch an answer once however many ask for it."""
    PASS = "pass"
    """Pass every request on."""
    REDIS = "redis"
    """Answer from Redis, keep nothing in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    kind: Kind
    origin_port: int
    redis_port: int | None = None


_PEOPLE = ("Ada Lovelace", "Alan Turing", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov", "Donald Knuth")
_FULL = [
    {
        "id": 1001 + number,
        "name": _PEOPLE[number % len(_PEOPLE)],
        "seat": f"B-{number:03}",
        "status": "registered",
    }
    for number in range(12)
]
# nginx fills in the variables: an answer names what was asked for, so that a wrong one is seen.
BODY = (
    '{"path":"$request_uri","method":"$request_method","received":"$content_length","page":1,"participants":'
    + json.dumps(_FULL, separators=(",", ":"))
    + ',"total":1284,"next":"/api/events?page=2","last":true}'
)
END_OF_BODY = b'"last":true}'


def origin(port: int, folder: Path) -> str:
    """The API: nginx again, as nothing cheaper can be installed. It must never be what is measured."""
    return f"""\
{_user()}worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 8192; multi_accept on; }}
http {{
    access_log off;
    default_type application/json;
    # The default closes a connection after 1000 requests.
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
{_temporary(folder)}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        # Counts requests: that is how hits are proved to be hits.
        location = /origin-status {{ stub_status; }}
        location / {{
            add_header Cache-Control "public, max-age=600";
            add_header ETag '"5f1d-3a7c"';
            return 200 '{BODY}';
        }}
    }}
}}
"""


def nginx(job: Job, port: int, folder: Path, fast: Path) -> str:
    # sendfile stays off: an answer of 1 KiB goes out in one writev with its head; sendfile adds system calls, and
    # measures 30 to 40 % slower here. open_file_cache saves the open and fstat of each hit.
    cache = f"""
    proxy_cache_path {fast}/cache levels=1:2 keys_zone=events:64m max_size=2g inactive=1h use_temp_path=off;
    open_file_cache max=50000 inactive=1h;
    open_file_cache_valid 10m;
"""
    use = """
            proxy_cache events;
            proxy_cache_key $host$request_uri;
            proxy_cache_valid 200 10m;
            # One request asks the API, the others wait for it; and stale answers while it is asked again.
            proxy_cache_lock on;
            proxy_cache_use_stale updating error timeout;
            proxy_cache_background_update on;
            add_header X-Cache $upstream_cache_status;
"""
    cached = job.kind is Kind.CACHE
    return f"""\
{_user()}worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_rlimit_nofile 60000;
events {{ worker_connections 8192; multi_accept on; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    sendfile off;
    tcp_nodelay on;
{_temporary(folder)}{cache if cached else ""}
    upstream api {{
        server 127.0.0.1:{job.origin_port};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://api;
            # Without these two, each request to the API opens a connection.
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
{use if cached else ""}
        }}
    }}
}}
"""


def varnish(job: Job) -> str:
    """VCL. The built-in one follows each subroutine: it collapses requests and obeys Cache-Control."""
    passed = "    return (pass);\n" if job.kind is Kind.PASS else ""
    return f"""\
vcl 4.1;

backend api {{
    .host = "127.0.0.1";
    .port = "{job.origin_port}";
}}

sub vcl_recv {{
{passed}}}

sub vcl_backend_response {{
    set beresp.grace = 30s;
}}

sub vcl_deliver {{
    # Varnish adds Age by itself.
    if (obj.hits > 0) {{ set resp.http.X-Cache = "HIT"; }} else {{ set resp.http.X-Cache = "MISS"; }}
}}
"""


# No log for nginx, so none for Varnish: writing it to shared memory, where nobody reads it, is a fifth of its CPU.
_UNLOGGED = {
    "": ("Begin", "End", "Link", "SessOpen", "SessClose", "Timestamp", "Hit", "VCL_call", "VCL_return"),
    "Req": ("Start", "Method", "URL", "Protocol", "Header", "Unset", "Acct"),
    "Resp": ("Protocol", "Status", "Reason", "Header", "Unset"),
    "Bereq": ("Method", "URL", "Protocol", "Header", "Unset", "Acct"),
    "Beresp": ("Protocol", "Status", "Reason", "Header", "Unset"),
    "Backend": ("Start", "Open", "Close"),
}


def varnish_options(port: int, folder: Path) -> list[str]:
    options = {
        # A pool for the one core that there is; threads for each connection that is talking.
        "thread_pools": "1",
        "thread_pool_min": "200",
        "thread_pool_max": "2000",
        # A crowd that connects at once.
        "listen_depth": "4096",
        # 5 s by default: as long as the others.
        "timeout_idle": "3600",
        "vsl_mask": ",".join(f"-{of}{record}" for of, records in _UNLOGGED.items() for record in records),
    }
    return [
        *("-F", "-f", f"{folder}/default.vcl", "-n", f"{folder}/work", "-a", f"127.0.0.1:{port}"),
        # No admin port, and the user that we are: the files are in a folder of our own.
        *("-T", "none", "-j", "none", "-s", "malloc,1g"),
        *(word for name, value in options.items() for word in ("-p", f"{name}={value}")),
    ]


def haproxy(job: Job, port: int) -> str:
    cached = job.kind is Kind.CACHE
    declared = """
cache events
    total-max-size 256
    max-object-size 65536
    max-age 600
"""
    use = """\
    http-request cache-use events
    http-response cache-store events
    http-response set-header X-Cache HIT if { res.cache_hit }
"""
    return f"""\
global
    nbthread 1
    maxconn 8192

defaults
    mode http
    option http-keep-alive
    timeout connect 5s
    timeout client 1h
    timeout server 30s
    timeout http-keep-alive 1h
{declared if cached else ""}
frontend clients
    bind 127.0.0.1:{port} backlog 4096
{use if cached else ""}    default_backend api

backend api
    # Any idle connection serves any request; none is closed for being idle.
    http-reuse always
    server api 127.0.0.1:{job.origin_port} pool-max-conn -1 pool-purge-delay 1h
"""


# 49 routes of a real API. Those with params cost the most, so they come before the one that is measured.
_PARENTS = (
    "venues",
    "organizers",
    "tickets",
    "orders",
    "speakers",
    "sponsors",
    "users",
    "teams",
    "rooms",
    "badges",
)
_CHILDREN = ("", "/history", "/related", "/media")
_OTHERS = [f"/api/{kind}/{{{kind}_id}}{child}" for kind in _PARENTS for child in _CHILDREN] + [
    f"/api/events/{{event_id}}/{child}"
    for child in (
        "sessions",
        "seats",
        "agenda",
        "tickets",
        "media",
        "reviews",
        "stats",
        "map",
        "export/{kind}",
    )
]


def crowdgate(job: Job, ports: tuple[int, int]) -> str:
    """All features on. `ports` are that of data and of admin."""
    lines = [
        "version: 1",
        f"listen: 127.0.0.1:{ports[0]}",
        f"admin: {{listen: '127.0.0.1:{ports[1]}'}}",
        f"upstream: {{url: 'http://127.0.0.1:{job.origin_port}'}}",
        "memory: {max_size: 512MiB}",
        "transparent: false",
        "log: {level: warning}",
    ]
    if job.kind is Kind.REDIS:
        # 1s: a slow moment of this machine must not make hits of Redis into misses.
        lines.append(f"redis: {{url: 'redis://127.0.0.1:{job.redis_port}/0', timeout: 1s}}")
    lines.append("routes:")
    lines += [
        f'  - {{match: "{match}", ttl: 1m, stale_while_revalidate: 30s, tags: [{match.split("/")[2]}]}}'
        for match in _OTHERS
    ]
    if job.kind is not Kind.PASS:
        lines += [
            "  - name: participants",
            '    match: "/api/events/{event_id}/participants"',
            "    ttl: 10m",
            "    stale_while_revalidate: 30s",
            '    tags: [events, "event:{event_id}"]',
        ]
    if job.kind is Kind.REDIS:
        lines.append("    memory: false")
    return "\n".join(lines) + "\n"


def routes() -> int:
    """How many routes crowdgate matches a hit against."""
    return len(_OTHERS) + 1


def _user() -> str:
    # Its worker would else be `nobody`, who may not write into our folder; nobody but root may say so.
    return "user root;\n" if getpass.getuser() == "root" else ""


def _temporary(folder: Path) -> str:
    """Debian's defaults are in /var/lib."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
