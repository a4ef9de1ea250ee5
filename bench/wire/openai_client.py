"""Embeddings as OpenAI's API has them by default: JSON over HTTP, each vector a list of numbers; read with httpx."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np

from bench.wire.meter import Bench, Result


def run(test: str, bench: Bench) -> Result:
    if test != "vectors":
        raise ValueError(test)
    transport = httpx.HTTPTransport(uds=bench.path)
    with httpx.Client(transport=transport, base_url="http://bench", timeout=None) as client:

        def fetch() -> int:
            answer: Any = client.post("/v1/embeddings", json={"input": [str(bench.settings.vectors)]})
            data = json.loads(answer.content)["data"]
            return np.array([each["embedding"] for each in data], np.float32).nbytes

        return bench.payloads(fetch)
