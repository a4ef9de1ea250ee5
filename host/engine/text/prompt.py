"""From what a caller sends to the token ids a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from mlxbridge.errors import ContextTooLong, InvalidArgument
from mlxbridge.host.engine.interface import DEFAULT_MAX_TOKENS, GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.refusal import invalid
from mlxbridge.host.engine.text.chat import Chat
from mlxbridge.host.engine.text.tokens import encode_text


def encode_prompt(loaded: LoadedModel, request: GenerateRequest) -> list[int]:
    """Token ids of a request's messages, text or ids; never empty, every id in the model's vocabulary.

    Text is encoded as mlx_lm.generate does it: special tokens are added unless the text already starts with
    BOS.

    Raises:
        InvalidArgument: empty, of a wrong shape, or refused by the chat template.
        Unsupported: a message, or what goes to the chat template beside it, is what that cannot honour.
        ContextTooLong: the text cannot fit, however well it is encoded; encoding it would stop other calls for long.
    """
    if request.messages is not None:
        return _in_vocabulary(_encode_chat(loaded, request), loaded, "messages")
    prompt: Any = request.prompt
    ids = _encode_text(loaded, prompt) if isinstance(prompt, str) else _check_ids(prompt)
    return _in_vocabulary(ids, loaded, "prompt")


def token_limit(loaded: LoadedModel, num_prompt: int, max_tokens: int | None) -> int:
    """How many tokens a call may generate after a prompt of ``num_prompt`` tokens.

    A number from the caller is kept or refused, never lowered: a shorter answer would look like the model's
    own choice.

    Raises:
        ContextTooLong: the prompt alone, or with ``max_tokens``, does not fit.
    """
    if loaded.context_length is None:
        return max_tokens or DEFAULT_MAX_TOKENS
    room = loaded.context_length - num_prompt
    if room < 1:
        raise _too_long(
            loaded,
            num_prompt,
            max_tokens,
            f"the prompt has {num_prompt} tokens, which leaves no room for an answer",
        )
    if max_tokens is not None and max_tokens > room:
        raise _too_long(
            loaded,
            num_prompt,
            max_tokens,
            f"the prompt has {num_prompt} tokens and max_tokens is {max_tokens}, "
            f"together {num_prompt + max_tokens}; ask for at most {room}",
        )
    return max_tokens or min(room, DEFAULT_MAX_TOKENS)


def _too_long(loaded: LoadedModel, num_prompt: int, max_tokens: int | None, why: str) -> ContextTooLong:
    details = {"prompt_tokens": num_prompt, "max_tokens": max_tokens, "context_length": loaded.context_length}
    return ContextTooLong(
        f"the context of {loaded.name} is {loaded.context_length} tokens: {why}", details=details
    )


def _encode_chat(loaded: LoadedModel, request: GenerateRequest) -> list[int]:
    chat = Chat(loaded, request)
    if chat.num_chars > _most_chars(loaded):
        # A template may leave parts out, so only what it makes of them counts.
        _check_length(loaded, chat.render())
    return chat.encode()


def _most_chars(loaded: LoadedModel) -> float:
    return inf if loaded.context_length is None else loaded.context_length * loaded.longest_token


def _check_length(loaded: LoadedModel, text: str) -> None:
    """Refuse a text of more characters than the context's tokens have; those that a tokenizer drops count too."""
    if len(text) > _most_chars(loaded):
        raise ContextTooLong(
            f"the context of {loaded.name} is {loaded.context_length} tokens of at most {loaded.longest_token} "
            f"characters: the prompt has {len(text)} characters",
            details={"prompt_characters": len(text), "context_length": loaded.context_length},
        )


def _encode_text(loaded: LoadedModel, text: str) -> list[int]:
    if not text:
        raise invalid("prompt", "is empty")
    _check_length(loaded, text)
    return encode_text(loaded, text)


def _check_ids(ids: Any) -> list[int]:
    if isinstance(ids, bytes | Mapping) or not isinstance(ids, Sequence):
        raise invalid("prompt", f"must be text or a list of token ids, not {type(ids).__name__}")
    if set(map(type, ids)) - {int}:  # a loop would hold running answers up for a millisecond
        index, token = next((index, token) for index, token in enumerate(ids) if type(token) is not int)
        raise invalid(f"prompt[{index}]", f"must be a token id, not {token!r}")
    return list(ids)


def _in_vocabulary(ids: list[int], loaded: LoadedModel, field: str) -> list[int]:
    if not ids:
        raise invalid(field, "is empty")
    if min(ids) < 0 or max(ids) >= loaded.vocabulary_size:
        raise _outside(ids, loaded, field)
    return ids


def _outside(ids: list[int], loaded: LoadedModel, field: str) -> InvalidArgument:
    index = next(i for i, token in enumerate(ids) if not 0 <= token < loaded.vocabulary_size)
    return invalid(
        f"{field}[{index}]" if field == "prompt" else field,
        f"holds token {ids[index]}, but the ids of {loaded.name} end at {loaded.vocabulary_size - 1}",
    )
