"""What is told in place of an answer: one kind of error for all APIs, each of which writes it in its own shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil

from mlxbridge import errors

_SOON_S = 1.0
_HUB_S = 30.0

_STATUS: tuple[tuple[type[errors.BridgeError], int, str], ...] = (
    (errors.ContextTooLong, 400, "context_length_exceeded"),
    (errors.Unsupported, 400, "unsupported_parameter"),
    (errors.InvalidArgument, 400, "invalid_parameter"),
    (errors.UsageError, 400, "invalid_parameter"),
    (errors.LimitExceeded, 413, "too_large"),
    (errors.PermissionDenied, 403, "permission_denied"),
    (errors.ModelNotFound, 404, "model_not_found"),
    (errors.Overloaded, 429, "overloaded"),
    (errors.UnknownMethod, 501, "unsupported"),
    (errors.DeadlineExceeded, 504, "timeout"),
    (errors.Cancelled, 503, "cancelled"),
    (errors.Unavailable, 503, "unavailable"),
    (errors.WorkerLost, 503, "unavailable"),
    (errors.TransportError, 503, "host_unreachable"),
    (errors.AuthenticationError, 503, "host_refuses_gateway"),
    (errors.ModelLoadFailed, 500, "model_load_failed"),
    (errors.BridgeError, 500, "internal_error"),
)
"""The first that fits."""


PATHS: Mapping[str, str] = {
    "generate": "/v1/chat/completions",
    "embed": "/v1/embeddings",
    "rerank": "/v1/rerank",
}
"""Where models are asked, by their kind, if an API has no path of its own for that."""


class Problem(Exception):
    """Why a request has no answer.

    Attributes:
        status: of HTTP (RFC 9110, §15).
        message: what is wrong, and what to do.
        code: one word for it, the same for all APIs.
        field: the request's field that is wrong, by the API's own name; None if it is none.
        retry_after_s: when to come back; always set for 429 and 503.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "invalid_parameter",
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.field = field
        self.retry_after_s = _SOON_S if retry_after_s is None and status in (429, 503) else retry_after_s

    @classmethod
    def of(
        cls,
        error: errors.BridgeError,
        names: Mapping[str, str] | None = None,
        paths: Mapping[str, str] = PATHS,
    ) -> Problem:
        """What HTTP has for an error of the host, or of the way there.

        Args:
            error: that ended the call.
            names: the API's own names of fields, by the host's, where they differ; one also of all that is within
                the field, the longest that fits.
            paths: where models are asked, by their kind.
        """
        if isinstance(hub_id := error.details.get("hub_id"), str):
            message = f"{hub_id} is not on the host, and the hub that has it cannot be reached from there"
            return cls(503, message, code="hub_unreachable", retry_after_s=_HUB_S)
        _, status, code = next(row for row in _STATUS if isinstance(error, row[0]))
        field = error.details.get("field")
        named = field if isinstance(field, str) else None
        message = error.message
        if isinstance(error, errors.TransportError | errors.AuthenticationError):
            message = "the host cannot be asked now; the gateway's log tells why"  # and where it looked
        if (path := paths.get(error.details.get("kind", ""))) is not None:
            message = (
                f"{message.partition(': ask it with ')[0]}: ask it at {path}"  # there it is the host's method
            )
        own = None if named is None else _own_name(named, names or {})
        if own is not None and named is not None:
            message = message.replace(named, own, 1) if message.startswith(named) else f"{own}: {message}"
        return cls(status, message, code=code, field=own or named, retry_after_s=error.retry_after)

    @classmethod
    def stopping(cls) -> Problem:
        """The gateway ends, and this request with it."""
        return cls(503, "the gateway is stopping", code="unavailable")

    @classmethod
    def internal(cls) -> Problem:
        """A fault of the gateway's own, which is in its log."""
        return cls(500, "the gateway's log tells more, under this request's id", code="internal_error")

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it; Retry-After is whole seconds (RFC 9110, §10.2.3)."""
        return {} if self.retry_after_s is None else {"retry-after": str(max(1, ceil(self.retry_after_s)))}


def _own_name(field: str, names: Mapping[str, str]) -> str | None:
    ends = [len(field), *(found.start() for found in re.finditer(r"[.[]", field))]
    return next(
        (names[field[:end]] + field[end:] for end in sorted(ends, reverse=True) if field[:end] in names), None
    )
