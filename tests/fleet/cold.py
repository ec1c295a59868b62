"""What nobody has stored yet: a crowd at every replica, and the death of the one that asks the API for all."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests import servers
from tests.fleet.clients import crowd
from tests.fleet.replicas import Fleet, Replica, fleet
from tests.flow.client import Response, request
from tests.flow.origin import Asked, after, ok, origin

REPLICAS = 5
CLIENTS = 1000
# As long as an API takes that has to think; and long enough for a thousand requests to be there before it answers.
API_S = 0.5
LEASE_S = 2.0
"""The default of `redis.lease`."""
_BODY = b"0123456789abcdef" * 1024


def config(url: str, server: servers.Server, rest: str) -> str:
    return f"upstream: {{url: {url}}}\nredis: {{url: '{server.url}'}}\n{rest}"


_ROUTES = "routes: [{match: /events, ttl: 1m}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cold:
    """How a crowd was answered."""

    clients: int
    answered: int
    """With the right answer."""
    api_requests: int
    last_answer_s: float
    """Until the last answer. The API took `API_S` of it."""

    @classmethod
    def of(cls, answers: list[Response], *, api_requests: int, seconds: float) -> "Cold":
        right = sum(answer.brief == (200, _BODY) for answer in answers)
        return cls(clients=len(answers), answered=right, api_requests=api_requests, last_answer_s=seconds)


async def cold_key(server: servers.Server) -> Cold:
    """All clients of all replicas ask at once; their connections are open before."""
    async with origin() as api:
        api.on("/events", after(API_S, ok(_BODY)))
        async with (
            fleet(config(api.url, server, _ROUTES), REPLICAS) as replicas,
            crowd(_ports(replicas, CLIENTS)) as clients,
        ):
            began = asyncio.get_running_loop().time()
            for client in clients:
                client.writer.write(request("/events"))
            answers = await asyncio.gather(*(client.response() for client in clients))
            seconds = asyncio.get_running_loop().time() - began
            return Cold.of(answers, api_requests=api.count("/events"), seconds=seconds)


async def holder_killed(server: servers.Server, count: int = 200) -> Cold:
    """The API never answers the first request, and its replica is killed. Told of the other replicas' clients."""
    async with origin() as api:
        api.on("/events", _silent_at_first(after(API_S, ok(_BODY))))
        async with (
            fleet(config(api.url, server, _ROUTES), REPLICAS) as replicas,
            crowd(_ports(replicas, count)) as clients,
        ):
            for client in clients:
                client.writer.write(request("/events"))
            holder = await _holder(replicas, count // REPLICAS)
            ports = _ports(replicas, count)
            left = [client for client, port in zip(clients, ports, strict=True) if port != holder.port]
            await replicas.kill(holder)
            killed = asyncio.get_running_loop().time()
            answers = await asyncio.gather(*(client.response() for client in left))
            seconds = asyncio.get_running_loop().time() - killed
            return Cold.of(answers, api_requests=api.count("/events"), seconds=seconds)


def _ports(replicas: Fleet, count: int) -> list[int]:
    return [replicas.replicas[number % REPLICAS].port for number in range(count)]


def _silent_at_first(then: Callable[[Asked], Awaitable[None]]) -> Callable[[Asked], Awaitable[None]]:
    asked_before = False

    async def answer(asked: Asked) -> None:
        nonlocal asked_before
        if not asked_before:
            asked_before = True
            await asyncio.Event().wait()
        await then(asked)

    return answer


async def _holder(replicas: Fleet, clients_each: int) -> Replica:
    """The replica that asks the API, once all have their clients' requests."""
    for replica in replicas.replicas:
        await replica.proxy.until("crowdgate_inflight_requests", clients_each)
    asking = [
        replica for replica in replicas.replicas if await replica.proxy.metric("crowdgate_upstream_inflight")
    ]
    assert len(asking) == 1, f"{len(asking)} replicas ask the API"
    return asking[0]
