"""Downloads that a client watches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from mlxbridge import AsyncClient
from mlxbridge.guest.gateway.following import Following
from mlxbridge.guest.gateway.ollama.answers import line
from mlxbridge.guest.gateway.ollama.models import fingerprint

SUCCESS = {"status": "success"}


async def pull_lines(client: AsyncClient, name: str) -> AsyncGenerator[bytes]:
    """Have the host download a model: lines that tell how far it is, and at last that it is there.

    Raises:
        BridgeError: it cannot be had.
    """
    async with Following(lambda tell: client.pull_model(name, progress=tell)) as pull:
        begin = line({"status": "pulling manifest"})
        async for told in pull:
            yield begin + line(_progress(name, told))
            begin = b""
        pull.result()
        yield line(SUCCESS)


def _progress(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "status": f"pulling {name}",
        "digest": f"sha256:{fingerprint(name)}",
        "total": told.get("bytes_total", 0),
        "completed": told.get("bytes_done", 0),
    }
