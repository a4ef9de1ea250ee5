"""``batch_generate``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import nan
from time import perf_counter
from typing import Any, cast

from mlxbridge.compat.mlx_lm.generation import CACHES, OWN, QUANTIZED, STEPS, check_max_tokens, check_pair
from mlxbridge.compat.mlx_lm.model import Model
from mlxbridge.compat.mlx_lm.responses import BatchResponse, BatchStats
from mlxbridge.compat.mlx_lm.sample_utils import choice_options
from mlxbridge.compat.mlx_lm.tokenizer import Tokenizer, as_token_ids
from mlxbridge.compat.refusal import refuse_all, refused
from mlxbridge.types import Options, Outcome, Request

_TOGETHER = "the host decides how many calls it runs together (max_batch in its configuration)"
_REFUSED: Mapping[str, tuple[Any, str]] = {
    "prompt_caches": (None, CACHES),
    "return_prompt_caches": (False, CACHES),
    "completion_batch_size": (32, _TOGETHER),
    "prefill_batch_size": (8, _TOGETHER),
    "prefill_step_size": (2048, STEPS),
    "max_kv_size": (None, QUANTIZED),
    "stop_tokens": (None, "EOS ends an answer; mlx_lm takes no others here either"),
    "stream": (None, "the host has streams of its own"),
}


def batch_generate(
    model: Model,
    tokenizer: Tokenizer,
    prompts: Sequence[Any],
    prompt_caches: None = None,
    max_tokens: int | Sequence[int] = 128,
    verbose: bool = False,
    return_prompt_caches: bool = False,
    return_token_ids: bool = False,
    return_logprobs: bool = False,
    *,
    sampler: Any = None,
    logits_processors: Any = None,
    **options: Any,
) -> BatchResponse:
    """Answer several prompts together.

    Args:
        model: what ``load`` gave.
        tokenizer: the same.
        prompts: token ids of each.
        prompt_caches: refused.
        max_tokens: most tokens of each answer; or a list with a number for each.
        verbose: print how far it is, and what it took.
        return_prompt_caches: refused.
        return_token_ids: give the answers' token ids.
        return_logprobs: give their log-probabilities.
        sampler: of ``make_sampler``; greedy if left out.
        logits_processors: of ``make_logits_processors``.
        options: ``seed``, ``priority``, ``timeout``, ``retry``, ``speculation`` and ``keep_alive`` as for ``Client.generate_many``.

    Raises:
        UsageError: an argument is refused; ``details["field"]`` names it.
        BridgeError: as ``Client.generate_many``, or what ended the first prompt that has no answer.

    Example:
        >>> model, tokenizer = load("demo")
        >>> chats = [[{"role": "user", "content": f"What is {number} + 15?"}] for number in (27, 28)]
        >>> prompts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True) for chat in chats]
        >>> batch_generate(model, tokenizer, prompts).texts
        ['27 + 15 = 42.', '28 + 15 = 43.']
    """
    own = {name: options.pop(name) for name in OWN if name in options}
    refused_here = {**options, "prompt_caches": prompt_caches, "return_prompt_caches": return_prompt_caches}
    refuse_all(refused_here, _REFUSED, "batch_generate")
    check_pair(model, tokenizer)
    call = {**choice_options(sampler, logits_processors, tokenizer), **own, "model": model.name}
    if return_logprobs:
        call["logprobs"] = 0
    requests = _requests(prompts, max_tokens)
    _say(verbose, f"Finished processing 0/{len(requests)} ...", end="\r")
    begin = perf_counter()
    found: list[Outcome | None] = [None] * len(requests)
    with model.client.generate_many(requests, **cast(Options, call)) as outcomes:
        for number, outcome in enumerate(outcomes, 1):
            if outcome.error is not None:
                raise outcome.error
            found[outcome.index] = outcome
            end = "\r" if number < len(requests) else "\n"
            _say(verbose, f"Finished processing {number}/{len(requests)} ...", end=end)
    done = [outcome for outcome in found if outcome is not None]
    stats = _stats(done, perf_counter() - begin)
    _say(verbose, f"Prompt: {stats.prompt_tokens} tokens, {stats.prompt_tps:.3f} tokens-per-sec")
    _say(verbose, f"Generation: {stats.generation_tokens} tokens, {stats.generation_tps:.3f} tokens-per-sec")
    _say(verbose, f"Peak memory: {stats.peak_memory:.3f} GB")
    logprobs = [[token.chosen.logprob for token in one.logprobs or ()] for one in done]
    return BatchResponse(
        texts=[one.text for one in done],
        stats=stats,
        caches=None,
        token_ids=[one.token_ids for one in done] if return_token_ids else None,
        logprobs=logprobs if return_logprobs else None,
    )


def _requests(prompts: Sequence[Any], max_tokens: int | Sequence[int]) -> list[Request]:
    if (
        isinstance(prompts, str)
        or not isinstance(prompts, Iterable)
        or any(isinstance(one, str) for one in prompts)
    ):
        raise refused("prompts", "must be lists of token ids, as of tokenizer.encode or apply_chat_template")
    ids = [as_token_ids(f"prompts[{place}]", prompt) for place, prompt in enumerate(prompts)]
    limits = list(max_tokens) if isinstance(max_tokens, Iterable) else [max_tokens] * len(ids)
    if len(limits) != len(ids):
        raise refused(
            "max_tokens", f"must be one number, or {len(ids)}, one for each prompt, not {len(limits)}"
        )
    return [
        {"prompt": prompt, "max_tokens": check_max_tokens(limit)}
        for prompt, limit in zip(ids, limits, strict=True)
    ]


def _stats(done: Sequence[Outcome], wall_s: float) -> BatchStats:
    usages = [one.usage for one in done if one.usage is not None]
    # Answers run side by side: of the time that passed, prompts have the share that they have of what each answer took.
    prompt_s, decode_s = sum(one.prefill_seconds for one in usages), sum(one.decode_seconds for one in usages)
    prompt_s *= wall_s / max(prompt_s + decode_s, 1e-9)
    return BatchStats(
        prompt_tokens=sum(usage.prompt_tokens - 1 for usage in usages),
        prompt_time=prompt_s,
        generation_tokens=sum(usage.completion_tokens for usage in usages),
        generation_steps=max((usage.completion_tokens for usage in usages), default=0),
        decode_time=wall_s - prompt_s,
        wall_time=wall_s,
        peak_memory=nan,
    )


def _say(verbose: bool, text: str, end: str = "\n") -> None:
    if verbose:
        print(f"[batch_generate] {text}", end=end)
