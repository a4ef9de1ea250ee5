"""How it is to be answered: the options of text calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from mlxbridge.types.chat import AnyTool, FunctionChoice, Message, Prompt, ToolChoice

Priority = Literal["high", "normal", "low"]

Speculation = Literal["off", "ngram", "draft"]
"""How tokens are drafted that the model then checks: not at all, looked up in prompt and answer, or by a draft model."""

KeepAlive = float | str
"""Seconds, as a number or as text with units such as "30m" or "1h30m"; -1 is for ever."""


class CallOptions(TypedDict, total=False):
    """What ``chat`` takes by name beside ``tools`` and ``response_format``; what is left out, or None, has the host's default.

    Filters, ``logit_bias`` and penalties mean what mlx_lm's do. A value that the host cannot honour is refused with an
    error that names it, never ignored.
    """

    model: str | None
    """Its name at the host; may be left out where the host serves one, or has a default."""
    max_tokens: int | None
    """Most tokens to generate; what fits, up to the host's own bound, if left out."""
    min_tokens: int | None
    """Tokens to generate before EOS or one of ``stop_token_ids`` may come; a ``stop`` text ends the answer all the same."""
    temperature: float | None
    """0 takes the likeliest token (default), higher is more random."""
    top_p: float | None
    """Keep the likeliest tokens that make up this share of the probability, above 0 to 1 (off)."""
    top_k: int | None
    """Keep so many of the likeliest tokens; 0 keeps all."""
    min_p: float | None
    """Keep tokens at least this share as likely as the likeliest; 0 keeps all."""
    xtc_probability: float | None
    """How often to leave out all likely tokens but the least likely of them, 0 (off) to 1; needs a temperature."""
    xtc_threshold: float | None
    """What counts as likely for that, 0 to 0.5; 0.1 if left out."""
    seed: int | None
    """The same seed gives the same text, alone and beside others; random if left out."""
    logit_bias: Mapping[int, float] | None
    """By token id, a number to add to its logit."""
    repetition_penalty: float | None
    """Divides the logits of tokens that came before (those below 0 it multiplies); 1 is off."""
    repetition_context_size: int | None
    """So many last tokens of prompt and answer count as "before"; 20 if left out."""
    presence_penalty: float | None
    """Taken from the logits of tokens that came before, once; 0 is off."""
    presence_context_size: int | None
    """As ``repetition_context_size``."""
    frequency_penalty: float | None
    """Taken from the logits of tokens that came before, as many times as they did; 0 is off."""
    frequency_context_size: int | None
    """As ``repetition_context_size``."""
    stop: str | Sequence[str] | None
    """A text, or several, at which to end; not part of the answer."""
    stop_token_ids: Sequence[int] | None
    """Tokens that end the answer as EOS does; not part of it."""
    ignore_eos: bool | None
    """Go on after EOS, to ``max_tokens`` or a stop."""
    logprobs: int | None
    """Give each token's log-probability, and those of so many likeliest, 0 to 20."""
    tool_choice: ToolChoice | FunctionChoice | None
    """"auto" (default): the model may call tools; "none": it is not told of them; "required", or ``{"name": …}``: it must
    call one, or that one, with arguments that its schema holds of; for models that write these as JSON."""
    parallel_tool_calls: bool | None
    """False ends the answer with its first tool call."""
    reasoning: bool | None
    """Whether the model is to think before it answers; what it thinks comes as ``reasoning``, not as text. Left out: what
    the template does by itself."""
    max_reasoning_tokens: int | None
    """After so many tokens the reasoning is closed, and the answer begins."""
    chat_template_kwargs: Mapping[str, Any] | None
    """More variables for the model's chat template; one that it does not have is refused."""
    speculation: Speculation | None
    """Draft tokens that the model checks several at a time: the same answer, sooner. "draft" by a smaller model, if the
    host has one (then it is the default); "ngram" from what prompt and answer repeat; or "off"."""
    max_draft_tokens: int | None
    """Draft no more tokens than this at a time, 1 to 15; the host tries what is fastest if left out."""
    keep_alive: KeepAlive | None
    """How long the model stays loaded after its last call: seconds, "30m", 0 (not at all) or -1 (for ever); the latest call
    that says so decides, else the host's configuration."""
    priority: Priority | None
    """Whose turn it is first when calls wait for the model; a "low" one that runs makes way for others; "normal" if left out."""
    timeout: float | None
    """Seconds for the whole call; the client's own if left out."""
    retry: int | None
    """How often the call is begun again if it ends with an error that is ``retryable``; the client's own if left out. A
    stream of which a chunk was taken goes on behind it, and only with a ``seed`` or a ``temperature`` of 0."""


class Options(CallOptions, total=False):
    """What ``chat`` takes by name."""

    response_format: Any
    """What the answer has to keep to: a Python type, of which ``Generation.parsed`` then gives the object (``str``, ``int``,
    ``float``, ``bool``, ``Literal``, enums, lists, dicts, unions, dataclasses, TypedDicts, pydantic's models); or ``{"type": "json_schema", "schema": {…}}``, ``{"type": "json_object"}``,
    ``{"type": "regex", "pattern": "…"}``, ``{"type": "grammar", "grammar": "…"}`` (Lark) or
    ``{"type": "choice", "choices": ["…"]}``."""
    tools: Sequence[AnyTool] | None
    """What the model may call: Python functions with type hints (``mlxbridge.Tool`` says how they are described), or
    ``{"type": "function", "function": {"name": …, "description": …, "parameters": …}}``, the last a JSON schema, to which
    ``"strict": True`` holds the arguments of calls. Calls come as ``tool_calls``, not as text. Needs a chat, as ``tool_choice`` and what follows up to ``chat_template_kwargs`` do."""


class GenerateOptions(Options, total=False):
    """What ``generate`` and ``stream`` take by name."""

    messages: Sequence[Message] | None
    """A chat, put through the model's template, in place of a prompt."""


class Request(GenerateOptions, total=False):
    """A prompt of ``generate_many`` with options of its own, which come before those of all.

    It has ``prompt`` or ``messages``, and neither ``model``, ``keep_alive``, ``priority``, ``timeout`` nor ``retry``, which are the same
    for all.
    """

    prompt: Prompt | None


ManyPrompt = Prompt | Sequence[Message] | Request
"""One of the prompts of ``generate_many``: raw text or token ids, a chat, or either with options of its own."""


class TokenizeOptions(TypedDict, total=False):
    """What ``tokenize`` and ``count_tokens`` take by name."""

    model: str | None
    """Its name at the host; not needed where the host serves one, or has a default."""
    add_special_tokens: bool | None
    """Whether a text gets what the tokenizer puts around it (BOS, say); as ``generate`` has it if left out. In a chat the
    template has them."""
    add_generation_prompt: bool | None
    """Whether a chat ends with what begins an answer; true if left out, as ``chat`` has it."""
    tools: Sequence[AnyTool] | None
    """As for ``chat``, and so are the next three: they are a part of what the model reads."""
    tool_choice: ToolChoice | FunctionChoice | None
    reasoning: bool | None
    chat_template_kwargs: Mapping[str, Any] | None
    keep_alive: KeepAlive | None
    """As for ``generate``."""
    timeout: float | None
    """Seconds for the whole call; the client's own if left out."""
