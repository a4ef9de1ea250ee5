"""``python -m bench.embed.inprocess FOLDER TEXTS``: embeds the texts of a JSON file, once for each line of stdin.

The model is the host's own ``Encoder``, called as anybody would who has it in his process. How large its batches are is tried
at first: what is fastest depends on the machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from bench.wire.meter import cpu_seconds
from mlxbridge.host.embeddings.encoder import Encoder
from mlxbridge.host.embeddings.loader import load_encoder
from mlxbridge.host.embeddings.request import EmbedRequest

BATCHES = (512, 2_048, 8_192, 16_384)
_TRIAL_TEXTS = 1_000


def main() -> None:
    """A line of seconds and CPU seconds for each line; the first line of all says what size of batches is fastest."""
    folder, file = sys.argv[1:]
    encoder, texts = load_encoder(Path(folder), "model"), json.loads(Path(file).read_text())
    best = min(BATCHES, key=lambda size: min(_seconds(encoder, texts[:_TRIAL_TEXTS], size) for _ in range(2)))
    print(best, flush=True)
    for line in sys.stdin:
        start, cpu = perf_counter(), cpu_seconds()
        vectors = encoder.encode(EmbedRequest(inputs=texts, normalize=True), batch_tokens=best).vectors
        seconds, cpu = perf_counter() - start, cpu_seconds() - cpu
        np.save(line.strip(), vectors)
        print(json.dumps([seconds, cpu]), flush=True)


def _seconds(encoder: Encoder, texts: list[str], batch_tokens: int) -> float:
    start = perf_counter()
    encoder.encode(EmbedRequest(inputs=texts), batch_tokens=batch_tokens)
    return perf_counter() - start


if __name__ == "__main__":
    main()
