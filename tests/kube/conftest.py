"""A real control plane for the session, a namespace for each test. Without the binaries: a skip that says what to do.

KUBE_TESTS=required turns that skip into a failure: whoever builds them wants to know that they ran.
"""

import os
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.kube import metrics as metrics_api
from tests.kube.assets import REMEDY, find
from tests.kube.cluster import Cluster, Options, cluster
from tests.kube.kubelet import Kubelet
from tests.kube.metrics import Metrics


@pytest.fixture(scope="session")
def kube() -> Iterator[Cluster]:
    """Its autoscaler looks every second, and forgets what it recommended as soon."""
    if find() is None:
        message = f"no control plane: {REMEDY}"
        if os.environ.get("KUBE_TESTS") == "required":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    with cluster(Options(hpa_sync_s=1.0, hpa_downscale_stabilization_s=1.0)) as running:
        yield running


@pytest.fixture
def namespace(kube: Cluster) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    kube.admin.post("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    # The namespace controller takes all that is in it, in its own time.
    kube.admin.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
async def kubelet(kube: Cluster, namespace: str) -> AsyncIterator[Kubelet]:
    """Pods are ready at once; a test that minds sets `start_s` first."""
    async with Kubelet(kube, namespace) as running:
        yield running


@pytest.fixture
def metrics(kube: Cluster, namespace: str) -> Metrics:
    metrics_api.install(kube)
    return Metrics(kube, namespace)
