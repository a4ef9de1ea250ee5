"""Which beginnings of prompts are cached, and which of them go when room is needed; plain bookkeeping, no arrays.

A node stands for the tokens on the way from its scope's root to it. It holds what its own run of tokens takes; an
*end*, whose run is empty, holds what cannot be cut by tokens and fits this length only. Nodes go by last use. Using a
node uses all above it, a moment later: so the least recently used node never has any below it, and can go.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Content = TypeVar("Content")

TOKEN_BYTES = 4


def pack(tokens: Sequence[int]) -> bytes:
    """Token ids in ``TOKEN_BYTES`` each, as the tree takes them: they are cut and compared at memory's speed."""
    return array("I", tokens).tobytes()


@dataclass(slots=True)
class Part(Generic[Content]):
    """What is to be stored for a run of packed tokens; of an end if the run is empty."""

    run: bytes
    content: Content
    num_bytes: int


@dataclass(slots=True, eq=False)
class Node(Generic[Content]):
    """A stored part and its place.

    Attributes:
        depth: tokens from the root to the end of its run.
        content: None at a root, and once the node has gone.
        is_stored: false at a root, and once the node has gone.
        digest: its name outside of this tree, for who gives it one.
    """

    scope: str
    parent: Node[Content] | None = None
    run: bytes = b""
    depth: int = 0
    content: Content | None = None
    num_bytes: int = 0
    is_stored: bool = False
    digest: bytes = b""
    # By length of the run in tokens, then by run.
    children: dict[int, dict[bytes, Node[Content]]] = field(default_factory=dict)

    @property
    def is_end(self) -> bool:
        """Whether it holds what fits this length only."""
        return self.parent is not None and not self.run

    def child(self, run: bytes) -> Node[Content] | None:
        """The node below for these packed tokens."""
        return self.children.get(len(run) // TOKEN_BYTES, {}).get(run)

    def path(self) -> list[Node[Content]]:
        """The nodes from below the root to this one."""
        nodes: list[Node[Content]] = []
        node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


class PrefixTree(Generic[Content]):
    """Parts of prompts within a budget of bytes; scopes share the budget and nothing else.

    Attributes:
        num_bytes: what all parts take.
        version: changes whenever a node comes or goes.
    """

    def __init__(self, budget_bytes: int, leave: Callable[[Node[Content]], object] = lambda _: None) -> None:
        """Start empty.

        Args:
            budget_bytes: that all parts may take.
            leave: told of each node that is to go for want of room, before it does.
        """
        self.budget_bytes = budget_bytes
        self._leave = leave
        self.num_bytes = 0
        self.version = 0
        self._roots: dict[str, Node[Content]] = {}
        # Least recently used first.
        self._order: OrderedDict[Node[Content], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._order)

    def root(self, scope: str) -> Node[Content]:
        """Where all prompts of a scope begin."""
        return self._roots.get(scope) or Node(scope)

    def match(self, scope: str, tokens: bytes, limit: int) -> list[Node[Content]]:
        """All nodes on the way of these packed tokens, at most ``limit`` of them; a node comes before those below it."""
        found = [self.root(scope)]
        for node in found:  # grows meanwhile
            for num_tokens, runs in node.children.items():
                end = node.depth + num_tokens
                run = tokens[node.depth * TOKEN_BYTES : end * TOKEN_BYTES]
                if end <= limit and (child := runs.get(run)) is not None:
                    found.append(child)
        return found[1:]

    def touch(self, node: Node[Content]) -> None:
        """Note that a node, and so all above it, is used."""
        while node.parent is not None:
            self._order.move_to_end(node)
            node = node.parent

    def extend(self, node: Node[Content], parts: Sequence[Part[Content]]) -> Node[Content] | None:
        """Store parts below a node, each below the one before it (though nothing below an end); what is there stays.

        Returns:
            The last one's node (the last but ends); None if it has gone, or if ``node`` has.
        """
        if any(part.num_bytes > self.budget_bytes for part in parts):
            return None
        if node.parent is None:
            node = self._roots.setdefault(node.scope, node)
        elif not node.is_stored:
            return None
        for part in parts:
            child = node.child(part.run) or self._add(node, part)
            if part.run:
                node = child
            else:
                self.touch(child)
        self.touch(node)
        while self.num_bytes > self.budget_bytes:
            oldest = next(iter(self._order))
            self._leave(oldest)
            self._remove(oldest)
        self._forget_root(node.scope)
        return node if node.is_stored or node.parent is None else None

    def clear(self) -> None:
        """Remove everything."""
        for node in list(self._order):
            self._remove(node)

    def _add(self, parent: Node[Content], part: Part[Content]) -> Node[Content]:
        num_tokens = len(part.run) // TOKEN_BYTES
        node = Node(
            parent.scope, parent, part.run, parent.depth + num_tokens, part.content, part.num_bytes, True
        )
        parent.children.setdefault(num_tokens, {})[part.run] = node
        self._order[node] = None
        self.num_bytes += node.num_bytes
        self.version += 1
        return node

    def _remove(self, node: Node[Content]) -> None:
        parent = node.parent
        assert parent is not None and not node.children
        siblings = parent.children[len(node.run) // TOKEN_BYTES]
        del siblings[node.run]
        if not siblings:
            del parent.children[len(node.run) // TOKEN_BYTES]
        del self._order[node]
        self.num_bytes -= node.num_bytes
        self.version += 1
        node.content, node.is_stored = None, False
        self._forget_root(node.scope)

    def _forget_root(self, scope: str) -> None:
        if (root := self._roots.get(scope)) is not None and not root.children:
            del self._roots[scope]
