"""A chat on its way through a model's chat template, with all that goes there beside its messages."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from os.path import commonprefix
from typing import Any

from transformers import PreTrainedTokenizerBase

from mlxbridge.errors import Unsupported
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.refusal import invalid, unsupported
from mlxbridge.host.engine.text.answer_format import knows_reasoning
from mlxbridge.host.engine.text.messages import check_messages, count_chars
from mlxbridge.host.engine.text.template import Template, template_of

# What is said to the renderer, not to the template; only ``documents`` is for both.
_RENDERERS_OWN = {*inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters, "messages"} - {
    "documents"
}
_MAX_DEPTH = 100  # of what templates write as JSON
# Names that templates have for what an answer's reasoning was.
_REASONING_KEYS = ("reasoning", "reasoning_content", "thinking")


class Chat:
    """The messages of a request, checked against its model's template."""

    def __init__(self, loaded: LoadedModel, request: GenerateRequest) -> None:
        """Check all that the template is given.

        Raises:
            InvalidArgument: a message has a wrong shape, or the model has no chat template.
            Unsupported: a message, or something else, has no place in the template; ``details["field"]`` names it.
        """
        if not loaded.tokenizer.has_chat_template:
            raise invalid(
                "messages", f"cannot be used: {loaded.name} has no chat template; send a prompt instead"
            )
        self._loaded = loaded
        tools = (
            []
            if request.tool_choice == "none"
            else [_plain(f"tools[{index}]", tool) for index, tool in enumerate(request.tools)]
        )
        self._template = template_of(loaded.tokenizer, has_tools=bool(tools))
        self._turns = check_messages(request.messages)
        self._check_turns()
        self._arguments = self._check_variables(request.chat_template_kwargs)
        if tools:
            self._check_use("tools", "tools", "it takes none")
            self._arguments["tools"] = tools
        if request.reasoning is not None:
            self._switch_reasoning(request.reasoning)

    @property
    def num_chars(self) -> int:
        """About as many characters as the template writes."""
        arguments = len(json.dumps(self._arguments, default=str)) if self._arguments else 0
        return sum(map(count_chars, self._turns)) + arguments

    def render(self, *, with_answer: bool = True) -> str:
        """The chat as text.

        Args:
            with_answer: end with what begins an answer.

        Raises:
            InvalidArgument: the template refuses the messages.
        """
        return str(self._apply(tokenize=False, with_answer=with_answer))

    def encode(self, *, with_answer: bool = True) -> list[int]:
        """The chat as token ids; argument and errors as of ``render``."""
        return list(self._apply(tokenize=True, with_answer=with_answer))

    def opens_reasoning(self) -> bool:
        """Whether the template's beginning of an answer is one of reasoning."""
        tokenizer = self._loaded.tokenizer
        if not tokenizer.has_thinking:
            return False
        whole, messages = self.render(), self.render(with_answer=False)
        start, end = whole.rfind(tokenizer.think_start), whole.rfind(tokenizer.think_end)
        # What the messages say does not count.
        num_same = len(messages) if whole.startswith(messages) else len(commonprefix([whole, messages]))
        return start > end and start + len(tokenizer.think_start) > num_same

    def _apply(self, *, tokenize: bool, with_answer: bool) -> Any:
        try:
            return self._loaded.tokenizer.apply_chat_template(
                self._turns, tokenize=tokenize, add_generation_prompt=with_answer, **self._arguments
            )
        except Exception as exc:  # templates raise what they like
            raise invalid(
                "messages", f"were refused by the chat template of {self._loaded.name}: {exc}"
            ) from exc

    def _check_turns(self) -> None:
        """Refuse what the template would leave out without a word."""
        for index, turn in enumerate(self._turns):
            if "tool_calls" in turn and not self._template.mentions("tool_calls"):
                raise self._no_place(f"messages[{index}].tool_calls", "has no place for them")
            if "reasoning" in turn:
                if not keeps_reasoning(self._template):
                    raise self._no_place(f"messages[{index}].reasoning", "has no place for it")
                turn.update(dict.fromkeys(_REASONING_KEYS, turn["reasoning"]))

    def _check_variables(self, given: Mapping[str, Any]) -> dict[str, Any]:
        for name in given:
            if name in _RENDERERS_OWN:
                raise self._no_place(f"chat_template_kwargs.{name}", "is given that by the host alone")
            known = ", ".join(name for name in self._template.variables if name not in _RENDERERS_OWN)
            self._check_use(name, f"chat_template_kwargs.{name}", f"it has {known or 'none'}")
        return {name: _plain(f"chat_template_kwargs.{name}", value) for name, value in given.items()}

    def _check_use(self, variable: str, field: str, advice: str) -> None:
        if not self._template.uses(variable):
            raise self._no_place(field, f"does not use {variable}; {advice}")

    def _switch_reasoning(self, wanted: bool) -> None:
        tokenizer, template = self._loaded.tokenizer, self._template
        if not knows_reasoning(tokenizer):
            raise self._no_place("reasoning", "knows no reasoning that could be told apart")
        if wanted not in reasoning_choices(tokenizer, template):
            raise self._no_place("reasoning", "never asks for any" if wanted else "cannot switch it off")
        switch = template.thinking_switch
        if switch is not None:
            if switch in self._arguments:
                raise invalid("reasoning", f"and chat_template_kwargs.{switch} are the same; give one")
            self._arguments[switch] = wanted

    def _no_place(self, field: str, why: str) -> Unsupported:
        return unsupported(field, f"cannot be used: the chat template of {self._loaded.name} {why}")


def reasoning_choices(tokenizer: Any, template: Template) -> list[bool]:
    """What ``reasoning`` may be asked to be of a model; none where it knows of none, or never asks for any."""
    if not knows_reasoning(tokenizer):
        return []
    if template.thinking_switch is not None:
        return [False, True]
    is_asked = not tokenizer.has_thinking or template.mentions(tokenizer.think_start, tokenizer.think_end)
    return [True] if is_asked else []


def keeps_reasoning(template: Template) -> bool:
    """Whether what earlier answers were reasoned has a place in a chat."""
    return template.mentions(*_REASONING_KEYS)


def _plain(field: str, value: Any, depth: int = 0) -> Any:
    """The value with maps and sequences as templates know them.

    Raises:
        InvalidArgument: it is nested so deep that writing it as text might fail.
    """
    if depth > _MAX_DEPTH:
        raise invalid(field, f"is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {key: _plain(field, member, depth + 1) for key, member in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(field, member, depth + 1) for member in value]
    return value
