"""Mistakes in the config file are all found, each with its place and a way out."""
# ruff: noqa: E501 - one case, one line: what is written and what is said about it

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy import config_file, units
from proxy.config_file import parse
from proxy.config_problems import BadConfig, Problem
from proxy.config_shown import redacted
from proxy.settings import Memory, Redis, Route, Settings, Upstream, Warm

API = "upstream: {url: http://127.0.0.1:8080}\n"
UPSTREAM = Upstream(url="http://127.0.0.1:8080")
FILES = {"token": "s3cret\n", "empty": "\n", "two": "a\nb\n"}


def _read_file(name: str) -> str:
    if name not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[name]


def read(text: str, environ: Mapping[str, str] | None = None) -> Settings:
    return parse(dedent(text), name="f", environ=environ or {}, read=_read_file)


def problems(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        read(text, environ)
    return [str(problem) for problem in caught.value.problems]


def api(rest: str) -> str:
    return API + dedent(rest)


# --- What is good ---

ROUTED = api("""\
    routes:
      - {match: /a, name: a}
    """)

GOOD = [
    pytest.param(API, Settings(upstream=UPSTREAM), id="the least"),
    pytest.param("---\n# comment\n" + API + "...\n", Settings(upstream=UPSTREAM), id="document marks"),
    pytest.param("\ufeff" + API, Settings(upstream=UPSTREAM), id="byte order mark"),
    pytest.param(API + "memory:\nroutes:\nredis:\n", Settings(upstream=UPSTREAM), id="emptied sections"),
    pytest.param(
        api("""\
            memory: {max_size: 1MiB, max_object: 0, max_age: 1h30m}
            transparent: "true"
            redis: {mode: embedded}
            """),
        Settings(
            upstream=UPSTREAM,
            memory=Memory(max_size=1024 * 1024, max_object=0, max_age=5400),
            transparent=True,
            redis=Redis(mode="embedded"),
        ),
        id="values",
    ),
    pytest.param(
        api("""\
            routes:
              - {match: /a, name: 123, query: [on, "null", 07], vary: [no], ttl: 0, status_ttl: {404: 5s}}
              - {match: /b, query: none, ttl: null}
            warm: [{name: yes, path: "/a?x=1", headers: {x-user: 1.10}}]
            """),
        Settings(
            upstream=UPSTREAM,
            routes=(
                Route(
                    match="/a",
                    name="123",
                    query=("on", "null", "07"),
                    vary=("no",),
                    ttl=0,
                    status_ttl={404: 5},
                ),
                Route(match="/b", name="b", query="none"),
            ),
            warm=(Warm(name="yes", path="/a?x=1", headers={"x-user": "1.10"}),),
        ),
        id="words mean what the setting's type says",
    ),
]


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_a_good_file_gives_its_settings(text: str, expected: Settings) -> None:
    assert expected == read(text)


def test_routes_without_a_name_get_one_of_their_own() -> None:
    settings = read(
        api("""\
            routes:
              - {match: /a}
              - {match: /a/}
              - {match: "/a/{id}"}
              - {match: /c, name: a-2}
              - {match: /**}
            """)
    )
    assert [route.name for route in settings.routes] == ["a", "a-3", "a-id", "a-2", "all"]


# --- What is bad: the file itself ---

FILE = [
    pytest.param("", ["f:1:1: is empty; the least that works is `upstream: {url: http://127.0.0.1:8080}`"], id="empty"),
    pytest.param("# only\n", ["f:1:1: is empty; the least that works is `upstream: {url: http://127.0.0.1:8080}`"], id="comments"),
    pytest.param("~", ["f:1:1: is empty; the least that works is `upstream: {url: http://127.0.0.1:8080}`"], id="null"),
    pytest.param("- a\n", ["f:1:1: must be a mapping, not a list"], id="a list"),
    pytest.param("hello\n", ["f:1:1: must be a mapping, not a single value"], id="a word"),
    pytest.param(API + "---\n" + API, ["f:2:1: a second document starts here: put all into one"], id="two documents"),
    pytest.param(
        "upstream:\n\turl: x\n",
        [
            "f:2:1: not YAML: found character that cannot start any token while scanning for the next token; indent with spaces, and quote text that begins with @ ` % or a tab"
        ],
        id="tab",
    ),
    pytest.param(
        "redis: {url: ${REDIS}}\n",
        [
            "f:1:15: not YAML: did not find expected ',' or '}' while parsing a flow mapping; between { } and [ ] text with any of `,[]{}` needs quotes, `${NAME}` too"
        ],
        id="unquoted substitution in a flow mapping",
    ),
    pytest.param("a: b: c\n", ["f:1:5: not YAML: mapping values are not allowed in this context"], id="colon"),
    pytest.param(API + "# \x07\n", ["f:2:3: the character U+0007 is not allowed"], id="control character"),
    pytest.param(API + "log: \ud800\n", ["f:2:6: the character U+D800 is not allowed"], id="surrogate"),
    pytest.param(
        api("""\
            memory: &m {max_size: 1MiB}
            redis: *m
            log: !!map {level: !str info}
            """),
        [
            "f:2:9: anchors (`&m`) are not supported",
            "f:3:8: aliases (`*m`) are not supported: write the value out",
            "f:4:6: tags (`tag:yaml.org,2002:map`) are not supported: the setting has its type",
            "f:4:20: tags (`!str`) are not supported: the setting has its type",
        ],
        id="anchors, aliases and tags",
    ),
    pytest.param("a: " + "[" * 500, ["f:1:20: is nested too deeply"], id="too deep"),
    pytest.param("#" * (1024 * 1024 + 1), ["f:1:1: is larger than 1MiB"], id="too large"),
    pytest.param(API + "? [a, b]\n: c\n", ["f:2:3: a key must be a single word"], id="a list as key"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FILE)
def test_a_file_that_is_no_config_is_refused(text: str, expected: list[str]) -> None:
    assert expected == problems(text)


def test_a_billion_laughs_costs_nothing() -> None:
    laughs = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    found = problems(API + laughs)
    assert "f:3:10: aliases (`*a0`) are not supported: write the value out" in found


def test_a_file_of_nothing_but_mistakes_is_given_up_on() -> None:
    found = problems(API + "".join(f"k{i}: 1\n" for i in range(5000)))
    assert len(found) == 201
    assert "f:1:1: there are more problems than these" in found


# --- What is bad: single values ---

VALUES = [
    ("version: 2", "f:2:10: version: must be 1, not `2`"),
    ("listen: 8081", "f:2:9: listen: must be `host:port`, not `8081`; did you mean 0.0.0.0:8081?"),
    ("listen: 0.0.0.0:99999", "f:2:9: listen: the port must be from 0 to 65535"),
    ("listen: [a]", "f:2:9: listen: must be `host:port`, not a list"),
    ("listen:", "f:2:8: listen: has no value: must be `host:port`"),
    ("listen: ~", "f:2:9: listen: has no value: must be `host:port`"),
    ("transparent: on", "f:2:14: transparent: must be true or false, not `on`; did you mean true?"),
    ("transparent: No", "f:2:14: transparent: must be true or false, not `No`; did you mean false?"),
    ("transparent: maybe", "f:2:14: transparent: must be true or false, not `maybe`"),
    ("log: {level: inof}", "f:2:14: log.level: must be one of debug, info, warning, error, not `inof`; did you mean info?"),
    ("log: {level: INFO}", "f:2:14: log.level: must be one of debug, info, warning, error, not `INFO`; did you mean info?"),
    ("log: {format: x}", "f:2:15: log.format: must be one of json, console, not `x`"),
    ("drain: {timeout: 30}", "f:2:18: drain.timeout: has no unit: write 30s, 30ms or 30m"),
    ("drain: {timeout: 0}", "f:2:18: drain.timeout: must be more than 0"),
    ("drain: {timeout: -5s}", "f:2:18: drain.timeout: must be a duration such as 250ms, 30s, 5m or 1h30m, not `-5s`"),
    ("drain: {timeout: 5 min}", "f:2:18: drain.timeout: must be a duration such as 250ms, 30s, 5m or 1h30m, not `5 min`; did you mean 5m?"),
    ("drain: {timeout: 99999d}", "f:2:18: drain.timeout: is longer than ten years (3650d)"),
    ("memory: {max_size: 64}", "f:2:20: memory.max_size: has no unit: write 64MiB, 64KiB or 64B"),
    ("memory: {max_size: 64mb}", "f:2:20: memory.max_size: must be a size such as 512B, 10kB, 64KiB or 1MiB, not `64mb`; did you mean 64MB?"),
    ("memory: {max_size: 64 Mi}", "f:2:20: memory.max_size: must be a size such as 512B, 10kB, 64KiB or 1MiB, not `64 Mi`; did you mean 64MiB?"),
    ("memory: {max_size: 0.3B}", "f:2:20: memory.max_size: must come to whole bytes"),
    ("memory: {max_size: 9999999GiB}", "f:2:20: memory.max_size: is larger than 1 PiB"),
    ("client: {max_fields: 0}", "f:2:22: client.max_fields: must be at least 1"),
    ("client: {max_fields: 1_000}", "f:2:22: client.max_fields: must be a whole number, not `1_000`"),
    ("client: {max_fields: 010}", "f:2:22: client.max_fields: must be a whole number, not `010`"),
    ("client: 5", "f:2:9: client: must be a mapping, not a single value"),
    ('log: {level: "a\\nb"}', "f:2:14: log.level: must be one of debug, info, warning, error, not `a\nb`"),
    ('admin: {token: ""}', "f:2:16: admin.token: must not be empty"),
    ('admin: {token: "a\\tb"}', "f:2:16: admin.token: must be one line, without tabs and control characters"),
    ("routs: []", "f:2:1: routs: unknown key; did you mean routes?"),
    ("Listen: x", "f:2:1: Listen: unknown key; did you mean listen?"),
    ("drain: {x: 1}", "f:2:9: drain.x: unknown key; known are delay, timeout"),
    ("drain: {<<: 1}", "f:2:9: drain.<<: unknown key; known are delay, timeout"),
    ("drain: {delay: 1s, timeout: 1s, delay: 1}", "f:2:33: drain.delay: duplicate key; first on line 2"),
    ("routes: 1", "f:2:9: routes: must be a list, not a single value; write one item as [item]"),
    ("routes: [1]", "f:2:10: routes[0]: must be a mapping, not a single value"),
    ("routes: [{}]", "f:2:10: routes[0].match: is missing"),
    ("routes: [{macth: /a}]", "f:2:11: routes[0].macth: unknown key; did you mean match?"),
    ("routes: [{match: api}]", "f:2:18: routes[0].match: must be a path that begins with `/`, not `api`; did you mean /api?"),
    ("routes: [{match: /a, name: a b}]", "f:2:28: routes[0].name: must be letters, digits, `.`, `_`, `-`, not `a b`"),
    ("routes: [{match: /a, methods: [get]}]", "f:2:32: routes[0].methods[0]: must be a method, in capitals, not `get`; did you mean GET?"),
    ("routes: [{match: /a, methods: GET}]", "f:2:31: routes[0].methods: must be a list, not a single value; write one item as [item]"),
    ("routes: [{match: /a, methods: []}]", "f:2:31: routes[0].methods: must not be empty"),
    ("routes: [{match: /a, query: nothing}]", "f:2:29: routes[0].query: must be all, sorted, none or a list, not `nothing`"),
    ("routes: [{match: /a, query: {a: b}}]", "f:2:29: routes[0].query: must be all, sorted, none or a list, not a mapping"),
    ("routes: [{match: /a, query: [a=b]}]", "f:2:30: routes[0].query[0]: must be a query parameter's name, spelt as in the URL, not `a=b`"),
    ("routes: [{match: /a, vary: [a b]}]", "f:2:29: routes[0].vary[0]: must be a header's name, not `a b`"),
    ("routes: [{match: /a, vary: [~]}]", "f:2:29: routes[0].vary[0]: has no value: must be a header's name"),
    ("routes: [{match: /a, store: true}]", "f:2:29: routes[0].store: must be a mapping, not a single value"),
    ("routes: [{match: /a, status_ttl: {99: 5s}}]", "f:2:35: routes[0].status_ttl.99: the key must be from 200 to 599"),
    ("routes: [{match: /a, status_ttl: {ok: 5s}}]", "f:2:35: routes[0].status_ttl.ok: the key must be a whole number, not `ok`"),
    ("routes: [{match: /a, status_ttl: {404: 5}}]", "f:2:40: routes[0].status_ttl.404: has no unit: write 5s, 5ms or 5m"),
    ("routes: [{match: /a, status_ttl: 5s}]", "f:2:34: routes[0].status_ttl: must be a mapping with keys of your own, not a single value"),
    ("routes: [{match: /**}]\nwarm: [{name: a, path: /a b}]", "f:3:24: warm[0].path: must be a path that begins with `/`, with its query, without spaces and `#`, all in ASCII, not `/a b`"),
    ('routes: [{match: /**}]\nwarm: [{name: a, path: /a, headers: {a: "b\\r\\nc: d"}}]', "f:3:41: warm[0].headers.a: must be one line, without tabs and control characters"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), VALUES, ids=[text for text, _ in VALUES])
def test_a_bad_value_is_named_with_its_place_and_a_remedy(text: str, expected: str) -> None:
    assert [expected] == problems(f"{API}{text}\n")


# --- What is bad: values that do not fit together ---

TOGETHER = [
    ("upstream: {}", "f:1:11: upstream: needs `url` (or `urls`), the API's address"),
    ("listen: :1", "f:1:1: upstream: is missing"),
    ("upstream: {url: http://a, urls: [http://b]}", "f:1:33: upstream.urls: give url or urls, not both"),
    ("upstream: {url: https://a}", "f:1:17: upstream.url: must be `http://host:port`, without a path, not `https://a`"),
    ("upstream: {url: a:80}", "f:1:17: upstream.url: must be `http://host:port`, without a path, not `a:80`; did you mean http://a:80?"),
    ("upstream: {urls: [http://a:70000]}", "f:1:19: upstream.urls[0]: must name a host, and a port from 1 to 65535 if any"),
    ("upstream: {urls: [a/b, http://b]}", "f:1:19: upstream.urls[0]: must be `http://host:port`, without a path, not `a/b`"),
    ("upstream: {urls: [http://a:0]}", "f:1:19: upstream.urls[0]: must name a host, and a port from 1 to 65535 if any"),
    ('upstream: {urls: ["http://:80"]}', "f:1:19: upstream.urls[0]: must name a host, and a port from 1 to 65535 if any"),
    ('upstream: {urls: ["http://[x"]}', "f:1:19: upstream.urls[0]: must name a host, and a port from 1 to 65535 if any"),
    ("upstream: {url: http://localhost:8081}", "f:1:17: upstream.url: is the proxy itself, which listens on 0.0.0.0:8081"),
    (API + "listen: :8081\nadmin:\n  listen: :8081", "f:4:11: admin.listen: port 8081 cannot be both listen and admin.listen"),
    (API + "listen: 127.0.0.1:9901", "f:2:9: listen: port 9901 cannot be both listen and admin.listen"),
    (API + "admin: {listen: 127.0.0.1:8081}", "f:2:17: admin.listen: port 8081 cannot be both listen and admin.listen"),
    (API + "memory: {max_size: 1KiB}", "f:2:20: memory.max_size: max_object (1MiB) must fit into max_size (1KiB)"),
    (API + "memory: {max_object: 65MiB}", "f:2:22: memory.max_object: max_object (65MiB) must fit into max_size (64MiB)"),
    (API + "redis: {mode: embedded, max_value: 1kB}", "f:2:36: redis.max_value: redis.max_value (1kB) must hold memory.max_object (1MiB)"),
    (API + "memory: {max_object: 3MiB}\nredis: {mode: embedded}", "f:2:22: memory.max_object: redis.max_value (2MiB) must hold memory.max_object (3MiB)"),
    (API + "redis: {}", "f:2:8: redis: needs `url`, or `mode: embedded`"),
    (API + "redis: {mode: embedded, url: redis://a}", "f:2:30: redis.url: has no use with mode embedded, which starts its own"),
    (API + "redis: {url: http://a}", "f:2:14: redis.url: must begin with redis://, rediss:// or unix://"),
    (API + 'redis: {mode: cluster, url: "redis://a,b"}', "f:2:29: redis.url: must begin with redis://, rediss:// or unix://"),
    (API + "admin: {token: a, token_file: token}", "f:2:31: admin.token_file: give token or this, not both"),
    (API + "admin: {token_file: nowhere}", "f:2:21: admin.token_file: nowhere cannot be read: No such file or directory"),
    (API + "admin: {token_file: empty}", "f:2:21: admin.token_file: empty must hold one line"),
    (API + "redis: {url: redis://a, password_file: two}", "f:2:40: redis.password_file: two must hold one line"),
    (API + "warm: [{name: a, path: /a}]", "f:2:24: warm[0].path: no route matches it with GET, so it would never be served"),
    (ROUTED + "warm: [{name: a, path: /b}]", "f:4:24: warm[0].path: no route matches it with GET, so it would never be served"),
    (ROUTED + "warm: [{name: a, path: /a}, {name: a, path: /a}]", "f:4:36: warm[1].name: a is the name of warm[0] already"),
    (ROUTED + "warm: [{name: a, path: /a, headers: {Host: x}}]", "f:4:44: warm[0].headers.Host: Host cannot be set here; see host"),
    (ROUTED + "warm: [{name: a, path: /a, headers: {a: x, A: y}}]", "f:4:47: warm[0].headers.A: is given twice: headers have no case"),
    (ROUTED + "  - {match: /b, name: a}", "f:4:23: routes[1].name: a is the name of routes[0] already"),
    (ROUTED + "  - {match: /b, redis: true, memory: false}\nwarm: [{name: b, path: /b}]", "f:5:24: warm[0].path: its route (/b) uses no tier, so it would never be served"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TOGETHER, ids=[text for text, _ in TOGETHER])
def test_values_that_do_not_fit_together_are_named(text: str, expected: str) -> None:
    assert [expected] == problems(text + "\n")


ROUTES = [
    ('{match: "/a/{id"}', "f:3:13: routes[0].match: an unpaired brace: a param is written `{name}`"),
    ('{match: "/a?b"}', "f:3:13: routes[0].match: `?` cannot be in a path; query parameters belong to `query:`"),
    ('{match: "/{id}", tags: ["e:{i}"]}', "f:3:29: routes[0].tags[0]: {i} is not in match, which has {id}; did you mean {id}?"),
    ("{match: /a, tags: [e, 'e:{i}']}", "f:3:27: routes[0].tags[1]: {i} is not in match, which has no params"),
    ("{match: /a, tags: ['e:{']}", "f:3:24: routes[0].tags[0]: an unpaired brace: a param is written `{name}`"),
    ("{match: /a, tags: ['']}", "f:3:24: routes[0].tags[0]: must not be empty"),
    ("{match: /a, methods: [PUT], purge: ['{i}']}", "f:3:41: routes[0].purge[0]: {i} is not in match, which has no params"),
    ("{match: /a, purge: [e]}", "f:3:24: routes[0].purge: follows requests that change something, and methods has only safe ones"),
    ("{match: /a, force_ttl: true}", "f:3:28: routes[0].force_ttl: needs a ttl to enforce"),
    ("{match: /a, methods: [PUT], ttl: 5s}", "f:3:38: routes[0].ttl: only answers to GET are stored, and methods has none"),
    ("{match: /a, methods: [PUT], stale_if_error: 5s}", "f:3:49: routes[0].stale_if_error: only answers to GET are stored, and methods has none"),
    ("{match: /a, methods: [PUT], tags: [e]}", "f:3:39: routes[0].tags: only answers to GET are stored, and methods has none"),
    ("{match: /a, methods: [HEAD]}", "f:3:26: routes[0].methods: HEAD goes with GET: write GET"),
    ("{match: /a, per: Host}", "f:3:22: routes[0].per: Host belongs to the connection and names no principal"),
    ("{match: /a, vary: [x, TE]}", "f:3:27: routes[0].vary[1]: TE belongs to the connection and never reaches the API"),
    ("{match: /a, store: {private: true}}", "f:3:34: routes[0].store.private: needs `per`: who else may see it?"),
]  # fmt: skip


@pytest.mark.parametrize(("route", "expected"), ROUTES, ids=[route for route, _ in ROUTES])
def test_a_route_that_makes_no_sense_is_named(route: str, expected: str) -> None:
    assert [expected] == problems(f"{API}routes:\n  - {route}\n")


SHADOWS = [
    ([("/a", "GET"), ("/a", "GET")], 1),
    ([("/a", "GET"), ("/a", "PUT")], None),
    ([("/a", "GET, PUT"), ("/a", "PUT")], 1),
    ([("/a", "GET"), ("/a", "GET, PUT")], None),
    ([("/a", "GET"), ("/a", "PUT"), ("/a", "GET, PUT")], 2),
    ([("/**", "GET"), ("/a", "GET")], 1),
    ([("/**", "GET"), ("/a/**", "GET")], 1),
    ([("/a/**", "GET"), ("/**", "GET")], None),
    ([("/a/**", "GET"), ("/a", "GET")], None),
    ([("/a/**", "GET"), ("/a/", "GET")], 1),
    ([("/{x}", "GET"), ("/a", "GET")], 1),
    ([("/{x}", "GET"), ("/{y}.json", "GET")], 1),
    ([("/a", "GET"), ("/{x}", "GET")], None),
    ([("/a/{x}", "GET"), ("/a/**", "GET")], None),
    ([("/a/", "GET"), ("/a/{x}", "GET"), ("/a/{x}/**", "GET"), ("/a/**", "GET")], None),
    ([("/{x}/b", "GET"), ("/a/{y}", "GET")], None),
]


@pytest.mark.parametrize(("routes", "hidden"), SHADOWS, ids=[" ".join(m for m, _ in r) for r, _ in SHADOWS])
def test_a_route_is_refused_only_where_earlier_ones_take_all_of_it(
    routes: list[tuple[str, str]], hidden: int | None
) -> None:
    text = API + "routes:\n" + "".join(f"  - {{match: '{m}', methods: [{ms}]}}\n" for m, ms in routes)
    found = [] if hidden is None and read(text) else problems(text)
    expected = [] if hidden is None else [f"routes[{hidden}].match: is never reached"]
    assert expected == [problem.split(": ", 1)[1].split(":")[0] + ": is never reached" for problem in found]


def test_all_mistakes_are_reported_at_once_and_none_that_only_follows_from_another() -> None:
    text = """\
        upstream: {ur: "http://x", timeout: 30}
        redis:
          mode: clustr
        routes:
          - match: api/x
            tags: ["{id}"]
          - {match: /a, methods: [get], ttl: 5m, purge: [e]}
        warm:
          - {name: a b, path: /nowhere}
        """
    assert problems(text) == [
        "f:1:12: upstream.ur: unknown key; did you mean url?",
        "f:1:37: upstream.timeout: has no unit: write 30s, 30ms or 30m",
        "f:3:9: redis.mode: must be one of standalone, cluster, sentinel, embedded, not `clustr`; did you mean cluster?",
        "f:5:12: routes[0].match: must be a path that begins with `/`, not `api/x`; did you mean /api/x?",
        "f:7:27: routes[1].methods[0]: must be a method, in capitals, not `get`; did you mean GET?",
        "f:9:12: warm[0].name: must be letters, digits, `.`, `_`, `-`, not `a b`",
    ]


# --- The environment ---


def test_variables_are_filled_in_anywhere_in_a_value() -> None:
    settings = read(
        api("""\
            redis: {url: "redis://${USER}:${PW}@h", timeout: "${T}ms", max_connections: "${N}"}
            """),
        {"USER": "me", "PW": "x:${USER}", "T": "20", "N": "5"},
    )
    assert settings.redis == Redis(url="redis://me:x:${USER}@h", timeout=0.02, max_connections=5)


def test_a_doubled_dollar_is_a_plain_one() -> None:
    assert read(API + "admin: {token: 'a$${B}$$c$d'}\n").admin.token == "a${B}$$c$d"


SUBSTITUTIONS = [
    ("admin: {token: '${NOPE}'}", "f:2:16: admin.token: the environment has no NOPE"),
    ("admin: {token: '${}'}", "f:2:16: admin.token: `${` must begin `${NAME}`; write `$${` for the characters themselves"),
    ("admin: {token: 'a${B'}", "f:2:16: admin.token: `${` must begin `${NAME}`; write `$${` for the characters themselves"),
    ("admin: {token: '${EMPTY}'}", "f:2:16: admin.token: must be text, which the value of ${EMPTY} is not"),
    ("drain: {delay: '${SECRET}'}", "f:2:16: drain.delay: must be a duration such as 30s, which the value of ${SECRET} is not"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SUBSTITUTIONS, ids=[text for text, _ in SUBSTITUTIONS])
def test_a_variable_that_does_not_do_is_named_and_its_value_is_not(text: str, expected: str) -> None:
    assert [expected] == problems(API + text, {"EMPTY": "", "SECRET": "hunter2"})


OVERRIDES = [
    pytest.param({"LISTEN": "127.0.0.1:0"}, {"listen": "127.0.0.1:0"}, id="top level"),
    pytest.param({"MEMORY__MAX_AGE": "5s"}, {"memory": Memory(max_age=5)}, id="below a missing section"),
    pytest.param(
        {"REDIS__URL": "redis://:a#b*@h", "REDIS__PASSWORD": "{x: ${Y}"},
        {"redis": Redis(url="redis://:a#b*@h", password="{x: ${Y}")},
        id="text is taken as it is",
    ),
    pytest.param(
        {"REDIS": "{mode: embedded, timeout: 1s}", "REDIS__TIMEOUT": "2s"},
        {"redis": Redis(mode="embedded", timeout=2)},
        id="the inner wins over the outer",
    ),
    pytest.param({"ROUTES__0__TTL": "7s"}, {"routes": (Route(match="/a", name="a", ttl=7),)}, id="item"),
    pytest.param({"ROUTES": "[]"}, {"routes": ()}, id="list"),
    pytest.param(
        {"ROUTES__0__STATUS_TTL__404": "7s", "ROUTES__0__QUERY": "none"},
        {"routes": (Route(match="/a", name="a", status_ttl={404: 7}, query="none"),)},
        id="table",
    ),
    pytest.param(
        {"ROUTES__1__MATCH": "/b", "ROUTES__1__QUERY": "[a, b]"},
        {"routes": (Route(match="/a", name="a"), Route(match="/b", name="b", query=("a", "b")))},
        id="a new item",
    ),
    pytest.param({"TUNER_PASSWORD": "x", "SCALER_A": "x", "DEMO_A": "x", "TEST_A": "x"}, {}, id="others"),
    pytest.param({"ADMIN_TOKEN": "x"}, {}, id="what commands read"),
    pytest.param(
        {
            "SERVICE_HOST": "10.0.0.1",
            "SERVICE_PORT": "80",
            "PORT": "tcp://10.0.0.1:80",
            "PROXY_SERVICE_PORT_ADMIN": "9901",
            "PORT_8081_TCP_ADDR": "10.0.0.1",
        },
        {},
        id="what Kubernetes sets for a Service",
    ),
]


@pytest.mark.parametrize(("environ", "expected"), OVERRIDES)
def test_the_environment_wins_over_the_file(environ: dict[str, str], expected: dict[str, object]) -> None:
    plain = Settings(upstream=UPSTREAM, routes=(Route(match="/a", name="a"),))
    settings = read(ROUTED, {f"CROWDGATE_{name}": value for name, value in environ.items()})
    assert msgspec.structs.replace(plain, **expected) == settings


def test_null_takes_a_section_out() -> None:
    assert read(API + "redis: {mode: embedded}\n", {"CROWDGATE_REDIS": "null"}).redis is None


def test_a_variable_that_the_file_uses_is_no_override() -> None:
    settings = read(API + "admin: {token: '${CROWDGATE_TOKEN}'}\n", {"CROWDGATE_TOKEN": "t"})
    assert settings.admin.token == "t"


BAD_OVERRIDES = [
    ("REDIS__TIMEOUTT", "1s", "redis.timeoutt: unknown key; did you mean timeout?"),
    ("REDIS__TIMEOUT", "1", "redis.timeout: has no unit: write 1s, 1ms or 1m"),
    ("LISTEN", "", "listen: the variable is empty: unset it, or write null"),
    ("X", "1", "x: unknown key; known are version, listen, admin, upstream, memory, redis, transparent, client, drain, log, routes, warm"),
    ("DRAIN", "{delay: 1s", "drain: not YAML: did not find expected ',' or '}' while parsing a flow mapping from line 1; between { } and [ ] text with any of `,[]{}` needs quotes, `${NAME}` too"),
    ("DRAIN", "{delay: 1s, delay: 2s}", "drain.delay: duplicate key"),
    ("DRAIN", "5s", "drain: must be a mapping, not a single value"),
    ("DRAIN", "*a", "drain: aliases (`*a`) are not supported: write the value out"),
    ("DRAIN", "{delay: \x01}", "drain: the character U+0001 is not allowed"),
    ("ROUTES__2__TTL", "5s", "routes: `2` must be an index up to 1, as there are 1 so far"),
    ("ROUTES__A__TTL", "5s", "routes: `a` must be an index up to 1, as there are 1 so far"),
    ("LISTEN__PORT", "5", "listen: must be `host:port`: it has no `port`"),
    ("ROUTES__0__MATCH__X", "5", "routes[0].match: must be a path that begins with `/`: it has no `x`"),
    ("MEMORY__MAX_SIZE", "1B", "memory.max_size: max_object (1MiB) must fit into max_size (1B)"),
    ("ROUTES__0__TTL", "${X}", "routes[0].ttl: must be a duration such as 250ms, 30s, 5m or 1h30m, not `${X}`"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "expected"), BAD_OVERRIDES, ids=[f"{n}={v}" for n, v, _ in BAD_OVERRIDES]
)
def test_a_bad_variable_is_named_in_place_of_a_line(name: str, value: str, expected: str) -> None:
    text = ROUTED + "redis: {mode: embedded}\n"
    assert [f"env CROWDGATE_{name}: {expected}"] == problems(text, {f"CROWDGATE_{name}": value})


# --- Secrets ---


def test_secrets_come_from_their_files() -> None:
    settings = read(API + "admin: {token_file: token}\nredis: {url: redis://h, password_file: token}\n")
    assert (settings.admin.token, settings.redis and settings.redis.password) == ("s3cret", "s3cret")


def test_nothing_secret_is_shown() -> None:
    settings = read(
        api("""\
            admin: {token_file: token}
            redis: {url: "redis://me:hunter2@h:6379/0", password: hunter2}
            routes: [{match: /a, ttl: 90s, status_ttl: {404: 5s}}]
            warm: [{name: a, path: /a, headers: {authorization: hunter2}}]
            """)
    )
    shown = redacted(settings)
    assert {"hunter2", "s3cret"}.isdisjoint(json.dumps(shown).split('"'))
    assert "hunter2" not in json.dumps(shown)
    assert (shown["admin"]["token"], shown["admin"]["token_file"]) == ("***", "token")
    assert (shown["redis"]["url"], shown["redis"]["password"]) == ("redis://me:***@h:6379/0", "***")
    assert shown["warm"][0]["headers"] == {"authorization": "***"}
    assert (
        shown["routes"][0]["ttl"],
        shown["routes"][0]["status_ttl"],
        shown["memory"]["max_size"],
    ) == ("90s", {"404": "5s"}, "64MiB")


URLS = [
    ("redis://h:6379/0", "redis://h:6379/0"),
    ("redis://:pw@h", "redis://:***@h"),
    ("redis://pw@h", "redis://***@h"),
    ("redis://u:p@w/x@h", "redis://u:***@h"),
    ("redis://u:a,b@h1,redis://u:c@h2", "redis://u:***@h1,redis://u:***@h2"),
    ("redis://h/0?db=1&password=pw&x=1", "redis://h/0?db=1&password=***&x=1"),
    ("pw", "***"),
]


@pytest.mark.parametrize(("url", "expected"), URLS)
def test_a_url_is_shown_without_its_password(url: str, expected: str) -> None:
    settings = Settings(upstream=UPSTREAM, redis=Redis(url=url))
    assert expected == redacted(settings)["redis"]["url"]


# --- Files ---


def test_a_file_and_its_secrets_are_read_from_disk(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t\r\n")
    config = tmp_path / "c.yaml"
    config.write_text(f"{API}admin: {{token_file: {tmp_path}/token}}\n")
    assert config_file.load(str(config), {}).admin.token == "t"


BYTES = [
    pytest.param(b"a: b\nc: \xff", ":2:4: is not UTF-8 from here on", id="not UTF-8"),
    pytest.param(b"x" * (1024 * 1024 + 1), ":1:1: is larger than 1MiB", id="too large"),
    pytest.param(None, ": cannot be read: No such file or directory", id="missing"),
]


@pytest.mark.parametrize(("content", "expected"), BYTES)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: bytes | None, expected: str) -> None:
    config = tmp_path / "c.yaml"
    if content is not None:
        config.write_bytes(content)
    with pytest.raises(BadConfig) as caught:
        config_file.load(str(config), {})
    assert f"{config}{expected}" == str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\xff", "is not UTF-8"), (b"x" * 70_000, "is larger than 64KiB")]
)
def test_a_secret_that_is_none_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        config_file.read_secret(str(tmp_path / "token"))


# --- Durations and sizes ---

DURATIONS = [
    ("0", 0.0), ("0s", 0.0), ("250ms", 0.25), ("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("1d", 86400.0),
    ("1h30m", 5400.0), ("1.5s", 1.5), ("0.1ms", 0.0001), ("1d2h3m4s5ms", 93784.005),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), DURATIONS)
def test_durations_are_read_in_seconds(text: str, expected: float) -> None:
    assert expected == units.parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "s", "1", "-1s", "1s1h", "1S", "1e3s", "٣s", "1s ", "1m1m", "9" * 99 + "s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|unit"):
        units.parse_duration(text)


RENDERED = [
    (0.0, "0s"),
    (0.25, "250ms"),
    (75.0, "75s"),
    (60.0, "1m"),
    (5400.0, "90m"),
    (86400.0, "1d"),
    (1.5, "1500ms"),
]


@pytest.mark.parametrize(("seconds", "expected"), RENDERED)
def test_durations_are_shown_as_people_write_them(seconds: float, expected: str) -> None:
    assert expected == units.render_duration(seconds)


@given(
    st.floats(min_value=1e-9, max_value=3650 * 86400)
    | st.integers(0, 3650 * 86400 * 1000).map(lambda ms: ms / 1000)
)
@example(0.30000000000000004)
def test_durations_survive_a_round_trip(seconds: float) -> None:
    assert seconds == units.parse_duration(units.render_duration(seconds))


@given(st.integers(0, 1024**5) | st.integers(0, 1000).map(lambda n: n * 1024**2))
def test_sizes_survive_a_round_trip(size: int) -> None:
    assert size == units.parse_size(units.render_size(size))


SIZES = [(0, "0B"), (512, "512B"), (8190, "8190B"), (10_000, "10kB"), (64 * 1024**2, "64MiB"), (1024, "1KiB")]


@pytest.mark.parametrize(("size", "expected"), SIZES)
def test_sizes_are_shown_as_people_write_them(size: int, expected: str) -> None:
    assert expected == units.render_size(size)


# --- Anything at all ---

RICH = api("""\
    admin: {listen: "0.0.0.0:9901", token_file: token}
    memory: {max_size: 64MiB}
    redis: {url: "redis://${USER}@h", timeout: 50ms, mode: standalone}
    routes:
      - match: /api/events/{id}
        query: [status, page]
        status_ttl: {404: 5s}
        tags: [events, "event:{id}"]
        store: {set_cookie: true}
      - {match: /api/**, methods: [POST], purge: [events]}
    warm:
      - {name: a, path: /api/events/1, headers: {authorization: x}}
    """)
NASTY = [
    *"{}[]:,&*!|>'\"%@`#-?~\n\t \x00\ud800é0",
    "null", "${X}", "${", "$${", "- ", ": ", "\n  ", "---\n", "<<: ", "!!binary ", "&a ", "*a", "\u2028", "\r\n", "/**", "{id}",
]  # fmt: skip


def found_in(text: str, environ: dict[str, str]) -> Sequence[Problem]:
    """Anything but BadConfig is a test that fails."""
    try:
        redacted(read(text, environ))
    except BadConfig as bad:
        return bad.problems
    return ()


def assert_well_reported(text: str, environ: dict[str, str]) -> None:
    lines = 1 + len(re.findall("\r\n|[\n\r\x85\u2028\u2029]", text))
    for problem in found_in(text, environ):
        assert problem.message
        if problem.line is None:
            assert problem.file.startswith("env CROWDGATE_")
        else:
            assert 1 <= problem.line <= lines
            assert 1 <= (problem.col or 0) <= len(text) + 1


@st.composite
def mutations(draw: st.DrawFn) -> str:
    text = RICH
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 12))
        text = text[:at] + draw(st.sampled_from(NASTY) | st.text(max_size=5)) + text[at + cut :]
    return text


@given(mutations())
@example(RICH.rstrip("}]\n"))
def test_no_mutation_of_a_good_file_does_more_than_be_reported(text: str) -> None:
    assert_well_reported(text, {"USER": "me"})


@given(
    st.dictionaries(
        st.lists(
            st.sampled_from([*Settings.__struct_fields__, "0", "1", "URL", "TTL", "", "é"]), min_size=1
        ).map(lambda keys: "CROWDGATE_" + "__".join(keys).upper()),
        st.sampled_from(NASTY) | st.text(max_size=9),
        max_size=4,
    )
)
def test_no_variable_does_more_than_be_reported(environ: dict[str, str]) -> None:
    assert_well_reported(RICH, {"USER": "me", **environ})
