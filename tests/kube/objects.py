"""Objects that tests make, and waiting for what becomes of them."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tests.kube.api import ApiError


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [_container("app", "100m")]}}


def deployments(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


def deployment(name: str = "api", replicas: int = 3) -> dict[str, Any]:
    """An API's container and a sidecar, with requests: the autoscaler computes shares of them."""
    labels = {"app": name}
    containers = [_container("app", "100m"), _container("crowdgate", "100m")]
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


def autoscaler(name: str = "api", *, cpu: int = 50, max_replicas: int = 10) -> dict[str, Any]:
    """On the CPU of the API's container alone, a share of what it requests in percent."""
    target = {"type": "Utilization", "averageUtilization": cpu}
    resource = {"name": "cpu", "container": "app", "target": target}
    return {
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1,
            "maxReplicas": max_replicas,
            "metrics": [{"type": "ContainerResource", "containerResource": resource}],
        },
    }


async def eventually(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Lets the test's tasks run in between. A refusal or a server that is away means not yet."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (ApiError, OSError, KeyError):
            pass
        await asyncio.sleep(0.05)
    raise TimeoutError(f"waited {timeout_s:g} s for {what}")


def _container(name: str, cpu: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": f"test/{name}:1",
        "resources": {"requests": {"cpu": cpu, "memory": "100Mi"}},
    }
