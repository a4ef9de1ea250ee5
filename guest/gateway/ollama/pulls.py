"""Downloads that a client watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from mlxbridge import AsyncClient
from mlxbridge.guest.gateway.ollama.answers import line
from mlxbridge.guest.gateway.ollama.models import fingerprint

SUCCESS = {"status": "success"}


async def pull_lines(client: AsyncClient, name: str) -> AsyncGenerator[bytes]:
    """Have the host download a model: a line for each piece of news, and at last that it is there.

    Raises:
        BridgeError: it cannot be had.
    """
    news: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
    pull = asyncio.ensure_future(client.pull_model(name, progress=news.put_nowait))
    pull.add_done_callback(lambda _: news.put_nowait(None))
    try:
        has_begun = False
        while (told := await news.get()) is not None:
            if not has_begun:
                has_begun = True
                yield line({"status": "pulling manifest"})
            yield line(_progress(name, told))
        await pull
        yield line(SUCCESS)
    finally:
        pull.cancel()
        await asyncio.gather(pull, return_exceptions=True)


def _progress(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "status": f"pulling {name}",
        "digest": f"sha256:{fingerprint(name)}",
        "total": told.get("bytes_total", 0),
        "completed": told.get("bytes_done", 0),
    }
