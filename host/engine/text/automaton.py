"""Several words looked for at once in text that arrives character by character (Aho and Corasick, 1975)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class Automaton:
    """States are numbers, 0 is the root: the one after text that no word begins in.

    Attributes:
        depth: of each state, how many last characters of the text may yet become a word.
        match: of each state, the longest word that ends in it, if one does.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Take the words, none of them empty."""
        self._next: list[dict[str, int]] = [{}]
        self._fail: list[int] = [0]
        self.depth: list[int] = [0]
        self.match: list[str | None] = [None]
        for word in words:
            self._add(word)
        self._link()

    def _add(self, word: str) -> None:
        state = 0
        for char in word:
            if char not in self._next[state]:
                self._next[state][char] = len(self._next)
                self._next.append({})
                self._fail.append(0)
                self.depth.append(self.depth[state] + 1)
                self.match.append(None)
            state = self._next[state][char]
        self.match[state] = word

    def _link(self) -> None:
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            for char, child in self._next[state].items():
                self._fail[child] = self.step(self._fail[state], char)
                self.match[child] = self.match[child] or self.match[self._fail[child]]
                queue.append(child)

    def step(self, state: int, char: str) -> int:
        """The state after one more character; over a whole text the work is linear in its length."""
        while char not in self._next[state]:
            if not state:
                return 0
            state = self._fail[state]
        return self._next[state][char]
