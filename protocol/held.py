"""What a call holds back until there is credit for it: tokens, merged, and payloads, bit by bit (SPEC.md §7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from mlxbridge.protocol.limits import MAX_ARRAY_ITEMS
from mlxbridge.protocol.parts import Part, max_bytes

ROW_BYTES = 32
"""What a row takes beside its ids and characters, at most: call number, three lengths, the columns' share."""

_ID_BYTES = 9
CHAR_BYTES = 4
_STRING_BYTES = 5
"""What an id, a character, and a byte string beside its bytes take at most."""


class HeldRow(NamedTuple):
    """A row that was held back: token ids, text, each token's logprobs if there are any, and parts if there are."""

    ids: list[int]
    text: str
    logprobs: list[bytes] | None = None
    parts: list[Part] | None = None


class Payload:
    """A buffer on its way out, of which the owner may have had only a part yet.

    Attributes:
        num_bytes: of all of it.
        held: bytes that are there and have not left.
        sent: bytes that have left.
        on_sent: is told of each number of bytes that leaves.
    """

    __slots__ = ("_parts", "head", "held", "num_bytes", "on_sent", "sent")

    def __init__(self, head: bytes, num_bytes: int, on_sent: Callable[[int], object] | None = None) -> None:
        self.head = head
        self.num_bytes = num_bytes
        self.held = 0
        self.sent = 0
        self.on_sent = on_sent
        self._parts: deque[memoryview] = deque()

    @property
    def unsent(self) -> int:
        """Bytes that have not left, whether they are there or not."""
        return self.num_bytes - self.sent

    @property
    def missing(self) -> int:
        """Bytes that the owner has still to give."""
        return self.num_bytes - self.sent - self.held

    def extend(self, data: memoryview) -> None:
        """The bytes behind those that are there."""
        if data:
            self._parts.append(data)
            self.held += len(data)

    def take(self, count: int) -> list[memoryview]:
        """The next ``count`` bytes of those that are there; they have left now."""
        self.held -= count
        self.sent += count
        taken = []
        while count:
            part = self._parts.popleft()
            if len(part) > count:
                self._parts.appendleft(part[count:])
                part = part[:count]
            taken.append(part)
            count -= len(part)
        return taken


class Delta:
    """Tokens that wait, merged; they cost one item of credit. All of its tokens have logprobs, or none has."""

    __slots__ = ("ids", "logprobs", "parts", "texts")

    def __init__(
        self,
        ids: list[int],
        texts: list[str],
        logprobs: list[bytes] | None = None,
        parts: list[Part] | None = None,
    ) -> None:
        self.ids = ids
        self.texts = texts
        self.logprobs = logprobs
        self.parts = parts

    def max_bytes(self) -> int:
        """The most that a row of these tokens can take in a TOKENS head."""
        size = _ID_BYTES * len(self.ids) + CHAR_BYTES * sum(map(len, self.texts)) + ROW_BYTES
        if self.logprobs is not None:
            size += _STRING_BYTES * len(self.logprobs) + sum(map(len, self.logprobs))
        if self.parts is not None:
            size += sum(map(max_bytes, self.parts))
        return size

    def count_ids(self, most_bytes: int) -> tuple[int, int]:
        """How many of the ids surely fit, at least one if there is any, and the bytes they take at most."""
        if self.logprobs is None:
            count = min(len(self.ids), MAX_ARRAY_ITEMS, most_bytes // _ID_BYTES)
            return count, count * _ID_BYTES
        total = count = 0
        for data in self.logprobs[:MAX_ARRAY_ITEMS]:
            size = _ID_BYTES + _STRING_BYTES + len(data)
            if count and total + size > most_bytes:
                break
            total += size
            count += 1
        return count, total
