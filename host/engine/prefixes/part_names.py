"""What stored parts of prompts are called on disk, and which of them are there; plain bookkeeping.

A part's name is a digest of all tokens up to its end, of where it was cut, and of whose they are. Each digest is
made from the one before it and the part's own run, with a key of the folder's own: without the key nobody can tell
from a name even whether a prompt that he guesses is among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from mlxbridge.host.engine.prefixes.prefix_tree import TOKEN_BYTES, Node

DIGEST_BYTES = 16
_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})-([0-9]{1,9})")


def root_digest(key: bytes, scope: str) -> bytes:
    """Where all prompts of a scope begin."""
    return blake2b(scope.encode(), digest_size=DIGEST_BYTES, key=key, person=b"scope").digest()


def digest_below(key: bytes, parent: bytes, run: bytes) -> bytes:
    """The digest of the part below another for a run of packed tokens; of the end there if the run is empty."""
    return blake2b(parent + run, digest_size=DIGEST_BYTES, key=key, person=b"run").digest()


@dataclass(frozen=True, slots=True)
class PartName:
    """A part, its place, and its file's name.

    Attributes:
        parent: digest of the part before it.
        digest: its own.
        num_tokens: of its run; 0 for an end.
    """

    parent: bytes
    digest: bytes
    num_tokens: int

    def __str__(self) -> str:
        return f"{self.parent.hex()}-{self.digest.hex()}-{self.num_tokens}"

    @classmethod
    def parse(cls, text: str) -> PartName | None:
        """The part whose file has this name; None if it is no part's."""
        match = _NAME.fullmatch(text)
        return match and cls(bytes.fromhex(match[1]), bytes.fromhex(match[2]), int(match[3]))


def name_of(key: bytes, node: Node[Any]) -> PartName:
    """What a cached part's file is called."""
    if not node.digest:
        for each in node.path():
            each.digest = each.digest or digest_below(key, _digest_above(key, each), each.run)
    return PartName(_digest_above(key, node), node.digest, len(node.run) // TOKEN_BYTES)


def _digest_above(key: bytes, node: Node[Any]) -> bytes:
    assert node.parent is not None
    return node.parent.digest if node.parent.parent is not None else root_digest(key, node.scope)


class PartIndex:
    """The parts that are there, as far as is known."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._names: dict[bytes, PartName] = {}
        # By parent's digest: lengths of the runs below it.
        self._lengths: dict[bytes, set[int]] = {}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._names

    def __len__(self) -> int:
        return len(self._names)

    def replace(self, names: Iterable[PartName]) -> None:
        """Know these, and no others."""
        self._names.clear()
        self._lengths.clear()
        for name in names:
            self.add(name)

    def add(self, name: PartName) -> None:
        """A part is there."""
        self._names[name.digest] = name
        self._lengths.setdefault(name.parent, set()).add(name.num_tokens)

    def remove(self, name: PartName) -> None:
        """A part has gone; what is below it may be reached again once it is back."""
        self._names.pop(name.digest, None)

    def path(self, scope: str, tokens: bytes, *, can_cut: bool) -> list[PartName]:
        """The parts, from the scope's root on, that hold the longest beginning of packed tokens from which a prompt can go on.

        Args:
            scope: whose tokens.
            tokens: packed.
            can_cut: whether it can from any part; else it needs an end.
        """
        # Each with the one before it, and where it ends, in bytes.
        found: list[tuple[PartName, int, int]] = []
        best, best_end = -1, 0
        waiting = [(-1, root_digest(self._key, scope), 0)]
        for before, digest, end in waiting:  # grows meanwhile
            for num_tokens in self._lengths.get(digest, ()):
                stop = end + num_tokens * TOKEN_BYTES
                if stop > len(tokens):
                    continue
                name = self._names.get(digest_below(self._key, digest, tokens[end:stop]))
                if name is None:
                    continue
                found.append((name, before, stop))
                if num_tokens:
                    waiting.append((len(found) - 1, name.digest, stop))
                if stop > best_end and (can_cut or not num_tokens):
                    best, best_end = len(found) - 1, stop
        path: list[PartName] = []
        while best >= 0:
            name, best, _ = found[best]
            path.append(name)
        return path[::-1]
