"""Whether a model gives the same answers in a batch as alone, and from cached prefixes as from the beginning.

Some of mlx_lm's models ignore the mask of a batched cache, or cannot run on one. Before any answer is given, a few
short prompts of very unequal length are run both ways, and their logits compared: tokens would be a worse measure,
because rounding alone changes them where two are nearly equally likely.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlxbridge.host.engine.caches import Source, can_be_batched, row_of
from mlxbridge.host.engine.prefix_cache import BLOCK_TOKENS, PrefixCache
from mlxbridge.host.engine.prefix_tree import pack
from mlxbridge.host.engine.reading import Group, Reading
from mlxbridge.host.engine.row_caches import RowCaches
from mlxbridge.host.engine.rows import Job

# Root mean square of the differences, in units of the logits' own deviation. What rounding does lies far below, a
# row that sees its padding, or another row, far above.
_TOLERANCE = {mx.float32: 1e-2}
_LOW_PRECISION_TOLERANCE = 0.2

_LENGTHS = (21, 2, 9, 12)


def is_exact_in_batches(model: Any, vocabulary_size: int) -> bool:
    """Run the model on a few tokens, alone and in a batch that rows join and leave."""
    if not can_be_batched(make_prompt_cache(model)):
        return False
    prompts = [[(7 * row + 3 * i + 1) % vocabulary_size for i in range(n)] for row, n in enumerate(_LENGTHS)]
    try:
        return all(
            _is_close(alone, batched)
            for alone, batched in zip(_alone(model, prompts), _batched(model, prompts), strict=True)
        )
    except Exception:  # whatever a model stumbles over, it was not made for this
        return False


def is_exact_with_prefixes(model: Any, vocabulary_size: int) -> bool:
    """Read one prompt, and go on from what is cached of it with another; a state outside the caches would show."""
    prefixes = PrefixCache(model, 1 << 40)
    prompt = [(7 * i + 1) % vocabulary_size for i in range(2 * BLOCK_TOKENS - 9)]

    def read(length: int) -> tuple[int, list[Any]]:
        tokens = pack(prompt[:length])
        prefix = prefixes.find("", tokens)
        group = Group(model, prefixes, [Reading(prompt[:length], "", tokens, prefix, [Job(prompt, 1)])])
        while group.num_left:
            group.read(length)
        prefixes.commit()
        source = group.finish()[0].source
        return prefix.num_tokens, [row_of(item, source.index, source.length) for item in source.caches]

    try:
        read(BLOCK_TOKENS + 5)
        _read(model, prompt[:9])  # what a model keeps outside its caches is now another prompt's
        num_cached, caches = read(len(prompt) - 1)
        cached = _forward(model, prompt[-1:], caches)
        alone = _forward(model, prompt[-1:], _read(model, prompt))
        return num_cached >= BLOCK_TOKENS and _is_close(alone, cached)
    except Exception:  # as above
        return False


# Four steps: rows 0 and 1 begin, 2 joins, 1 leaves and 3 takes its place, 0 leaves and the rest move together.
_STEPS = ((0, 1), (0, 1, 2), (0, 3, 2), (3, 2))


def _alone(model: Any, prompts: list[list[int]]) -> list[mx.array]:
    caches = [_read(model, prompt) for prompt in prompts]
    logits = []
    for rows in _STEPS:
        logits.append(mx.concatenate([_forward(model, [prompts[row][-1]], caches[row]) for row in rows]))
    return logits


def _batched(model: Any, prompts: list[list[int]]) -> list[mx.array]:
    caches, logits = RowCaches(), []

    def place(rows: list[int], places: list[int]) -> None:
        caches.place([Source(_read(model, prompts[row]), 0, len(prompts[row]) - 1) for row in rows], places)

    place([0, 1], [0, 1])
    for step, rows in enumerate(_STEPS):
        if step == 1:
            place([2], [2])
        elif step == 2:
            caches.give_up(1)
            place([3], [1])
        elif step == 3:
            caches.give_up(0)
            caches.take([1, 2])
        logits.append(_forward(model, [prompts[row][-1] for row in rows], caches.layers))
        caches.advance()
    return logits


def _read(model: Any, prompt: list[int]) -> list[Any]:
    caches: list[Any] = make_prompt_cache(model)
    model(mx.array([prompt[:-1]]), cache=caches)
    return caches


def _forward(model: Any, tokens: list[int], caches: list[Any]) -> mx.array:
    logits: mx.array = model(mx.array(tokens)[:, None], cache=caches)[:, -1, :]
    return logits


def _is_close(alone: mx.array, batched: mx.array) -> bool:
    tolerance = _TOLERANCE.get(alone.dtype, _LOW_PRECISION_TOLERANCE)
    alone, batched = alone.astype(mx.float32), batched.astype(mx.float32)
    difference = mx.sqrt(mx.mean(mx.square(alone - batched), axis=-1))
    return bool(mx.all(difference <= tolerance * mx.std(alone, axis=-1)).item())
