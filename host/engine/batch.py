"""The engine over mlx_lm's BatchGenerator.

The generator is given only what runs now (``max_batch`` calls at most) and is asked for one step at a time.
Which calls wait, when one ends, and what its text is, are decided here: the generator is told neither EOS nor
a real token limit, and rows that ended leave it together at the start of the next step, because each
departure copies the whole cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache

from mlxbridge.errors import ModelLoadFailed, Overloaded
from mlxbridge.host.engine.call import Call
from mlxbridge.host.engine.checks import check_request
from mlxbridge.host.engine.detokenize import Vocabulary
from mlxbridge.host.engine.facts import facts
from mlxbridge.host.engine.interface import GenerateRequest, Row
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.prompt import encode_prompt, token_limit
from mlxbridge.host.engine.sampling import make_sampler
from mlxbridge.host.engine.stops import StopMatcher

# Prompts that are read side by side; more of them would only pad each other.
MAX_PREFILL_ROWS = 8
# A guess at how long a slot takes to come free; guests add jitter.
RETRY_AFTER_S = 1.0

# Recurrent layers count their padding down lazily: one more unevaluated buffer a token, and Metal limits those.
_SETTLE_EVERY_STEPS = 256


class BatchEngine:
    """Runs many calls on one model; implements ``interface.Engine``.

    Greedy answers equal mlx_lm's own, and a seed gives the same text, whatever else runs. Not thread-safe:
    the thread that made it owns it.
    """

    def __init__(
        self, loaded: LoadedModel, *, max_batch: int = 64, max_waiting: int = 1024, prefill_chunk: int = 512
    ) -> None:
        """Prepare to run calls; runs the model once, on one token.

        Args:
            loaded: the model, loaded by this thread.
            max_batch: calls that run at once.
            max_waiting: calls that may wait for a place; more are refused.
            prefill_chunk: prompt tokens read in one step while answers are running (at least one a prompt);
                without running answers each of at most ``MAX_PREFILL_ROWS`` prompts may take as many.

        Raises:
            ModelLoadFailed: mlx_lm cannot batch this model.
        """
        _check_batchable(loaded)
        self._loaded = loaded
        self._facts = facts(loaded)
        self._vocabulary = Vocabulary(loaded.tokenizer)
        self._max_batch = max_batch
        self._max_open = max_batch + max_waiting
        self._prefill_chunk = prefill_chunk
        # Every open call waits (by call number, in order of arrival) or runs (by the generator's uid).
        self._open: dict[int, Call] = {}
        self._waiting: dict[int, Call] = {}
        self._running: dict[int, Call] = {}
        # Ended and cancelled, but still in the generator.
        self._leaving: list[int] = []
        self._num_steps = 0
        self._num_tokens = 0
        self._generator = self._new_generator()

    def submit(self, call: int, request: GenerateRequest) -> None:
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
        self._open[call] = self._waiting[call] = Call(
            call,
            prompt=prompt,
            max_tokens=token_limit(self._loaded, len(prompt), request.max_tokens),
            eos_ids=self._loaded.eos_ids,
            sampler=make_sampler(request, self._loaded.vocabulary_size),
            detokenizer=self._vocabulary.detokenizer(),
            stops=StopMatcher(request.stop),
        )

    def cancel(self, call: int) -> Row | None:
        """Drop a call; the next ``step`` spends nothing on it and can give its place to another.

        Returns:
            Its last row, with the text that was held back; None if no such call is open.
        """
        if (dropped := self._open.pop(call, None)) is None:
            return None
        if self._waiting.pop(call, None) is None:
            uid = next(uid for uid, running in self._running.items() if running is dropped)
            del self._running[uid]
            self._leaving.append(uid)
        return dropped.cancel()

    def step(self) -> list[Row]:
        """One decode step for all running calls, plus a bounded amount of prefill.

        If the step fails as a whole, all running calls end with an InternalError; waiting ones are kept.

        Returns:
            A row for each call that got a token or ended.
        """
        self._num_steps += 1
        try:
            self._leave()
            self._admit()
            tokens = self._next_tokens()
        except Exception as exc:
            return self._fail_running(exc)
        rows = {uid: _feed(self._running[uid], token) for uid, token in tokens.items()}
        self._collect_sampler_errors(rows)
        self._close(rows)
        return list(rows.values())

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do anything, if only give the memory of ended calls back."""
        return bool(self._open or self._leaving)

    def describe(self) -> dict[str, Any]:
        """Facts about the model, see ``facts.facts``, and the engine's ``max_batch``."""
        return {**self._facts, "max_batch": self._max_batch}

    def stats(self) -> dict[str, int]:
        """Counters: running and waiting calls now; steps and generated tokens since the start."""
        return {
            "running": len(self._running),
            "waiting": len(self._waiting),
            "steps_total": self._num_steps,
            "tokens_total": self._num_tokens,
        }

    def _leave(self) -> None:
        if not self._leaving:
            return
        with mx.stream(self._generator.stream):
            self._generator.remove(self._leaving)
        self._leaving = []

    def _admit(self) -> None:
        num_free = self._max_batch - len(self._running)
        calls = list(self._waiting.values())[:num_free] if self._waiting else []
        if not calls:
            return
        for call in calls:
            del self._waiting[call.number]
            call.admit()
        uids = self._generator.insert(
            [call.prompt for call in calls],
            # One more than will be used, so that no row leaves the generator by itself.
            max_tokens=[call.max_tokens + 1 for call in calls],
            samplers=[call.sampler for call in calls],
        )
        self._running.update(zip(uids, calls, strict=True))

    def _next_tokens(self) -> dict[int, int]:
        if not self._running:
            return {}
        self._generator.prefill_step_size = self._chunk_size()
        _, responses = self._generator.next()
        if self._num_steps % _SETTLE_EVERY_STEPS == 0:
            _settle_padding(self._generator)
        self._num_tokens += len(responses)
        return {response.uid: int(response.token) for response in responses}

    def _chunk_size(self) -> int:
        # The generator reads a chunk of this many tokens from each prompt between two decode steps.
        num_decoding = sum(call.is_decoding for call in self._running.values())
        num_prefilling = min(len(self._running) - num_decoding, MAX_PREFILL_ROWS)
        if not num_decoding or not num_prefilling:
            return self._prefill_chunk
        return max(1, self._prefill_chunk // num_prefilling)

    def _collect_sampler_errors(self, rows: dict[int, Row]) -> None:
        # A sampler runs one token ahead of the rows, so a call that just ended may have failed too late to
        # matter.
        for uid, call in self._running.items():
            if call.sampler is not None and call.sampler.error is not None:
                row = rows.setdefault(uid, Row(call.number, [], ""))
                if row.usage is None:
                    row.error = call.fail(f"choosing a token failed: {call.sampler.error}").error

    def _close(self, rows: dict[int, Row]) -> None:
        for uid, row in rows.items():
            if row.usage is not None or row.error is not None:
                del self._running[uid], self._open[row.call]
                self._leaving.append(uid)

    def _fail_running(self, exc: Exception) -> list[Row]:
        # By what is not waiting rather than by what runs: the failure may lie between the two.
        failed = [call for number, call in self._open.items() if number not in self._waiting]
        self._open = dict(self._waiting)
        self._running, self._leaving = {}, []
        with suppress(Exception):  # it is broken already
            self._generator.close()
        self._generator = self._new_generator()
        return [
            call.fail(f"a step of {self._loaded.name} failed: {type(exc).__name__}: {exc}") for call in failed
        ]

    def _new_generator(self) -> Any:
        return BatchGenerator(
            self._loaded.model,
            completion_batch_size=self._max_batch,
            prefill_batch_size=min(MAX_PREFILL_ROWS, self._max_batch),
            prefill_step_size=self._prefill_chunk,
        )


def _feed(call: Call, token: int) -> Row:
    try:
        return call.feed(token)
    except Exception as exc:  # a tokenizer's own fault must not end the other calls
        return call.fail(f"reading token {token} failed: {type(exc).__name__}: {exc}")


def _check_batchable(loaded: LoadedModel) -> None:
    for cache in _flatten(make_prompt_cache(loaded.model)):
        if not hasattr(cache, "merge"):
            raise ModelLoadFailed(
                f"cannot run {loaded.name}: mlx_lm has no batched form of its cache "
                f"({type(cache).__name__}); choose another model"
            )


def _settle_padding(generator: Any) -> None:
    caches = _flatten(generator._generation_batch.prompt_cache)
    paddings = [getattr(cache, "left_padding", None) for cache in caches]
    mx.eval([padding for padding in paddings if padding is not None])


def _flatten(caches: Iterable[Any]) -> Iterable[Any]:
    for cache in caches:
        yield from _flatten(cache.caches) if hasattr(cache, "caches") else (cache,)
