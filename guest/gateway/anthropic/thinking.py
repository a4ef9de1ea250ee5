"""Whether the model is to think before it answers, and what is told of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mlxbridge.compat.refusal import refused
from mlxbridge.guest.gateway.anthropic.checks import read_choice, read_object
from mlxbridge.guest.gateway.model_facts import ModelFacts

Shown = Literal["whole", "omitted", "nothing"]
"""What an answer has of its thinking: blocks with it, blocks with none of it, or no such blocks."""

_DISPLAYS: dict[str, Shown] = {"summarized": "whole", "omitted": "omitted"}
_MEMBERS = {
    "enabled": ("budget_tokens", "display", "block_binding"),
    "adaptive": ("budget_tokens", "display", "block_binding"),
    "disabled": (),
}
_BINDINGS = ("error", "drop_block")
"""What becomes of thinking that is given back where it does not belong: nobody here checks that."""


@dataclass(frozen=True)
class Thinking:
    """``thinking`` of a request.

    Attributes:
        wanted: True: it has to be; False: there is to be none; None: as the model can.
        budget_tokens: after so many it ends; None for no bound.
        shown: what is told of it.
    """

    wanted: bool | None
    budget_tokens: Any
    shown: Shown

    def options(self, facts: ModelFacts | None) -> dict[str, Any]:
        """The host's options for a model; what it cannot do is left to the host to refuse, if it was asked for.

        Args:
            facts: what is known of the model.
        """
        choices = () if facts is None else facts.reasoning_choices
        options: dict[str, Any] = {}
        if self.wanted or (self.wanted is None and True in choices):
            options["reasoning"] = True
            if self.budget_tokens is not None:
                options["max_reasoning_tokens"] = self.budget_tokens
        elif self.wanted is False and choices:
            # Where it cannot be switched off it is told apart all the same, and left out of the answer.
            options["reasoning"] = False not in choices
        return options


def read_thinking(value: Any) -> Thinking:
    """``thinking``, which may be missing: then there is none, so that answers begin with text.

    Raises:
        UsageError: it is none.
    """
    if value is None:
        return Thinking(False, None, "nothing")
    kind = read_choice(read_object(value, "thinking").get("type"), "thinking.type", _MEMBERS)
    given = read_object(value, "thinking", ("type", *_MEMBERS[kind]))
    if kind == "disabled":
        return Thinking(False, None, "nothing")
    _check_binding(given.get("block_binding", {}), "thinking.block_binding")
    display = read_choice(given.get("display", "summarized"), "thinking.display", _DISPLAYS)
    budget = given.get("budget_tokens")
    if kind == "enabled" and budget is None:
        raise refused("thinking.budget_tokens", "is missing: after so many tokens thinking ends")
    least = 1 if kind == "enabled" else 0
    if budget is not None and (type(budget) is not int or budget < least):
        raise refused("thinking.budget_tokens", f"must be a whole number from {least}, not {budget!r}")
    if kind == "adaptive":
        return Thinking(None, budget or None, _DISPLAYS[display])  # Claude Code says 0 for no bound
    return Thinking(True, budget, _DISPLAYS[display])


def _check_binding(value: Any, path: str) -> None:
    behaviour = "prefix_mismatch_behavior"
    given = read_object(value, path, (behaviour,))
    read_choice(given.get(behaviour, _BINDINGS[0]), f"{path}.{behaviour}", _BINDINGS)
