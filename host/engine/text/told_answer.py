"""One answer in which reasoning and tool calls are told apart: from its tokens to the parts of its rows."""

from __future__ import annotations

from functools import cached_property

from mlxbridge.host.engine.grammar.reasoning import Reasoning
from mlxbridge.host.engine.interface import GenerateRequest, Row
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.refusal import unsupported
from mlxbridge.host.engine.text.answer_format import AnswerFormat
from mlxbridge.host.engine.text.answer_parts import AnswerParts
from mlxbridge.host.engine.text.chat import Chat
from mlxbridge.host.engine.text.detokenize import Vocabulary
from mlxbridge.host.engine.text.tool_calls import CallReader


class ReasoningBudget:
    """Counts an answer's tokens of reasoning.

    Attributes:
        num_tokens: so far, markers left out.
        closes_at: position in the answer from which reasoning is to be closed; None while there is no need.
    """

    def __init__(self, max_tokens: int | None, *, is_open: bool, num_end_tokens: int) -> None:
        """Begin an answer.

        Args:
            max_tokens: of reasoning, at least 1; None for any number.
            is_open: the prompt has opened reasoning.
            num_end_tokens: tokens of the marker behind reasoning.
        """
        self.num_tokens = 0
        self.closes_at: int | None = None
        self._max_tokens = max_tokens
        self._is_open = is_open
        self._num_end_tokens = num_end_tokens
        self._plan(0)

    def feed(self, *, is_open: bool, num_answer: int) -> None:
        """A token was read; whether reasoning is open after it, and how many tokens the answer then has."""
        if self._is_open and is_open:
            self.num_tokens += 1
        elif self._is_open:  # those of the marker that came before its last one were counted
            self.num_tokens = max(0, self.num_tokens + 1 - self._num_end_tokens)
        self._is_open = is_open
        self._plan(num_answer)

    def _plan(self, num_answer: int) -> None:
        if not self._is_open:
            self.closes_at = None
        elif self._max_tokens is not None and self.num_tokens >= self._max_tokens - 1:
            # One more token is being drawn when one is read, and it may be the last.
            self.closes_at = self.closes_at or num_answer + 1


class ToldAnswer:
    """Owns the parts of one answer, and its reasoning budget.

    Attributes:
        detokenizer: makes text of tokens, special ones too.
        reasoning: what comes before that which the answer is held to; None: nothing, or it is held to nothing.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        parts: AnswerParts,
        budget: ReasoningBudget,
        *,
        reasoning: Reasoning | None = None,
    ) -> None:
        self.detokenizer = vocabulary.detokenizer()
        self.reasoning = reasoning
        self._vocabulary = vocabulary
        self._parts = parts
        self._budget = budget

    @property
    def closes_at(self) -> int | None:
        """See ReasoningBudget."""
        return self._budget.closes_at

    @property
    def num_reasoning_tokens(self) -> int:
        """Tokens of reasoning so far."""
        return self._budget.num_tokens

    @property
    def has_calls(self) -> bool:
        """Whether a tool call was read."""
        return self._parts.num_calls > 0

    @property
    def is_over(self) -> bool:
        """Whether a tool call was read that ends the answer."""
        return self._parts.is_over

    def note(self, token: int, text: str) -> None:
        """A token became this text, which stop strings may hold back."""
        num_special = 0
        if token in self._vocabulary.special:
            num_special = min(len(text), len(self._vocabulary.name_of(token)))
        self._parts.note(text, num_special=num_special)

    def tell(self, row: Row, *, num_answer: int) -> None:
        """Tell the text of a row apart, whose last token is the answer's so-manieth."""
        row.text, row.parts = self._parts.push(row.text)
        self._budget.feed(is_open=self._parts.is_reasoning, num_answer=num_answer)

    def finish(self, row: Row, text: str) -> None:
        """Tell the answer's last text apart, and all that was held back, as the end of its last row."""
        told, parts = self._parts.push(text)
        rest, last_parts = self._parts.flush()
        row.text += told + rest
        row.parts = [*(row.parts or []), *parts, *last_parts]


class ToldAnswers:
    """Begins the answers of one model that are told apart."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def begin(self, request: GenerateRequest) -> ToldAnswer | None:
        """The answer to a request; None if it is all text.

        Raises:
            InvalidArgument: the request's messages have a wrong shape, or are refused by the chat template.
            Unsupported: it asks for what the model cannot do; ``details["field"]`` names it.
        """
        if not request.is_told_apart:
            return None
        tokenizer, name = self._loaded.tokenizer, self._loaded.name
        if request.tools and not tokenizer.has_tool_calling:
            raise unsupported("tools", f"cannot be used: {name} has no known way of calling any")
        if request.max_reasoning_tokens is not None and not tokenizer.has_thinking:
            raise unsupported(
                "max_reasoning_tokens", f"cannot be used: {name} has no known marker that closes reasoning"
            )
        is_reasoning = Chat(self._loaded, request).opens_reasoning()
        budget = ReasoningBudget(
            request.max_reasoning_tokens,
            is_open=is_reasoning,
            num_end_tokens=len(tokenizer.think_end_tokens or [0]),
        )
        return ToldAnswer(
            self._vocabulary,
            self._begin_parts(request, is_reasoning=is_reasoning),
            budget,
            reasoning=self._reasoning_before(request, is_reasoning=is_reasoning),
        )

    def _begin_parts(self, request: GenerateRequest, *, is_reasoning: bool) -> AnswerParts:
        tokenizer = self._loaded.tokenizer
        if request.response_format is not None:
            return AnswerParts(self._held_format, is_reasoning=is_reasoning)
        if not request.tools or request.tool_choice == "none":
            return AnswerParts(self._format, is_reasoning=is_reasoning)
        return AnswerParts(
            self._format_of_calls if request.has_to_call else self._format_with_calls,
            CallReader(tokenizer.tool_parser, request.tools),
            is_reasoning=is_reasoning,
            is_parallel=request.parallel_tool_calls,
        )

    def _reasoning_before(self, request: GenerateRequest, *, is_reasoning: bool) -> Reasoning | None:
        """What may come before a call that has to be, and has to come before a format that is to be kept to."""
        tokenizer = self._loaded.tokenizer
        is_held = request.response_format is not None
        if not (is_held or request.has_to_call) or request.reasoning is False and not is_reasoning:
            return None
        if not tokenizer.has_thinking:
            if request.reasoning:
                raise unsupported(
                    "reasoning", "has no marker here behind which an answer could be held to anything"
                )
            return None
        call_start = tokenizer.tool_call_start_tokens or ()
        return Reasoning(
            start_ids=() if is_reasoning else tokenizer.think_start_tokens,
            is_due=is_held,
            end=tokenizer.think_end,
            avoided_ids=call_start if len(call_start) == 1 else (),
        )

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self._loaded.tokenizer, shows_special=True)

    @cached_property
    def _format(self) -> AnswerFormat:
        return AnswerFormat(self._loaded.tokenizer)

    @cached_property
    def _held_format(self) -> AnswerFormat:
        return AnswerFormat(self._loaded.tokenizer, is_held=True)

    @cached_property
    def _format_of_calls(self) -> AnswerFormat:
        return AnswerFormat(self._loaded.tokenizer, with_calls=True, is_held=True)

    @cached_property
    def _format_with_calls(self) -> AnswerFormat:
        return AnswerFormat(self._loaded.tokenizer, with_calls=True)
