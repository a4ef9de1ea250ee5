"""One open call inside an engine: its tokens so far, and the rows it sends."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from time import perf_counter

from mlxbridge.errors import BridgeError, DeadlineExceeded, InternalError
from mlxbridge.host.engine.choice.logprobs import Likelihoods
from mlxbridge.host.engine.grammar.constraint import Constraint
from mlxbridge.host.engine.interface import Row
from mlxbridge.host.engine.refusal import invalid
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.text.detokenize import Vocabulary
from mlxbridge.host.engine.text.stops import StopMatcher
from mlxbridge.host.engine.text.told_answer import ToldAnswer
from mlxbridge.types import FinishReason, TokenLogprob, TokenLogprobs, Usage


class Call:
    """Turns a call's tokens into rows, and decides when it is over.

    The token that ends an answer (EOS, or a stop token) is counted in ``completion_tokens`` and against
    ``max_tokens``, as mlx_lm's ``generation_tokens`` does, but is not among the ``token_ids`` and has no text. The
    tokens of a stop string are ordinary ones: all that were generated up to its end are in ``token_ids``, though
    their text is cut. Stop strings are looked for before anything is told apart.
    """

    def __init__(
        self,
        number: int,
        *,
        job: Job,
        eos_ids: frozenset[int],
        stop_token_ids: frozenset[int] = frozenset(),
        vocabulary: Vocabulary,
        stops: StopMatcher,
        told: ToldAnswer | None = None,
        deadline_at: float = inf,
        is_literal: bool = False,
    ) -> None:
        """Begin an answer; the text of a literal one has every space that its tokens have."""
        self.number = number
        self.job = job
        self.deadline_at = deadline_at
        self._eos_ids = eos_ids
        self._stop_token_ids = stop_token_ids
        self._stop_token_id: int | None = None
        self._vocabulary = vocabulary
        self._detokenizer = (
            vocabulary.detokenizer(is_literal=is_literal) if told is None else told.detokenizer
        )
        self._stops = stops
        self._told = told
        self._submitted_at = perf_counter()
        self._admitted_at: float | None = None
        self._first_token_at: float | None = None
        self._num_drafted = 0
        self._num_accepted = 0

    def admit(self) -> None:
        """Its prefill begins, maybe once more."""
        self._admitted_at = self._admitted_at or perf_counter()

    def feed(
        self, tokens: Sequence[int], likelihoods: Sequence[Likelihoods] | None, num_drafted: int = 0
    ) -> Row:
        """Take the next tokens, at least one; what comes behind the end is dropped.

        Args:
            tokens: of which all but the last had been drafted.
            likelihoods: what is known of each if the request asked for log-probabilities.
            num_drafted: tokens that had been drafted.

        Returns:
            The call's last row if it has ``usage``, or an ``error``: the answer is constrained, and cannot go on.
        """
        self._num_drafted += num_drafted
        if len(tokens) == 1:
            return self._feed(tokens[0], None if likelihoods is None else likelihoods[0])
        row: Row | None = None
        for number, token in enumerate(tokens):
            self._num_accepted += number < len(tokens) - 1
            more = self._feed(token, None if likelihoods is None else likelihoods[number])
            row = more if row is None else _joined(row, more)
            if row.usage is not None or row.error is not None:
                break
        assert row is not None
        return row

    def _feed(self, token: int, likelihoods: Likelihoods | None) -> Row:
        self.job.answer.append(token)
        self._first_token_at = self._first_token_at or perf_counter()
        if token in self._eos_ids:
            return self._finish("stop")
        if token in self._stop_token_ids:
            self._stop_token_id = token
            return self._finish("stop")
        text = self._detokenizer.push(token)
        if self._told is not None:
            self._told.note(token, text)
        row = Row(self.number, [token], self._stops.push(text))
        if self._told is not None:
            self._told.tell(row, num_answer=len(self.job.answer))
            self.job.closes_at = self._told.closes_at
        if likelihoods is not None:
            row.logprobs = [self._logprobs(token, likelihoods)]
        if self._stops.matched is not None or (self._told is not None and self._told.is_over):
            return self._finish("stop", row)
        constraint = self.job.constraint
        if constraint is not None and constraint.has_ended:
            return self._finish("stop", row)
        if len(self.job.answer) >= self.job.max_tokens:
            return self._finish("length", row)
        if constraint is not None and constraint.error is not None:
            return self._break_off(row, constraint)
        return row

    def cancel(self) -> Row:
        """The last row of a call that its caller gave up; text that was held back is in it."""
        return self._finish("cancelled")

    def fail(self, message: str) -> Row:
        """The last row of a call that the host could not finish."""
        return self.refuse(InternalError(message))

    def expire(self) -> Row:
        """The last row of a call that nobody waits for any more."""
        done = f"after {len(self.job.answer)} tokens" if self._admitted_at else "before it was begun"
        return self.refuse(DeadlineExceeded(f"the call's time budget ran out {done}"))

    def refuse(self, error: BridgeError) -> Row:
        """The last row of a call that ends with an error."""
        self.job.ended = True
        row = self._empty()
        row.error = error
        return row

    def _break_off(self, row: Row, constraint: Constraint) -> Row:
        self.job.ended = True
        done = f"after {len(self.job.answer)} tokens"
        row.error = invalid(constraint.param, f"cannot be kept to {done}: {constraint.error}")
        return row

    def _empty(self) -> Row:
        return Row(self.number, [], "", logprobs=None if self.job.settings.logprobs is None else [])

    def _logprobs(self, token: int, likelihoods: Likelihoods) -> TokenLogprobs:
        bytes_of = self._vocabulary.bytes_of
        top = (TokenLogprob(one, logprob, bytes_of(one)) for one, logprob in likelihoods.top)
        return TokenLogprobs(TokenLogprob(token, likelihoods.logprob, bytes_of(token)), tuple(top))

    def _finish(self, reason: FinishReason, row: Row | None = None) -> Row:
        self.job.ended = True
        row = row or self._empty()
        rest = self._stops.push(self._detokenizer.flush()) + self._stops.flush()
        if self._told is None:
            row.text += rest
        else:
            self._told.finish(row, rest)
        if reason == "length" and self._stops.matched is not None:
            reason = "stop"
        if reason == "stop" and self._told is not None and self._told.has_calls:
            reason = "tool_calls"
        row.usage = self._usage(reason)
        return row

    def _usage(self, reason: FinishReason) -> Usage:
        now = perf_counter()
        first_token_at = self._first_token_at or now
        admitted_at = self._admitted_at or now
        return Usage(
            finish_reason=reason,
            prompt_tokens=len(self.job.prompt),
            completion_tokens=len(self.job.answer),
            cached_tokens=self.job.num_reused or 0,
            reasoning_tokens=None if self._told is None else self._told.num_reasoning_tokens,
            stop_string=self._stops.matched,
            stop_token_id=self._stop_token_id if self._stops.matched is None else None,
            queue_seconds=admitted_at - self._submitted_at,
            prefill_seconds=first_token_at - admitted_at,
            decode_seconds=now - first_token_at,
            draft_tokens=self._num_drafted,
            accepted_tokens=self._num_accepted,
        )


def _joined(row: Row, more: Row) -> Row:
    """What two tokens of a step did for a call."""
    row.token_ids += more.token_ids
    row.text += more.text
    if row.logprobs is not None and more.logprobs is not None:
        row.logprobs += more.logprobs
    if more.parts is not None:
        row.parts = [*(row.parts or []), *more.parts]
    row.usage, row.error = more.usage, more.error
    return row
