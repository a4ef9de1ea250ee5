"""What a request's answers count as: in the log, the metrics and the limits the same as in the usage that the caller is told."""

from __future__ import annotations

from mlxbridge.guest.gateway.limits import Meter
from mlxbridge.guest.gateway.record import Record
from mlxbridge.types import Chunk, Generation


class Tally:
    """Of the answers to some prompts, several to each prompt side by side.

    A prompt counts once, with the first of its answers that is whole. Tokens of a stream count as they come; the token that
    ended an answer comes in no chunk, and counts with the answer's end.

    Args:
        record: of the request.
        meter: of its caller.
        num_choices: answers to each prompt.
    """

    def __init__(self, record: Record, meter: Meter, num_choices: int = 1) -> None:
        self._record = record
        self._meter = meter
        self._num_choices = num_choices
        self._read_prompts: set[int] = set()
        self._counts: dict[int, int] = {}  # tokens that have come, by the answer's index

    def take(self, index: int, chunk: Chunk) -> None:
        """Some of an answer has come."""
        count = len(chunk.token_ids)
        if count:
            self._record.note_first()
            self._counts[index] = self._counts.get(index, 0) + count
            self._spend(0, count)

    def finish(self, index: int, answer: Generation) -> None:
        """An answer is whole."""
        self._record.note_answer(answer)
        prompt, num_read = index // self._num_choices, 0
        if prompt not in self._read_prompts:
            self._read_prompts.add(prompt)
            num_read = answer.prompt_tokens
        self._spend(num_read, answer.completion_tokens - self._counts.pop(index, 0))

    def _spend(self, num_read: int, num_generated: int) -> None:
        self._record.prompt_tokens += num_read
        self._record.completion_tokens += num_generated
        self._meter.spend(num_read + num_generated)
