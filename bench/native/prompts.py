"""Token ids to start from, the same for both sides and never twice the same, lest a cache of prefixes helps one of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

Prompts = list[list[int]]


def chat_prompts(folder: Path, count: int) -> Prompts:
    """Questions with long answers, through the model's chat template if it has one."""
    from mlx_lm.utils import load_tokenizer

    load: Any = load_tokenizer
    tokenizer = load(folder)
    prompts = []
    for number in range(1, count + 1):
        text = f"Count from {number} to {number + 40}."
        if tokenizer.chat_template is None:
            prompts.append(tokenizer.encode(text))
        else:
            turns = [{"role": "user", "content": text}]
            prompts.append(
                tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
            )
    return prompts


def random_prompts(vocabulary: int, length: int, count: int) -> Prompts:
    """For random weights: any ids but the first two, which are special."""
    numbers = random.Random(7)
    return [[numbers.randrange(2, vocabulary) for _ in range(length)] for _ in range(count)]
