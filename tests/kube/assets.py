"""Where the binaries of a real control plane are: envtest's environment variables, else what binaries/build.sh built."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

REMEDY = "run tests/kube/binaries/build.sh (it needs Go, and some minutes once), or set KUBEBUILDER_ASSETS"

_GO_MOD = Path(__file__).parent / "binaries" / "go.mod"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """The executables."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path


def version() -> str:
    """The Kubernetes that binaries/go.mod asks for."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", _GO_MOD.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def built() -> Path:
    """The folder that build.sh fills."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "crowdgate" / "kube" / version()


def find() -> Assets | None:
    """One binary's variable (TEST_ASSET_ETCD) goes before the folder of all (KUBEBUILDER_ASSETS), that before ours.

    envtest's own downloads have no kube-controller-manager: name one by TEST_ASSET_KUBE_CONTROLLER_MANAGER.
    """
    folder = Path(os.environ.get("KUBEBUILDER_ASSETS") or built())
    paths = {
        name: Path(os.environ.get(f"TEST_ASSET_{name.upper()}") or folder / name.replace("_", "-"))
        for name in Assets.__dataclass_fields__
    }
    if not all(os.access(path, os.X_OK) for path in paths.values()):
        return None
    return Assets(**paths)
