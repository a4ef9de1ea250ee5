"""``make_sampler`` and ``make_logits_processors``: what they make goes to the host as parameters of the call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlxbridge.compat.mlx_lm.tokenizer import Tokenizer
from mlxbridge.compat.refusal import refused
from mlxbridge.types import CallOptions


class Sampler:
    """How tokens are chosen.

    Attributes:
        options: the same as parameters of ``generate``.
        xtc_special_tokens: that xtc spares; None where there is no xtc.
    """

    def __init__(self, options: CallOptions, xtc_special_tokens: frozenset[int] | None = None) -> None:
        self.options = options
        self.xtc_special_tokens = xtc_special_tokens

    def __call__(self, logprobs: Any) -> Any:
        """Refuse: the host chooses.

        Raises:
            UsageError
        """
        raise refused("sampler", "cannot be called here: give it to generate, and the host chooses by it")


class LogitsProcessor:
    """How logits are changed before that.

    Attributes:
        name: what ``make_logits_processors`` calls it.
        options: the same as parameters of ``generate``.
    """

    def __init__(self, name: str, options: CallOptions) -> None:
        self.name = name
        self.options = options

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """Refuse: the host applies it.

        Raises:
            UsageError
        """
        raise refused(
            "logits_processors", "cannot be called here: give them to generate; the host applies them"
        )


_OFF: CallOptions = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "xtc_probability": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_tokens": 0,
    "stop": (),
}
"""What mlx_lm does by itself, said in full: a host may be configured to do otherwise with calls that do not say."""

_ORDER = ("logit_bias", "repetition_penalty", "presence_penalty", "frequency_penalty")
"""In which the host applies them, and mlx_lm makes them."""


def make_sampler(
    temp: float = 0.0,
    top_p: float = 0.0,
    min_p: float = 0.0,
    min_tokens_to_keep: int = 1,
    top_k: int = 0,
    xtc_probability: float = 0.0,
    xtc_threshold: float = 0.1,
    xtc_special_tokens: list[int] | None = None,
) -> Sampler:
    """A sampler for ``generate`` and its kin; arguments mean what mlx_lm's do.

    Args:
        temp: 0 takes the likeliest token, whatever else is given.
        top_p: keep the likeliest tokens of this share, between 0 and 1; all otherwise.
        min_p: keep tokens at least this share as likely as the likeliest.
        min_tokens_to_keep: 1; the host has no other.
        top_k: keep so many; 0 keeps all.
        xtc_probability: how often to leave out all likely tokens but the least likely of them.
        xtc_threshold: what counts as likely for that.
        xtc_special_tokens: that xtc spares; with a probability it has to be
            ``tokenizer.encode("\\n") + list(tokenizer.eos_token_ids)``, which the host spares.

    Raises:
        UsageError: the host has nothing like it; ``details["field"]`` names it.

    Example:
        >>> make_sampler(temp=0.7, top_p=0.9).options
        {'temperature': 0.7, 'top_p': 0.9}
    """
    if temp == 0:
        return Sampler({"temperature": 0.0})  # as mlx_lm: nothing else matters then
    options: CallOptions = {"temperature": temp}
    if 0 < top_p < 1:
        options["top_p"] = top_p
    if min_p != 0:
        if min_tokens_to_keep != 1:
            raise refused("min_tokens_to_keep", "the host keeps at least one token, and has no other number")
        options["min_p"] = min_p
    if top_k > 0:
        options["top_k"] = top_k
    if xtc_probability <= 0:
        return Sampler(options)
    options["xtc_probability"], options["xtc_threshold"] = xtc_probability, xtc_threshold
    return Sampler(options, frozenset(xtc_special_tokens or ()))


def make_logits_processors(
    logit_bias: Mapping[int, float] | None = None,
    repetition_penalty: float | None = None,
    repetition_context_size: int | None = 20,
    presence_penalty: float | None = None,
    presence_context_size: int | None = 20,
    frequency_penalty: float | None = None,
    frequency_context_size: int | None = 20,
) -> list[LogitsProcessor]:
    """Logits processors for ``generate`` and its kin; arguments mean what mlx_lm's do.

    Args:
        logit_bias: by token id, a number to add to its logit.
        repetition_penalty: divides the logits of tokens that came before; None and 0 are off, as for the others.
        repetition_context_size: so many last tokens of prompt and answer count as "before".
        presence_penalty: taken from the logits of tokens that came before, once.
        presence_context_size: as ``repetition_context_size``.
        frequency_penalty: the same as many times as they came.
        frequency_context_size: as ``repetition_context_size``.

    Example:
        >>> [processor.options for processor in make_logits_processors(repetition_penalty=1.1)]
        [{'repetition_penalty': 1.1, 'repetition_context_size': 20}]
    """
    made = [LogitsProcessor("logit_bias", {"logit_bias": dict(logit_bias)})] if logit_bias else []
    if repetition_penalty:
        options: CallOptions = {
            "repetition_penalty": repetition_penalty,
            "repetition_context_size": repetition_context_size,
        }
        made.append(LogitsProcessor("repetition_penalty", options))
    if presence_penalty:
        options = {"presence_penalty": presence_penalty, "presence_context_size": presence_context_size}
        made.append(LogitsProcessor("presence_penalty", options))
    if frequency_penalty:
        options = {"frequency_penalty": frequency_penalty, "frequency_context_size": frequency_context_size}
        made.append(LogitsProcessor("frequency_penalty", options))
    return made


def choice_options(sampler: Any, logits_processors: Any, tokenizer: Tokenizer) -> CallOptions:
    """What a sampler and logits processors are as parameters of a call.

    Raises:
        UsageError: they were not made by the functions above, or the host cannot do it so.
    """
    options = _processing_options(logits_processors)
    if sampler is None:
        return options
    if not isinstance(sampler, Sampler):
        raise refused(
            "sampler",
            "the host runs no code of its guests: give what mlxbridge.compat.mlx_lm.make_sampler makes",
        )
    spared = sampler.xtc_special_tokens
    if spared is not None and spared != {*tokenizer.encode("\n"), *tokenizer.eos_token_ids}:
        raise refused(
            "xtc_special_tokens",
            'the host spares tokenizer.encode("\\n") + list(tokenizer.eos_token_ids); give these to make_sampler',
        )
    return {**options, **sampler.options}


def _processing_options(processors: Iterable[Any] | None) -> CallOptions:
    options = _OFF
    last = -1
    if processors is not None and not isinstance(processors, Iterable):
        raise refused("logits_processors", "must be a list, as make_logits_processors makes it")
    for processor in processors or ():
        if not isinstance(processor, LogitsProcessor):
            raise refused(
                "logits_processors",
                "the host runs no code of its guests: give what "
                "mlxbridge.compat.mlx_lm.make_logits_processors makes",
            )
        place = _ORDER.index(processor.name)
        if place <= last:
            raise refused(
                "logits_processors", f"the host takes one of each, in the order {', '.join(_ORDER)}"
            )
        last = place
        options = {**options, **processor.options}
    return options
