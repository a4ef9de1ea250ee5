"""The engine turned by hand: what it answers, and whose turn it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from mlxbridge.errors import (
    BridgeError,
    ContextTooLong,
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    Overloaded,
)
from mlxbridge.host.embeddings import engine as engine_module
from mlxbridge.host.embeddings.batching import BATCH_TOKENS
from mlxbridge.host.embeddings.encoder import Encoder
from mlxbridge.host.embeddings.engine import COALESCE_S, VectorEngine
from mlxbridge.host.embeddings.model import Vectors, check_finite
from mlxbridge.host.embeddings.pace import BATCH_S, FIRST_BATCH_TOKENS
from mlxbridge.host.embeddings.pool import Pool
from mlxbridge.host.embeddings.request import EmbedRequest, RerankRequest
from mlxbridge.host.embeddings.task import Answer, Output, Task
from mlxbridge.host.embeddings.tokenizer import Tokens
from mlxbridge.host.embeddings.unread import PORTION_CHARS, Unread
from mlxbridge.host.engine.interface import Origin

Outcomes = dict[int, Output | BridgeError]
NAN, CRASH = 666, 667


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """A model whose vectors are a text's number of tokens, and the size of the batch it was in."""

    kind = "embed"
    name = "counting"

    def __init__(self, clock: Clock, seconds_a_token: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self.most_tokens = 10**6
        self._clock = clock
        self._seconds_a_token = seconds_a_token

    def check(self, request: EmbedRequest) -> None:
        """Anything goes."""

    def read_part(self, request: EmbedRequest, places: range) -> list[Tokens]:
        ids = [[int(word) for word in str(request.inputs[place]).split()] for place in places]
        return [Tokens(each, []) for each in ids]

    def launch(self, inputs: Sequence[Tokens]) -> mx.array:
        lengths = [len(tokens) for tokens in inputs]
        self.batches.append(lengths)
        if sum(lengths) > self.most_tokens:
            raise RuntimeError("[malloc] Unable to allocate")
        if any(CRASH in tokens.ids for tokens in inputs):
            raise RuntimeError("no memory")
        self._clock.now += self._seconds_a_token * sum(lengths)
        return mx.array(
            [[np.nan if NAN in tokens.ids else float(len(tokens)), len(inputs)] for tokens in inputs]
        )

    def space(self, request: EmbedRequest) -> NDArray[Any]:
        return np.empty((request.num_inputs, 2), np.float32)

    def finish(self, vectors: Vectors, request: EmbedRequest) -> Vectors:
        check_finite(vectors, self.name)
        return vectors

    def describe(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def model(clock: Clock) -> Counting:
    return Counting(clock)


@pytest.fixture
def engine(model: Counting, clock: Clock) -> VectorEngine:
    return VectorEngine(model, clock=clock)


def text(num_tokens: int) -> str:
    return " ".join(["7"] * num_tokens)


def ask(*lengths: int) -> EmbedRequest:
    return EmbedRequest(inputs=[text(length) for length in lengths])


def guest(name: str, **others: float) -> Origin:
    return Origin(guest=name, **others)  # type: ignore[arg-type]


def run(engine: VectorEngine) -> Outcomes:
    """Step until nothing is left."""
    found: list[Answer] = []
    while engine.has_work:
        found += engine.step()
    return {answer.call: answer.outcome for answer in found}


def output(outcome: Output | BridgeError) -> Output:
    assert isinstance(outcome, Output), outcome
    return outcome


def test_calls_share_batches_and_have_what_they_would_have_alone(make: Callable[..., Encoder]) -> None:
    encoder = make(normalizes=True)
    words = ["cat", "the dog sat on the mat", "", "who where house", "mat " * 30]
    requests = [
        EmbedRequest(
            inputs=[words[(call + i) % 5] for i in range(call % 7 + 1)],
            dimensions=8 if call % 2 else None,
            dtype="float32" if call % 3 else "float16",
        )
        for call in range(20)
    ]
    engine = VectorEngine(encoder)
    for call, request in enumerate(requests):
        engine.submit(call, request, guest(f"guest {call % 4}"))
    outcomes = run(engine)
    assert sorted(outcomes) == list(range(20))
    for call, request in enumerate(requests):
        alone, found = encoder.encode(request), output(outcomes[call])
        assert (found.values.dtype, found.num_tokens) == (alone.vectors.dtype, sum(alone.num_tokens))
        np.testing.assert_allclose(found.values, alone.vectors, atol=2e-3 if call % 3 == 0 else 1e-5)
    assert engine.stats()["batches_total"] < 8
    assert engine.stats()["calls_total"] == 20 and not engine.stats()["running"]


@pytest.mark.parametrize("kept_bytes", [0, 1 << 40])
def test_buffers_of_a_large_batch_are_given_back_once_nobody_asks(
    make: Callable[..., Encoder], monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(engine_module, "KEPT_BYTES", kept_bytes)
    engine = VectorEngine(make("bert"))
    engine.submit(1, EmbedRequest(inputs=["the dog sat on the cat"] * 50))
    run(engine)
    result_bytes = 50 * 32 * 4  # of the last batch, which is looked at to the end
    assert (mx.get_cache_memory() > 2 * result_bytes) is (kept_bytes > 0)


def test_call_of_no_inputs_is_answered_at_once(engine: VectorEngine, model: Counting) -> None:
    engine.submit(1, ask())
    (answer,) = engine.step()
    assert output(answer.outcome).values.shape == (0, 2)
    assert not engine.has_work and model.batches == []


def test_truncated_inputs_are_counted(make: Callable[..., Encoder]) -> None:
    engine = VectorEngine(make())
    most = engine.model.describe()["max_tokens"]
    engine.submit(1, EmbedRequest(inputs=["cat", "cat " * 500, [4] * 500], truncate=True))
    found = output(run(engine)[1])
    assert (found.num_truncated, found.num_tokens) == (2, 3 + 2 * most)


def test_wrong_input_fails_its_call_alone(make: Callable[..., Encoder]) -> None:
    engine = VectorEngine(make())
    engine.submit(1, EmbedRequest(inputs=["cat"]))
    engine.submit(2, EmbedRequest(inputs=["cat", "cat " * 500]))
    engine.submit(3, EmbedRequest(inputs=[[10**6]]))
    engine.submit(4, EmbedRequest(inputs=["dog"]))
    with pytest.raises(InvalidArgument):
        engine.submit(5, EmbedRequest(inputs=["cat"], dimensions=10**6))
    outcomes = run(engine)
    assert [type(outcomes[call]) for call in (1, 2, 3, 4)] == [
        Output,
        ContextTooLong,
        InvalidArgument,
        Output,
    ]


def test_what_is_no_number_fails_its_call_alone(engine: VectorEngine) -> None:
    engine.submit(1, ask(3))
    engine.submit(2, EmbedRequest(inputs=[text(3), f"7 {NAN}"]))
    outcomes = run(engine)
    assert isinstance(outcomes[1], Output)
    assert isinstance(outcomes[2], InternalError) and "no number" in outcomes[2].message


def test_batch_that_cannot_be_computed_fails_the_calls_in_it(engine: VectorEngine) -> None:
    engine.submit(1, EmbedRequest(inputs=[f"7 {CRASH}"]))
    engine.submit(2, ask(300))
    outcomes = run(engine)
    assert isinstance(outcomes[1], InternalError) and "no memory" in outcomes[1].message
    assert isinstance(outcomes[2], Output)


def test_batches_stay_below_the_size_that_memory_was_too_short_for(model: Counting, clock: Clock) -> None:
    engine = VectorEngine(model, clock=clock)
    model.most_tokens = 3000
    failed = []
    for call in range(20):
        engine.submit(call, ask(*[16] * 500))
        failed.append(isinstance(run(engine)[call], InternalError))
    assert any(failed) and not any(failed[5:])


def test_lone_call_waits_for_nobody(engine: VectorEngine) -> None:
    for call in range(3):
        engine.submit(call, ask(5))
        assert engine.wait_s == 0
        run(engine)


def test_those_who_were_answered_together_wait_for_each_other_but_not_for_long(
    engine: VectorEngine, model: Counting, clock: Clock
) -> None:
    for call in range(3):
        engine.submit(call, ask(5))
    run(engine)
    engine.submit(3, ask(5))
    assert engine.wait_s == pytest.approx(COALESCE_S)
    clock.now += COALESCE_S / 2
    engine.submit(4, ask(5))
    assert engine.wait_s == pytest.approx(COALESCE_S / 2)
    engine.submit(5, ask(5))
    assert engine.wait_s == 0, "all are here"
    run(engine)
    assert [len(batch) for batch in model.batches] == [3, 3]
    engine.submit(6, ask(5))
    clock.now += 2 * COALESCE_S
    assert engine.wait_s == 0, "the others do not come"


def test_call_of_many_inputs_waits_for_nobody(engine: VectorEngine) -> None:
    for call in range(3):
        engine.submit(call, ask(5))
    run(engine)
    engine.submit(3, ask(*[5] * 40))
    assert engine.wait_s == 0


def test_guest_with_much_keeps_nobody_waiting_for_more_than_a_batch(clock: Clock) -> None:
    engine = VectorEngine(Counting(clock, seconds_a_token=BATCH_S / 512), clock=clock)
    engine.submit(1, ask(*[100] * 5000), guest("much"))
    for _ in range(3):
        engine.step()
    engine.submit(2, ask(3), guest("little"))
    engine.submit(3, ask(*[3] * 20), guest("middling"))
    answered = [answer.call for _ in range(5) for answer in engine.step()]
    assert sorted(answered) == [2, 3]


def test_small_call_does_not_wait_for_the_same_guests_large_one(clock: Clock) -> None:
    engine = VectorEngine(Counting(clock, seconds_a_token=BATCH_S / 512), clock=clock)
    engine.submit(1, ask(*[100] * 5000))
    for _ in range(3):
        engine.step()
    engine.submit(2, ask(3))
    assert [answer.call for _ in range(3) for answer in engine.step()] == [2]


def test_batches_grow_while_they_are_fast_and_shrink_when_they_are_slow(clock: Clock) -> None:
    fast = Counting(clock, seconds_a_token=1e-6)
    engine = VectorEngine(fast, clock=clock)
    engine.submit(1, ask(*[16] * 5000))
    run(engine)
    sizes = [sum(batch) for batch in fast.batches]
    assert sizes[0] <= FIRST_BATCH_TOKENS and max(sizes) == BATCH_TOKENS
    slow = Counting(clock, seconds_a_token=BATCH_S / 200)
    engine = VectorEngine(slow, clock=clock)
    engine.submit(1, ask(*[16] * 100))
    run(engine)
    assert 100 <= sum(slow.batches[-2]) <= 208


def test_cancelled_call_is_not_computed_any_more(engine: VectorEngine, model: Counting) -> None:
    engine.submit(1, ask(*[100] * 100))
    engine.submit(2, ask(3))
    engine.step()
    assert engine.cancel(1) and not engine.cancel(1)
    outcomes = run(engine)
    assert list(outcomes) == [2]
    assert sum(map(len, model.batches)) < 20


def test_batch_that_nobody_waits_for_is_not_kept_and_does_not_count_as_slow(
    engine: VectorEngine, model: Counting, clock: Clock
) -> None:
    engine.submit(1, ask(3))
    engine.step()
    engine.cancel(1)
    assert run(engine) == {}
    clock.now += 3600
    engine.submit(2, ask(*[16] * 500))
    run(engine)
    assert min(sum(batch) for batch in model.batches[1:-1]) >= FIRST_BATCH_TOKENS


def test_text_before_every_input_counts_for_what_is_read_in_a_step() -> None:
    embed = EmbedRequest(inputs=["a"] * 100, prompt="b" * PORTION_CHARS)
    rerank = RerankRequest(query="b" * (PORTION_CHARS // 2), documents=["a"] * 100)
    for request, num_wanted in ((embed, 1), (rerank, 2)):
        unread = Unread()
        unread.add(Task(1, request, guest("much"), 0, 0.0, np.empty(100), num_left=100))
        _, places = next(unread.portions(Pool(), 10_000))
        assert len(places) == num_wanted


def test_deadline_ends_a_call_between_two_batches(engine: VectorEngine, clock: Clock) -> None:
    engine.submit(1, ask(*[100] * 100), guest("late", deadline_at=clock.now + 1))
    engine.submit(2, ask(*[100] * 10), guest("patient", deadline_at=clock.now + 1000))
    engine.step()
    clock.now += 1
    (answer,) = [answer for answer in engine.step() if answer.call == 1]
    assert isinstance(answer.outcome, DeadlineExceeded)
    assert isinstance(run(engine)[2], Output)
    assert engine.stats()["expired_total"] == 1


def test_full_queue_refuses_and_one_guest_cannot_fill_it(model: Counting) -> None:
    engine = VectorEngine(model, max_waiting=4)
    for call in range(3):
        engine.submit(call, ask(3), guest("greedy"))
    with pytest.raises(Overloaded, match=r"3 \(0 MiB\) of them this guest's") as caught:
        engine.submit(3, ask(3), guest("greedy"))
    assert caught.value.retry_after
    engine.submit(4, ask(3), guest("modest"))
    assert sorted(run(engine)) == [0, 1, 2, 4]
    engine.submit(5, ask(3), guest("greedy"))


def test_answer_that_would_be_too_large_is_refused_by_name(
    engine: VectorEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MAX_CALL_BYTES", 100)
    with pytest.raises(InvalidArgument, match="several") as caught:
        engine.submit(1, ask(*[1] * 13))
    assert caught.value.details["field"] == "inputs"
    engine.submit(1, ask(*[1] * 12))
    run(engine)
