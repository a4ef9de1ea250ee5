"""The values that users see: chunks, results, models, status."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, overload

from mlxbridge.errors import BridgeError, UsageError

FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]
Priority = Literal["high", "normal", "low"]
Speculation = Literal["off", "ngram", "draft"]
"""How tokens are drafted that the model then checks: not at all, looked up in prompt and answer, or by a draft model."""


KeepAlive = float | str
"""Seconds, as a number or as text with units such as "30m" or "1h30m"; -1 is for ever."""


class TextPart(TypedDict):
    """A part of a message's content: ``{"type": "text", "text": "…"}``; parts are joined as they are."""

    type: Literal["text"]
    text: str


class Message(TypedDict):
    """One turn of a chat: ``{"role": "user", "content": "…"}``.

    An assistant's turn may have ``tool_calls`` as OpenAI's have them (``{"function": {"name": …, "arguments": …}}``, the
    arguments as a map or as JSON of one) beside its content or in place of it; a tool's turn may say what it answers.
    ``Generation.message`` is such a turn. Of ``reasoning`` the template decides how much the model reads again.
    """

    role: str
    content: NotRequired[str | Sequence[TextPart] | None]
    tool_calls: NotRequired[Sequence[Mapping[str, Any]]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    reasoning: NotRequired[str]


class NamedTool(TypedDict):
    """A ``tool_choice`` of one tool."""

    name: str


class FunctionChoice(TypedDict):
    """The same in OpenAI's form."""

    type: Literal["function"]
    function: NamedTool


ToolChoice = Literal["auto", "none", "required"] | NamedTool


AnyTool = Mapping[str, Any] | Callable[..., Any]
"""A function tool of OpenAI's, or a Python function or a ``Tool`` that is described as one."""


Progress = Callable[[Mapping[str, Any]], None]
"""Takes each progress report of a load, such as ``{"stage": "loading"}``."""

Prompt = str | Sequence[int]
"""Raw text, as in mlx_lm (no chat template), or token ids."""


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
    ``{"type": "function", "function": {"name": …, "description": …, "parameters": …}}``, the last a JSON schema. Calls come
    as ``tool_calls``, not as text. Needs a chat, as ``tool_choice`` and what follows up to ``chat_template_kwargs`` do."""


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


class TokenLogprob(NamedTuple):
    """A token that might have been chosen, and the natural logarithm of its probability.

    ``data`` is its UTF-8 bytes, maybe a part of a character; empty for tokens without text.
    """

    token_id: int
    logprob: float
    data: bytes


class TokenLogprobs(NamedTuple):
    """The token that was chosen, and the likeliest ones, best first, as many as were asked for.

    Probabilities are the model's own after ``logit_bias``, penalties and ``min_tokens``, before temperature and filters.
    """

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool, whole.

    Attributes:
        index: its number in the answer, from 0.
        id: what the tool's answer names as ``tool_call_id``; empty if ``malformed``.
        name: the tool's; the model may have made it up. Empty if ``malformed``.
        arguments: a JSON object, decoded; None if ``malformed``.
        text: the arguments as JSON text; of a malformed call all that the model wrote, markers included.
        malformed: the model began a call, but what it wrote is none, or was cut off.
    """

    index: int
    id: str
    name: str
    arguments: Mapping[str, Any] | None
    text: str
    malformed: bool = False


class Chunk(NamedTuple):
    """What one engine step, or several merged ones, added to a stream; prints as its text.

    ``text`` is whole UTF-8 and may be empty while a character or a possible stop string is held back;
    ``token_ids`` are the tokens that were generated meanwhile, and ``logprobs`` has one entry for each of them where
    the call asked for it, else it is None. Where the call asked for ``tools`` or ``reasoning``, what is neither is text.
    """

    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How a call ended and what it cost; times are seconds as the host's engine measured them.

    ``cached_tokens`` of the prompt were not read anew; ``reasoning_tokens`` of the completion were reasoning, None if that
    was not told apart. Of ``stop_string`` and ``stop_token_id`` at most one is set: what ended the answer, if it was
    not EOS. ``draft_tokens`` were drafted by speculation, and ``accepted_tokens`` of them are in the answer.
    ``request_id`` is what the host calls the request, in its log for one; outcomes of ``generate_many`` have that of the call
    that they came in, some hundred of them the same.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int | None = None
    stop_string: str | None = None
    stop_token_id: int | None = None
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A finished answer; prints as its text.

    ``time_to_first_token`` is seconds from the call to its first token as the *caller* saw it, with the way there and back, and
    later where it was read later. ``tokens_per_second`` is the tokens after the first over the time after the first, as the host
    measured it; ``usage`` has all of its times. ``logprobs`` has one entry for each of ``token_ids`` where the call asked for it, else it is None.
    ``reasoning`` and ``tool_calls`` are not in ``text`` where the call asked for ``tools`` or ``reasoning``.
    """

    text: str
    token_ids: list[int]
    model: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    tokens_per_second: float
    time_to_first_token: float
    usage: Usage
    logprobs: list[TokenLogprobs] | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def __str__(self) -> str:
        return self.text

    @property
    def parsed(self) -> Any:
        """The object that the answer is, see ``TypedGeneration``.

        Raises:
            UsageError: it was not asked for with ``response_format``.
        """
        raise UsageError(
            "parsed: there is nothing to parse; ask with response_format, a type or a JSON schema"
        )

    @property
    def message(self) -> Message:
        """The answer as a turn of the chat, for what is asked next; without reasoning, and without malformed calls."""
        message: Message = {"role": "assistant", "content": self.text}
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}}
            for call in self.tool_calls
            if not call.malformed
        ]
        return {**message, "tool_calls": calls} if calls else message


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """What ``run_tools`` came to; prints as the last answer's text.

    Attributes:
        generation: the last answer; its ``finish_reason`` is "tool_calls" if the model still wanted more after ``max_rounds``.
        messages: the whole chat: what was given, each answer with calls and what the tools returned, and the last answer.
        num_rounds: answers with calls that were run.
    """

    generation: Generation
    messages: list[Message]
    num_rounds: int

    def __str__(self) -> str:
        return self.generation.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one prompt of ``generate_many`` ended; prints as its text, or as its error: ``InvalidArgument: top_p must be …``.

    ``index`` is the prompt's place in the input, from 0. Either ``usage`` is set, as in ``Generation``, or ``error`` says
    why there is no answer. ``logprobs``, ``reasoning`` and ``tool_calls`` are as in ``Generation``.
    """

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    usage: Usage | None = None
    logprobs: list[TokenLogprobs] | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    error: BridgeError | None = None

    @property
    def parsed(self) -> Any:
        """As ``Generation.parsed``."""
        raise UsageError(
            "parsed: there is nothing to parse; ask with response_format, a type or a JSON schema"
        )

    def __str__(self) -> str:
        return self.text if self.error is None else f"{type(self.error).__name__}: {self.error.message}"


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


VectorType = Literal["float32", "float16"]

EmbedInput = str | Sequence[int]
"""One input of ``embed``: a text, or token ids as they are, special tokens among them."""


class EmbedOptions(TypedDict, total=False):
    """What ``embed`` takes by name."""

    model: str | None
    """Its name at the host; not needed where the host serves one, or has a default."""
    prompt: str | None
    """Text to put before every text, such as an instruction; "" for none. Not before token ids."""
    prompt_name: str | None
    """The same, by its name in the model's files ("query", say); without both, the files' default, if they have one."""
    normalize: bool | None
    """Whether vectors have length 1, so that their dot product is their cosine; true if left out. None: as the model's
    files say."""
    dimensions: int | None
    """Keep so many first numbers of each vector, for models that were trained for it; all, or as the model's files say, if
    left out."""
    dtype: VectorType | None
    """Of the vectors; "float32" if left out."""
    truncate: bool | None
    """Cut the end off inputs over the model's limit; they are refused if left out."""
    keep_alive: KeepAlive | None
    """As for ``generate``."""
    timeout: float | None
    """Seconds for the whole call; the client's own if left out."""
    retry: int | None
    """How often the call is begun again if it ends with an error that is ``retryable``; the client's own if left out."""


class RerankOptions(TypedDict, total=False):
    """What ``rerank`` takes by name."""

    model: str | None
    """Its name at the host; not needed where the host serves one, or has a default."""
    top_n: int | None
    """Give so many of the best; all if left out."""
    activation: Literal["sigmoid", "none"] | None
    """Of the scores: "sigmoid" puts them between 0 and 1, "none" leaves the model's logits; as the model's files say if left
    out."""
    truncate: bool | None
    """Cut the end off the longer text of pairs over the model's limit; they are refused if left out."""
    keep_alive: KeepAlive | None
    """As for ``generate``."""
    timeout: float | None
    """Seconds for the whole call; the client's own if left out."""
    retry: int | None
    """How often the call is begun again if it ends with an error that is ``retryable``; the client's own if left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputUsage:
    """What it took to read the inputs of ``embed`` or ``rerank``; times are seconds as the host measured them.

    ``prompt_tokens`` are those of all inputs, special tokens among them; ``truncated`` is how many inputs lost their end;
    ``request_id`` is what the host calls the request.
    """

    prompt_tokens: int
    truncated: int = 0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embeddings:
    """Vectors, one for each input and in their order, also if there is only one; a sequence of lists of floats.

    Attributes:
        shape: inputs and dimensions.
        dtype: "float32" or "float16".
        data: the numbers' bytes, vector after vector, little-endian: the memory that they were received into.
        model: that made them.
        usage: what it took.
    """

    shape: tuple[int, int]
    dtype: VectorType
    data: memoryview = field(repr=False)
    model: str
    usage: InputUsage

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, place: int) -> list[float]: ...

    @overload
    def __getitem__(self, place: slice) -> list[list[float]]: ...

    def __getitem__(self, place: int | slice) -> list[float] | list[list[float]]:
        """The vector of one input, or of several.

        Raises:
            IndexError: there is none.
        """
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        count, size = self.shape
        if not -count <= place < count:
            raise IndexError(f"there are {count} vectors, and no number {place}")
        row = Struct(f"<{size}{self._code}")
        return list(row.unpack_from(self.data, place % count * row.size))

    def __iter__(self) -> Iterator[list[float]]:
        count, size = self.shape
        rows = Struct(f"<{size}{self._code}").iter_unpack(self.data) if count and size else ((),) * count
        return map(list, rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """For ``numpy.asarray``: ``numpy()``, as another type if that is asked for."""
        array = self.numpy()
        if dtype is not None and dtype != array.dtype:
            if copy is False:
                raise ValueError(f"{self.dtype} as {dtype} takes a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def numpy(self) -> Any:
        """``numpy.ndarray`` of ``shape`` and ``dtype`` over the same memory; needs numpy.

        Raises:
            ImportError: it is not installed.
        """
        try:
            import numpy
        except ImportError as error:
            raise ImportError(
                "numpy is not installed: use tolist(), or pip install numpy", name="numpy"
            ) from error
        return numpy.frombuffer(self.data, "<f4" if self.dtype == "float32" else "<f2").reshape(self.shape)

    def tolist(self) -> list[list[float]]:
        """A list of floats for each input."""
        return list(self)

    @property
    def _code(self) -> str:
        """Of a number, for ``struct``."""
        return "f" if self.dtype == "float32" else "e"


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """One document and its score; ``index`` is its place among the documents that were given."""

    index: int
    score: float
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Documents by how well they answer the query, the best first; iterates over ``RankedDocument``.

    Attributes:
        results: the documents.
        model: that scored them.
        usage: what it took.
    """

    results: tuple[RankedDocument, ...]
    model: str
    usage: InputUsage

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[RankedDocument]:
        return iter(self.results)

    def __getitem__(self, place: int) -> RankedDocument:
        return self.results[place]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model the host serves, and what it is doing now.

    ``state`` is "unloaded", "loading", "waiting" (for memory), "ready", "draining" (it makes way for others), "restarting",
    "unloading" or "failed"; ``details`` has aliases, memory and how long it stays loaded, architecture, parameters,
    context_length and the like once it was loaded, and the reason when it failed.
    """

    name: str
    state: str
    source: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStatus:
    """What models have, in bytes; None where the host does not know.

    Attributes:
        total: of the machine, or of a card that has memory of its own.
        budget: that models may take together.
        reserved: that those that are loaded may take.
        used: what they have taken, as their workers measure it.
    """

    total: int | None = None
    budget: int | None = None
    reserved: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The host at a glance."""

    software: str
    chip: str
    memory: MemoryStatus
    uptime_seconds: float
    connections: int
    calls: int
    models: list[ModelInfo]
