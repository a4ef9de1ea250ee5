"""What is wrong with an answer, said in words; nothing if it is right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.soak.answers import Answer
from mlxbridge.errors import DeadlineExceeded, InternalError
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.types import TokenLogprob, TokenLogprobs

MAX_LOGPROB_ERROR = 1e-4
# Parts of an end that do not depend on what else runs.
_FACTS = ("finish_reason", "prompt_tokens", "completion_tokens", "stop_string", "stop_token_id")


def differences(answer: Answer, alone: Answer, *, may_be_late: bool = False) -> Iterator[str]:
    """Between an answer in company and the same alone; one that was given up must be a beginning of it."""
    is_late = may_be_late and isinstance(answer.error, DeadlineExceeded)
    if is_late or _reason(answer) == "cancelled" or _is_ended_by_unread_token(answer, alone):
        yield from _beginning(answer, alone)
    elif type(answer.error) is not type(alone.error):
        yield f"ended with {answer.error!r} after {len(answer.token_ids)}, alone with {alone.error!r}"
    elif answer.error is not None:
        yield from _beginning(answer, alone)
        if len(answer.token_ids) < len(alone.token_ids):
            yield f"failed after {len(answer.token_ids)} tokens, alone after {len(alone.token_ids)}"
    else:
        if answer.token_ids != alone.token_ids:
            yield f"tokens {_parting(answer.token_ids, alone.token_ids)}"
        if answer.text != alone.text:
            yield f"text {answer.text!a}, alone {alone.text!a}"
        for name in _FACTS:
            found, expected = getattr(answer.usage, name, None), getattr(alone.usage, name, None)
            if found != expected:
                yield f"{name} {found!r}, alone {expected!r}"
    asked = bool(alone.logprobs) or not alone.token_ids
    if len(answer.logprobs) not in (0, len(answer.token_ids)) or bool(answer.logprobs) > asked:
        yield f"{len(answer.logprobs)} logprobs for {len(answer.token_ids)} tokens"
    yield from _logprob_differences(answer.logprobs, alone.logprobs)


def _is_ended_by_unread_token(answer: Answer, alone: Answer) -> bool:
    """Whether a row failed alone by reading a token that in company, where it is drawn again, ends the answer."""
    is_one_longer = len(answer.token_ids) == len(alone.token_ids) + 1
    return isinstance(alone.error, InternalError) and _reason(answer) == "stop" and is_one_longer


def _reason(answer: Answer) -> str | None:
    return answer.usage.finish_reason if answer.usage is not None else None


def _beginning(answer: Answer, alone: Answer) -> Iterator[str]:
    found, text = answer.token_ids, alone.text
    if alone.usage is not None:
        text += alone.usage.stop_string or ""
    elif len(found) == len(alone.token_ids) + 1:
        # A row that fails has drawn a token that was not read yet. In company it draws that again by itself, and sends
        # it, before it fails; alone it fails at once.
        found, text = found[:-1], text + answer.text[len(text) :]
    if found != alone.token_ids[: len(found)]:
        yield f"given up, tokens {_parting(found, alone.token_ids[: len(found)])}"
    # What was held back comes with a cancel: the beginning of a stop string, the rest of a character.
    if not text.startswith(answer.text.rstrip("\ufffd")):
        yield f"given up, text {answer.text!a}, alone {text!a}"


def _logprob_differences(found: Iterable[TokenLogprobs], expected: Iterable[TokenLogprobs]) -> Iterator[str]:
    for number, (one, other) in enumerate(zip(found, expected, strict=False)):
        pairs: list[tuple[TokenLogprob, TokenLogprob]] = [(one.chosen, other.chosen)]
        pairs += zip(one.top, other.top, strict=False)
        if len(one.top) != len(other.top) or one.chosen.token_id != other.chosen.token_id:
            yield f"logprobs of token {number} are {one}, alone {other}"
        elif any(abs(a.logprob - b.logprob) > MAX_LOGPROB_ERROR for a, b in pairs):
            yield f"logprobs of token {number} differ by more than {MAX_LOGPROB_ERROR}"


def is_mlx_lm_like(request: GenerateRequest) -> bool:
    """Whether mlx_lm's own loop says what the tokens must be."""
    return request.temperature == 0 and not request.min_tokens and request.response_format is None


def mlx_lm_differences(
    request: GenerateRequest, alone: Answer, tokens: Iterable[int], eos_ids: frozenset[int]
) -> Iterator[str]:
    """Between an answer and what mlx_lm draws, with what ought to end it."""
    if alone.usage is None:
        return
    ends = frozenset(request.stop_token_ids) | (frozenset() if request.ignore_eos else eos_ids)
    expected: list[int] = []
    reason = "length"
    for token in tokens:
        if token in ends:
            reason = "stop"
            break
        expected.append(token)
    if alone.usage.stop_string is not None:  # tokens cannot tell where a string ends
        expected, reason = expected[: len(alone.token_ids)], "stop"
    if alone.token_ids != expected:
        yield f"alone, tokens {_parting(alone.token_ids, expected)} in mlx_lm"
    elif alone.usage.finish_reason != reason:
        yield f"alone, finish_reason {alone.usage.finish_reason}, in mlx_lm {reason}"


def _parting(found: list[int], expected: list[int]) -> str:
    pairs = zip(found, expected, strict=False)
    place = next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(found), len(expected)))
    return f"part at {place}: {found[place : place + 3]} of {len(found)}, not {expected[place : place + 3]} of {len(expected)}"
