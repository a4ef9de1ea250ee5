"""The inputs that were read and wait to be computed, of all calls; and which of them are the next batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlxbridge.host.embeddings.batching import batch_around
from mlxbridge.host.embeddings.task import Input, Task, num_left
from mlxbridge.host.embeddings.tokenizer import Tokens


class Pool:
    """Owns them.

    Attributes:
        num_tokens: of all of them.
    """

    def __init__(self) -> None:
        self.num_tokens = 0
        self._inputs: list[Input] = []  # the longest first, but for those that came since a batch was taken
        self._turns: dict[str, int] = {}  # how many are each guest's; whose turn it is first

    def __len__(self) -> int:
        return len(self._inputs)

    def has(self, guest: str) -> bool:
        """Whether any of them is this guest's."""
        return guest in self._turns

    def put(self, task: Task, places: range, read: Sequence[Tokens]) -> None:
        """Inputs of a call begin to wait."""
        for place, tokens in zip(places, read, strict=True):
            self._inputs.append(Input(task, place, tokens))
            self.num_tokens += len(tokens)
        self._turns[task.guest] = self._turns.get(task.guest, 0) + len(places)

    def take(self, max_tokens: int) -> list[Input]:
        """The next batch: around the longest input of the next guest's call that has the least left.

        Args:
            max_tokens: as for ``batching.batches``.
        """
        guest, count = next(iter(self._turns.items()))
        del self._turns[guest]
        self._turns[guest] = count  # now it is the others' turn
        self._inputs.sort(key=_num_tokens, reverse=True)
        task = min((item.task for item in self._inputs if item.task.guest == guest), key=num_left)
        place = next(place for place, item in enumerate(self._inputs) if item.task is task)
        start, end = batch_around([*map(_num_tokens, self._inputs)], place, max_tokens)
        batch = self._inputs[start:end]
        del self._inputs[start:end]
        self._forget(batch)
        return batch

    def drop(self, task: Task) -> None:
        """Nobody waits for a call's inputs any more."""
        self._forget(item for item in self._inputs if item.task is task)
        self._inputs = [item for item in self._inputs if item.task is not task]

    def _forget(self, inputs: Iterable[Input]) -> None:
        for item in inputs:
            self.num_tokens -= len(item.tokens)
            self._turns[item.task.guest] -= 1
            if not self._turns[item.task.guest]:
                del self._turns[item.task.guest]


def _num_tokens(item: Input) -> int:
    return len(item.tokens)
