"""A real control plane for tests: etcd, kube-apiserver and kube-controller-manager on free ports, gone afterwards.

There is no kubelet and no scheduler: kubelet.py makes pods ready. Tokens are real ones, Roles are enforced.
"""

import json
import shutil
import signal
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.kube.api import Api, ApiError
from tests.kube.assets import REMEDY, find
from tests.kube.daemon import Daemon
from tests.servers import free_port, until

_ADMIN = "admin-of-a-test"
_CONTROLLERS = ("deployment", "replicaset", "horizontal-pod-autoscaler", "disruption", "namespace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a test may want otherwise. Periods are seconds; Kubernetes' own defaults are 15, 30, 300 and 300."""

    hpa_sync_s: float = 15.0
    hpa_initial_readiness_s: float = 30.0
    hpa_cpu_initialization_s: float = 300.0
    hpa_downscale_stabilization_s: float = 300.0
    apiserver: tuple[str, ...] = ()
    controller_manager: tuple[str, ...] = ()


class Cluster:
    """One control plane. Its data, certificates, ports and tokens outlive restarts of its parts."""

    def __init__(self, options: Options = Options()) -> None:
        assets = find()
        if assets is None:
            raise RuntimeError(REMEDY)
        self._assets = assets
        self._folder = Path(tempfile.mkdtemp(prefix="crowdgate-kube-"))
        etcd, port, manager = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{port}"
        self.admin_token = _ADMIN
        self._write_files()
        self.etcd = self._daemon(assets.etcd, _etcd(etcd, self._folder), f"http://127.0.0.1:{etcd}/health")
        self.apiserver = self._daemon(
            assets.kube_apiserver,
            [*_apiserver(port, etcd, self._folder), *options.apiserver],
            f"{self.url}/readyz",
        )
        self.controller_manager = self._daemon(
            assets.kube_controller_manager,
            [*_controller_manager(manager, self._folder), *_hpa(options), *options.controller_manager],
            f"https://127.0.0.1:{manager}/healthz",
        )

    @property
    def ca(self) -> Path:
        """The certificate of who signed the server's own."""
        return self._folder / "certs" / "apiserver.crt"

    @property
    def kubeconfig(self) -> Path:
        return self._folder / "kubeconfig"

    @property
    def admin(self) -> Api:
        """Requests of one who may do anything."""
        return self.api(self.admin_token)

    def api(self, token: str) -> Api:
        return Api(self.url, str(self.ca), token)

    def start(self) -> "Cluster":
        self.etcd.start()
        self.apiserver.start()
        self.controller_manager.start()
        return self

    def close(self) -> None:
        for daemon in (self.controller_manager, self.apiserver, self.etcd):
            daemon.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def restart_apiserver(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Blocks until it is ready again, some seconds: a test with tasks of its own goes through asyncio.to_thread.

        The controllers come back later: they wait longer after each restart, up to 30 s.
        """
        if how is signal.SIGKILL:
            self.apiserver.kill()
        else:
            self.apiserver.stop()
        self.apiserver.start()

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """What kubectl prints, as admin. Raises CalledProcessError, with what it complained of as a note."""
        command = [str(self._assets.kubectl), "--kubeconfig", str(self.kubeconfig)]
        command += ["--cache-dir", str(self._folder / "kubectl"), *args]
        try:
            return subprocess.run(command, input=stdin, text=True, check=True, capture_output=True).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise

    def token_of(self, namespace: str, role: str | Mapping[str, Any], name: str = "scaler") -> str:
        """A token of a new service account that may do in this namespace what the Role (YAML or mapping) says.

        It is the kind that a pod is given, and ends after an hour. Where the account is deleted it is refused within
        10 s: so long the API server remembers a token.
        """
        rules = (yaml.safe_load(role) if isinstance(role, str) else role)["rules"]
        core, rbac = f"/api/v1/namespaces/{namespace}", "rbac.authorization.k8s.io"
        grants = f"/apis/{rbac}/v1/namespaces/{namespace}"
        metadata = {"name": name}
        self.admin.post(f"{core}/serviceaccounts", {"metadata": metadata})
        self.admin.post(f"{grants}/roles", {"metadata": metadata, "rules": rules})
        binding = {
            "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
        }
        self.admin.post(f"{grants}/rolebindings", binding)
        asked: dict[str, Any] = {"spec": {"expirationSeconds": 3600}}
        token: str = self.admin.post(f"{core}/serviceaccounts/{name}/token", asked)["status"]["token"]
        # The authorizer learns of the binding by a watch, a moment later.
        until(lambda: self._granted(token, namespace, rules), "the Role to be in force")
        return token

    def _granted(self, token: str, namespace: str, rules: list[dict[str, Any]]) -> bool:
        try:
            review = self.api(token).post(
                "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {"namespace": namespace}}
            )
        except ApiError:
            return False
        return all(rule in review["status"]["resourceRules"] for rule in rules)

    def _daemon(self, binary: Path, args: list[str], ready_url: str) -> Daemon:
        return Daemon([str(binary), *args], self._folder / f"{binary.name}.log", lambda: _is_ready(ready_url))

    def _write_files(self) -> None:
        (self._folder / "tokens.csv").write_text(f'{_ADMIN},admin,admin,"system:masters"\n')
        key = ec.generate_private_key(ec.SECP256R1())
        (self._folder / "accounts.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": _ADMIN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(json.dumps(config))


@contextmanager
def cluster(options: Options = Options()) -> Iterator[Cluster]:
    control_plane = Cluster(options)
    try:
        yield control_plane.start()
    finally:
        control_plane.close()


def _etcd(port: int, folder: Path) -> list[str]:
    url = f"http://127.0.0.1:{port}"
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        # Nobody is its peer.
        "--listen-peer-urls=http://127.0.0.1:0",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver(port: int, etcd: int, folder: Path) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--secure-port={port}",
        # It writes a certificate for 127.0.0.1 there, and finds it again.
        f"--cert-dir={folder / 'certs'}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        # An Endpoints object with 127.0.0.1 is invalid, and a machine may have no other address.
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--authorization-mode=RBAC",
        f"--token-auth-file={folder / 'tokens.csv'}",
        f"--service-account-issuer=https://127.0.0.1:{port}/",
        f"--service-account-key-file={folder / 'accounts.key'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        # Else SIGTERM waits a minute for watches that nobody ends.
        "--shutdown-watch-termination-grace-period=100ms",
        # Pods need no account here: nobody would make the default one.
        "--disable-admission-plugins=ServiceAccount",
    ]


def _controller_manager(port: int, folder: Path) -> list[str]:
    return [
        f"--kubeconfig={folder / 'kubeconfig'}",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'manager'}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        f"--controllers={','.join(f'{name}-controller' for name in _CONTROLLERS)}",
        # A test hurries and is alone.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def _hpa(options: Options) -> list[str]:
    prefix = "--horizontal-pod-autoscaler"
    return [
        f"{prefix}-sync-period={options.hpa_sync_s:g}s",
        f"{prefix}-initial-readiness-delay={options.hpa_initial_readiness_s:g}s",
        f"{prefix}-cpu-initialization-period={options.hpa_cpu_initialization_s:g}s",
        f"{prefix}-downscale-stabilization={options.hpa_downscale_stabilization_s:g}s",
    ]


def _is_ready(url: str) -> bool:
    # Nothing secret is asked, and a certificate may not be there yet.
    anyone = ssl.create_default_context()
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=2, context=anyone):
            return True
    except OSError:
        return False
