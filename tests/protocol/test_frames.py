"""The header's bytes, and the sets of types that SPEC.md's tables rest on."""

from mlxbridge.protocol.frames import (
    COUNTED,
    HEADER_BYTES,
    MAGIC,
    WITH_PAYLOAD,
    WITHOUT_CALL,
    Flag,
    FrameType,
    encode_frame,
)


def test_header_is_sixteen_little_endian_bytes() -> None:
    data = encode_frame(FrameType.DATA, 0x01020304, b"\xc0", b"abc", Flag.MORE)
    assert HEADER_BYTES == 16 and MAGIC == b"MLXB"
    assert data.hex(" ") == "04 00 00 00 01 00 00 00 04 03 02 01 22 01 00 00 c0 61 62 63"


def test_frame_may_be_empty() -> None:
    assert encode_frame(FrameType.PING, 0) == bytes.fromhex(
        "0000000000000000000000000500 0000".replace(" ", "")
    )


def test_types_below_sixteen_concern_the_connection() -> None:
    assert {kind for kind in FrameType if kind < 16} | {FrameType.TOKENS} == WITHOUT_CALL


def test_control_frames_are_never_counted() -> None:
    assert {kind for kind in FrameType if kind >= 16} - {FrameType.CANCEL, FrameType.CREDIT} == COUNTED


def test_only_data_and_proofs_and_pings_have_payloads() -> None:
    assert {kind.name for kind in WITH_PAYLOAD} == {"HELLO", "AUTH", "PING", "PONG", "DATA"}
