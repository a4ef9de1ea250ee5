"""Many calls on one embedding model or reranker: which inputs are computed next, and what has come of them.

A step reads some inputs (to token ids), begins a batch of those that wait, and waits for the batch before. So a GPU computes
while inputs are read and answers are written. In short:

::

    submit ── tasks, by guest ── read, a portion in turn ── pool, by length ── batch around the next guest's ── step's answers

- Every guest in turn has the batch built around the longest input of one of its calls, the one with the least left; whatever
  has a similar length joins, from whichever call. So no guest waits for more than one batch of each other guest, however much
  they have sent, and its small calls do not wait for its large ones.
- A batch takes about ``BATCH_S``, by what batches have taken so far: after so long a cancel, or another guest, gets its turn.
- Nobody waits for company that may not come. Only where the batch before answered several calls, whose guests have most likely
  more to ask, the first of them that ask wait for the others, at most ``COALESCE_S``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import mlx.core as mx
import numpy as np

from mlxbridge.errors import BridgeError, DeadlineExceeded, InternalError, InvalidArgument, Overloaded
from mlxbridge.host.embeddings.model import Model, Vectors
from mlxbridge.host.embeddings.pace import Pace
from mlxbridge.host.embeddings.pool import Pool
from mlxbridge.host.embeddings.request import EmbedRequest
from mlxbridge.host.embeddings.task import Answer, Input, Output, Request, Task
from mlxbridge.host.embeddings.unread import Unread
from mlxbridge.host.engine.interface import GUEST_SHARE, NOBODY, Origin
from mlxbridge.host.engine.memory import is_out_of_memory
from mlxbridge.host.waiting import WaitingRoom

COALESCE_S = 0.002
# So many batches' inputs are looked through for those of similar length.
WINDOW_BATCHES = 4

MAX_CALLS = 8_192
MAX_BYTES = 1 << 30
MAX_CALL_BYTES = 256 << 20
RETRY_AFTER_S = 1.0
KEPT_BYTES = 64 << 20
"""What MLX may keep of a model's buffers while it is idle: enough for small calls, which come one after the other."""


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """A forward pass that was begun; ``num_tokens`` are with padding."""

    inputs: list[Input]
    vectors: mx.array
    num_tokens: int
    begun_at: float


class VectorEngine:
    """Owns the calls of one model. Single-threaded: the worker's loop owns it.

    Args:
        model: what computes.
        max_waiting: calls that may be open; more are refused.
        clock: seconds.
    """

    def __init__(
        self, model: Model, *, max_waiting: int = MAX_CALLS, clock: Callable[[], float] = monotonic
    ) -> None:
        self.model = model
        self._max_calls = min(max_waiting, MAX_CALLS)
        self._clock = clock
        self._tasks: dict[int, Task] = {}
        self._unread = Unread()
        self._pool = Pool()
        self._running: _Batch | None = None
        self._answers: list[Answer] = []  # without a batch
        self._room = WaitingRoom()
        self._pace = Pace()
        self._num_just_answered = 0
        self._totals: Counter[str] = Counter()

    # -- calls -------------------------------------------------------------------------------------------------

    def submit(self, call: int, request: Request, origin: Origin = NOBODY, *, num_bytes: int = 0) -> None:
        """Take a call on.

        Args:
            call: the caller's number for it, unique among open calls.
            request: unchecked.
            origin: for whom it is.
            num_bytes: about what the request takes.

        Raises:
            InvalidArgument: a field is wrong, or what is asked for takes too much memory; ``details["field"]`` names it.
            Overloaded: there are too many calls, or they take too much memory, in all or of this guest's.
        """
        self.model.check(request)
        values = self.model.space(request)
        if values.nbytes > MAX_CALL_BYTES:
            name = "inputs" if isinstance(request, EmbedRequest) else "documents"
            raise InvalidArgument(
                f"{name} come to {values.nbytes / 2**20:.0f} MiB; a call may have {MAX_CALL_BYTES / 2**20:.0f}: make several",
                details={"field": name},
            )
        num_bytes += values.nbytes
        if not self._room.has_room(
            origin.guest, num_bytes, max_bytes=MAX_BYTES, max_calls=max(1, self._max_calls)
        ):
            own = self._room.bytes_of(origin.guest) / 2**20
            raise Overloaded(
                f"{len(self._tasks)} calls ({self._room.num_bytes / 2**20:.0f} MiB) are open, "
                f"{self._room.calls_of(origin.guest)} ({own:.0f} MiB) of them this guest's; there may be {self._max_calls} "
                f"({MAX_BYTES / 2**20:.0f} MiB), and of one guest {GUEST_SHARE} times what is free",
                retry_after=RETRY_AFTER_S,
            )
        self._room.enter(origin.guest, num_bytes)
        task = Task(call, request, origin, num_bytes, self._clock(), values, num_left=request.num_inputs)
        self._tasks[call] = task
        if task.num_left:
            self._unread.add(task)
        else:
            self._finish(task, self._answers)

    def cancel(self, call: int) -> bool:
        """Drop a call before the next batch; whether it was open."""
        if (task := self._tasks.get(call)) is None:
            return False
        self._drop(task)
        return True

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do anything, now or once ``wait_s`` is over."""
        # A batch that nobody waits for any more keeps its memory, and would seem to have taken all the time till the next call.
        return bool(self._tasks or self._answers or self._running)

    @property
    def wait_s(self) -> float:
        """Seconds for which the calls that are there should wait for others before ``step``; 0 as a rule."""
        others = self._num_just_answered - len(self._tasks)
        if others <= 0 or self._answers or self._running is not None or self._pool:
            return 0.0
        if not all(task.is_small for task in self._tasks.values()):
            return 0.0
        return max(0.0, self._pace.ended_at + COALESCE_S - self._clock())

    def step(self) -> list[Answer]:
        """Read some inputs, begin a batch, wait for the one before; the calls that have ended."""
        answers, self._answers = self._answers, []
        self._expire(answers)
        before, limit = self._running, self._pace.batch_tokens
        if before is None:
            self._read(limit, answers)
        else:  # while it is being computed
            self._read(min(WINDOW_BATCHES * limit, self._pool.num_tokens + limit), answers)
        # Beside another one only a full batch is begun: more may come until that has ended.
        self._running = None
        if self._pool and (before is None or self._pool.num_tokens >= limit):
            self._begin(answers)
        if before is not None:
            self._end(before, answers)
        if not self.has_work and mx.get_cache_memory() > KEPT_BYTES:
            mx.clear_cache()
        return answers

    def describe(self) -> dict[str, Any]:
        """The model's facts."""
        return self.model.describe()

    @property
    def tokens_total(self) -> int:
        """Tokens that were computed since the start, without padding."""
        return self._totals["tokens_total"]

    def stats(self) -> dict[str, int]:
        """Counters. Now: ``running`` calls, of which something was computed or is, and ``waiting`` ones. Since the start:
        ``calls_total`` (answered), ``inputs_total``, ``tokens_total`` (computed, without padding), ``batches_total``,
        ``expired_total`` (deadlines passed).
        """
        num_running = sum(task.begun_at is not None for task in self._tasks.values())
        counted = ("calls_total", "inputs_total", "tokens_total", "batches_total", "expired_total")
        return {
            "running": num_running,
            "waiting": len(self._tasks) - num_running,
            **{name: self._totals[name] for name in counted},
        }

    # -- reading -----------------------------------------------------------------------------------------------

    def _read(self, wanted_tokens: int, answers: list[Answer]) -> None:
        for task, places in self._unread.portions(self._pool, wanted_tokens):
            try:
                read = self.model.read_part(task.request, places)
            except Exception as error:
                self._fail(task, _as_bridge_error(error, self.model.name), answers)
                continue
            task.num_read = places.stop
            task.num_tokens += sum(map(len, read))
            task.num_truncated += sum(tokens.is_truncated for tokens in read)
            self._pool.put(task, places, read)

    # -- computing ---------------------------------------------------------------------------------------------

    def _begin(self, answers: list[Answer]) -> None:
        batch = self._pool.take(self._pace.batch_tokens)
        now = self._clock()
        for item in batch:
            if item.task.begun_at is None:
                item.task.begun_at = now
        width = max(len(item.tokens) for item in batch)
        try:
            vectors = self.model.launch([item.tokens for item in batch])
        except Exception as error:
            self._fail_all(batch, error, answers)
        else:
            self._running = _Batch(batch, vectors, len(batch) * width, now)

    def _end(self, batch: _Batch, answers: list[Answer]) -> None:
        """Wait for a batch, and hand its results out."""
        num_answered = len(answers)
        try:
            vectors: Vectors = np.array(batch.vectors)
        except Exception as error:
            self._pace.note(batch.num_tokens, batch.begun_at, self._clock())
            self._fail_all(batch.inputs, error, answers)
            return
        self._pace.note(batch.num_tokens, batch.begun_at, self._clock())
        self._totals["batches_total"] += 1
        self._totals["inputs_total"] += len(batch.inputs)
        self._totals["tokens_total"] += sum(len(item.tokens) for item in batch.inputs)
        rows: dict[Task, list[int]] = {}
        for row, item in enumerate(batch.inputs):
            rows.setdefault(item.task, []).append(row)
        for task, own in rows.items():
            if not task.has_ended:
                places = [batch.inputs[row].place for row in own]
                self._take(task, places, vectors if len(rows) == 1 else vectors[own], answers)
        self._num_just_answered = len(answers) - num_answered

    def _take(self, task: Task, places: list[int], vectors: Vectors, answers: list[Answer]) -> None:
        try:
            task.values[places] = self.model.finish(vectors, task.request)
        except BridgeError as error:
            self._fail(task, error, answers)
            return
        task.num_left -= len(places)
        if not task.num_left:
            self._finish(task, answers)

    # -- ending ------------------------------------------------------------------------------------------------

    def _finish(self, task: Task, answers: list[Answer]) -> None:
        now = self._clock()
        begun_at = now if task.begun_at is None else task.begun_at
        output = Output(
            request=task.request,
            values=task.values,
            num_tokens=task.num_tokens,
            num_truncated=task.num_truncated,
            queue_seconds=begun_at - task.arrived_at,
            compute_seconds=now - begun_at,
        )
        self._totals["calls_total"] += 1
        answers.append(Answer(task.call, output))
        self._drop(task)

    def _fail(self, task: Task, error: BridgeError, answers: list[Answer]) -> None:
        answers.append(Answer(task.call, error))
        self._drop(task)

    def _fail_all(self, inputs: Sequence[Input], error: Exception, answers: list[Answer]) -> None:
        """A batch could not be computed; if that was for want of memory, later ones are smaller."""
        if is_out_of_memory(error):
            mx.clear_cache()
            self._pace.bound(len(inputs) * max(len(item.tokens) for item in inputs))
        for task in {item.task: None for item in inputs}:
            if not task.has_ended:
                self._fail(task, _as_bridge_error(error, self.model.name), answers)

    def _expire(self, answers: list[Answer]) -> None:
        now = self._clock()
        for task in list(self._tasks.values()):
            if task.origin.deadline_at is not None and now >= task.origin.deadline_at:
                self._totals["expired_total"] += 1
                self._fail(task, DeadlineExceeded("the call's time ran out in the model's queue"), answers)

    def _drop(self, task: Task) -> None:
        """Forget a call, and what waits of it."""
        task.has_ended = True
        del self._tasks[task.call]
        self._room.leave(task.guest, task.num_bytes)
        self._unread.drop(task)
        if task.num_left:
            self._pool.drop(task)


def _as_bridge_error(error: Exception, name: str) -> BridgeError:
    if isinstance(error, BridgeError):
        return error
    return InternalError(f"{name} failed: {type(error).__name__}: {error}")
