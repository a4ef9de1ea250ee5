"""One token's logprobs as bytes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxbridge.errors import RemoteProtocolError
from mlxbridge.protocol.logprobs import MAX_TOKEN_BYTES, decode_logprobs, encode_logprobs
from mlxbridge.types import TokenLogprob, TokenLogprobs

candidates = st.builds(
    TokenLogprob,
    st.integers(0, (1 << 32) - 1),
    st.floats(width=32, max_value=0.0),
    st.binary(max_size=70),
)
tokens = st.builds(TokenLogprobs, candidates, st.lists(candidates, max_size=20).map(tuple))


@given(token=tokens)
def test_what_is_encoded_is_decoded_again(token: TokenLogprobs) -> None:
    assert decode_logprobs(encode_logprobs(token)) == token


def test_longer_text_than_fits_is_cut() -> None:
    short, long = TokenLogprob(1, -1.0, b"a"), TokenLogprob(2, -2.0, b"x" * 70_000)
    found = decode_logprobs(encode_logprobs(TokenLogprobs(long, (short, long))))
    cut = TokenLogprob(2, -2.0, b"x" * MAX_TOKEN_BYTES)
    assert found == TokenLogprobs(cut, (short, cut))


@given(token=tokens, cut=st.integers(min_value=1))
def test_bytes_that_are_cut_are_refused_or_have_fewer_candidates(token: TokenLogprobs, cut: int) -> None:
    data = encode_logprobs(token)
    try:
        found = decode_logprobs(data[: -(cut % len(data) or len(data))])
    except RemoteProtocolError:
        return
    assert (found.chosen, *found.top) == (token.chosen, *token.top)[: 1 + len(found.top)]
    assert len(found.top) < len(token.top)


@given(data=st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        token = decode_logprobs(data)
    except RemoteProtocolError:
        return
    if not math.isnan(sum(candidate.logprob for candidate in (token.chosen, *token.top))):
        assert encode_logprobs(token) == data


@pytest.mark.parametrize("data", [b"", bytes(9), bytes(11), bytes(8) + b"\x01\x00"])
def test_bytes_that_are_no_candidate_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="cut off"):
        decode_logprobs(data)
