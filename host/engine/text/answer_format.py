"""How a kind of model marks what it writes: which text leads from the answer to reasoning or to a tool call, and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from mlxbridge.host.engine.text.automaton import Automaton

NORMAL = "normal"
ANSWER = "answer"
REASONING = "reasoning"
TOOL = "tool"
CALL = "call"
"""States, named as ``mlx_lm.generate.make_text_state_machine`` has them, and CALL, which is one of several calls between the
two markers of TOOL; ANSWER is what has no markers. Text in any other state is the format's own."""

# By mlx_lm's parser: what is around each call where several stand between the markers. Read one by one they come as soon as
# they are whole, and a broken one spoils no other.
_AROUND_EACH = {
    "kimi_k2": ("<|tool_call_begin|>", "<|tool_call_end|>"),
    "kimi_k3": ("<|open|>call", "<|close|>call<|sep|>"),
    "minimax_m2": ("<invoke name=", "</invoke>"),
}


class Markers:
    """What leads out of one state.

    Attributes:
        targets: the next state, by marker.
        automaton: finds the markers.
        first_chars: what they begin with.
    """

    def __init__(self, targets: Mapping[str, str]) -> None:
        self.targets = targets
        self.automaton = Automaton(list(targets))
        self.first_chars = frozenset(marker[0] for marker in targets)


class AnswerFormat:
    """One kind of model's markers; made once a model.

    Attributes:
        initial: the state that answers begin in, unless the prompt has opened reasoning.
        call_start: the marker before tool calls; empty where they are not told apart.
        is_open_ended: calls have no marker behind them: the next one's ends a call, or the end of the answer.
        are_read_one_by_one: a call is what is in CALL, and in TOOL there is only what is around them.
    """

    def __init__(self, tokenizer: Any, *, with_calls: bool = False, is_held: bool = False) -> None:
        """Take mlx_lm's word for the markers.

        Args:
            tokenizer: mlx_lm's ``TokenizerWrapper``.
            with_calls: tell tool calls apart; the tokenizer has a parser for them.
            is_held: the answer is held to a format, or to calls; only its own marker ends reasoning before that.
        """
        self.initial: str = tokenizer.response_initial_state or NORMAL
        self.call_start: str = tokenizer.tool_call_start if with_calls else ""
        self.is_open_ended = with_calls and not tokenizer.tool_call_end
        around = _AROUND_EACH.get(parser_name(tokenizer) or "") if with_calls else None
        self.are_read_one_by_one = around is not None
        targets: dict[str, dict[str, str]] = defaultdict(dict)
        targets[NORMAL].update(dict.fromkeys(tokenizer.structural_markers, NORMAL))
        for state, edges in tokenizer.response_transitions.items():
            targets[state].update({marker: to for marker, to in edges if with_calls or to != TOOL})
        if tokenizer.has_thinking:
            targets[NORMAL][tokenizer.think_start] = REASONING
            targets[REASONING][tokenizer.think_end] = ANSWER if is_held and not with_calls else NORMAL
        if with_calls:
            _add_calls(targets, tokenizer, around, may_interrupt=not is_held)
        self._markers = {state: Markers(edges) for state, edges in targets.items()}
        self._none = Markers({})

    def markers(self, state: str) -> Markers:
        """What leads out of a state."""
        return self._markers.get(state, self._none)


def parser_name(tokenizer: Any) -> str | None:
    """Which of ``mlx_lm.tool_parsers`` reads this model's tool calls; None if none does."""
    parse = tokenizer.tool_parser
    return None if parse is None else str(parse.__module__).rpartition(".")[2]


def call_markers(tokenizer: Any) -> frozenset[str]:
    """The markers before, between and behind tool calls; none where there is no parser for them."""
    if not tokenizer.has_tool_calling:
        return frozenset()
    found = AnswerFormat(tokenizer, with_calls=True)
    return frozenset({found.call_start, *found.markers(TOOL).targets, *found.markers(CALL).targets})


def knows_reasoning(tokenizer: Any) -> bool:
    """Whether reasoning has known markers."""
    edges = tokenizer.response_transitions.values()
    return bool(tokenizer.has_thinking) or any(to == REASONING for some in edges for _, to in some)


def _add_calls(
    targets: dict[str, dict[str, str]],
    tokenizer: Any,
    around: tuple[str, str] | None,
    *,
    may_interrupt: bool,
) -> None:
    start, end = tokenizer.tool_call_start, tokenizer.tool_call_end
    if not any(to == TOOL for edges in targets.values() for to in edges.values()):
        targets[NORMAL][start] = TOOL
    # A model that calls in the middle of its reasoning is done with it.
    if REASONING in targets and may_interrupt:
        targets[REASONING][start] = TOOL
    if around is not None:
        before, behind = around
        targets[TOOL] = {before: CALL, end: NORMAL}
        targets[CALL] = {behind: TOOL, end: NORMAL}
    else:
        targets[TOOL] = {end: NORMAL} if end else {start: TOOL}
