"""Who is at the other end of a connection."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Guest:
    """Guests that share a token are one; without tokens each connection is a guest.

    Attributes:
        identity: the name of its token, None if it has shown none.
        key: for whom its calls count, unlike that of any other guest.
    """

    identity: str | None = None
    key: str = field(default_factory=lambda: f"connection {next(_numbers)}")

    @classmethod
    def with_token(cls, identity: str) -> Guest:
        """The guest that has shown the token of this name."""
        return cls(identity, f"token {identity}")

    @property
    def name(self) -> str:
        """As it is told of: without the word that keeps tokens and connections apart."""
        return self.identity or self.key
