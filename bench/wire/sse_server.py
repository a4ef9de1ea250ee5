"""Server-sent events: a bare ASGI application under uvicorn (uvloop, httptools); arrays as base64 in JSON."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn  # type: ignore[import-not-found, unused-ignore]

from bench.wire.clock import Clock
from bench.wire.workload import FLAT, make_array, ready_vectors, token

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


def serve(path: str, announce: Callable[[], None]) -> None:
    config = uvicorn.Config(
        Application(),
        uds=path,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="critical",
        access_log=False,
    )
    server = uvicorn.Server(config)

    async def run() -> None:
        serving = asyncio.ensure_future(server.serve())
        while not server.started:  # noqa: ASYNC110  (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        announce()
        await serving

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())


class Application:
    """What a small hand-written ASGI server of tokens looks like."""

    def __init__(self) -> None:
        self._clock = Clock()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request = json.loads(await _body(receive))
        match scope["path"]:
            case "/echo":
                await _answer(send, json.dumps(request).encode())
            case "/generate":
                await self._generate(request["prompt"], send)
            case "/v1/embeddings":
                vectors = ready_vectors(int(request["input"][0])).tolist()
                items = [
                    {"object": "embedding", "index": index, "embedding": vector}
                    for index, vector in enumerate(vectors)
                ]
                await _answer(send, json.dumps({"object": "list", "data": items}).encode())
            case "/embed":
                data = b64encode(make_array(request["nbytes"]).data).decode()
                await _answer(send, json.dumps({"dtype": "float32", "data": data}).encode())

    async def _generate(self, prompt: str, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if prompt == FLAT:
            number = 0
            while True:
                number += 1
                await _event(send, number)
        queue = self._clock.join(float(prompt))
        while True:
            await _event(send, await queue.get())


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _event(send: Send, number: int) -> None:
    body = b"data: " + json.dumps(token(number)).encode() + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})
