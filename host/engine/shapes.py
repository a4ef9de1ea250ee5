"""How long the pieces are in which prompts are read: of few different lengths, where a new one is dear.

On CUDA, MLX's attention for several queries plans each pair of lengths (queries, keys) anew: 28 ms at its first use on
an H200, where reading 256 tokens with a model of 1 B parameters takes 4. So there, pieces begin and end at round
numbers, a prompt's last one is filled up, and the usual ones are planned when a model is loaded.
"""

from __future__ import annotations

from mlxbridge.host.engine.device import is_cuda
from mlxbridge.host.engine.prefill.budget import PrefillBudget

# What a step reads of a longer prompt, beside running answers and without any.
PIECE = 256
PIECE_ALONE = 2048
# So many prompts may have a whole piece in one step beside running answers, where that takes hardly longer than one.
MAX_ROWS_BESIDE = 4
# Prompt tokens a step when no answer is running, at most, in units of ``prefill_chunk``.
_CHUNKS_ALONE = 4
# A prompt's length is rounded to one of so many in each doubling, so that at most an eighth is filler.
_PER_OCTAVE = 8
_LEAST = 16


def is_new_length_dear() -> bool:
    """Whether this device plans attention for each length."""
    return is_cuda()


def make_budget(prefill_chunk: int, *, rows_beside: int) -> PrefillBudget:
    """What steps may read on this device.

    Args:
        prefill_chunk: tokens, see ``EngineLimits``.
        rows_beside: prompts that may have a whole piece in one step beside running answers, see ``warmup``.
    """
    alone = _CHUNKS_ALONE * prefill_chunk
    if is_new_length_dear():
        beside, alone = min(PIECE * rows_beside, prefill_chunk), min(PIECE_ALONE, alone)
        return PrefillBudget(beside, least=beside, largest_alone=alone, least_alone=alone)
    return PrefillBudget(prefill_chunk, largest_alone=alone)


def round_up(length: int) -> int:
    """The length that a prompt is filled up to: at most an eighth more, or to a multiple of 16."""
    unit = max(_LEAST, (1 << max(length - 1, 1).bit_length()) // (2 * _PER_OCTAVE))
    return -(-length // unit) * unit


def round_end(start: int, budget: int, num_rows: int) -> int:
    """Where a piece from ``start`` on ends that may have ``budget`` tokens in all rows together, or a little more.

    Beside running answers no row's is longer than ``PIECE``: behind a long context, that is what the time of a piece depends on.
    """
    longest = PIECE if budget < PIECE_ALONE else budget
    piece = 1 << min(longest, max(budget // num_rows, PIECE // min(num_rows, 4))).bit_length() - 1
    return (start + piece) // piece * piece


def capacity_for(num_tokens: int) -> int:
    """How long a buffer is that has to hold so many tokens; attention is planned for each length of that, too."""
    return max(PIECE, 1 << (num_tokens - 1).bit_length())


def view_length(num_places: int, num_tokens: int) -> int:
    """How many places so many new tokens of rows look at, of which ``num_places`` hold any; a mask hides the rest.

    As many as there are, unless lengths are dear: then at most a quarter more, or a multiple of ``PIECE``.
    """
    if num_tokens == 1 or not is_new_length_dear():
        return num_places
    unit = max(PIECE, (1 << (num_places - 1).bit_length()) // 8)
    return -(-num_places // unit) * unit


def round_rows(num_rows: int) -> int:
    """How many prompts are read side by side if so many could be: a power of two."""
    return 1 << num_rows.bit_length() - 1
