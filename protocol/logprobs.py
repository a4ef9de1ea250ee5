"""What is told of one token's probabilities, as the byte string that it is in TOKENS (SPEC.md §10)."""

from __future__ import annotations

from struct import Struct
from typing import Any

from mlxbridge.errors import RemoteProtocolError
from mlxbridge.types import TokenLogprob, TokenLogprobs

_CANDIDATE = Struct("<IfH")
"""Token id, logprob, length of the token's bytes, which follow. A float32 holds all that an engine computes."""

MAX_TOKEN_BYTES = 0xFFFF

_BYTES = {bytes}


def encode_logprobs(token: TokenLogprobs) -> bytes:
    """The chosen token first, then the likeliest, best first; of a text that is longer, ``MAX_TOKEN_BYTES``."""
    pack = _CANDIDATE.pack
    parts: list[bytes] = []
    for token_id, logprob, data in (token.chosen, *token.top):
        if len(data) > MAX_TOKEN_BYTES:
            data = data[:MAX_TOKEN_BYTES]
        parts += pack(token_id, logprob, len(data)), data
    return b"".join(parts)


def decode_logprobs(data: bytes) -> TokenLogprobs:
    """The reverse of ``encode_logprobs``; logprobs are float32 values.

    Raises:
        RemoteProtocolError: the bytes are not one candidate or more.
    """
    candidates: list[TokenLogprob] = []
    position, end = 0, len(data)
    while position < end or not candidates:
        start = position + _CANDIDATE.size
        if start > end:
            raise RemoteProtocolError("TOKENS: a token's logprobs are cut off")
        token_id, logprob, num_bytes = _CANDIDATE.unpack_from(data, position)
        position = start + num_bytes
        candidates.append(TokenLogprob(token_id, logprob, data[start:position]))
    if position > end:
        raise RemoteProtocolError("TOKENS: a token's logprobs are cut off")
    return TokenLogprobs(candidates[0], tuple(candidates[1:]))


def check_logprobs(column: Any, token_ids: list[list[int]]) -> None:
    """Refuse what is no fourth list of a TOKENS head, nor nil.

    Raises:
        RemoteProtocolError: it is not as long as the others, or a row has not one byte string for each of its tokens.
    """
    if type(column) is not list or len(column) != len(token_ids):
        raise RemoteProtocolError("TOKENS: logprobs must be a list as long as the others")
    for row, ids in zip(column, token_ids, strict=True):
        if row is not None and not (
            type(row) is list and len(row) == len(ids) and _BYTES.issuperset(map(type, row))
        ):
            raise RemoteProtocolError("TOKENS: a row's logprobs must be nil or one byte string a token")
