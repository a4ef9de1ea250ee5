"""Answers that keep to a ``response_format``: beside others, alone, after being interrupted, and with every other parameter."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from random import Random
from threading import current_thread, main_thread
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.errors import InternalError, InvalidArgument, Unsupported
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.choice.chooser import Drawn
from mlxbridge.host.engine.drafts.drafting import Drafting
from mlxbridge.host.engine.grammar.masks import Masks
from mlxbridge.host.engine.grammar.response_format import Source, read_response_format
from mlxbridge.host.engine.lanes import Lanes
from mlxbridge.host.engine.loader import LoadedModel, load
from mlxbridge.host.engine.text.detokenize import Vocabulary
from tests.host.engine.grammar.samples import keeps_to, random_format
from tests.host.engine.tiny import (
    TEXTS,
    Answers,
    metaspace_tokenizer,
    save_model,
    save_tokenizer,
    spm_tokenizer,
)

MakeEngine = Callable[..., BatchEngine]

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def schema(value: dict[str, Any]) -> Source:
    return read_response_format({"type": "json_schema", "schema": value})


def regex(pattern: str) -> Source:
    return read_response_format({"type": "regex", "pattern": pattern})


def choice(*choices: str) -> Source:
    return read_response_format({"type": "choice", "choices": list(choices)})


@pytest.fixture(scope="module")
def demo() -> LoadedModel:
    return load(Path(str(files("mlxbridge.host.models") / "demo")), "demo")


@pytest.fixture(scope="module")
def endless(loaded: LoadedModel) -> LoadedModel:
    """The tiny model without EOS: nothing but its grammar ends an answer."""
    return replace(loaded, eos_ids=frozenset())


def finish_reason(answers: Answers, call: int) -> str | None:
    usage = answers.last[call].usage
    return None if usage is None else usage.finish_reason


def ask(number: int, **more: Any) -> dict[str, Any]:
    question = {"role": "user", "content": f"How much is {number} and {number + 5}?"}
    return {"messages": [question], "max_tokens": 500, "temperature": 1.5, "seed": number, **more}


def test_64_rows_keep_each_to_its_own_format_beside_free_rows(
    make_engine: MakeEngine, demo: LoadedModel
) -> None:
    chance = Random(3)
    formats = [random_format(chance) for _ in range(64)]
    crowd = Answers(make_engine(demo, max_batch=80))
    for call, response_format in enumerate(formats):
        crowd.submit(call, **ask(call, response_format=read_response_format(response_format)))
        if call % 8 == 0:
            crowd.submit(100 + call, **ask(100 + call, max_tokens=40))
    crowd.finish()
    for call, response_format in enumerate(formats):
        assert finish_reason(crowd, call) == "stop"
        assert keeps_to(crowd.texts[call], response_format), (response_format, crowd.texts[call])
    alone = Answers(make_engine(demo))
    for call in (*range(0, 64, 18), *range(100, 164, 16)):
        alone.submit(call, **crowd.asked[call])
        alone.finish()
        assert alone.tokens[call] == crowd.tokens[call], call
        assert alone.texts[call] == crowd.texts[call]


def test_model_that_knows_the_answer_says_it_in_the_format(
    make_engine: MakeEngine, demo: LoadedModel
) -> None:
    answers = Answers(make_engine(demo))
    question = [{"role": "user", "content": "What is the capital of France?"}]
    answers.submit(1, messages=question, response_format=choice("Berlin", "Paris", "Rome"))
    answers.submit(
        2, messages=question, response_format=regex(r"The capital of [A-Z][a-z]+ is [A-Z][a-z]+\.")
    )
    answers.finish()
    assert answers.texts == {1: "Paris", 2: "The capital of France is Paris."}


@pytest.mark.parametrize(
    ("value", "pattern"),
    [
        ({"type": "json_object"}, None),
        ({"type": "json_schema", "json_schema": {"name": "p", "strict": True, "schema": PERSON}}, None),
        ({"type": "grammar", "grammar": 'start: x "b" x\nx: /[0-9]{2}/\n%ignore " "'}, r" *\d\d *b *\d\d"),
        ({"type": "grammar", "grammar": 'start: %json {"const": 1.5} "!"'}, r"1\.5!"),
    ],
)
def test_every_type_ends_as_it_must(
    make_engine: MakeEngine, endless: LoadedModel, value: dict[str, Any], pattern: str | None
) -> None:
    answers = Answers(make_engine(endless))
    for call in range(4):
        answers.submit(
            call,
            prompt=TEXTS[call],
            max_tokens=400,
            temperature=1.2,
            seed=call,
            response_format=read_response_format(value),
        )
    answers.finish()
    ended = [call for call in range(4) if finish_reason(answers, call) == "stop"]
    assert ended
    for call in ended:
        if pattern is not None:
            assert re.fullmatch(pattern, answers.texts[call])
        else:
            assert isinstance(json.loads(answers.texts[call]), dict)


def test_cut_answer_is_the_beginning_of_one(make_engine: MakeEngine, endless: LoadedModel) -> None:
    answers = Answers(make_engine(endless))
    answers.submit(1, prompt="a", max_tokens=7, response_format=regex("(xy)+z{50}"))
    answers.finish()
    assert finish_reason(answers, 1) == "length" and len(answers.tokens[1]) == 7
    assert re.fullmatch("(xy)*x?z*", answers.texts[1])


def test_whole_answer_of_just_max_tokens_was_not_cut(make_engine: MakeEngine, endless: LoadedModel) -> None:
    answers = Answers(make_engine(endless))
    answers.submit(1, prompt="a", response_format=choice("Z#Z#"))
    answers.finish()
    answers.submit(2, prompt="a", max_tokens=len(answers.tokens[1]), response_format=choice("Z#Z#"))
    answers.finish()
    assert finish_reason(answers, 2) == "stop" and answers.tokens[2] == answers.tokens[1]


def interrupted(call: int) -> dict[str, Any]:
    return {
        "prompt": [3 + (7 * call + 5 * i) % 370 for i in range(236 + 2 * call)],
        "max_tokens": 80,
        "temperature": 1.0,
        "seed": call,
        "response_format": schema(PERSON) if call % 3 else None,
        "logprobs": 2 if call % 2 else None,
    }


@pytest.fixture(scope="module")
def undisturbed(endless: LoadedModel) -> Answers:
    """Each alone."""
    answers = Answers(BatchEngine(endless))
    for call in range(8):
        answers.submit(call, **interrupted(call))
        answers.finish()
    return answers


def assert_same(found: Answers, expected: Answers) -> None:
    for call in expected.last:
        assert found.last[call].error is None
        assert found.tokens[call] == expected.tokens[call], call
        assert found.texts[call] == expected.texts[call]
        assert finish_reason(found, call) == finish_reason(expected, call)
        for one, other in zip(found.logprobs[call] or (), expected.logprobs[call] or (), strict=True):
            assert one.chosen.token_id == other.chosen.token_id
            assert one.chosen.logprob == pytest.approx(other.chosen.logprob, abs=1e-4)


def test_same_answers_where_memory_is_short(
    make_engine: MakeEngine, endless: LoadedModel, undisturbed: Answers
) -> None:
    answers = Answers(make_engine(endless, kv_bytes=9 * 256 * 512, expected_tokens=4, max_batch=8))
    for call in range(8):
        answers.submit(call, **interrupted(call))
        answers.step()
    answers.finish()
    assert answers.engine.stats()["preemptions_total"] > 0
    assert_same(answers, undisturbed)


def test_same_answers_where_rows_cannot_be_batched(
    make_engine: MakeEngine,
    endless: LoadedModel,
    undisturbed: Answers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mlxbridge.host.engine.batch.is_exact_in_batches", lambda *_: False)
    answers = Answers(make_engine(endless))
    for call in range(8):
        answers.submit(call, **interrupted(call))
    answers.step(5)
    assert answers.engine.describe()["batched"] is False
    assert_same(answers.finish(), undisturbed)


@pytest.mark.parametrize("method", ["compute", "apply"])
def test_same_answers_after_a_step_that_raised(
    make_engine: MakeEngine,
    endless: LoadedModel,
    undisturbed: Answers,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    """The tokens that were read in it have been taken by the constraints, and are not told to anybody."""
    answers = Answers(make_engine(endless))
    for call in range(8):
        answers.submit(call, **interrupted(call))
    answers.step(12)
    with monkeypatch.context() as patch:
        patch.setattr(Masks, method, lambda *_: 1 / 0)
        answers.step()
    assert_same(answers.finish(), undisturbed)
    assert answers.engine._suspicion.limit == 64


def test_prefix_hit_changes_nothing(make_engine: MakeEngine, endless: LoadedModel) -> None:
    request = {"prompt": list(range(3, 300)), "max_tokens": 60, "temperature": 1.0, "seed": 4}
    answers = Answers(make_engine(endless))
    answers.submit(1, **request, response_format=schema(PERSON))
    answers.finish()
    answers.submit(2, **request, response_format=schema(PERSON))
    answers.finish()
    usage = answers.last[2].usage
    assert usage is not None and usage.cached_tokens > 0
    assert answers.tokens[2] == answers.tokens[1]


def test_logprobs_are_of_what_may_be_drawn(make_engine: MakeEngine, loaded: LoadedModel) -> None:
    answers = Answers(make_engine())
    answers.submit(
        1, prompt="a", temperature=1.0, seed=1, logprobs=20, response_format=regex("[xyz]{6}[0-9]")
    )
    answers.finish()
    entries = answers.logprobs[1]
    assert entries is not None and len(entries) == len(answers.tokens[1])
    for entry in entries:
        assert sum(math.exp(one.logprob) for one in entry.top) == pytest.approx(1, abs=1e-4)
        assert all(re.fullmatch(rb"[xyz]+|[0-9]", one.data) for one in entry.top)
        assert entry.chosen in entry.top


def test_stop_string_ends_a_constrained_answer(make_engine: MakeEngine, endless: LoadedModel) -> None:
    answers = Answers(make_engine(endless))
    answers.submit(1, prompt="a", stop=("-",), response_format=regex("[a-f]{3,5}-[0-9]{9}"))
    answers.finish()
    usage = answers.last[1].usage
    assert usage is not None and (usage.finish_reason, usage.stop_string) == ("stop", "-")
    assert re.fullmatch("[a-f]{3,5}", answers.texts[1])


def test_stop_token_ends_where_the_answer_is_whole(make_engine: MakeEngine, endless: LoadedModel) -> None:
    vocabulary = Vocabulary(endless.tokenizer)
    hash_id = next(token for token in range(384) if vocabulary.bytes_of(token) == b"#")
    answers = Answers(make_engine(endless))
    answers.submit(
        1,
        prompt="a",
        logit_bias={hash_id: 10_000.0},
        stop_token_ids=(hash_id,),
        response_format=regex("[xy]{4}[xy]*"),
    )
    answers.finish()
    usage = answers.last[1].usage
    assert usage is not None and usage.stop_token_id == hash_id
    assert re.fullmatch("[xy]{4,}", answers.texts[1])


def test_bias_and_penalties_choose_among_what_may_be_drawn(
    make_engine: MakeEngine, endless: LoadedModel
) -> None:
    vocabulary = Vocabulary(endless.tokenizer)
    ids = {vocabulary.bytes_of(token): token for token in range(384)}
    answers = Answers(make_engine(endless))
    wanted = {ids[b"Q"]: 10_000.0, ids[b"y"]: 50.0}
    answers.submit(1, prompt="a", logit_bias=wanted, response_format=regex("[xy]{9}"))
    hated = {token: -10_000.0 for token in (ids[b"x"], ids[b"y"])}
    answers.submit(2, prompt="a", logit_bias=hated, response_format=regex("[xy]{9}"))
    answers.submit(
        3, prompt="a", logit_bias={ids[b"x"]: 3.0}, frequency_penalty=10.0, response_format=regex("[xy]{9}")
    )
    answers.submit(
        4, prompt="a", temperature=1.0, xtc_probability=1.0, top_p=0.5, response_format=regex("[xy]{9}")
    )
    answers.finish()
    assert answers.texts[1] == "y" * 9
    for call in (2, 3, 4):
        assert re.fullmatch("[xy]{9}", answers.texts[call])
    assert len(set(answers.texts[3])) == 2


def test_min_tokens_keeps_an_answer_going_that_may_end(make_engine: MakeEngine, loaded: LoadedModel) -> None:
    answers = Answers(make_engine())
    (eos,) = loaded.eos_ids
    request = {"prompt": "a", "logit_bias": {eos: 10_000.0}, "response_format": regex("[a-z]+")}
    answers.submit(1, **request)
    answers.submit(2, **request, min_tokens=12)
    answers.submit(3, prompt="a", min_tokens=12, response_format=regex("[a-z]{2}"))
    answers.finish()
    assert len(answers.tokens[1]) == 1 and len(answers.tokens[2]) == 12
    assert re.fullmatch("[a-z]{2}", answers.texts[3]), "nothing may follow, so it ends all the same"
    assert {finish_reason(answers, call) for call in (1, 2, 3)} == {"stop"}


def test_row_that_cannot_go_on_fails_alone(
    make_engine: MakeEngine, endless: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    spell = Vocabulary.spell
    monkeypatch.setattr(
        Vocabulary,
        "spell",
        lambda self, names, size: [b"" if b"q" in one else one for one in spell(self, names, size)],
    )
    answers = Answers(make_engine(endless))
    answers.submit(1, prompt="a", response_format=regex("[xy]{3}q"))
    answers.submit(2, prompt="a", response_format=regex("[xy]{9}"))
    answers.submit(3, prompt="a", max_tokens=20)
    answers.finish()
    error = answers.last[1].error
    assert isinstance(error, InvalidArgument) and error.details == {"field": "response_format"}
    assert "no token of the model's goes on here" in error.message
    assert re.fullmatch("[xy]{3}", answers.texts[1])
    assert re.fullmatch("[xy]{9}", answers.texts[2]) and len(answers.tokens[3]) == 20


def test_special_tokens_are_no_text(make_engine: MakeEngine, loaded: LoadedModel) -> None:
    """Their names may be written, in ordinary tokens."""
    (eos,) = loaded.eos_ids
    answers = Answers(make_engine())
    answers.submit(1, prompt="a", logit_bias={0: 10_000.0, eos: 10_000.0}, response_format=choice("<s></s>"))
    answers.finish()
    assert answers.texts[1] == "<s></s>"
    assert not {0, eos} & set(answers.tokens[1])


def test_ignore_eos_is_refused_by_name(answers: Answers) -> None:
    with pytest.raises(InvalidArgument) as caught:
        answers.submit(1, prompt="a", ignore_eos=True, response_format=regex("a+"))
    assert caught.value.details["field"] == "ignore_eos"


@pytest.fixture(scope="module")
def spm(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("models") / "spm"
    save_model(folder)
    save_tokenizer(spm_tokenizer(), folder)
    return load(folder, "spm")


def test_sentencepiece_answers_have_every_space(make_engine: MakeEngine, spm: LoadedModel) -> None:
    """Without a format the one at the beginning, which such tokenizers put before the first word, is dropped."""
    answers = Answers(make_engine(spm))
    answers.submit(1, prompt="the dog", response_format=choice(" the cow"))
    answers.submit(2, prompt="the dog", response_format=choice("the  日本 😀"))
    answers.submit(3, prompt="the dog", temperature=1.0, seed=3, response_format=schema(PERSON))
    answers.finish()
    assert answers.texts[1] == " the cow" and answers.texts[2] == "the  日本 😀"
    assert keeps_to(answers.texts[3], {"type": "json_schema", "schema": PERSON})


def test_tokenizer_whose_tokens_have_no_bytes_is_refused_by_name(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    save_model(tmp_path)
    save_tokenizer(metaspace_tokenizer(), tmp_path)
    answers = Answers(make_engine(load(tmp_path, "metaspace")))
    with pytest.raises(Unsupported, match="those of metaspace do not") as caught:
        answers.submit(1, prompt="the", response_format=regex("a+"))
    assert caught.value.details == {"field": "response_format"}
    answers.submit(1, prompt="the", max_tokens=3)
    answers.finish()


def test_lane_without_constraints_keeps_its_order(
    make_engine: MakeEngine, endless: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice of the next tokens is started before those before them are read."""
    monkeypatch.setattr(Masks, "__init__", lambda *_: pytest.fail("masks of free rows"))
    answers = Answers(make_engine(endless))
    answers.submit(1, prompt="a", max_tokens=5)
    answers.step(2)
    (lane,) = answers.engine._lanes._lanes
    assert lane._unread is not None and lane._logits is None
    answers.finish()
    assert isinstance(answers.engine._lanes, Lanes)


def test_what_is_looked_at_beside_a_forward_pass_is_nobody_elses(
    make_engine: MakeEngine, endless: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No array that the pass takes, also where a lane gets its first constrained row, and nothing that lanes share."""
    beside: list[str] = []

    def watch(owner: type, method: str) -> None:
        real = getattr(owner, method)

        def watched(self: Any, *arguments: Any, **options: Any) -> Any:
            if current_thread() is not main_thread():
                is_taken = isinstance(self, Drawn) and self.told is self.tokens
                beside.append("what the pass takes" if is_taken else method)
            return real(self, *arguments, **options)

        monkeypatch.setattr(owner, method, watched)

    watch(Drawn, "read")
    for method in ("hear", "lap", "remove"):
        watch(Drafting, method)
    answers = Answers(make_engine(endless))
    for call in range(2):  # the second time the grammar is known, and the row joins at once
        answers.submit(2 * call, prompt="a", max_tokens=200, speculation="ngram")
        answers.step(5)
        answers.submit(2 * call + 1, prompt="b", max_tokens=20, response_format=regex("[xyz]+"))
        answers.finish()
    assert all(row.error is None for row in answers.last.values())
    assert set(beside) == {"read"}


def test_model_that_fails_beside_constrained_rows(
    make_engine: MakeEngine, endless: LoadedModel, undisturbed: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Suspects draw a token alone, constrained ones too, and go on where they were."""
    real = type(endless.model).__call__
    poison = 17

    def picky(self: Any, inputs: mx.array, *arguments: Any, **options: Any) -> Any:
        if mx.any(inputs == poison).item():
            raise ValueError("indigestible")
        return real(self, inputs, *arguments, **options)

    answers = Answers(make_engine(endless))
    monkeypatch.setattr(type(endless.model), "__call__", picky)
    for call in range(8):
        answers.submit(call, **interrupted(call))
    answers.step(6)
    answers.submit(50, prompt=[3, 4, poison], max_tokens=5)
    answers.finish()
    assert isinstance(answers.last[50].error, InternalError)
    fine = [call for call in range(8) if answers.last[call].error is None]
    assert len(fine) >= 4
    for call in fine:
        assert answers.tokens[call] == undisturbed.tokens[call]
