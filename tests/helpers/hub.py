"""A server on this machine that speaks the Hugging Face hub's API, as far as huggingface_hub needs it for downloads."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SHA = "5" * 40
_INFO = re.compile(r"/api/models/([^/]+/[^/?]+)(?:/revision/[^/?]+)?(?:\?.*)?")
_TREE = re.compile(r"/api/models/([^/]+/[^/?]+)/tree/[^/?]+(?:\?.*)?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/[^/]+/([^?]+)")
_RANGE = re.compile(r"bytes=([0-9]+)-")
_PIECE_BYTES = 1 << 20


@dataclass(kw_only=True)
class Repository:
    """One on the server.

    Attributes:
        files: by path; those that end with ``.safetensors`` are in LFS.
        status: what files are answered with, in place of themselves.
        error_code: the hub's name for that.
        stall_at: a large file stops after so many bytes of it, until ``go_on`` is set.
        pace_s: a large file comes by a MiB in such a time once it goes on.
        breaks_at: the connection ends after so many bytes of a large file, once.
        requests: ranges of GETs for files, by path.
    """

    files: Mapping[str, bytes]
    status: int = 200
    error_code: str = ""
    stall_at: int | None = None
    breaks_at: int | None = None
    pace_s: float = 0.0
    go_on: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, int]] = field(default_factory=list)


class Hub:
    """The server."""

    def __init__(self, url: str, repositories: dict[str, Repository]) -> None:
        self.url = url
        self.repositories = repositories


@contextlib.contextmanager
def run_hub(**repositories: Repository) -> Iterator[Hub]:
    """Serve repositories, ``org__name`` for ``org/name``."""
    named = {name.replace("__", "/"): repository for name, repository in repositories.items()}

    class Handler(_Handler):
        repositories = named

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_address[1]}", named)
    finally:
        for repository in named.values():
            repository.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repositories: Mapping[str, Repository]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        if found := _TREE.fullmatch(self.path):
            self._json(
                found[1], lambda repository: [_entry(path, data) for path, data in repository.files.items()]
            )
        elif found := _INFO.fullmatch(self.path):
            name = found[1]
            self._json(name, lambda repository: _info(name, repository))
        elif found := _FILE.match(self.path):
            self._file(found[1], found[2], with_body=with_body)
        else:
            self._refuse(404, "EntryNotFound")

    def _json(self, name: str, make: Any) -> None:
        repository = self.repositories.get(name)
        if repository is None:
            self._refuse(401, "RepoNotFound")
            return
        body = json.dumps(make(repository)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, name: str, path: str, *, with_body: bool) -> None:
        repository = self.repositories.get(name)
        if repository is None:
            self._refuse(401, "RepoNotFound")
        elif repository.status != 200:
            self._refuse(repository.status, repository.error_code)
        elif path not in repository.files:
            self._refuse(404, "EntryNotFound")
        else:
            self._send(repository, path, with_body=with_body)

    def _send(self, repository: Repository, path: str, *, with_body: bool) -> None:
        data = repository.files[path]
        found = _RANGE.fullmatch(self.headers.get("Range") or "")
        begin = int(found[1]) if found else 0
        self.send_response(206 if found else 200)
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("ETag", f'"{_etag(path, data)}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - begin))
        if found:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if not with_body:
            return
        repository.requests.append((path, begin))
        for start in range(begin, len(data), _PIECE_BYTES):
            if _is_large(path) and repository.breaks_at is not None and start >= repository.breaks_at:
                repository.breaks_at = None
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if _is_large(path) and repository.stall_at is not None and start >= repository.stall_at:
                repository.go_on.wait()
            if _is_large(path):
                time.sleep(repository.pace_s if repository.go_on.is_set() else 0)
            try:
                self.wfile.write(data[start : start + _PIECE_BYTES])
            except OSError:  # who asked is gone
                self.close_connection = True
                return

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "as the test wants it")
        self.send_header("Content-Length", "0")
        self.end_headers()


def _is_large(path: str) -> bool:
    return path.endswith(".safetensors")


def _etag(path: str, data: bytes) -> str:
    if _is_large(path):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _info(name: str, repository: Repository) -> dict[str, Any]:
    siblings = []
    for path, data in repository.files.items():
        sibling: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": _etag(path, data)}
        if _is_large(path):
            sibling["lfs"] = {"sha256": _etag(path, data), "size": len(data), "pointerSize": 134}
        siblings.append(sibling)
    return {
        "_id": "1",
        "id": name,
        "modelId": name,
        "sha": SHA,
        "private": False,
        "tags": [],
        "siblings": siblings,
    }


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _etag(path, data)}
    if _is_large(path):
        entry["lfs"] = {"oid": _etag(path, data), "size": len(data), "pointerSize": 134}
    return entry
