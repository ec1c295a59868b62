"""What one would write without crowdgate: an aiohttp handler that asks Redis through redis-py, and else the API.

python -m tests.bench.speed.redis_py PORT REDIS_PORT ORIGIN_PORT
"""

import sys

import uvloop
from aiohttp import ClientSession, web
from redis.asyncio import BlockingConnectionPool, Redis

_TTL_S = 600


def application(redis_port: int, origin_port: int) -> web.Application:
    # RESP3 and hiredis: the fastest that redis-py has.
    pool = BlockingConnectionPool(
        host="127.0.0.1", port=redis_port, protocol=3, max_connections=64, timeout=None
    )
    redis = Redis(connection_pool=pool)
    sessions: list[ClientSession] = []

    async def answer(request: web.Request) -> web.Response:
        key = f"page:{request.path_qs}"
        body = await redis.get(key)
        if body is None:
            async with sessions[0].get(f"http://127.0.0.1:{origin_port}{request.path_qs}") as response:
                body = await response.read()
            await redis.set(key, body, ex=_TTL_S)
        return web.Response(body=body, content_type="application/json")

    async def start(_: web.Application) -> None:
        sessions.append(ClientSession())

    async def end(_: web.Application) -> None:
        await sessions[0].close()
        await redis.aclose()
        await pool.disconnect()

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    app.on_startup.append(start)
    app.on_cleanup.append(end)
    return app


if __name__ == "__main__":
    web.run_app(
        application(int(sys.argv[2]), int(sys.argv[3])),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )
