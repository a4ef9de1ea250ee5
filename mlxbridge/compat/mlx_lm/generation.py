"""``stream_generate`` and ``generate``."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from math import nan
from time import perf_counter
from typing import Any

from mlxbridge.compat.mlx_lm.model import Model
from mlxbridge.compat.mlx_lm.responses import NOT_ASKED_FOR, NOT_TOLD, GenerationResponse, Logprobs
from mlxbridge.compat.mlx_lm.sample_utils import choice_options
from mlxbridge.compat.mlx_lm.tokenizer import Tokenizer, as_token_ids
from mlxbridge.compat.refusal import refuse_all, refused
from mlxbridge.types import CallOptions

OWN = ("seed", "priority", "timeout", "retry", "speculation", "keep_alive")
"""Of ``Client.generate``, beside mlx_lm's parameters and ``top_logprobs``."""

CACHES = "keys and values stay at the host, which keeps prefixes of prompts by itself"
QUANTIZED = (
    "the host's configuration says how a model's keys and values are kept, for all calls (kv_bits, kv_window)"
)
STEPS = "the host decides how much of a prompt it reads in a step"
_REFUSED: Mapping[str, tuple[Any, str]] = {
    "draft_model": (
        None,
        'the host has the draft model that it is configured to have; speculation="draft" asks for it, "ngram" for none',
    ),
    "num_draft_tokens": (None, "is for draft_model"),
    "stream": (None, "the host has streams of its own"),
    "max_kv_size": (None, QUANTIZED),
    "prompt_cache": (None, CACHES),
    "prefill_step_size": (2048, STEPS),
    "kv_bits": (None, QUANTIZED),
    "kv_group_size": (64, QUANTIZED),
    "quantized_kv_start": (5000, QUANTIZED),
    "prompt_progress_callback": (None, "the host does not tell how much of a prompt it has read"),
    "input_embeddings": (None, "the host takes text and token ids"),
}


def stream_generate(
    model: Model,
    tokenizer: Tokenizer,
    prompt: Any,
    max_tokens: int = 256,
    draft_model: None = None,
    *,
    sampler: Any = None,
    logits_processors: Any = None,
    top_logprobs: int | None = None,
    **options: Any,
) -> Generator[GenerationResponse, None, None]:
    """Answer a prompt, token by token. Leaving the loop, or losing the iterator, cancels the call at the host.

    Args:
        model: what ``load`` gave.
        tokenizer: the same.
        prompt: text, or token ids in a list or an array.
        max_tokens: most tokens to generate; -1 for as many as fit, up to the host's own bound.
        draft_model: refused, as are most parameters of ``mlx_lm.generate.generate_step``.
        sampler: of ``make_sampler``; greedy if left out.
        logits_processors: of ``make_logits_processors``.
        top_logprobs: give each token's log-probability, and those of so many likeliest, 0 to 20.
        options: ``seed`` (``mx.random.seed`` is not seen here), ``priority``, ``timeout``, ``retry``, ``speculation`` and
            ``keep_alive`` as for ``Client.generate``.

    Raises:
        UsageError: an argument is refused; ``details["field"]`` names it.
        BridgeError: as ``Client.generate``.

    Example:
        >>> model, tokenizer = load("demo")
        >>> prompt = tokenizer.apply_chat_template([{"role": "user", "content": "What is 27 + 15?"}], add_generation_prompt=True)
        >>> for response in stream_generate(model, tokenizer, prompt, max_tokens=20):
        ...     print(response.text, end="")
        27 + 15 = 42.
    """
    own = {name: options.pop(name) for name in OWN if name in options}
    refuse_all({**options, "draft_model": draft_model}, _REFUSED, "stream_generate")
    check_pair(model, tokenizer)
    call: CallOptions = {**choice_options(sampler, logits_processors, tokenizer), **own}  # type: ignore[typeddict-item]
    if top_logprobs is not None:
        call["logprobs"] = top_logprobs
    return _stream(model, tokenizer, prompt, check_max_tokens(max_tokens), call)


def generate(model: Model, tokenizer: Tokenizer, prompt: Any, verbose: bool = False, **options: Any) -> str:
    """Answer a prompt.

    Args:
        model: what ``load`` gave.
        tokenizer: the same.
        prompt: text, or token ids in a list or an array.
        verbose: print the answer as it comes, and what it took.
        options: those of ``stream_generate``, where errors are explained too.

    Returns:
        The text of the answer.
    """
    if verbose:
        print("=" * 10)
    text, response = "", None
    for response in stream_generate(model, tokenizer, prompt, **options):
        if verbose:
            print(response.text, end="", flush=True)
        text += response.text
    if verbose:
        print("\n" + "=" * 10)
        if not text or response is None:
            print("No text generated for this prompt")
            return text
        for what, count, speed in (
            ("Prompt", response.prompt_tokens, response.prompt_tps),
            ("Generation", response.generation_tokens, response.generation_tps),
        ):
            print(f"{what}: {count} tokens, {speed:.3f} tokens-per-sec")
        print(f"Peak memory: {response.peak_memory:.3f} GB")
    return text


def check_max_tokens(given: Any) -> int | None:
    """A number of tokens as the host takes it.

    Raises:
        UsageError: it is neither a number from 1 nor -1.
    """
    if type(given) is not int or (given < 1 and given != -1):
        raise refused("max_tokens", f"must be a number from 1, or -1 for as many as fit, not {given!r}")
    return None if given == -1 else given


def check_pair(model: Any, tokenizer: Any) -> None:
    """Refuse what ``load`` has not made.

    Raises:
        UsageError: it names the first.
    """
    for field, given, kind in (("model", model, Model), ("tokenizer", tokenizer, Tokenizer)):
        if not isinstance(given, kind):
            raise refused(
                field, f"must be what mlxbridge.compat.mlx_lm.load gives, not {type(given).__name__}"
            )


def _stream(
    model: Model, tokenizer: Tokenizer, prompt: Any, max_tokens: int | None, options: CallOptions
) -> Generator[GenerationResponse, None, None]:
    client = model.client
    if isinstance(prompt, str):
        ids = client.tokenize(prompt, model=model.name)
    else:
        ids = as_token_ids("prompt", prompt)
    # EOS as one of stop_token_ids is the same, but that the answer's usage says which of them it was.
    ends = sorted(one for one in tokenizer.eos_token_ids if one < tokenizer.vocab_size)
    segments = Segments(tokenizer.kind)
    begin = first_at = perf_counter()
    count = 0
    token, logprobs = -1, NOT_ASKED_FOR
    held: GenerationResponse | None = None  # where any token may turn out to be the last

    def response(text: str, reason: str | None = None) -> GenerationResponse:
        return GenerationResponse(
            text=text,
            token=token,
            logprobs=logprobs,
            from_draft=False,
            prompt_tokens=len(ids),
            prompt_tps=len(ids) / max(first_at - begin, 1e-9),
            generation_tokens=count,
            generation_tps=count / max(perf_counter() - first_at, 1e-9),
            peak_memory=nan,
            finish_reason=reason,
        )

    call: CallOptions = {
        **options,
        "model": model.name,
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "stop_token_ids": ends,
    }
    with client.stream(ids, **call) as stream:
        for chunk in stream:
            first_at = perf_counter() if count == 0 else first_at
            last = len(chunk.token_ids) - 1
            if last < 0:
                segments.push(chunk.text)
            for place, token_id in enumerate(chunk.token_ids):
                count += 1
                token = token_id
                if chunk.logprobs is not None:
                    logprobs = Logprobs(chunk.logprobs[place])
                if place == last:
                    segments.push(chunk.text)
                if held is not None:
                    yield held
                if max_tokens is None:
                    held = response(segments.take())
                elif count != max_tokens:  # that one is the last, and comes with the reason
                    yield response(segments.take())
        generation = stream.generation
    rest = segments.finish()
    if generation.usage.stop_token_id is not None:
        if held is not None:
            yield held
        count += 1
        token, logprobs = generation.usage.stop_token_id, NOT_TOLD
    elif held is not None:
        rest = held.text + rest
    if count:
        yield response(rest, generation.finish_reason)


class Segments:
    """A text cut where mlx_lm cuts it.

    Of byte-level BPE it holds back a single space and what ends with bytes that are no character, until more comes, and drops
    a space that the text begins with.
    """

    def __init__(self, kind: str | None) -> None:
        self._is_held_back = kind == "bytes"
        self._is_begun = False
        self._waiting = ""
        self._last = ""

    def push(self, text: str) -> None:
        """A token has come, with this text."""
        self._waiting += text
        self._last = text

    def take(self) -> str:
        """What there is to show."""
        is_open = self._last in ("", " ") or self._waiting.endswith("\ufffd")
        return "" if self._is_held_back and is_open else self.finish()

    def finish(self) -> str:
        """What is left, at the end."""
        text, self._waiting = self._waiting, ""
        if self._is_held_back and not self._is_begun:
            text = text.removeprefix(" ")
        self._is_begun = self._is_begun or bool(text)
        return text
