"""Flow control of one call, from either end (SPEC.md §7).

Credit is an absolute total that only grows, so a CREDIT frame may be lost in a merge or repeated without harm. A sender
without credit never waits: tokens that follow tokens melt into one delta, items and payloads queue behind it, and all
of it leaves in order when credit comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from mlxbridge.protocol.limits import MAX_ARRAY_ITEMS, Windows
from mlxbridge.protocol.parts import Part, max_bytes, melt, split

MAX_SLIVER_BYTES = 4096
"""A payload waits for this much byte credit, or its own rest, so that pieces do not dwindle; for half the window if
that is less, since the guest gives credit back by half windows."""


_ROW_BYTES = 32
"""What a row takes beside its ids and characters, at most: call number, three lengths, the columns' share."""

_ID_BYTES = 9
_CHAR_BYTES = 4
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
        size = _ID_BYTES * len(self.ids) + _CHAR_BYTES * sum(map(len, self.texts)) + _ROW_BYTES
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
        self.queue: deque[bytes | Delta | Payload] = (
            deque()
        )  # encoded ITEM frames, tokens, payloads, in order
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
            parts, rest = split(delta.parts, most_bytes - _ROW_BYTES)
            row = HeldRow([], "", None, parts)
            delta.texts, delta.parts = [text], rest
            if not (delta.ids or text or rest):
                self.queue.popleft()
        else:
            room = most_bytes - _ROW_BYTES
            num_ids, id_bytes = delta.count_ids(room - min(room // 2, _CHAR_BYTES * len(text)))
            num_chars = max(0, room - id_bytes) // _CHAR_BYTES
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


class Inflow:
    """Guest side of a call: what was granted, what came, and the payload that is being read.

    Args:
        windows: the credit it starts with, and what more is given as that is used.
        piecewise: the application takes payloads piece by piece, and counts each as consumed when it is done with it.
    """

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
        "payload_bytes",
        "payload_filled",
        "piecewise",
        "windows",
    )

    def __init__(self, windows: Windows, *, piecewise: bool = False) -> None:
        self.windows = windows
        self.piecewise = piecewise
        self.items_granted = windows.items
        self.items_received = 0
        self.items_consumed = 0
        self.bytes_granted = windows.bytes
        self.bytes_received = 0
        self.bytes_consumed = 0
        self.payload_bytes: int | None = None  # all of the one that is being read; None between payloads
        self.payload_filled = 0
        self.payload = memoryview(b"")  # where it is read into; if piecewise, the piece
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
        return self.grant_bytes() or due

    def grant_bytes(self) -> bool:
        """Raise the byte credit if a CREDIT frame is worth it.

        What has come of the payload in progress counts as consumed, or one larger than the window would never end. It
        stops to count once the payload is whole, so the next one waits for the application.
        """
        in_progress = 0 if self.piecewise else self.payload_filled
        total = self.bytes_consumed + in_progress + self.windows.bytes
        if total - self.bytes_granted < (self.windows.bytes + 1) // 2 or total == self.bytes_granted:
            return False
        self.bytes_granted = total
        return True
