"""Flow control of one call at the guest's end (SPEC.md §7)."""

from __future__ import annotations

from mlxbridge.protocol.limits import Windows


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
