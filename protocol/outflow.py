"""Flow control of one call at the host's end (SPEC.md §7).

Credit is an absolute total that only grows, so a CREDIT frame may be lost in a merge or repeated without harm. A sender
without credit never waits: tokens that follow tokens melt into one delta, items and payloads queue behind it, and all
of it leaves in order when credit comes.
"""

from __future__ import annotations

from collections import deque

from mlxbridge.protocol.held import CHAR_BYTES, ROW_BYTES, Delta, HeldRow, Payload
from mlxbridge.protocol.limits import MAX_ARRAY_ITEMS
from mlxbridge.protocol.parts import Part, melt, split

MAX_SLIVER_BYTES = 4096
"""A payload waits for this much byte credit, or its own rest, so that pieces do not dwindle; for half the window if
that is less, since the guest gives credit back by half windows."""


class Outflow:
    """Host side of a call: what may be sent, what is held back, and the frame that ends it."""

    __slots__ = (
        "bytes_sent",
        "bytes_total",
        "cancelled",
        "final",
        "incoming",
        "items_sent",
        "items_total",
        "logprob_bytes",
        "queue",
        "request_id",
        "sliver",
    )

    def __init__(self, items_total: int, bytes_total: int) -> None:
        self.items_total = items_total
        self.items_sent = 0
        self.bytes_total = bytes_total
        self.bytes_sent = 0
        self.sliver = min(MAX_SLIVER_BYTES, max(1, bytes_total // 2))
        # Encoded ITEM frames, tokens, payloads, in order.
        self.queue: deque[bytes | Delta | Payload] = deque()
        self.incoming: Payload | None = None  # in the queue, and not all of it is there
        self.logprob_bytes = 0  # of all deltas in the queue
        self.final: bytes | None = None  # the encoded RESULT or ERROR, once there is one
        self.request_id: str | None = None  # what the end is to tell besides
        self.cancelled = False

    @property
    def held_bytes(self) -> int:
        """About what is held back takes."""
        return len(self.final or b"") + sum(
            part.max_bytes()
            if isinstance(part, Delta)
            else part.held
            if isinstance(part, Payload)
            else len(part)
            for part in self.queue
        )

    def merge(
        self,
        ids: list[int],
        text: str,
        logprobs: list[bytes] | None = None,
        parts: list[Part] | None = None,
    ) -> None:
        """Hold tokens back, in the last delta if nothing was queued behind it."""
        if not (ids or text or parts):
            return
        last = self.queue[-1] if self.queue else None
        if not isinstance(last, Delta) or (ids and last.ids and bool(logprobs) is not bool(last.logprobs)):
            last = Delta([], [])
            self.queue.append(last)
        last.ids += ids
        if text:
            last.texts.append(text)
        if logprobs:
            last.logprobs = last.logprobs or []
            last.logprobs += logprobs
            self.logprob_bytes += sum(map(len, logprobs))
        if parts:
            last.parts = last.parts or []
            last.parts += parts

    def first_delta(self) -> Delta | None:
        """The delta that is first in line, if there is credit for it."""
        first = self.queue[0] if self.queue else None
        return first if isinstance(first, Delta) and self.items_sent < self.items_total else None

    def take(self, delta: Delta, most_bytes: int) -> HeldRow:
        """The first delta, or as much of it as surely fits; that costs one item of credit.

        One token whose logprobs alone do not fit, or one tool call, is given all the same: nothing else of the call could
        ever leave. Parts that do not fit beside the tokens leave before them.
        """
        self.items_sent += 1
        text, logprobs = "".join(delta.texts), delta.logprobs
        if delta.parts is not None:
            delta.parts = melt(delta.parts)
        if (
            delta.max_bytes() <= most_bytes
            and len(delta.ids) <= MAX_ARRAY_ITEMS
            and len(delta.parts or ()) <= MAX_ARRAY_ITEMS
        ):
            self.queue.popleft()
            row = HeldRow(delta.ids, text, logprobs, delta.parts)
        elif delta.parts:
            parts, rest = split(delta.parts, most_bytes - ROW_BYTES)
            row = HeldRow([], "", None, parts)
            delta.texts, delta.parts = [text], rest
            if not (delta.ids or text or rest):
                self.queue.popleft()
        else:
            room = most_bytes - ROW_BYTES
            num_ids, id_bytes = delta.count_ids(room - min(room // 2, CHAR_BYTES * len(text)))
            num_chars = max(0, room - id_bytes) // CHAR_BYTES
            row = HeldRow(delta.ids[:num_ids], text[:num_chars], logprobs and logprobs[:num_ids])
            self.queue[0] = Delta(delta.ids[num_ids:], [text[num_chars:]], logprobs and logprobs[num_ids:])
        if row.logprobs:
            self.logprob_bytes -= sum(map(len, row.logprobs))
        return row

    def put_back(self, row: HeldRow) -> None:
        """Undo a ``take``."""
        self.items_sent -= 1
        self.queue.appendleft(Delta(row.ids, [row.text], row.logprobs, row.parts))
        self.logprob_bytes += sum(map(len, row.logprobs or ()))

    def clear(self) -> None:
        """Forget everything held back."""
        self.queue.clear()
        self.incoming = None
        self.logprob_bytes = 0

    def break_off(self) -> None:
        """Forget a payload that will not be whole, and all that waits behind it."""
        while self.incoming is not None:
            if self.queue.pop() is self.incoming:
                self.incoming = None

    def drop(self) -> None:
        """Forget everything held back: the guest has cancelled."""
        self.cancelled = True
        self.clear()

    def can_send(self) -> bool:
        """Whether the credit suffices for the first thing that waits."""
        if not self.queue:
            return self.final is not None
        first = self.queue[0]
        if isinstance(first, Payload):
            there = first.held > 0 or not first.unsent
            return there and self.bytes_total - self.bytes_sent >= min(first.unsent, self.sliver)
        return self.items_sent < self.items_total
