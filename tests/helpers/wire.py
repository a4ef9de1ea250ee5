"""Two ends of a connection with nothing between them, frames made by hand, and events as plain values."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgpack

from mlxbridge.errors import BridgeError
from mlxbridge.protocol import GuestConnection, HostConnection, Token, Windows
from mlxbridge.protocol.connection import Connection
from mlxbridge.protocol.events import (
    Closed,
    DataReceived,
    ErrorReceived,
    Event,
    GoawayReceived,
    Ready,
    TokensReceived,
)
from mlxbridge.protocol.frames import CHECKED_HEADER_BYTES, HEADER, HEADER_BYTES, MAGIC, FrameType

GUEST_NONCE = bytes(range(32))
HOST_NONCE = bytes(range(32, 64))
SECRET = b"correct horse battery"


def make_guest(**options: Any) -> GuestConnection:
    return GuestConnection(**{"software": "guest/1", "nonce": GUEST_NONCE, **options})


def make_host(**options: Any) -> HostConnection:
    return HostConnection(**{"software": "host/1", "nonce": HOST_NONCE, **options})


def unsent(connection: Connection) -> bytes:
    """Everything the connection has to say now."""
    said = bytearray()
    while parts := connection.data_to_send():
        for part in parts:
            said += part
    return bytes(said)


def pump(*pair: Connection) -> None:
    """Carry bytes between the two until neither has any left."""
    one, other = pair
    while moved := [(unsent(one), other), (unsent(other), one)]:
        if not any(data for data, _ in moved):
            return
        for data, receiver in moved:
            receiver.receive_data(data)


def make_pair(
    *, guest: Mapping[str, Any] | None = None, host: Mapping[str, Any] | None = None
) -> tuple[GuestConnection, HostConnection]:
    """A guest and a host after their handshake, without events."""
    ends = make_guest(**guest or {}), make_host(**host or {})
    pump(*ends)
    for end in ends:
        (event,) = end.events()
        assert isinstance(event, Ready), event
    return ends


def make_pair_with_token(name: str = "alice") -> tuple[GuestConnection, HostConnection]:
    return make_pair(guest={"token": Token(name, SECRET)}, host={"tokens": {name: SECRET}})


def open_calls(
    guest: GuestConnection, host: HostConnection, count: int = 1, windows: Windows | None = None
) -> list[int]:
    """Calls that the host has just heard of."""
    calls = [guest.open_call("work", {}, windows=windows) for _ in range(count)]
    pump(guest, host)
    assert len(host.events()) == count
    return calls


def raw(
    kind: int,
    call: int = 0,
    head: bytes = b"",
    payload: bytes = b"",
    *,
    flags: int = 0,
    reserved: int = 0,
    length: int | None = None,
    head_length: int | None = None,
) -> bytes:
    """A frame of any kind, right or wrong."""
    return (
        HEADER.pack(
            len(head) + len(payload) if length is None else length,
            len(head) if head_length is None else head_length,
            call,
            kind,
            flags,
            reserved,
        )
        + head
        + payload
    )


def pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


def frame(kind: int, call: int = 0, value: Any = None, payload: bytes = b"", *, flags: int = 0) -> bytes:
    """A frame with ``value`` as its head; None stands for no head."""
    return raw(kind, call, b"" if value is None else pack(value), payload, flags=flags)


def frames_in(data: bytes, *, is_checked: bool = False) -> Iterator[tuple[FrameType, int, int, bytes, bytes]]:
    """Type, call, flags, head and payload of each frame, after the magic if there is one; those but HELLO may have checksums."""
    position = len(MAGIC) if data.startswith(MAGIC) else 0
    while position < len(data):
        length, head_length, call, kind, flags, reserved = HEADER.unpack_from(data, position)
        if is_checked and kind != FrameType.HELLO:
            position += CHECKED_HEADER_BYTES
        else:
            assert reserved == 0
            position += HEADER_BYTES
        assert position + length <= len(data)
        body = data[position : position + length]
        yield FrameType(kind), call, flags, body[:head_length], body[head_length:]
        position += length


def kinds_in(data: bytes) -> list[str]:
    return [kind.name for kind, *_ in frames_in(data)]


def chunks_of(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def plain(value: Any) -> Any:
    """The value as JSON has it, with byte strings as {"hex": …}."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"hex": bytes(value).hex()}
    if isinstance(value, Mapping):
        return {key: plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return value


def unplain(value: Any) -> Any:
    """The reverse of ``plain``, but for tuples."""
    if isinstance(value, dict):
        if value.keys() == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {key: unplain(member) for key, member in value.items()}
    return [unplain(member) for member in value] if isinstance(value, list) else value


def plain_error(error: BridgeError | None) -> Any:
    if error is None:
        return None
    return {"name": type(error).__name__, "code": error.code, "message": error.message}


def plain_event(event: Event) -> dict[str, Any]:
    """The event as a vector writes it."""
    shown: dict[str, Any] = {"event": type(event).__name__}
    if isinstance(event, Ready):
        peer = event.peer
        return {**shown, "identity": event.identity, "software": peer.software, "version": peer.version}
    if isinstance(event, Closed):
        return {**shown, "error": plain_error(event.error)}
    if isinstance(event, GoawayReceived):
        return {**shown, "error": plain_error(event.error), "drain_ms": event.drain_ms}
    if isinstance(event, ErrorReceived):
        error = event.error
        return {**shown, "call": event.call, "error": plain_error(error), "retryable": error.retryable}
    if isinstance(event, DataReceived):
        return {**shown, "call": event.call, "meta": plain(event.meta), "data": plain(event.data)}
    fields = event._asdict()
    if isinstance(event, TokensReceived):
        fields = {name: column for name, column in fields.items() if column is not None}
    return {**shown, **plain(fields)}


def plain_events(events: Iterable[Event]) -> list[dict[str, Any]]:
    return [plain_event(event) for event in events]


def feed(connection: Connection, data: bytes, size: int) -> list[dict[str, Any]]:
    """The events that ``data`` gives in chunks of ``size`` bytes, read the way a transport reads."""
    events: list[dict[str, Any]] = []
    for chunk in chunks_of(data, size):
        rest = memoryview(chunk)
        while rest:
            room = connection.receive_buffer()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            connection.received(count)
            rest = rest[count:]
        events += plain_events(connection.events())
    return events
