"""Where the API server is and how to speak to it: a pod's service account, or a kubeconfig file.

Tokens and certificates of files are read again when these change, and each minute: a kubelet swaps them while we run, and what
was read once stops working within the hour. What can't be read again is kept as it was: the server will say if it is too old.
No secret is in a repr or in an error.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import msgspec
import yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# A file may also change without looking different.
_REREAD_S = 60.0
# Far more than any kubeconfig or bundle of certificates.
_MAX_BYTES = 4 << 20

T = TypeVar("T")


class BadCredentials(Exception):
    """One sentence: which file, which key, and what to do."""


@dataclass(slots=True)
class _Reread(Generic[T]):
    """What is made of files, and made again when they change."""

    files: tuple[Path, ...]
    make: Callable[[], T] = field(repr=False)
    now: Callable[[], float] = field(repr=False)
    _made: T = field(init=False, repr=False)
    _seen: tuple[tuple[int, ...], ...] | None = field(init=False, repr=False)
    _at: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises BadCredentials: what can't be read at first is the user's business."""
        self._seen, self._at = self._look(), self.now()
        self._made = self.make()

    def get(self) -> T:
        if self.files and (self.now() - self._at >= _REREAD_S or self._look() != self._seen):
            self.again()
        return self._made

    def again(self) -> None:
        seen = self._look()
        try:
            self._made = self.make()
        except BadCredentials:
            # In the middle of a swap, say. It is looked at again with the next call.
            return
        self._seen, self._at = seen, self.now()

    def _look(self) -> tuple[tuple[int, ...], ...] | None:
        try:
            stats = [os.stat(file) for file in self.files]  # noqa: PTH116 - follows the kubelet's links, on every call
        except OSError:
            return None
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the API server is."""

    server: str
    """Its URL."""
    namespace: str = "default"
    server_name: str | None = None
    """Whose certificate it shows, if not that of the URL's host."""


class Credentials:
    """How to speak to one API server."""

    def __init__(
        self, place: Place, token: _Reread[str] | None = None, tls: _Reread[ssl.SSLContext] | None = None
    ) -> None:
        self.server = place.server
        self.namespace = place.namespace
        self.server_name = place.server_name
        self._token = token
        self._tls = tls

    def __repr__(self) -> str:
        return f"Credentials(server={self.server!r}, namespace={self.namespace!r})"

    def headers(self) -> dict[str, str]:
        """What proves who we are, where that isn't a certificate."""
        return {"Authorization": f"Bearer {self._token.get()}"} if self._token is not None else {}

    def tls(self) -> ssl.SSLContext | None:
        """None for a server without TLS."""
        return self._tls.get() if self._tls is not None else None

    def reread(self) -> None:
        """The server didn't take them: perhaps there are newer ones."""
        for source in (self._token, self._tls):
            if source is not None:
                source.again()


def in_cluster(
    environment: Mapping[str, str] = os.environ,
    mount: Path = SERVICE_ACCOUNT,
    now: Callable[[], float] = monotonic,
) -> Credentials:
    """A pod's own. Raises BadCredentials."""
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        lacking = "KUBERNETES_SERVICE_PORT" if host else "KUBERNETES_SERVICE_HOST"
        raise BadCredentials(f"{lacking} is not set, so this is no pod: name a `kubeconfig:`")
    ca, namespace = mount / "ca.crt", mount / "namespace"
    place = Place(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=_text(namespace, "the pod's namespace").strip() or "default",
    )
    return Credentials(
        place, _token_of(mount / "token", now), _Reread((ca,), lambda: _context(ca=_read(ca, str(ca))), now)
    )


class _Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class _User(msgspec.Struct, frozen=True, rename="kebab"):
    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    username: str = ""
    impersonated: str = msgspec.field(name="as", default="")
    exec: Any = None
    auth_provider: Any = None

    def __repr__(self) -> str:
        return "<user>"


class _Context(msgspec.Struct, frozen=True):
    cluster: str
    user: str = ""
    namespace: str = ""


class _NamedCluster(msgspec.Struct, frozen=True):
    name: str
    cluster: _Cluster


class _NamedUser(msgspec.Struct, frozen=True):
    name: str
    user: _User = _User()


class _NamedContext(msgspec.Struct, frozen=True):
    name: str
    context: _Context


class _Kubeconfig(msgspec.Struct, frozen=True, rename="kebab"):
    clusters: tuple[_NamedCluster, ...] | None = None
    users: tuple[_NamedUser, ...] | None = None
    contexts: tuple[_NamedContext, ...] | None = None
    current_context: str = ""


def of_kubeconfig(
    file: Path,
    *,
    context: str = "",
    allow_insecure: bool = False,
    now: Callable[[], float] = monotonic,
) -> Credentials:
    """Of a file as kubectl reads it, in its current context if none is named. Raises BadCredentials."""
    config = _parsed(file)
    name = context or config.current_context
    if not name:
        raise BadCredentials(f"{file}: current-context is not set: set it, or name a context")
    chosen = next((each.context for each in config.contexts or () if each.name == name), None)
    if chosen is None:
        raise BadCredentials(f"{file}: contexts has no {name!r}")
    cluster = next((each.cluster for each in config.clusters or () if each.name == chosen.cluster), None)
    if cluster is None:
        raise BadCredentials(f"{file}: clusters has no {chosen.cluster!r}, which context {name!r} names")
    user = next((each.user for each in config.users or () if each.name == chosen.user), None)
    if user is None and chosen.user:
        raise BadCredentials(f"{file}: users has no {chosen.user!r}, which context {name!r} names")
    reader = _Reader(file, cluster=cluster, user=user or _User(), allow_insecure=allow_insecure, now=now)
    return reader.credentials(f"clusters[{chosen.cluster}]", f"users[{chosen.user}]", chosen.namespace)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Makes credentials of one context of a kubeconfig."""

    file: Path
    cluster: _Cluster = field(kw_only=True)
    user: _User = field(kw_only=True)
    allow_insecure: bool = field(kw_only=True)
    now: Callable[[], float] = field(kw_only=True)

    def credentials(self, in_clusters: str, in_users: str, namespace: str) -> Credentials:
        self._refuse_what_we_cannot(in_users)
        scheme = self._scheme(in_clusters)
        token = self._token(in_users)
        if (
            scheme == "http"
            and token is not None
            and not self.allow_insecure
            and not _is_loopback(self.cluster.server)
        ):
            raise BadCredentials(
                f"{self.file}: {in_clusters}.cluster.server is http, where anybody on the way reads the token: use https"
            )
        place = Place(
            server=self.cluster.server.rstrip("/"),
            namespace=namespace or "default",
            server_name=self.cluster.tls_server_name or None,
        )
        return Credentials(place, token, self._tls(in_clusters, in_users) if scheme == "https" else None)

    def _refuse_what_we_cannot(self, in_users: str) -> None:
        user, at = self.user, f"{self.file}: {in_users}.user"
        remedy = "use a service account's token instead (`kubectl create token`, as `tokenFile`)"
        if user.exec is not None:
            raise BadCredentials(f"{at}.exec is refused, as it would run a program: {remedy}")
        if user.auth_provider is not None:
            raise BadCredentials(f"{at}.auth-provider is not supported: {remedy}")
        if user.username:
            raise BadCredentials(
                f"{at}.username is not supported, nor has it been by Kubernetes since 1.19: {remedy}"
            )
        if user.impersonated:
            raise BadCredentials(f"{at}.as is not supported: {remedy}")

    def _scheme(self, in_clusters: str) -> str:
        cluster, at = self.cluster, f"{self.file}: {in_clusters}.cluster"
        try:
            parts = urlsplit(cluster.server)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
            _ = parts.port
        except ValueError:
            is_url = False
        if not is_url:
            raise BadCredentials(f"{at}.server must be a URL like https://host:6443")
        if cluster.proxy_url:
            raise BadCredentials(
                f"{at}.proxy-url is not supported: leave it out and name a server that is reached directly"
            )
        if cluster.insecure_skip_tls_verify and not self.allow_insecure:
            raise BadCredentials(
                f"{at}.insecure-skip-tls-verify is refused, as anybody could pose as the server and take the token: "
                "set certificate-authority, or allow it explicitly"
            )
        return parts.scheme

    def _token(self, in_users: str) -> _Reread[str] | None:
        user = self.user
        # As kubectl: the file goes first.
        if user.token_file:
            return _token_of(self._path(user.token_file), self.now)
        if not user.token:
            return None
        key, token = f"{self.file}: {in_users}.user.token", user.token
        return _Reread((), lambda: _checked_token(token, key), self.now)

    def _tls(self, in_clusters: str, in_users: str) -> _Reread[ssl.SSLContext]:
        cluster, user = self.cluster, self.user
        ca = self._blob(
            cluster.certificate_authority_data,
            cluster.certificate_authority,
            f"{in_clusters}.cluster.certificate-authority",
        )
        at = f"{in_users}.user.client-"
        certificate = self._blob(user.client_certificate_data, user.client_certificate, f"{at}certificate")
        key = self._blob(user.client_key_data, user.client_key, f"{at}key")
        if (certificate is None) != (key is None):
            lacking = "key" if key is None else "certificate"
            raise BadCredentials(
                f"{self.file}: {at}{lacking} is missing: a certificate and its key go together"
            )

        def make() -> ssl.SSLContext:
            pair = (certificate.get(), key.get()) if certificate is not None and key is not None else None
            context = _context(
                ca=ca.get() if ca is not None else None,
                pair=pair,
                named=f"{self.file}: {at}certificate and its key",
            )
            if cluster.insecure_skip_tls_verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            return context

        blobs = [blob for blob in (ca, certificate, key) if blob is not None]
        return _Reread(tuple(blob.file for blob in blobs if blob.file is not None), make, self.now)

    def _blob(self, data: str, path: str, key: str) -> _Blob | None:
        """As kubectl: what is in the file itself goes first."""
        named = f"{self.file}: {key}"
        if data:
            return _Blob(named=f"{named}-data", data=data)
        return _Blob(named=named, file=self._path(path)) if path else None

    def _path(self, said: str) -> Path:
        """Relative to the kubeconfig."""
        return self.file.parent / said


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    """A certificate or key, in base64 within the kubeconfig or in a file of its own."""

    named: str
    data: str = field(default="", repr=False)
    file: Path | None = None

    def get(self) -> _Pem:
        if self.file is not None:
            return _read(self.file, self.named)
        try:
            return _Pem(named=self.named, pem=base64.b64decode(self.data, validate=True))
        except (binascii.Error, ValueError):
            # From None: the error has what could not be decoded.
            raise BadCredentials(f"{self.named} is not base64") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pem:
    named: str
    pem: bytes = field(repr=False)


def _parsed(file: Path) -> _Kubeconfig:
    text = _text(file, "kubeconfig")
    # From None, here and below: what these errors quote may be secret.
    try:
        said = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise BadCredentials(f"{file}:{line}: not YAML") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise BadCredentials(f"{file}: not YAML") from None
    try:
        return msgspec.convert(said, _Kubeconfig)
    except msgspec.ValidationError as error:
        raise BadCredentials(f"{file}: {error}") from None


def _text(file: Path, what: str) -> str:
    try:
        return _read(file, str(file)).pem.decode()
    except UnicodeDecodeError:
        raise BadCredentials(f"{file}: {what} is not UTF-8") from None


def _read(file: Path, named: str) -> _Pem:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        at = f"{named}: " if named != str(file) else ""
        raise BadCredentials(f"{at}{file} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise BadCredentials(f"{file} is larger than {_MAX_BYTES} bytes")
    return _Pem(named=named, pem=content)


def _token_of(file: Path, now: Callable[[], float]) -> _Reread[str]:
    return _Reread((file,), lambda: _checked_token(_text(file, "token").strip(), str(file)), now)


def _checked_token(token: str, named: str) -> str:
    if not token:
        raise BadCredentials(f"{named} is empty")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise BadCredentials(f"{named} is no token: it has characters that no token has")
    return token


def _context(
    *, ca: _Pem | None = None, pair: tuple[_Pem, _Pem] | None = None, named: str = ""
) -> ssl.SSLContext:
    """Verifies the server by `ca` alone, or by what the machine trusts where there is none."""
    try:
        context = ssl.create_default_context(cadata=ca.pem.decode("ascii") if ca is not None else None)
    except (ssl.SSLError, ValueError):
        raise BadCredentials(
            f"{ca.named if ca is not None else 'the CA'} has no certificate in PEM format"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if pair is not None:
        try:
            with ExitStack() as stack:
                certificate, key = (stack.enter_context(_in_memory(pem)) for pem in pair)
                # An empty password: without one OpenSSL would ask the terminal.
                context.load_cert_chain(certificate, key, password=b"")
        except (ssl.SSLError, OSError):
            raise BadCredentials(f"{named} don't fit, are not in PEM format, or need a password") from None
    return context


@contextmanager
def _in_memory(pem: _Pem) -> Iterator[str]:
    """OpenSSL reads certificates from files only; no disk shall see a key."""
    descriptor = os.memfd_create("crowdgate")
    try:
        os.write(descriptor, pem.pem)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
