"""What comes before that part of an answer which is held to something."""

from __future__ import annotations

from typing import Protocol

from mlxbridge.host.engine.grammar.bits import Words


class Prelude(Protocol):
    """That of one row; follows it token by token, without a grammar."""

    @property
    def is_going_on(self) -> bool:
        """Whether the next token can only be one of the prelude."""

    @property
    def is_free(self) -> bool:
        """Whether it is going on, and any token may be drawn."""

    def begin(self) -> None:
        """Have taken nothing."""

    def take(self, token: int) -> bool:
        """Follow the answer by a token; False if it belongs to what comes after."""

    def mask(self, words: Words) -> None:
        """Say which tokens may be drawn while it goes on, as uint32 (words,), a bit a token."""

    def add(self, words: Words) -> None:
        """Let it be opened where something else might be drawn."""
