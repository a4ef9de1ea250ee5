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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxbridge.errors import BridgeError, DeadlineExceeded, InternalError, InvalidArgument, Overloaded
from mlxbridge.host.embeddings.batching import BATCH_TOKENS, batch_around
from mlxbridge.host.embeddings.encoder import Vectors
from mlxbridge.host.embeddings.request import EmbedRequest, RerankRequest
from mlxbridge.host.embeddings.tokenizer import Tokens
from mlxbridge.host.engine.interface import GUEST_SHARE, NOBODY, Origin
from mlxbridge.host.waiting import WaitingRoom

BATCH_S = 0.2
COALESCE_S = 0.002
LEAST_BATCH_TOKENS = 128
FIRST_BATCH_TOKENS = 512
# So many batches' inputs are looked through for those of similar length.
WINDOW_BATCHES = 4
# What is read of a call at once, and what is read in a step, which takes up to a tenth of a second.
PORTION_INPUTS = 512
PORTION_CHARS = 64 * 1024
STEP_CHARS = 256 * 1024
# A call of so few inputs is read when it comes; one of more is company enough for itself.
FEW_INPUTS = 16

MAX_CALLS = 8_192
MAX_BYTES = 1 << 30
MAX_CALL_BYTES = 256 << 20
RETRY_AFTER_S = 1.0

Request = EmbedRequest | RerankRequest


class Model(Protocol):
    """What is run: an ``Encoder`` or a ``Reranker``, which explain these."""

    @property
    def kind(self) -> str:
        """The method that asks for it."""

    @property
    def name(self) -> str:
        """What users call it."""

    def check(self, request: Any) -> None:
        """Refuse what is wrong, but for the inputs' tokens."""

    def read_part(self, request: Any, places: range) -> list[Tokens]:
        """Inputs to tokens."""

    def launch(self, inputs: Sequence[Tokens]) -> mx.array:
        """Begin a forward pass."""

    def space(self, request: Any) -> NDArray[Any]:
        """Memory for all that ``finish`` gives."""

    def finish(self, vectors: Vectors, request: Any) -> NDArray[Any]:
        """What was computed, as a request asks for it."""

    def describe(self) -> dict[str, Any]:
        """Facts."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Output:
    """What a call comes to.

    Attributes:
        request: what was asked.
        values: ``[inputs, dimensions]`` vectors, or ``[documents]`` scores.
        num_tokens: that the model read.
        num_truncated: inputs whose end was cut off.
        queue_seconds: until its first batch began.
        compute_seconds: from then on.
    """

    request: Request
    values: NDArray[Any]
    num_tokens: int
    num_truncated: int
    queue_seconds: float
    compute_seconds: float


class Answer(NamedTuple):
    """How a call ended."""

    call: int
    outcome: Output | BridgeError


@dataclass(slots=True, eq=False)
class _Task:
    """A call that has not ended."""

    call: int
    request: Request
    origin: Origin
    num_bytes: int
    arrived_at: float
    num_left: int  # inputs without a result
    values: NDArray[Any]
    begun_at: float | None = None
    num_read: int = 0
    num_tokens: int = 0
    num_truncated: int = 0
    has_ended: bool = False


class _Input(NamedTuple):
    """An input that was read and waits to be computed."""

    task: _Task
    place: int  # in its request
    tokens: Tokens


@dataclass(slots=True, eq=False)
class _Batch:
    """A forward pass that was begun."""

    inputs: list[_Input]
    vectors: mx.array
    num_tokens: int  # with padding
    begun_at: float


@dataclass(slots=True)
class _Totals:
    calls: int = 0
    inputs: int = 0
    tokens: int = 0
    batches: int = 0
    expired: int = 0


@dataclass(slots=True)
class _Pace:
    """How many tokens a batch may have, by how long batches have taken."""

    batch_tokens: int = FIRST_BATCH_TOKENS
    ended_at: float = field(default=0.0)

    def note(self, num_tokens: int, begun_at: float, now: float) -> None:
        """A batch has ended, which was begun while the one before ran, perhaps."""
        seconds = now - max(begun_at, self.ended_at)
        self.ended_at = now
        if seconds > BATCH_S:
            slower = int(min(num_tokens, self.batch_tokens) * BATCH_S / seconds)
            self.batch_tokens = max(LEAST_BATCH_TOKENS, slower)
        elif 2 * num_tokens > self.batch_tokens and 2 * seconds < BATCH_S:
            self.batch_tokens = min(BATCH_TOKENS, 2 * self.batch_tokens)


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
        self._tasks: dict[int, _Task] = {}
        # Calls with inputs that were not read, and how many inputs are in the pool; the next guest's first.
        self._unread: dict[str, dict[_Task, None]] = {}
        self._turns: dict[str, int] = {}
        self._pool: list[_Input] = []  # the longest first, but for those that came since it was looked at
        self._pool_tokens = 0
        self._running: _Batch | None = None
        self._answers: list[Answer] = []  # without a batch
        self._room = WaitingRoom()
        self._pace = _Pace()
        self._num_just_answered = 0
        self._totals = _Totals()

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
        task = _Task(call, request, origin, num_bytes, self._clock(), request.num_inputs, values)
        self._tasks[call] = task
        if task.num_left:
            self._unread.setdefault(origin.guest, {})[task] = None
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
        return bool(self._tasks or self._answers)

    @property
    def wait_s(self) -> float:
        """Seconds for which the calls that are there should wait for others before ``step``; 0 as a rule."""
        others = self._num_just_answered - len(self._tasks)
        if others <= 0 or self._answers or self._running is not None or self._pool:
            return 0.0
        if any(task.request.num_inputs > FEW_INPUTS for task in self._tasks.values()):
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
            self._read(min(WINDOW_BATCHES * limit, self._pool_tokens + limit), answers)
        # Beside another one only a full batch is begun: more may come until that has ended.
        self._running = None
        if self._pool and (before is None or self._pool_tokens >= limit):
            self._begin(answers)
        if before is not None:
            self._end(before, answers)
        return answers

    def describe(self) -> dict[str, Any]:
        """The model's facts."""
        return self.model.describe()

    def stats(self) -> dict[str, int]:
        """Counters. Now: ``running`` calls, of which something was computed or is, and ``waiting`` ones. Since the start:
        ``calls_total`` (answered), ``inputs_total``, ``tokens_total`` (computed, without padding), ``batches_total``,
        ``expired_total`` (deadlines passed).
        """
        num_running = sum(task.begun_at is not None for task in self._tasks.values())
        totals = self._totals
        return {
            "running": num_running,
            "waiting": len(self._tasks) - num_running,
            "calls_total": totals.calls,
            "inputs_total": totals.inputs,
            "tokens_total": totals.tokens,
            "batches_total": totals.batches,
            "expired_total": totals.expired,
        }

    # -- reading -----------------------------------------------------------------------------------------------

    def _read(self, wanted_tokens: int, answers: list[Answer]) -> None:
        """Read portions, of each guest in turn: until so many tokens wait in the pool, and of whoever has none there."""
        num_chars = num_skipped = 0
        while num_skipped < len(self._unread) and num_chars < STEP_CHARS:
            guest, own = next(iter(self._unread.items()))
            self._unread[guest] = self._unread.pop(guest)
            task = min(own, key=_num_left)
            is_urgent = guest not in self._turns or task.request.num_inputs <= FEW_INPUTS
            if self._pool_tokens >= wanted_tokens and not is_urgent:
                num_skipped += 1
                continue
            num_skipped = 0
            places, size = _portion(task.request, task.num_read)
            num_chars += size
            try:
                read = self.model.read_part(task.request, places)
            except Exception as error:
                self._fail(task, _as_bridge_error(error, self.model.name), answers)
            else:
                self._put(task, places, read)

    def _put(self, task: _Task, places: range, read: Sequence[Tokens]) -> None:
        """Into the pool."""
        guest = task.origin.guest
        for place, tokens in zip(places, read, strict=True):
            self._pool.append(_Input(task, place, tokens))
            self._pool_tokens += len(tokens)
            task.num_tokens += len(tokens)
            task.num_truncated += tokens.is_truncated
        self._turns[guest] = self._turns.get(guest, 0) + len(places)
        task.num_read = places.stop
        if task.num_read == task.request.num_inputs:
            self._forget_unread(task)

    def _remove(self, inputs: Iterable[_Input]) -> None:
        """They are in the pool no longer."""
        for item in inputs:
            self._pool_tokens -= len(item.tokens)
            guest = item.task.origin.guest
            self._turns[guest] -= 1
            if not self._turns[guest]:
                del self._turns[guest]

    def _forget_unread(self, task: _Task) -> None:
        guest = task.origin.guest
        own = self._unread.get(guest, {})
        own.pop(task, None)
        if not own:
            self._unread.pop(guest, None)

    # -- computing ---------------------------------------------------------------------------------------------

    def _begin(self, answers: list[Answer]) -> None:
        batch = self._choose()
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

    def _choose(self) -> list[_Input]:
        """Take the next batch out of the pool; then it is the other guests' turn."""
        guest, count = next(iter(self._turns.items()))
        del self._turns[guest]
        self._turns[guest] = count
        self._pool.sort(key=_num_tokens, reverse=True)
        task = min((item.task for item in self._pool if item.task.origin.guest == guest), key=_num_left)
        place = next(place for place, item in enumerate(self._pool) if item.task is task)
        lengths = [len(item.tokens) for item in self._pool]
        start, end = batch_around(lengths, place, self._pace.batch_tokens)
        batch = self._pool[start:end]
        del self._pool[start:end]
        self._remove(batch)
        return batch

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
        self._totals.batches += 1
        self._totals.inputs += len(batch.inputs)
        self._totals.tokens += sum(len(item.tokens) for item in batch.inputs)
        rows: dict[_Task, list[int]] = {}
        for row, item in enumerate(batch.inputs):
            rows.setdefault(item.task, []).append(row)
        for task, own in rows.items():
            if not task.has_ended:
                places = [batch.inputs[row].place for row in own]
                self._take(task, places, vectors if len(rows) == 1 else vectors[own], answers)
        self._num_just_answered = len(answers) - num_answered

    def _take(self, task: _Task, places: list[int], vectors: Vectors, answers: list[Answer]) -> None:
        try:
            task.values[places] = self.model.finish(vectors, task.request)
        except BridgeError as error:
            self._fail(task, error, answers)
            return
        task.num_left -= len(places)
        if not task.num_left:
            self._finish(task, answers)

    # -- ending ------------------------------------------------------------------------------------------------

    def _finish(self, task: _Task, answers: list[Answer]) -> None:
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
        self._totals.calls += 1
        answers.append(Answer(task.call, output))
        self._drop(task)

    def _fail(self, task: _Task, error: BridgeError, answers: list[Answer]) -> None:
        answers.append(Answer(task.call, error))
        self._drop(task)

    def _fail_all(self, inputs: Sequence[_Input], error: Exception, answers: list[Answer]) -> None:
        """A batch could not be computed, for want of memory most likely."""
        for task in {item.task: None for item in inputs}:
            if not task.has_ended:
                self._fail(task, _as_bridge_error(error, self.model.name), answers)

    def _expire(self, answers: list[Answer]) -> None:
        now = self._clock()
        for task in list(self._tasks.values()):
            if task.origin.deadline_at is not None and now >= task.origin.deadline_at:
                self._totals.expired += 1
                self._fail(task, DeadlineExceeded("the call's time ran out in the model's queue"), answers)

    def _drop(self, task: _Task) -> None:
        """Forget a call, and what waits of it."""
        task.has_ended = True
        del self._tasks[task.call]
        self._room.leave(task.origin.guest, task.num_bytes)
        self._forget_unread(task)
        if task.num_left:
            self._remove(item for item in self._pool if item.task is task)
            self._pool = [item for item in self._pool if item.task is not task]


def _as_bridge_error(error: Exception, name: str) -> BridgeError:
    if isinstance(error, BridgeError):
        return error
    return InternalError(f"{name} failed: {type(error).__name__}: {error}")


def _num_tokens(item: _Input) -> int:
    return len(item.tokens)


def _num_left(task: _Task) -> int:
    return task.num_left


def _portion(request: Request, start: int) -> tuple[range, int]:
    """The next inputs to read at once, at least one; and their size."""
    inputs: Sequence[Any] = request.inputs if isinstance(request, EmbedRequest) else request.documents
    stop, size = start, 0
    while stop < min(len(inputs), start + PORTION_INPUTS) and size < PORTION_CHARS:
        size += len(inputs[stop])
        stop += 1
    return range(start, stop), size
