"""``python -m bench.native.inprocess``: reads a job from stdin, answers its prompts with mlx_lm, prints the samples."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from bench.native.sample import take


def main() -> None:
    import mlx_lm

    job = json.load(sys.stdin)
    loaded: Any = mlx_lm.load(job["folder"])
    model, tokenizer = loaded[0], loaded[1]

    def generate(prompt: list[int]) -> Iterator[list[int]]:
        for response in mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=job["max_tokens"]):
            if (
                response.finish_reason != "stop"
            ):  # then its token is the end mark, which is no part of an answer
                yield [response.token]

    for warm_up in job["warm_up"]:
        take(generate(warm_up))
    print(json.dumps([take(generate(prompt)) for prompt in job["prompts"]]), flush=True)


if __name__ == "__main__":
    main()
