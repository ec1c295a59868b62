"""What the scaler asks and tells, over a real socket, and what each way of failing means to it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler import api, objects
from scaler.api import Api, Clocks, Outcome, Refused
from scaler.cluster import Change, Cluster, Seen, Told
from scaler.objects import (
    DEPLOYMENTS,
    PODS,
    Budget,
    Condition,
    ConfigMap,
    Deployment,
    LabelRequirement,
    LabelSelector,
    Pod,
    PodUsage,
    Rival,
    Scale,
    Usage,
)
from tests.scaler.kube_api import TOKEN, Fault, KubeApi, credentials_for, deployment, kube_api, pod

NEW_YEAR = 1_767_225_600.0
SELECTOR = "app=api"


class Time:
    """Goes on when it is told to, or somebody pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def clocks(self) -> Clocks:
        return Clocks(
            now=lambda: self.now, wall=lambda: NEW_YEAR + self.now, pause=self.pause, chance=lambda: 1.0
        )

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
async def server() -> AsyncIterator[KubeApi]:
    async with kube_api() as running:
        await running.put("apps", "deployments", "api", deployment(3))
        yield running


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def client(server: KubeApi, time: Time) -> AsyncIterator[Cluster]:
    async with speaking(server, time) as speaks:
        yield speaks


@asynccontextmanager
async def speaking(server: KubeApi, time: Time, token: str = TOKEN) -> AsyncIterator[Cluster]:
    async with Api(credentials_for(server.url, token), "shop", "1.2.3", time.clocks()) as api:
        yield Cluster(api, "api", "scaler-0")


# -- the scale --


async def test_the_scale_says_how_many_and_which(client: Cluster) -> None:
    assert Scale(wanted=3, present=3, selector="app=api", version="101") == await client.scale()


async def test_a_scale_without_replicas_is_zero(client: Cluster, server: KubeApi) -> None:
    await server.put("apps", "deployments", "api", deployment(0))
    assert 0 == (await client.scale()).wanted


async def test_replicas_are_set_where_they_are_as_expected(client: Cluster, server: KubeApi) -> None:
    written = await client.set_replicas(3, 5)
    sent = server.asked[-1]
    assert (Outcome.DONE, 5) == (written.outcome, (await client.scale()).wanted)
    assert (
        "patch",
        "deployments/scale",
        {"fieldManager": "crowdgate-scaler"},
        "application/json-patch+json",
    ) == (
        sent.verb,
        sent.resource,
        sent.query,
        sent.headers["Content-Type"],
    )
    assert [
        {"op": "test", "path": "/spec/replicas", "value": 3},
        {"op": "replace", "path": "/spec/replicas", "value": 5},
    ] == json.loads(sent.body)


async def test_a_rollout_is_not_in_the_way(client: Cluster, server: KubeApi) -> None:
    await client.scale()
    await server.put("apps", "deployments", "api", deployment(3, updatedReplicas=1))
    assert Outcome.DONE is (await client.set_replicas(3, 5)).outcome


async def test_whoever_was_first_wins(client: Cluster, server: KubeApi) -> None:
    await server.put("apps", "deployments", "api", deployment(7))
    written = await client.set_replicas(3, 5)
    assert (Outcome.CONFLICT, 7) == (written.outcome, (await client.scale()).wanted)
    assert written.reason.startswith('patch deployments/scale "api": it was not as expected any more')


async def test_one_that_was_switched_off_is_left_alone(client: Cluster, server: KubeApi) -> None:
    await server.put("apps", "deployments", "api", deployment(0))
    outcomes = [(await client.set_replicas(*pair)).outcome for pair in ((0, 3), (3, 0), (3, 5))]
    assert [Outcome.REFUSED, Outcome.REFUSED, Outcome.CONFLICT] == outcomes


async def test_a_dry_run_is_checked_and_changes_nothing(client: Cluster, server: KubeApi) -> None:
    outcomes = [(await client.set_replicas(*pair, dry_run=True)).outcome for pair in ((3, 5), (4, 5))]
    assert ([Outcome.DONE, Outcome.CONFLICT], 3) == (outcomes, (await client.scale()).wanted)


async def test_of_many_who_set_it_at_once_one_wins(client: Cluster, server: KubeApi) -> None:
    written = await asyncio.gather(*(client.set_replicas(3, wanted) for wanted in range(4, 12)))
    outcomes = [each.outcome for each in written]
    assert (1, 7) == (outcomes.count(Outcome.DONE), outcomes.count(Outcome.CONFLICT))


# -- what goes wrong --


def status(code: int, **more: Any) -> bytes:
    return json.dumps({"kind": "Status", "message": "server's words", "code": code, **more}).encode()


INVALID: dict[str, Any] = {"details": {"causes": [{"field": "spec.replicas", "message": "too many"}]}}


@pytest.mark.parametrize(
    ("fault", "expected", "retry_after_s"),
    [
        pytest.param(Fault(code=400, body=status(400)), Outcome.REFUSED, None, id="400"),
        pytest.param(Fault(code=404, body=status(404)), Outcome.GONE, None, id="404"),
        pytest.param(Fault(code=409, body=status(409)), Outcome.CONFLICT, None, id="409"),
        pytest.param(Fault(code=410, body=status(410)), Outcome.EXPIRED, None, id="410"),
        pytest.param(Fault(code=415, body=status(415)), Outcome.REFUSED, None, id="415"),
        pytest.param(Fault(code=422, body=status(422)), Outcome.CONFLICT, None, id="422 of a test"),
        pytest.param(
            Fault(code=422, body=status(422, **INVALID)), Outcome.REFUSED, None, id="422 of a validation"
        ),
        pytest.param(Fault(code=429, headers={"Retry-After": "7"}), Outcome.BUSY, 7.0, id="429"),
        pytest.param(
            Fault(code=429, headers={"Retry-After": "9" * 30}), Outcome.BUSY, 300.0, id="429 for ever"
        ),
        pytest.param(
            Fault(code=429, headers={"Retry-After": "soon"}), Outcome.BUSY, None, id="429, who knows how long"
        ),
        pytest.param(
            Fault(code=500, body=status(500, details={"retryAfterSeconds": 2})),
            Outcome.BUSY,
            2.0,
            id="500 with details",
        ),
        pytest.param(Fault(code=503, body=b"<html>"), Outcome.BUSY, None, id="503 of something in between"),
        pytest.param(Fault(code=504, headers={"Retry-After": "1"}), Outcome.BUSY, 1.0, id="504"),
        pytest.param(
            Fault(code=302, headers={"Location": "http://127.0.0.1:1/"}), Outcome.REFUSED, None, id="redirect"
        ),
        pytest.param(Fault(is_reset=True), Outcome.UNREACHABLE, None, id="connection lost"),
    ],
)
async def test_each_failure_has_its_meaning_and_is_tried_once(
    client: Cluster, server: KubeApi, fault: Fault, expected: Outcome, retry_after_s: float | None
) -> None:
    server.faults = [fault]
    written = await client.set_replicas(3, 5)
    assert (expected, retry_after_s, 1, 3) == (
        written.outcome,
        written.retry_after_s,
        len(server.asked),
        server.objects["apps", "deployments", "api"]["spec"]["replicas"],
    )
    assert written.reason.startswith('patch deployments/scale "api"')


async def test_a_write_whose_answer_is_lost_is_not_made_again(client: Cluster, server: KubeApi) -> None:
    server.faults = [Fault(is_reset_after=True)]
    written = await client.set_replicas(3, 5)
    assert (Outcome.UNREACHABLE, 1, 5) == (written.outcome, len(server.asked), (await client.scale()).wanted)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(Fault(code=200, body=b"<html>"), "not an answer of an API server", id="no JSON"),
        pytest.param(Fault(code=200, body=b"[]"), "not an answer of an API server", id="another shape"),
        pytest.param(
            Fault(code=200, body=b'{"metadata": {}, "spec": {"replicas": "3"}}'),
            "Expected `int`",
            id="another type",
        ),
        pytest.param(Fault(code=200, body=b"\xff"), "not an answer of an API server", id="no text"),
        pytest.param(Fault(code=200), "not an answer of an API server", id="nothing"),
    ],
)
async def test_garbage_is_no_answer(client: Cluster, server: KubeApi, fault: Fault, expected: str) -> None:
    server.faults = [fault]
    with pytest.raises(Refused, match=expected) as refused:
        await client.scale()
    assert Outcome.UNREACHABLE is refused.value.outcome


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"garbage\r\n\r\n", id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", id="cut off"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="broken chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", id="a header without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", id="nothing"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
            id="an encoding that wasn't asked for",
        ),
        pytest.param(b"", id="hung up"),
    ],
)
async def test_whatever_speaks_in_the_server_s_place_it_is_only_unreachable(time: Time, said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as impostor:
        port = impostor.sockets[0].getsockname()[1]
        async with Api(credentials_for(f"http://127.0.0.1:{port}"), "shop", "1", time.clocks()) as api:
            with pytest.raises(Refused) as refused:
                await Cluster(api, "api", "scaler-0").scale()
    assert Outcome.UNREACHABLE is refused.value.outcome


async def test_an_answer_without_end_is_given_up(
    client: Cluster, server: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MAX_BYTES", 1000)
    server.faults = [Fault(code=200, body=b"x" * 1001), Fault(code=500, body=b"x" * 1001)]
    for _ in range(2):
        with pytest.raises(Refused, match="an answer of more than 1000 bytes"):
            await client.scale()


async def test_a_call_that_hangs_is_given_up(
    client: Cluster, server: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = api.Call(verb="get", kind=DEPLOYMENTS, name="api", timeout_s=0.05)
    server.faults = [Fault(delay_s=5)]
    assert (Outcome.UNREACHABLE, 'get deployments "api": no answer in time') == (
        (written := await client.api.write(call)).outcome,
        written.reason,
    )


async def test_nobody_there_is_said_so(time: Time) -> None:
    async with Api(credentials_for("http://127.0.0.1:1"), "shop", "1", time.clocks()) as api:
        written = await Cluster(api, "api", "scaler-0").set_replicas(3, 5)
    assert (Outcome.UNREACHABLE, True) == (
        written.outcome,
        written.reason.startswith('patch deployments/scale "api": cannot connect (Connect call failed'),
    )


async def test_a_token_that_is_not_taken_is_read_again_and_tried_once_more(
    server: KubeApi, time: Time
) -> None:
    async with speaking(server, time, "old") as client:
        rereads: list[str] = []

        def reread() -> None:
            rereads.append("once")
            server.tokens.add("old")

        client.api._credentials.reread = reread  # type: ignore[method-assign]
        written = await client.set_replicas(3, 5)
    assert (Outcome.DONE, ["once"], 2) == (written.outcome, rereads, len(server.asked))


async def test_a_token_that_is_never_taken_is_denied_and_not_shown(server: KubeApi, time: Time) -> None:
    async with speaking(server, time, "old-secret") as client:
        written = await client.set_replicas(3, 5)
    assert (Outcome.DENIED, 2) == (written.outcome, len(server.asked))
    assert "old-secret" not in repr(written)


@pytest.mark.parametrize(
    ("denied", "rule"),
    [
        pytest.param(
            ("patch", "deployments/scale"),
            "{apiGroups: [apps], resources: [deployments/scale], resourceNames: [api], verbs: [patch]}",
            id="the scale",
        ),
        pytest.param(
            ("create", "events"),
            "{apiGroups: [events.k8s.io], resources: [events], verbs: [create]}",
            id="events",
        ),
        pytest.param(
            ("patch", "pods"),
            '{apiGroups: [""], resources: [pods], resourceNames: [p], verbs: [patch]}',
            id="the core group",
        ),
    ],
)
async def test_what_is_not_allowed_names_the_rule_that_the_role_lacks(
    client: Cluster, server: KubeApi, denied: tuple[str, str], rule: str
) -> None:
    server.denied.add(denied)
    made = [
        await client.set_replicas(3, 5),
        await client.event(Told(reason="Scaled", action="Scale", note="")),
        await client.annotate_pod("p", {}),
    ]
    (written,) = (each for each in made if each.outcome is Outcome.DENIED)
    assert f"not allowed to {denied[0]} {denied[1]}" in written.reason
    assert written.reason.endswith(f"the Role needs {rule}")


async def test_every_call_says_who_asks(client: Cluster, server: KubeApi) -> None:
    await client.scale()
    headers = server.asked[-1].headers
    assert ("crowdgate-scaler/1.2.3", f"Bearer {TOKEN}") == (headers["User-Agent"], headers["Authorization"])


@given(st.binary(max_size=200))
def test_whatever_an_error_s_body_is_it_is_short_and_printable(body: bytes) -> None:
    said = api.status_of(body)
    assert api.shortened(said.message).isprintable()


# -- what is there --


async def test_the_deployment_is_read(client: Cluster) -> None:
    found = await client.deployment()
    assert found == Deployment(
        name="api",
        uid="uid-api",
        version="101",
        generation=1,
        observed_generation=1,
        wanted=3,
        present=3,
        updated=3,
        ready=3,
        unavailable=0,
        is_paused=False,
        annotations={"crowdgate/paused": "true"},
        selector=LabelSelector(match_labels={"app": "api"}),
        template=found.template,
        conditions=(Condition(type="Available", status="True", reason="MinimumReplicasAvailable"),),
    )


async def test_a_rollout_is_seen(client: Cluster, server: KubeApi) -> None:
    before = await client.deployment()
    newer = deployment(3, updatedReplicas=1)
    newer["spec"]["template"]["spec"]["containers"][0]["image"] = "api:2"
    await server.put("apps", "deployments", "api", newer)
    during = await client.deployment()
    assert (False, True, True) == (
        before.is_rolling_out,
        during.is_rolling_out,
        before.template != during.template,
    )


async def test_a_scale_that_was_not_noticed_yet_looks_like_a_rollout_and_one_that_was_does_not(
    client: Cluster, server: KubeApi
) -> None:
    await client.set_replicas(3, 5)
    unnoticed = (await client.deployment()).is_rolling_out
    await server.put(
        "apps", "deployments", "api", deployment(5, replicas=4, updatedReplicas=4, readyReplicas=3)
    )
    assert (True, False) == (unnoticed, (await client.deployment()).is_rolling_out)


async def test_a_pod_is_read(client: Cluster, server: KubeApi) -> None:
    content = pod()
    content["spec"]["initContainers"] = [{"name": "wait"}, {"name": "mesh", "restartPolicy": "Always"}]
    content["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    await server.put("", "pods", "api-1", content)
    assert await client.pods(SELECTOR) == (
        Pod(
            name="api-1",
            uid="uid-api-1",
            phase="Running",
            ip="10.0.0.7",
            node="node-1",
            labels={"app": "api"},
            annotations={},
            containers=("api", "crowdgate", "mesh"),
            created_at=NEW_YEAR,
            is_ready=True,
            ready_changed_at=NEW_YEAR + 30,
            deleting_at=NEW_YEAR + 60,
            unschedulable="",
        ),
    )


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes: cpu",
}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        pytest.param(None, (False, None, ""), id="just created"),
        pytest.param([UNSCHEDULABLE], (False, None, "0/3 nodes: cpu"), id="no node takes it"),
        pytest.param(
            [UNSCHEDULABLE | {"reason": "SchedulingGated"}], (False, None, ""), id="held back on purpose"
        ),
        pytest.param(
            [UNSCHEDULABLE | {"message": ""}], (False, None, "Unschedulable"), id="without saying why"
        ),
        pytest.param([{"type": "Ready", "status": "Unknown"}], (False, None, ""), id="its node is silent"),
    ],
)
async def test_a_pod_that_does_not_serve_says_why(
    client: Cluster, server: KubeApi, conditions: Any, expected: tuple[bool, float | None, str]
) -> None:
    await server.put("", "pods", "api-1", pod(conditions=conditions, podIP=""))
    (found,) = await client.pods(SELECTOR)
    assert expected == (found.is_ready, found.ready_changed_at, found.unschedulable)


async def test_pods_come_in_pages_and_only_those_that_are_meant(client: Cluster, server: KubeApi) -> None:
    for each in range(1_001):
        await server.put("", "pods", f"api-{each:04}", pod())
    await server.put(
        "", "pods", "other", {"metadata": {"labels": {"app": "other"}}, "spec": {"containers": []}}
    )
    found = await client.pods(SELECTOR)
    assert ([f"api-{each:04}" for each in range(1_001)], 3) == (
        [each.name for each in found],
        len(server.asked),
    )


async def test_no_pods_are_none(client: Cluster) -> None:
    assert () == await client.pods(SELECTOR)


async def test_a_page_that_is_too_old_is_expired(client: Cluster, server: KubeApi) -> None:
    server.faults = [Fault(code=200, body=b'{"metadata": {"continue": "500@50"}, "items": []}')]
    server.compact()
    with pytest.raises(Refused) as refused:
        await client.pods(SELECTOR)
    assert Outcome.EXPIRED is refused.value.outcome


async def test_a_server_that_gives_the_same_page_again_is_not_followed_for_ever(
    client: Cluster, server: KubeApi
) -> None:
    server.faults = [Fault(code=200, body=b'{"metadata": {"continue": "x"}, "items": []}')] * 5
    with pytest.raises(Refused, match="the same page again"):
        await client.pods(SELECTOR)


def usage(**containers: dict[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "api"}},
        "timestamp": "2026-01-01T00:00:00Z",
        "window": "15.5s",
        "containers": [{"name": name, "usage": used} for name, used in containers.items()],
    }


async def test_what_containers_use_is_read_and_what_cannot_be_read_is_missing(
    client: Cluster, server: KubeApi
) -> None:
    content = usage(
        api={"cpu": "250m", "memory": "1Ki"},
        half={"cpu": "1"},
        odd={"cpu": "a lot", "memory": "1"},
        negative={"cpu": "-1", "memory": "1"},
    )
    await server.put("metrics.k8s.io", "pods", "api-1", content)
    expected = PodUsage(
        pod="api-1", at=NEW_YEAR, window_s=15.5, containers={"api": Usage(cores=0.25, memory_bytes=1024.0)}
    )
    assert (expected,) == await client.pod_usages(SELECTOR)


async def test_figures_of_no_known_window_are_no_answer(client: Cluster, server: KubeApi) -> None:
    await server.put("metrics.k8s.io", "pods", "api-1", usage() | {"window": "a while"})
    with pytest.raises(Refused, match="not a duration: 'a while'"):
        await client.pod_usages(SELECTOR)


async def test_a_missing_metrics_server_is_an_outcome(client: Cluster, server: KubeApi) -> None:
    server.unknown.add("metrics.k8s.io")
    with pytest.raises(
        Refused, match=r"list pods: the API server has no metrics\.k8s\.io/v1beta1"
    ) as refused:
        await client.pod_usages(SELECTOR)
    assert Outcome.GONE is refused.value.outcome


def hpa(name: str, kind: str = "Deployment", version: str = "apps/v1") -> dict[str, Any]:
    return {"spec": {"scaleTargetRef": {"kind": kind, "name": name, "apiVersion": version}, "maxReplicas": 9}}


async def test_only_rivals_for_the_same_target_count(client: Cluster, server: KubeApi) -> None:
    rivals = {
        "a": hpa("api"),
        "b": hpa("web"),
        "c": hpa("api", "StatefulSet"),
        "d": hpa("api", version="apps/v1beta2"),
    }
    for name, content in rivals.items():
        await server.put("autoscaling", "horizontalpodautoscalers", name, content)
    keda = {
        "metadata": {"annotations": {"autoscaling.keda.sh/paused": "true"}},
        "spec": {"scaleTargetRef": {"name": "api"}},
    }
    await server.put("keda.sh", "scaledobjects", "k", keda)
    foreign = {
        "spec": {"scaleTargetRef": {"name": "api", "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}}
    }
    await server.put("keda.sh", "scaledobjects", "r", foreign)

    found = [(each.kind, each.name, each.minimum, each.maximum) for each in await client.hpas()]
    assert [("HorizontalPodAutoscaler", "a", 1, 9), ("HorizontalPodAutoscaler", "d", 1, 9)] == found
    assert await client.scaled_objects() == (
        Rival(
            kind="ScaledObject",
            name="k",
            version=server.objects["keda.sh", "scaledobjects", "k"]["metadata"]["resourceVersion"],
            minimum=0,
            maximum=100,
            annotations={"autoscaling.keda.sh/paused": "true"},
        ),
    )


async def test_without_keda_there_are_no_scaled_objects_but_not_allowed_is_not_none(
    client: Cluster, server: KubeApi
) -> None:
    server.unknown.add("keda.sh")
    assert () == await client.scaled_objects()
    server.denied.add(("list", "scaledobjects"))
    with pytest.raises(Refused, match="not allowed to list scaledobjects"):
        await client.scaled_objects()


async def test_budgets_are_read(client: Cluster, server: KubeApi) -> None:
    content = {
        "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "api"}}},
        "status": {"desiredHealthy": 2, "currentHealthy": 3, "disruptionsAllowed": 1, "expectedPods": 3},
    }
    await server.put("policy", "poddisruptionbudgets", "api", content)
    assert await client.pdbs() == (
        Budget(
            name="api",
            selector=LabelSelector(match_labels={"app": "api"}),
            min_available="50%",
            max_unavailable=None,
            desired_healthy=2,
            current_healthy=3,
        ),
    )


LABELS = {"app": "api", "tier": "web"}


@pytest.mark.parametrize(
    ("key", "operator", "values", "expected"),
    [
        pytest.param("app", "In", ("api", "x"), True, id="in"),
        pytest.param("app", "In", ("x",), False, id="not in those"),
        pytest.param("none", "In", ("x",), False, id="no such label is in nothing"),
        pytest.param("app", "NotIn", ("x",), True, id="not in"),
        pytest.param("none", "NotIn", ("x",), True, id="no such label is not in anything"),
        pytest.param("app", "Exists", None, True, id="exists"),
        pytest.param("none", "Exists", None, False, id="doesn't"),
        pytest.param("none", "DoesNotExist", None, True, id="does not exist"),
        pytest.param("app", "Gt", ("1",), False, id="an operator that we don't know"),
    ],
)
def test_a_selector_matches_as_kubernetes_does(
    key: str, operator: str, values: tuple[str, ...] | None, *, expected: bool
) -> None:
    requirement = LabelRequirement(key=key, operator=operator, values=values)
    assert expected is LabelSelector(match_labels={"tier": "web"}, match_expressions=(requirement,)).matches(
        LABELS
    )


def test_an_empty_selector_matches_all_and_one_of_other_labels_nothing() -> None:
    assert (True, False) == (
        LabelSelector().matches(LABELS),
        LabelSelector(match_labels={"tier": "db"}).matches(LABELS),
    )


async def test_a_config_map_is_read_and_may_not_be_there(client: Cluster, server: KubeApi) -> None:
    stored = await server.put("", "configmaps", "calendar", {"data": {"events.csv": "1,2"}})
    expected = ConfigMap(
        name="calendar", version=stored["metadata"]["resourceVersion"], data={"events.csv": "1,2"}
    )
    assert [expected, None] == [await client.config_map(name) for name in ("calendar", "none")]


# -- what is told --


async def test_a_pod_s_other_annotations_stay(client: Cluster, server: KubeApi) -> None:
    content = pod()
    content["metadata"]["annotations"] = {"a": "1"}
    await server.put("", "pods", "api-1", content)
    cost = {"controller.kubernetes.io/pod-deletion-cost": "-7"}
    written = await client.annotate_pod("api-1", cost)
    gone = await client.annotate_pod("api-2", cost)
    assert (Outcome.DONE, Outcome.GONE) == (written.outcome, gone.outcome)
    assert {"a": "1"} | cost == server.objects["", "pods", "api-1"]["metadata"]["annotations"]


def events(server: KubeApi) -> list[dict[str, Any]]:
    return [content for (group, _, _), content in server.objects.items() if group == "events.k8s.io"]


SCALED = Told(reason="Scaled", action="Scale", note="from 3 to 5: 90 req/s", target_uid="uid-api")


async def test_an_event_is_about_the_target(client: Cluster, server: KubeApi) -> None:
    await client.event(SCALED)
    (event,) = events(server)
    assert {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"api.{int(NEW_YEAR * 1e9):x}",
            "namespace": "shop",
            "uid": event["metadata"]["uid"],
            "generation": 1,
            "resourceVersion": "102",
        },
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "crowdgate-scaler",
        "reportingInstance": "scaler-0",
        "action": "Scale",
        "reason": "Scaled",
        "type": "Normal",
        "note": "from 3 to 5: 90 req/s",
        "regarding": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "api",
            "namespace": "shop",
            "uid": "uid-api",
        },
    } == event


async def test_the_same_event_again_is_counted_and_told_anew_after_a_while(
    client: Cluster, server: KubeApi, time: Time
) -> None:
    for at in (0.0, 10.0, 20.0):
        time.now = at
        await client.event(SCALED)
    series = [each.get("series") for each in events(server)]
    time.now = 20.0 + 361
    await client.event(SCALED)
    assert [{"count": 3, "lastObservedTime": "2026-01-01T00:00:20.000000Z"}] == series
    assert 2 == len(events(server))


async def test_an_event_that_expired_is_told_anew(client: Cluster, server: KubeApi, time: Time) -> None:
    await client.event(SCALED)
    await server.delete("events.k8s.io", "events", events(server)[0]["metadata"]["name"])
    time.now = 1.0
    await client.event(SCALED)
    assert [None] == [each.get("series") for each in events(server)]


async def test_a_long_note_is_cut_between_letters(client: Cluster, server: KubeApi) -> None:
    await client.event(Told(reason="Held", action="Hold", note="é" * 600, is_warning=True))
    (event,) = events(server)
    assert ("é" * 512, "Warning") == (event["note"], event["type"])


async def test_what_was_told_is_not_remembered_for_ever(client: Cluster) -> None:
    for each in range(100):
        await client.event(Told(reason="Scaled", action="Scale", note=str(each)))
    assert 64 == len(client._told)


# -- watching --


Names = tuple[Change, tuple[str, ...]]


class Watcher:
    """Takes what a watch tells, one by one."""

    def __init__(self, seen: AsyncIterator[Seen[Any]]) -> None:
        self._seen = seen

    async def next(self) -> Names:
        async with asyncio.timeout(5):
            seen = await anext(self._seen)
        return seen.change, tuple(each.name for each in seen.objects) or (
            (seen.reason,) if seen.reason else ()
        )


@asynccontextmanager
async def watching(client: Cluster) -> AsyncIterator[Watcher]:
    async with aclosing(client.watch(PODS, labels=SELECTOR)) as seen:
        yield Watcher(seen)


async def test_a_watch_lists_and_goes_on_from_there(client: Cluster, server: KubeApi) -> None:
    await server.put("", "pods", "a", pod())
    async with watching(client) as watcher:
        told = [await watcher.next()]
        await server.put("", "pods", "b", pod(ready=False))
        told.append(await watcher.next())
        await server.put("", "pods", "b", pod())
        told.append(await watcher.next())
        await server.put(
            "", "pods", "c", {"metadata": {"labels": {"app": "other"}}, "spec": {"containers": []}}
        )
        await server.bookmark("", "pods")
        told.append(await watcher.next())
        await server.delete("", "pods", "a")
        told.append(await watcher.next())
    assert [
        (Change.LISTED, ("a",)),
        (Change.CHANGED, ("b",)),
        (Change.CHANGED, ("b",)),
        (Change.ALIVE, ()),
        (Change.REMOVED, ("a",)),
    ] == told
    query = server.asked[-1].query
    assert {
        "labelSelector": "app=api",
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": query["resourceVersion"],
        "timeoutSeconds": "300",
    } == query


async def test_one_deployment_is_watched_by_its_name_so_that_a_rule_may_name_it(
    client: Cluster, server: KubeApi
) -> None:
    server.denied.add(("watch", "deployments"))
    async with aclosing(client.watch(DEPLOYMENTS, fields="metadata.name=api")) as seen:
        first = await anext(seen)
        lost = await anext(seen)
    assert ["api"] == [each.name for each in first.objects]
    assert lost.reason.endswith(
        "{apiGroups: [apps], resources: [deployments], resourceNames: [api], verbs: [watch]}"
    )


async def test_a_watch_that_breaks_goes_on_where_it_was_without_a_new_list(
    client: Cluster, server: KubeApi, time: Time
) -> None:
    async with watching(client) as watcher:
        await watcher.next()
        await server.put("", "pods", "a", pod())
        told = [await watcher.next()]
        server.hang_up()
        told.append(((await watcher.next())[0], ()))
        await server.put("", "pods", "b", pod())
        told.append(await watcher.next())
    verbs = [each.verb for each in server.asked]
    assert [(Change.CHANGED, ("a",)), (Change.LOST, ()), (Change.CHANGED, ("b",))] == told
    assert (["list", "watch", "watch"], [0.5]) == (verbs, time.pauses)


@pytest.mark.parametrize(
    "as_status", [pytest.param(True, id="as the status"), pytest.param(False, id="as a line")]
)
async def test_a_watch_that_is_too_old_lists_again(
    client: Cluster, server: KubeApi, *, as_status: bool
) -> None:
    server.http_410 = as_status
    async with watching(client) as watcher:
        told = [await watcher.next()]
        server.faults = [Fault(code=503)]
        told.append(((await watcher.next())[0], ()))
        await server.put("", "pods", "a", pod())
        server.compact()
        told.append(await watcher.next())
    assert [(Change.LISTED, ()), (Change.LOST, ()), (Change.LISTED, ("a",))] == told
    assert ["list", "watch", "watch", "list"] == [each.verb for each in server.asked]


async def test_a_server_that_is_away_is_asked_less_and_less_often(
    client: Cluster, server: KubeApi, time: Time
) -> None:
    server.faults = [Fault(code=503)] * 9
    async with watching(client) as watcher:
        told = [(await watcher.next())[0] for _ in range(10)]
    assert ([Change.LOST] * 9 + [Change.LISTED], [0.5, 1, 2, 4, 8, 16, 30, 30, 30]) == (told, time.pauses)


async def test_a_server_that_asks_for_patience_gets_it(client: Cluster, server: KubeApi, time: Time) -> None:
    server.faults = [Fault(code=429, headers={"Retry-After": "7"})]
    async with watching(client) as watcher:
        told = [(await watcher.next())[0] for _ in range(2)]
    assert ([Change.LOST, Change.LISTED], [7.0]) == (told, time.pauses)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        pytest.param("GARBAGE", {}, id="no JSON"),
        pytest.param("ADDED", {"metadata": {"labels": {"app": "api"}, "name": "x"}}, id="no pod"),
        pytest.param("SURPRISE", {"metadata": {"labels": {"app": "api"}, "name": "x"}}, id="another type"),
        pytest.param("ERROR", {"code": 500, "message": "etcd"}, id="an error"),
    ],
)
async def test_a_line_that_cannot_be_read_is_told_and_overcome(
    client: Cluster, server: KubeApi, time: Time, kind: str, content: dict[str, Any]
) -> None:
    async with watching(client) as watcher:
        told = [(await watcher.next())[0]]
        await server.say("", "pods", kind, content)
        told += [(await watcher.next())[0] for _ in range(4)]
        # It comes again from the same place, so the place is left.
        told.append((await watcher.next())[0])
    assert [Change.LISTED] + [Change.LOST] * 4 + [Change.LISTED] == told


async def test_a_line_without_end_is_given_up(
    client: Cluster, server: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(client) as watcher:
        await watcher.next()
        monkeypatch.setattr(api, "MAX_BYTES", 1000)
        server.faults = [Fault(code=200, body=b"x" * 1001)]
        assert (Change.LOST, ("watch pods: a line of more than 1000 bytes",)) == await watcher.next()


async def test_a_watch_that_ends_at_once_is_broken_and_not_tried_in_a_circle(
    client: Cluster, server: KubeApi, time: Time
) -> None:
    async with watching(client) as watcher:
        await watcher.next()
        server.faults = [Fault(code=200)] * 3
        told = [(await watcher.next())[0] for _ in range(3)]
    assert ([Change.LOST] * 3, [0.5, 1.0]) == (told, time.pauses)


async def test_everything_is_listed_again_after_five_minutes(
    client: Cluster, server: KubeApi, time: Time
) -> None:
    async with watching(client) as watcher:
        told = [await watcher.next()]
        await server.put("", "pods", "a", pod())
        told.append(await watcher.next())
        time.now = 300.0
        server.hang_up()
        told += [((await watcher.next())[0], ()), await watcher.next()]
    assert [(Change.LISTED, ()), (Change.CHANGED, ("a",)), (Change.LOST, ()), (Change.LISTED, ("a",))] == told


async def test_a_watch_that_is_closed_leaves_no_connection(client: Cluster, server: KubeApi) -> None:
    async with watching(client) as watcher:
        await watcher.next()
        await server.put("", "pods", "a", pod())
        await watcher.next()
    async with asyncio.timeout(5):
        while server._watching:
            await asyncio.sleep(0.001)


def test_calls_are_made_where_kubernetes_has_them() -> None:
    calls = [
        api.Call(verb="get", kind=objects.SCALES, name="api"),
        api.Call(verb="list", kind=PODS, query={"labelSelector": "a in (b,c)"}),
        api.Call(verb="get", kind=PODS, name="../x?y"),
    ]
    assert [
        "/apis/apps/v1/namespaces/shop/deployments/api/scale",
        "/api/v1/namespaces/shop/pods?labelSelector=a+in+%28b%2Cc%29",
        "/api/v1/namespaces/shop/pods/..%2Fx%3Fy",
    ] == [each.target("shop") for each in calls]
