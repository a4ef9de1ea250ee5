"""What a head may hold, and that nothing else comes in or goes out."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxbridge.protocol.codec import (
    DecodeError,
    EncodeError,
    decode,
    decode_handshake,
    encode_plain,
    make_encoder,
)
from tests.helpers.wire import pack

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary(), inner),
    max_leaves=30,
)


@given(values)
def test_value_round_trips(value: Any) -> None:
    assert decode(encode_plain(make_encoder(), value)) == value


@given(st.binary(max_size=300))
def test_any_bytes_give_a_value_or_decode_error(data: bytes) -> None:
    for decoder in (decode, decode_handshake):
        try:
            decoder(data)
        except DecodeError as error:
            assert len(str(error)) <= 200


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc1", id="the byte that msgpack never uses"),
        pytest.param(b"\x00\x00", id="bytes left over"),
        pytest.param(b"\x92\x00", id="a list cut short"),
        pytest.param(b"\xa1\xff", id="text that is not UTF-8"),
        pytest.param(b"\x81\x01\x01", id="a number as a key"),
        pytest.param(b"\x81\xc0\x01", id="nil as a key"),
        pytest.param(b"\x81\x90\x01", id="a list as a key"),
        pytest.param(b"\xd4\x05\x00", id="an extension type"),
        pytest.param(b"\xc7\x03\xffabc", id="a timestamp of three bytes"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="a list that claims 2^32 members"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="a map that claims 2^32 members"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="bytes that claim 4 GiB"),
        pytest.param(b"\xdb\xff\xff\xff\xff", id="text that claims 4 GiB"),
        pytest.param(b"\xdd\x00\x01\x00\x00" * 1000, id="claims inside claims"),
        pytest.param(b"\x91" * 100_000, id="nested without end"),
        pytest.param(b"\x91" * 5000 + b"\xc0", id="nested 5,000 deep"),
        pytest.param(pack([0] * 65_537), id="a list over 65,536"),
        pytest.param(pack({str(n): n for n in range(4097)}), id="a map over 4,096"),
    ],
)
def test_bad_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)
    with pytest.raises(DecodeError):
        decode_handshake(data)


def test_collections_at_the_bound_are_taken() -> None:
    assert len(decode(pack([0] * 65_536))) == 65_536
    assert len(decode(pack({str(n): n for n in range(4096)}))) == 4096
    assert len(decode_handshake(pack([0] * 64))) == 64
    with pytest.raises(DecodeError):
        decode_handshake(pack([0] * 65))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(object(), id="an object"),
        pytest.param({"a": {1, 2}}, id="a set"),
        pytest.param({1: "a"}, id="a number as a key"),
        pytest.param({"a": {None: 1}}, id="nil as a key"),
        pytest.param("\ud800", id="a lone surrogate"),
        pytest.param(1 << 64, id="a number over 64 bits"),
        pytest.param(-(1 << 63) - 1, id="a number under 64 bits"),
        pytest.param([0] * 65_537, id="a list over 65,536"),
        pytest.param({"a": {str(n): n for n in range(4097)}}, id="a map over 4,096"),
        pytest.param(msgpack.ExtType(5, b""), id="an extension type"),
    ],
)
def test_what_no_peer_could_decode_is_not_encoded(value: Any) -> None:
    encode = make_encoder()
    with pytest.raises(EncodeError):
        encode_plain(encode, value)
    assert encode_plain(encode, {"a": 1}) == pack({"a": 1}), "the encoder is as good as new"


def test_nesting_that_msgpack_cannot_encode_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(EncodeError):
        encode_plain(make_encoder(), deep)
