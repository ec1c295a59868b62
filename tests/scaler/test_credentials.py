"""Whom we trust and who we are: service accounts and kubeconfigs, what changes while we run, and what is refused how."""

import base64
import datetime as dt
import ipaddress
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scaler.api import Api, Refused
from scaler.cluster import Cluster
from scaler.credentials import BadCredentials, Credentials, in_cluster, of_kubeconfig
from tests.scaler.kube_api import TOKEN, deployment, kube_api

SECRET = "s3cr3t"


class Ticks:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM format."""

    cert: bytes
    key: bytes


@dataclass(frozen=True)
class Authority:
    """Signs certificates."""

    pair: Pair
    _key: ec.EllipticCurvePrivateKey
    _name: x509.Name

    @classmethod
    def new(cls, name: str) -> "Authority":
        key, of = (
            ec.generate_private_key(ec.SECP256R1()),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        )
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = _builder(of, of, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        made = made.add_extension(usage, critical=True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(_pair(made.sign(key, hashes.SHA256()), key), key, of)

    def signed(self, name: str, host: str = "kubernetes.default.svc") -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        if host != "kubernetes.default.svc":
            names = names[:1]
        made = _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), self._name, key)
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = made.add_extension(identifier, critical=False)
        return _pair(made.sign(self._key, hashes.SHA256()), key)


def _builder(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


def _pair(cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    return Pair(cert.public_bytes(pem), key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new("the cluster's")


@pytest.fixture(scope="module")
def stranger() -> Authority:
    return Authority.new("another's")


def mounted(at: Path, authority: Authority) -> Path:
    """As a kubelet mounts a service account."""
    at.mkdir(exist_ok=True)
    (at / "ca.crt").write_bytes(authority.pair.cert)
    (at / "token").write_text(f"{SECRET}\n")
    (at / "namespace").write_text("shop")
    return at


def environment(host: str = "10.0.0.1", port: str = "443") -> dict[str, str]:
    return {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def kubeconfig(at: Path, cluster: dict[str, Any], user: dict[str, Any] | None = None, **more: Any) -> Path:
    file = at / "config"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "current-context": "x",
        **more,
    }
    file.write_text(yaml.safe_dump(content))
    return file


# -- a pod's own --


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("10.0.0.1", "https://10.0.0.1:443", id="IPv4"),
        pytest.param("fd00::1", "https://[fd00::1]:443", id="IPv6 in brackets"),
    ],
)
def test_a_pod_speaks_to_the_server_that_its_environment_names(
    tmp_path: Path, authority: Authority, host: str, expected: str
) -> None:
    found = in_cluster(environment(host), mounted(tmp_path, authority))
    assert (expected, "shop", {"Authorization": f"Bearer {SECRET}"}) == (
        found.server,
        found.namespace,
        found.headers(),
    )


def test_a_token_that_changes_is_read_at_once(tmp_path: Path, authority: Authority) -> None:
    ticks = Ticks()
    found = in_cluster(environment(), mounted(tmp_path, authority), ticks)
    new = tmp_path / "new"
    new.write_text("another")
    new.replace(tmp_path / "token")
    assert {"Authorization": "Bearer another"} == found.headers()


def test_a_token_that_changes_without_looking_different_is_read_within_a_minute(
    tmp_path: Path, authority: Authority
) -> None:
    ticks = Ticks()
    file = mounted(tmp_path, authority) / "token"
    found = in_cluster(environment(), tmp_path, ticks)
    before = file.stat()
    with file.open("r+") as opened:
        opened.write(SECRET.upper())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    ticks.now = 59.0
    early = found.headers()
    ticks.now = 60.0
    assert (f"Bearer {SECRET}", f"Bearer {SECRET.upper()}") == (
        early["Authorization"],
        found.headers()["Authorization"],
    )


@pytest.mark.parametrize(
    "content", [pytest.param(None, id="gone"), pytest.param("", id="empty"), pytest.param("a b", id="odd")]
)
def test_a_token_that_cannot_be_read_again_stays_as_it_was(
    tmp_path: Path, authority: Authority, content: str | None
) -> None:
    found = in_cluster(environment(), mounted(tmp_path, authority))
    file = tmp_path / "token"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    during = found.headers()
    file.write_text("later")
    assert (f"Bearer {SECRET}", "Bearer later") == (during["Authorization"], found.headers()["Authorization"])


def test_a_ca_that_changes_is_loaded(tmp_path: Path, authority: Authority, stranger: Authority) -> None:
    found = in_cluster(environment(), mounted(tmp_path, authority))
    before = found.tls()
    same = found.tls()
    (tmp_path / "ca.crt").write_bytes(stranger.pair.cert)
    after = found.tls()
    assert before is same
    assert before is not None
    assert after is not None
    assert before.get_ca_certs() != after.get_ca_certs()


@pytest.mark.parametrize(
    ("said", "lacking", "expected"),
    [
        pytest.param({}, "", "KUBERNETES_SERVICE_HOST is not set, so this is no pod: name a `kubeconfig:`", id="no pod"),
        pytest.param(
            {"KUBERNETES_SERVICE_HOST": "h"}, "", "KUBERNETES_SERVICE_PORT is not set, so this is no pod: name a `kubeconfig:`",
            id="no port",
        ),
        pytest.param(environment(), "token", "{at}/token cannot be read: No such file or directory", id="no token"),
        pytest.param(environment(), "ca.crt", "{at}/ca.crt cannot be read: No such file or directory", id="no CA"),
        pytest.param(environment(), "namespace", "{at}/namespace cannot be read: No such file or directory", id="no namespace"),
    ],
)  # fmt: skip
def test_what_a_pod_lacks_is_named(
    tmp_path: Path, authority: Authority, said: dict[str, str], lacking: str, expected: str
) -> None:
    mounted(tmp_path, authority)
    if lacking:
        (tmp_path / lacking).unlink()
    with pytest.raises(BadCredentials) as refused:
        in_cluster(said, tmp_path)
    assert expected.format(at=tmp_path) == str(refused.value)


# -- kubeconfig --


def test_a_kubeconfig_s_current_context_counts(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, {"server": "https://k8s:6443/"}, {"token": SECRET})
    found = of_kubeconfig(file)
    assert ("https://k8s:6443", "shop", {"Authorization": f"Bearer {SECRET}"}) == (
        found.server,
        found.namespace,
        found.headers(),
    )


def test_a_token_file_goes_before_a_token_and_is_found_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-the-file")
    found = of_kubeconfig(
        kubeconfig(tmp_path, {"server": "https://k8s"}, {"token": SECRET, "tokenFile": "token"})
    )
    assert {"Authorization": "Bearer of-the-file"} == found.headers()


CLUSTER = {"server": "https://k8s:6443"}
REMEDY = "use a service account's token instead (`kubectl create token`, as `tokenFile`)"


@pytest.mark.parametrize(
    ("cluster", "user", "more", "expected"),
    [
        pytest.param(
            CLUSTER, {"exec": {"command": "aws", "args": [SECRET]}}, {},
            f"users[u].user.exec is refused, as it would run a program: {REMEDY}", id="a program",
        ),
        pytest.param(
            CLUSTER, {"auth-provider": {"name": "gcp", "config": {"access-token": SECRET}}}, {},
            f"users[u].user.auth-provider is not supported: {REMEDY}", id="a plugin",
        ),
        pytest.param(
            CLUSTER, {"username": "admin", "password": SECRET}, {},
            f"users[u].user.username is not supported, nor has it been by Kubernetes since 1.19: {REMEDY}", id="a password",
        ),
        pytest.param(CLUSTER, {"as": "root"}, {}, f"users[u].user.as is not supported: {REMEDY}", id="impersonation"),
        pytest.param(
            CLUSTER | {"insecure-skip-tls-verify": True}, {}, {},
            "clusters[c].cluster.insecure-skip-tls-verify is refused, as anybody could pose as the server and take the token: "
            "set certificate-authority, or allow it explicitly", id="no verification",
        ),
        pytest.param(
            {"server": "http://k8s:8080"}, {"token": SECRET}, {},
            "clusters[c].cluster.server is http, where anybody on the way reads the token: use https", id="a token in the open",
        ),
        pytest.param(
            CLUSTER | {"proxy-url": "http://p"}, {}, {},
            "clusters[c].cluster.proxy-url is not supported: leave it out and name a server that is reached directly",
            id="a proxy",
        ),
        pytest.param(
            {"server": "k8s:6443"}, {}, {}, "clusters[c].cluster.server must be a URL like https://host:6443", id="no URL"
        ),
        pytest.param(
            {"server": "https://k8s:port"}, {}, {}, "clusters[c].cluster.server must be a URL like https://host:6443",
            id="no port",
        ),
        pytest.param(
            {"server": f"https://u:{SECRET}@k8s"}, {}, {}, "clusters[c].cluster.server must be a URL like https://host:6443",
            id="a password in the URL",
        ),
        pytest.param(
            CLUSTER | {"certificate-authority": "none.crt"}, {}, {},
            "clusters[c].cluster.certificate-authority: {at}/none.crt cannot be read: No such file or directory", id="no CA file",
        ),
        pytest.param(
            CLUSTER | {"certificate-authority-data": "%%"}, {}, {},
            "clusters[c].cluster.certificate-authority-data is not base64", id="no base64",
        ),
        pytest.param(
            CLUSTER | {"certificate-authority-data": b64(b"no")}, {}, {},
            "clusters[c].cluster.certificate-authority-data has no certificate in PEM format", id="no certificate",
        ),
        pytest.param(
            CLUSTER, {"client-certificate-data": b64(b"no")}, {},
            "users[u].user.client-key is missing: a certificate and its key go together", id="no key",
        ),
        pytest.param(
            CLUSTER, {"client-certificate-data": b64(b"no"), "client-key-data": b64(SECRET.encode())}, {},
            "users[u].user.client-certificate and its key don't fit, are not in PEM format, or need a password", id="no pair",
        ),
        pytest.param(
            CLUSTER, {"token": f"{SECRET}\nX: y"}, {}, "users[u].user.token is no token: it has characters that no token has",
            id="a header in the token",
        ),
        pytest.param(CLUSTER, {"token": [SECRET]}, {}, "Expected `str`, got `array` - at `$.users[0].user.token`", id="a list"),
        pytest.param(CLUSTER, {}, {"current-context": ""}, "current-context is not set: set it, or name a context", id="none"),
        pytest.param(CLUSTER, {}, {"current-context": "y"}, "contexts has no 'y'", id="another context"),
        pytest.param(CLUSTER, {}, {"clusters": None}, "clusters has no 'c', which context 'x' names", id="another cluster"),
        pytest.param(CLUSTER, {}, {"users": []}, "users has no 'u', which context 'x' names", id="another user"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence_with_file_and_key_and_without_secrets(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], more: dict[str, Any], expected: str
) -> None:
    file = kubeconfig(tmp_path, cluster, user, **more)
    with pytest.raises(BadCredentials) as refused:
        of_kubeconfig(file)
    assert f"{file}: {expected.format(at=tmp_path)}" == str(refused.value)
    assert SECRET not in repr(refused.value.__cause__)


def test_a_file_that_is_no_yaml_is_refused_without_quoting_it(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(f"users:\n- token: {SECRET}\n  bad: [\n")
    with pytest.raises(BadCredentials) as refused:
        of_kubeconfig(file)
    assert (f"{file}:4: not YAML", None) == (str(refused.value), refused.value.__cause__)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"\xff\xfe", "{file}: kubeconfig is not UTF-8", id="no text"),
        pytest.param(b"\x00", "{file}: not YAML", id="a byte that no YAML has"),
        pytest.param(b"[" * 100_000, "{file}: not YAML", id="too deep"),
        pytest.param(b"just text", "{file}: Expected `object`, got `str`", id="another shape"),
        pytest.param(b"#" * (4 << 20) + b"\n", "{file} is larger than 4194304 bytes", id="too large"),
        pytest.param(b"", "{file}: Expected `object`, got `null`", id="empty"),
    ],
)
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(content)
    with pytest.raises(BadCredentials) as refused:
        of_kubeconfig(file)
    assert expected.format(file=file) == str(refused.value)


def test_a_context_may_be_named_and_may_do_without_user_and_namespace(tmp_path: Path) -> None:
    contexts = [{"name": "bare", "context": {"cluster": "c"}}]
    file = kubeconfig(tmp_path, {"server": "http://127.0.0.1:8001"}, {"token": SECRET}, contexts=contexts)
    found = of_kubeconfig(file, context="bare")
    found.reread()
    assert ("default", {}, None) == (found.namespace, found.headers(), found.tls())


def test_a_token_may_be_said_to_a_server_without_tls_on_this_machine(tmp_path: Path) -> None:
    servers = ["http://127.0.0.1:8001", "http://localhost:8001", "http://[::1]:8001"]
    found = [
        of_kubeconfig(kubeconfig(tmp_path, {"server": each}, {"token": SECRET})).headers() for each in servers
    ]
    assert [{"Authorization": f"Bearer {SECRET}"}] * 3 == found


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCredentials) as refused:
        of_kubeconfig(tmp_path / "config")
    assert f"{tmp_path}/config cannot be read: No such file or directory" == str(refused.value)


def test_no_verification_can_be_allowed_explicitly(tmp_path: Path) -> None:
    tls = of_kubeconfig(
        kubeconfig(tmp_path, CLUSTER | {"insecure-skip-tls-verify": True}), allow_insecure=True
    ).tls()
    assert tls is not None
    assert (ssl.CERT_NONE, False) == (tls.verify_mode, tls.check_hostname)


def test_no_secret_is_in_a_repr(tmp_path: Path, authority: Authority) -> None:
    found = of_kubeconfig(kubeconfig(tmp_path, CLUSTER, {"token": SECRET}))
    pods = in_cluster(environment(), mounted(tmp_path / "mount", authority))
    shown = [repr(found), repr(pods), repr(found._token), repr(pods._token), repr(found._tls)]
    assert [] == [text for text in shown if SECRET in text]


# -- with a server that shows certificates --


def server_tls(authority: Authority, host: str = "kubernetes.default.svc") -> ssl.SSLContext:
    pair = authority.signed("apiserver", host)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.pair.cert.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    _load(context, pair)
    return context


def _load(context: ssl.SSLContext, pair: Pair) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(pair.cert + pair.key)
        file.flush()
        context.load_cert_chain(file.name)


async def asked(credentials: Credentials) -> int:
    async with Api(credentials, "shop", "1") as api:
        return (await Cluster(api, "api", "scaler-0").scale()).wanted


async def test_a_server_is_known_by_its_ca_and_a_client_by_its_certificate(
    tmp_path: Path, authority: Authority
) -> None:
    async with kube_api(server_tls(authority)) as server:
        await server.put("apps", "deployments", "api", deployment(3))
        pair = authority.signed("scaler")
        user = {"client-certificate-data": b64(pair.cert), "client-key-data": b64(pair.key)}
        ca = {"certificate-authority-data": b64(authority.pair.cert)}
        assert 3 == await asked(of_kubeconfig(kubeconfig(tmp_path, {"server": server.url, **ca}, user)))


async def test_certificates_are_read_of_files_too(tmp_path: Path, authority: Authority) -> None:
    async with kube_api(server_tls(authority)) as server:
        await server.put("apps", "deployments", "api", deployment(3))
        pair = authority.signed("scaler")
        for name, content in (("ca", authority.pair.cert), ("cert", pair.cert), ("key", pair.key)):
            (tmp_path / name).write_bytes(content)
        cluster = {"server": server.url, "certificate-authority": "ca"}
        user = {"client-certificate": "cert", "client-key": str(tmp_path / "key")}
        assert 3 == await asked(of_kubeconfig(kubeconfig(tmp_path, cluster, user)))


async def test_a_server_that_another_ca_signed_gets_no_token(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    async with kube_api(server_tls(stranger)) as server:
        ca = {"certificate-authority-data": b64(authority.pair.cert)}
        found = of_kubeconfig(kubeconfig(tmp_path, {"server": server.url, **ca}, {"token": TOKEN}))
        with pytest.raises(Refused, match="certificate verify failed"):
            await asked(found)
        assert [] == server.asked


async def test_a_server_name_other_than_the_url_s_host_can_be_expected(
    tmp_path: Path, authority: Authority
) -> None:
    async with kube_api(server_tls(authority, "api.internal")) as server:
        await server.put("apps", "deployments", "api", deployment(3))
        ca = {"certificate-authority-data": b64(authority.pair.cert)}
        named = {"server": server.url, **ca, "tls-server-name": "api.internal"}
        assert 3 == await asked(of_kubeconfig(kubeconfig(tmp_path, named, {"token": TOKEN})))
        with pytest.raises(Refused, match="verify failed"):
            await asked(of_kubeconfig(kubeconfig(tmp_path, {"server": server.url, **ca}, {"token": TOKEN})))


async def test_a_ca_that_is_swapped_is_used_by_the_next_connection(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    async with kube_api(server_tls(stranger)) as server:
        await server.put("apps", "deployments", "api", deployment(3))
        ca = tmp_path / "ca"
        ca.write_bytes(authority.pair.cert)
        found = of_kubeconfig(
            kubeconfig(tmp_path, {"server": server.url, "certificate-authority": "ca"}, {"token": TOKEN})
        )
        with pytest.raises(Refused):
            await asked(found)
        ca.write_bytes(stranger.pair.cert)
        assert 3 == await asked(found)
