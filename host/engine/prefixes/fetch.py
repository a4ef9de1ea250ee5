"""Parts of one prompt on their way from disk into memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from mlxbridge.host.engine.prefixes.cache_parts import Content
from mlxbridge.host.engine.prefixes.disk_thread import Read
from mlxbridge.host.engine.prefixes.part_forms import PartForm
from mlxbridge.host.engine.prefixes.prefix_tree import TOKEN_BYTES, Node


@dataclass(slots=True, eq=False)
class Coming:
    """A part on its way: how it is read, what its arrays are like, and its packed tokens."""

    read: Read
    form: PartForm
    run: bytes


@dataclass(slots=True, eq=False)
class Fetch:
    """What prompts wait for that begin like this one.

    Attributes:
        rank: those of a lower one go first.
        tip: in memory, what the next part is stored below.
        tokens: packed, up to where the last part ends.
        coming: in order.
        has_helped: whether what has come is of use by itself.
        has_begun: whether it is the disk's turn.
        is_over: nothing more comes.
    """

    rank: int
    tip: Node[Content]
    tokens: bytes = b""
    coming: deque[Coming] = field(default_factory=deque)
    has_helped: bool = False
    has_begun: bool = False
    is_over: bool = False

    def is_help(self, scope: str, tokens: bytes, least: int, *, can_cut: bool) -> bool:
        """Whether a prompt that waits for it will have at least ``least`` of its packed tokens.

        Args:
            scope: the prompt's.
            tokens: the prompt's.
            least: tokens.
            can_cut: whether any part will do, or only the last.
        """
        end = least * TOKEN_BYTES if can_cut else len(self.tokens)
        is_long_enough = least * TOKEN_BYTES <= end <= min(len(tokens), len(self.tokens))
        return is_long_enough and self.tip.scope == scope and tokens[:end] == self.tokens[:end]
