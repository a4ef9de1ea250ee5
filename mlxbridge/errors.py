"""Every exception of mlxbridge, and the number each one has on the wire (SPEC.md §9).

::

    BridgeError
    ├── UsageError (ValueError)            the caller's own mistake, found before anything was sent
    ├── UnreadableAnswer (ValueError)      an answer is not what response_format asks for, most often since it was cut off
    ├── TransportError (ConnectionError)   no link, or the link broke
    │   ├── HostNotFound                   no address answered
    │   ├── HandshakeTimeout               an address answered, but not with a HELLO
    │   └── ConnectionLost                 the link ended under a call
    │       └── Gone                       and the host has nothing left of the call to go on with
    ├── ProtocolError
    │   ├── LocalProtocolError             this side asked for something the protocol forbids
    │   └── RemoteProtocolError            the peer sent something the protocol forbids
    └── RemoteError                        what the host answered; one class a wire code
        ├── VersionMismatch · AuthenticationError · PermissionDenied · LimitExceeded
        ├── Cancelled · DeadlineExceeded (TimeoutError)
        ├── InvalidArgument · Unsupported · UnknownMethod
        ├── ModelNotFound · ModelLoadFailed · ModelTooLarge (ModelLoadFailed) · ContextTooLong
        └── Overloaded · Unavailable · WorkerLost · InternalError
"""

from __future__ import annotations

from typing import Any, ClassVar


class BridgeError(Exception):
    """Root of the tree.

    Its text is the ``message`` and what to do next.

    Attributes:
        advice: what to do next; empty where the message says so itself.
        code: the number on the wire, 0 for errors that never cross it.
        retryable: whether the same call may succeed if made again.
        retry_after: seconds to wait before trying again, where the host said so.
        details: extra facts, by name (``{"field": "top_p"}``); always plain msgpack values.
        request_id: what the host calls the request that it ended, in its log for one; None where no host answered.

    Example:
        >>> try:
        ...     client.chat("What is 27 + 15?", top_p=9)
        ... except BridgeError as error:
        ...     print(type(error).__name__, error.code, error.retryable, error.details)
        InvalidArgument 18 False {'field': 'top_p'}
    """

    advice: str = ""
    code: ClassVar[int] = 0
    retryable: bool = False
    request_id: str | None = None

    def __init__(
        self,
        message: str = "",
        *,
        retryable: bool | None = None,
        retry_after: float | None = None,
        details: dict[str, Any] | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable
        if advice is not None:  # where that of the class does not fit
            self.advice = advice
        self.retry_after = retry_after
        self.details: dict[str, Any] = details or {}

    @property
    def message(self) -> str:
        """What has happened, without the class name and without advice."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        advice = self.advice
        if self.retryable and self.retry_after:
            advice = f"try again in {self.retry_after:g} s"
        return f"{self.message} ({advice})" if self.message and advice else self.message or advice


class UsageError(BridgeError, ValueError):
    """The caller asked for something impossible; nothing was sent."""


class UnreadableAnswer(BridgeError, ValueError):
    """An answer is no object of the type that was asked for, most often since it was cut off; ``text`` has what there is."""

    def __init__(self, message: str = "", *, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class TransportError(BridgeError, ConnectionError):
    """There is no link to the host, or it broke."""

    retryable = True


class HostNotFound(TransportError):
    """No address answered; the message lists what was tried."""


class HandshakeTimeout(TransportError):
    """Something accepted the connection but did not say HELLO in time."""

    advice = "see with `mlxbridge ping -v` what listens there"
    code = 5


class ConnectionLost(TransportError):
    """The link ended while a call was open."""

    advice = "make the call again: the client connects anew by itself"
    code = 6


class Gone(ConnectionLost):
    """The link ended under a call, and the host, which can be reached again, has nothing left to go on with."""

    code = 7


class ProtocolError(BridgeError):
    """One side broke the protocol."""


class LocalProtocolError(ProtocolError):
    """This side asked the connection for something the protocol forbids."""

    advice = "this is a fault of the program or of mlxbridge itself"


class RemoteProtocolError(ProtocolError):
    """The peer sent something the protocol forbids."""

    advice = "host and guest may be of versions that differ: update the older one"
    code = 1


class RemoteError(BridgeError):
    """An error the host answered with; subclasses are chosen by wire code."""


class VersionMismatch(RemoteError):
    """Host and guest share no protocol version."""

    advice = "update the older one of host and guest"
    code = 2


class AuthenticationError(RemoteError):
    """The token is missing or wrong, on either side."""

    advice = (
        "set MLXBRIDGE_TOKEN or token= to one of the host's token file; if it has none, neither, or token=''"
    )
    code = 3


class LimitExceeded(RemoteError):
    """A size or a count is over what the peer announced in its HELLO."""

    advice = "send less in one call, or at once"
    code = 4


class Cancelled(RemoteError):
    """The call was cancelled before it finished."""

    advice = "make the call again if its answer is still wanted"
    code = 16


class DeadlineExceeded(RemoteError, TimeoutError):
    """The call's time budget ran out."""

    advice = "give a larger timeout="
    code = 17


class InvalidArgument(RemoteError):
    """A parameter has a wrong type or value; ``details["field"]`` names it."""

    code = 18


class Unsupported(RemoteError):
    """A parameter is known but cannot be honoured here; ``details["field"]`` names it."""

    advice = "leave it out, or ask for something else: show_model() tells what a model can do"
    code = 19


class UnknownMethod(RemoteError):
    """The host has no such method."""

    advice = "update the host"
    code = 20


class PermissionDenied(RemoteError):
    """This guest may not do that; the message says why."""

    code = 21


class ModelNotFound(RemoteError):
    """The host serves no model of that name."""

    advice = "list_models() tells which there are"
    code = 22


class ModelLoadFailed(RemoteError):
    """The model exists but could not be loaded."""

    advice = "the host's log tells more; load_model() tries again"
    code = 23


class ModelTooLarge(ModelLoadFailed):
    """The host has not so much memory for it; ``details`` has ``needed_bytes`` and ``budget_bytes``."""

    advice = "use a smaller model, or one with fewer bits"
    code = 29


class ContextTooLong(RemoteError):
    """Prompt and requested tokens exceed the model's context; the message gives both numbers."""

    advice = "count_tokens() tells how long a text or a chat is"
    code = 24


class Overloaded(RemoteError):
    """The queue is full; ``retry_after`` says when to come back."""

    advice = "try again in a moment"
    code = 25
    retryable = True


class Unavailable(RemoteError):
    """The host is draining or not ready."""

    advice = "try again in a moment"
    code = 26
    retryable = True


class WorkerLost(RemoteError):
    """The model's worker process died under the call; it is being restarted."""

    advice = "make the call again"
    code = 27
    retryable = True


class InternalError(RemoteError):
    """A bug or a fault on the host."""

    advice = "the host's log tells more, under the error's request_id"
    code = 28


def _collect(root: type[BridgeError]) -> dict[int, type[BridgeError]]:
    found: dict[int, type[BridgeError]] = {}
    pending = [root]
    while pending:
        cls = pending.pop()
        pending.extend(cls.__subclasses__())
        if cls.code and found.setdefault(cls.code, cls) is not cls:
            raise TypeError(f"{cls.__name__} and {found[cls.code].__name__} share wire code {cls.code}")
    return found


BY_CODE: dict[int, type[BridgeError]] = _collect(BridgeError)


def to_wire(error: BridgeError) -> dict[str, Any]:
    """The error as the head of an ERROR or GOAWAY frame (SPEC.md §9)."""
    code = error.code or InternalError.code
    head: dict[str, Any] = {"code": code, "name": type(error).__name__, "message": error.message}
    if error.retryable:
        head["retryable"] = True
    if error.retry_after is not None:
        head["retry_after_ms"] = max(0, round(error.retry_after * 1000))
    if error.details:
        head["details"] = error.details
    return head


def from_wire(head: dict[str, Any]) -> BridgeError:
    """The exception for an ERROR or GOAWAY head; an unknown code gives a plain RemoteError."""
    code, message, retry_ms, details = (
        head.get(key) for key in ("code", "message", "retry_after_ms", "details")
    )
    cls = BY_CODE.get(code, RemoteError) if isinstance(code, int) else RemoteError
    text = message if isinstance(message, str) else f"error {code}"
    if cls is RemoteError and isinstance(head.get("name"), str):
        text = f"{head['name']}: {text}"
    error = cls(
        text,
        retryable=bool(head.get("retryable", False)),
        retry_after=retry_ms / 1000 if isinstance(retry_ms, int) else None,
        details=details if isinstance(details, dict) else None,
    )
    error.request_id = head.get("request_id")
    return error
