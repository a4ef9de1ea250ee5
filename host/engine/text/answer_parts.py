"""What a model writes, told apart: the answer's text, reasoning, and tool calls.

Markers are found in text, so it does not matter how they are cut into tokens, and no more is held back than may be the
beginning of one. Nothing is lost: what began as a tool call and is none comes as a malformed one.
"""

from __future__ import annotations

import json
from collections import deque

from mlxbridge.host.engine.text.answer_format import ANSWER, CALL, NORMAL, REASONING, TOOL, AnswerFormat
from mlxbridge.host.engine.text.tool_calls import CallReader
from mlxbridge.types import ToolCall

Told = tuple[str, list[str | ToolCall]]
"""The answer's text, and its parts in order, of which a text is reasoning."""


class AnswerParts:
    """Tells one answer apart as it comes.

    Attributes:
        num_calls: tool calls that were read; malformed ones do not count.
        is_over: a call was read that ends the answer; nothing more comes out.
    """

    def __init__(
        self,
        answer_format: AnswerFormat,
        reader: CallReader | None = None,
        *,
        is_reasoning: bool = False,
        is_parallel: bool = True,
    ) -> None:
        """Begin an answer.

        Args:
            answer_format: the model's markers.
            reader: reads calls, where the format tells them apart.
            is_reasoning: the prompt has opened reasoning.
            is_parallel: there may be several calls; if not, the first one ends the answer.
        """
        self.num_calls = 0
        self.is_over = False
        self._format = answer_format
        self._reader = reader
        self._is_parallel = is_parallel
        self._num_indexes = 0
        self._enter(REASONING if is_reasoning else answer_format.initial)
        self._node = 0
        self._held = ""
        # Characters of what the model wrote: noted, and told apart.
        self._num_noted = 0
        self._num_told = 0
        # First and last character of special tokens that are no text of an answer.
        self._special: deque[tuple[int, int]] = deque()
        # In pieces, from the marker on: what stands in TOOL, but not in CALL, and what in CALL.
        self._section: list[str] = []
        self._call: list[str] = []
        self._has_calls = False
        self._text: list[str] = []
        self._parts: list[str | ToolCall] = []

    @property
    def is_reasoning(self) -> bool:
        """Whether what comes next is reasoning, as far as is known."""
        return self._state == REASONING

    def note(self, text: str, *, num_special: int = 0) -> None:
        """Take note of what the model wrote, before stop strings hold it back.

        Args:
            text: whole characters.
            num_special: so many of its last characters are a special token, which is shown in tool calls alone.
        """
        self._num_noted += len(text)
        if num_special:
            self._special.append((self._num_noted - num_special, self._num_noted))

    def push(self, text: str) -> Told:
        """Take more of what was noted; what it is."""
        pending, start, shown = self._held + text, 0, len(self._held + text)
        if self._node or not self._markers.first_chars.isdisjoint(text):
            automaton = self._markers.automaton
            for end, char in enumerate(text, start=len(self._held) + 1):
                self._node = automaton.step(self._node, char)
                if (marker := automaton.match[self._node]) is not None:
                    self._tell(pending[start : end - len(marker)])
                    self._num_told += len(marker)
                    self._cross(marker)
                    automaton, self._node, start = self._markers.automaton, 0, end
            shown -= automaton.depth[self._node]
        self._tell(pending[start:shown])
        self._held = pending[shown:]
        return self._take()

    def flush(self) -> Told:
        """What is left at the end of the answer."""
        self._tell(self._held)
        self._held, self._node = "", 0
        if self._state == CALL:
            self._add_malformed("".join(self._call))
        if self._state in (TOOL, CALL):
            self._end_section("")
            self._enter(NORMAL)
        return self._take()

    def _take(self) -> Told:
        told = "".join(self._text), self._parts
        self._text, self._parts = [], []
        return told

    def _enter(self, state: str) -> None:
        self._state = state
        self._markers = self._format.markers(state)

    def _cross(self, marker: str) -> None:
        """Follow a marker into the next state."""
        before, after = self._state, self._markers.targets[marker]
        if before == CALL:
            call = "".join(self._call)
            if after == TOOL:
                self._add_calls(call + marker, whole=call + marker)
            else:
                self._add_malformed(call)
        if before in (TOOL, CALL) and after not in (TOOL, CALL):
            self._end_section(marker)
        if after == CALL:
            self._call, self._has_calls = [marker], True
        elif after == TOOL and before != CALL:
            if before == TOOL:  # only the next call says that one has ended
                self._end_section("")
            self._section, self._has_calls = [marker], False
        self._enter(after)

    def _end_section(self, end: str) -> None:
        start, *pieces = self._section
        body = "".join(pieces)
        if self._format.are_read_one_by_one:
            if body.strip() or not self._has_calls:
                self._add_malformed(start + body + end)
        elif end or self._format.is_open_ended or _is_json(body):
            self._add_calls(body, whole=start + body + end)
        else:
            self._add_malformed(start + body)

    def _add_calls(self, text: str, *, whole: str) -> None:
        if self.is_over:
            return
        assert self._reader is not None
        try:
            calls = self._reader.read(text)
        except ValueError:
            self._add_malformed(whole)
            return
        for call in calls if self._is_parallel else calls[:1]:
            self.num_calls += 1
            self._add_call(
                ToolCall(
                    index=self._num_indexes,
                    id=call.id,
                    name=call.name,
                    arguments=call.arguments,
                    text=call.text,
                )
            )
        self.is_over = not self._is_parallel

    def _add_malformed(self, text: str) -> None:
        self._add_call(
            ToolCall(index=self._num_indexes, id="", name="", arguments=None, text=text, malformed=True)
        )

    def _add_call(self, call: ToolCall) -> None:
        if not self.is_over:
            self._num_indexes += 1
            self._parts.append(call)

    def _tell(self, text: str) -> None:
        """Add text, none of which is a marker, to where it belongs."""
        shown = self._without_special(text) if self._special else text
        self._num_told += len(text)
        if self.is_over or not text:
            return
        if self._state in (NORMAL, ANSWER):
            self._text.append(shown)
        elif self._state == TOOL:
            self._section.append(text)
        elif self._state == CALL:
            self._call.append(text)
        elif self._state == REASONING and shown:
            last = self._parts[-1] if self._parts else None
            if isinstance(last, str):
                self._parts[-1] = last + shown
            else:
                self._parts.append(shown)

    def _without_special(self, text: str) -> str:
        """The text that is told next, without the special tokens in it."""
        begin, end = self._num_told, self._num_told + len(text)
        kept, position = [], begin
        while self._special and self._special[0][0] < end:
            first, last = self._special[0]
            kept.append(text[position - begin : max(position, first) - begin])
            position = max(position, min(last, end))
            if last > end:
                break
            self._special.popleft()
        return "".join([*kept, text[position - begin :]])


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
