"""What is asked of a model's tokenizer alone, and what any of them would refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.refusal import invalid, shown

# So much takes about a second, and its token ids at most as much memory as a head may have.
MAX_CHARS = 1 << 20
# Decoding them keeps running answers waiting, for some hundredths of a second.
MAX_TOKENS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeRequest:
    """The tokens that a model reads of a text or a chat.

    Attributes:
        source: the text as ``prompt``, or the chat as ``messages`` with all that goes through the template beside them.
        add_special_tokens: what the tokenizer puts around a text; None: as ``generate`` has it. Not for a chat.
        add_generation_prompt: whether a chat ends with what begins an answer.
        count_only: only their number is wanted.
    """

    source: GenerateRequest
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    count_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeRequest:
    """The text of tokens.

    Attributes:
        token_ids: of the model's vocabulary.
        skip_special_tokens: whether special tokens are left out.
    """

    token_ids: Sequence[int]
    skip_special_tokens: bool = False


def check_tokenize(request: TokenizeRequest) -> None:
    """Check what ``check_request`` does not, of everything that needs no model.

    Raises:
        InvalidArgument: a field has a wrong type or value; ``details["field"]`` names it.
    """
    text: Any = request.source.prompt
    if text is not None and not isinstance(text, str):
        raise invalid("prompt", "must be a text: these are tokens already")
    if text is not None:
        check_num_chars("prompt", len(text))
    for field in ("add_special_tokens", "add_generation_prompt", "count_only"):
        value = getattr(request, field)
        if not isinstance(value, bool) and (field != "add_special_tokens" or value is not None):
            raise invalid(field, f"must be true or false, not {shown(value)}")
    if text is None and request.add_special_tokens is not None:
        raise invalid("add_special_tokens", "is for a text: in a chat the template has them")
    if text is not None and not request.add_generation_prompt:
        raise invalid("add_generation_prompt", "needs messages: nothing is put behind a text")


def check_detokenize(request: DetokenizeRequest) -> None:
    """Check everything that needs no model.

    Raises:
        InvalidArgument: a field has a wrong type or value; ``details["field"]`` names it.
    """
    num_tokens = len(request.token_ids)
    if num_tokens > MAX_TOKENS:
        raise invalid("token_ids", f"has {num_tokens} tokens; a call takes {MAX_TOKENS}: make several calls")
    if not isinstance(request.skip_special_tokens, bool):
        raise invalid(
            "skip_special_tokens", f"must be true or false, not {shown(request.skip_special_tokens)}"
        )


def check_num_chars(field: str, num_chars: int) -> None:
    """Refuse what would take too long.

    Raises:
        InvalidArgument: it has over ``MAX_CHARS`` characters.
    """
    if num_chars > MAX_CHARS:
        raise invalid(field, f"has {num_chars} characters; a call takes {MAX_CHARS}: make several calls")
