"""Sets of tokens as masks have them: a bit a token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]


def bits(tokens: Sequence[int], num_words: int) -> Words:
    """The tokens' bits, as uint32 (words,)."""
    words = np.zeros(num_words, dtype=np.uint32)
    for token in tokens:
        words[token // 32] |= np.uint32(1 << token % 32)
    return words
