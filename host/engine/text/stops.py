"""Stop strings, found in text that arrives in pieces.

A stop string counts where it first *ends*: the answer is over as soon as its text ends with one of them, and
the text before that one is what the caller gets (the longest one, if several end together). So the result is
the same however the text is cut into pieces. What might still become a stop string is held back: with an
Aho-Corasick automaton that is exactly as many characters as the automaton's state is deep.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlxbridge.host.engine.text.automaton import Automaton


class StopMatcher:
    """Passes one answer's text through until a stop string is complete.

    Attributes:
        matched: the stop string that was found, None so far.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.matched: str | None = None
        self._automaton = Automaton(stops) if stops else None
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
