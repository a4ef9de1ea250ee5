"""What a connection tells its owner. Tuples, since a busy connection makes one for every frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mlxbridge.errors import BridgeError
from mlxbridge.protocol.limits import Limits
from mlxbridge.protocol.parts import Part


class Ready(NamedTuple):
    """The handshake is over. ``peer`` is the other side; ``identity`` the guest's proven name, if it has one."""

    peer: PeerInfo
    identity: str | None


class PeerInfo(NamedTuple):
    """What the peer's HELLO said."""

    software: str
    version: int
    features: frozenset[str]
    limits: Limits
    passive: bool


class CallOpened(NamedTuple):
    """Host side: a guest opened a call. ``deadline_ms`` is the time it has left, None for no limit."""

    call: int
    method: str
    params: Mapping[str, Any]
    deadline_ms: int | None


class CallCancelled(NamedTuple):
    """Host side: the guest no longer wants the call; it must still be finished or failed once."""

    call: int


class TokensReceived(NamedTuple):
    """Guest side: a step's tokens in columns of equal length, one row a call.

    ``logprobs`` is None, or has for each row None or one byte string a token (``protocol.logprobs``); ``parts`` is None,
    or has for each row None or what of the answer is not text (``protocol.parts``).
    """

    calls: list[int]
    token_ids: list[list[int]]
    texts: list[str]
    logprobs: list[list[bytes] | None] | None = None
    parts: list[list[Part] | None] | None = None


class ItemReceived(NamedTuple):
    """Guest side: one item of a call's stream."""

    call: int
    value: Any


class DataReceived(NamedTuple):
    """A whole payload. ``data`` is the buffer it was read into; ``meta`` came with its first piece."""

    call: int
    meta: Mapping[str, Any]
    data: memoryview


class PieceReceived(NamedTuple):
    """A piece of a payload, for one who passes payloads on. ``meta``, None but for the first, tells ``nbytes`` of all."""

    call: int
    meta: Mapping[str, Any] | None
    data: memoryview


class ResultReceived(NamedTuple):
    """Guest side: the call ended well."""

    call: int
    result: Mapping[str, Any]


class ErrorReceived(NamedTuple):
    """Guest side: the call ended badly."""

    call: int
    error: BridgeError


class PongReceived(NamedTuple):
    """The answer to a ``ping``."""

    body: bytes


class GoawayReceived(NamedTuple):
    """The peer takes no more calls; open ones go on for at most ``drain_ms``."""

    error: BridgeError
    drain_ms: int


class Cut(NamedTuple):
    """The transport is lost, and the calls are not. ``error`` says why."""

    error: BridgeError


class ResumeAsked(NamedTuple):
    """Host side: a guest has come back, over this connection, for the calls of the one that it names.

    Whoever knows that one and its secret calls its ``welcome_back``; or else this one is closed with ``Gone``. ``received`` are the
    message frames that the guest has got; ``identity`` is its proven name, if it has one.
    """

    link: bytes
    secret: bytes
    received: int
    identity: str | None


class Resumed(NamedTuple):
    """The connection goes on over another transport, and nothing is lost."""


class Closed(NamedTuple):
    """Last event. ``error`` says why; None after an orderly end."""

    error: BridgeError | None


Event = (
    Ready
    | CallOpened
    | CallCancelled
    | TokensReceived
    | ItemReceived
    | DataReceived
    | PieceReceived
    | ResultReceived
    | ErrorReceived
    | PongReceived
    | GoawayReceived
    | Cut
    | ResumeAsked
    | Resumed
    | Closed
)
