"""Flow control of one call, from either end (SPEC.md §7).

Credit is an absolute total that only grows, so a CREDIT frame may be lost in a merge or repeated without harm. A sender
without credit never waits: tokens melt into one pending delta, items and payloads queue, and all of it leaves when
credit comes.
"""

from __future__ import annotations

from collections import deque

from mlxbridge.protocol.limits import Windows

MIN_SLIVER_BYTES = 4096
"""A payload waits for at least this much byte credit (or its own rest), so that pieces do not dwindle."""


class Payload:
    """A buffer on its way out; ``sent`` bytes of it have left."""

    __slots__ = ("data", "head", "sent")

    def __init__(self, head: bytes, data: memoryview) -> None:
        self.head = head
        self.data = data
        self.sent = 0


class Outflow:
    """Host side of a call: what may be sent, what is held back, and the frame that ends it."""

    __slots__ = (
        "bytes_sent",
        "bytes_total",
        "cancelled",
        "final",
        "items_sent",
        "items_total",
        "pending_ids",
        "pending_texts",
        "queue",
    )

    def __init__(self, items_total: int, bytes_total: int) -> None:
        self.items_total = items_total
        self.items_sent = 0
        self.bytes_total = bytes_total
        self.bytes_sent = 0
        self.pending_ids: list[int] = []
        self.pending_texts: list[str] = []
        self.queue: deque[bytes | Payload] = deque()  # encoded ITEM frames and payloads, in order
        self.final: bytes | None = None  # the encoded RESULT or ERROR, once there is one
        self.cancelled = False

    @property
    def pending(self) -> bool:
        """Whether tokens wait."""
        return bool(self.pending_ids or self.pending_texts)

    @property
    def held(self) -> bool:
        """Whether anything waits, so that what comes next must wait behind it."""
        return bool(self.pending_ids or self.pending_texts or self.queue)

    def merge(self, token_ids: list[int], text: str) -> None:
        """Add a step's tokens to the pending delta."""
        self.pending_ids += token_ids
        if text:
            self.pending_texts.append(text)

    def take_delta(self) -> tuple[list[int], str]:
        """The pending delta, which costs one item of credit."""
        delta = self.pending_ids, "".join(self.pending_texts)
        self.pending_ids, self.pending_texts = [], []
        self.items_sent += 1
        return delta

    def drop(self) -> None:
        """Forget everything held back: the guest has cancelled."""
        self.cancelled = True
        self.pending_ids, self.pending_texts = [], []
        self.queue.clear()

    def can_send(self) -> bool:
        """Whether the credit suffices for the first thing that waits."""
        if self.pending:
            return self.items_sent < self.items_total
        if not self.queue:
            return self.final is not None
        first = self.queue[0]
        if isinstance(first, Payload):
            rest = len(first.data) - first.sent
            return self.bytes_total - self.bytes_sent >= min(rest, MIN_SLIVER_BYTES)
        return self.items_sent < self.items_total


class Inflow:
    """Guest side of a call: what was granted, what came, and the payload that is being read."""

    __slots__ = (
        "bytes_consumed",
        "bytes_granted",
        "bytes_received",
        "cancelled",
        "items_consumed",
        "items_granted",
        "items_received",
        "meta",
        "payload",
        "payload_filled",
        "windows",
    )

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.items_granted = windows.items
        self.items_received = 0
        self.items_consumed = 0
        self.bytes_granted = windows.bytes
        self.bytes_received = 0
        self.bytes_consumed = 0
        self.payload: memoryview | None = None
        self.payload_filled = 0
        self.meta: dict[str, object] = {}
        self.cancelled = False

    def consume(self, items: int, num_bytes: int) -> bool:
        """Count what the application took; whether a CREDIT frame is now worth sending (half a window)."""
        self.items_consumed += items
        self.bytes_consumed += num_bytes
        due = False
        items_due = self.items_consumed + self.windows.items
        if items_due - self.items_granted >= (self.windows.items + 1) // 2:
            self.items_granted = items_due
            due = True
        return self._grant_bytes(self.bytes_consumed + self.windows.bytes) or due

    def extend_payload(self) -> bool:
        """Grant what the payload in progress still needs: its memory is taken already, and it must not deadlock."""
        return self._grant_bytes(self.bytes_received + self.windows.bytes)

    def _grant_bytes(self, total: int) -> bool:
        if total - self.bytes_granted < (self.windows.bytes + 1) // 2 or total == self.bytes_granted:
            return False
        self.bytes_granted = total
        return True
