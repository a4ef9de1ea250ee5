"""The soak finds nothing wrong with the engine, and would if there were something."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import mlx.core as mx
import pytest

from bench.soak import command, models
from bench.soak.answers import Answer
from bench.soak.command import Report, soak
from bench.soak.compare import differences, mlx_lm_differences
from bench.soak.models import KINDS
from bench.soak.requests import arrivals
from bench.soak.whims import with_drafts
from mlxbridge.errors import DeadlineExceeded, InternalError
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import EngineLimits, GenerateRequest
from mlxbridge.types import TokenLogprob, TokenLogprobs, Usage

NUM_WAVES = 4


@pytest.fixture(autouse=True)
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the soak's own layers: what it looks for is the same in each. And of its waves: as many calls at once, of fewer."""
    monkeypatch.setitem(models._COMMON, "num_hidden_layers", 2)
    monkeypatch.setattr(command, "NUM_WAVES", NUM_WAVES)


def short(kind: str = "llama", *, num_requests: int, seed: int = 7, max_batch: int = 16) -> Report:
    limits = EngineLimits(max_batch=max_batch, prefill_chunk=32, prefix_cache_bytes=1 << 18)
    return soak(kind, limits, kv_rows=8, num_requests=num_requests, seed=seed)


def test_answers_do_not_depend_on_each_other() -> None:
    report = short(num_requests=48)
    assert report.differences == []
    assert report.is_good, report.render()
    assert any(re.fullmatch(r"growth +-?[\d,]+ bytes *", line) for line in report.render())
    assert report.checked_by_mlx_lm > 12 and report.cancelled > 3 and report.stopped > 6
    assert report.late > 0


@pytest.mark.parametrize("kind", command.DRAFTABLE)
def test_answers_do_not_depend_on_drafts(kind: str) -> None:
    limits = EngineLimits(max_batch=16, prefill_chunk=32, prefix_cache_bytes=1 << 18)
    report = soak(kind, limits, kv_rows=6, num_requests=48, seed=11, has_drafts=True)
    assert report.is_good, report.render()
    assert report.stats["accepted_tokens_total"] > 10  # how much is drafted goes by the clock
    assert report.stats["preemptions_total"] > 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in command.DRAFTABLE])
def test_answers_of_other_caches_do_not_depend_on_each_other(kind: str) -> None:
    report = short(kind, num_requests=12, max_batch=6)
    assert report.is_good, report.render()


def test_rows_that_are_mixed_up_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = BatchEngine.step

    def mixed(self: BatchEngine) -> Any:
        rows = real(self)
        if len(rows) > 2:
            rows[0].token_ids, rows[1].token_ids = rows[1].token_ids, rows[0].token_ids
        return rows

    monkeypatch.setattr(BatchEngine, "step", mixed)
    report = short(num_requests=12)
    assert report.differences and not report.is_good
    assert "request " in report.render()[-1]


def test_memory_that_is_not_given_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[mx.array] = []
    real = BatchEngine.step

    def leaky(self: BatchEngine) -> Any:
        kept.append(mx.zeros(8192))
        mx.eval(kept[-1])
        return real(self)

    monkeypatch.setattr(BatchEngine, "step", leaky)
    report = short(num_requests=8)
    assert report.growth > command.MAX_GROWTH_BYTES and not report.is_good
    assert report.differences == []


def test_row_that_takes_others_with_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model cannot read one token; were a whole lane to fail for it, the others would have errors that are not theirs."""

    def fail_all(self: BatchEngine, jobs: Any, exc: Exception) -> Any:
        return [self._roster.call_of(job).fail("together") for job in jobs if not job.ended]

    monkeypatch.setattr(BatchEngine, "_recover", fail_all)
    report = short(num_requests=20, seed=1)
    assert any("ended with InternalError" in text for text in report.differences)


OF_CHATS = {
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "max_reasoning_tokens",
    "chat_template_kwargs",
}


def test_requests_use_every_parameter() -> None:
    requests = [arrival.request for arrival in with_drafts(arrivals(400, 1), 1)]
    assert requests == [arrival.request for arrival in with_drafts(arrivals(400, 1), 1)]
    plain = GenerateRequest()
    for field in fields(GenerateRequest):
        if field.name not in OF_CHATS:
            values = [getattr(request, field.name) for request in requests]
            assert sum(value != getattr(plain, field.name) for value in values) > 8, field.name
    prompts = [str(request.prompt) for request in requests]
    assert len(set(prompts)) < len(prompts) - 40, "equal prompts"


def usage(reason: Any = "length", **changes: Any) -> Usage:
    return Usage(finish_reason=reason, prompt_tokens=3, completion_tokens=3, **changes)


def logprobs(*values: float) -> list[TokenLogprobs]:
    return [TokenLogprobs(TokenLogprob(5, value, b"x"), (TokenLogprob(6, -0.5, b"y"),)) for value in values]


ALONE = Answer(token_ids=[1, 2, 3], text="abc", usage=usage(), logprobs=logprobs(-1, -2, -3))


def variants() -> Iterator[tuple[Answer, str]]:
    yield replace(ALONE, token_ids=[1, 2, 4]), "tokens part at 2"
    yield replace(ALONE, token_ids=[1, 2]), "tokens part at 2"
    yield replace(ALONE, text="ab"), "text 'ab'"
    yield replace(ALONE, usage=usage("stop")), "finish_reason"
    yield replace(ALONE, usage=usage(stop_token_id=3)), "stop_token_id"
    yield replace(ALONE, logprobs=logprobs(-1, -2.001, -3)), "logprobs of token 1"
    yield replace(ALONE, logprobs=logprobs(-1)), "1 logprobs for 3 tokens"
    yield replace(ALONE, usage=None, error=InternalError("no")), "ended with"
    cancelled = usage("cancelled")
    failed = replace(ALONE, token_ids=[1], text="a", usage=None, error=InternalError("no"), logprobs=[])
    yield failed, "ended with"
    yield replace(ALONE, token_ids=[1, 3], usage=cancelled, logprobs=[]), "given up, tokens"
    yield replace(ALONE, token_ids=[1], text="b", usage=cancelled, logprobs=[]), "given up, text"


@pytest.mark.parametrize(("answer", "complaint"), list(variants()))
def test_each_difference_is_named(answer: Answer, complaint: str) -> None:
    assert complaint in "; ".join(differences(answer, ALONE))


def test_equal_answers_and_beginnings_are_right() -> None:
    near = replace(ALONE, logprobs=logprobs(-1.00005, -2, -3))
    assert list(differences(near, ALONE)) == []
    part = replace(ALONE, token_ids=[1], text="a\ufffd", usage=usage("cancelled"), logprobs=logprobs(-1))
    assert list(differences(part, ALONE)) == []
    stopped = replace(ALONE, usage=usage("stop", stop_string="defg"))
    held = replace(ALONE, text="abcde", usage=usage("cancelled"))
    assert list(differences(held, stopped)) == []
    late = replace(part, usage=None, error=DeadlineExceeded("late"))
    assert list(differences(late, ALONE, may_be_late=True)) == []
    assert "ended with" in "".join(differences(late, ALONE))
    fault = replace(ALONE, usage=None, error=InternalError("no"))
    cut = replace(fault, token_ids=[1, 2], text="ab", error=InternalError("no, alone"), logprobs=[])
    assert list(differences(fault, cut)) == ["3 logprobs for 3 tokens"]
    assert list(differences(replace(fault, logprobs=[]), cut)) == []
    assert "failed after 2 tokens, alone after 3" in list(differences(cut, fault))
    assert "given up, tokens part at 1" in "".join(differences(replace(fault, token_ids=[1, 5, 3]), cut))
    ended = replace(ALONE, usage=usage("stop", stop_string="c"))
    assert list(differences(ended, replace(cut, logprobs=logprobs(-1, -2)))) == []
    assert "given up, tokens part at 1" in "".join(differences(replace(ended, token_ids=[1, 5, 3]), cut))
    failed = Answer(error=InternalError("no"))
    assert list(differences(failed, Answer(error=InternalError("no")))) == []


@pytest.mark.parametrize(
    ("request_", "alone", "tokens", "complaint"),
    [
        (GenerateRequest(), ALONE, [1, 2, 3], None),
        (GenerateRequest(), ALONE, [1, 2, 4], "part at 2"),
        (GenerateRequest(), ALONE, [1, 2, 9, 3], "part at 2"),
        (GenerateRequest(), ALONE, [1, 2, 3, 9], "finish_reason length, in mlx_lm stop"),
        (GenerateRequest(ignore_eos=True), ALONE, [1, 2, 9], "part at 2"),
        (GenerateRequest(), replace(ALONE, usage=usage("stop")), [1, 2, 3, 9, 1], None),
        (GenerateRequest(stop_token_ids=(7,)), replace(ALONE, usage=usage("stop")), [1, 2, 3, 7], None),
        (GenerateRequest(), replace(ALONE, usage=usage("stop", stop_string="c")), [1, 2, 3, 4], None),
        (GenerateRequest(), replace(ALONE, usage=usage("stop", stop_string="c")), [1, 2, 4, 4], "part at 2"),
    ],
)
def test_mlx_lm_says_where_an_answer_ends(
    request_: GenerateRequest, alone: Answer, tokens: list[int], complaint: str | None
) -> None:
    found = "; ".join(mlx_lm_differences(request_, alone, tokens, frozenset({9})))
    assert found == "" if complaint is None else complaint in found


@pytest.mark.parametrize(("num_requests", "status"), [(NUM_WAVES, 0), (NUM_WAVES - 1, 1)])
def test_exit_status(num_requests: int, status: int) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(SystemExit) as caught:
        command.run(parser.parse_args(["--requests", str(num_requests)]))
    assert bool(caught.value.code) == bool(status)
