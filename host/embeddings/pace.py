"""How many tokens a batch may have, by how long batches have taken."""

from __future__ import annotations

from mlxbridge.host.embeddings.batching import BATCH_TOKENS

BATCH_S = 0.2
FIRST_BATCH_TOKENS = 512
LEAST_BATCH_TOKENS = 128


class Pace:
    """Doubles while batches take far less than ``BATCH_S``, and comes down when one takes more, or more memory than there is.

    Attributes:
        batch_tokens: that the next batch may have, padding among them.
        ended_at: when the latest batch had ended.
    """

    def __init__(self) -> None:
        self.batch_tokens = FIRST_BATCH_TOKENS
        self.ended_at = 0.0
        self._most_tokens = BATCH_TOKENS

    def note(self, num_tokens: int, begun_at: float, now: float) -> None:
        """A batch of so many tokens has ended, which was begun while the one before ran, perhaps."""
        seconds = now - max(begun_at, self.ended_at)
        self.ended_at = now
        if seconds > BATCH_S:
            slower = int(min(num_tokens, self.batch_tokens) * BATCH_S / seconds)
            self.batch_tokens = max(LEAST_BATCH_TOKENS, slower)
        elif 2 * num_tokens > self.batch_tokens and 2 * seconds < BATCH_S:
            self.batch_tokens = min(self._most_tokens, 2 * self.batch_tokens)

    def bound(self, num_tokens: int) -> None:
        """For a batch of so many tokens there was no memory: from now on at most half of that."""
        self._most_tokens = max(LEAST_BATCH_TOKENS, min(num_tokens, self._most_tokens) // 2)
        self.batch_tokens = min(self.batch_tokens, self._most_tokens)
