"""``python -m bench.native.inprocess FOLDER SOCKET``: answers the prompts of each job, a line of the socket, with mlx_lm.

``stream_generate`` makes text of the tokens, as the bridge does; ``generate_step`` beneath it gives tokens alone.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from bench.native.sample import take

Answer = Callable[[str, TextIO], None]
"""Takes a job, and writes its samples."""


def main() -> None:
    folder, path = sys.argv[1:]
    answer = make_answer(folder)
    jobs = connect(path).makefile("rw")
    for line in jobs:
        answer(line, jobs)


def connect(path: str) -> socket.socket:
    """Where jobs come from; that it connects says that the model is loaded."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return sock


def make_answer(folder: str) -> Answer:
    """Load the model with mlx_lm."""
    import mlx_lm

    loaded: Any = mlx_lm.load(folder)
    model, tokenizer = loaded[0], loaded[1]

    def answer(line: str, out: TextIO) -> None:
        job = json.loads(line)
        generate = _tokens if job["is_bare"] else _texts
        for warm_up in job["warm_up"]:
            take(generate(model, tokenizer, warm_up, job["max_tokens"]))
        samples = [take(generate(model, tokenizer, prompt, job["max_tokens"])) for prompt in job["prompts"]]
        print(json.dumps(samples), file=out, flush=True)

    return answer


# The end mark is no part of an answer.


def _texts(model: Any, tokenizer: Any, prompt: list[int], max_tokens: int) -> Iterator[list[int]]:
    from mlx_lm import stream_generate

    for response in stream_generate(model, tokenizer, prompt, max_tokens=max_tokens):
        if response.finish_reason != "stop":
            yield [response.token]


def _tokens(model: Any, tokenizer: Any, prompt: list[int], max_tokens: int) -> Iterator[list[int]]:
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    for token, _ in generate_step(mx.array(prompt), model, max_tokens=max_tokens):
        if int(token) in tokenizer.eos_token_ids:
            return
        yield [int(token)]


if __name__ == "__main__":
    main()
