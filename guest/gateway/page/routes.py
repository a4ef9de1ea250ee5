"""The page's files, each read once and sent with what keeps a browser from running anything else."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from types import MappingProxyType

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mlxbridge.guest.gateway.endpoint import route
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.native.routes import NATIVE
from mlxbridge.guest.gateway.responses import Whole, begin

_TYPES = MappingProxyType(
    {
        "html": "text/html; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml",
    }
)
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Has the browser refuse innerHTML and its like: what a model writes can only be text.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # but asked with its ETag, so that a new gateway's page is not mixed with the old one's
}


class _File:
    """One of the files, for every request that asks for it."""

    def __init__(self, name: str, body: bytes) -> None:
        self._body = body
        self._type = _TYPES[name.rpartition(".")[2]]
        self._headers = {**_HEADERS, "etag": f'"{hashlib.sha256(body).hexdigest()[:16]}"'}

    async def send(self, exchange: Exchange) -> ASGIApp:
        """The file, or that the browser has it."""
        known = exchange.headers.get("if-none-match", "")
        if self._headers["etag"] in known:
            return self._tell_unchanged
        return Whole(self._body, self._type, 200, self._headers)

    async def _tell_unchanged(self, scope: Scope, receive: Receive, send: Send) -> None:
        """304, whose length would have to be the file's (RFC 9110, §8.6), and so is not told."""
        await begin(scope, send, 304, self._headers)
        await send({"type": "http.response.body", "body": b""})


def _routes() -> list[Route]:
    static = files(__package__) / "static"
    found = {file.name: _File(file.name, file.read_bytes()) for file in static.iterdir()}
    home = found.pop("index.html")
    paths = {"/": home, **{f"/page/{name}": file for name, file in sorted(found.items())}}
    return [route(NATIVE, path, is_open=True, GET=file.send) for path, file in paths.items()]


routes: list[Route] = _routes()
