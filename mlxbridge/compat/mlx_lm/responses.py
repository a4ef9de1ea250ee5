"""What ``stream_generate`` and ``batch_generate`` give: mlx_lm's fields, by their names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlxbridge.compat.refusal import MissingAttribute, refused
from mlxbridge.types import TokenLogprobs


class Logprobs:
    """Log-probabilities of one place in the answer, by token id: of the token that was chosen, and of the likeliest.

    mlx_lm has an array with all of the vocabulary here. That is more than a host sends: ``generate`` and its kin take
    ``top_logprobs``, from 0 to 20, for so many of the likeliest. Probabilities are after logits processors and before the
    sampler, as mlx_lm's are.
    """

    def __init__(self, known: TokenLogprobs | None, why_none: str = "") -> None:
        tokens = () if known is None else (*known.top, known.chosen)
        self._known = {token.token_id: token.logprob for token in tokens}
        self._why_none = why_none

    def __getitem__(self, token_id: int) -> float:
        """That of a token; natural logarithm.

        Raises:
            UsageError: the host told none, or not that one.
        """
        if not self._known:
            raise refused("logprobs", self._why_none)
        if token_id not in self._known:
            raise refused(
                "logprobs",
                f"the host told of {', '.join(map(str, self._known))}, not of {token_id!r}; "
                "a larger top_logprobs, up to 20, tells of more",
            )
        return self._known[token_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __getattr__(self, name: str) -> Any:
        raise MissingAttribute(
            f"logprobs are no array here, so there is no {name!r}: logprobs[token_id] is a float, for the token that was "
            "chosen and the likeliest, as many as top_logprobs asked for"
        )

    def __repr__(self) -> str:
        return f"Logprobs({self._known or self._why_none})"


NOT_ASKED_FOR = Logprobs(None, "nobody asked for them: give top_logprobs, 0 to 20")
NOT_TOLD = Logprobs(None, "of the token that ended the answer the host tells none")


@dataclass
class GenerationResponse:
    """One token of an answer; one more comes at the end if EOS ended it.

    Attributes:
        text: what the token added; empty while a character is not whole. Where several tokens came together, since they were
            not read at once, the last of them has the text of all.
        token: its id; at the end EOS's, if that ended the answer.
        logprobs: see ``Logprobs``.
        from_draft: False: what the host drafts by itself, it checks by itself.
        prompt_tokens: of the prompt.
        prompt_tps: these over the seconds to the first token, as seen from here.
        generation_tokens: so far.
        generation_tps: these over the seconds since the first token.
        peak_memory: NaN: the host tells no guest of its peak.
        finish_reason: "stop" or "length" of the last one, else None.
    """

    text: str
    token: int
    logprobs: Logprobs
    from_draft: bool
    prompt_tokens: int
    prompt_tps: float
    generation_tokens: int
    generation_tps: float
    peak_memory: float
    finish_reason: str | None = None


@dataclass(kw_only=True)
class BatchStats:
    """What it took; counted as mlx_lm does.

    Attributes:
        prompt_tokens: of all prompts, without each one's last, which the first step of its answer reads.
        prompt_time: seconds of reading prompts: the share of all that they have of what the answers took, each by itself.
        generation_tokens: of all answers, EOS among them.
        generation_steps: steps of the longest answer; there may have been more, where not all ran together.
        decode_time: seconds, the rest.
        wall_time: seconds of all.
        peak_memory: NaN, as in ``GenerationResponse``.
    """

    prompt_tokens: int = 0
    prompt_time: float = 0.0
    generation_tokens: int = 0
    generation_steps: int = 0
    decode_time: float = 0.0
    wall_time: float = 0.0
    peak_memory: float = 0.0

    @property
    def prompt_tps(self) -> float:
        """Tokens per second of reading prompts."""
        return _rate(self.prompt_tokens, self.prompt_time)

    @property
    def decode_tps(self) -> float:
        """Tokens per second of decoding."""
        return _rate(self.generation_tokens, self.decode_time)

    @property
    def generation_time(self) -> float:
        """Seconds but for reading prompts."""
        return max(0.0, self.wall_time - self.prompt_time)

    @property
    def generation_tps(self) -> float:
        """Tokens per second of these."""
        return _rate(self.generation_tokens, self.generation_time)

    @property
    def overhead_time(self) -> float:
        """Seconds of neither."""
        return max(0.0, self.wall_time - self.prompt_time - self.decode_time)


@dataclass
class BatchResponse:
    """Answers in the order of their prompts.

    Attributes:
        texts: of all.
        stats: what it took.
        caches: None: caches stay at the host.
        token_ids: of each answer, without EOS, where ``return_token_ids`` asked.
        logprobs: of each of these tokens, where ``return_logprobs`` asked.
    """

    texts: list[str]
    stats: BatchStats
    caches: None
    token_ids: list[list[int]] | None = None
    logprobs: list[list[float]] | None = None


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
