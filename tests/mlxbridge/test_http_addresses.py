"""Where a gateway listens, and the origins of web pages, as people write them."""

from __future__ import annotations

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.http_addresses import parse_http_listen, parse_origin


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        (" 0.0.0.0:80 ", "http://0.0.0.0:80"),
        ("[::1]", "http://[::1]:8000"),
        ("gateway:0", "http://gateway:0"),
        ("http://localhost:3000/", "http://localhost:3000"),
        ("tcp:127.0.0.1", "http://127.0.0.1:8000"),
        ("unix:/run/http.sock?mode=0666", "unix:/run/http.sock?mode=0666"),
    ],
)
def test_address_is_of_http(text: str, shown: str) -> None:
    listen = parse_http_listen(text)
    assert str(listen) == shown
    assert parse_http_listen(shown) == listen


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("vsock:3", "HTTP is spoken over TCP and unix sockets"),
        ("https://127.0.0.1", "HTTP is spoken over TCP and unix sockets"),
        ("8000", "the host is missing"),
        ("127.0.0.1:http", "use 1 to 65535; mlxbridge's own is 8000"),
        ("::1", r"an IPv6 host in brackets: http://\[::1\]:8000"),
        ("unix:http.sock", "is not absolute"),
    ],
)
def test_address_that_is_wrong_is_told(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_http_listen(text)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("*", "*"),
        ("null", "null"),
        ("https://App.example:443", "https://app.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
        ("app://obsidian.md", "app://obsidian.md"),
    ],
)
def test_origin_is_as_browsers_tell_it(text: str, origin: str) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text", ["foo", "app.example", "https://", "https://app.example/", "https://*.example", ""]
)
def test_origin_that_no_browser_tells_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must be a scheme and a host"):
        parse_origin(text)
