"""What a worker asks of an engine; the only types that cross that border."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlxbridge.errors import BridgeError, UsageError
from mlxbridge.host.engine.grammar.response_format import Source
from mlxbridge.types import Priority, Speculation, TokenLogprobs, ToolCall, ToolChoice, Usage

DEFAULT_MAX_TOKENS = 4096
MAX_TOP_LOGPROBS = 20
DEFAULT_CONTEXT_SIZE = 20
MAX_DRAFT_TOKENS = 15
# Wherever calls wait, one guest may have so many times as much waiting as may still come.
GUEST_SHARE = 3
KV_BITS = (8, 4)
GROUP_SIZES = (128, 64, 32)
DEFAULT_SINKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How much one engine takes on.

    Attributes:
        max_batch: calls that run at once.
        max_waiting: calls that may wait; more are refused.
        memory_bytes: what weights and caches may take together, where ``kv_bytes`` or ``prefix_cache_bytes`` leave that open;
            None: what the device has.
        kv_bytes: memory that the caches of running calls may take, by projection; None: what the device has left.
        expected_tokens: to draw, that a call counts with beside its prompt when it is let in; should answers outgrow the
            memory, some calls wait again.
        prefix_cache_bytes: memory for caches of prompts that may come again, beside ``kv_bytes``; 0: none; None: a
            share of what the device has left.
        prefix_disk_bytes: disk space for caches of prompts that may come again, of all models that share the folder; 0: none.
        prefix_disk_folder: where; nobody else may enter it.
        prefill_chunk: prompt tokens read in one step while answers are running, at most; without running answers
            four times as many. How many it is depends on what steps take; on CUDA pieces have sizes of their own, see
            ``shapes``.
        kv_bits: of each number of keys and values over all tokens, 8 or 4; None: as the model computes them.
        kv_group_size: numbers that share a scale and a bias, 128, 64 or 32; None: 64, or 32 where 64 does not divide a head.
        kv_window: tokens that each token sees, itself and the first ones among them; None: all.
        kv_sinks: how many of these are the first ones of all; None: ``DEFAULT_SINKS``.

    Raises:
        UsageError: a number is none, or too small, or does not go with another; ``details["field"]`` names it.
    """

    max_batch: int = 64
    max_waiting: int = 1024
    memory_bytes: int | None = None
    kv_bytes: int | None = None
    expected_tokens: int = 512
    prefix_cache_bytes: int | None = None
    prefix_disk_bytes: int = 0
    prefix_disk_folder: str | None = None
    prefill_chunk: int = 1024
    kv_bits: int | None = None
    kv_group_size: int | None = None
    kv_window: int | None = None
    kv_sinks: int | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name in _MAY_BE_NONE:
                continue
            if type(value) is not int or value < least:
                raise UsageError(
                    f"{name} must be a whole number from {least}, not {value!r}", details={"field": name}
                )
        self._check_kv()
        self._check_disk()

    def _check_disk(self) -> None:
        if self.prefix_disk_bytes and self.prefix_disk_folder is None:
            _refuse("prefix_disk_folder", "is needed by prefix_disk_bytes, but not given")
        if self.prefix_disk_bytes and self.prefix_cache_bytes == 0:
            _refuse(
                "prefix_disk_bytes",
                "needs prefix_cache_bytes: what comes from the disk has to have room in memory",
            )

    def _check_kv(self) -> None:
        if self.kv_bits not in (None, *KV_BITS):
            _refuse("kv_bits", f"must be 8 or 4, not {self.kv_bits}")
        if self.kv_group_size not in (None, *GROUP_SIZES):
            _refuse("kv_group_size", f"must be 128, 64 or 32, not {self.kv_group_size}")
        if self.kv_group_size is not None and self.kv_bits is None:
            _refuse("kv_group_size", "is for kv_bits, which is not given")
        if self.kv_window is None:
            if self.kv_sinks is not None:
                _refuse("kv_sinks", "is for kv_window, which is not given")
            return
        if self.kv_bits is not None:
            _refuse("kv_bits", "does not go with kv_window: a window is not quantized")
        sinks = DEFAULT_SINKS if self.kv_sinks is None else self.kv_sinks
        if 2 * sinks > self.kv_window:
            _refuse("kv_window", f"must be at least twice kv_sinks, {sinks}, not {self.kv_window}")


def _refuse(name: str, why: str) -> None:
    raise UsageError(f"{name} {why}", details={"field": name})


_LEAST = {
    "max_batch": 1,
    "max_waiting": 0,
    "memory_bytes": 1,
    "kv_bytes": 1,
    "expected_tokens": 1,
    "prefix_cache_bytes": 0,
    "prefix_disk_bytes": 0,
    "prefill_chunk": 1,
    "kv_bits": 1,
    "kv_group_size": 1,
    "kv_window": 1,
    "kv_sinks": 0,
}
_MAY_BE_NONE = {
    "memory_bytes",
    "kv_bytes",
    "prefix_cache_bytes",
    "kv_bits",
    "kv_group_size",
    "kv_window",
    "kv_sinks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """For whom a call is run; said by the front, never by a guest.

    Attributes:
        guest: who takes turns with whom; calls of one guest are served in their order.
        cache_scope: calls of one scope may use each other's cached prefixes.
        adapter: which of the model's LoRA adapters it is run with; None: none.
        deadline_at: ``time.monotonic()`` seconds after which nobody waits for the call.
        request_id: what the host calls it, for the log.
    """

    guest: str = ""
    cache_scope: str = ""
    adapter: str | None = None
    deadline_at: float | None = None
    request_id: str = ""


NOBODY = Origin()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One checked generation call.

    Exactly one of ``prompt`` (raw text or token ids) and ``messages`` (for the chat template) is set.
    ``max_tokens`` None asks for as many as fit, at most ``DEFAULT_MAX_TOKENS``; a number that does not fit is refused.
    ``temperature`` 0 is greedy; ``top_p`` 1, ``top_k`` 0, ``min_p`` 0 and ``xtc_probability`` 0 are off; filters,
    ``logit_bias`` and penalties mean what mlx_lm's (``sample_utils``) do. A penalty looks at so many last tokens of
    prompt and answer as its context size says; ``repetition_penalty`` 1 and the others' 0 are off. xtc spares EOS
    and the end of a line, as in mlx_lm's server, and needs a temperature above 0. ``stop`` strings match on text.
    ``logprobs`` None asks for none, a number for each token's own and those of so many likeliest.
    ``speculation`` None leaves it to the engine: drafts where there is a draft model, but none with ``response_format``,
    ``max_reasoning_tokens``, a ``tool_choice`` that makes a call sure or a strict tool; never more than ``max_draft_tokens`` at once, by
    None ``MAX_DRAFT_TOKENS``. Neither changes what is answered.
    Before ``min_tokens`` neither EOS nor ``stop_token_ids`` can be drawn; ``ignore_eos`` makes EOS an ordinary token.
    The answer keeps to ``response_format``, and ends where that allows nothing more, whatever ``min_tokens`` says; EOS
    and ``stop_token_ids`` can be drawn where it allows the end, and nowhere else.
    ``tools`` (OpenAI's function tools), ``reasoning`` (the template's switch; None: as it has it) and
    ``max_reasoning_tokens`` let reasoning and tool calls be told apart from the answer's text; they, ``tool_choice``,
    ``parallel_tool_calls`` and ``chat_template_kwargs`` need ``messages``. By a ``tool_choice`` of "required" or a name the
    answer keeps to calls as it would to a ``response_format``; either holds behind the reasoning, if there is any. By "auto" a
    tool's ``strict`` holds from where the model begins a call to where that ends, and before and behind it nothing does.
    """

    prompt: str | Sequence[int] | None = None
    messages: Sequence[Mapping[str, Any]] | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    logprobs: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    repetition_penalty: float = 1.0
    repetition_context_size: int = DEFAULT_CONTEXT_SIZE
    presence_penalty: float = 0.0
    presence_context_size: int = DEFAULT_CONTEXT_SIZE
    frequency_penalty: float = 0.0
    frequency_context_size: int = DEFAULT_CONTEXT_SIZE
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    response_format: Source | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    reasoning: bool | None = None
    max_reasoning_tokens: int | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    speculation: Speculation | None = None
    max_draft_tokens: int | None = None
    priority: Priority = "normal"

    @property
    def is_told_apart(self) -> bool:
        """Whether reasoning and tool calls are parts of the answer, and not of its text; what keeps to a ``response_format``
        has neither.
        """
        if self.response_format is not None:
            return self.reasoning is True
        return bool(self.tools) or self.reasoning is not None or self.max_reasoning_tokens is not None

    @property
    def has_to_call(self) -> bool:
        """Whether the answer has to be a tool call."""
        return self.tool_choice not in ("auto", "none")

    @property
    def holds_calls(self) -> bool:
        """Whether tool calls are held to schemas: those that have to be, and those that the model makes where a tool is strict."""
        if self.tool_choice == "auto":
            return any(tool["function"].get("strict") for tool in self.tools)
        return self.has_to_call


@dataclass(slots=True)
class Row:
    """What one engine step did for one call: new tokens, their whole-UTF-8 text, and the end if it came.

    Exactly one of ``usage`` (finished) and ``error`` (failed) is set on a call's last row, neither before.
    ``logprobs`` has one entry for each of ``token_ids`` where the request asked for them, else it is None; ``parts`` has
    what is not text where that is told apart, in order, and a text in it is reasoning.
    """

    call: int
    token_ids: list[int]
    text: str
    usage: Usage | None = None
    error: BridgeError | None = None
    logprobs: list[TokenLogprobs] | None = None
    parts: list[str | ToolCall] | None = None


class Engine(Protocol):
    """Runs many calls on one model. Single-threaded: the worker's loop owns it.

    Call numbers are the caller's and unique among open calls.
    """

    def submit(self, call: int, request: GenerateRequest, origin: Origin = NOBODY) -> None:
        """Queue a call.

        Raises:
            InvalidArgument, Unsupported, ContextTooLong, Overloaded: the call is refused and not queued.
        """

    def cancel(self, call: int) -> Row | None:
        """Drop a call before the next step; its last row (finish_reason "cancelled"), None if it is not open."""

    def hold(self, call: int) -> None:
        """Spend nothing on a call from the next step on, until it is to go on; harmless if it is not open, or held."""

    def go_on(self, call: int) -> None:
        """Let a call that is held go on where it was; harmless if it is not open, or not held."""

    def step(self) -> list[Row]:
        """One decode step for all running calls, plus a bounded amount of prefill; rows in no special order."""

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do anything."""

    @property
    def tokens_total(self) -> int:
        """Tokens that were made since the start."""

    def close(self) -> None:
        """No more steps; what is to outlive the process is written now, in no more than a second or so."""

    def describe(self) -> dict[str, Any]:
        """Facts about the model: architecture, parameters, context_length, vocabulary_size, dtype, kv_bytes_per_token…"""

    def stats(self) -> dict[str, int]:
        """Counters: running, waiting, steps_total, tokens_total."""
