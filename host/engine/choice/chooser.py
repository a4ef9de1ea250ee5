"""From the logits of a lane's rows to their next tokens; all of it stays on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.choice.logprobs import Likelihoods, Logprobs
from mlxbridge.host.engine.choice.penalties import Bias, LateEnd, Penalties
from mlxbridge.host.engine.choice.reasoning_end import ReasoningEnd
from mlxbridge.host.engine.choice.sampler import Sampler
from mlxbridge.host.engine.grammar.masks import Masks
from mlxbridge.host.engine.rows import Turn
from mlxbridge.host.engine.settings import GREEDY


@dataclass(slots=True)
class Drawn:
    """One step's tokens, on the device.

    Attributes:
        tokens: uint32 array (rows,), not evaluated.
        told: what is read of them: with log-probabilities, if a row asks for these.
    """

    tokens: mx.array
    told: mx.array
    logprobs: Logprobs | None

    @property
    def is_apart(self) -> bool:
        """Whether it may be read in one thread while the tokens are used in another: MLX crashes if two hold one array."""
        return self.told is not self.tokens

    def start(self) -> None:
        """Let the device begin, without waiting."""
        mx.async_eval(self.told)  # type: ignore[no-untyped-call]

    def read(self) -> tuple[list[int], dict[int, Likelihoods]]:
        """Wait for the tokens; with them, by place, what rows that ask for log-probabilities get."""
        if self.logprobs is None:
            tokens: Any = self.told.tolist()
            return tokens, {}
        return self.logprobs.unpack(self.told, self.tokens.shape[0])


class Chooser:
    """Chooses tokens for a fixed set of rows; made anew when rows come or go.

    What no row uses costs nothing.

    Attributes:
        masks: what constrained rows may draw, None if none is; to be computed anew before every choice.
    """

    def __init__(self, turns: Sequence[Turn | None]) -> None:
        """Take the rows by place; where there is None, any token will do."""
        rows = [GREEDY if turn is None else turn.settings for turn in turns]
        positions = [0 if turn is None else turn.num_drawn for turn in turns]

        def recent(place: int, size: int) -> list[int]:
            turn = turns[place]
            return [] if turn is None else turn.recent(size)

        self._bias = Bias(rows) if any(map(Bias.is_used, rows)) else None
        self._penalties = Penalties(rows, recent) if any(map(Penalties.is_used, rows)) else None
        self._late_end = LateEnd(rows, positions) if any(map(LateEnd.is_used, rows, positions)) else None
        is_constrained = any(turn is not None and turn.constraint is not None for turn in turns)
        self.masks = Masks(turns) if is_constrained else None
        self._sampler = Sampler(rows, positions)
        self._reasoning_end = ReasoningEnd(turns) if any(map(ReasoningEnd.is_used, rows)) else None
        self._logprobs = Logprobs(rows) if any(map(Logprobs.is_used, rows)) else None

    def choose(self, logits: mx.array, last: mx.array) -> Drawn:
        """Choose every row's next token, and move on by one position.

        Args:
            logits: float array (rows, vocabulary size), which may be changed.
            last: uint32 array (rows,), the tokens that the logits follow.
        """
        if self._bias is not None:
            logits = self._bias.apply(logits)
        if self._penalties is not None:
            logits = self._penalties.apply(logits, last)
        if self._late_end is not None:
            logits = self._late_end.apply(logits)
            if self._late_end.is_over:
                self._late_end = None
        if self.masks is not None:
            logits = self.masks.apply(logits)
        tokens = self._sampler.draw(logits)
        if self._reasoning_end is not None:
            tokens = self._reasoning_end.apply(tokens, last)
        told = tokens
        if self._logprobs is not None:
            told = self._logprobs.pack(logits, tokens)
        elif self.masks is not None:
            told = tokens.astype(mx.int32)  # to be apart
        return Drawn(tokens, told, self._logprobs)
