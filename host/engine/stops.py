"""Stop strings, found in text that arrives in pieces.

A stop string counts where it first *ends*: the answer is over as soon as its text ends with one of them, and
the text before that one is what the caller gets (the longest one, if several end together). So the result is
the same however the text is cut into pieces. What might still become a stop string is held back: with an
Aho-Corasick automaton that is exactly as many characters as the automaton's state is deep.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class _Automaton:
    """Aho-Corasick over characters; states are numbers, 0 is the root."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fail: list[int] = [0]
        self.depth: list[int] = [0]
        # The longest stop string that ends in a state.
        self.match: list[str | None] = [None]
        for stop in stops:
            self._add(stop)
        self._link()

    def _add(self, stop: str) -> None:
        state = 0
        for char in stop:
            if char not in self._next[state]:
                self._next[state][char] = len(self._next)
                self._next.append({})
                self._fail.append(0)
                self.depth.append(self.depth[state] + 1)
                self.match.append(None)
            state = self._next[state][char]
        self.match[state] = stop

    def _link(self) -> None:
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            for char, child in self._next[state].items():
                self._fail[child] = self.step(self._fail[state], char)
                self.match[child] = self.match[child] or self.match[self._fail[child]]
                queue.append(child)

    def step(self, state: int, char: str) -> int:
        while char not in self._next[state]:
            if not state:
                return 0
            state = self._fail[state]
        return self._next[state][char]


class StopMatcher:
    """Passes one answer's text through until a stop string is complete.

    Attributes:
        matched: the stop string that was found, None so far.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.matched: str | None = None
        self._automaton = _Automaton(stops) if stops else None
        self._state = 0
        self._held = ""

    def push(self, text: str) -> str:
        """Take more text; return what can be shown now. Work is linear in the length of all text.

        After a match, ``matched`` is set, the text before the match has been returned, and nothing more comes
        out.
        """
        if self._automaton is None or self.matched is not None:
            return text if self.matched is None else ""
        automaton, state, pending = self._automaton, self._state, self._held + text
        for index, char in enumerate(text, start=len(self._held) + 1):
            state = automaton.step(state, char)
            if (matched := automaton.match[state]) is not None:
                self.matched, self._held = matched, ""
                return pending[: index - len(matched)]
        self._state = state
        shown = len(pending) - automaton.depth[state]
        self._held = pending[shown:]
        return pending[:shown]

    def flush(self) -> str:
        """The text that was held back, once no more will come."""
        held, self._held, self._state = self._held, "", 0
        return held
