"""What the Kubernetes API says, as values of just the fields that are read. What else is in its answers is passed over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

import msgspec

from scaler.quantity import duration_s, quantity

T = TypeVar("T")


class LabelSelector(msgspec.Struct, frozen=True, rename="camel"):
    """Which pods are meant, by their labels. An empty one means all of them."""

    match_labels: dict[str, str] | None = None
    match_expressions: tuple[LabelRequirement, ...] | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """An operator that we don't know matches nothing."""
        exact = all(labels.get(key) == value for key, value in (self.match_labels or {}).items())
        return exact and all(each.matches(labels) for each in self.match_expressions or ())


class LabelRequirement(msgspec.Struct, frozen=True):
    """One of a selector's expressions."""

    key: str
    operator: str
    values: tuple[str, ...] | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        value, values = labels.get(self.key), self.values or ()
        match self.operator:
            case "In":
                return value in values
            case "NotIn":
                return value not in values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case _:
                return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How many pods are wanted and there are, and which ones."""

    wanted: int
    """0 means that somebody switched it off: hands off."""
    present: int
    selector: str
    version: str


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """Of a Deployment."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The target."""

    name: str
    uid: str
    version: str
    generation: int
    observed_generation: int
    wanted: int
    present: int
    updated: int
    """Pods of the newest template."""
    ready: int
    unavailable: int
    is_paused: bool
    """Its rollout is (`spec.paused`)."""
    annotations: Mapping[str, str]
    selector: LabelSelector
    template: str
    """Differs where the pods' template does."""
    conditions: tuple[Condition, ...]

    @property
    def is_rolling_out(self) -> bool:
        """Whether pods are being replaced by others: what they need and cost says little then."""
        return self.observed_generation < self.generation or self.updated < self.present


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """Instants are Unix seconds, by the API server's clock or the kubelet's."""

    name: str
    uid: str
    phase: str
    ip: str
    """Empty until it has one."""
    node: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    containers: tuple[str, ...]
    """Sidecars too, whether they are containers or init containers that go on."""
    created_at: float
    is_ready: bool
    ready_changed_at: float | None
    """When it became ready, or ceased to be. None until the kubelet says."""
    deleting_at: float | None
    """By when it has to be gone. None if it may stay."""
    unschedulable: str
    """Why no node takes it. Empty where one does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a container used in the mean over a window."""

    cores: float
    memory_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PodUsage:
    """What a pod's containers used; those with figures that can't be read are missing."""

    pod: str
    at: float
    """The end of the window: Unix seconds, by the node's clock."""
    window_s: float
    containers: Mapping[str, Usage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Another scaler of the same target: a HorizontalPodAutoscaler, or KEDA's ScaledObject."""

    kind: str
    name: str
    version: str
    minimum: int
    maximum: int
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A PodDisruptionBudget. It doesn't hold back a Deployment that is scaled down: whoever scales has to look."""

    name: str
    selector: LabelSelector | None
    """None matches nothing."""
    min_available: int | str | None
    max_unavailable: int | str | None
    desired_healthy: int
    current_healthy: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMap:
    """Texts by name."""

    name: str
    version: str
    data: Mapping[str, str]


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _ScaleSpec(msgspec.Struct, frozen=True):
    # Left out where it is 0.
    replicas: int = 0


class _ScaleStatus(msgspec.Struct, frozen=True):
    replicas: int = 0
    selector: str = ""


class _Scale(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _ScaleSpec = _ScaleSpec()
    status: _ScaleStatus = _ScaleStatus()


class _DeploymentSpec(msgspec.Struct, frozen=True):
    selector: LabelSelector
    template: msgspec.Raw
    replicas: int = 1
    paused: bool = False


class _DeploymentStatus(msgspec.Struct, frozen=True, rename="camel"):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    unavailable_replicas: int = 0
    conditions: tuple[Condition, ...] | None = None


class _Deployment(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _DeploymentSpec
    status: _DeploymentStatus = _DeploymentStatus()


class _Container(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    restart_policy: str = ""


class _PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    containers: tuple[_Container, ...]
    init_containers: tuple[_Container, ...] | None = None
    node_name: str = ""


class _PodCondition(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class _PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    conditions: tuple[_PodCondition, ...] | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _PodSpec
    status: _PodStatus = _PodStatus()


class _ContainerMetrics(msgspec.Struct, frozen=True):
    name: str
    usage: dict[str, str | float]


class _PodMetrics(msgspec.Struct, frozen=True):
    metadata: _Meta
    timestamp: datetime
    window: str
    containers: tuple[_ContainerMetrics, ...] | None = None


class TargetRef(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    # KEDA's defaults; an HPA says all of them.
    kind: str = "Deployment"
    api_version: str = "apps/v1"


class _HpaSpec(msgspec.Struct, frozen=True, rename="camel"):
    scale_target_ref: TargetRef
    min_replicas: int = 1
    max_replicas: int = 0


class _Hpa(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _HpaSpec


class _ScaledObjectSpec(msgspec.Struct, frozen=True, rename="camel"):
    scale_target_ref: TargetRef
    min_replica_count: int = 0
    max_replica_count: int = 100


class _ScaledObject(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _ScaledObjectSpec


class _PdbSpec(msgspec.Struct, frozen=True, rename="camel"):
    selector: LabelSelector | None = None
    min_available: int | str | None = None
    max_unavailable: int | str | None = None


class _PdbStatus(msgspec.Struct, frozen=True, rename="camel"):
    desired_healthy: int = 0
    current_healthy: int = 0


class _Pdb(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _PdbSpec
    status: _PdbStatus = _PdbStatus()


class _ConfigMap(msgspec.Struct, frozen=True):
    metadata: _Meta
    data: dict[str, str] | None = None


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    more: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct, frozen=True):
    metadata: _ListMeta
    items: tuple[msgspec.Raw, ...] | None = None


class WatchLine(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class Metadata(msgspec.Struct, frozen=True):
    metadata: _Meta


class _Cause(msgspec.Struct, frozen=True):
    field: str = ""


class _StatusDetails(msgspec.Struct, frozen=True, rename="camel"):
    causes: tuple[_Cause, ...] | None = None
    retry_after_seconds: int = 0


class Status(msgspec.Struct, frozen=True):
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _StatusDetails | None = None


def _scale(raw: bytes | msgspec.Raw) -> Scale:
    said = msgspec.json.decode(raw, type=_Scale)
    return Scale(
        wanted=said.spec.replicas,
        present=said.status.replicas,
        selector=said.status.selector,
        version=said.metadata.resource_version,
    )


def _deployment(raw: bytes | msgspec.Raw) -> Deployment:
    said = msgspec.json.decode(raw, type=_Deployment)
    meta, spec, status = said.metadata, said.spec, said.status
    return Deployment(
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        generation=meta.generation,
        observed_generation=status.observed_generation,
        wanted=spec.replicas,
        present=status.replicas,
        updated=status.updated_replicas,
        ready=status.ready_replicas,
        unavailable=status.unavailable_replicas,
        is_paused=spec.paused,
        annotations=meta.annotations or {},
        selector=spec.selector,
        template=hashlib.sha256(bytes(spec.template)).hexdigest()[:16],
        conditions=status.conditions or (),
    )


def _pod(raw: bytes | msgspec.Raw) -> Pod:
    said = msgspec.json.decode(raw, type=_Pod)
    meta, spec, status = said.metadata, said.spec, said.status
    conditions = {each.type: each for each in status.conditions or ()}
    ready, scheduled = conditions.get("Ready"), conditions.get("PodScheduled")
    is_stuck = scheduled is not None and scheduled.status == "False" and scheduled.reason == "Unschedulable"
    sidecars = [each for each in spec.init_containers or () if each.restart_policy == "Always"]
    return Pod(
        name=meta.name,
        uid=meta.uid,
        phase=status.phase,
        ip=status.pod_ip,
        node=spec.node_name,
        labels=meta.labels or {},
        annotations=meta.annotations or {},
        containers=tuple(each.name for each in (*spec.containers, *sidecars)),
        created_at=_instant(meta.creation_timestamp) or 0.0,
        is_ready=ready is not None and ready.status == "True",
        ready_changed_at=_instant(ready.last_transition_time) if ready is not None else None,
        deleting_at=_instant(meta.deletion_timestamp),
        unschedulable=(scheduled.message or scheduled.reason) if is_stuck and scheduled is not None else "",
    )


def _pod_usage(raw: bytes | msgspec.Raw) -> PodUsage:
    said = msgspec.json.decode(raw, type=_PodMetrics)
    usages = {each.name: _usage(each.usage) for each in said.containers or ()}
    try:
        window_s = duration_s(said.window)
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from error
    return PodUsage(
        pod=said.metadata.name,
        at=said.timestamp.timestamp(),
        window_s=window_s,
        containers={name: usage for name, usage in usages.items() if usage is not None},
    )


def _usage(said: Mapping[str, str | float]) -> Usage | None:
    """None where either figure is missing, malformed or negative: half of it would look like an idle container."""
    try:
        cores, memory = quantity(str(said["cpu"])), quantity(str(said["memory"]))
    except (KeyError, ValueError):
        return None
    return Usage(cores=cores, memory_bytes=memory) if cores >= 0 and memory >= 0 else None


def _hpa(raw: bytes | msgspec.Raw) -> tuple[TargetRef, Rival]:
    said = msgspec.json.decode(raw, type=_Hpa)
    limits = (said.spec.min_replicas, said.spec.max_replicas)
    return said.spec.scale_target_ref, _rival("HorizontalPodAutoscaler", said.metadata, limits)


def _scaled_object(raw: bytes | msgspec.Raw) -> tuple[TargetRef, Rival]:
    said = msgspec.json.decode(raw, type=_ScaledObject)
    limits = (said.spec.min_replica_count, said.spec.max_replica_count)
    return said.spec.scale_target_ref, _rival("ScaledObject", said.metadata, limits)


def _rival(kind: str, meta: _Meta, limits: tuple[int, int]) -> Rival:
    return Rival(
        kind=kind,
        name=meta.name,
        version=meta.resource_version,
        minimum=limits[0],
        maximum=limits[1],
        annotations=meta.annotations or {},
    )


def _budget(raw: bytes | msgspec.Raw) -> Budget:
    said = msgspec.json.decode(raw, type=_Pdb)
    return Budget(
        name=said.metadata.name,
        selector=said.spec.selector,
        min_available=said.spec.min_available,
        max_unavailable=said.spec.max_unavailable,
        desired_healthy=said.status.desired_healthy,
        current_healthy=said.status.current_healthy,
    )


def _config_map(raw: bytes | msgspec.Raw) -> ConfigMap:
    said = msgspec.json.decode(raw, type=_ConfigMap)
    return ConfigMap(name=said.metadata.name, version=said.metadata.resource_version, data=said.data or {})


def _instant(said: datetime | None) -> float | None:
    return said.timestamp() if said is not None else None


def micro_time(unix_s: float) -> str:
    """As MicroTime is written: with six digits, even where they are zeros."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A resource that can be listed and watched, and how one of its objects is read."""

    group: str
    version: str
    resource: str
    read: Callable[[bytes | msgspec.Raw], T]

    @property
    def api(self) -> str:
        """For a sentence: `metrics.k8s.io/v1beta1`."""
        return f"{self.group}/{self.version}" if self.group else self.version


DEPLOYMENTS = Kind("apps", "v1", "deployments", _deployment)
PODS = Kind("", "v1", "pods", _pod)
CONFIG_MAPS = Kind("", "v1", "configmaps", _config_map)
BUDGETS = Kind("policy", "v1", "poddisruptionbudgets", _budget)
SCALES = Kind("apps", "v1", "deployments/scale", _scale)
METRICS = Kind("metrics.k8s.io", "v1beta1", "pods", _pod_usage)
HPAS = Kind("autoscaling", "v2", "horizontalpodautoscalers", _hpa)
SCALED_OBJECTS = Kind("keda.sh", "v1alpha1", "scaledobjects", _scaled_object)
EVENTS = Kind("events.k8s.io", "v1", "events", bytes)
