"""The part of a kubelet that autoscaling sees: pods become Running and Ready after a while, and deleted ones go."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.kube.cluster import Cluster

_MERGE = {"Content-Type": "application/merge-patch+json"}


class Kubelet:
    """Looks after one namespace's pods while it is entered.

    Pods are left unbound, so that the API server itself ends them at once; those that a test binds to a node end
    `stop_s` after their deletion. `start_s` is for pods that appear from now on; infinity leaves them Pending.
    """

    def __init__(
        self, cluster: Cluster, namespace: str, *, start_s: float = 0.0, stop_s: float = 0.0
    ) -> None:
        self.start_s = start_s
        self.stop_s = stop_s
        self._cluster = cluster
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        # By the pods' uid: a name may come again.
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._stopping: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self._cluster.url,
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(self._cluster.ca))),
            headers={"Authorization": f"Bearer {self._cluster.admin_token}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        )
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # First: it aborts connections. A cancelled watch would close its own politely, by TLS, for longer than the loop lives.
        await self._session.close()
        tasks = [self._watching, *self._starting.values(), *self._stopping.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                async for pod in self._seen():
                    self._look_after(pod)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.1)

    async def _seen(self) -> AsyncIterator[dict[str, Any]]:
        """Every pod as it is and as it changes, until the API server ends the watch.

        Without a resource version a watch begins with what is there: no list, no relist.
        """
        async with self._session.get(self._pods, params={"watch": "1"}) as response:
            response.raise_for_status()
            async for line in response.content:
                event = json.loads(line)
                if event["type"] in {"ADDED", "MODIFIED"}:
                    yield event["object"]

    def _look_after(self, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        if "deletionTimestamp" in pod["metadata"]:
            if uid not in self._stopping:
                self._stopping[uid] = asyncio.create_task(self._stop(pod, self.stop_s))
        elif uid not in self._starting and pod["status"].get("phase", "Pending") == "Pending":
            self._starting[uid] = asyncio.create_task(self._start(pod, self.start_s))

    async def _start(self, pod: dict[str, Any], after_s: float) -> None:
        seen = _now()
        await asyncio.sleep(after_s)
        await self._ask("PATCH", pod, {"status": _running(pod, seen)})

    async def _stop(self, pod: dict[str, Any], after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._ask("DELETE", pod, {"gracePeriodSeconds": 0})

    async def _ask(self, method: str, pod: dict[str, Any], body: dict[str, Any]) -> None:
        """Until the API server answers, whatever it says: a pod may be gone by now."""
        path = f"{self._pods}/{pod['metadata']['name']}" + ("/status" if method == "PATCH" else "")
        if method == "PATCH":
            body = {"metadata": {"uid": pod["metadata"]["uid"]}, **body}
        while True:
            try:
                async with self._session.request(
                    method, path, json=body, headers=_MERGE if method == "PATCH" else None
                ) as response:
                    if response.status < 500:
                        return
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(0.1)


def _running(pod: dict[str, Any], seen: str) -> dict[str, Any]:
    now = _now()
    conditions = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "startTime": seen,
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in conditions],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": container["image"],
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
            for container in pod["spec"]["containers"]
        ],
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
