"""``python -m bench.native.inprocess FOLDER``: answers the prompts of each job, a line of stdin, with mlx_lm; prints samples.

``stream_generate`` makes text of the tokens, as the bridge does; ``generate_step`` beneath it gives tokens alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from bench.native.sample import take


def main() -> None:
    import mlx_lm

    loaded: Any = mlx_lm.load(sys.argv[1])
    model, tokenizer = loaded[0], loaded[1]
    print("loaded", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        answer = _tokens if job["is_bare"] else _texts
        for warm_up in job["warm_up"]:
            take(answer(model, tokenizer, warm_up, job["max_tokens"]))
        samples = [take(answer(model, tokenizer, prompt, job["max_tokens"])) for prompt in job["prompts"]]
        print(json.dumps(samples), flush=True)


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
