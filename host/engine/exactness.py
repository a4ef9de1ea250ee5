"""Whether a model gives the same answers in a batch as alone, and from cached prefixes as from the beginning.

Some of mlx_lm's models ignore the mask of a batched cache, or cannot run on one. Before any answer is given, a few
short prompts of very unequal length are run both ways, and their logits compared: tokens would be a worse measure,
because rounding alone changes them where two are nearly equally likely.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import KVCache, Source, can_be_batched, row_of
from mlxbridge.host.engine.caches.row_caches import RowCaches
from mlxbridge.host.engine.prefill.reading import Group, Reading
from mlxbridge.host.engine.prefixes.prefix_cache import BLOCK_TOKENS, PrefixCache
from mlxbridge.host.engine.prefixes.prefix_tree import pack
from mlxbridge.host.engine.rows import Job

# Root mean square of the differences, in units of the logits' own deviation. What rounding does lies far below, a
# row that sees its padding, or another row, far above.
_TOLERANCE = {mx.float32: 1e-2}
_LOW_PRECISION_TOLERANCE = 0.2

_LENGTHS = (21, 2, 9, 12)
_PIECES = (5, 1, 13, 6)
_LATER = 37


def is_exact_in_batches(plan: CachePlan, vocabulary_size: int) -> bool:
    """Run the model on a few tokens, alone and in a batch that rows join and leave."""
    if not can_be_batched(plan.make()):
        return False
    prompts = [[(7 * row + 3 * i + 1) % vocabulary_size for i in range(n)] for row, n in enumerate(_LENGTHS)]
    try:
        return all(
            _is_close(alone, batched, is_rough=plan.quantization is not None)
            for alone, batched in zip(_alone(plan, prompts), _batched(plan, prompts), strict=True)
        )
    except Exception:  # whatever a model stumbles over, it was not made for this
        return False


def is_exact_with_prefixes(plan: CachePlan, vocabulary_size: int) -> bool:
    """Read one prompt, and go on from what is cached of it with another; a state outside the caches would show."""
    prefixes = PrefixCache(plan, 1 << 40)
    prompt = [(7 * i + 1) % vocabulary_size for i in range(2 * BLOCK_TOKENS - 9)]

    def read(length: int) -> tuple[int, list[Any]]:
        tokens = pack(prompt[:length])
        prefix = prefixes.find("", tokens)
        group = Group(plan.model, prefixes, [Reading(prompt[:length], "", tokens, prefix, [Job(prompt, 1)])])
        while group.num_left:
            group.read(length)
        prefixes.commit()
        source = group.finish()[0].source
        return prefix.num_tokens, [row_of(item, source.index, source.length) for item in source.caches]

    try:
        read(BLOCK_TOKENS + 5)
        _read(plan, prompt[:9])  # what a model keeps outside its caches is now another prompt's
        num_cached, caches = read(len(prompt) - 1)
        cached = _forward(plan, prompt[-1:], caches)
        alone = _forward(plan, prompt[-1:], _read(plan, prompt))
        return num_cached >= BLOCK_TOKENS and _is_close(alone, cached, is_rough=plan.quantization is not None)
    except Exception:  # as above
        return False


def is_exact_in_pieces(plan: CachePlan, vocabulary_size: int) -> bool:
    """Read one prompt in pieces, and another time token by token: what a window hides, it hides in both."""
    prompt = [(7 * i + 1) % vocabulary_size for i in range(sum(_PIECES))]

    def read(lengths: Iterable[int]) -> mx.array:
        caches, start = plan.make(), 0
        for length in lengths:
            logits: mx.array = plan.model(mx.array([prompt[start : start + length]]), cache=caches)
            start += length
        return logits[:, -1, :]

    try:
        return _is_close(read([1] * len(prompt)), read(_PIECES))
    except Exception:  # as above
        return False


def has_relative_positions(plan: CachePlan, vocabulary_size: int) -> bool:
    """Whether a prompt means the same if all its tokens stand further on; those of a learned table, which ends, do not."""
    prompt = mx.array([[(7 * i + 1) % vocabulary_size for i in range(_LENGTHS[0])]])
    caches = plan.make()
    try:
        first = plan.model(prompt, cache=caches)
        later = plan.model(prompt, cache=[_Later() for _ in caches])
        return _is_close(first[:, -1, :], later[:, -1, :])
    except Exception:  # as above
        return False


class _Later(KVCache):  # type: ignore[misc]
    """A cache of one layer for one piece that does not begin at position 0."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = _LATER

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return keys, values

    def make_mask(self, num_tokens: int, **options: Any) -> Any:
        return KVCache().make_mask(num_tokens, **options)


_NUM_DRAFTED, _KEPT = 4, (1, 4, 2, 3)


def is_exact_over_drafts(plan: CachePlan, vocabulary_size: int, *, is_batched: bool) -> bool:
    """Read several tokens of each row in one pass, drop some of them again, and go on: as one at a time would.

    Args:
        plan: one whose caches ``can_be_padded``.
        vocabulary_size: its token ids are below that.
        is_batched: whether its rows are decoded together, see ``is_exact_in_batches``.
    """
    prompts = [[(7 * row + 3 * i + 1) % vocabulary_size for i in range(n)] for row, n in enumerate(_LENGTHS)]
    prompts = prompts if is_batched else prompts[:1]
    drafts = [
        [prompt[-1], *((5 * row + 11 * i + 2) % vocabulary_size for i in range(1, _NUM_DRAFTED))]
        for row, prompt in enumerate(prompts)
    ]
    kept = _KEPT[: len(prompts)]
    try:
        caches = RowCaches()
        sources = [Source(_read(plan, prompt), 0, len(prompt) - 1) for prompt in prompts]
        if is_batched:
            caches.place(sources, range(len(prompts)))
        else:
            caches.adopt(sources[0])
        for tokens in (drafts, [draft[:2] for draft in drafts]):
            alone = [_one_by_one(plan, prompt, row) for prompt, row in zip(prompts, tokens, strict=True)]
            together = plan.model(mx.array(tokens), cache=caches.layers)
            if not _is_close(mx.concatenate(alone), together, is_rough=plan.quantization is not None):
                return False
            caches.advance(len(tokens[0]))
            caches.retract([len(tokens[0]) - min(num, len(tokens[0])) for num in kept])
            prompts = [
                [*prompt[:-1], *row[:num], row[0]]
                for prompt, row, num in zip(prompts, tokens, kept, strict=True)
            ]
        return True
    except Exception:  # as above
        return False


def _one_by_one(plan: CachePlan, prompt: list[int], tokens: list[int]) -> mx.array:
    """The logits behind each token, (1, tokens, vocabulary size), where they follow the prompt but for its last one."""
    caches = _read(plan, prompt)
    return mx.stack([_forward(plan, [token], caches) for token in tokens], axis=1)


# Four steps: rows 0 and 1 begin, 2 joins, 1 leaves and 3 takes its place, 0 leaves and the rest move together.
_STEPS = ((0, 1), (0, 1, 2), (0, 3, 2), (3, 2))


def _alone(plan: CachePlan, prompts: list[list[int]]) -> list[mx.array]:
    caches = [_read(plan, prompt) for prompt in prompts]
    logits = []
    for rows in _STEPS:
        logits.append(mx.concatenate([_forward(plan, [prompts[row][-1]], caches[row]) for row in rows]))
    return logits


def _batched(plan: CachePlan, prompts: list[list[int]]) -> list[mx.array]:
    caches, logits = RowCaches(), []

    def place(rows: list[int], places: list[int]) -> None:
        caches.place([Source(_read(plan, prompts[row]), 0, len(prompts[row]) - 1) for row in rows], places)

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
        logits.append(_forward(plan, [prompts[row][-1] for row in rows], caches.layers))
        caches.advance()
    return logits


def _read(plan: CachePlan, prompt: list[int]) -> list[Any]:
    caches = plan.make()
    plan.model(mx.array([prompt[:-1]]), cache=caches)
    return caches


def _forward(plan: CachePlan, tokens: list[int], caches: list[Any]) -> mx.array:
    logits: mx.array = plan.model(mx.array(tokens)[:, None], cache=caches)[:, -1, :]
    return logits


def _is_close(alone: mx.array, other: mx.array, *, is_rough: bool = False) -> bool:
    tolerance = (
        _LOW_PRECISION_TOLERANCE if is_rough else _TOLERANCE.get(alone.dtype, _LOW_PRECISION_TOLERANCE)
    )
    alone, other = alone.astype(mx.float32), other.astype(mx.float32)
    difference = mx.sqrt(mx.mean(mx.square(alone - other), axis=-1))
    return bool(mx.all(difference <= tolerance * mx.std(alone, axis=-1)).item())
