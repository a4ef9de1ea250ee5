"""openai's tree of errors, and which of them an error of mlxbridge is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mlxbridge import errors


class OpenAIError(Exception):
    """All of them."""


class APIError(OpenAIError):
    """A call failed; ``__cause__`` is mlxbridge's own error.

    Attributes:
        message: what is wrong, and what to do.
        code: a word for some of them ("model_not_found", "context_length_exceeded"), else None.
        param: the parameter that is wrong; None if it is none.
        type: "invalid_request_error", "server_error" and the like.
        body: all of these, as a server would have said it.
        request_id: what the host calls the request, in its log for one; None where no host answered.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        type: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.type = type
        self.body: dict[str, Any] = {"message": message, "type": type, "param": param, "code": code}
        self.request_id = request_id


class APIResponseValidationError(APIError):
    """Not raised here."""


class APIConnectionError(APIError):
    """There is no link to the host, or it broke."""


class APITimeoutError(APIConnectionError):
    """The timeout came before the answer."""


class APIStatusError(APIError):
    """The host refused the call or failed; ``status_code`` is what HTTP has for that.

    Attributes:
        response: None: there is no HTTP on the way to the host.
    """

    status_code: int = 500
    response: None = None


class BadRequestError(APIStatusError):
    """A parameter is wrong, or cannot be honoured; ``param`` names it."""

    status_code = 400


class AuthenticationError(APIStatusError):
    """``api_key`` is missing or wrong."""

    status_code = 401


class PermissionDeniedError(APIStatusError):
    """This guest may not do that."""

    status_code = 403


class NotFoundError(APIStatusError):
    """The host has no such model."""

    status_code = 404


class ConflictError(APIStatusError):
    """Not raised here."""

    status_code = 409


class UnprocessableEntityError(APIStatusError):
    """Not raised here."""

    status_code = 422


class RateLimitError(APIStatusError):
    """The host's queue is full."""

    status_code = 429


class InternalServerError(APIStatusError):
    """The host or one of its models failed."""


class LengthFinishReasonError(OpenAIError):
    """``parse`` cannot read an answer that ``max_tokens`` cut; ``completion`` has it."""

    def __init__(self, *, completion: Any) -> None:
        super().__init__(f"the answer was cut by max_tokens, so that it is no object: {completion.usage}")
        self.completion = completion


class ContentFilterFinishReasonError(OpenAIError):
    """Not raised here."""


_KINDS: tuple[tuple[type[errors.BridgeError], type[APIError], str | None, str | None], ...] = (
    (errors.ContextTooLong, BadRequestError, "invalid_request_error", "context_length_exceeded"),
    (errors.UsageError, BadRequestError, "invalid_request_error", None),
    (errors.InvalidArgument, BadRequestError, "invalid_request_error", None),
    (errors.Unsupported, BadRequestError, "invalid_request_error", "unsupported_parameter"),
    (errors.UnknownMethod, BadRequestError, "invalid_request_error", None),
    (errors.LimitExceeded, BadRequestError, "invalid_request_error", None),
    (errors.AuthenticationError, AuthenticationError, "invalid_request_error", "invalid_api_key"),
    (errors.PermissionDenied, PermissionDeniedError, "invalid_request_error", None),
    (errors.ModelNotFound, NotFoundError, "invalid_request_error", "model_not_found"),
    (errors.Overloaded, RateLimitError, "requests", "rate_limit_exceeded"),
    (errors.DeadlineExceeded, APITimeoutError, None, None),
    (errors.TransportError, APIConnectionError, None, None),
    (errors.BridgeError, InternalServerError, "server_error", None),
)
"""The first that fits."""

_UNAVAILABLE = (errors.Unavailable, errors.WorkerLost)


def translate(error: errors.BridgeError, names: Mapping[str, str] | None = None) -> APIError:
    """The error as openai has it.

    Args:
        error: mlxbridge's.
        names: of parameters, where openai's differ from the host's.
    """
    _, kind, type_, code = next(row for row in _KINDS if isinstance(error, row[0]))
    field = error.details.get("field")
    param = (names or {}).get(field, field) if isinstance(field, str) else None
    made = kind(error.message, code=code, param=param, type=type_, request_id=error.request_id)
    if isinstance(made, InternalServerError) and isinstance(error, _UNAVAILABLE):
        made.status_code = 503
    return made


@contextmanager
def translated(names: Mapping[str, str] | None = None) -> Iterator[None]:
    """Raise what mlxbridge raises in the block as openai's errors."""
    try:
        yield
    except errors.BridgeError as error:
        raise translate(error, names) from error
