"""``python -m bench.gateway.bare uvicorn|aiohttp PORT``: what an SSE server of tokens needs at the least.

Each stream gets the same chunk again and again, its text encoded anew each time as it would have to be; no model, no
queue, no other process. Between two chunks all others have their turn, as they would if these came from a model.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import uvloop

HEAD = b'data: {"id":"cmpl-0123456789abcdef01234567","object":"text_completion","created":1790000000,"model":"demo",'
HEAD += b'"choices":[{"index":0,"text":'
TAIL = b',"logprobs":null,"finish_reason":null}]}\n\n'
TEXT = " token"


def chunk() -> bytes:
    return HEAD + orjson.dumps(TEXT) + TAIL


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """For uvicorn; ends when it cancels it, since nobody here looks whether the reader has gone."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    )
    while True:
        await send({"type": "http.response.body", "body": chunk(), "more_body": True})
        await asyncio.sleep(0)


def serve_uvicorn(port: int) -> None:
    import uvicorn

    uvicorn.run(
        application,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="critical",
        access_log=False,
    )


def serve_aiohttp(port: int) -> None:
    from aiohttp import web

    async def complete(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(chunk())
            await asyncio.sleep(0)

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/completions", complete)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    uvloop.run(run())


if __name__ == "__main__":
    {"uvicorn": serve_uvicorn, "aiohttp": serve_aiohttp}[sys.argv[1]](int(sys.argv[2]))
