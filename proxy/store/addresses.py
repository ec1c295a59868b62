"""From the settings to a way to Redis: addresses, credentials, TLS.

RESP2 is spoken unless the URL says `?protocol=3`. RESP3 brings nothing here, since nothing is pushed to us: what others purge is
read from a stream, which tells of gaps. It costs a round trip for every connection. Answers are the same in both.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig

from proxy.settings import Redis as Settings
from proxy.store.embedded import EmbeddedError, EmbeddedValkey, binary
from proxy.store.lanes import Lanes, Spawn
from proxy.store.links import ClusterLink, Link, ServerLink
from proxy.store.replies import HandshakeParser, Limits

_TLS_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
# To connect: one of TCP and two of TLS 1.2. What is asked then takes one.
_TLS_ROUND_TRIPS = 3
_MASTERS_ONLY = {"db", "username", "password", "credential_provider"}
_FROM_URL = {
    "connection_class",
    "host",
    "port",
    "path",
    "db",
    "username",
    "password",
    "client_name",
    "protocol",
}
# A stream's id, a token, whatever else is no entry.
_NO_ENTRY_BYTES = 64 * 1024


def link_to(settings: Settings, spawn: Spawn) -> Link:
    """Raises ValueError (which setting is wrong, never its value) and EmbeddedError. Connects to nothing yet."""
    if settings.mode == "embedded":
        return _embedded(settings, spawn)
    addresses = _addresses(settings)
    match settings.mode:
        case "cluster":
            return ClusterLink(addresses, settings.max_connections, spawn, limits=_limits(settings))
        case "sentinel":
            return _sentinel(settings, addresses, spawn)
        case "standalone":
            if len(addresses) > 1:
                raise ValueError("redis.url: several addresses need `mode: cluster` or `mode: sentinel`")
            return _server(settings, ConnectionPool(**addresses[0]), spawn)


def _limits(settings: Settings) -> Limits:
    return Limits(value_bytes=settings.max_value + _NO_ENTRY_BYTES)


def _server(
    settings: Settings,
    pool: ConnectionPool,
    spawn: Spawn,
    *,
    revive: Callable[[], Awaitable[None]] | None = None,
    closing: Callable[[], Awaitable[None]] | None = None,
) -> ServerLink:
    lanes = Lanes(pool.make_connection, settings.max_connections, spawn, limits=_limits(settings))
    return ServerLink(pool, lanes, revive=revive, closing=closing)


class _Tls:
    """One context for all connections: making one takes 24 ms, in which the event loop would stand still."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Raises OSError and RedisError for files or options that don't fit."""
        self._options = options
        self._files = [Path(options[name]) for name in _TLS_FILES if options.get(name)]
        self._stamps = self._looked_at()
        self._renewing = asyncio.Lock()
        self.context = self._made()

    async def renew(self) -> None:
        """Makes another one, in a thread, if the files have changed: certificates are rotated while we run."""
        async with self._renewing:
            # Half of them may be there: then it is tried again with the next connection.
            with suppress(OSError, RedisError):
                if (stamps := self._looked_at()) != self._stamps:
                    self.context = await asyncio.to_thread(self._made)
                    self._stamps = stamps

    def _made(self) -> ssl.SSLContext:
        return SSLConnection(**self._options).ssl_context.get()

    def _looked_at(self) -> list[tuple[int, int]]:
        return [(found.st_mtime_ns, found.st_ino) for found in (file.stat() for file in self._files)]


class _TlsConnection(SSLConnection):
    def __init__(self, *, tls: _Tls, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._tls = tls
        if self.socket_connect_timeout is not None:
            self.socket_connect_timeout *= _TLS_ROUND_TRIPS

    async def _connect(self) -> None:
        await self._tls.renew()
        self.ssl_context.context = self._tls.context
        await super()._connect()  # type: ignore[no-untyped-call]


class _SentinelTlsConnection(SentinelManagedConnection, _TlsConnection):
    """The master behind sentinels, by TLS."""


class _PasswordFile(CredentialProvider):
    """Reads the password for each new connection: a Secret that is rotated needs no restart."""

    def __init__(self, username: str | None, path: Path) -> None:
        self._username = username
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            password = self._path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise AuthenticationError(
                f"redis.password_file cannot be read: {type(error).__name__}"
            ) from error
        return (self._username, password) if self._username else (password,)


def _options(settings: Settings) -> dict[str, Any]:
    """Of every connection. Without driver_info, it needs no round trip before its first command."""
    return {
        # Callers leave after `timeout`. Were this the same, an event loop that stood still for so long would break
        # connections whose answers have long arrived.
        "socket_timeout": 2 * settings.timeout,
        "socket_connect_timeout": settings.timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "parser_class": HandshakeParser,
    }


def _credentials(settings: Settings, parsed: dict[str, Any]) -> dict[str, Any]:
    username = settings.username or parsed.get("username")
    password = settings.password or parsed.get("password")
    if settings.password_file is not None and settings.password is None:
        return {"credential_provider": _PasswordFile(username, Path(settings.password_file))}
    given = {"username": username, "password": password}
    return {name: value for name, value in given.items() if value is not None}


def _addresses(settings: Settings) -> list[dict[str, Any]]:
    """What redis-py's connections are made with, one per URL."""
    urls = [url.strip() for url in (settings.url or "").split(",") if url.strip()]
    if not urls:
        raise ValueError(f"redis.url is required with `mode: {settings.mode}`")
    return [_address(settings, url) for url in urls]


def _address(settings: Settings, url: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise ValueError(f"redis.url: {error}") from None
    for name in parsed:
        # Others would undo what the tier relies on.
        if name not in _FROM_URL and not name.startswith("ssl_"):
            raise ValueError(f"redis.url: the option {name!r} is not supported")
    credentials = _credentials(settings, parsed)
    parsed = {name: value for name, value in parsed.items() if name not in {"username", "password"}}
    if parsed.get("protocol", 2) not in {2, 3}:
        raise ValueError("redis.url: the option 'protocol' is 2 or 3")
    address = {**_options(settings), **parsed, **credentials}
    if address.get("connection_class") is UnixDomainSocketConnection:
        if settings.mode != "standalone":
            raise ValueError(f"redis.url: `mode: {settings.mode}` needs redis:// or rediss://")
        return address
    address.setdefault("host", "localhost")
    address.setdefault("port", 26379 if settings.mode == "sentinel" else 6379)
    if address.get("connection_class") is not SSLConnection:
        return address
    return _with_tls(settings, address)


def _with_tls(settings: Settings, address: dict[str, Any]) -> dict[str, Any]:
    tls = {name: address.pop(name) for name in tuple(address) if name.startswith("ssl_")}
    if settings.ca_file is not None:
        tls["ssl_ca_certs"] = settings.ca_file
    try:
        shared = _Tls(tls)
    except (OSError, RedisError) as error:
        raise ValueError(f"redis: TLS cannot be set up (ca_file?): {type(error).__name__}") from error
    return {**address, "connection_class": _TlsConnection, "tls": shared}


def _embedded(settings: Settings, spawn: Spawn) -> ServerLink:
    valkey = EmbeddedValkey(binary())

    async def revive() -> None:
        try:
            await valkey.start()
        except EmbeddedError as error:
            raise RedisConnectionError(str(error)) from error

    pool = ConnectionPool(
        connection_class=UnixDomainSocketConnection, path=valkey.socket, **_options(settings)
    )
    return _server(settings, pool, spawn, revive=revive, closing=valkey.close)


def _sentinel(settings: Settings, addresses: Sequence[dict[str, Any]], spawn: Spawn) -> ServerLink:
    sentinels = []
    for address in addresses:
        master = dict(address)
        own = {name: value for name, value in address.items() if name not in _MASTERS_ONLY} | {"protocol": 2}
        if settings.sentinel_password is not None:
            own["password"] = settings.sentinel_password
        sentinels.append(Redis.from_pool(ConnectionPool(**own)))
    manager = Sentinel([])  # type: ignore[no-untyped-call]
    manager.sentinels = sentinels
    tls = master.pop("connection_class", None) is _TlsConnection
    for name in ("host", "port"):
        master.pop(name)
    master["connection_class"] = _SentinelTlsConnection if tls else SentinelManagedConnection
    pool = SentinelConnectionPool(settings.sentinel_service, manager, **master)  # type: ignore[no-untyped-call]
    return _server(settings, pool, spawn, closing=manager.aclose)
