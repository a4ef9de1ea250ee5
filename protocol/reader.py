"""Bytes to frames: cuts what comes over one transport, and hands each frame to the one it is for (SPEC.md §3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from mlxbridge.errors import LimitExceeded, RemoteProtocolError
from mlxbridge.protocol.buffer import ReceiveBuffer
from mlxbridge.protocol.checksum import Checksum, FrameSum
from mlxbridge.protocol.codec import DecodeError, decode, decode_handshake
from mlxbridge.protocol.frames import (
    CHECKED_HEADER_BYTES,
    COUNTED,
    HEADER,
    HEADER_BYTES,
    KNOWN_FLAGS,
    MAGIC,
    WITH_PAYLOAD,
    WITHOUT_CALL,
    Flag,
    FrameType,
)
from mlxbridge.protocol.limits import MAX_HANDSHAKE_HEAD_BYTES, MAX_SMALL_PAYLOAD_BYTES, Limits
from mlxbridge.protocol.state import Role, State, peer_of

Handler = Callable[[int, int, Any, bytes], None]
"""Takes call, flags, decoded head, payload."""

# A member of an enum is looked up through its metaclass in Python 3.11: 0.1 to 0.2 us each time.
_MORE = int(Flag.MORE)
_IGNORABLE = int(Flag.IGNORABLE)
_HELLO, _DATA = int(FrameType.HELLO), int(FrameType.DATA)
_unpack_header = HEADER.unpack_from
_COUNTED = frozenset(map(int, COUNTED))
_WITH_PAYLOAD = frozenset(map(int, WITH_PAYLOAD))
_WITHOUT_CALL = frozenset(map(int, WITHOUT_CALL))


class Receiver(Protocol):
    """Whose frames a reader reads."""

    role: ClassVar[Role]
    limits: Limits

    def begin_piece(self, call: int, flags: int, head: Any, size: int) -> memoryview:
        """A DATA frame begins; where its payload goes, and perhaps that of frames behind it."""

    def end_piece(self) -> None:
        """The piece that began last is whole."""


class FrameReader:
    """What has come over one transport, and not yet been taken.

    Args:
        receiver: takes pieces of payloads, and announced the limits; all other frames go to handlers.

    Attributes:
        buffer: where the next bytes go.
        hello: the head of the peer's HELLO as it was on the wire, once it is there.
        num_counted: message frames that have come.
    """

    def __init__(self, receiver: Receiver) -> None:
        self.buffer = ReceiveBuffer()
        self.hello = b""
        self.num_counted = 0
        self._receiver = receiver
        self._state = State.HELLO
        self._is_open = False
        self._is_stopped = False
        self._handlers: Mapping[int, Handler] = {}
        self._max_head = MAX_HANDSHAKE_HEAD_BYTES
        self._magic_seen = False
        self._checksum: Checksum | None = None
        self._header_bytes = HEADER_BYTES
        self._piece_open = False
        self._piece_view = memoryview(b"")
        self._piece_sum = FrameSum(0, 0)  # of what came before it in its frame

    def expect(self, state: State, handlers: Mapping[int, Handler]) -> None:
        """From the next frame on the connection is in this state, and handles these types; none, if it is closed or cut."""
        self._state = state
        self._is_open = state is State.OPEN
        self._is_stopped = state is State.CLOSED or state is State.CUT
        self._handlers = handlers
        self._max_head = self._receiver.limits.max_head_bytes if self._is_open else MAX_HANDSHAKE_HEAD_BYTES
        if self._is_stopped:
            self.buffer.clear()

    def expect_checksums(self, checksum: Checksum) -> None:
        """From the next frame on all have them."""
        self._checksum = checksum
        self._header_bytes = CHECKED_HEADER_BYTES

    def hand_over(self, receiver: Receiver) -> None:
        """Another connection uses the transport from now on."""
        self._receiver = receiver

    def drop_piece(self) -> None:
        """No more will come: a piece that is not whole does not count."""
        if self._piece_open:
            self._piece_open = False
            self.num_counted -= 1

    def read(self) -> None:
        """Take all frames that are there.

        Raises:
            Damaged: bytes were changed under way.
            BridgeError: the peer has sent what it must not.
        """
        if not self._magic_seen and not self._check_magic():
            return
        while not self._is_stopped and self._read_frame():
            pass

    def _check_magic(self) -> bool:
        buffer = self.buffer
        if buffer.end - buffer.start < len(MAGIC):
            return False
        given = bytes(buffer.view[buffer.start : buffer.start + len(MAGIC)])
        if given != MAGIC:
            raise RemoteProtocolError(
                f"the peer does not speak mlxbridge: it began with {given!r}, not {MAGIC!r}"
            )
        self._magic_seen = True
        buffer.skip(len(MAGIC))
        return True

    def _read_frame(self) -> bool:
        """One frame, or one piece of one; False if more bytes are needed."""
        buffer = self.buffer
        if self._piece_open:
            if buffer.filling:
                return False
            if self._checksum is not None:
                self._piece_sum.check(self._piece_view)
            self._piece_open = False
            self._receiver.end_piece()
        start, have, header_bytes = buffer.start, buffer.end - buffer.start, self._header_bytes
        if have < header_bytes:
            return False
        length, head_length, call, kind, flags, reserved = _unpack_header(buffer.view, start)
        if self._checksum is not None:
            self._checksum.check_header(buffer.view[start : start + HEADER_BYTES], reserved)
            reserved = 0
        handler = self._handlers.get(kind)
        if handler is None or flags or reserved:
            handler = self._check_rare(kind, flags, reserved, length, head_length)
        if head_length > length or head_length > self._max_head or (call == 0) is not (kind in _WITHOUT_CALL):
            self._refuse_header(kind, call, length, head_length)
        payload_length = length - head_length
        is_data = kind == _DATA
        if payload_length and not is_data:
            self._check_small_payload(kind, payload_length)
        body = start + header_bytes
        if have < header_bytes + (head_length if is_data else length):
            return False
        if self._checksum is not None:
            found = self._checksum.read(buffer.view[start : body + (head_length if is_data else length)])
            if is_data:
                self._piece_sum = found  # what is missing is still to come
            else:
                found.check()
        head = None
        if head_length and handler is not _skip:
            head = self._decode_head(kind, buffer.view[body : body + head_length])
        if kind in _COUNTED:
            self.num_counted += 1
        if is_data:
            self._take_piece(call, flags, head, head_length, payload_length)
        else:
            payload = bytes(buffer.view[body + head_length : body + length]) if payload_length else b""
            buffer.skip(header_bytes + length)
            handler(call, flags, head, payload)
        return True

    def _check_rare(self, kind: int, flags: int, reserved: int, length: int, head_length: int) -> Handler:
        """What the common frame does not need: flags, reserved bits, types that are unknown or out of turn."""
        if reserved or flags & ~KNOWN_FLAGS:
            raise RemoteProtocolError(
                f"frame type {kind}: reserved bits are set (flags {flags:#04x}, reserved {reserved:#06x})"
            )
        if flags & _MORE and kind != _DATA:
            raise RemoteProtocolError(f"frame type {kind}: only DATA may have MORE")
        handler = self._handlers.get(kind)
        if handler is not None:
            return handler
        try:
            name = FrameType(kind).name
        except ValueError:
            if flags & _IGNORABLE and self._is_open:
                if length - head_length > self._receiver.limits.max_piece_bytes:
                    raise LimitExceeded(f"frame type {kind}: {length} bytes are too many to skip") from None
                return _skip
            raise RemoteProtocolError(f"frame type {kind} is unknown and not marked ignorable") from None
        raise RemoteProtocolError(
            f"{name} is not allowed from a {peer_of(self._receiver.role).value} while {self._state.value}"
        )

    def _refuse_header(self, kind: int, call: int, length: int, head_length: int) -> None:
        if head_length > length:
            raise RemoteProtocolError(
                f"frame type {kind}: head of {head_length} bytes in a frame of {length}"
            )
        if head_length > self._max_head:
            raise LimitExceeded(f"frame type {kind}: head of {head_length} bytes, at most {self._max_head}")
        if kind in self._handlers:
            raise RemoteProtocolError(
                f"frame type {kind}: call {call} {'on' if call else 'missing on'} a frame that wants {'none' if call else 'one'}"
            )

    def _check_small_payload(self, kind: int, size: int) -> None:
        if kind in self._handlers:
            most = MAX_SMALL_PAYLOAD_BYTES if kind in _WITH_PAYLOAD else 0
            if size > most:
                raise RemoteProtocolError(f"frame type {kind}: payload of {size} bytes, at most {most}")

    def _decode_head(self, kind: int, data: memoryview) -> Any:
        try:
            return decode(data) if self._is_open else self._decode_hello(kind, data)
        except DecodeError as error:
            raise RemoteProtocolError(f"frame type {kind}: head is not valid msgpack ({error})") from error

    def _decode_hello(self, kind: int, data: memoryview) -> Any:
        if kind == _HELLO:
            self.hello = bytes(data)  # both proofs cover it as it was on the wire
        return decode_handshake(data)

    def _take_piece(self, call: int, flags: int, head: Any, head_length: int, size: int) -> None:
        if size > self._receiver.limits.max_piece_bytes:
            raise LimitExceeded(
                f"DATA: piece of {size} bytes, at most {self._receiver.limits.max_piece_bytes}"
            )
        sink = self._receiver.begin_piece(call, flags, head, size)
        self.buffer.skip(self._header_bytes + head_length)
        self._piece_open = True
        self._piece_view = sink[:size]
        if size:
            self.buffer.fill(sink, size)


def _skip(call: int, flags: int, head: Any, payload: bytes) -> None:
    """A frame of an unknown type whose sender marked it as safe to skip; its head is nobody's to judge."""
