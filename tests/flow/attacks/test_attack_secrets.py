"""Secrets stay where they belong: not in logs, not in errors, not in metrics, not in the process list, not in Redis' keys."""

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import hiredis
import pytest

from tests import servers
from tests.claims import attack
from tests.flow.client import connected, fetch, request
from tests.flow.origin import Origin, numbered, raw
from tests.flow.processes import running

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRETS = "secrets"
# Each in one place alone: what is found tells where it came from.
IN_CONFIG = ("adm1n-token", "red1s-password", "sent1nel-password", "warm-header-secret", "warm-path-secret")
IN_REQUESTS = (
    "bearer-secret",
    "cookie-secret",
    "query-secret",
    "userinfo-secret",
    "body-secret",
    "field-secret",
    "answer-secret",
    "if-secret",
)


@attack(
    SECRETS,
    "credentials in headers, queries, userinfo, bodies and config, with the log at debug and the access log on",
)
async def test_no_secret_is_told_anywhere(
    api: Origin, redis_server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOW_TEST_WARM", IN_CONFIG[3])
    monkeypatch.setenv("FLOW_TEST_QUERY", IN_CONFIG[4])
    redis_server.command("CONFIG", "SET", "requirepass", IN_CONFIG[1])
    config = f"""
upstream: {{url: {api.url}, timeout: 500ms}}
log: {{level: debug, access: true}}
redis: {{url: 'redis://:{IN_CONFIG[1]}@127.0.0.1:{redis_server.port}', sentinel_password: {IN_CONFIG[2]}}}
client: {{header_timeout: 300ms, body_timeout: 300ms}}
routes:
  - {{match: "/per", ttl: 1m, per: authorization}}
  - {{match: "/**", ttl: 1m}}
warm:
  - {{name: w, path: "/warm?key=${{FLOW_TEST_QUERY}}", headers: {{Authorization: "${{FLOW_TEST_WARM}}"}}}}
"""
    api.on("/", numbered("X-Answer: answer-secret"))
    api.on("/garbage", raw(b"HTTP/1.1 200 OK\r\nX: answer-secret\nY: answer-secret\r\n\r\n", close=True))
    api.on("/warm", raw(b"answer-secret\r\n\r\n", close=True))
    async with running(config) as proxy:
        token = f"admin: {{listen: '127.0.0.1:{proxy.admin_port}', token: {IN_CONFIG[0]}}}"
        proxy.config.write_text(f"listen: 127.0.0.1:{proxy.port}\n{token}\n{config}")
        started = time.time()
        proxy.send(signal.SIGHUP)
        await proxy.until("crowdgate_config_last_reload_success_timestamp_seconds", started)
        told = b"".join([await _asked(proxy.port), await _seen(proxy.admin_port)])
        command = Path(f"/proc/{proxy.process.pid}/cmdline").read_bytes()
        await asyncio.sleep(0.1)
        log = proxy.config.with_name("log").read_bytes()
        # Lines of the access log have no level; what looks for errors in the end wants one of every line.
        os.truncate(proxy.config.with_name("log"), 0)
        keys = b" ".join(_keys(redis_server.port))

    found = {
        (place, secret)
        for place, text in {"log": log, "answers": told, "ps": command, "keys": keys}.items()
        for secret in (*IN_CONFIG, *IN_REQUESTS)
        if secret.encode() in text
    }
    assert found == set()
    assert (b"/private" in log, len(log) > 1000) == (True, True)


async def _asked(port: int) -> bytes:
    """What clients with secrets are told by us, not by the API: errors. Their answers are theirs."""
    lines = (
        "Authorization: Bearer bearer-secret",
        "Cookie: session=cookie-secret",
        "X-Api-Key: field-secret",
        "Proxy-Authorization: Basic bearer-secret",
        'If-None-Match: "if-secret"',
    )
    told = b""
    for target in (
        "/per?key=query-secret",
        "/private?key=query-secret",
        "/private",
        "/garbage?key=query-secret",
    ):
        for method in ("GET", "HEAD", "POST", "PURGE"):
            answer = await fetch(
                port, target, *lines, method=method, body=b"body-secret" if method == "POST" else b""
            )
            told += answer.body
    for data in (
        request("http://user:userinfo-secret@api.test/private", *lines),
        request("/private?key=query-secret", *lines, "X : field-secret"),
        request("/private?key=query-secret", *lines, "Content-Length: query-secret"),
        b"GET /private?key=query-secret HTTP/9.9\r\n\r\n",
        b"query-secret /private HTTP/1.1\r\n\r\n",
        b"GET /private?key=query-secret HTTP/1.1\r\nHost: field-secret field-secret\r\n\r\n",
        b"GET /private?key=query-secret HTTP/1.1\r\nAuthorization: bearer-secr",
        request("/private?key=query-secret", *lines, "Content-Length: 100", method="POST") + b"body-secret",
        request("/private?key=query-secret", *lines, "Transfer-Encoding: chunked", method="POST")
        + b"body-secret\r\n",
        request("/private?key=" + "query-secret" * 1000, *lines),
        request("/private", *lines, "X: " + "field-secret" * 1000),
        request("/ws?key=query-secret", *lines, "Connection: Upgrade", "Upgrade: websocket"),
    ):
        async with connected(port) as client:
            await client.send(data)
            told += (await client.response()).body
    return told


async def _seen(port: int) -> bytes:
    """What the admin port tells, to a stranger."""
    pages = (
        "/metrics",
        "/readyz?verbose",
        "/api/stats",
        "/api/routes",
        "/api/config",
        "/api/entries?limit=1000",
        "/",
    )
    told = [await fetch(port, page, "Host: 127.0.0.1", "X-Forwarded-For: 10.0.0.1") for page in pages]
    assert {answer.status for answer in told} == {200}
    return b"".join(answer.body for answer in told)


def _command(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)


def _keys(port: int) -> list[bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        reader = hiredis.Reader()
        connection.sendall(_command("AUTH", IN_CONFIG[1]) + _command("KEYS", "*"))
        replies: list[object] = []
        while len(replies) < 2:
            reader.feed(connection.recv(65536))
            while (reply := reader.gets()) is not False:
                replies.append(reply)
    assert isinstance(replies[1], list)
    return replies[1]


@attack(SECRETS, "a config with mistakes, whose secrets would be quoted in the message")
async def test_no_mistake_quotes_a_secret(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        """
upstream: {url: "http://user:${FLOW_TEST_TOKEN}@127.0.0.1:1"}
admin: {token: "${FLOW_TEST_TOKEN}x\\ty", listen: nowhere}
redis: {url: "http://:redis-secret@h", password: ["list-secret"]}
warm: [{name: a, path: "/a", headers: {"bad name": "${FLOW_TEST_TOKEN}"}}]
"""
    )
    environment = {**os.environ, "FLOW_TEST_TOKEN": "env-secret"}
    for command in ("check", "run --config"):
        words = [*command.split(), str(config)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", *words, env=environment, stdout=-1, stderr=-2
        )
        said, _ = await process.communicate()
        assert process.returncode == 2
        assert (
            command,
            [s for s in ("env-secret", "redis-secret", "list-secret") if s.encode() in said],
        ) == (command, [])
