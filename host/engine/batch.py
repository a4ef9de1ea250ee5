"""The engine: what the worker's loop drives. It ties calls, prefill and lanes together, step by step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from time import perf_counter
from typing import Any

import mlx.core as mx

from mlxbridge.errors import Overloaded
from mlxbridge.host.engine import attention
from mlxbridge.host.engine.call import Call
from mlxbridge.host.engine.checks import check_request
from mlxbridge.host.engine.detokenize import Vocabulary
from mlxbridge.host.engine.exactness import is_exact_in_batches
from mlxbridge.host.engine.facts import facts
from mlxbridge.host.engine.interface import NOBODY, GenerateRequest, Origin, Row
from mlxbridge.host.engine.lanes import Lanes
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.logprobs import Likelihoods
from mlxbridge.host.engine.prefill import Prefill
from mlxbridge.host.engine.prefix_cache import PrefixCache, default_budget_bytes
from mlxbridge.host.engine.prompt import encode_prompt, token_limit
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.scheduler import PrefillBudget
from mlxbridge.host.engine.settings import eos_ids, settings_of
from mlxbridge.host.engine.stops import StopMatcher

# A guess at how long a slot takes to come free; guests add jitter.
RETRY_AFTER_S = 1.0
# Prompt tokens a step when no answer is running, in units of ``prefill_chunk``.
_CHUNKS_ALONE = 8
# Buffers that MLX keeps for reuse are of last minute's sizes; mlx_lm gives them back as often.
_TIDY_EVERY_STEPS = 256


class BatchEngine:
    """Runs many calls on one model; implements ``interface.Engine``.

    Greedy answers equal mlx_lm's own, and a seed gives the same text, whatever else runs. Not thread-safe:
    the thread that made it owns it.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_batch: int = 64,
        max_waiting: int = 1024,
        prefill_chunk: int = 512,
        prefix_cache_bytes: int | None = None,
    ) -> None:
        """Prepare to run calls; runs the model on a few short prompts, to see whether batches are exact.

        Args:
            loaded: the model, loaded by this thread.
            max_batch: calls that run at once.
            max_waiting: calls that may wait for a place; more are refused.
            prefill_chunk: prompt tokens read in one step while answers are running, at most; without running
                answers eight times as many. How many it is depends on what steps take.
            prefix_cache_bytes: memory for caches of prompts that may come again; 0: none; None: see
                ``default_budget_bytes``.
        """
        self._loaded = loaded
        self._facts = facts(loaded)
        attention.install(loaded.model)
        self._is_batched = is_exact_in_batches(loaded.model, loaded.vocabulary_size)
        if prefix_cache_bytes is None:
            prefix_cache_bytes = default_budget_bytes()
        self._prefixes = PrefixCache(loaded.model, prefix_cache_bytes)
        self._vocabulary = Vocabulary(loaded.tokenizer)
        self._max_batch = max_batch
        self._max_open = max_batch + max_waiting
        self._budget = PrefillBudget(prefill_chunk, largest_alone=_CHUNKS_ALONE * prefill_chunk)
        # Every open call waits or runs, the latter by job from its prefill on.
        self._open: dict[int, Call] = {}
        self._waiting: deque[Call] = deque()
        self._running: dict[Job, Call] = {}
        self._num_steps = 0
        self._num_tokens = 0
        # Prompt tokens that a step gave the device to read, whether answers were running, and whether any joined.
        self._last_step: tuple[int, bool, bool] | None = None
        self._this_step = (0, False, False)
        self._reset()

    def submit(self, call: int, request: GenerateRequest, origin: Origin = NOBODY) -> None:
        """Queue a call; its first row comes from a later ``step``.

        Raises:
            InvalidArgument, Unsupported: a field is wrong; ``details["field"]`` names it.
            ContextTooLong: prompt and ``max_tokens`` do not fit; the details give the numbers.
            Overloaded: too many calls wait.
            ValueError: a call of that number is open.
        """
        if call in self._open:
            raise ValueError(f"call {call} is open")
        if len(self._open) >= self._max_open:
            raise Overloaded(
                f"{self._loaded.name} has {len(self._waiting)} calls waiting; try again later",
                retry_after=RETRY_AFTER_S,
            )
        check_request(request)
        prompt = encode_prompt(self._loaded, request)
        max_tokens = token_limit(self._loaded, len(prompt), request.max_tokens)
        settings = settings_of(request, self._loaded, max_tokens=max_tokens)
        job = Job(prompt=prompt, max_tokens=max_tokens, settings=settings, scope=origin.cache_scope)
        self._open[call] = new = Call(
            call,
            job=job,
            eos_ids=eos_ids(request, self._loaded),
            stop_token_ids=frozenset(request.stop_token_ids),
            vocabulary=self._vocabulary,
            stops=StopMatcher(request.stop),
        )
        self._waiting.append(new)

    def cancel(self, call: int) -> Row | None:
        """Drop a call; the next ``step`` spends nothing on it and can give its place to another.

        Returns:
            Its last row, with the text that was held back; None if no such call is open.
        """
        if (dropped := self._open.pop(call, None)) is None:
            return None
        if self._running.pop(dropped.job, None) is None:
            self._waiting.remove(dropped)
        row = dropped.cancel()
        self._give_back()
        return row

    def step(self) -> list[Row]:
        """One decode step for all running calls, plus a bounded amount of prefill.

        If the step fails as a whole, all running calls end with an InternalError; waiting ones are kept.

        Returns:
            A row for each call that got a token or ended.
        """
        started = perf_counter()
        self._num_steps += 1
        try:
            self._admit()
            rows = self._run()
        except Exception as exc:
            rows = self._fail_running(exc)
        self._close(rows)
        self._learn(perf_counter() - started)
        return rows

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do anything."""
        return bool(self._open)

    def describe(self) -> dict[str, Any]:
        """Facts about the model, see ``facts.facts``; ``max_batch``; ``batched``, false if calls take turns."""
        return {**self._facts, "max_batch": self._max_batch, "batched": self._is_batched}

    def stats(self) -> dict[str, int]:
        """Counters: running and waiting calls now; steps and generated tokens since the start."""
        return {
            "running": len(self._running),
            "waiting": len(self._waiting),
            "steps_total": self._num_steps,
            "tokens_total": self._num_tokens,
            **self._prefixes.stats(),
        }

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_batch:
            call = self._waiting.popleft()
            call.admit()
            self._running[call.job] = call
            self._prefill.add(call.job)

    def _run(self) -> list[Row]:
        is_decoding = self._lanes.num_lanes > 0
        budget = self._budget.tokens(is_decoding=is_decoding)
        progress = self._prefill.step(budget, is_alone=not is_decoding)
        self._this_step = (progress.num_read, is_decoding, bool(progress.ready))
        rows = [
            self._running[job].fail(f"reading the prompt failed: {type(exc).__name__}: {exc}")
            for job, exc in progress.failed
        ]
        for job, token, likelihoods in self._lanes.step(progress.ready):
            self._num_tokens += 1
            rows.append(_feed(self._running[job], token, likelihoods))
        if self._num_steps % _TIDY_EVERY_STEPS == 0:
            mx.clear_cache()
        return rows

    def _learn(self, seconds: float) -> None:
        # The device works on what a step gives it while the next one waits: the next one's time shows the cost.
        before, self._last_step = self._last_step, self._this_step
        if not self.has_work:
            self._last_step = None
        elif before is not None:
            num_read, is_decoding, have_joined = before
            if is_decoding == self._this_step[1] and not have_joined and not self._this_step[2]:
                self._budget.observe(seconds, num_read=num_read, is_decoding=is_decoding)

    def _close(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if (row.usage is not None or row.error is not None) and row.call in self._open:
                del self._running[self._open.pop(row.call).job]
        self._give_back()

    def _give_back(self) -> None:
        if not self._running:
            self._lanes.drop_idle()
            self._prefill.clear()
            self._prefixes.commit()

    def _fail_running(self, exc: Exception) -> list[Row]:
        message = f"a step of {self._loaded.name} failed: {type(exc).__name__}: {exc}"
        rows = [call.fail(message) for call in self._running.values()]
        self._reset()
        return rows

    def _reset(self) -> None:
        self._lanes = Lanes(
            self._loaded.model,
            is_batched=self._is_batched,
            weight_bytes=self._facts["bytes"],
            leave=self._prefixes.leave,
        )
        self._prefill = Prefill(self._loaded.model, self._prefixes)


def _feed(call: Call, token: int, likelihoods: Likelihoods | None) -> Row:
    try:
        return call.feed(token, likelihoods)
    except Exception as exc:  # a tokenizer's own fault must not end the other calls
        return call.fail(f"reading token {token} failed: {type(exc).__name__}: {exc}")
