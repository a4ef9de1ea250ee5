"""The engine: what the worker's loop drives. It ties roster, prefill and lanes together, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic, perf_counter
from types import MappingProxyType
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.adapters import Adapters
from mlxbridge.host.engine.admission import Admission
from mlxbridge.host.engine.attention import attention
from mlxbridge.host.engine.caches.cache_choice import choose_caches
from mlxbridge.host.engine.caches.footprint import measure_footprint
from mlxbridge.host.engine.caches.row_caches import Ready
from mlxbridge.host.engine.call import Call
from mlxbridge.host.engine.choice.logprobs import Likelihoods
from mlxbridge.host.engine.drafts.speculation import Speculator
from mlxbridge.host.engine.exactness import is_exact_in_batches, is_exact_with_prefixes
from mlxbridge.host.engine.facts import facts
from mlxbridge.host.engine.grammar.compiling import Compiling
from mlxbridge.host.engine.intake import Intake
from mlxbridge.host.engine.interface import NOBODY, EngineLimits, GenerateRequest, Origin, Row
from mlxbridge.host.engine.lanes import Lanes
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.memory import cache_budgets, device_bytes, is_out_of_memory, used_bytes
from mlxbridge.host.engine.prefill.budget import Step
from mlxbridge.host.engine.prefill.prefill import MAX_GROUP_ROWS, Prefill
from mlxbridge.host.engine.prefixes.prefix_cache import PrefixCache
from mlxbridge.host.engine.queue import Queue
from mlxbridge.host.engine.roster import Roster
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.shapes import make_budget
from mlxbridge.host.engine.suspicion import Suspicion

# Buffers that MLX keeps for reuse are of last minute's sizes; mlx_lm gives them back as often.
_TIDY_EVERY_STEPS = 256
# Who ends a worker waits for two seconds, and then kills it.
_CLOSE_S = 1.0
_LIMITS = EngineLimits()
_NO_ADAPTERS: Mapping[str, str] = MappingProxyType({})


class BatchEngine:
    """Runs many calls on one model; implements ``interface.Engine``.

    Greedy answers equal mlx_lm's own, and a seed gives the same text, whatever else runs. Not thread-safe:
    the thread that made it owns it.

    Attributes:
        plan: the model, and what its prompts are read into.
        rows_beside: prompts that may have a whole piece in one step beside running answers, where pieces have sizes of
            their own, see ``shapes``; it holds from ``start_afresh`` on.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        limits: EngineLimits = _LIMITS,
        *,
        draft: LoadedModel | None = None,
        adapters: Mapping[str, str] = _NO_ADAPTERS,
    ) -> None:
        """Prepare to run calls; runs the model on a few short prompts, to see what they take and if batches are exact.

        Args:
            loaded: the model, loaded by this thread.
            limits: how much to take on.
            draft: a smaller model of the same vocabulary, loaded by this thread too.
            adapters: folders of LoRA adapters by the names that ``Origin.adapter`` gives.

        Raises:
            ModelLoadFailed: the memory that calls may take holds none, the model cannot have the caches asked for, or
                nothing can be drafted by that other one or for this one.
        """
        attention.install(loaded.model)
        self.plan = choose_caches(loaded, limits)
        if self.plan.window is not None:  # what lies before it is forgotten: there is always room
            loaded = replace(loaded, context_length=loaded.max_context)
        self._loaded = loaded
        self._limits = limits
        self._footprint = measure_footprint(self.plan)
        self._facts = {**facts(loaded, self._footprint), **self.plan.facts()}
        self._is_batched = is_exact_in_batches(self.plan.small(), loaded.vocabulary_size)
        self._adapters = Adapters(loaded.name, loaded.model, adapters)
        self._speculator = Speculator(loaded, self.plan, draft, is_batched=self._is_batched)
        weight_bytes = self._facts["bytes"] + self._speculator.num_weight_bytes + self._adapters.num_bytes
        kv_bytes, prefix_bytes = cache_budgets(limits, weight_bytes)
        if prefix_bytes and not is_exact_with_prefixes(self.plan.small(), loaded.vocabulary_size):
            prefix_bytes = 0
        self._prefix_bytes = prefix_bytes - self._speculator.take_share(prefix_bytes, self._footprint)
        self._footprint = self._speculator.footprint(self._footprint)
        self._admission = Admission(self._footprint, kv_bytes, expected_tokens=limits.expected_tokens)
        self._admission.check_budget(loaded.name)
        self._intake = Intake(loaded, self._adapters, self._admission, self._speculator)
        self._compiling = Compiling()
        # Rows whose prompts have been read, and which join in the next step.
        self._held: list[Ready] = []
        self._suspicion: Suspicion[Call] = Suspicion(limits.max_batch)
        self.rows_beside = 1
        self.start_afresh()

    def start_afresh(self) -> None:
        """Count from zero, and forget what steps have taken and all cached prefixes; no call is open."""
        self._num_steps = 0
        self._num_tokens = 0
        self._num_expired = 0
        # What can be learnt from the step that is being taken; None: nothing, since rows join in it.
        self._lesson: Callable[[float], Step] | None = None
        self._budget = make_budget(self._limits.prefill_chunk, rows_beside=self.rows_beside)
        queue: Queue[Call] = Queue(self._loaded.name, max_waiting=self._limits.max_waiting)
        self._roster = Roster(queue, self._admission)
        self._prefixes = PrefixCache(self.plan, self._prefix_bytes)
        self._speculator.start_afresh()
        self._reset()

    def open_disk(self) -> None:
        """Keep cached prefixes on disk too, if the limits ask for it; before the first call, and once all is warmed up."""
        limits = self._limits
        if limits.prefix_disk_bytes and limits.prefix_disk_folder is not None:
            self._prefixes.open_disk(self._loaded, Path(limits.prefix_disk_folder), limits.prefix_disk_bytes)

    def close(self) -> None:
        """Write what the disk lacks of cached prefixes, for a short while; no more steps."""
        self._prefixes.close(_CLOSE_S)

    def submit(self, call: int, request: GenerateRequest, origin: Origin = NOBODY) -> None:
        """Queue a call; its first row comes from a later ``step``.

        What the answer is held to, if it is not known yet, is compiled meanwhile; if it cannot be, that is the call's end.

        Raises:
            InvalidArgument, Unsupported: a field is wrong; ``details["field"]`` names it.
            ModelLoadFailed: the adapter that the call is for cannot be loaded.
            ContextTooLong: prompt and ``max_tokens`` do not fit the context, or the memory; the details give the numbers.
            Overloaded: too much waits, in all or of this guest's.
            ValueError: a call of that number is open.
        """
        if call in self._roster:
            raise ValueError(f"call {call} is open")
        limit, now = self._suspicion.limit, monotonic()
        self._intake.check(request, origin)
        self._roster.check_room(origin.guest, priority=request.priority, limit=limit, now=now)
        new, grammar = self._intake.make_call(call, request, origin)
        self._roster.add(new, guest=origin.guest, priority=request.priority, limit=limit, now=now)
        if grammar is not None and new.job.constraint is None:
            self._compiling.add(new, grammar)

    def cancel(self, call: int) -> Row | None:
        """Drop a call; the next ``step`` spends nothing on it and can give its place to another.

        Returns:
            Its last row, with the text that was held back; None if no such call is open.
        """
        if (dropped := self._roster.get(call)) is None:
            return None
        row = dropped.cancel()
        self._close([row])
        return row

    def hold(self, call: int) -> None:
        """Spend nothing on a call from the next ``step`` on, neither time nor memory; harmless if no such call is open."""
        self._roster.hold(call)
        self._tidy()

    def go_on(self, call: int) -> None:
        """Let a call that is held go on: what it had read is read again, and its text is as if nothing had happened."""
        self._roster.go_on(call)

    def step(self) -> list[Row]:
        """One decode step for all running calls, plus a bounded amount of prefill.

        A call whose computation fails ends with an InternalError; those that were computed beside it go on.

        Returns:
            A row for each call that got a token or ended.
        """
        started = perf_counter()
        self._num_steps += 1
        ended = self._roster.expire(monotonic())
        self._num_expired += len(ended)
        self._close(ended)
        if self._compiling:
            refused = self._compiling.finish(self._roster.num_running)
            self._close(refused)
            ended += refused
        try:
            self._admit()
            rows = self._run()
        except Exception as exc:
            rows = self._fail_running(exc)
        self._close(rows)
        lesson, self._lesson = self._lesson, None
        self._budget.observe(
            lesson(perf_counter() - started) if lesson is not None and self.has_work else None
        )
        return ended + rows

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do anything."""
        return self._roster.num_active > 0 or self._prefixes.has_work

    def describe(self) -> dict[str, Any]:
        """Facts about the model, see ``facts.facts``, and its caches, see ``CachePlan.facts``; ``max_batch``; ``batched``, false if calls take turns;
        ``kv_bytes_budget``, what all running calls' caches may take; ``most_tokens`` of prompt and answer that one call
        may have, by that and the context; ``device_bytes``, see ``memory.device_bytes``;
        ``speculation``, what a request may ask for but "off"; ``draft_model``, its name or None; ``adapters``, their names.
        """
        return {
            **self._facts,
            "max_batch": self._limits.max_batch,
            "batched": self._is_batched,
            "kv_bytes_budget": self._admission.budget,
            "most_tokens": min(self._admission.most_tokens, self._loaded.context_length or inf),
            "device_bytes": device_bytes(),
            "speculation": self._speculator.methods,
            "draft_model": None if self._speculator.model is None else self._speculator.model.name,
            "adapters": self._adapters.names,
        }

    @property
    def tokens_total(self) -> int:
        """Tokens that were made since the start."""
        return self._num_tokens

    def stats(self) -> dict[str, int]:
        """Counters.

        For calls see ``Roster.stats``. Now: ``used_bytes``, see ``memory.used_bytes``; ``kv_bytes_used`` by caches, and
        ``kv_bytes_projected`` for the answers going on. Since the start: ``steps_total``, ``tokens_total`` (generated),
        ``expired_total`` (deadlines passed).
        For prefixes see ``PrefixCache.stats``, for drafts ``Speculator.stats``.
        """
        return {
            **self._roster.stats(),
            "steps_total": self._num_steps,
            "tokens_total": self._num_tokens,
            "expired_total": self._num_expired,
            "used_bytes": used_bytes(),
            "kv_bytes_used": self._lanes.num_bytes + self._prefill.num_bytes + self._speculator.num_bytes,
            "kv_bytes_projected": self._roster.projected_bytes(self._lanes),
            **self._prefixes.stats(),
            **self._speculator.stats(),
        }

    def _admit(self) -> None:
        while (job := self._roster.admit(self._lanes, limit=self._suspicion.limit)) is not None:
            self._prefill.add(job)

    def _run(self) -> list[Row]:
        self._roster.preempt(self._lanes)
        is_decoding = self._lanes.num_lanes > 0
        held = [ready for ready in self._held if self._roster.is_running(ready.job)]
        budget = self._budget.tokens(is_decoding=is_decoding)
        # To join takes time, and a lane more a forward pass: answers need not wait for that and a long prompt's piece at once.
        if held and (self._prefill.has_more_than(budget) or any(map(self._opens_lane, held))):
            budget = 0
        progress = self._prefill.step(budget, is_alone=not is_decoding)
        arrived = held + self._compiling.pass_on(progress.ready, self._roster)
        self._lesson = None if arrived else partial(Step, num_read=progress.num_read, is_decoding=is_decoding)
        self._held = []
        if is_decoding and progress.num_read:
            # To join costs time, too; while prompts follow each other, one's last piece and its join need not be one gap.
            is_more = self._prefill.is_busy
            self._held = [
                ready for ready in arrived if self._opens_lane(ready) or is_more and ready not in held
            ]
        rows: list[Row] = []
        failed = [([job], exc) for job, exc in progress.failed]
        joining: list[Ready] = []
        for ready in arrived:
            if ready in self._held:
                continue
            self._roster.join(ready.job)
            if self._roster.call_of(ready.job) in self._suspicion:
                rows += self._try_alone(ready, joining)
            else:
                joining.append(ready)
        decoded = self._lanes.step(joining, is_quiet=not progress.num_read)
        if decoded.has_read:
            self._lesson = None
        rows += [self._feed(*drawn) for drawn in decoded.drawn]
        for jobs, exc in failed + decoded.failed:
            rows += self._recover(jobs, exc)
        if not failed and not decoded.failed:
            self._suspicion.step()
        if self._num_steps % _TIDY_EVERY_STEPS == 0:
            mx.clear_cache()
        return rows

    def _opens_lane(self, ready: Ready) -> bool:
        return self._lanes.opens_lane(ready.source.length, ready.job.adapter)

    def _feed(
        self, job: Job, tokens: list[int], likelihoods: list[Likelihoods] | None, num_drafted: int
    ) -> Row:
        call, num_before = self._roster.call_of(job), len(job.answer)
        try:
            row = call.feed(tokens, likelihoods, num_drafted)
        except Exception as exc:  # a tokenizer's own fault must not end the other calls
            row = call.fail(f"reading tokens {tokens} failed: {type(exc).__name__}: {exc}")
        num_fed = len(job.answer) - num_before
        self._num_tokens += num_fed
        self._roster.charge(job, num_fed)
        return row

    def _try_alone(self, ready: Ready, joining: list[Ready]) -> list[Row]:
        """Let a suspect draw a token by itself; if that goes well, it may join the others."""
        call = self._roster.call_of(ready.job)
        try:
            drawn, source = self._lanes.try_alone(ready)
        except Exception as exc:
            return self._recover([ready.job], exc)
        self._suspicion.acquit(call)
        row = self._feed(*drawn)
        if not call.job.ended:
            self._roster.begin_again(call)
            joining.append(Ready(call.job, source))
        return [row]

    def _recover(self, jobs: list[Job], exc: Exception) -> list[Row]:
        """Go on after jobs failed together: one that was alone is to blame, unless only memory was short.

        One beside which another had just ended was not alone: what failed may be the keeping of the other's prefix.
        """
        calls = [self._roster.call_of(job) for job in jobs if not job.ended]
        is_memory = is_out_of_memory(exc)
        if is_memory:
            self._prefixes.clear()
            mx.clear_cache()
        if (calls and len(jobs) > 1) or (is_memory and self._roster.num_running > 1):
            self._suspicion.failed(calls, num_running=self._roster.num_running, is_memory=is_memory)
            for call in calls:
                self._roster.wait_again(call)
            return []
        for call in calls:
            self._suspicion.blame(call)
        return [call.fail(f"computing it failed: {type(exc).__name__}: {exc}") for call in calls]

    def _close(self, rows: Iterable[Row]) -> None:
        now = monotonic()
        for row in rows:
            is_last = row.usage is not None or row.error is not None
            if is_last and (call := self._roster.close(row.call, now)) is not None:
                self._suspicion.acquit(call)
                self._compiling.discard(call)
        self._tidy()

    def _tidy(self) -> None:
        """Give all memory back, if nothing runs."""
        if not self._roster.num_running:
            self._lanes.drop_idle()
            self._compiling.clear_rows()
            self._prefill.clear()
            self._held.clear()
            self._prefixes.commit()

    def _fail_running(self, exc: Exception) -> list[Row]:
        message = f"a step of {self._loaded.name} failed: {type(exc).__name__}: {exc}"
        rows = [call.fail(message) for call in self._roster.running()]
        self._reset()
        return rows

    def _reset(self) -> None:
        self._lanes = Lanes(
            self._loaded.model,
            self._footprint,
            is_batched=self._is_batched,
            weight_bytes=self._facts["bytes"],
            leave=self._prefixes.leave,
            speculator=self._speculator,
            adapters=self._adapters,
        )
        self._speculator.reset()
        max_rows = MAX_GROUP_ROWS if self._is_batched else 1
        self._prefill = Prefill(
            self._loaded.model, self._prefixes, max_rows=max_rows, adapters=self._adapters
        )
        self._held = []
