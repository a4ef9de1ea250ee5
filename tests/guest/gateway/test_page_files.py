"""The page's files, as a browser gets them; tests/browser looks at what they do."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

from tests.guest.gateway.gateways import run_gateway, write_keys
from tests.integration.hosts import HostProcess

STATIC = files("mlxbridge.guest.gateway.page") / "static"
NAMES = sorted(file.name for file in STATIC.iterdir() if file.name != "index.html")


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in NAMES)])
def test_file_is_sent_with_what_guards_it(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 200
    kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}.get(
        path.rpartition(".")[2], "text/html"
    )
    assert answer.headers["content-type"].startswith(kind)
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= {*policy}
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = http.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "content-length" not in again.headers and again.headers["etag"] == answer.headers["etag"]


def test_every_file_is_used_and_every_one_used_is_there() -> None:
    texts = {name: (STATIC / name).read_text() for name in ("index.html", *NAMES)}
    named = {*re.findall(r'(?:href|src)="page/([^"]+)"', texts["index.html"])}
    for text in texts.values():
        named |= {*re.findall(r'from "\./([^"]+)"', text)}
    assert named == {*NAMES}
    preloaded = {*re.findall(r'modulepreload" href="page/([^"]+)"', texts["index.html"])}
    assert preloaded == {name for name in NAMES if name.endswith(".js")} - {"main.js"}


def test_page_comes_from_the_gateway_alone_and_scripts_are_files() -> None:
    for name in ("index.html", *NAMES):
        text = (STATIC / name).read_text()
        assert {*re.findall(r"https?://[^\s\"')]+", text)} <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), name
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=|javascript:", page)


def test_page_needs_no_key_but_what_it_asks_for_does(host: HostProcess, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    write_keys(keys, alice="")
    with run_gateway(host.url, "--keys", str(keys)) as gateway:
        assert httpx.get(gateway.url).status_code == 200
        assert httpx.get(f"{gateway.url}/page/main.js").status_code == 200
        assert httpx.get(f"{gateway.url}/mlxbridge/status").status_code == 401
