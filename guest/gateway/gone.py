"""Whether whoever asked is still there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive


class ClientGone(Exception):
    """Whoever asked has closed the connection: there is nobody to answer."""


@asynccontextmanager
async def until_gone(receive: Receive) -> AsyncIterator[None]:
    """A block that is cancelled when the caller closes the connection; the request's body has to be read before.

    Raises:
        ClientGone: the caller did.
    """
    task = asyncio.current_task()
    assert task is not None
    is_gone = False

    async def watch() -> None:
        nonlocal is_gone
        while (await receive())["type"] != "http.disconnect":
            pass
        is_gone = True
        task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not is_gone:
            raise
        task.uncancel()
        raise ClientGone from None
    finally:
        watcher.cancel()
