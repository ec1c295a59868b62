from pathlib import Path

import pytest

from tests.kube.assets import Assets, find

_NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")


@pytest.fixture(autouse=True)
def nothing_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    for name in _NAMES:
        monkeypatch.delenv(_variable(name), raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))


def test_without_binaries_nothing_is_found() -> None:
    assert find() is None


def test_the_folder_of_envtest_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = _binaries(tmp_path / "envtest", *_NAMES)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(folder))
    assert find() == Assets(
        etcd=folder / "etcd",
        kube_apiserver=folder / "kube-apiserver",
        kube_controller_manager=folder / "kube-controller-manager",
        kubectl=folder / "kubectl",
    )


def test_a_binary_named_by_itself_goes_before_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = _binaries(tmp_path / "own", "kube-apiserver") / "kube-apiserver"
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(_binaries(tmp_path / "envtest", *_NAMES)))
    monkeypatch.setenv("TEST_ASSET_KUBE_APISERVER", str(own))
    found = find()
    assert found is not None
    assert own == found.kube_apiserver


def test_one_binary_that_is_missing_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(_binaries(tmp_path, "etcd", "kube-apiserver", "kubectl")))
    assert find() is None


def _variable(name: str) -> str:
    return "TEST_ASSET_" + name.upper().replace("-", "_")


def _binaries(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch(mode=0o755)
    return folder
