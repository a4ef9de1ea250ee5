"""How one call ends where several ends come together."""

from __future__ import annotations

from typing import cast

import pytest

from mlxbridge.errors import InvalidArgument
from mlxbridge.host.engine.call import Call
from mlxbridge.host.engine.choice.logprobs import Likelihoods
from mlxbridge.host.engine.grammar.constraint import Constraint
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.text.detokenize import Vocabulary
from mlxbridge.host.engine.text.stops import StopMatcher

STOP_TOKEN = 7


@pytest.fixture(scope="module")
def vocabulary(loaded: LoadedModel) -> Vocabulary:
    return Vocabulary(loaded.tokenizer)


def token_of(vocabulary: Vocabulary, data: bytes) -> int:
    return next(token for token in range(384) if vocabulary.bytes_of(token) == data)


def call_with(vocabulary: Vocabulary, *stops: str, max_tokens: int = 100) -> Call:
    return Call(
        1,
        job=Job(prompt=[1], max_tokens=max_tokens),
        eos_ids=frozenset({1}),
        stop_token_ids=frozenset({STOP_TOKEN}),
        vocabulary=vocabulary,
        stops=StopMatcher(stops),
    )


def test_stop_string_comes_before_the_last_token_there_may_be(vocabulary: Vocabulary) -> None:
    row = call_with(vocabulary, "a", max_tokens=1).feed([token_of(vocabulary, b"a")], None)
    assert row.usage is not None
    assert (row.text, row.usage.finish_reason, row.usage.stop_string) == ("", "stop", "a")
    assert row.token_ids == [token_of(vocabulary, b"a")]


def test_half_a_character_at_the_end_may_complete_a_stop_string(vocabulary: Vocabulary) -> None:
    half = token_of(vocabulary, b"\xe4")
    row = call_with(vocabulary, "\ufffd", max_tokens=1).feed([half], None)
    assert row.usage is not None
    assert (row.text, row.usage.finish_reason, row.usage.stop_string) == ("", "stop", "\ufffd")
    plain = call_with(vocabulary, max_tokens=1).feed([half], None)
    assert plain.usage is not None
    assert (plain.text, plain.usage.finish_reason, plain.usage.stop_string) == ("\ufffd", "length", None)


def test_of_stop_string_and_stop_token_only_the_first_is_named(vocabulary: Vocabulary) -> None:
    call = call_with(vocabulary, "\ufffd")
    assert call.feed([token_of(vocabulary, b"\xe4")], None).usage is None
    last = call.feed([STOP_TOKEN], None)
    assert last.usage is not None
    assert (last.usage.stop_string, last.usage.stop_token_id) == ("\ufffd", None)
    assert (last.token_ids, last.text, last.usage.completion_tokens) == ([], "", 2)
    other = call_with(vocabulary, "zz").feed([STOP_TOKEN], None)
    assert other.usage is not None and other.usage.stop_token_id == STOP_TOKEN


@pytest.mark.parametrize("data", [b"<eos>", b"<stop>", b"b"])
def test_what_was_held_back_comes_with_the_end(vocabulary: Vocabulary, data: bytes) -> None:
    ends = {b"<eos>": 1, b"<stop>": STOP_TOKEN}
    call = call_with(vocabulary, "aab", max_tokens=2)
    assert call.feed([token_of(vocabulary, b"a")], None).text == ""
    row = call.feed([ends.get(data) or token_of(vocabulary, data)], None)
    assert row.usage is not None
    assert row.usage.finish_reason == ("stop" if data in ends else "length")
    assert row.text == ("a" if data in ends else "ab")


def test_what_was_held_back_comes_with_a_cancel(vocabulary: Vocabulary) -> None:
    call = call_with(vocabulary, "aab")
    assert call.feed([token_of(vocabulary, b"a")], None).text == ""
    row = call.cancel()
    assert row.usage is not None
    assert (row.text, row.usage.finish_reason) == ("a", "cancelled")


class Held:
    """What a call sees of a constraint."""

    has_ended = False
    error: str | None = None
    param = "tool_choice"


def held_call(vocabulary: Vocabulary, *stops: str, max_tokens: int = 100) -> tuple[Call, Held]:
    call, constraint = call_with(vocabulary, *stops, max_tokens=max_tokens), Held()
    call.job.constraint = cast(Constraint, constraint)
    return call, constraint


def test_answer_that_nothing_may_follow_ends_with_its_last_token(vocabulary: Vocabulary) -> None:
    call, constraint = held_call(vocabulary, "ab", max_tokens=2)
    a = token_of(vocabulary, b"a")
    assert call.feed([a], None).usage is None
    constraint.has_ended = True
    row = call.feed([token_of(vocabulary, b"c")], None)
    assert row.usage is not None
    assert (row.text, row.usage.finish_reason, row.usage.completion_tokens) == ("ac", "stop", 2)


def test_answer_that_cannot_go_on_sends_what_it_has_and_fails(vocabulary: Vocabulary) -> None:
    call, constraint = held_call(vocabulary)
    constraint.error = "too much"
    row = call.feed([token_of(vocabulary, b"a")], None)
    assert (row.text, row.token_ids, row.usage) == ("a", [token_of(vocabulary, b"a")], None)
    assert isinstance(row.error, InvalidArgument) and "after 1 tokens: too much" in row.error.message
    assert row.error.details == {"field": "tool_choice"}
    assert call.job.ended


def test_answer_that_need_not_go_on_does_not_fail(vocabulary: Vocabulary) -> None:
    call, constraint = held_call(vocabulary, max_tokens=1)
    constraint.error = "too much"
    row = call.feed([token_of(vocabulary, b"a")], None)
    assert row.error is None and row.usage is not None and row.usage.finish_reason == "length"


def test_several_tokens_of_a_step_are_one_row(vocabulary: Vocabulary) -> None:
    call = call_with(vocabulary, "cd")
    tokens = [token_of(vocabulary, bytes([letter])) for letter in b"abcdef"]
    row = call.feed(tokens[:2], [Likelihoods(-0.5, []), Likelihoods(-1.5, [(3, -0.5)])], num_drafted=4)
    assert (row.token_ids, row.text, row.usage) == (tokens[:2], "ab", None)
    assert row.logprobs is not None
    assert [(each.chosen.token_id, each.chosen.logprob) for each in row.logprobs] == [
        (tokens[0], -0.5),
        (tokens[1], -1.5),
    ]
    last = call.feed(tokens[2:], None, num_drafted=3)
    assert (last.token_ids, last.text) == (tokens[2:4], "")
    assert last.usage is not None and last.usage.stop_string == "cd"
    assert call.job.answer == tokens[:4] and last.usage.completion_tokens == 4
    # Of the first draft one token was right, of the second one three, but only two of them are in the answer.
    assert (last.usage.draft_tokens, last.usage.accepted_tokens) == (7, 3)


@pytest.mark.parametrize("end", [1, STOP_TOKEN])
def test_tokens_behind_an_end_are_dropped(vocabulary: Vocabulary, end: int) -> None:
    letter = token_of(vocabulary, b"a")
    call = call_with(vocabulary)
    row = call.feed([letter, end, letter, letter], None, num_drafted=3)
    assert (row.token_ids, row.text) == ([letter], "a")
    assert row.usage is not None and row.usage.finish_reason == "stop"
    assert row.usage.completion_tokens == len(call.job.answer) == 2
    assert (row.usage.draft_tokens, row.usage.accepted_tokens) == (3, 2)
    short = call_with(vocabulary, max_tokens=3)
    row = short.feed([letter] * 5, None, num_drafted=4)
    assert row.usage is not None and (row.text, row.usage.finish_reason) == ("aaa", "length")
