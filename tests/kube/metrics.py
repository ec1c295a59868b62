"""metrics.k8s.io as a test says it: what metrics-server would answer for pods, without one.

PodMetrics is a custom resource here, in the group, version and plural of the real one: the API server answers lists
with label selectors just as it does for metrics-server, and the real autoscaler takes them. Not the same: objects
stay until they are taken again, so a stale sample is one with an old `at`.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tests.kube.api import ApiError
from tests.kube.cluster import Cluster
from tests.servers import until

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_API_SERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
_CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "pods.metrics.k8s.io",
        # Groups under k8s.io are Kubernetes' own: who uses one must say that nobody approved it.
        "annotations": {"api-approved.kubernetes.io": "unapproved, only for tests"},
    },
    "spec": {
        "group": "metrics.k8s.io",
        "scope": "Namespaced",
        "names": {
            "plural": "pods",
            "singular": "podmetric",
            "kind": "PodMetrics",
            "listKind": "PodMetricsList",
        },
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


def install(cluster: Cluster) -> None:
    """Serves the group, once in a cluster's life."""
    try:
        cluster.admin.post(_CRDS, _CRD)
    except ApiError as refusal:
        if refusal.reason != "AlreadyExists":
            raise
    until(lambda: _served(cluster), "metrics.k8s.io to be served")


@contextmanager
def outage(cluster: Cluster) -> Iterator[None]:
    """The group answers 503, as it does while metrics-server is away. For all namespaces."""
    service = {"namespace": "kube-system", "name": "metrics-server", "port": 443}
    cluster.admin.patch(
        _API_SERVICE,
        {
            # With its label, the API server would undo this.
            "metadata": {"labels": {"kube-aggregator.kubernetes.io/automanaged": None}},
            "spec": {"service": service, "insecureSkipTLSVerify": True},
        },
    )
    try:
        until(lambda: not _served(cluster), "metrics.k8s.io to fail")
        yield
    finally:
        # The API server makes its own again.
        cluster.admin.delete(_API_SERVICE)
        until(lambda: _served(cluster), "metrics.k8s.io to be served")


class Metrics:
    """The samples of one namespace's pods."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._api = cluster.admin
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._samples = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"

    def sample(
        self,
        pod: str,
        usage: Mapping[str, Mapping[str, str]],
        *,
        at: float | None = None,
        window_s: float = 1.0,
    ) -> None:
        """What each container of the pod uses: `{"app": {"cpu": "120m", "memory": "80Mi"}}`, as of Unix time `at`.

        The autoscaler doesn't count a young pod's CPU until a whole window lies after its readiness: hence a short one.
        """
        # metrics-server copies the pod's labels: lists are by selector.
        labels = self._api.get(f"{self._pods}/{pod}")["metadata"].get("labels", {})
        self._put(_sample(pod, labels, usage, at, window_s))

    def sample_all(
        self, usage: Mapping[str, Mapping[str, str]], *, selector: str = "", at: float | None = None
    ) -> None:
        """The same for each running pod now there; samples of pods that are gone go."""
        pods = self._api.get(f"{self._pods}?labelSelector={selector}")["items"]
        labels = {
            pod["metadata"]["name"]: pod["metadata"].get("labels", {})
            for pod in pods
            if pod["status"].get("phase") == "Running"
        }
        for gone in self._names(selector) - labels.keys():
            self.forget(gone)
        for pod, its in labels.items():
            self._put(_sample(pod, its, usage, at, 1.0))

    def forget(self, pod: str) -> None:
        self._api.delete(f"{self._samples}/{pod}")

    def _put(self, sample: dict[str, Any]) -> None:
        try:
            self._api.patch(f"{self._samples}/{sample['metadata']['name']}", sample)
        except ApiError as refusal:
            if refusal.reason != "NotFound":
                raise
            self._api.post(self._samples, sample)

    def _names(self, selector: str) -> set[str]:
        samples = self._api.get(f"{self._samples}?labelSelector={selector}")["items"]
        return {sample["metadata"]["name"] for sample in samples}


def _sample(
    pod: str,
    labels: Mapping[str, str],
    usage: Mapping[str, Mapping[str, str]],
    at: float | None,
    window_s: float,
) -> dict[str, Any]:
    taken = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    return {
        "apiVersion": "metrics.k8s.io/v1beta1",
        "kind": "PodMetrics",
        "metadata": {"name": pod, "labels": dict(labels)},
        "timestamp": taken.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "window": f"{window_s:g}s",
        "containers": [{"name": name, "usage": dict(used)} for name, used in usage.items()],
    }


def _served(cluster: Cluster) -> bool:
    try:
        cluster.admin.get("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods")
    except ApiError:
        return False
    return True
