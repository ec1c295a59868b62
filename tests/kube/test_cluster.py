import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kube.api import Api, ApiError
from tests.kube.assets import version
from tests.kube.cluster import Cluster
from tests.kube.kubelet import Kubelet
from tests.kube.metrics import Metrics, outage
from tests.kube.objects import autoscaler, deployment, deployments, eventually, pod
from tests.servers import until

pytestmark = pytest.mark.kube

_ROLE = """
rules:
- apiGroups: [apps]
  resources: [deployments]
  resourceNames: [api]
  verbs: [get]
- apiGroups: [apps]
  resources: [deployments/scale]
  resourceNames: [api]
  verbs: [get, patch]
"""


def test_the_control_plane_is_the_version_that_go_mod_names_and_kubectl_reaches_it(kube: Cluster) -> None:
    if "KUBEBUILDER_ASSETS" in os.environ or "TEST_ASSET_KUBE_APISERVER" in os.environ:
        pytest.skip("binaries from elsewhere")
    said = json.loads(kube.kubectl("version", "--output=json"))
    assert (version(), version()) == (
        said["clientVersion"]["gitVersion"],
        said["serverVersion"]["gitVersion"],
    )


async def test_the_pods_of_a_deployment_become_ready_after_their_start(
    kube: Cluster, namespace: str, kubelet: Kubelet
) -> None:
    kubelet.start_s = 1.0
    began = time.monotonic()
    kube.admin.post(deployments(namespace), deployment(replicas=3))
    await eventually(lambda: _pods(kube, namespace), "pods")
    assert not _ready(kube, namespace)
    await eventually(lambda: _ready(kube, namespace) == 3, "ready pods")
    assert time.monotonic() - began >= 1.0


async def test_scaling_through_the_scale_subresource_makes_and_takes_pods(
    kube: Cluster, namespace: str, kubelet: Kubelet
) -> None:
    kube.admin.post(deployments(namespace), deployment(replicas=1))
    for replicas in (4, 2):
        _scale(kube.admin, namespace, replicas)
        await eventually(
            lambda: _ready(kube, namespace) == len(_pods(kube, namespace)) == replicas,  # noqa: B023
            f"{replicas} pods",
        )


async def test_a_pod_on_a_node_terminates_for_as_long_as_it_was_told(
    kube: Cluster, namespace: str, kubelet: Kubelet
) -> None:
    kubelet.stop_s = 1.0
    kube.admin.post(deployments(namespace), deployment(replicas=1))
    await eventually(lambda: _pods(kube, namespace), "a pod")
    name = _pods(kube, namespace)[0]["metadata"]["name"]
    pods = f"/api/v1/namespaces/{namespace}/pods"
    binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": "node"}}
    kube.admin.post(f"{pods}/{name}/binding", binding)
    _scale(kube.admin, namespace, 0)
    await eventually(lambda: "deletionTimestamp" in kube.admin.get(f"{pods}/{name}")["metadata"], "its end")
    await eventually(lambda: not _pods(kube, namespace), "nothing")


def test_a_token_may_do_what_its_role_says_and_nothing_else(kube: Cluster, namespace: str) -> None:
    for name in ("api", "other"):
        kube.admin.post(deployments(namespace), deployment(name, replicas=0))
    scaler = kube.api(kube.token_of(namespace, _ROLE))
    at = deployments(namespace)
    patch = {"spec": {"replicas": 1}}

    assert [200, 200, 200, 403, 403, 403, 403, 403] == [
        _status(scaler, "GET", f"{at}/api"),
        _status(scaler, "GET", f"{at}/api/scale"),
        _status(scaler, "PATCH", f"{at}/api/scale", patch),
        _status(scaler, "PATCH", f"{at}/api", patch),
        _status(scaler, "PATCH", f"{at}/other/scale", patch),
        _status(scaler, "GET", at),
        _status(scaler, "GET", f"/api/v1/namespaces/{namespace}/pods"),
        _status(scaler, "GET", f"{deployments('default')}/api"),
    ]


def test_a_token_is_worth_nothing_once_its_account_is_gone(kube: Cluster, namespace: str) -> None:
    kube.admin.post(deployments(namespace), deployment(replicas=0))
    scaler = kube.api(
        kube.token_of(
            namespace, {"rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]}
        )
    )
    kube.admin.delete(f"/api/v1/namespaces/{namespace}/serviceaccounts/scaler")
    until(lambda: _status(scaler, "GET", f"{deployments(namespace)}/api") == 401, "the token to be refused")


async def test_a_disruption_budget_counts_healthy_pods(
    kube: Cluster, namespace: str, kubelet: Kubelet
) -> None:
    kube.admin.post(deployments(namespace), deployment(replicas=3))
    budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": "api"}}}
    kube.admin.post(budgets, {"metadata": {"name": "api"}, "spec": spec})

    def counts() -> tuple[int, int, int]:
        status = kube.admin.get(f"{budgets}/api")["status"]
        return status["currentHealthy"], status["desiredHealthy"], status["disruptionsAllowed"]

    await eventually(lambda: counts() == (3, 2, 1), "the budget")


async def test_a_namespace_goes_with_all_that_is_in_it(
    kube: Cluster, kubelet: Kubelet, namespace: str
) -> None:
    other = f"{namespace}-other"
    kube.admin.post("/api/v1/namespaces", {"metadata": {"name": other}})
    kube.admin.post(deployments(other), deployment(replicas=2))
    await eventually(lambda: _pods(kube, other), "pods")
    kube.admin.delete(f"/api/v1/namespaces/{other}")
    await eventually(lambda: _status(kube.admin, "GET", f"/api/v1/namespaces/{other}") == 404, "its end")


def test_a_scale_that_somebody_changed_meanwhile_is_not_overwritten(kube: Cluster, namespace: str) -> None:
    kube.admin.post(deployments(namespace), deployment(replicas=2))
    patch = [
        {"op": "test", "path": "/spec/replicas", "value": 3},
        {"op": "replace", "path": "/spec/replicas", "value": 9},
    ]
    assert 422 == _status(kube.admin, "PATCH", f"{deployments(namespace)}/api/scale", patch)
    assert 2 == kube.admin.get(f"{deployments(namespace)}/api/scale")["spec"]["replicas"]


def test_after_a_restart_a_watch_from_before_is_told_to_list_again(kube: Cluster, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    before = kube.admin.get(pods)["metadata"]["resourceVersion"]
    for name in "abc":
        kube.admin.post(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": name}})
    kube.restart_apiserver(signal.SIGKILL)
    event = kube.admin.get(f"{pods}?watch=1&timeoutSeconds=5&resourceVersion={before}")
    assert ("ERROR", 410) == (event["type"], event["object"]["code"])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_a_restart_of_the_api_server_keeps_what_is_stored(
    kube: Cluster, namespace: str, kubelet: Kubelet, how: signal.Signals
) -> None:
    kube.admin.post(deployments(namespace), deployment(replicas=1))
    await eventually(lambda: _ready(kube, namespace) == 1, "a ready pod")
    scaler = kube.api(kube.token_of(namespace, _ROLE))

    await asyncio.to_thread(kube.restart_apiserver, how)

    assert 1 == scaler.get(f"{deployments(namespace)}/api/scale")["spec"]["replicas"]
    # Controllers and kubelet find it again.
    _scale(scaler, namespace, 3)
    await eventually(lambda: _ready(kube, namespace) == 3, "ready pods", timeout_s=45.0)


async def test_the_real_autoscaler_follows_the_cpu_that_a_test_sets(
    kube: Cluster, namespace: str, kubelet: Kubelet, metrics: Metrics
) -> None:
    kube.admin.post(deployments(namespace), deployment(replicas=2))
    await eventually(lambda: _ready(kube, namespace) == 2, "ready pods")
    kube.admin.post(
        f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers", autoscaler(cpu=50)
    )

    def follows(load: int, replicas: int) -> bool:
        share = f"{load // _ready(kube, namespace)}m"
        metrics.sample_all({"app": {"cpu": share}, "crowdgate": {"cpu": "1m"}}, selector="app=api")
        return _replicas(kube, namespace) == _ready(kube, namespace) == replicas

    # A pod requests 100m and shall use half of it. The same load on more pods is less for each: else the autoscaler, which
    # leaves out pods that are ready for less than a window, goes further than it should.
    await eventually(lambda: follows(200, 4), "more pods")
    await eventually(lambda: follows(100, 2), "fewer pods")


def test_an_outage_of_the_metrics_answers_503_and_ends(
    kube: Cluster, namespace: str, metrics: Metrics
) -> None:
    kube.admin.post(f"/api/v1/namespaces/{namespace}/pods", pod("a"))
    metrics.sample("a", {"app": {"cpu": "5m"}}, at=0.0)
    samples = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"
    with outage(kube):
        assert 503 == _status(kube.admin, "GET", samples)
    (sample,) = kube.admin.get(samples)["items"]
    assert ("a", "1970-01-01T00:00:00Z") == (sample["metadata"]["name"], sample["timestamp"])


def test_servers_end_with_the_process_that_tests_in_it_even_when_that_is_killed(tmp_path: Path) -> None:
    script = f"""
        import threading, time
        from pathlib import Path
        from tests.kube.daemon import Daemon
        server = Daemon(["sleep", "600"], Path({str(tmp_path / "log")!r}))
        # The thread ends, the server does not.
        thread = threading.Thread(target=server.start)
        thread.start()
        thread.join()
        time.sleep(0.2)
        assert server.running
        print(server.pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        server = int(process.stdout.readline())
        assert _alive(server)
        process.kill()
    until(lambda: not _alive(server), "the server to end")


def _pods(kube: Cluster, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kube.admin.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    return found


def _ready(kube: Cluster, namespace: str) -> int:
    status = kube.admin.get(f"{deployments(namespace)}/api")["status"]
    return int(status.get("readyReplicas", 0))


def _replicas(kube: Cluster, namespace: str) -> int:
    return int(kube.admin.get(f"{deployments(namespace)}/api/scale")["spec"]["replicas"])


def _scale(api: Api, namespace: str, replicas: int) -> None:
    api.patch(f"{deployments(namespace)}/api/scale", {"spec": {"replicas": replicas}})


def _status(api: Api, method: str, path: str, body: Any = None) -> int:
    try:
        api.call(method, path, body)
    except ApiError as refusal:
        return refusal.status
    return 200


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
