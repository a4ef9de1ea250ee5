"""Which inputs are read next, of the calls that have some that were not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mlxbridge.host.embeddings.pool import Pool
from mlxbridge.host.embeddings.request import EmbedRequest
from mlxbridge.host.embeddings.task import Request, Task, num_left

# What is read of a call at once, and what is read in a step, which takes up to a tenth of a second.
PORTION_INPUTS = 512
PORTION_CHARS = 64 * 1024
STEP_CHARS = 256 * 1024


class Unread:
    """Owns the calls with inputs that were not read; each guest's apart, the next guest's first."""

    def __init__(self) -> None:
        self._guests: dict[str, dict[Task, None]] = {}

    def add(self, task: Task) -> None:
        """A call, none of whose inputs was read."""
        self._guests.setdefault(task.guest, {})[task] = None

    def drop(self, task: Task) -> None:
        """Nothing more is to be read of a call, if there was anything."""
        own = self._guests.get(task.guest, {})
        own.pop(task, None)
        if not own:
            self._guests.pop(task.guest, None)

    def portions(self, pool: Pool, wanted_tokens: int) -> Iterator[tuple[Task, range]]:
        """What to read in a step: small calls at once, and of the others a portion, guests in turn.

        Args:
            pool: where what was read is put before the next portion is asked for, unless the call is dropped.
            wanted_tokens: if so many wait there, nothing is read but small calls, and of guests who have nothing there.

        Yields:
            Calls, and places of inputs.
        """
        num_chars = num_skipped = 0
        while num_skipped < len(self._guests) and num_chars < STEP_CHARS:
            guest, own = next(iter(self._guests.items()))
            self._guests[guest] = self._guests.pop(guest)
            task = min(own, key=num_left)
            if pool.num_tokens >= wanted_tokens and pool.has(guest) and not task.is_small:
                num_skipped += 1
                continue
            num_skipped = 0
            places, size = _portion(task.request, task.num_read)
            num_chars += size
            if places.stop == task.request.num_inputs:
                self.drop(task)
            yield task, places


def _portion(request: Request, start: int) -> tuple[range, int]:
    """The next inputs to read at once, at least one; and their size, with what is read before each of them."""
    inputs: Sequence[Any]
    if isinstance(request, EmbedRequest):
        inputs, num_before = request.inputs, len(request.prompt or "")
    else:
        inputs, num_before = request.documents, len(request.query)
    stop, size = start, 0
    while stop < min(len(inputs), start + PORTION_INPUTS) and size < PORTION_CHARS:
        size += num_before + len(inputs[stop])
        stop += 1
    return range(start, stop), size
