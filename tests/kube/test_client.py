"""The scaler's client and its Role, against a real API server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler.api import Api, Outcome, Refused
from scaler.cluster import Cluster as Client
from scaler.cluster import Told
from scaler.credentials import of_kubeconfig
from scaler.election import Terms
from scaler.lease import Elector
from tests.kube.api import ApiError
from tests.kube.cluster import Cluster
from tests.kube.kubelet import Kubelet
from tests.kube.metrics import Metrics
from tests.kube.objects import deployment, deployments, eventually

pytestmark = pytest.mark.kube

_NAMES = {"DEPLOYMENT": "api", "CALENDAR": "calendar", "LEASE": "scaler"}
_FILE = Path(__file__).parents[2] / "charts/crowdgate/files/scaler-role.yaml"


def role(without: int | None = None) -> Mapping[str, Any]:
    """As the chart has it, or less one of its rules."""
    text = _FILE.read_text("utf-8")
    for name, meant in _NAMES.items():
        text = text.replace(name, meant)
    rules = yaml.safe_load(text)["rules"]
    return {"rules": [rule for number, rule in enumerate(rules) if number != without]}


@asynccontextmanager
async def client_of(kube: Cluster, namespace: str, token: str, folder: Path) -> AsyncIterator[Client]:
    config = {
        "clusters": [
            {"name": "test", "cluster": {"server": kube.url, "certificate-authority": str(kube.ca)}}
        ],
        "users": [{"name": "scaler", "user": {"token": token}}],
        "contexts": [
            {"name": "test", "context": {"cluster": "test", "user": "scaler", "namespace": namespace}}
        ],
        "current-context": "test",
    }
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config), "utf-8")
    async with Api(of_kubeconfig(file), namespace, "test") as api:
        yield Client(api, "api", "scaler-0")


@pytest.fixture
async def client(
    kube: Cluster, namespace: str, kubelet: Kubelet, metrics: Metrics, tmp_path: Path
) -> AsyncIterator[Client]:
    """With the Role's rights, and three pods."""
    kube.admin.post(deployments(namespace), deployment(replicas=3))
    token = kube.token_of(namespace, role())
    async with client_of(kube, namespace, token, tmp_path) as made:
        yield made


async def test_replicas_are_set_only_where_they_are_as_expected(client: Client) -> None:
    done = await client.set_replicas(3, 5)
    late = await client.set_replicas(3, 7)
    assert (done.outcome, late.outcome, (await client.scale()).wanted) == (
        Outcome.DONE,
        Outcome.CONFLICT,
        5,
    )


async def test_a_dry_run_is_admitted_and_changes_nothing(client: Client) -> None:
    done = await client.set_replicas(3, 5, dry_run=True)
    assert (done.outcome, (await client.scale()).wanted) == (Outcome.DONE, 3)


async def test_among_hundreds_of_foreign_writes_none_is_lost(
    kube: Cluster, namespace: str, client: Client
) -> None:
    """Each adds one. Whoever overwrote another's would be found out by the sum."""
    path, foreign, ours = f"{deployments(namespace)}/api/scale", 0, 0

    def add_one() -> bool:
        scale = kube.admin.get(path)
        scale["spec"]["replicas"] += 1
        try:
            kube.admin.call("PUT", path, scale)
        except ApiError as error:
            if error.status != 409:
                raise
            return False
        return True

    async def others() -> None:
        nonlocal foreign
        for _ in range(300):
            foreign += await asyncio.to_thread(add_one)

    async def we() -> None:
        nonlocal ours
        for _ in range(300):
            replicas = (await client.scale()).wanted
            ours += (await client.set_replicas(replicas, replicas + 1)).outcome is Outcome.DONE

    await asyncio.gather(others(), we())
    assert (foreign > 50, ours > 50, (await client.scale()).wanted) == (True, True, 3 + foreign + ours)


async def test_what_it_needs_is_read(client: Client, metrics: Metrics) -> None:
    selector = (await client.scale()).selector

    async def ready() -> int:
        return sum(pod.is_ready for pod in await client.pods(selector))

    async with asyncio.timeout(20):
        while await ready() < 3:
            await asyncio.sleep(0.1)
    assert [await client.hpas(), await client.scaled_objects(), await client.pdbs()] == [(), (), ()]
    assert await client.config_map("calendar") is None


async def test_what_it_tells_is_an_event_of_the_deployment(
    kube: Cluster, namespace: str, client: Client
) -> None:
    written = await client.event(Told(reason="Scaled", action="Scale", note="from 3 to 5 replicas"))
    events = kube.admin.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
    ours = [event for event in events if event["reportingController"] == "crowdgate-scaler"]
    assert written.outcome is Outcome.DONE
    assert [(event["reason"], event["regarding"]["name"], event["note"]) for event in ours] == [
        ("Scaled", "api", "from 3 to 5 replicas")
    ]


async def _event(client: Client) -> None:
    written = await client.event(Told(reason="Scaled", action="Scale", note="x"))
    if written.outcome is not Outcome.DONE:
        raise Refused(written.outcome, written.reason)


async def _lease(client: Client) -> None:
    elector = Elector(client.api, "scaler", "scaler-0", Terms())
    await elector.step()
    await elector.step()
    if elector.why:
        raise Refused(Outcome.DENIED, elector.why)


_NEEDED: list[tuple[str, Callable[[Client], Awaitable[object]]]] = [
    ("deployments", lambda client: client.deployment()),
    ("deployments/scale", lambda client: client.scale()),
    ("pods", lambda client: client.pods("app=api")),
    ("pods.metrics.k8s.io", lambda client: client.pod_usages("app=api")),
    ("horizontalpodautoscalers", lambda client: client.hpas()),
    ("scaledobjects", lambda client: client.scaled_objects()),
    ("poddisruptionbudgets", lambda client: client.pdbs()),
    ("configmaps", lambda client: client.config_map("calendar")),
    ("leases", _lease),
    ("leases", _lease),
    ("events", _event),
]


@pytest.mark.parametrize("number", range(len(_NEEDED)), ids=[name for name, _ in _NEEDED])
async def test_each_rule_of_the_role_is_needed_and_its_lack_is_told(
    kube: Cluster, namespace: str, metrics: Metrics, tmp_path: Path, number: int
) -> None:
    kube.admin.post(deployments(namespace), deployment(replicas=1))
    what, call = _NEEDED[number]
    async with client_of(kube, namespace, kube.token_of(namespace, role(), "whole"), tmp_path) as whole:
        await call(whole)
    if what == "leases":
        await eventually(lambda: _forgotten(kube, namespace), "the Lease to be gone")
    token = kube.token_of(namespace, role(without=number), "less")
    async with client_of(kube, namespace, token, tmp_path) as less:
        with pytest.raises(Refused, match=what.partition(".")[0]) as refused:
            await call(less)
    assert refused.value.outcome is Outcome.DENIED


def _forgotten(kube: Cluster, namespace: str) -> bool:
    kube.admin.delete(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/scaler")
    return True


def test_every_rule_has_its_call() -> None:
    assert len(role()["rules"]) == len(_NEEDED)
