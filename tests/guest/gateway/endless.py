"""Answers that do not end by themselves, and whether the host still computes any."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from mlxbridge import Client

ENDLESS: dict[str, Any] = {"model": "demo", "prompt": "The ", "max_tokens": 1_000_000, "ignore_eos": True}
"""A body for ``/v1/completions`` of a host with a window."""


def until(done: Callable[[], Any], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def running(client: Client) -> int:
    """Calls of the demo model that are computed, or wait."""
    (model,) = client.status().models
    return sum(model.details.get(key, 0) for key in ("running", "waiting", "queued", "held"))


@contextlib.contextmanager
def streaming(
    http: httpx.Client, headers: dict[str, str] | None = None, **body: Any
) -> Iterator[Iterator[str]]:
    """Lines of a stream that has begun."""
    options = {**ENDLESS, **body, "stream": True}
    with http.stream("POST", "/v1/completions", json=options, headers=headers) as response:
        assert response.status_code == 200, response.read()
        lines = response.iter_lines()
        next(lines)
        yield lines
