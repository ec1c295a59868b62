"""A small, faithful API server over a real socket: objects with versions, JSON Patch, optimistic updates, pages, watches.

What it does as the real one, as far as the scaler can tell: a write with an old resourceVersion is a 409; a patch whose test
fails is a 422 that names no field, an invalid object is one that does; a Scale without replicas leaves the field out; spec
changes raise the generation; a watch goes on from a version, tells bookmarks, and ends with an ERROR line of 410 where that is
too old. What it doesn't: it has one namespace's worth of checks, and runs no controllers.
"""

import asyncio
import copy
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from scaler.credentials import Credentials, Place, _Reread

Json = dict[str, Any]
TOKEN = "the-secret-token"
KNOWN = {
    ("apps", "deployments"): "Deployment",
    ("", "pods"): "Pod",
    ("", "configmaps"): "ConfigMap",
    ("metrics.k8s.io", "pods"): "PodMetrics",
    ("autoscaling", "horizontalpodautoscalers"): "HorizontalPodAutoscaler",
    ("keda.sh", "scaledobjects"): "ScaledObject",
    ("policy", "poddisruptionbudgets"): "PodDisruptionBudget",
    ("events.k8s.io", "events"): "Event",
    ("coordination.k8s.io", "leases"): "Lease",
}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Failure(Exception):
    """Answered with a Status."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code, "details": details or {},
        }  # fmt: skip


@dataclass
class Fault:
    """What happens to a call instead, or before it is answered."""

    code: int = 0
    """0: it is answered as usual, after `delay_s`."""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    is_reset: bool = False
    is_reset_after: bool = False
    """The call is made, and its answer lost."""


@dataclass(frozen=True)
class Asked:
    """A call that came."""

    verb: str
    resource: str
    name: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class KubeApi:
    def __init__(self) -> None:
        self.url = ""
        self.tokens = {TOKEN}
        self.denied: set[tuple[str, str]] = set()
        """Verb and resource, as a Role has them: `("patch", "deployments/scale")`."""
        self.unknown: set[str] = set()
        """API groups that are not installed."""
        self.faults: list[Fault] = []
        """One for each of the next calls."""
        self.asked: list[Asked] = []
        self.gate: Callable[[Asked], Awaitable[None]] | None = None
        """Awaited before and after each call is made."""
        self.http_410 = False
        """Whether a watch from too old a version is refused with the status, instead of a line."""
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.version = 100
        self._history: list[tuple[int, tuple[str, str], str, Json]] = []
        self._oldest = 0
        self._changed = asyncio.Condition()
        self._watching: set[web.StreamResponse] = set()

    # -- what tests do behind the scaler's back --

    async def put(self, group: str, resource: str, name: str, content: Json) -> Json:
        """Creates it, or replaces it."""
        key = (group, resource, name)
        before = self.objects.get(key)
        meta = {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "generation": 1,
            **content.get("metadata", {}),
        }
        return await self._store(key, {**content, "metadata": meta}, "MODIFIED" if before else "ADDED")

    async def delete(self, group: str, resource: str, name: str) -> None:
        gone = self.objects.pop((group, resource, name))
        await self._tell((group, resource), "DELETED", gone)

    async def bookmark(self, group: str, resource: str) -> None:
        self.version += 1
        bare = {"kind": KNOWN[group, resource], "metadata": {"resourceVersion": str(self.version)}}
        await self._append((group, resource), "BOOKMARK", bare)

    async def say(self, group: str, resource: str, kind: str, content: Json) -> None:
        """Any line to whoever watches."""
        self.version += 1
        await self._append((group, resource), kind, content)

    def compact(self) -> None:
        """Forgets how it came to be as it is."""
        self._oldest = self.version
        self._history.clear()

    def hang_up(self) -> None:
        """On all who watch."""
        for response in self._watching:
            transport = response._req.transport if response._req is not None else None
            if transport is not None:
                transport.abort()

    # -- the server --

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked, group, resource, subresource = await self._read(request)
        self.asked.append(asked)
        fault = self.faults.pop(0) if self.faults else Fault()
        await asyncio.sleep(fault.delay_s)
        if fault.is_reset:
            return _reset(request)
        if fault.code:
            return web.Response(status=fault.code, body=fault.body, headers=fault.headers)
        try:
            if self.gate is not None:
                await self.gate(asked)
            self._admit(request, asked, group)
            if asked.verb == "watch":
                return await self._watch(request, asked, (group, resource))
            code, content = await self._answer(asked, group, resource, subresource)
            if self.gate is not None:
                await self.gate(asked)
        except Failure as failure:
            headers = {"Retry-After": "1"} if failure.code == 429 else {}
            return web.json_response(failure.status, status=failure.code, headers=headers)
        if fault.is_reset_after:
            return _reset(request)
        return web.json_response(content, status=code)

    async def _read(self, request: web.Request) -> tuple[Asked, str, str, str]:
        info = request.match_info
        group, resource, name = info.get("group", ""), info["resource"], info.get("name", "")
        subresource = info.get("subresource", "")
        query = dict(request.query)
        verb = _VERBS.get(request.method) or (
            "get" if name else "watch" if query.get("watch") == "true" else "list"
        )
        whole = f"{resource}/{subresource}" if subresource else resource
        body = await request.read()
        return Asked(verb, whole, name, query, dict(request.headers), body), group, resource, subresource

    def _admit(self, request: web.Request, asked: Asked, group: str) -> None:
        said = asked.headers.get("Authorization", "")
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        if said.removeprefix("Bearer ") not in self.tokens and not certificate:
            raise Failure(401, "Unauthorized", "Unauthorized")
        if (asked.verb, asked.resource) in self.denied:
            message = (
                f'{asked.resource} "{asked.name}" is forbidden: User "system:serviceaccount:shop:scaler" cannot '
                f'{asked.verb} resource "{asked.resource}" in API group "{group}" in the namespace "shop"'
            )
            raise Failure(403, "Forbidden", message)
        if group in self.unknown or (group, asked.resource.partition("/")[0]) not in KNOWN:
            raise Failure(404, "NotFound", "the server could not find the requested resource")

    async def _answer(self, asked: Asked, group: str, resource: str, subresource: str) -> tuple[int, Json]:
        if asked.verb == "list":
            return 200, self._list(asked, group, resource)
        if asked.verb == "create":
            return 201, await self._create(asked, (group, resource))
        key = (group, resource, asked.name)
        if key not in self.objects:
            raise Failure(
                404, "NotFound", f'{resource}.{group} "{asked.name}" not found', {"name": asked.name}
            )
        before = self.objects[key]
        shown = _scale_of(before) if subresource == "scale" else before
        if asked.verb == "get":
            return 200, shown
        wanted = json.loads(asked.body) if asked.verb == "update" else _patched(shown, asked)
        version = wanted["metadata"].get("resourceVersion")
        if asked.verb == "update" and not version:
            raise Failure(
                422, "Invalid", "must be specified for an update", _cause("metadata.resourceVersion")
            )
        if version and version != before["metadata"]["resourceVersion"]:
            message = (
                f'Operation cannot be fulfilled on {resource} "{asked.name}": the object has been modified'
            )
            raise Failure(409, "Conflict", message)
        after = _rescaled(before, wanted) if subresource == "scale" else wanted
        if after.get("spec") != before.get("spec"):
            after["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
        if asked.query.get("dryRun") != "All":
            after = await self._store(key, after, "MODIFIED")
        return 200, _scale_of(after) if subresource == "scale" else after

    async def _create(self, asked: Asked, kind: tuple[str, str]) -> Json:
        content = json.loads(asked.body)
        name = content["metadata"]["name"]
        key = (*kind, name)
        if key in self.objects:
            raise Failure(409, "AlreadyExists", f'{kind[1]}.{kind[0]} "{name}" already exists')
        content["metadata"] = {"uid": f"uid-{name}", "generation": 1, **content["metadata"]}
        return await self._store(key, content, "ADDED")

    def _list(self, asked: Asked, group: str, resource: str) -> Json:
        found = self._matching(asked.query, group, resource)
        limit = int(asked.query.get("limit", "0")) or len(found) or 1
        start, _, version = asked.query.get("continue", f"0@{self.version}").partition("@")
        if int(version) < self._oldest:
            raise Failure(410, "Expired", "The provided continue parameter is too old")
        first = int(start)
        meta: Json = {"resourceVersion": version}
        if first + limit < len(found):
            meta["continue"] = f"{first + limit}@{version}"
        # As Go says an empty list of some servers.
        return {
            "kind": f"{KNOWN[group, resource]}List",
            "metadata": meta,
            "items": found[first : first + limit] or None,
        }

    def _matching(self, query: dict[str, str], group: str, resource: str) -> list[Json]:
        return [
            content
            for (each_group, each_resource, _), content in sorted(self.objects.items())
            if (each_group, each_resource) == (group, resource) and _is_meant(content, query)
        ]

    async def _watch(self, request: web.Request, asked: Asked, kind: tuple[str, str]) -> web.StreamResponse:
        position = int(asked.query["resourceVersion"])
        too_old = Failure(410, "Expired", f"too old resource version: {position} ({self._oldest})")
        if position < self._oldest and self.http_410:
            raise too_old
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if position < self._oldest:
            await response.write(_line("ERROR", too_old.status))
            return response
        self._watching.add(response)
        try:
            async with asyncio.timeout(float(asked.query["timeoutSeconds"])):
                await self._stream(response, asked, kind, position)
        except TimeoutError:
            pass
        finally:
            self._watching.discard(response)
        return response

    async def _stream(
        self, response: web.StreamResponse, asked: Asked, kind: tuple[str, str], position: int
    ) -> None:
        while True:
            for version, of, change, content in list(self._history):
                is_wanted = change in ("BOOKMARK", "ERROR", "GARBAGE") or _is_meant(content, asked.query)
                if version > position and of == kind and is_wanted:
                    await response.write(b"}{\n" if change == "GARBAGE" else _line(change, content))
                position = max(position, version)
            async with self._changed:
                while not self._history or self._history[-1][0] <= position:
                    await self._changed.wait()

    async def _store(self, key: tuple[str, str, str], content: Json, change: str) -> Json:
        self.version += 1
        content = copy.deepcopy(content)
        content["metadata"]["resourceVersion"] = str(self.version)
        content.setdefault("kind", KNOWN[key[:2]])
        if key[:2] == ("apps", "deployments") and not content["spec"].get("replicas", 1):
            content["spec"]["replicas"] = 0
        self.objects[key] = content
        await self._append(key[:2], change, content)
        return copy.deepcopy(content)

    async def _tell(self, kind: tuple[str, str], change: str, content: Json) -> None:
        self.version += 1
        content = copy.deepcopy(content)
        content["metadata"]["resourceVersion"] = str(self.version)
        await self._append(kind, change, content)

    async def _append(self, kind: tuple[str, str], change: str, content: Json) -> None:
        async with self._changed:
            self._history.append((self.version, kind, change, content))
            self._changed.notify_all()


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _scale_of(deployment: Json) -> Json:
    meta = deployment["metadata"]
    replicas = deployment["spec"].get("replicas", 1)
    labels = deployment["spec"].get("selector", {}).get("matchLabels", {})
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion")},
        # omitempty
        "spec": {"replicas": replicas} if replicas else {},
        "status": {
            "replicas": deployment.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


def _rescaled(deployment: Json, scale: Json) -> Json:
    replicas = scale["spec"].get("replicas", 0)
    if replicas < 0:
        raise Failure(
            422, "Invalid", f"Invalid value: {replicas}: must be non-negative", _cause("spec.replicas")
        )
    after = copy.deepcopy(deployment)
    after["spec"]["replicas"] = replicas
    return after


def _cause(name: str) -> Json:
    return {"causes": [{"reason": "FieldValueInvalid", "field": name, "message": "invalid"}]}


def _patched(content: Json, asked: Asked) -> Json:
    patch = json.loads(asked.body)
    match asked.headers["Content-Type"]:
        case "application/json-patch+json":
            return _json_patched(copy.deepcopy(content), patch)
        case "application/merge-patch+json":
            merged: Json = _merged(content, patch)
            return merged
        case other:
            raise Failure(415, "UnsupportedMediaType", f"{other} is not supported")


def _json_patched(content: Json, operations: list[Json]) -> Json:
    """RFC 6902, as far as members of objects go."""
    for operation in operations:
        *parents, last = operation["path"].strip("/").split("/")
        place: Any = content
        for part in parents:
            place = place.get(part, {})
        is_there = last in place
        if operation["op"] == "test" and is_there and place[last] == operation["value"]:
            continue
        if operation["op"] == "add" or (operation["op"] == "replace" and is_there):
            place[last] = operation["value"]
        elif operation["op"] == "remove" and is_there:
            del place[last]
        else:
            raise Failure(422, "Invalid", "the server rejected our request due to an error in our request")
    return content


def _merged(content: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    after = dict(content) if isinstance(content, dict) else {}
    for key, value in patch.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = _merged(after.get(key), value)
    return after


def _is_meant(content: Json, query: dict[str, str]) -> bool:
    meta = content["metadata"]
    labels = [each.split("=") for each in query.get("labelSelector", "").split(",") if each]
    name = query.get("fieldSelector", "").removeprefix("metadata.name=")
    return all(meta.get("labels", {}).get(key) == value for key, value in labels) and name in (
        "",
        meta["name"],
    )


def _line(kind: str, content: Json) -> bytes:
    return json.dumps({"type": kind, "object": content}).encode() + b"\n"


@asynccontextmanager
async def kube_api(tls: ssl.SSLContext | None = None) -> AsyncIterator[KubeApi]:
    """One that runs, on a port of its own."""
    api = KubeApi()
    app = web.Application()
    for root in ("/api/v1", "/apis/{group}/{version}"):
        at = root + "/namespaces/{namespace}/{resource}"
        for path in (at, at + "/{name}", at + "/{name}/{subresource}"):
            app.router.add_route("*", path, api.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        api.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        yield api
    finally:
        await runner.cleanup()


def credentials_for(url: str, token: str = TOKEN) -> Credentials:
    """As those of a kubeconfig."""
    return Credentials(Place(server=url, namespace="shop"), _Reread((), lambda: token, time.monotonic))


def deployment(wanted: int = 3, **status: int) -> Json:
    """One that has nothing to do."""
    counts = {"replicas": wanted, "updatedReplicas": wanted, "readyReplicas": wanted, **status}
    return {
        "metadata": {"annotations": {"crowdgate/paused": "true"}},
        "spec": {
            "replicas": wanted,
            "selector": {"matchLabels": {"app": "api"}},
            "template": {
                "metadata": {"labels": {"app": "api"}},
                "spec": {"containers": [{"name": "api", "image": "api:1"}]},
            },
        },
        "status": {
            "observedGeneration": 1,
            **counts,
            "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}],
        },
    }


def pod(*, ready: bool = True, **status: Any) -> Json:
    """One of that Deployment, a minute old."""
    return {
        "metadata": {"labels": {"app": "api"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "api"}, {"name": "crowdgate"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.7",
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if ready else "False",
                    "lastProbeTime": None,
                    "lastTransitionTime": "2026-01-01T00:00:30Z",
                }
            ],
            **status,
        },
    }
