"""Calls of tools as streams tell them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from mlxbridge.compat.openai.objects import ChoiceDeltaToolCall, ChoiceDeltaToolCallFunction
from mlxbridge.types import ToolCall


class CallDeltas:
    """Of the answers to one chat; each is told in a chunk of its own, as OpenAI does.

    A call comes whole from a host, and in two pieces from here: who is called, and then all arguments. Programs add the arguments of
    all pieces to those of the first one, that piece's own among them, so there they have to be empty.
    """

    def __init__(self) -> None:
        # By answer; those that are no calls, which a host counts too, would leave gaps.
        self._num_told: Counter[int] = Counter()

    def tell(self, answer: int, calls: Sequence[ToolCall]) -> Iterator[ChoiceDeltaToolCall]:
        """The pieces of what came of an answer; what is no call has none."""
        for call in calls:
            if not call.malformed:
                index = self._num_told[answer]
                self._num_told[answer] += 1
                opened = ChoiceDeltaToolCallFunction(name=call.name, arguments="")
                yield ChoiceDeltaToolCall(index=index, id=call.id, type="function", function=opened)
                arguments = ChoiceDeltaToolCallFunction(arguments=call.text)
                yield ChoiceDeltaToolCall(index=index, function=arguments)
