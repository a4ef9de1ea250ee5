"""Answers as the command line shows them: text and figures for people, plain values for JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from mlxbridge.errors import BridgeError

if TYPE_CHECKING:
    from mlxbridge.guest.conversation import ConversationStream
    from mlxbridge.guest.streams import TokenStream
    from mlxbridge.types import Generation, Outcome, TokenLogprob, TokenLogprobs


_CONTROLS = {
    code: ascii(chr(code))[1:-1] for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"
}
"""Characters that terminals obey (ECMA-48's C0 and C1), each as an escape."""


def harmless(text: str, file: TextIO | None = None) -> str:
    """A text that others wrote, as it is to be printed: to a terminal with its control characters as escapes.

    Args:
        text: of a model, or out of a model's files, say.
        file: where it is printed; stdout if left out.
    """
    if not (sys.stdout if file is None else file).isatty():
        return text
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def print_stream(stream: TokenStream | ConversationStream) -> None:
    """Print an answer as it comes, to its end or until that fails; nothing at all if it fails before there is any text."""
    is_refused = False
    try:
        with stream:
            for chunk in stream:
                print(harmless(str(chunk)), end="", flush=True)
    except BridgeError:
        is_refused = not stream.text
        raise
    finally:
        if not is_refused:
            print(flush=True)


def print_logprobs(generation: Generation) -> None:
    """A line for each token, below an empty one: what it is, its logprob, and the likeliest as many as were asked for.

    A token without text is shown as its number.
    """
    print()
    for token in generation.logprobs or ():
        line = _describe_token(token.chosen)
        if token.top:
            line += " of " + ", ".join(map(_describe_token, token.top))
        print(harmless(line))


def print_json(value: Any) -> None:
    """A document on a line of its own."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
        is_plain = harmless(text) == text
    except UnicodeEncodeError:  # such as half of a character, which JSON can escape
        is_plain = False
    print(text if is_plain else json.dumps(value, default=str), flush=True)


def print_answers(answers: list[Generation]) -> None:
    """Print several answers, each below a line that says which one it is."""
    for number, answer in enumerate(answers, 1):
        if len(answers) > 1:
            print(f"--- {number} of {len(answers)}")
        print(harmless(str(answer)))
        if answer.logprobs is not None:
            print_logprobs(answer)


def describe(generation: Generation) -> str:
    """One line about an answer's cost."""
    speed = f"{generation.tokens_per_second:.0f} tokens/s" if generation.tokens_per_second else "one step"
    usage = generation.usage
    drafts = (
        f", {usage.accepted_tokens} of {usage.draft_tokens} drafted tokens accepted"
        if usage.draft_tokens
        else ""
    )
    return (
        f"{generation.completion_tokens} tokens, {speed}, first token after "
        f"{generation.time_to_first_token * 1000:.0f} ms{drafts}, ended by {generation.finish_reason}"
    )


def plain(generation: Generation) -> dict[str, Any]:
    """A ``Generation`` for JSON, by the names of its fields.

    A token in ``logprobs`` is ``{"token_id", "logprob", "text", "bytes"}``, since its text may be a part of a character;
    the one that was chosen has ``top`` besides.
    """
    logprobs = generation.logprobs
    values = asdict(generation)
    values.pop("response_format", None)  # of a ``TypedGeneration``: what was asked, not what was answered
    return {
        **values,
        "logprobs": None if logprobs is None else [_plain_choice(token) for token in logprobs],
    }


def plain_outcome(outcome: Outcome) -> dict[str, Any]:
    """An ``Outcome`` for JSON, but for its index: the answer with its ``usage``, or the ``error``; logprobs as in ``plain``."""
    if outcome.error is not None:
        return {"error": plain_error(outcome.error)}
    assert outcome.usage is not None
    shown: dict[str, Any] = {
        "text": outcome.text,
        "token_ids": outcome.token_ids,
        "usage": asdict(outcome.usage),
    }
    if outcome.reasoning:
        shown["reasoning"] = outcome.reasoning
    if outcome.tool_calls:
        shown["tool_calls"] = [asdict(call) for call in outcome.tool_calls]
    if outcome.logprobs is not None:
        shown["logprobs"] = [_plain_choice(token) for token in outcome.logprobs]
    return shown


def plain_error(error: BridgeError) -> dict[str, Any]:
    """An error for JSON."""
    return {
        "name": type(error).__name__,
        "message": error.message,
        "retryable": error.retryable,
        "details": error.details,
    }


def _plain_choice(token: TokenLogprobs) -> dict[str, Any]:
    return {**_plain_token(token.chosen), "top": [_plain_token(other) for other in token.top]}


def _plain_token(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token_id": token.token_id,
        "logprob": token.logprob,
        "text": token.data.decode(errors="replace"),
        "bytes": list(token.data),
    }


def _describe_token(token: TokenLogprob) -> str:
    text = (
        json.dumps(token.data.decode(errors="replace"), ensure_ascii=False) if token.data else token.token_id
    )
    return f"{text} {token.logprob:.2f}"
