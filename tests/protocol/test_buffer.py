"""The receive buffer: what goes in comes out, wherever a payload is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxbridge.protocol.buffer import INITIAL_BYTES, ReceiveBuffer
from mlxbridge.protocol.frames import HEADER_BYTES


def readable(buffer: ReceiveBuffer) -> bytes:
    return bytes(buffer.view[buffer.start : buffer.end])


def put(buffer: ReceiveBuffer, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[buffer.write(rest) :]


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 300))))
def test_bytes_come_out_in_order(moves: list[tuple[bytes, int]]) -> None:
    buffer, expected = ReceiveBuffer(), b""
    for data, count in moves:
        put(buffer, data)
        expected += data
        count = min(count, len(expected))
        assert bytes(buffer.view[buffer.start : buffer.start + count]) == expected[:count]
        buffer.skip(count)
        expected = expected[count:]
    assert readable(buffer) == expected


def test_buffer_grows_with_what_arrives_and_shrinks_when_it_is_used() -> None:
    buffer = ReceiveBuffer()
    put(buffer, bytes(INITIAL_BYTES))
    assert len(buffer.view) == INITIAL_BYTES
    put(buffer, b"x")
    assert len(buffer.view) == 2 * INITIAL_BYTES
    buffer.skip(INITIAL_BYTES + 1)
    assert len(buffer.view) == INITIAL_BYTES and buffer.start == buffer.end == 0


def test_buffer_moves_its_bytes_before_it_grows() -> None:
    buffer = ReceiveBuffer()
    put(buffer, bytes(INITIAL_BYTES - 3) + b"abc")
    buffer.skip(INITIAL_BYTES - 3)
    put(buffer, b"def")
    assert readable(buffer) == b"abcdef" and len(buffer.view) == INITIAL_BYTES


@given(
    size=st.integers(1, 200),
    pieces=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    chunk=st.integers(1, 90),
)
def test_payload_is_filled_past_its_headers(size: int, pieces: list[int], chunk: int) -> None:
    """The stream is piece, header, piece, header, …: the sink holds the pieces, the buffer the headers."""
    total = sum(pieces)
    payload = bytes(n % 251 for n in range(total))
    header = b"H" * HEADER_BYTES
    stream, start = b"", 0
    for piece in pieces:
        stream += payload[start : start + piece] + header
        start += piece
    sink = memoryview(bytearray(total))
    buffer, filled, position = ReceiveBuffer(), 0, 0
    for piece in pieces:
        buffer.fill(sink[filled:], piece)
        while buffer.filling or buffer.end - buffer.start < HEADER_BYTES:
            room = buffer.writable()
            assert len(room)
            part = stream[position : position + min(chunk, len(room))]
            room[: len(part)] = part
            buffer.wrote(len(part))
            position += len(part)
        assert bytes(buffer.view[buffer.start : buffer.start + HEADER_BYTES]) == header
        buffer.skip(HEADER_BYTES)
        filled += piece
    assert bytes(sink) == payload and position == len(stream)


def test_what_has_arrived_already_fills_the_sink_at_once() -> None:
    buffer, sink = ReceiveBuffer(), memoryview(bytearray(4))
    put(buffer, b"abcdef")
    buffer.fill(sink, 4)
    assert bytes(sink) == b"abcd" and not buffer.filling and readable(buffer) == b"ef"


@pytest.mark.parametrize("filling", [False, True])
def test_clear_forgets_everything(filling: bool) -> None:
    buffer = ReceiveBuffer()
    if filling:
        buffer.fill(memoryview(bytearray(10)), 10)
    put(buffer, b"abc")
    buffer.clear()
    assert not buffer.filling and readable(buffer) == b""
    put(buffer, b"def")
    assert readable(buffer) == b"def"
